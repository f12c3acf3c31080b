"""A repository that misbehaves, over real sockets: each attack is refused under its name, and the good set stays."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]  # documented there, not re-exported
from tuf.api.metadata import (  # type: ignore[attr-defined]  # likewise
    Metadata,
    MetaFile,
    TargetFile,
    Targets,
)

from gateway.authority.ceremony import load_signer
from gateway.errors import ConfigError
from gateway.license.issuer import generate_key
from gateway.trust import Fault, TrustError
from gateway.trust.fetch import Reach
from gateway.trust.tuf_source import Limits, TufSource
from tests.fakes.pki import Pki, new_key
from tests.fakes.repository import (
    HEAD,
    RepositoryServer,
    body,
    drip_after,
    endless,
    endless_chunks,
    raw,
    reset_after,
    silence,
)
from tests.gateway.trust.world import World, follow, license_token, published, status_list

REVOKED = bytes([1] * 8)


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path, Path]:
    """A world with two saved states: `one`, and `two` in which all is revoked."""
    world = World(tmp_path_factory.mktemp("world"))
    world.publish()
    one = world.saved("one")
    world.publish(statuses={"main": status_list(REVOKED)})
    two = world.saved("two")
    for number in range(3, 6):  # some attacks use versions up to 3: what is well again has come further
        world.publish(statuses={"main": status_list(bytes([number % 3]))})
    world.saved("well")
    return world, one, two


class Followed:
    """A server over a copy of a state, and a source that follows it."""

    def __init__(self, world: World, state: Path, server: RepositoryServer, folder: Path) -> None:
        self.world = world
        self.server = server
        self.folder = folder / "served"
        self.source = TufSource(server.url, world.root, folder / "cache", limits=Limits(timeout_s=0.4, deadline_s=0.8))
        self.serve(state)

    def serve(self, state: Path) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(state, self.folder)
        self.server.folder = self.folder

    def signer(self, role: str) -> CryptoSigner:
        (path,) = (self.world.folder / "keys").glob(f"{role}-*.pem")
        return load_signer(path)

    def read(self, name: str) -> Metadata[Any]:
        return Metadata[Any].from_bytes((self.folder / name).read_bytes())

    def write(self, name: str, made: Metadata[Any], role: str | None = None) -> bytes:
        """Puts metadata in its place, signed anew with the role's own key if one is named."""
        if role is not None:
            made.signatures.clear()
            made.sign(self.signer(role))
        data: bytes = made.to_bytes()
        (self.folder / name).write_bytes(data)
        return data

    def publish_targets(self, change: Callable[[Targets], None]) -> None:
        """A state of version 3 in which the targets are changed, with all signatures: an authority that went mad."""
        targets = self.read("2.targets.json")
        targets.signed.version = 3
        change(targets.signed)
        data = self.write("3.targets.json", targets, "targets")
        snapshot = self.read("2.snapshot.json")
        snapshot.signed.version = 3
        snapshot.signed.meta["targets.json"] = MetaFile.from_data(3, data, ["sha256"])
        data = self.write("3.snapshot.json", snapshot, "snapshot")
        timestamp = self.read("timestamp.json")
        timestamp.signed.version = 3
        timestamp.signed.snapshot_meta = MetaFile.from_data(3, data, ["sha256"])
        self.write("timestamp.json", timestamp, "timestamp")

    def refused(self) -> TrustError:
        # A collection at the bottom of a deep document would run finalizers of other tests where they have no stack left.
        gc.disable()
        try:
            with pytest.raises(TrustError) as caught:
                self.source.fetch()
        finally:
            gc.enable()
        return caught.value


@pytest.fixture
def at_one(states: tuple[World, Path, Path], tmp_path: Path) -> Iterator[Followed]:
    """Follows, and has taken state one; state two is served from now on."""
    world, one, two = states
    with RepositoryServer(one) as server:
        followed = Followed(world, one, server, tmp_path)
        followed.source.fetch()
        followed.serve(two)
        server.seen.clear()
        yield followed


