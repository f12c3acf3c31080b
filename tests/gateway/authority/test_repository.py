"""Publishing: what readers find is whole at every moment, roots follow each other, keys stay where they belong."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.authority.ceremony import PublishError, load_signer, make_key, missing, next_root, read_root, sign_root
from gateway.authority.repository import FOLDERS, KEEP_VERSIONS, Expiry, Repository
from gateway.trust import Fault, TrustError, targets
from gateway.trust.targets import is_license_name, is_plain
from gateway.trust.tuf_source import TufSource
from tests.gateway.trust.world import World, license_token, published, status_list


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("template"))
    made.publish()
    return made


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    return template.copy(tmp_path / "world")


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_a_new_repository_has_an_offline_root_with_a_threshold(world: World) -> None:
    root = read_root(world.root).signed
    assert (root.roles["root"].threshold, len(root.roles["root"].keyids)) == (2, 3)
    assert root.consistent_snapshot
    assert modes(world.folder / "root") == {0o600}
    assert sorted(p.name.split("-")[0] for p in (world.folder / "keys").glob("*-*.pem")) == [
        "snapshot",
        "targets",
        "timestamp",
    ]
    assert not list(world.repo.rglob("*.pem"))
    with pytest.raises(PublishError, match="already"):
        Repository.init(world.repo, world.folder / "keys2", world.folder / "root2")


def test_only_what_changed_is_written(world: World) -> None:
    jti, token = license_token()
    same = published(licenses={jti: token})
    first = world.repository.publish(same)
    assert first.licenses == 1
    again = world.repository.publish(same)
    assert (again.targets, again.removed, again.licenses) == ((), (), 0)
    assert again.versions["targets"] == first.versions["targets"]
    assert again.versions["timestamp"] == first.versions["timestamp"] + 1
    less = world.repository.publish(published(statuses=same.statuses, orders={}))
    assert (less.targets, less.removed) == ((), ("orders/authority.jws",))
    assert world.source().fetch().orders == ()


def test_what_followers_would_refuse_is_not_published(world: World) -> None:
    assert {name: tuple(folder) for name, folder in targets.FOLDERS.items()} == dict(FOLDERS)
    for parts in (
        {"keys": b" " * 1_048_577},
        {"statuses": {"x": b"x" * 1_048_577}},
        {"orders": {f"o{number}": b"" for number in range(257)}},
    ):
        with pytest.raises(PublishError, match="nobody reads more"):
            world.repository.publish(published(**parts))


def test_names_that_are_no_plain_files_are_refused(world: World) -> None:
    for parts in (
        {"statuses": {"../x": b""}},
        {"lexicons": {"a/b": b""}},
        {"policies": {".hidden": b""}},
        {"licenses": {"../x": b""}},
    ):
        with pytest.raises(PublishError):
            world.repository.publish(published(**parts))


@pytest.mark.parametrize(
    "name", ["a", "a.b-c_d", "urn:uuid:1", "x" * 200, "", ".a", "-a", "a/b", "..", "a b", "a\n", "é", "x" * 201, "a%2f"]
)
def test_reader_and_publisher_agree_on_names(template: World, name: str) -> None:
    def publishes(parts: dict[str, Any]) -> bool:
        try:
            template.repository.publish(published(**parts))
        except PublishError:
            return False
        return True

    assert publishes({"licenses": {name: b"x"}}) == is_license_name(name)
    if publishes({"lexicons": {name: b"x"}}):
        assert is_plain(f"lexicons/{name}")


def test_a_reader_at_any_moment_finds_a_whole_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands between any two writes of a publication and reads."""
    seen: list[tuple[str, ...]] = []
    old = world.source().fetch().statuses
    new = (status_list(bytes([1] * 8)),)
    put = Repository._put

    def put_and_look(self: Repository, path: Path, data: bytes) -> None:
        put(self, path, data)
        reader = TufSource(str(world.repo), world.root, world.folder / f"reader{len(seen)}")
        found = reader.fetch().statuses
        assert found in (old, new)
        seen.append(("new" if found == new else "old", path.name))

    monkeypatch.setattr(Repository, "_put", put_and_look)
    world.publish(statuses={"main": new[0]})
    assert [state for state, _ in seen] == ["old"] * (len(seen) - 1) + ["new"]
    assert seen[-1][1] == "timestamp.json"
    assert len(seen) >= 4


