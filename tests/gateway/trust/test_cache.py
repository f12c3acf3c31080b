"""What is kept on the disk: verified when it is read back, whole after a kill, never a reason to trust more."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Timestamp  # type: ignore[attr-defined]  # documented there, not re-exported
from typer.testing import CliRunner

from gateway.authority.ceremony import load_signer, next_root, read_root, sign_root
from gateway.trust import Fault, TrustError
from gateway.trust.cache import Cache
from gateway.trust.cli import app
from gateway.trust.tuf_source import TufSource
from tests.fakes.repository import RepositoryServer, silence
from tests.gateway.trust.world import World, license_token, published, status_list

CLI = CliRunner()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A repository in version 1 with a license, and a worker's cache of it."""
    made = World(tmp_path_factory.mktemp("template"))
    jti, token = license_token()
    made.repository.publish(published(licenses={jti: token}))
    made.source(licenses=[jti]).fetch()
    (made.folder / "jti").write_text(jti)
    return made


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    """The same for one test alone."""
    return template.copy(tmp_path / "world")


def cache(world: World) -> Path:
    return world.folder / "trust" / "0"


def test_a_kept_set_is_used_without_the_repository(world: World) -> None:
    jti = (world.folder / "jti").read_text()
    shutil.rmtree(world.repo)
    source = world.source(licenses=[jti])
    material = source.cached()
    assert material is not None
    assert (material.version, list(material.licenses), len(material.statuses)) == ("tuf-1", [jti], 1)
    assert source.facts().versions["targets"] == 1


def test_a_kept_set_is_handed_out_even_when_it_has_expired(world: World) -> None:
    good = cache(world) / "good.json"
    kept = json.loads(good.read_bytes())
    timestamp = Metadata[Timestamp].from_bytes(kept["timestamp"].encode())
    timestamp.signed.expires = timestamp.signed.expires.replace(year=2020)
    (key,) = (world.folder / "keys").glob("timestamp-*.pem")
    timestamp.sign(load_signer(key))
    good.write_text(json.dumps(kept | {"timestamp": timestamp.to_bytes().decode()}))
    material = world.source().cached()
    assert material is not None
    assert material.expires_at_s == int(timestamp.signed.expires.timestamp())
    assert len(material.statuses) == 1