def test_an_update_is_taken(at_one: Followed) -> None:
    before = at_one.source.fetch()
    assert at_one.source.facts().versions == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}
    assert at_one.source.fetch() is before  # nothing new: the same set
    assert at_one.source.facts().requests == 2


def older_snapshot(at: Followed) -> None:
    """Signed with the timestamp's own key, which an attacker on the online machine may have."""
    old = at.world.folder / "one"
    at.source.fetch()
    timestamp = at.read("timestamp.json")
    timestamp.signed.version = 3
    timestamp.signed.snapshot_meta = MetaFile.from_data(1, (old / "1.snapshot.json").read_bytes(), ["sha256"])
    at.write("timestamp.json", timestamp, "timestamp")


def older_targets(at: Followed) -> None:
    """Signed with both online keys: the targets' key alone holds."""
    at.source.fetch()
    snapshot = at.read("2.snapshot.json")
    snapshot.signed.version = 3
    old = (at.world.folder / "one" / "1.targets.json").read_bytes()
    snapshot.signed.meta["targets.json"] = MetaFile.from_data(1, old, ["sha256"])
    data = at.write("3.snapshot.json", snapshot, "snapshot")
    timestamp = at.read("timestamp.json")
    timestamp.signed.version = 3
    timestamp.signed.snapshot_meta = MetaFile.from_data(3, data, ["sha256"])
    at.write("timestamp.json", timestamp, "timestamp")


def older_all(at: Followed) -> None:
    at.source.fetch()
    at.serve(at.world.folder / "one")


def frozen(at: Followed) -> None:
    timestamp = at.read("timestamp.json")
    timestamp.signed.expires = timestamp.signed.expires.replace(year=2020)
    at.write("timestamp.json", timestamp, "timestamp")


def foreign_signature(at: Followed) -> None:
    timestamp = at.read("timestamp.json")
    timestamp.signatures.clear()
    timestamp.sign(CryptoSigner.generate_ed25519())
    at.write("timestamp.json", timestamp)


def other_role(at: Followed) -> None:
    """The snapshot's key has no say in the timestamp."""
    timestamp = at.read("timestamp.json")
    at.write("timestamp.json", timestamp, "snapshot")


def altered_timestamp(at: Followed) -> None:
    timestamp = at.read("timestamp.json")
    timestamp.signed.version = 9
    at.write("timestamp.json", timestamp)


def altered_snapshot(at: Followed) -> None:
    path = at.folder / "2.snapshot.json"
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":3'))


def mixed_snapshot(at: Followed) -> None:
    shutil.copy(at.folder / "1.snapshot.json", at.folder / "2.snapshot.json")


def mixed_targets(at: Followed) -> None:
    shutil.copy(at.folder / "1.targets.json", at.folder / "2.targets.json")


def target_file(at: Followed) -> Path:
    (new,) = (
        p
        for p in (at.folder / "targets" / "status").iterdir()
        if at.read("2.targets.json").signed.targets["status/main.jwt"].hashes["sha256"] in p.name
    )
    return new


def altered_target(at: Followed) -> None:
    path = target_file(at)
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)


def old_target(at: Followed) -> None:
    """The status list in which nothing is revoked, under the new one's name."""
    path = target_file(at)
    (old,) = (p for p in path.parent.iterdir() if p != path)
    shutil.copy(old, path)


def missing_target(at: Followed) -> None:
    target_file(at).unlink()


def missing_snapshot(at: Followed) -> None:
    (at.folder / "2.snapshot.json").unlink()


def bad_root(at: Followed) -> None:
    """A next root that one holder alone has signed."""
    (at.folder / "2.root.json").write_bytes(at.world.rotate_root(signers=1))


def skipping_root(at: Followed) -> None:
    """A root that claims to come later than the next."""
    root = json.loads(at.world.root)
    root["signed"]["version"] = 3
    (at.folder / "2.root.json").write_bytes(json.dumps(root).encode())


