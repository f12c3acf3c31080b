"""ZIPs that say two things, or too much, are refused before they are unpacked."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from gateway.evidence import zipping
from gateway.evidence.zipping import ZipWriter
from gateway.tlog.verify import check
from gateway.tlog.zipped import PackError, StrictZip


def plain(**files: bytes) -> bytes:
    """As we write them."""
    out = io.BytesIO()
    with ZipWriter(out) as zip_:
        for name, data in files.items():
            zip_.add(name, data)
        zip_.close()
    return out.getvalue()


def read(data: bytes, limit: int = 1000) -> dict[str, bytes]:
    """All of it, strictly."""
    zip_ = StrictZip(io.BytesIO(data))
    return {name: zip_.read(name, limit) for name in zip_.files}


def by_zipfile(*names: str, method: int = zipfile.ZIP_DEFLATED, data: bytes = b"x") -> bytes:
    """As Python's own writer does."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as zip_:
        warnings.simplefilter("ignore")  # it says so itself where a name comes twice
        for name in names:
            zip_.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def refused(data: bytes, said: str, limit: int = 1000) -> None:
    with pytest.raises(PackError) as caught:
        read(data, limit)
    assert said in str(caught.value)


def test_what_is_written_is_read_by_us_and_by_others() -> None:
    files = {
        "b.txt": b"",
        "a": b"hello" * 9000,
        "records/s/1.json": b"{}",
        "records/s/10.json": b"[]",
        "z": b"\x00" * 70_000,
    }
    data = plain(**files)
    assert read(data, 100_000) == files
    assert list(StrictZip(io.BytesIO(data)).files) == ["a", "b.txt", "records/s/1.json", "records/s/10.json", "z"]
    with zipfile.ZipFile(io.BytesIO(data)) as zip_:
        assert zip_.testzip() is None
        assert {name: zip_.read(name) for name in zip_.namelist()} == files
        assert {info.date_time for info in zip_.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_l9_what_is_unpacked_is_bounded() -> None:
    bomb = plain(a=b"\x00" * 5_000_000)
    assert len(bomb) < 10_000
    refused(bomb, "at most 1,000 are read")
    lying = bytearray(bomb)
    for at in (lying.find(b"PK\x03\x04") + 22, lying.find(b"PK\x01\x02") + 24):
        struct.pack_into("<L", lying, at, 900)  # it says that it has 900 bytes
    refused(bytes(lying), "a: ", limit=100_000)


@pytest.mark.parametrize(
    "name", ["../up", "/etc/passwd", "a/../b", "a\\b", "a//b", "a/./b", "a b", "\u00e4", "a/b/c/d", "a/", ".", "c:x"]
)
def test_names_that_are_no_plain_paths_are_refused(name: str) -> None:
    refused(by_zipfile(name), "")


def test_files_that_are_twice_stored_encrypted_or_hidden_are_refused() -> None:
    refused(plain(aaa=b"1", bbb=b"2").replace(b"bbb", b"aaa"), "twice")
    refused(by_zipfile("a", method=zipfile.ZIP_STORED), "packed in a way")
    data = bytearray(plain(a=b"hello"))
    data[data.find(b"PK\x01\x02") + 8] |= 1
    refused(bytes(data), "encrypted")
    good = plain(a=b"hello", b=b"world")
    refused(b"#!/bin/sh\n" + good, "the directory is not before it")
    refused(good + b"more", "no ZIP, or something follows it")
    refused(good[:-1], "no ZIP")
    refused(b"", "no ZIP")
    at = good.find(b"PK\x03\x04", 4)
    hidden = good[:at] + b"hidden" + good[at:]
    end = len(hidden) - 22
    (start,) = struct.unpack_from("<L", hidden, end + 16)
    hidden = hidden[: end + 16] + struct.pack("<L", start + 6) + hidden[end + 20 :]
    second = hidden.rfind(b"PK\x01\x02")
    hidden = hidden[: second + 42] + struct.pack("<L", at + 6) + hidden[second + 46 :]
    refused(hidden, "something lies before it")


def test_a_zip_with_more_files_than_old_zips_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipping, "_U16", 3)  # ZIP64 from three files on, so that no test writes 65,535
    data = plain(a=b"1", b=b"2", c=b"3", d=b"4")
    assert b"PK\x06\x06" in data
    assert read(data) == {"a": b"1", "b": b"2", "c": b"3", "d": b"4"}
    with zipfile.ZipFile(io.BytesIO(data)) as zip_:
        assert zip_.namelist() == ["a", "b", "c", "d"]


def test_a_file_that_is_no_pack_is_damaged_not_a_crash(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04", b"\x00" * 5000, plain(a=b"x"), plain(**{"manifest.json": b"[]"})):
        (tmp_path / "pack.zip").write_bytes(content)
        report = check([tmp_path / "pack.zip"])
        assert [one.segment for one in report.problems] == ["pack.zip"]
