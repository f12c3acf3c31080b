"""A verified copy of a repository in a folder, for machines that reach no network: `trust.tuf` there names the folder.

The copy holds one state, with every root since the operator's, and is itself a repository. Whoever carries it is not
trusted: the gateway verifies it like any other source, so an old copy is refused once a newer one was seen.
"""

from __future__ import annotations

from pathlib import Path

from gateway.trust.cache import Cache, Loaded
from gateway.trust.source import Fault, TrustError
from gateway.trust.targets import license_path
from gateway.whole_file import put


def write_mirror(cache: Cache, root: bytes, out: Path) -> Loaded:
    """Writes the last good set of a cache as a repository, the timestamp last. Raises TrustError."""
    loaded = cache.load(root)
    if loaded is None:
        raise TrustError(Fault.CACHE, f"{cache.folder}: no good set to copy")
    signatories = loaded.signatories
    try:
        for path in sorted((cache.metadata / "root_history").glob("*.root.json")):
            put(out / path.name, path.read_bytes(), durable=True)
        for name, data in loaded.files.items():
            place = signatories.targets.targets[name].get_prefixed_paths()[0]
            put(out / "targets" / place, data, durable=True)
        for jti, data in loaded.licenses.items():
            put(out / license_path(jti), data, durable=True)
        for role, version in (("targets", signatories.targets.version), ("snapshot", signatories.snapshot.version)):
            data = (cache.metadata / f"{role}.json").read_bytes()
            put(out / f"{version}.{role}.json", data, durable=True)
        data = (cache.metadata / "timestamp.json").read_bytes()
        put(out / "timestamp.json", data, durable=True)
    except OSError as error:
        raise TrustError(Fault.FILE, f"{out}: {error.strerror or error}") from error
    return loaded
