"""Digest keys rotate without losing what they told before; digests of texts do not depend on cuts or white space."""

from __future__ import annotations

import hmac
import random
import shutil
import threading
from pathlib import Path

import pytest

from gateway.audit.digest import FLUSH_PIECES, PIECE_CHARS, DigestKey, DigestKeys

DAY = 86_400.0


class Clock:
    """Seconds, as the test says."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_the_next_key_is_made_when_the_newest_is_older_than_the_period(tmp_path: Path) -> None:
    clock = Clock(1_000_000_000.0)
    keys = DigestKeys.load(tmp_path, 10 * DAY, now_s=clock)
    first = keys.digest(b"body")
    assert first.startswith("k1:")
    assert not keys.refresh()
    clock.now += 10 * DAY
    assert keys.refresh()
    second = keys.digest(b"body")
    assert second.startswith("k2:")
    assert [key.digest(b"body") for key in keys.all] == [second, first]
    assert keys.all_subjects("t", "u") == (keys.subject("t", "u"), DigestKey.load(tmp_path).subject("t", "u"))
    assert first.partition(":")[2] != second.partition(":")[2]
    clock.now += 9 * DAY
    assert not keys.refresh()


def test_the_age_of_a_key_survives_a_copy_of_the_folder(tmp_path: Path) -> None:
    clock = Clock(1_000_000_000.0)
    here, there = tmp_path / "here", tmp_path / "there"
    old = DigestKeys.load(here, 10 * DAY, now_s=clock).digest(b"body")
    shutil.copytree(here, there, copy_function=shutil.copyfile)  # times of files are lost
    clock.now += 5 * DAY
    copied = DigestKeys.load(there, 10 * DAY, now_s=clock)
    assert copied.digest(b"body") == old
    clock.now += 5 * DAY
    assert copied.refresh()


def test_a_key_of_a_version_without_rotation_is_as_old_as_its_file(tmp_path: Path) -> None:
    old = DigestKey.load(tmp_path).digest(b"body")
    made = (tmp_path / "keys" / "digest-1.key").stat().st_mtime
    keys = DigestKeys.load(tmp_path, DAY, now_s=Clock(made + DAY + 1))
    assert keys.digest(b"body").startswith("k2:")
    assert keys.all[1].digest(b"body") == old


def test_workers_that_rotate_at_once_share_the_next_key(tmp_path: Path) -> None:
    DigestKeys.load(tmp_path, DAY, now_s=Clock(1_000_000_000.0))
    start = threading.Barrier(6)
    digests: list[str] = []

    def run() -> None:
        start.wait()
        digests.append(DigestKeys.load(tmp_path, DAY, now_s=Clock(1_000_000_000.0 + 2 * DAY)).digest(b"body"))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 6
    assert len(set(digests)) == 1
    assert digests[0].startswith("k2:")


def test_masks_look_alike_over_rotations(tmp_path: Path) -> None:
    clock = Clock(1_000_000_000.0)
    keys = DigestKeys.load(tmp_path, DAY, now_s=clock)
    before = keys.mask_key
    clock.now += 2 * DAY
    assert keys.refresh()
    assert keys.mask_key == before == DigestKey.load(tmp_path).mask_key
    (tmp_path / "keys" / "digest-1.key").unlink()
    with pytest.raises(ValueError, match="restore it"):
        _ = DigestKeys.load(tmp_path).mask_key


def test_l7_an_error_about_a_key_does_not_show_it(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "digest-3.key").write_bytes(b"almost-a-key")
    with pytest.raises(ValueError, match=r"digest-3\.key") as caught:
        DigestKeys.load(tmp_path)
    assert "almost" not in str(caught.value)


@pytest.mark.parametrize("seed", range(5))
def test_a_text_has_one_digest_however_it_is_cut_and_laid_out(seed: int) -> None:
    key = DigestKey(b"k" * 32, 7)
    chance = random.Random(seed)
    text = "".join(chance.choice("ab \n\t\u00a0\u3000\u2003é中😀\ud83d") for _ in range(3 * PIECE_CHARS))
    bare = "".join(text.split())
    expected = hmac.digest(b"k" * 32, b"text\x00" + bare.encode("utf-8", "surrogatepass"), "sha256").hex()
    cut = key.text_digest()
    at = 0
    while at < len(text):
        length = chance.choice((0, 1, 4, 50, PIECE_CHARS + 1))
        cut.feed(text[at : at + length])
        at += length
    single = key.text_digest()
    for character in text:
        single.feed(character)
    assert cut.value() == single.value() == key.text(bare) == key.text(text) == f"k7:{expected}"


def test_a_text_digest_goes_on_after_a_value_and_holds_little() -> None:
    key = DigestKey(b"k" * 32)
    made = key.text_digest()
    made.feed("one ")
    assert made.value() == key.text("one")
    made.feed("two")
    assert made.value() == key.text("one two") != key.text("one")
    for _ in range(100 * FLUSH_PIECES):
        made.feed("x" * PIECE_CHARS)
        assert len(made._pieces) < FLUSH_PIECES
    made.feed("y" * (PIECE_CHARS + 1))
    assert made._pieces == []


def test_uses_do_not_mix_and_names_of_two_tenants_do_not_meet(tmp_path: Path) -> None:
    keys = DigestKeys.load(tmp_path)
    assert len(keys.subject("t", "user-1")) == len("k1:") + 32
    assert keys.subject("a", "bc") != keys.subject("ab", "c")
    assert keys.digest(b"text")[3:] != keys.newest.text("text")[3:]
    assert keys.source("192.0.2.1") == keys.newest.source("192.0.2.9")


def test_white_space_of_ascii_is_what_it_is_elsewhere() -> None:
    key = DigestKey(bytes(range(32)))
    every = "".join(chr(code) for code in range(128))
    bare = "".join(every.split())
    assert len(bare) < len(every)
    assert key.text(every) == key.text(bare)  # both ASCII
    assert key.text(every + "é\u2003") == key.text(bare + "é")  # neither
