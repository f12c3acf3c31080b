"""The audit room: what happened, written before it happens and provable afterwards.

Lives here: the records (`record.py`), their bytes (`frames.py`, FORMAT.md), the Merkle tree over them (`tree.py`), the
journal that writes them in commit order (`shard.py`, `journal.py`), what is done about a shard whose worker died
(`recovery.py`), the check that trusts only bytes (`verify.py`), and looking things up (`query.py`, `cli.py`).

Must not live here: text of a call, matched values, keys of callers or providers. A record holds names, counts and keyed
digests (`digest.py`), never a value. This room knows `policies` and the shared words of `gateway.errors` and
`gateway.reasons`; it reaches into no other room.

Nothing is imported here, so that `verify` stays as light as the bytes it reads.
"""
