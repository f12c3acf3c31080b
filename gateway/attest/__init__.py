"""What binds an endpoint to its license beyond its address: hashes of weights on this host, and statements of serving hosts.

    weights.py     a folder's digest, as OpenSSF Model Signing signs it, and a cheap look at whether it changed
    watch.py       keeps that digest while nothing changes, and shares it among the workers of a host
    statement.py   what a serving host signs about what it loaded: made and verified
    host.py        beside the model server: answers with fresh statements
    target.py      the gateway's side: fetches statements, and says what is known of a target right now

Nothing here decides about calls: `Evidence` goes to the license gate, which does. Evidence is there or it is not; what
is doubtful is not (L1). No call waits for anything in this room.
"""