def spoil(pattern: str, how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        paths = [path for path in folder.glob(pattern) if path.is_file()]
        assert paths
        for path in paths:
            path.write_bytes(how(path.read_bytes()))

    return do


SPOILED = [
    pytest.param(spoil("good.json", lambda data: data[:-10]), id="good.json cut"),
    pytest.param(spoil("good.json", lambda data: b""), id="good.json empty"),
    pytest.param(spoil("good.json", lambda data: data.replace(b'\\"version\\":1', b'\\"version\\":2')), id="good.json altered"),
    pytest.param(spoil("files/*", lambda data: data + b"x"), id="contents altered"),
    pytest.param(spoil("files/*", lambda data: b""), id="contents empty"),
]  # fmt: skip


@pytest.mark.parametrize("harm", SPOILED)
def test_a_harmed_cache_is_not_believed_and_is_rebuilt(world: World, harm: Callable[[Path], None]) -> None:
    harm(cache(world))
    source = world.source()
    assert source.cached() is None
    assert source.fetch().version == "tuf-1"
    assert world.source().cached() is not None


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json", "root_history/1.root.json"])
def test_harmed_metadata_is_fetched_again(world: World, name: str) -> None:
    for how in (lambda data: b"", lambda data: data[:100], lambda data: b"\xff" * 10):
        spoil(f"tuf/{name}", how)(cache(world))
        assert world.source().fetch().version == "tuf-1"


def test_a_cache_written_by_a_stranger_is_not_believed(world: World) -> None:
    stranger = World(world.folder / "stranger")
    stranger.publish()
    stranger.source().fetch()
    shutil.rmtree(cache(world))
    shutil.copytree(cache(stranger), cache(world))
    source = world.source()
    assert source.cached() is None
    assert source.fetch().version == "tuf-1"


def test_versions_do_not_go_back_when_the_cache_is_lost_in_between(world: World) -> None:
    one = world.saved("one")
    world.publish(statuses={"main": status_list(bytes([1]))})
    with RepositoryServer(world.repo) as server:
        source = world.source(server.url)
        source.fetch()
        shutil.rmtree(cache(world))
        server.folder = one
        with pytest.raises(TrustError) as caught:
            source.fetch()
    assert caught.value.fault is Fault.ROLLBACK


def test_a_good_set_lost_to_a_revoked_key_is_not_used(world: World) -> None:
    """The root took the targets' key away: what it signed does not count any more, kept or not."""
    old = read_root(world.root).signed.roles["targets"].keyids[0]
    new = world.repository.new_key("targets")
    root = next_root(world.root, now_s=time.time(), add=[("targets", new)], remove=[("targets", old)])
    for number in (1, 2):
        root = sign_root(root, load_signer(world.folder / "root" / f"root-{number}.pem"))
    (cache(world) / "tuf" / "root_history" / "2.root.json").write_bytes(root)
    assert world.source().cached() is None


def test_another_process_in_the_same_folder_is_noticed(world: World) -> None:
    with Cache(cache(world)).locked(), pytest.raises(TrustError, match="another process"):
        world.source().fetch()
    assert world.source().fetch().statuses


def test_a_folder_that_cannot_be_used_is_named(world: World) -> None:
    shutil.rmtree(cache(world))
    cache(world).write_text("a file")
    with pytest.raises(TrustError) as caught:
        world.source().fetch()
    assert caught.value.fault is Fault.CACHE
    assert "make it writable" in str(caught.value)


_KILLED = """
import sys
from pathlib import Path
from gateway.trust.tuf_source import TufSource
TufSource(sys.argv[1], Path(sys.argv[2]).read_bytes(), Path(sys.argv[3])).fetch()
"""


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_refresh_leaves_a_usable_cache(world: World) -> None:
    world.publish(statuses={"main": status_list(bytes([1]))})
    with RepositoryServer(world.repo) as server:
        server.does[".main.jwt"] = silence  # metadata is new already, the list never comes
        command = [sys.executable, "-c", _KILLED, server.url, str(world.folder / "root.json"), str(cache(world))]
        with subprocess.Popen(command) as process:
            while not any(path.endswith(".main.jwt") for path in server.paths()):
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        server.does.clear()
        source = world.source(server.url)
        material = source.cached()
        assert material is not None
        assert material.version == "tuf-1"
        assert source.fetch().version == "tuf-2"


_KILLS_ITSELF = """
import os, sys, threading
from pathlib import Path
from gateway.trust.tuf_source import TufSource
source = TufSource(sys.argv[1], Path(sys.argv[2]).read_bytes(), Path(sys.argv[3]))
threading.Timer(float(sys.argv[4]), lambda: os.kill(os.getpid(), 9)).start()
source.fetch()
"""


@pytest.mark.slow
def test_kills_at_any_moment_leave_a_usable_cache(world: World) -> None:
    root = str(world.folder / "root.json")
    for turn in range(20):
        world.publish(statuses={"main": status_list(bytes([1, turn % 3]), iat=1_700_000_000 + turn)})
        after_s = str(turn * 0.002)
        subprocess.run(
            [sys.executable, "-c", _KILLS_ITSELF, str(world.repo), root, str(cache(world)), after_s], check=False
        )
        assert world.source().cached() is not None
    assert world.source().fetch().version == f"tuf-{world.repository.versions()['snapshot']}"


def test_a_copy_is_carried_by_hand(world: World) -> None:
    jti = (world.folder / "jti").read_text()
    out, root = world.folder / "stick", str(world.folder / "root.json")
    world.repository.add_root(world.rotate_root())
    ran = CLI.invoke(app, ["fetch", "--tuf", str(world.repo), "--root", root, "--out", str(out), "--license", jti])
    assert ran.exit_code == 0, ran.output
    carried = TufSource(str(out), world.root, world.folder / "far", licenses=[jti])
    assert list(carried.fetch().licenses) == [jti]
    assert carried.facts().versions["root"] == 2
    world.publish(statuses={"main": status_list(bytes([1]))})
    ran = CLI.invoke(app, ["fetch", "--tuf", str(world.repo), "--root", root, "--out", str(out), "--json"])
    assert ran.exit_code == 0, ran.output
    assert carried.fetch().version == f"tuf-{world.repository.versions()['snapshot']}"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        pytest.param(["--tuf", "ftp://x"], 2, "ftp", id="address"),
        pytest.param(["--tuf", "/nowhere"], 1, "missing: timestamp.json", id="no repository"),
        pytest.param(["--root", "/nowhere"], 2, "No such file", id="no root"),
        pytest.param(["--root", "/dev/null"], 2, "not a root", id="empty root"),
        pytest.param(["--license", "nobody"], 1, "license nobody", id="no license"),
        pytest.param(["--license", "../x"], 2, "name a file", id="odd license"),
    ],
)
def test_a_fetch_that_fails_says_why(world: World, arguments: list[str], code: int, says: str) -> None:
    given = {"--tuf": str(world.repo), "--root": str(world.folder / "root.json"), "--out": str(world.folder / "out")}
    given[arguments[0]] = arguments[1]
    ran = CLI.invoke(app, ["fetch", *(part for pair in given.items() for part in pair)])
    assert (ran.exit_code, says in ran.output) == (code, True), ran.output
