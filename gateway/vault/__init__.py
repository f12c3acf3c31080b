"""The vault room: what must be kept but not lie open. Transcripts, the evidence of blocked calls, erasure and retention.

    transcripts.py   exchanges as they were after filtering, encrypted under a key for each end user
    subjects.py      those keys: one file each, so that destroying one destroys it
    wrapping.py      the keys that wrap those, which rotate
    cases.py         what was blocked, sealed so that only two custodians together can open it
    custody.py       custodians, their keys and the shares between each two of them
    erasure.py       destroys a user's key and leaves a tombstone
    classes.py       how long which record must stay, and the floors that policies set
    retention.py     removes what is past its class, and nothing else
    access.py        a journal stream of its own, for every look into this room

Order of events: a look is recorded, and the record is synced, before anything is shown or destroyed. Workers write here and cannot
read what is in cases; they could read transcripts, whose keys they need to write them. Nothing here logs or raises with a
key, a share or a text in it (L7).
"""
