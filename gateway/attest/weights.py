"""The digest of a model's files, as OpenSSF Model Signing 1.x signs it: SHA-256 over the SHA-256 of each file, in the order
of the paths.

The digest equals the subject of the statement that `model_signing sign` makes with its defaults (method `files`, hash
`sha256`, no links), so a signed model needs no second digest. It is worked out here and not by that package because the
bytes hashed must be those of the files that were looked at (same inode, before and after), and because a gateway should
not load a signing stack for it. That digest covers contents and order, yet no names: `manifest` covers the names, too,
and is the SHA-256 of what `sha256sum` prints for the files in that order.

Left out are the signature (`model.sig`) and what Git keeps (`.git`, `.github`, `.gitattributes`, `.gitignore`), at the
top alone. Links, sockets and devices are refused: what lies outside the folder cannot be watched. The folder itself may
be a link. Run as a program, it hashes one folder and writes the result as a line of JSON; it ends when its input does.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

# Our choice. The largest models have some hundreds of files; beyond this a folder is not a model.
FILES_MAX: Final = 20_000
IGNORED: Final = frozenset({"model.sig", ".git", ".github", ".gitattributes", ".gitignore"})
THREADS_MAX: Final = 4  # hashing lets go of the interpreter; more would only take disk and cores from the model server
NICE: Final = 10
EXIT_UNUSABLE: Final = 2


class WeightsError(Exception):
    """The folder cannot be hashed as it is; the message names the file and the remedy."""


class File(NamedTuple):
    """A file as a look found it. What changes its bytes changes one of these; `ctime_ns` cannot be set back."""

    parts: tuple[str, ...]
    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Look:
    """The files of a model in the order of the manifest, unread. `fingerprint` differs once any of them changed."""

    root: Path
    files: tuple[File, ...]
    fingerprint: str


class Hashed(msgspec.Struct, frozen=True):
    """What a folder held while it had that fingerprint. Digests are `sha256:<hex>`."""

    root: str
    manifest: str
    fingerprint: str
    files: int
    bytes: int
    seconds: float
    at_s: float  # when hashing began, seconds since 1970
    boot: str  # of the host that it was hashed on; file times and inodes mean nothing on another


def look(path: Path) -> Look:
    """The files of a model without reading them: a millisecond for hundreds. Raises WeightsError and OSError."""
    root = Path(os.path.realpath(path))
    top = root.lstat()
    # A model in one file is "." in its manifest. Files are ordered by the parts of their paths, as pathlib does.
    found = [_file((), top)] if stat.S_ISREG(top.st_mode) else sorted(_walk(root))
    if not found:
        raise WeightsError(f"{path}: no files are in it; name the folder with the model's files")
    listing = hashlib.sha256()
    for file in found:
        listing.update(repr(tuple(file)).encode())
    return Look(root, tuple(found), listing.hexdigest())


def hash_model(path: Path) -> Hashed:
    """Read and hash every file. Raises WeightsError, also where something changed meanwhile, and OSError."""
    began, at_s = time.monotonic(), time.time()
    seen = look(path)
    with concurrent.futures.ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1)) as threads:
        digests = list(threads.map(lambda file: _digest(seen.root, file), seen.files))
    if look(path).fingerprint != seen.fingerprint:
        raise WeightsError(f"{path}: files changed while they were hashed")
    root, manifest = hashlib.sha256(), hashlib.sha256()
    for file, digest in zip(seen.files, digests, strict=True):
        root.update(digest)
        manifest.update(f"{digest.hex()}  {'/'.join(file.parts) or '.'}\n".encode())
    return Hashed(
        root=f"sha256:{root.hexdigest()}",
        manifest=f"sha256:{manifest.hexdigest()}",
        fingerprint=seen.fingerprint,
        files=len(seen.files),
        bytes=sum(file.size for file in seen.files),
        seconds=round(time.monotonic() - began, 3),
        at_s=at_s,
        boot=boot_id(),
    )


def boot_id() -> str:
    """What tells this start of this host from any other; "" where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return ""


def _walk(root: Path) -> Iterator[File]:
    todo: list[tuple[str, ...]] = [()]
    count = 0
    while todo:
        folder = todo.pop()
        with os.scandir(root.joinpath(*folder)) as entries:
            for entry in entries:
                parts = (*folder, entry.name)
                if not folder and entry.name in IGNORED:
                    continue
                count += 1
                if count > FILES_MAX:
                    raise WeightsError(f"{root}: more than {FILES_MAX:,} files; is it the right folder?")
                if "\n" in entry.name or not entry.name.isascii():
                    _check_name(root, entry.name)
                if entry.is_symlink():
                    raise WeightsError(f"{root / '/'.join(parts)}: a link; put the file itself here")
                if entry.is_dir(follow_symlinks=False):
                    todo.append(parts)
                elif entry.is_file(follow_symlinks=False):
                    yield _file(parts, entry.stat(follow_symlinks=False))
                else:
                    raise WeightsError(f"{root / '/'.join(parts)}: neither file nor folder; take it away")


def _check_name(root: Path, name: str) -> None:
    """A name that the manifest could not hold, or in which a line of the manifest could hide, is refused."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise WeightsError(f"{root}: a file's name is not UTF-8; rename it") from error
    if "\n" in name:
        raise WeightsError(f"{root}: a file's name holds a line break; rename it")


def _file(parts: tuple[str, ...], found: os.stat_result) -> File:
    return File(parts, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)


def _digest(root: Path, file: File) -> bytes:
    """SHA-256 of the very file that was looked at."""
    path = root.joinpath(*file.parts)
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb", buffering=0) as opened:
        if _file(file.parts, os.fstat(handle)) == file:
            digest = hashlib.file_digest(opened, "sha256").digest()
            if _file(file.parts, os.fstat(handle)) == file:
                return digest
    raise WeightsError(f"{path}: changed while it was hashed")


def _end_with_parent() -> None:
    """Whoever started this holds our input open. Once it is gone nobody wants the result."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(EXIT_UNUSABLE)


def main(arguments: list[str]) -> int:
    """`python -m gateway.attest.weights FOLDER`."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(NICE)
    try:
        said: Hashed | dict[str, str] = hash_model(Path(arguments[0]))
    except (WeightsError, OSError) as error:
        said = {"error": str(error)}
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    return EXIT_UNUSABLE if isinstance(said, dict) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
