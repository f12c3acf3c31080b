"""Keys that are missing while something depends on them: told with the remedy, and their numbers are taken by no other."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from gateway.app import _mask_key
from gateway.audit.digest import DigestKeys, digest_path, digests_used
from gateway.errors import ConfigError
from gateway.server import _tell_lost
from gateway.trail_check import _lost
from gateway.vault import transcripts, wrapping
from gateway.vault.access import ErasedError, VaultError, opened
from gateway.vault.erasure import subjects_of
from gateway.vault.lost import lost_keys
from gateway.vault.wrapping import wrap_path
from tests.gateway.audit.samples import intent, open_journal
from tests.gateway.vault.samples import DAY_MS, call_id
from tests.gateway.vault.test_transcripts import JANE, NOON, keep


def test_a_missing_key_of_transcripts_is_told_and_never_replaced(tmp_path: Path) -> None:
    old, later = call_id(), call_id()
    keep(tmp_path, (old, JANE, b"old"))
    assert lost_keys(tmp_path) == []
    path = wrap_path(tmp_path, 1)
    content = path.read_bytes()
    path.unlink()
    [told] = lost_keys(tmp_path)
    for part in (f"{path} is missing", "transcripts of 1 end users", "restore it", "write an empty file"):
        assert part in told
    assert not path.exists()  # to look makes nothing
    keep(tmp_path, (later, JANE, b"later"), now_ms=NOON + 40 * DAY_MS)  # another month, so another key of hers
    assert not path.exists()
    assert wrapping.numbers(tmp_path) == [2]
    assert transcripts.read(tmp_path, later) == b"later"
    with pytest.raises(VaultError, match="is missing, which opens these transcripts; restore it"):
        transcripts.read(tmp_path, old)
    assert lost_keys(tmp_path) == [told]
    path.write_bytes(content)
    assert (transcripts.read(tmp_path, old), lost_keys(tmp_path)) == (b"old", [])
    path.write_bytes(b"")
    assert lost_keys(tmp_path) == []
    with pytest.raises(ErasedError):
        transcripts.read(tmp_path, old)


def test_a_key_that_was_given_up_for_good_stops_no_start(tmp_path: Path) -> None:
    keep(tmp_path)
    wrap_path(tmp_path, 1).unlink()
    wrap_path(tmp_path, 1).write_bytes(b"")  # as `licet check` says, before the next start
    later = call_id()
    keep(tmp_path, (later, JANE, b"later"), now_ms=NOON + 40 * DAY_MS)
    assert wrapping.usable(tmp_path) == [2]
    assert transcripts.read(tmp_path, later) == b"later"


def test_a_rotation_leaves_the_number_of_a_missing_newest_key(tmp_path: Path) -> None:
    keep(tmp_path)
    with opened(tmp_path, "gw") as log:
        assert wrapping.rotate(tmp_path, "every year", log) == (1, 2)
    keep(tmp_path, (call_id(), JANE, b"by the second"))
    wrap_path(tmp_path, 2).unlink()
    with opened(tmp_path, "gw") as log:
        assert wrapping.rotate(tmp_path, "after a loss", log) == (1, 3)
    assert wrapping.numbers(tmp_path) == [1, 3]


def test_a_missing_digest_key_is_told_by_its_word_and_never_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [1_000_000_000.0]
    DigestKeys.load(tmp_path, 86_400, now_s=lambda: now_s[0])
    digest_path(tmp_path, 1).unlink()
    [told] = lost_keys(tmp_path)
    assert "digest-1.key is missing" in told
    assert "remove digest-1.json" in told
    assert _lost(tmp_path) == [told]
    with caplog.at_level(logging.ERROR):
        _tell_lost(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [told]
    keys = DigestKeys.load(tmp_path, 86_400, now_s=lambda: now_s[0])
    assert [key.id for key in keys.all] == ["k2"]
    digest_path(tmp_path, 2).unlink()
    digest_path(tmp_path, 1).write_bytes(bytes(32))
    now_s[0] += 86_401
    assert [key.id for key in DigestKeys.load(tmp_path, 86_400, now_s=lambda: now_s[0]).all] == ["k3", "k1"]


def test_an_erasure_says_in_which_records_it_could_not_look(tmp_path: Path) -> None:
    keys = DigestKeys.load(tmp_path, 86_400)
    assert subjects_of(tmp_path, "t", "u") == ([keys.subject("t", "u")], [])
    digest_path(tmp_path, 1).unlink()
    [named], [told] = subjects_of(tmp_path, "t", "u")
    assert named.startswith("k2:")
    assert told.startswith(f"not looked for in records under k1: {digest_path(tmp_path, 1)} is missing; restore it")


def test_masks_by_a_missing_key_stop_a_start_with_the_remedy(tmp_path: Path) -> None:
    DigestKeys.load(tmp_path, 86_400)
    digest_path(tmp_path, 1).unlink()
    with pytest.raises(ConfigError, match=r"digest-1\.key is missing, by which masks show digests; restore it"):
        _mask_key(tmp_path)


def test_records_alone_tell_which_digest_key_is_missing(tmp_path: Path) -> None:
    """Without rotation nothing stands beside the key."""
    keys = DigestKeys.load(tmp_path)
    asyncio.run(_record(tmp_path, keys.subject("t", "u")))
    assert (digests_used(tmp_path), lost_keys(tmp_path)) == (1, [])
    digest_path(tmp_path, 1).unlink()
    [told] = lost_keys(tmp_path)
    assert "nor are these end users erased; restore it from a copy" in told
    assert DigestKeys.load(tmp_path).newest.id == "k2"


async def _record(data: Path, subject: str) -> None:
    journal = open_journal(data)
    stated = '"digest":"k7:' + "0" * 32  # a caller's own words
    await journal.append(msgspec.structs.replace(intent(), subject=subject, model=stated)).durable()
    await journal.close()
