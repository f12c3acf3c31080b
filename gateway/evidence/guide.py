"""VERIFY.md: how whoever receives a pack checks it, with our verifier and without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT = """\
# How to check this evidence pack

It holds {calls:,} calls of {gateways}, made {made} by licet {version}. Nothing here has to be believed: each record has a proof that leads
to a head which the gateway signed. You need two things from somewhere else than this file:

1. the gateway's public key, a line such as `gw1+5d5e0f0a+AQ1nH4f...`, by another way than this pack (`log/vkeys` says what the gateway
   calls its keys; do not trust it because it is here), and if there are witnesses, their keys;
2. `licet-verify` (a Python package that needs no network and nothing of the gateway), or the few lines below.

## With licet-verify

    licet-verify pack.zip --key 'gw1+5d5e0f0a+AQ1nH4f...'
    licet-verify pack.zip --keys keys.txt --witness 'witness.example/w1+...' --witnesses-required 1

Exit code 0: nothing is wrong. 1: the first file that is wrong is named. 2: it could not be checked.

## What each file is

| file | what |
|---|---|
| `manifest.json` | the question, what the answer rests on, what is missing; `sums` is the SHA-256 of `SHA256SUMS` |
| `SHA256SUMS` | the digest of every other file |
| `records/<stream>/<n>.json` | record number *n* of a stream, byte for byte as it was stored; an entry of the fleet log under `records/fleet-<gateway>/` |
| `records/<stream>/<n>.tlog-proof` | that this record is number *n* of the log (C2SP tlog-proof, RFC 6962) |
| `log/<stream>/checkpoint` | the signed head of the log that all these proofs lead to (C2SP tlog-checkpoint), with cosignatures of witnesses |
| `log/<stream>/commitment.json` | which entry of the fleet log names a head of this stream (size, root), and the proof (RFC 9162, 2.1.4) that it leads to the checkpoint |
| `log/keys` | statements by which one key handed over to the next, if there were any |
| `log/vkeys` | the keys as the gateway itself says |
| `documents/<kind>/<sha256>` | licenses, status lists, orders, enrolled gateways, policies, permits, lexicons and keys that were in force |
| `report.html` | the same for people; it proves nothing |

Of each stream there is its start record, the calls that were asked for (an `intent` and its `outcome` each), and the notes that told what was in force then.

## By hand

Every file is what the list says, and the list is what the manifest says (a shell):

    unzip -q pack.zip -d pack && cd pack
    sha256sum --quiet -c SHA256SUMS
    sha256sum SHA256SUMS && grep '"sums"' manifest.json

One record and its proof (Python 3, no packages). The last line must print True:

    import base64, hashlib, pathlib
    place = "records/STREAM/N"                                      # put in what you look at
    record = pathlib.Path(place + ".json").read_bytes()
    head, _, note = pathlib.Path(place + ".tlog-proof").read_text("utf-8").partition("\\n\\n")
    index = int([line for line in head.split("\\n") if line.startswith("index ")][0][6:])
    path = [base64.b64decode(line) for line in head.split("\\n") if len(line) == 44]
    origin, size, root = note.split("\\n")[:3]
    node = lambda a, b: hashlib.sha256(b"\\x01" + a + b).digest()
    h, fn, sn = hashlib.sha256(b"\\x00" + record).digest(), index, int(size) - 1
    for p in path:
        if fn & 1 or fn == sn:
            h = node(p, h)
            while fn and not fn & 1: fn, sn = fn >> 1, sn >> 1
        else:
            h = node(h, p)
        fn, sn = fn >> 1, sn >> 1
    print(sn == 0 and h == base64.b64decode(root), origin, index)

The signature of a checkpoint (of the part up to the empty line, with its last newline), in Python and then a shell:

    import base64, pathlib
    note = pathlib.Path("log/STREAM/checkpoint").read_bytes()
    text, _, lines = note.rpartition(b"\\n\\n")
    pathlib.Path("text").write_bytes(text + b"\\n")
    pathlib.Path("sig").write_bytes(base64.b64decode(lines.split(b"\\n")[0].split(b" ")[2])[4:])
    key = base64.b64decode("VERIFIER KEY".split("+", 2)[2])[1:]
    pathlib.Path("key.der").write_bytes(bytes.fromhex("302a300506032b6570032100") + key)

    openssl pkeyutl -verify -rawin -pubin -inkey key.der -keyform DER -in text -sigfile sig

A document is the one that a record names if its SHA-256 is its name: `sha256sum documents/policies/*`.

## What it proves, and what it does not

That the gateway held each of these records at its place of its log, in a history of which it signed one head; where witnesses cosigned, that it showed them
no other. That the answer has all calls that match the question, and the outcome of each call that stands open in it, is what the maker of the pack says (`completeness` in the manifest): whoever must know it asks the log itself,
or compares with the fleet log. Documents are those that were kept under the digests that records name.{missing}
"""


def guide(manifest: Mapping[str, Any]) -> str:
    """The text for one pack."""
    missing = manifest["missing"]
    lacks = f"\n\nNot in this pack, and told in `missing` of the manifest: {len(missing):,} things." if missing else ""
    return _TEXT.format(
        calls=manifest["calls"],
        gateways=", ".join(manifest["gateways"]) or "no gateway",
        made=manifest["made"],
        version=manifest["generator"]["version"],
        missing=lacks,
    )