def names(name: str, length: int = 3) -> Callable[[Followed], None]:
    def attack(at: Followed) -> None:
        def change(targets: Targets) -> None:
            targets.targets[name] = TargetFile.from_data(name, b"x" * length, ["sha256"])

        at.publish_targets(change)

    return attack


def no_sha256(at: Followed) -> None:
    def change(targets: Targets) -> None:
        targets.targets["status/main.jwt"] = TargetFile(3, {"sha512": "0" * 128}, "status/main.jwt")

    at.publish_targets(change)


def odd_hash(at: Followed) -> None:
    """A hash becomes part of the address that is asked for."""

    def change(targets: Targets) -> None:
        targets.targets["status/main.jwt"] = TargetFile(
            3, {"sha512": "../../../../etc/passwd#", "sha256": "0" * 64}, "status/main.jwt"
        )

    at.publish_targets(change)


def no_targets_in_snapshot(at: Followed) -> None:
    snapshot = at.read("2.snapshot.json")
    snapshot.signed.version = 3
    snapshot.signed.meta = {"else.json": MetaFile(1)}
    data = at.write("3.snapshot.json", snapshot, "snapshot")
    timestamp = at.read("timestamp.json")
    timestamp.signed.version = 3
    timestamp.signed.snapshot_meta = MetaFile.from_data(3, data, ["sha256"])
    at.write("timestamp.json", timestamp, "timestamp")


def answers(end: str, answer: Any) -> Callable[[Followed], None]:
    def attack(at: Followed) -> None:
        at.server.does[end] = answer

    return attack


def deep(at: Followed) -> None:
    (at.folder / "timestamp.json").write_bytes(b"[" * 8_000)


