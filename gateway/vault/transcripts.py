"""Transcripts: the exchange as it was after filtering, for policies that say `record: {content: encrypted}`.

    DATA/transcripts/<YYYYMM>/<YYYYMMDD>/<writer>.<n>.tr    frames, appended by one worker, at most FILE_BYTES each

A frame is u32 length of the ciphertext, u32 number in its file, 16 bytes of the call's id, 16 of the key's name, 12 of nonce, then
AES-256-GCM ciphertext and tag. The reference `<YYYYMMDD>/<writer>.<n>/<number>` goes into the call's outcome; it is bound into the
ciphertext with the call's id and the key's name, so that a frame opens nowhere but where it was put. Keys: `subjects.py`.

Order: the frame is handed to the operating system, then the call's outcome is recorded with the reference. A kill loses neither. A power cut may
lose frames of the last SYNC_LAG_S: a reference that leads to nothing. A frame that a kill tore is at the end of its file, and nobody appends
behind it: each life of a worker begins files of its own. An error of a sync poisons the writer, as in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from gateway.audit.homes import homes
from gateway.vault.access import MissingError, VaultError
from gateway.vault.subjects import NAME_BYTES, Key, SubjectKeys, name_of
from gateway.vault.wrapped import NONCE_BYTES, TAG_BYTES, TRANSCRIPTS_NAME, months
from gateway.whole_file import make_folder, sync_folder

log = logging.getLogger("licet.transcripts")

FILE_BYTES = 64 << 20  # our choice, as the journal's segments
EXCHANGE_BYTES_MAX = 32 << 20  # our choice: above the sum of what policies let prompts and answers be
INLINE_BYTES = 32 << 10  # our choice: 15 us to encrypt and write; what is larger goes to a thread
SYNC_LAG_S = 1.0  # our choice: what a power cut may take
WAITING_MAX = 256  # our choice: exchanges that wait for the thread (L9)
WAITING_BYTES_MAX = 64 << 20  # our choice, as above
CLOSE_TIMEOUT_S = 30.0  # our choice: how long a close waits for a sync that is on its way
MAGIC = b"licettr1"
_HEAD = struct.Struct(f">II16s{NAME_BYTES}s{NONCE_BYTES}s")
_REF = re.compile(r"([0-9]{8})/([a-z0-9-]{1,64}\.[0-9]{1,9})/([0-9]{1,10})")
_CALL = re.compile(r"[0-9a-f]{32}")
_SUFFIX = ".tr"


Content = bytes | bytearray | memoryview


class _Job(NamedTuple):
    """One file to sync and close, and its folder if it is new."""

    handle: int
    folder: Path | None


class _Writer:
    """Appends to files of its own. For one thread, but for what the one that syncs takes under its lock."""

    def __init__(self, data_dir: Path, name: str) -> None:
        self.keys = SubjectKeys(data_dir)
        self.dirty = False  # whether what is to be synced has been told since the last sync
        self.folder: Path | None = None  # of a file that is new since then
        self._top = data_dir / TRANSCRIPTS_NAME
        self._name = name
        self._files = 0
        self._handle = -1
        self._day = ""
        self._file = ""
        self._size = 0
        self._next = 0

    def write(self, key: Key, call_id: str, day: str, exchange: Content) -> str:
        """Encrypt and append; the reference. Raises OSError, VaultError."""
        name = key.name
        if self._handle < 0 or day != self._day or self._size >= FILE_BYTES:
            self._turn(day)
        ref = f"{day}/{self._file}/{self._next}"
        nonce = os.urandom(NONCE_BYTES)
        sealed = key.cipher.encrypt(nonce, exchange, _bound(ref, call_id, name))
        head = _HEAD.pack(len(sealed), self._next, bytes.fromhex(call_id), bytes.fromhex(name), nonce)
        try:
            taken = os.writev(self._handle, (head, sealed))
        except OSError:
            self._cut()
            raise
        if taken != len(head) + len(sealed):
            self._cut()
            raise VaultError(f"the disk took {taken:,} of {len(head) + len(sealed):,} bytes of a transcript; make room")
        self._size += taken
        self._next += 1
        return ref

    def job(self) -> _Job:
        """The file that was written last, for another thread to sync and close."""
        folder, self.folder = self.folder, None
        return _Job(os.dup(self._handle), folder)

    def close(self) -> None:
        """Let go. What was not synced is with the thread that syncs."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _turn(self, day: str) -> None:
        self.close()
        folder = self._top / day[:6] / day
        make_folder(folder, durable=True, private=True)
        self._files += 1
        name = f"{self._name}.{self._files}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        handle = os.open(folder / (name + _SUFFIX), flags, 0o600)
        try:
            taken = os.write(handle, MAGIC)
        except OSError:
            os.close(handle)
            raise
        if taken != len(MAGIC):
            os.close(handle)
            raise VaultError("the disk is full; make room")
        self._handle = handle  # from here on: behind half a head, nobody could read what follows
        self.dirty, self.folder = False, folder
        self._day, self._file, self._size, self._next = day, name, taken, 0

    def _cut(self) -> None:
        """Take a torn frame off; where even that fails, nothing more is written behind it."""
        try:
            os.ftruncate(self._handle, self._size)
        except OSError:
            self.close()


