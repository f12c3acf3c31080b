"""The signing room: private keys of the log, behind one port (`gateway.tlog.checkpoint.Signer`).

Here: a key in a file (`logkey.py`). Whoever signs imports this room; whoever only verifies needs `gateway.tlog` alone. A key
of the log signs nothing but heads of logs, cosignatures and the change to its successor.
"""