ATTACKS = [
    pytest.param(older_all, Fault.ROLLBACK, id="the whole repository as it was"),
    pytest.param(older_snapshot, Fault.ROLLBACK, id="an older snapshot"),
    pytest.param(older_targets, Fault.ROLLBACK, id="older targets"),
    pytest.param(frozen, Fault.EXPIRED, id="an expired timestamp"),
    pytest.param(foreign_signature, Fault.SIGNATURE, id="signed by a stranger"),
    pytest.param(other_role, Fault.SIGNATURE, id="signed by another role"),
    pytest.param(altered_timestamp, Fault.SIGNATURE, id="an altered timestamp"),
    pytest.param(altered_snapshot, Fault.MISMATCH, id="an altered snapshot"),
    pytest.param(mixed_snapshot, Fault.MISMATCH, id="the snapshot of another version"),
    pytest.param(mixed_targets, Fault.MISMATCH, id="the targets of another version"),
    pytest.param(altered_target, Fault.MISMATCH, id="an altered target"),
    pytest.param(old_target, Fault.MISMATCH, id="an older target"),
    pytest.param(missing_target, Fault.MISSING, id="a missing target"),
    pytest.param(missing_snapshot, Fault.MISSING, id="a missing snapshot"),
    pytest.param(bad_root, Fault.SIGNATURE, id="a root below its threshold"),
    pytest.param(skipping_root, Fault.SIGNATURE, id="a root that skips a version"),
    pytest.param(no_targets_in_snapshot, Fault.MALFORMED, id="a snapshot without targets"),
    pytest.param(names("../keys.json"), Fault.NAME, id="a name that leads up"),
    pytest.param(names("/etc/passwd"), Fault.NAME, id="a name from the root"),
    pytest.param(names("status/../../x.jwt"), Fault.NAME, id="a name that leads up later"),
    pytest.param(names("status\\x.jwt"), Fault.NAME, id="a name with a backslash"),
    pytest.param(names("status/x.jwt?y"), Fault.NAME, id="a name with a query"),
    pytest.param(names("status/%2e%2e/x.jwt"), Fault.NAME, id="a name with escapes"),
    pytest.param(names("status/\x1b[31mx.jwt"), Fault.NAME, id="a name that writes to terminals"),
    pytest.param(names("status/big.jwt", 1_048_577), Fault.TOO_LARGE, id="a target that is too large"),
    pytest.param(no_sha256, Fault.MALFORMED, id="a target without SHA-256"),
    pytest.param(odd_hash, Fault.MALFORMED, id="a hash that leads elsewhere"),
    pytest.param(answers("timestamp.json", body(b"{}")), Fault.MALFORMED, id="an empty object"),
    pytest.param(answers("timestamp.json", body(b"\xff\x00<html>")), Fault.MALFORMED, id="no JSON"),
    pytest.param(deep, Fault.MALFORMED, id="deep JSON"),
    pytest.param(answers("timestamp.json", endless), Fault.TOO_LARGE, id="a body without an end"),
    pytest.param(answers("2.snapshot.json", endless_chunks), Fault.TOO_LARGE, id="chunks without an end"),
    pytest.param(answers(".main.jwt", endless), Fault.TOO_LARGE, id="a target without an end"),
    pytest.param(
        answers("timestamp.json", raw(HEAD + b"Content-Length: 99999999999\r\n\r\n{}")),
        Fault.UNREACHABLE,
        id="a huge length that does not come",
    ),
    pytest.param(answers("timestamp.json", reset_after(HEAD + b"Content-Length: 500\r\n\r\n{")), Fault.UNREACHABLE, id="a reset in the body"),
    pytest.param(answers("2.root.json", reset_after(b"")), Fault.UNREACHABLE, id="a reset before the answer"),
    pytest.param(answers("timestamp.json", raw(b"garbage\r\n\r\n")), Fault.UNREACHABLE, id="no HTTP"),
    pytest.param(answers("timestamp.json", raw(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")), Fault.UNREACHABLE, id="a server's error"),
    pytest.param(
        answers("timestamp.json", raw(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")),
        Fault.UNREACHABLE,
        id="a redirect",
    ),
    pytest.param(answers("timestamp.json", raw(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n")), Fault.MISSING, id="no timestamp"),
]  # fmt: skip

SLOW = [
    pytest.param(answers("timestamp.json", silence), id="silence"),
    pytest.param(answers("timestamp.json", drip_after(HEAD + b"Content-Length: 9000\r\n\r\n")), id="a drip of body"),
    pytest.param(answers("timestamp.json", drip_after(HEAD + b"\r\n")), id="a drip without a length"),
    pytest.param(answers("timestamp.json", drip_after(b"HTTP/1.1 200 OK\r\nX: ")), id="a drip of headers"),
    pytest.param(answers(".main.jwt", drip_after(HEAD + b"Content-Length: 9000\r\n\r\n")), id="a drip of target"),
]


# A few of them for each change of the code, all of them where there is time.
FEW = [
    param
    for param in ATTACKS
    if param.values[0]
    in (older_all, older_snapshot, older_targets, frozen, foreign_signature, mixed_snapshot, mixed_targets, old_target)
    or param.id in ("a name that leads up", "a reset in the body", "a body without an end", "deep JSON")
]


@pytest.mark.parametrize(("attack", "fault"), FEW)
def test_an_attack_is_refused_by_name(at_one: Followed, attack: Callable[[Followed], None], fault: Fault) -> None:
    attack(at_one)
    error = at_one.refused()
    assert error.fault is fault, str(error)
    assert str(error).isprintable()


@pytest.mark.slow
@pytest.mark.parametrize(("attack", "fault"), [param for param in ATTACKS if param not in FEW])
def test_more_attacks_are_refused_by_name(at_one: Followed, attack: Callable[[Followed], None], fault: Fault) -> None:
    attack(at_one)
    error = at_one.refused()
    assert error.fault is fault, str(error)
    assert str(error).isprintable()


@pytest.mark.parametrize("attack", SLOW[2:4])
def test_a_slow_server_is_left(at_one: Followed, attack: Callable[[Followed], None]) -> None:
    attack(at_one)
    assert at_one.refused().fault is Fault.TOO_SLOW


@pytest.mark.slow
@pytest.mark.parametrize("attack", [param.values[0] for param in [*ATTACKS, *SLOW]])
def test_the_good_set_stays_and_following_recovers(
    states: tuple[World, Path, Path], tmp_path: Path, attack: Callable[[Followed], None]
) -> None:
    world, one, two = states
    with RepositoryServer(one) as server:
        followed = Followed(world, one, server, tmp_path)

        async def use(follower: Any) -> None:
            assert follower.status().fresh
            followed.serve(two)
            attack(followed)
            good = followed.source.facts().versions["snapshot"]
            status = await follower.refreshed()
            assert status.last_error
            assert not status.fresh
            assert follower.current.version in {"tuf-1", f"tuf-{good}"}
            assert follower.current.statuses
            server.does.clear()
            followed.serve(world.folder / "well")
            status = await follower.refreshed()
            assert status.last_error == ""
            assert (status.fresh, follower.current.version) == (True, "tuf-5")

        follow(followed.source, use)


@pytest.mark.parametrize("end", ["timestamp.json", "2.targets.json"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_altered_metadata_never_counts(at_one: Followed, end: str, data: st.DataObject) -> None:
    _fuzz(at_one, end, data)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["timestamp.json", "2.snapshot.json", "2.targets.json", "2.root.json"])
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_altered_metadata_never_counts_at_length(at_one: Followed, end: str, data: st.DataObject) -> None:
    _fuzz(at_one, end, data)


def _fuzz(at: Followed, end: str, data: st.DataObject) -> None:
    good = (at.folder / end).read_bytes() if end != "2.root.json" else at.world.root
    kind = data.draw(st.sampled_from(["bytes", "flip", "cut", "value"]))
    if kind == "bytes":
        bad = data.draw(st.binary(max_size=300))
    elif kind == "flip":
        made = bytearray(good)
        for _ in range(data.draw(st.integers(1, 4))):
            made[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
        bad = bytes(made)
    elif kind == "cut":
        bad = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        bad = json.dumps(_other_value(json.loads(good), data)).encode()
    at.server.does = {end: body(bad)}
    at.server.seen.clear()
    fault = None
    try:
        at.source.fetch()
    except TrustError as error:
        fault = error.fault
    assert fault is not Fault.INTERNAL
    if fault is None and end in [path.lstrip("/") for path in at.server.paths()]:
        # It counts only if it says the same once read: white space, and members outside of what is signed, are free.
        assert Metadata[Any].from_bytes(bad).signed == Metadata[Any].from_bytes(good).signed


def _other_value(made: Any, data: st.DataObject) -> Any:
    """The document with one value somewhere in it replaced."""
    odd: st.SearchStrategy[Any] = st.sampled_from(
        [None, -1, 0, 10**400, 1.5, "", "x" * 100, [], {}, [[]], {"a": {}}, True, "2020-01-01T00:00:00Z"]
    )
    here = made
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(here[key], dict | list) and here[key] and data.draw(st.booleans()):
            here = here[key]
            continue
        here[key] = data.draw(odd)
        return made


def test_the_wrong_root_trusts_nothing(states: tuple[World, Path, Path], tmp_path: Path) -> None:
    _, one, _ = states
    stranger = World(tmp_path / "stranger")
    with RepositoryServer(one) as server, pytest.raises(TrustError) as caught:
        TufSource(server.url, stranger.root, tmp_path / "cache").fetch()
    assert caught.value.fault is Fault.SIGNATURE


def test_a_proxy_of_the_environment_is_not_followed(at_one: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert at_one.source.fetch().version == "tuf-2"


def test_l7_a_proxy_is_used_when_named_and_its_password_is_never_said(
    states: tuple[World, Path, Path], tmp_path: Path
) -> None:
    world, one, _ = states
    with RepositoryServer(one) as server:
        proxy = server.url.replace("http://", "http://user:secret-word@")
        source = TufSource("http://authority.invalid", world.root, tmp_path / "a", reach=Reach(proxy))
        assert source.fetch().version == "tuf-1"
        assert server.seen[0][1]["proxy-authorization"].startswith("Basic ")
    with pytest.raises(TrustError) as caught:
        source.fetch()
    said = str(caught.value) + repr(caught.value.__cause__) + repr(Reach(proxy)) + source.name
    assert "secret-word" not in said


@pytest.mark.slow
def test_tls_is_checked_against_the_certificates_named(states: tuple[World, Path, Path], tmp_path: Path) -> None:
    world, one, two = states
    pki = Pki(tmp_path)
    limits = Limits(timeout_s=0.4, deadline_s=0.8)
    with RepositoryServer(one, pki.server(new_key())) as server:
        source = TufSource(server.url, world.root, tmp_path / "a", reach=Reach(ca_file=pki.ca_file), limits=limits)
        assert source.fetch().version == "tuf-1"
        server.folder = two
        for answer in (drip_after(HEAD + b"\r\n"), drip_after(b"HTTP/1.1 200 OK\r\nX: "), silence):
            server.does["timestamp.json"] = answer
            with pytest.raises(TrustError) as caught:
                source.fetch()
            assert caught.value.fault is Fault.TOO_SLOW
        server.does.clear()
        assert source.fetch().version == "tuf-2"
        with pytest.raises(TrustError) as caught:
            TufSource(server.url, world.root, tmp_path / "b").fetch()
        assert caught.value.fault is Fault.UNREACHABLE
        assert "CERTIFICATE_VERIFY_FAILED" in caught.value.detail
    with pytest.raises(ConfigError, match="no certificates"):
        TufSource(server.url, world.root, tmp_path / "c", reach=Reach(ca_file=tmp_path / "none.pem"))


def test_a_server_that_is_gone_is_unreachable(at_one: Followed) -> None:
    at_one.server.__exit__(None, None, None)
    at_one.server.__init__(at_one.folder)  # type: ignore[misc]  # the fixture leaves a server that is open
    assert at_one.refused().fault is Fault.UNREACHABLE


def test_stopping_cuts_a_refresh_that_waits(at_one: Followed) -> None:
    def stop(connection: Any, server: RepositoryServer) -> None:
        at_one.source.abort()
        server.ended.wait()

    at_one.source = TufSource(
        at_one.server.url, at_one.world.root, at_one.folder.parent / "c2", limits=Limits(timeout_s=60, deadline_s=60)
    )
    at_one.server.does["timestamp.json"] = stop
    assert "stopping" in at_one.refused().detail
    assert "stopping" in at_one.refused().detail


def test_a_license_that_does_not_verify_never_replaces_one_that_does(tmp_path: Path) -> None:
    world = World(tmp_path)
    jti, token = license_token()
    world.repository.publish(published(licenses={jti: token}))
    source = world.source(licenses=[jti, "not-there"])
    material = source.fetch()
    assert material.licenses == {jti: token}
    assert [problem.split(":")[0] for problem in source.facts().problems] == ["license not-there"]
    _, other = license_token(generate_key())
    (world.repo / "licenses" / f"{jti}.jws").write_bytes(other)
    source._asked_s.clear()
    assert source.fetch().licenses == {jti: token}
    assert "another id" in " ".join(source.facts().problems)
    (world.repo / "licenses" / f"{jti}.jws").write_bytes(token[:-20] + b"A" * 20)
    source._asked_s.clear()
    assert source.fetch().licenses == {jti: token}
    assert "signature" in " ".join(source.facts().problems)


def test_a_license_is_not_fetched_again_when_it_has_not_changed(tmp_path: Path) -> None:
    world = World(tmp_path)
    jti, token = license_token()
    world.repository.publish(published(licenses={jti: token}))
    with RepositoryServer(world.repo) as server:
        source = world.source(server.url, licenses=[jti])
        first = source.fetch()
        assert first.licenses == {jti: token}
        server.seen.clear()
        assert source.fetch() is first
        assert not any("licenses" in path for path in server.paths())  # not due yet
        later = world.source(server.url, licenses=[jti])
        assert later.cached() == first
        assert later.fetch() == first
        ((_, headers),) = [(path, sent) for path, sent in server.seen if "licenses" in path]
        assert "if-none-match" in headers
        assert later.facts().received_bytes < len(token)
        later.want([])
        assert later.fetch().licenses == {}
