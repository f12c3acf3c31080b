"""The audit room: what happened, written before it happens and provable afterwards.

Lives here: the records (`record.py`), the journal that writes them in commit order (`shard.py`, `journal.py`), what is
done about a shard whose worker died (`recovery.py`), reading what is sealed (`sealed.py`), and looking things up (`query.py`,
`cli.py`). Their bytes, the tree over them and the check that trusts only bytes are next door, in `gateway.tlog`.

Must not live here: text of a call, matched values, keys of callers or providers. A record holds names, counts and keyed
digests (`digest.py`), never a value. This room knows `policies`, `gateway.tlog` and the shared words of
`gateway.errors` and `gateway.reasons`; it reaches into no other room.
"""
