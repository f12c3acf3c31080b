"""What a worker kept of what authorities said, when it starts: it may tighten, and never stops the start."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.authorities import KNOWN_FILE, Authorities
from gateway.errors import ConfigError
from gateway.license.trust import NO_TRUST
from gateway.settings import Trust as TrustSettings
from tests.gateway.license.material import (
    ISSUER,
    KEY,
    NOW_S,
    OTHER_KEY,
    URI,
    order,
    orders_token,
    public_json,
    status_token,
)
from tests.gateway.trust.world import ISSUER as WORLD_ISSUER
from tests.gateway.trust.world import World, order_list, published


def settings(folder: Path) -> TrustSettings:
    trust = folder / "trust.json"
    trust.write_text(f'{{"issuers": [{{"iss": "{ISSUER}", "keys": [{public_json(KEY)}]}}]}}')
    (folder / "status.jwt").write_bytes(status_token())
    return TrustSettings(keys=trust, audience="", status=(folder / "status.jwt",))


def test_what_was_in_force_is_recognized_after_a_restart(tmp_path: Path) -> None:
    made = settings(tmp_path)
    Authorities(made, tmp_path / "0", now_s=lambda: NOW_S)
    (tmp_path / "status.jwt").write_bytes(status_token(b"\1", iat=NOW_S - 1))
    again = Authorities(made, tmp_path / "0", now_s=lambda: NOW_S)
    assert again.standing.statuses[ISSUER, URI].iat == NOW_S
    assert "older than the known one" in " ".join(again.problems)


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 100, id="zeros of a power cut"),
        pytest.param(b'{"orders": ["\xff"]}', id="not UTF-8"),
        pytest.param(b'{"x": ' + b"[" * 100_000, id="deep"),
        pytest.param(b'{"statuses": ["a.b.c", "", "\\u4e2d"], "orders": ["x"]}', id="no tokens"),
        pytest.param(b'{"statuses": [7]}', id="another shape"),
    ],
)
def test_a_broken_memory_of_what_was_in_force_does_not_stop_the_start(tmp_path: Path, known: bytes) -> None:
    made = settings(tmp_path)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / KNOWN_FILE).write_bytes(known)
    standing = Authorities(made, tmp_path / "0", now_s=lambda: NOW_S).standing
    assert standing.statuses[ISSUER, URI].iat == NOW_S


def test_keys_that_cannot_be_used_do_not_stop_the_next_start(tmp_path: Path) -> None:
    """An authority publishes a broken key file, then mends it: a gateway that was restarted in between follows."""
    world = World(tmp_path / "world")
    world.publish(keys=b'{"issuers": 7}')
    made = TrustSettings(keys=None, audience="", tuf=str(world.repo), root=world.folder / "root.json")

    async def worker() -> tuple[str, bool]:
        authorities = Authorities(made, tmp_path / "0", now_s=lambda: NOW_S)
        await authorities.start()
        await authorities.close()
        return authorities.trouble, authorities.standing.trust is NO_TRUST

    trouble, none = asyncio.run(worker())
    assert "issuers" in trouble
    assert none
    assert asyncio.run(worker())[1]
    world.publish()
    assert asyncio.run(worker()) == ("", False)


def test_l1_orders_of_a_repository_that_ended_long_ago_stay_in_force(tmp_path: Path) -> None:
    """Whoever holds a repository back must not end a regulator's order by it."""
    world = World(tmp_path / "world")
    world.publish(orders={"authority": order_list({"ref": "O-1", "scope": "all", "effective_at": 1})})
    made = TrustSettings(keys=None, audience="", tuf=str(world.repo), root=world.folder / "root.json")
    now_s = time.time()

    async def worker() -> Authorities:
        authorities = Authorities(made, tmp_path / "0", now_s=lambda: now_s)
        await authorities.start()
        await authorities.close()
        return authorities

    authorities = asyncio.run(worker())
    assert authorities.standing.statuses
    level = authorities.standing.trust.level(WORLD_ISSUER)
    now_s += 10 * 365 * 86_400
    authorities.look()
    standing = authorities.standing
    assert not standing.trust.keys
    assert not standing.statuses
    assert [order.ref for made in standing.orders for order in made.orders] == ["O-1"]
    assert standing.trust.level(WORLD_ISSUER) is level
    revision = authorities.revision
    authorities.look()
    assert authorities.revision == revision