@pytest.mark.slow
def test_a_key_is_rotated_and_readers_follow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = world.source()
    reader.fetch()
    late = world.source(worker="late")
    late.fetch()
    for role in ("timestamp", "targets"):
        draft = world.rotate_root(role=role)
        put = Repository._put

        def put_and_look(self: Repository, path: Path, data: bytes, put: Any = put) -> None:
            put(self, path, data)
            reader.fetch()  # the old root and the new one both lead to what is there

        monkeypatch.setattr(Repository, "_put", put_and_look)
        world.repository.add_root(draft)
        monkeypatch.setattr(Repository, "_put", put)
        old = read_root(draft).signed.roles[role].keyids[0]
        root = next_root(world.repository.root(), now_s=time.time(), remove=[(role, old)])
        for number in (1, 3):
            root = sign_root(root, load_signer(world.folder / "root" / f"root-{number}.pem"))
        world.repository.add_root(root)
        world.publish()
        assert reader.fetch().version == f"tuf-{world.repository.versions()['snapshot']}"
    assert late.fetch().version == reader.fetch().version  # over four roots at once
    assert late.facts().versions["root"] == 5


def test_a_root_key_is_replaced(world: World) -> None:
    """One holder lost the key: two others put a new one in its place."""
    new = make_key(world.folder / "root" / "root-4.pem")
    lost = load_signer(world.folder / "root" / "root-3.pem").public_key.keyid
    draft = next_root(world.root, now_s=time.time(), add=[("root", new)], remove=[("root", lost)])
    for number in (1, 4):
        draft = sign_root(draft, load_signer(world.folder / "root" / f"root-{number}.pem"))
    assert missing(draft, world.root) == ("1 more signatures of the keys before it",)
    with pytest.raises(PublishError, match="1 more"):
        world.repository.add_root(draft)
    draft = sign_root(draft, load_signer(world.folder / "root" / "root-2.pem"))
    assert missing(draft, world.root) == ()
    assert world.repository.add_root(draft) == 2
    world.publish()
    assert world.source().fetch().statuses


def test_a_root_that_skips_a_version_is_not_published(world: World) -> None:
    draft = next_root(world.rotate_root(), now_s=time.time())
    for number in (1, 2):
        draft = sign_root(draft, load_signer(world.folder / "root" / f"root-{number}.pem"))
    with pytest.raises(PublishError, match="does not follow"):
        world.repository.add_root(draft)


def test_a_threshold_that_cannot_be_met_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="never be met"):
        next_root(world.root, now_s=time.time(), thresholds={"targets": 2})
    with pytest.raises(PublishError, match="threshold"):
        Repository.init(tmp_path / "x", tmp_path / "y", tmp_path / "z", holders=1, threshold=2)


def test_a_passphrase_locks_a_root_key(tmp_path: Path) -> None:
    path = tmp_path / "root.pem"
    make_key(path, b"correct horse")
    assert load_signer(path, b"correct horse").public_key.keytype == "ed25519"
    for wrong in (None, b"other"):
        with pytest.raises(PublishError) as caught:
            load_signer(path, wrong)
        assert "horse" not in str(caught.value)
    with pytest.raises(PublishError, match="never overwritten"):
        make_key(path)


def test_a_broken_web_server_is_never_signed_for(world: World) -> None:
    stranger = World(world.folder / "stranger")
    stranger.publish(statuses={})
    shutil.rmtree(world.repo)
    shutil.copytree(stranger.repo, world.repo)
    with pytest.raises(PublishError, match="does not verify"):
        world.repository.refresh_timestamp()
    with pytest.raises(PublishError, match="does not verify"):
        world.publish()


def test_a_published_folder_that_was_lost_is_written_anew(world: World) -> None:
    world.repository.add_root(world.rotate_root())
    reader = world.source()
    before = reader.fetch()
    seen = reader.facts().versions
    shutil.rmtree(world.repo)
    world.publish()
    after = reader.fetch()  # no step back for those who have seen more
    assert after.version != before.version
    assert reader.facts().versions == {role: version + (role != "root") for role, version in seen.items()}
    assert world.source(worker="new").fetch() == after  # and the way over all roots is there


