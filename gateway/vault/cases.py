"""The evidence vault: what was blocked, or belongs to an incident, kept for two custodians to open together.

    DATA/vault/case-<call id>/evidence.sealed    a line of JSON, then AES-256-GCM ciphertext and tag, bound to that line
    DATA/vault/case-<call id>/status.json        reports and closing, for lists and retention; what counts is in the journal

One case a call. The line names the case, its custodians with their keys, and each one's sealed shares (`custody.py`). Who seals forgets the
key: workers cannot read back what they wrote, and neither can whoever holds the disk. The digest of the file goes into the journal's
note, so that evidence cannot be put in or exchanged later.

Life of a case, each step a note on `case` that is synced before the step is done: opened (by a worker, or by hand as an incident), requested (by the first
custodian), accessed (by the second), failed (the access did not succeed), reported (to an authority), closed. It is removed a while after
it was closed, never before (`retention.py`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.file_lock import locked
from gateway.settings.audit import Custodian
from gateway.vault import custody
from gateway.vault.access import CASE, AccessLog, Detail, MissingError, VaultError, who
from gateway.vault.custody import Holder, Keyring
from gateway.vault.wrapped import NONCE_BYTES
from gateway.whole_file import make_folder, new, put, sync_folder

VAULT_NAME = "vault"
EVIDENCE_NAME = "evidence.sealed"
STATUS_NAME = "status.json"
EVIDENCE_BYTES_MAX = 32 << 20  # our choice: above the sum of what policies let prompts and answers be
VAULT_BYTES_MAX = 8 << 30  # our choice: of all cases together; beyond it nothing is added (L9)
HEAD_BYTES_MAX = 64 << 10  # our choice: 16 custodians take 12 kB
WAITING_MAX = 64  # our choice: cases that wait for the thread
WAITING_BYTES_MAX = 64 << 20  # our choice, as above
HALF_BYTES_MAX = 4096  # our choice: a case, two names of 64 characters and a sealed share take a quarter of it
HALF_AGE_S_MAX = 72 * 3600  # our choice: a weekend between the two custodians
CLOCK_SLACK_S = 300  # our choice: how far the clocks of two custodians may differ
BLOCKED, INCIDENT = "blocked", "incident"
_RECOUNT = 256  # cases after which the vault is measured again: other workers add to it too
_CALL = re.compile(r"[0-9a-f]{32}")
_CASE = re.compile(r"case-[0-9a-f]{32}")


class _Head(msgspec.Struct, frozen=True):
    """The first line of an evidence file."""

    v: str
    case: str
    call: str
    kind: str
    made_ms: int
    custodians: tuple[tuple[str, str], ...]  # name and base64 of the public key
    shares: dict[str, str]
    nonce: str


class Report(msgspec.Struct, frozen=True):
    """That a case was reported to an authority."""

    at: str  # to whom
    ref: str  # its reference there
    ms: int


class Status(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a case is."""

    case: str
    call: str
    kind: str
    made_ms: int
    reports: tuple[Report, ...] = ()
    halves: tuple[str, ...] = ()  # digests of the halves that were used
    accessed: int = 0  # times
    closed_ms: int | None = None