class Transcripts:
    """What a worker writes with. `keep` belongs to the event loop's thread; `close` at the end.

    `problem` says, for operators, why nothing can be kept any more; None while all is well. Where it is not None, calls whose policy
    asks for transcripts must be refused.
    """

    def __init__(self, data_dir: Path, worker: int, now_ms: Callable[[], int]) -> None:
        """Use `open`."""
        life = secrets.token_hex(4)
        self.problem: str | None = None
        self.kept = 0  # transcripts
        self.failed = 0
        self._now_ms = now_ms
        self._inline = _Writer(data_dir, f"w{worker}-{life}")
        self._bulk = _Writer(data_dir, f"w{worker}-{life}-b")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="transcripts")
        self._waiting = 0
        self._waiting_bytes = 0
        self._today = (-1, "")
        self._lock = threading.Lock()  # guards what is to be synced
        self._jobs: list[_Job] = []
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._finished = False  # nothing more will be written
        self._syncer = threading.Thread(target=self._sync, name="transcripts sync", daemon=True)

    @classmethod
    def open(
        cls, data_dir: Path, *, worker: int = 0, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> Transcripts:
        """Ready to keep. Open after a fork, never before. Raises OSError, VaultError for an unusable key."""
        made = cls(data_dir, worker, now_ms)
        made._inline.keys.ready()
        made._syncer.start()
        return made

    async def keep(self, call_id: str, subject: str | None, exchange: Content) -> str:
        """Encrypt and append an exchange; its reference, once the operating system has it.

        `subject` is the keyed digest that the call's record names the end user by; None: those who are not named share a key each
        day. Small exchanges of users with a key at hand are written at once, others by a thread. Raises VaultError: then nothing
        is kept, and the outcome must say so by having no reference.
        """
        if self.problem is not None or self._closing.is_set():
            raise VaultError("transcripts cannot be kept; see the log")
        if len(exchange) > EXCHANGE_BYTES_MAX:
            self.failed += 1
            raise VaultError(f"an exchange of {len(exchange):,} bytes; at most {EXCHANGE_BYTES_MAX:,} are kept")
        day = self._day()
        name = name_of(subject or f"anonymous {day}")
        try:
            key = self._inline.keys.held(day[:6], name) if len(exchange) <= INLINE_BYTES else None
            if key is not None:
                ref = self._inline.write(key, call_id, day, exchange)
                self._wrote(self._inline)
            else:
                ref = await self._in_thread(call_id, name, day, exchange)
        except OSError as error:
            self.failed += 1
            raise VaultError(f"a transcript cannot be written: {error.strerror or type(error).__name__}") from error
        except VaultError:
            self.failed += 1
            raise
        self.kept += 1
        return ref

    async def close(self) -> None:
        """Sync all, let go. Harmless twice. Raises VaultError if something could not be synced."""
        if self._closing.is_set():
            return
        self._closing.set()
        await asyncio.to_thread(self._finish)
        if self.problem is not None:
            raise VaultError("some transcripts may not be on disk; see the log")

    def _finish(self) -> None:
        self._pool.shutdown(wait=True)
        with self._lock:
            self._finished = True
        self._dirty.set()
        self._syncer.join(CLOSE_TIMEOUT_S)
        if self._syncer.is_alive():
            self.problem = "close: a sync does not return"
        self._inline.close()
        self._bulk.close()

    async def _in_thread(self, call_id: str, name: str, day: str, exchange: Content) -> str:
        size = len(exchange)
        if self._waiting >= WAITING_MAX or self._waiting_bytes + size > WAITING_BYTES_MAX:
            raise VaultError("too many transcripts wait for the disk")
        self._waiting += 1
        self._waiting_bytes += size

        def done(work: asyncio.Future[str]) -> None:
            self._waiting -= 1
            self._waiting_bytes -= size
            if not work.cancelled() and (error := work.exception()) is not None:
                log.warning("a transcript could not be kept: %s", type(error).__name__)

        work = asyncio.get_running_loop().run_in_executor(self._pool, self._write, call_id, name, day, exchange)
        work.add_done_callback(done)
        ref = await asyncio.shield(work)
        if size <= INLINE_BYTES:  # from now on this user's small exchanges are written at once
            with contextlib.suppress(VaultError, OSError):  # destroyed in between: the next write makes another
                self._inline.keys.find(day[:6], name)
        return ref

    def _write(self, call_id: str, name: str, day: str, exchange: Content) -> str:
        """In the thread."""
        ref = self._bulk.write(self._bulk.keys.get(day[:6], name), call_id, day, exchange)
        self._wrote(self._bulk)
        return ref

    def _wrote(self, writer: _Writer) -> None:
        """Have the file synced within SYNC_LAG_S."""
        with self._lock:
            if writer.dirty:
                return
            writer.dirty = True
            self._jobs.append(writer.job())
        self._dirty.set()

    def _sync(self) -> None:
        """The thread that syncs. It ends when all is closed and synced."""
        while True:
            self._dirty.wait()
            self._closing.wait(SYNC_LAG_S)
            self._dirty.clear()
            with self._lock:
                done = self._finished  # after the clear: who sets it sets `dirty` behind it
                jobs, self._jobs = self._jobs, []
                self._inline.dirty = self._bulk.dirty = False
            for job in jobs:
                try:
                    os.fdatasync(job.handle)
                    if job.folder is not None:
                        sync_folder(job.folder)
                except OSError as error:
                    self.problem = f"sync: {type(error).__name__}: {error.strerror}"
                    log.exception("transcripts can no longer be kept")
                finally:
                    os.close(job.handle)
            if done:
                return

    def _day(self) -> str:
        """YYYYMMDD in UTC."""
        number = self._now_ms() // 86_400_000
        if number != self._today[0]:
            self._today = number, time.strftime("%Y%m%d", time.gmtime(number * 86_400))
        return self._today[1]


@dataclass(frozen=True, slots=True)
class Frame:
    """A transcript as it lies on the disk."""

    path: Path  # of its file
    ref: str
    call_id: str
    name: str  # of its key
    nonce: bytes
    at: int  # where the ciphertext begins
    length: int


def frames_in(path: Path) -> Iterator[Frame]:
    """The whole frames of a file, in the order of the disk; a torn end ends them. Raises OSError, VaultError for another file."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        magic = file.read(len(MAGIC))
        if magic != MAGIC[: len(magic)]:
            raise VaultError(f"{path}: this is no file of transcripts")
        at = len(MAGIC)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, number, call, name, nonce = _HEAD.unpack(head)
            at += _HEAD.size
            if at + length > size or not TAG_BYTES <= length <= EXCHANGE_BYTES_MAX + TAG_BYTES:
                return
            ref = f"{path.parent.name}/{path.name.removesuffix(_SUFFIX)}/{number}"
            yield Frame(path, ref, call.hex(), name.hex(), nonce, at, length)
            at += length
            file.seek(at)


def files(home: Path) -> Iterator[Path]:
    """All files of transcripts of a home, newest day first."""
    for month in reversed(months(home)):
        folder = home / TRANSCRIPTS_NAME / month
        for day in sorted((p for p in folder.iterdir() if _is_day(p.name)), reverse=True):
            yield from sorted(day.glob(f"*{_SUFFIX}"))


def find(data_dir: Path, call_id: str) -> Frame | None:
    """The transcript of a call, of this gateway or of one that it adopted. Reads heads of frames alone. Raises OSError, VaultError."""
    here = (path for home in homes(data_dir) for path in files(home.path))
    return next((frame for path in here for frame in frames_in(path) if frame.call_id == call_id), None)


def read(data_dir: Path, call_id: str, ref: str | None = None) -> bytes:
    """The exchange of a call; `ref`: as its outcome says, which is faster. The look must have been recorded before.

    Raises VaultError (ErasedError where its key was destroyed), OSError. Holds the whole exchange in memory.
    """
    if not _CALL.fullmatch(call_id):
        raise VaultError("a call id has 32 hex digits; take it from x-licet-call-id or the journal")
    frame = find(data_dir, call_id) if ref is None else _at(data_dir, call_id, ref)
    if frame is None:
        raise MissingError("there is no transcript of this call: none was kept, or it is past its retention")
    month = frame.path.parents[1]
    key = SubjectKeys(month.parents[1]).read(month.name, frame.name)
    with frame.path.open("rb") as opened:
        opened.seek(frame.at)
        sealed = opened.read(frame.length)
    try:
        return key.decrypt(frame.nonce, sealed, _bound(frame.ref, call_id, frame.name))
    except InvalidTag as error:
        raise VaultError(f"{frame.ref}: altered, or not where it was written") from error


def _at(data_dir: Path, call_id: str, ref: str) -> Frame | None:
    match = _REF.fullmatch(ref)
    if match is None:
        raise VaultError("a transcript's reference has the form <day>/<file>/<number>")
    for home in homes(data_dir):
        path = home.path / TRANSCRIPTS_NAME / match[1][:6] / match[1] / (match[2] + _SUFFIX)
        for frame in frames_in(path) if path.is_file() else ():
            if (frame.ref, frame.call_id) == (ref, call_id):
                return frame
    return None


def _is_day(name: str) -> bool:
    return len(name) == 8 and name.isdigit()


def _bound(ref: str, call_id: str, name: str) -> bytes:
    """What a ciphertext is bound to."""
    return f"licet transcript v1\n{ref}\n{call_id}\n{name}".encode()
