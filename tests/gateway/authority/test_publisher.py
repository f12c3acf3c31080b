"""What goes out goes out whole, in order and to whom it should: copies, lost folders, several publishers, hints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis.asyncio

from gateway.authority.authority import Authority
from gateway.authority.ceremony import PublishError
from gateway.authority.doors import ask
from gateway.authority.errors import FormError
from gateway.authority.model import Actor
from gateway.authority.publisher import Publisher, check_hint, mirror, publish_folder, send_hint
from gateway.authority.states import Role
from tests.gateway.authority.served import ISSUER, form
from tests.gateway.test_state import SERVERS, RedisServer

ANN = Actor("ann", frozenset({Role.APPLICANT}))
OLGA = Actor("olga", frozenset({Role.OFFICER, Role.OPERATOR}))
PIA = Actor("pia", frozenset({Role.APPROVER}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("publisher") / "authority"
    authority = Authority.create(path, ISSUER, two_person=False)
    Publisher.init(path, path / "root-keys", holders=1, threshold=1)
    issue(authority)
    yield path
    authority.verify()
    authority.close()


def issue(authority: Authority) -> str:
    """A license in force."""
    id_ = ask(authority, ANN, "submit", {"form": form()})["id"]
    ask(authority, OLGA, "complete", {"id": id_})
    ask(authority, PIA, "decide", {"id": id_, "outcome": "approve", "reason": "r"})
    return str(ask(authority, OLGA, "issue", {"id": id_})["jti"])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_is_the_same_folder_and_brings_only_what_changed(folder: Path, tmp_path: Path) -> None:
    publish_folder(folder, to=tmp_path / "web")
    assert files(tmp_path / "web") == files(folder / "tuf")
    again = mirror(folder / "tuf", tmp_path / "web")
    assert again == 1  # the timestamp alone
    (folder / "tuf" / ".half.tmp").write_text("half written")
    mirror(folder / "tuf", tmp_path / "web")
    assert ".half.tmp" not in files(tmp_path / "web")
    (folder / "tuf" / ".half.tmp").unlink()
    with pytest.raises(PublishError, match="lie in each other"):
        mirror(folder / "tuf", folder / "tuf" / "web")
    with pytest.raises(PublishError, match="nothing was published yet"):
        mirror(tmp_path / "nothing", tmp_path / "web2")


def test_a_published_folder_that_was_lost_is_written_again_with_all_licenses(folder: Path) -> None:
    publish_folder(folder)
    before = {name for name in files(folder / "tuf") if name.startswith("licenses/")}
    assert before
    (folder / "tuf").rename(folder / "lost")
    publish_folder(folder)
    assert {name for name in files(folder / "tuf") if name.startswith("licenses/")} == before


def test_publishers_at_once_take_turns_and_time_only_grows(folder: Path) -> None:
    times: list[list[int]] = [[], []]
    failed: list[Exception] = []

    def work(mine: list[int]) -> None:
        for _ in range(3):
            try:
                mine.append(publish_folder(folder)[1])
            except Exception as error:  # whatever it is, the test shows it
                failed.append(error)
                raise

    threads = [threading.Thread(target=work, args=(mine,)) for mine in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len({*times[0], *times[1]}) == 6
    assert all(mine == sorted(mine) for mine in times)
    timestamp = json.loads((folder / "tuf" / "timestamp.json").read_bytes())["signed"]
    assert timestamp["version"] >= 6


@pytest.mark.parametrize("url", ["http://host", "redis", "", "redis://:secret@host:port/0"])
def test_l7_a_hint_that_cannot_be_sent_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(FormError) as caught:
        check_hint(url)
    assert "secret" not in str(caught.value)


@pytest.mark.slow  # starts a server
def test_gateways_are_told_when_something_was_published(folder: Path) -> None:
    async def hear(url: str) -> bytes:
        async with redis.asyncio.from_url(url) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe("licet:trust")
            await pubsub.get_message(ignore_subscribe_messages=False, timeout=10)
            await asyncio.to_thread(publish_folder, folder, hint=url)
            message = await pubsub.get_message(timeout=10)
            assert message is not None
            return bytes(message["data"])

    with tempfile.TemporaryDirectory(prefix="licet-") as short, contextlib.ExitStack() as stack:
        server = RedisServer(SERVERS["valkey"], Path(short) / "s")
        server.start()
        stack.callback(server.stop)
        assert asyncio.run(hear(server.url)) == b"1"
        server.stop()
        assert asyncio.run(send_hint(server.url)) is False  # a hint that is lost is no failure: gateways poll


def test_a_store_that_was_put_back_from_a_copy_is_not_published(tmp_path: Path) -> None:
    """What was revoked since would be valid again at every gateway."""
    folder = tmp_path / "authority"
    authority = Authority.create(folder, ISSUER, two_person=False)
    Publisher.init(folder, folder / "root-keys", holders=1, threshold=1)
    jti = issue(authority)
    publish_folder(folder)
    authority.close()
    saved = {path: path.read_bytes() for path in folder.glob("authority.db*")}
    authority = Authority.open(folder)
    ask(authority, PIA, "revoke", {"id": jti, "reason": "deceit"})
    authority.close()
    publish_folder(folder)
    before = (folder / "tuf" / "timestamp.json").read_bytes()
    for path in folder.glob("authority.db*"):
        path.unlink()
    for path, data in saved.items():
        path.write_bytes(data)
    with pytest.raises(PublishError, match="copy"):
        publish_folder(folder)
    # Nor when as much, but other things, have happened since.
    authority = Authority.open(folder)
    for _ in range(4):
        issue(authority)
    authority.close()
    with pytest.raises(PublishError, match="copy"):
        publish_folder(folder)
    assert (folder / "tuf" / "timestamp.json").read_bytes() == before
    (folder / "published.json").write_bytes(b"half")
    with pytest.raises(PublishError, match="cannot be read"):
        publish_folder(folder)
    (folder / "published.json").unlink()  # somebody has looked, and brought it up to date
    publish_folder(folder)


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_what_was_published_and_a_log_that_is_whole(tmp_path: Path) -> None:
    """No file may grow beyond what the largest has: as on a full disk, but for this process alone."""
    folder = tmp_path / "authority"
    authority = Authority.create(folder, ISSUER, two_person=False)
    Publisher.init(folder, folder / "root-keys", holders=1, threshold=1)
    issue(authority)
    publish_folder(folder)
    authority.close()
    before = files(folder / "tuf")
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2  # neither of the two could be done
    assert files(folder / "tuf") == before
    authority = Authority.open(folder)
    authority.verify()
    issue(authority)
    authority.close()
    publish_folder(folder)


_FULL = """
import resource, signal, sys
from pathlib import Path
import apsw
from gateway.authority.authority import Authority
from gateway.authority.publisher import publish_folder
from tests.gateway.authority.test_publisher import issue

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
authority = Authority.open(folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_024, 1_024))
try:
    issue(authority)
except apsw.Error as error:
    print(type(error).__name__)
try:
    publish_folder(folder)
except (OSError, apsw.Error) as error:
    print(type(error).__name__)
"""