class _Half(msgspec.Struct, frozen=True):
    """What the first custodian gives to the second."""

    v: str
    case: str
    from_: str = msgspec.field(name="from")
    to: str
    made_s: int
    half: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A case that was made: what the outcome names, and the detail of the note on `case`."""

    case: str
    detail: Detail


_encoder = msgspec.json.Encoder()
_heads = msgspec.json.Decoder(_Head)
_statuses = msgspec.json.Decoder(Status)
_halves = msgspec.json.Decoder(_Half)


def case_of(call_id: str) -> str:
    """The case of a call."""
    return f"case-{call_id}"


class Vault:
    """What a worker puts evidence in with. `keep` belongs to the event loop's thread; `close` at the end."""

    def __init__(
        self,
        data_dir: Path,
        custodians: Sequence[Custodian],
        *,
        bytes_max: int = VAULT_BYTES_MAX,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Raises VaultError where the custodians are too few, alike, or have no usable keys."""
        self._people = custody.holders(custodians)
        if not self._people:
            raise VaultError("audit.custodians: none; name two or more, who open cases together, or keep no evidence")
        self._data_dir = data_dir
        self._bytes_max = bytes_max
        self._now_ms = now_ms
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vault")
        self._waiting = 0
        self._waiting_bytes = 0
        self._used = 0
        self._counted = -1  # cases since the vault was measured; -1: never
        self.kept = 0  # cases
        self.failed = 0

    async def keep(self, call_id: str, evidence: bytes | bytearray | memoryview) -> Sealed:
        """Seal evidence of a blocked call, in a thread; it is synced once this returns. Raises VaultError: nothing was kept.

        `evidence` must not change until then. Append the note with `detail` before the outcome that names the case.
        """
        size = len(evidence)
        if self._waiting >= WAITING_MAX or self._waiting_bytes + size > WAITING_BYTES_MAX:
            self.failed += 1
            raise VaultError("too many cases wait for the disk")
        self._waiting += 1
        self._waiting_bytes += size

        def done(work: asyncio.Future[Sealed]) -> None:
            self._waiting -= 1
            self._waiting_bytes -= size
            failed = work.cancelled() or work.exception() is not None
            self.kept, self.failed = self.kept + (not failed), self.failed + failed

        work = asyncio.get_running_loop().run_in_executor(self._pool, self._keep, call_id, evidence)
        work.add_done_callback(done)
        return await asyncio.shield(work)

    def close(self) -> None:
        """Finish what waits, let go. Blocks on the disk. Harmless twice."""
        self._pool.shutdown(wait=True)

    def _keep(self, call_id: str, evidence: bytes | bytearray | memoryview) -> Sealed:
        try:
            if not 0 <= self._counted < _RECOUNT:
                self._used, self._counted = used_bytes(self._data_dir), 0
            if self._used + len(evidence) > self._bytes_max:
                raise VaultError(
                    f"the vault holds {self._used:,} bytes, at most {self._bytes_max:,}; close cases and prune"
                )
            made = seal(self._data_dir, self._people, call_id, evidence, kind=BLOCKED, now_ms=self._now_ms())
        except OSError as error:
            raise VaultError(f"a case cannot be written: {error.strerror or type(error).__name__}") from error
        self._used += len(evidence) + HEAD_BYTES_MAX
        self._counted += 1
        return made


def seal(
    data_dir: Path,
    people: Sequence[Holder],
    call_id: str,
    evidence: bytes | bytearray | memoryview,
    *,
    kind: str,
    now_ms: int,
) -> Sealed:
    """Make the case of a call, synced. Raises VaultError, also where there is one already; OSError."""
    if not _CALL.fullmatch(call_id):
        raise VaultError("a call id has 32 hex digits")
    if len(evidence) > EVIDENCE_BYTES_MAX:
        raise VaultError(f"evidence of {len(evidence):,} bytes; at most {EVIDENCE_BYTES_MAX:,} are kept")
    case = case_of(call_id)
    folder = data_dir / VAULT_NAME / case
    if folder.exists():
        raise VaultError(f"{case} is there already: a call has one case")
    key, shares = custody.split(case, people)
    nonce = secrets.token_bytes(NONCE_BYTES)
    named = tuple((one.name, base64.b64encode(one.public).decode()) for one in people)
    head = _encoder.encode(
        _Head("case.v1", case, call_id, kind, now_ms, named, shares, base64.b64encode(nonce).decode())
    )
    whole = head + b"\n" + AESGCM(key).encrypt(nonce, evidence, head)
    make_folder(folder.parent, durable=True, private=True)
    draft = folder.with_name(f".{case}.{secrets.token_hex(4)}")
    try:
        new(draft / EVIDENCE_NAME, whole, durable=True, private=True)
        new(draft / STATUS_NAME, _encoder.encode(Status(case, call_id, kind, now_ms)), durable=True, private=True)
        draft.rename(folder)  # fails where another worker made one that is not empty
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        if folder.exists():
            raise VaultError(f"{case} is there already: a call has one case") from None
        raise
    sync_folder(folder.parent)
    digest = hashlib.sha256(whole).hexdigest()
    return Sealed(case, {CASE: case, "call": call_id, "what": "opened", "kind": kind, "evidence": digest})


def used_bytes(data_dir: Path) -> int:
    """What all cases take."""
    top = data_dir / VAULT_NAME
    found = (folder / EVIDENCE_NAME for folder in (top.iterdir() if top.is_dir() else ()))
    total = 0
    for path in found:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # pruned in between
            total += path.stat().st_size
    return total


def cases(data_dir: Path) -> list[Status]:
    """All cases, oldest first. Raises VaultError for one that cannot be read, OSError."""
    top = data_dir / VAULT_NAME
    names = [p.name for p in top.iterdir() if _CASE.fullmatch(p.name)] if top.is_dir() else []
    return sorted((status(data_dir, name) for name in names), key=lambda one: (one.made_ms, one.case))


def status(data_dir: Path, case: str) -> Status:
    """One case. Raises VaultError, OSError."""
    path = _folder(data_dir, case) / STATUS_NAME
    try:
        found = _statuses.decode(path.read_bytes())
    except msgspec.MsgspecError as error:
        raise VaultError(f"{path}: cannot be read; restore it from a copy, or from the notes on this case") from error
    if found.case != case:
        raise VaultError(f"{path}: tells of another case; restore it")
    return found


def request(
    data_dir: Path, case: str, me: Keyring, to: str, reason: str, log: AccessLog, *, now_s: int | None = None
) -> bytes:
    """The first custodian's step: their share for the case with `to`, sealed to `to` alone, as the bytes of a file.

    Recorded first. Raises VaultError, AuditError, OSError.
    """
    head, _, _ = _read(data_dir, case)
    made_s = int(time.time()) if now_s is None else now_s
    log.note(CASE, _detail(head, "requested", me.name, reason, to=to))
    share = custody.half(case, _people(head), head.shares, me, to, made_s)
    return _encoder.encode(_Half("case-half.v1", case, me.name, to, made_s, share)) + b"\n"


def open_case(
    data_dir: Path, case: str, me: Keyring, given: bytes, reason: str, log: AccessLog, *, now_s: int | None = None
) -> bytes:
    """The second custodian's step: the evidence, from their share and the half that they were given.

    Recorded first; a failure is recorded too. A half serves once. Raises VaultError, AuditError, OSError.
    """
    head, line, sealed = _read(data_dir, case)
    digest = hashlib.sha256(given).hexdigest()
    log.note(CASE, _detail(head, "accessed", me.name, reason, half=digest))
    try:
        half = _half(given, case, me.name, int(time.time()) if now_s is None else now_s)
        with _changing(data_dir, case) as change:
            evidence = _unsealed(head, line, sealed, me, half, unused=digest not in change.now.halves)
            change.put(halves=(*change.now.halves, digest), accessed=change.now.accessed + 1)
    except VaultError:
        log.note(CASE, _detail(head, "failed", me.name, reason, half=digest))
        raise
    return evidence


def _unsealed(head: _Head, line: bytes, sealed: bytes, me: Keyring, half: _Half, *, unused: bool) -> bytes:
    if not unused:
        raise VaultError("this half was used already; ask for another with `licet audit case request`")
    key = custody.join(head.case, _people(head), head.shares, me, half.from_, half.made_s, half.half)
    try:
        return AESGCM(key).decrypt(base64.b64decode(head.nonce), sealed, line)
    except (InvalidTag, ValueError) as error:
        raise VaultError(
            f"{head.case}: the evidence was altered, or a custodian gave a share that is not theirs"
        ) from error


def report(data_dir: Path, case: str, at: str, ref: str, reason: str, log: AccessLog, *, now_ms: int) -> Status:
    """Note that a case was reported to an authority, under its reference there."""
    head, _, _ = _read(data_dir, case)
    log.note(CASE, _detail(head, "reported", who(), reason, at=at, ref=ref))
    with _changing(data_dir, case) as change:
        return change.put(reports=(*change.now.reports, Report(at, ref, now_ms)))


def close(data_dir: Path, case: str, reason: str, log: AccessLog, *, now_ms: int) -> Status:
    """Close a case: from now on its retention runs. Raises VaultError for one that is closed."""
    head, _, _ = _read(data_dir, case)
    if status(data_dir, case).closed_ms is not None:
        raise VaultError(f"{case} is closed already")
    log.note(CASE, _detail(head, "closed", who(), reason))
    with _changing(data_dir, case) as change:
        return change.put(closed_ms=change.now.closed_ms or now_ms)


class _Change:
    """A status that is being changed."""

    def __init__(self, path: Path, now: Status) -> None:
        self._path = path
        self.now = now

    def put(self, **values: object) -> Status:
        """The status with these values, written."""
        self.now = msgspec.structs.replace(self.now, **values)
        put(self._path, _encoder.encode(self.now), durable=True, private=True)
        return self.now


@contextlib.contextmanager
def _changing(data_dir: Path, case: str) -> Iterator[_Change]:
    """One at a time: two people may act on one case at once."""
    folder = _folder(data_dir, case)
    with locked(folder / EVIDENCE_NAME, existing=True):
        yield _Change(folder / STATUS_NAME, status(data_dir, case))


def _folder(data_dir: Path, case: str) -> Path:
    if not _CASE.fullmatch(case):
        raise VaultError("a case has the form case-<32 hex digits>; see `licet audit case list`")
    folder = data_dir / VAULT_NAME / case
    if not (folder / EVIDENCE_NAME).is_file():
        raise MissingError(f"there is no {case} under {data_dir}; see `licet audit case list`")
    return folder


def _read(data_dir: Path, case: str) -> tuple[_Head, bytes, bytes]:
    """The head, the line it was read from, and the ciphertext."""
    path = _folder(data_dir, case) / EVIDENCE_NAME
    with path.open("rb") as file:
        content = file.read(HEAD_BYTES_MAX + EVIDENCE_BYTES_MAX + 1024)
    line, _, sealed = content.partition(b"\n")
    try:
        head = _heads.decode(line)
    except msgspec.MsgspecError as error:
        raise VaultError(f"{path}: cannot be read; restore it") from error
    if head.case != case:
        raise VaultError(f"{path}: is the evidence of another case; restore it")
    return head, line, sealed


def _people(head: _Head) -> tuple[Holder, ...]:
    return custody.holders([Custodian(name, key) for name, key in head.custodians])


def _half(given: bytes, case: str, me: str, now_s: int) -> _Half:
    if len(given) > HALF_BYTES_MAX:
        raise VaultError("--with: not a file that `licet audit case request` wrote")
    try:
        half = _halves.decode(given)
    except msgspec.MsgspecError as error:
        raise VaultError("--with: not a file that `licet audit case request` wrote") from error
    if half.case != case or half.to != me:
        raise VaultError(f"--with: made for {half.to} and {half.case}, not for {me} and {case}")
    if not -CLOCK_SLACK_S <= now_s - half.made_s <= HALF_AGE_S_MAX:
        raise VaultError(
            f"--with: made more than {HALF_AGE_S_MAX // 3600} hours ago, or in the future; ask for another"
        )
    return half


def _detail(head: _Head, what: str, by: str, reason: str, **more: str) -> Detail:
    return {
        CASE: head.case,
        "call": head.call,
        "what": what,
        "who": by,
        "account": who(),
        "reason": reason,
        **more,
    }
