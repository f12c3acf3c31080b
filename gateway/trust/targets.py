"""Which files a repository may hold for us, by name, and how large each may be.

`keys.json`, `status/<name>.jwt`, `orders/<name>.jws`, `gateways/<name>.jws`, `lexicons/<name>`, `policies/<name>`. Other names
are left alone, so that an authority may publish more than this release knows; a name that is no plain path is refused.
Licenses are no targets: `licenses/<jti>.jws` lies beside the metadata and is trusted by its own signature.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.license.signed import Kind
from gateway.license.standing import LISTS_MAX, Material
from gateway.license.trust import FILE_BYTES_MAX
from gateway.trust.source import Fault, TrustError

KEYS = "keys.json"
TARGETS_MAX = 4_096  # our choice: lists, lexicons and policies of one authority
TOTAL_BYTES_MAX = 128 * 1_048_576  # our choice: of all targets together, kept in memory by each worker
LEXICON_BYTES_MAX = 16 * 1_048_576  # our choice: a million words
POLICY_BYTES_MAX = 1_048_576  # as the policy files that a gateway reads from its own disk

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_PLAIN = re.compile(rf"{_PART}(?:/{_PART}){{0,3}}")
_JTI = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,199}")


class Folder(NamedTuple):
    """A folder of targets: how names end there, the bytes of one file, and how many files."""

    ending: str
    bytes_max: int
    files_max: int


FOLDERS: Mapping[str, Folder] = {
    "status": Folder(".jwt", Kind.STATUS.bytes_max, LISTS_MAX),
    "orders": Folder(".jws", Kind.ORDERS.bytes_max, LISTS_MAX),
    "gateways": Folder(".jws", Kind.GATEWAYS.bytes_max, LISTS_MAX),
    "lexicons": Folder("", LEXICON_BYTES_MAX, 1_024),
    "policies": Folder("", POLICY_BYTES_MAX, 1_024),
}


def is_plain(name: str) -> bool:
    """Whether the name is a path that cannot lead out of its folder, on any system, and means the same in an address."""
    return _PLAIN.fullmatch(name) is not None


def is_license_name(jti: str) -> bool:
    """Whether a license of that id can be published by name."""
    return _JTI.fullmatch(jti) is not None


def license_path(jti: str) -> str:
    """Where a license lies, relative to the repository. Raises ValueError for an id that is no plain name."""
    if not is_license_name(jti):
        raise ValueError("the license's id is no plain name: letters, digits and . _ : ~ - only, at most 200")
    return f"licenses/{jti}.jws"


def bytes_max_of(name: str) -> int | None:
    """How large the target may be; None for one that is not known here."""
    if name == KEYS:
        return FILE_BYTES_MAX
    top, _, rest = name.partition("/")
    folder = FOLDERS.get(top)
    if folder is None or not rest.endswith(folder.ending) or "/" in rest or rest == folder.ending:
        return None
    return folder.bytes_max


def wanted(lengths: Mapping[str, int]) -> list[str]:
    """The names to bring, of all that the signed metadata lists with their lengths. Raises TrustError."""
    if len(lengths) > TARGETS_MAX:
        raise TrustError(Fault.TOO_LARGE, f"the repository lists {len(lengths):,} targets; at most {TARGETS_MAX:,}")
    names: list[str] = []
    counts: dict[str, int] = {}
    total = 0
    for name, length in sorted(lengths.items()):
        if not is_plain(name):
            raise TrustError(Fault.NAME, f"the repository lists a target whose name is no plain path: {name!r:.80}")
        bytes_max = bytes_max_of(name)
        if bytes_max is None:
            continue
        if not 0 <= length <= bytes_max:
            raise TrustError(Fault.TOO_LARGE, f"{name}: {length:,} bytes; at most {bytes_max:,} are read")
        top = name.partition("/")[0]
        counts[top] = counts.get(top, 0) + 1
        if top in FOLDERS and counts[top] > FOLDERS[top].files_max:
            raise TrustError(Fault.TOO_LARGE, f"{top}/: more than {FOLDERS[top].files_max:,} files")
        total += length
        names.append(name)
    if total > TOTAL_BYTES_MAX:
        raise TrustError(Fault.TOO_LARGE, f"the targets have {total:,} bytes together; at most {TOTAL_BYTES_MAX:,}")
    return names


def material_of(
    files: Mapping[str, bytes], licenses: Mapping[str, bytes], version: str, expires_at_s: int | None
) -> Material:
    """The set that the named files make."""

    def within(top: str) -> dict[str, bytes]:
        return {name[len(top) + 1 :]: files[name] for name in sorted(files) if name.startswith(f"{top}/")}

    return Material(
        keys=files.get(KEYS),
        statuses=tuple(within("status").values()),
        orders=tuple(within("orders").values()),
        gateways=tuple(within("gateways").values()),
        licenses=dict(licenses),
        lexicons=within("lexicons"),
        policies=within("policies"),
        version=version,
        expires_at_s=expires_at_s,
    )
