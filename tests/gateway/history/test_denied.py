"""Somebody who may read a data folder and not write it: the answer is made from an index of their own, or it is said whose folder it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from gateway.history import indexer
from gateway.history.denied import remedy, told
from gateway.history.local import open_local
from gateway.history.port import Query
from tests.gateway.history.made import History
from tests.gateway.history.test_cli import run

NOBODY = 65_534


@pytest.fixture
def open_to_all(template: History, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder that everybody may read, in a place that everybody reaches. It is its owner's to write.

    Beside it, a place for temporary files of this test alone.
    """
    place = Path(tempfile.mkdtemp(prefix="licet-denied-"))
    place.chmod(0o755)
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    data = place / "data"
    shutil.copytree(template.data, data)
    try:
        yield data
    finally:
        shutil.rmtree(place)


@contextmanager
def reading_alone(data: Path) -> Iterator[None]:
    """As somebody else (of root), or with everything set to be read only (of others)."""
    places = [data, *data.rglob("*")]
    for one in places:
        one.chmod(0o555 if one.is_dir() else 0o444)
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(NOBODY)
        yield
    finally:
        if me == 0:
            os.seteuid(me)
        for one in places:
            one.chmod(0o755 if one.is_dir() else 0o644)


def own_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("licet-index-*"))


def test_who_may_only_read_is_answered_from_an_index_of_their_own(open_to_all: Path) -> None:
    data = open_to_all
    right = orjson.loads(run("query", "--data", data, "--count", "decision", "--json")[1])
    shutil.rmtree(data / "index")
    before = own_folders()
    with reading_alone(data):
        code, out, err = run("query", "--data", data, "--count", "decision", "--json")
        made = run("index", "--data", data)
    assert code == 0, err
    found = orjson.loads(out)
    assert found["counts"] == right["counts"] != []
    assert found["completeness"]["complete"] is True
    assert f"{data / 'index'} cannot be written" in err
    assert "removed after" in err
    assert own_folders() == before
    assert not (data / "index").exists()
    assert made[0] == 2
    assert "cannot be written" in made[2]
    assert f"copy {data} to a folder of your own" in made[2]
    assert "Errno" not in made[2]


def test_what_the_index_there_remembers_is_taken_over_and_its_lack_is_told(open_to_all: Path) -> None:
    data = open_to_all
    indexer.refresh(data)
    path = indexer.index_path(data)
    db = indexer.connect(path, write=True)
    db.execute("INSERT INTO rewritten VALUES ('some-stream', 7, 'ab', 1)")
    db.close()
    said: list[str] = []
    with reading_alone(data):
        history = open_local(data, say=said.append)
        try:
            whole = history.count(Query()).completeness
        finally:
            history.close()
    assert len(said) == 1
    assert any("some-stream: its log was rewritten" in one for one in whole.missing)
    path.write_bytes(b"of no database" * 100)
    with reading_alone(data):
        history = open_local(data, say=said.append)
        try:
            less = history.count(Query()).completeness
        finally:
            history.close()
    assert not less.complete
    assert any("what it remembers of logs that were rewritten is not told here" in one for one in less.missing)


def test_only_what_is_in_the_data_folder_has_its_remedy(tmp_path: Path) -> None:
    elsewhere = told(PermissionError(13, "Permission denied", "/elsewhere/out.zip"), tmp_path)
    assert elsewhere == "/elsewhere/out.zip: Permission denied"
    assert f"copy {tmp_path}" in told(PermissionError(13, "Permission denied", str(tmp_path / "log")), tmp_path)
    assert told(OSError(28, "No space left on device"), tmp_path) == "[Errno 28] No space left on device"


def test_the_remedy_names_whose_it_is(tmp_path: Path) -> None:
    told = remedy(tmp_path / "index", tmp_path)
    assert f"copy {tmp_path} to a folder of your own" in told
    assert remedy(Path("/proc/1/none"), tmp_path).startswith("it ")
