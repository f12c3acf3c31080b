"""What goes out goes out whole, in order and to whom it should: copies, lost folders, several publishers, hints."""

from __future__ import annotations

import asyncio
import contextlib
import json
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
