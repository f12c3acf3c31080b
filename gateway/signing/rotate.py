"""Putting a new key in the place of the log's old one.

Order: the new key is made, where it is gets written down, then the statement that both signed is put into the log. A crash before the last
step leaves a key that signs nothing; the next rotation takes it up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from gateway.errors import ConfigError
from gateway.file_lock import locked
from gateway.settings.audit import DAY_S, SignerSettings
from gateway.signing.keys import (
    LogKeys,
    Signers,
    keys_path,
    open_signer,
    read_signers,
    read_statements,
    where_of,
    write_signers,
)
from gateway.signing.logkey import LogKey
from gateway.tlog.keys import CHANGES_MAX, KeyChange, append_change, read_changes, sign_change
from gateway.tlog.note import ED25519, Signer, VerifierKey
from gateway.whole_file import put

OVERLAP_S = 7 * DAY_S  # our choice: time for who verifies to fetch the statement and for witnesses to enroll the key
SIGNING_MAX = 4  # our choice: keys that sign at once; each adds a signature to each head
_LOCK_NAME = ".rotating"


def rotate(
    data_dir: Path,
    settings: SignerSettings,
    gateway_id: str,
    *,
    to: SignerSettings | None = None,
    overlap_s: int = OVERLAP_S,
    now_s: Callable[[], float] = time.time,
) -> KeyChange:
    """Hand over to a new key: a file of ours, or the command or token that `to` names. Returns what both keys signed.

    Raises ConfigError and OSError; then the old key signs on.
    """
    if overlap_s < 0:
        raise ConfigError("overlap: a time is not negative")
    folder = data_dir / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder / _LOCK_NAME):  # one rotation at a time
        keys = LogKeys(settings, data_dir, gateway_id, now_s=now_s)
        signing = keys.signers()
        if len(signing) >= SIGNING_MAX:
            raise ConfigError(f"{len(signing)} keys sign at once already; wait until the oldest one's time is over")
        used = {key.public for key in keys.trusted}
        signer, file = _new(to, data_dir, used)
        if signer.public in used:
            raise ConfigError("this key has signed the log before; give another")
        at_s = int(now_s())
        change = KeyChange(
            VerifierKey(keys.name, ED25519, signing[0].public),
            VerifierKey(keys.name, ED25519, signer.public),
            at_s,
            at_s + overlap_s,
        )
        statements = read_statements(data_dir)
        changes = read_changes(statements)
        if len(changes) >= CHANGES_MAX or any(one.at_s > at_s for one, _ in changes):
            raise ConfigError("the clock is behind the last change of keys, or there were too many; set the clock")
        statement = sign_change(change, signing[0], signer)
        known = read_signers(data_dir)
        where = where_of(to or SignerSettings(), signer.public, file)
        if where not in known.keys:
            write_signers(data_dir, Signers(known.name, (*known.keys, where)))
        put(keys_path(data_dir), append_change(statements, statement), durable=True)
        return change


def _new(to: SignerSettings | None, data_dir: Path, used: set[bytes]) -> tuple[Signer, str]:
    """The key that comes, and its file's name if it has one."""
    if to is not None and (to.command or to.pkcs11 is not None):
        return open_signer(to, data_dir), ""
    for number in range(2, CHANGES_MAX + 2):
        file = f"log-{number}.key"
        key = LogKey.load(data_dir, file)
        if key.public not in used:
            return key, file
    raise ConfigError("there are too many keys in DATA/keys")
