"""The log's formats and their verification: what somebody needs who checks a journal and trusts nobody.

`frames.py` has the bytes of segments, `tree.py` the Merkle tree of RFC 6962, `note.py` signed notes and keys, `checkpoint.py` signed
heads, `cosignature.py` what witnesses add to them, `keys.py` how one key hands over to the next, `proof.py` the proof of one record,
`tiles.py` the layout in which sealed records are published (FORMAT.md is the page to read). `verify.py` checks all that, `cli.py` is
its command: places are found (`places.py`), named (`origins.py`), read (`segments.py`, `sealing.py`, `sealedlog.py`), held against each
other record by record (`walk.py`), and what they say is judged (`records.py`, `fleet.py`, `heads.py`, `trust.py`).

Must not live here: anything that writes a journal, holds a private key, or knows what a gateway is. This room imports nothing
of ours, so that it can be installed alone.
"""
