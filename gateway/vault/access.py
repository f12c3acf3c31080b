"""What people do in the vault is recorded before it is done: notes in a journal stream of its own, synced one by one."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway import __version__
from gateway.audit.journal import Journal
from gateway.audit.record import STRING_CHARS_MAX, Note
from gateway.audit.takeover import demand_own

ROLE = "vault"
TRANSCRIPT_ACCESS = "transcript_access"
CASE = "case"
ERASURE = "erasure"
PRUNED = "pruned"
REASON_CHARS_MIN = 3  # our choice: enough that an empty gesture is no reason

Detail = dict[str, str | int | bool]


class VaultError(Exception):
    """The vault cannot do what was asked. Says why and what to do; safe to show."""


class MissingError(VaultError):
    """What was asked for is not here."""


class ErasedError(MissingError):
    """The key was destroyed, so what it opened stays closed."""


class AccessLog:
    """Where looks are recorded. For one thread. Use `opened`."""

    def __init__(self, journal: Journal, runner: asyncio.Runner, now_ms: Callable[[], int]) -> None:
        self._journal = journal
        self._runner = runner
        self._now_ms = now_ms

    @property
    def stream(self) -> str:
        """The stream that its notes are in."""
        return self._journal.stream

    def note(self, topic: str, detail: Detail) -> str:
        """Record it; once this returns the note is synced, and only then may what it tells of be done. The record's id.

        Raises AuditError: then it must not be done.
        """

        async def write() -> str:
            receipt = self._journal.append(Note(ts=self._now_ms(), topic=topic, detail=_bounded(detail)))
            await receipt.durable()
            return receipt.id

        return self._runner.run(write())


@contextmanager
def opened(
    data_dir: Path, gateway_id: str, *, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
) -> Iterator[AccessLog]:
    """A stream of its own, ended when the block ends. Raises AuditError, ValueError for an unusable gateway id, ConfigError where another
    gateway took the directory over.

    Streams of dead workers are left to the next worker. A kill leaves a stream that the next worker closes.
    """
    demand_own(data_dir)
    journal = Journal.open(
        data_dir,
        gateway_id=gateway_id,
        worker=0,
        build=__version__,
        role=ROLE,
        now_ms=now_ms,
        recover_dead=False,
    )
    with asyncio.Runner() as runner:
        try:
            yield AccessLog(journal, runner, now_ms)
        finally:
            runner.run(journal.close())


def stated_reason(text: str) -> str:
    """The reason that someone gave. Raises VaultError for none, or one that no note can hold."""
    reason = " ".join(text.split())
    if len(reason) < REASON_CHARS_MIN:
        raise VaultError(f"say why with --reason, in {REASON_CHARS_MIN} characters or more; it is recorded")
    if len(reason) > STRING_CHARS_MAX or not reason.isprintable():
        raise VaultError(f"--reason: at most {STRING_CHARS_MAX} printable characters")
    return reason


def who() -> str:
    """The account that runs this, as the system names it: told beside what people call themselves."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry for this number in the system's list
        return "unknown"


def _bounded(detail: Detail) -> Detail:
    return {key: value[:STRING_CHARS_MAX] if isinstance(value, str) else value for key, value in detail.items()}
