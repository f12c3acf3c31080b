"""The signing room: private keys of the log, behind one port (`gateway.tlog.note.Signer`).

A key is in a file (`logkey.py`), behind a command (`command.py`) or in a token (`pkcs11.py`); `keys.py` knows which of them sign now,
and `rotate.py` puts a new one in the place of the old. Whoever signs imports this room; whoever only verifies needs `gateway.tlog`
alone. A key of the log signs nothing but heads of logs and the change to its successor; cosignatures have keys of their own.

A signature that came from outside this process is verified before anyone sees it.
"""