def test_a_published_folder_that_was_put_back_goes_on(world: World) -> None:
    old = world.saved("old")
    world.publish(statuses={"main": status_list(bytes([1]))})
    reader = world.source()
    reader.fetch()
    shutil.rmtree(world.repo)
    shutil.copytree(old, world.repo)
    newest = status_list(bytes([2]))
    world.publish(statuses={"main": newest})
    assert reader.fetch().statuses == (newest,)


def test_a_lost_key_is_said(world: World) -> None:
    (key,) = (world.folder / "keys").glob("snapshot-*.pem")
    key.unlink()
    with pytest.raises(PublishError, match="0 keys of snapshot are here"):
        world.publish()


def test_signatures_are_renewed_before_they_end(tmp_path: Path) -> None:
    world = World(tmp_path, expires=Expiry(timestamp_s=60, snapshot_s=600, targets_s=6_000))
    world.publish()
    assert world.repository.refresh_timestamp() == 2
    assert world.repository.versions() == {"root": 1, "timestamp": 2, "snapshot": 1, "targets": 1}
    world.shift_s = 61
    world.repository.refresh_timestamp()
    world.shift_s = 400
    world.repository.refresh_timestamp()
    assert world.repository.versions() == {"root": 1, "timestamp": 4, "snapshot": 2, "targets": 1}
    world.shift_s = 3_500
    world.repository.refresh_timestamp()
    assert world.repository.versions() == {"root": 1, "timestamp": 5, "snapshot": 3, "targets": 2}


def test_an_authority_that_stops_signing_is_noticed(tmp_path: Path) -> None:
    world = World(tmp_path, ago_s=7_200)
    world.publish()
    with pytest.raises(TrustError) as caught:
        world.source().fetch()
    assert caught.value.fault is Fault.EXPIRED
    world.shift_s = 0
    world.repository.refresh_timestamp()
    assert world.source().fetch().statuses


@pytest.mark.slow
def test_old_versions_go_but_readers_in_the_middle_are_served(world: World) -> None:
    for number in range(KEEP_VERSIONS + 5):
        world.publish(statuses={"main": status_list(bytes([number % 3]), iat=1_700_000_000 + number)})
    assert world.repository.prune() == 0  # none is old enough
    for path in world.repo.rglob("*"):
        os.utime(path, (0, 0))
    before = len(list(world.repo.rglob("*")))
    gone = world.repository.prune()
    assert gone > 0
    assert len(list(world.repo.rglob("*"))) == before - gone
    assert len(list(world.repo.glob("*.targets.json"))) == KEEP_VERSIONS
    assert len(list((world.repo / "targets" / "status").iterdir())) == KEEP_VERSIONS
    assert world.source().fetch().statuses


@pytest.mark.slow
def test_a_publisher_that_was_killed_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dies before each of its writes in turn; the next publication is whole."""
    put = Repository._put
    for count in range(4):
        left = [count]

        def dying(self: Repository, path: Path, data: bytes, left: list[int] = left) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            put(self, path, data)

        monkeypatch.setattr(Repository, "_put", dying)
        with pytest.raises(KeyboardInterrupt):
            world.publish(statuses={"main": status_list(bytes([count]))})
        monkeypatch.setattr(Repository, "_put", put)
        world.source().fetch()
        world.publish(statuses={"main": status_list(bytes([count, 1]))})
        assert world.source().fetch().version == f"tuf-{world.repository.versions()['snapshot']}"


def test_nothing_is_published_under_a_root_that_has_ended(world: World) -> None:
    """Readers would take up nothing, and whoever publishes would not know."""
    world.repository.add_root(world.rotate_root(days=1))
    world.shift_s = 2 * 86_400.0
    with pytest.raises(PublishError, match="ceremony"):
        world.publish(statuses={})
    with pytest.raises(PublishError, match="ceremony"):
        world.repository.refresh_timestamp()
    world.repository.add_root(world.rotate_root())
    world.publish(statuses={})