def test_l1_an_order_outlives_its_issuers_key_over_a_restart(tmp_path: Path) -> None:
    made = replace(settings(tmp_path), orders=(tmp_path / "orders.jws",))
    (tmp_path / "orders.jws").write_bytes(orders_token(order()))
    trust = tmp_path / "trust.json"

    def stopped() -> list[str]:
        authorities = Authorities(made, tmp_path / "0", now_s=lambda: NOW_S)
        return [one.ref for held in authorities.standing.orders for one in held.orders]

    assert stopped() == ["o-1"]
    trust.write_text(f'{{"issuers": [{{"iss": "{ISSUER}", "keys": [{public_json(OTHER_KEY)}]}}]}}')
    assert stopped() == ["o-1"]
    (tmp_path / "orders.jws").write_bytes(orders_token(key=OTHER_KEY, iat=NOW_S - 1))
    assert stopped() == ["o-1"]  # an older list, by today's key, lifts nothing
    issuer = f'"iss": "{ISSUER}", "may": ["license"]'
    trust.write_text(f'{{"issuers": [{{{issuer}, "keys": [{public_json(OTHER_KEY)}]}}]}}')
    assert stopped() == []


def test_l1_a_list_that_no_longer_counts_bars_older_ones_over_a_restart(tmp_path: Path) -> None:
    made = settings(tmp_path)
    Authorities(made, tmp_path / "0", now_s=lambda: NOW_S)
    trust = tmp_path / "trust.json"
    trust.write_text(f'{{"issuers": [{{"iss": "{ISSUER}", "keys": [{public_json(OTHER_KEY)}]}}]}}')
    for _ in range(2):
        (tmp_path / "status.jwt").write_bytes(status_token(key=OTHER_KEY, iat=NOW_S - 1))
        again = Authorities(made, tmp_path / "0", now_s=lambda: NOW_S)
        assert not again.standing.statuses
        assert "older than" in " ".join(again.problems)
    (tmp_path / "status.jwt").write_bytes(status_token(key=OTHER_KEY))
    assert Authorities(made, tmp_path / "0", now_s=lambda: NOW_S).standing.statuses


def test_a_policy_by_name_comes_before_the_start_and_changes_with_the_repository(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.repository.publish(published(policies={"chat.yaml": b"one"}))
    path = tmp_path / "data" / "trust" / "policies" / "chat.yaml"
    trust = TrustSettings(keys=None, audience="", tuf=str(world.repo), root=world.folder / "root.json")
    with pytest.raises(ConfigError, match=r"no policy named other\.yaml"):
        Authorities(trust, tmp_path / "0", now_s=time.time, policies={"other.yaml": path})
    made = Authorities(trust, tmp_path / "0", now_s=time.time, policies={"chat.yaml": path})
    assert path.read_bytes() == b"one"

    async def follow() -> None:
        await made.start()
        world.repository.publish(published(policies={"chat.yaml": b"two"}))
        made.hint()
        async with asyncio.timeout(20):
            while path.read_bytes() != b"two":
                await asyncio.sleep(0.01)
        await made.close()

    asyncio.run(follow())
    world.repo.rename(tmp_path / "away")
    assert Authorities(trust, tmp_path / "0", now_s=time.time, policies={"chat.yaml": path}).problems == []
    assert path.read_bytes() == b"two"
    path.unlink()
    with pytest.raises(ConfigError, match="not here yet"):
        Authorities(trust, tmp_path / "1", now_s=time.time, policies={"chat.yaml": path})
