"""What a target must not be; policies whose presets' rows begin."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.authorities import Authorities
from gateway.callers import Caller, Callers
from gateway.catalog import LAPSED_S, Catalog, upstream_for
from gateway.errors import ConfigError
from gateway.governed import Governed
from gateway.license.issuer import add_to_trust
from gateway.reasons import Reason
from gateway.settings import Target, load_settings
from tests.gateway.license.material import ISSUER, KEY, NOW_S, claims, token


def target(origin: str) -> Target:
    return Target(
        protocol="openai",
        base_url=f"{origin}/v1",
        origin=origin,
        model="m",
        version=None,
        api_key="",
        proxy="http://user:secret@proxy.example:3128",
        ca_file=None,
        connect_timeout_s=1,
        first_byte_timeout_s=1,
        idle_timeout_s=1,
    )


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000"])
def test_l1_a_model_on_this_host_is_not_reached_through_a_proxy(origin: str) -> None:
    """The proxy would reach another host's model, and the license would count as bound to this one."""
    with pytest.raises(ConfigError, match="proxy's own host") as caught:
        upstream_for(target(origin))
    assert "secret" not in str(caught.value)


def test_a_model_elsewhere_may_be_reached_through_a_proxy() -> None:
    async def made() -> None:
        await upstream_for(target("https://api.example.com")).close()

    asyncio.run(made())


# California's license rows begin to refuse on 1 January 2027.
LOOSER = "version: 1\nname: p\nowner: o@example.com\npreset: us-ca/license\nlicense: {required: warn}\n"
BEGINS_S = int(datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC).timestamp())


def settings(folder: Path, policy: str) -> Path:
    (folder / "p.yaml").write_text(policy)
    config = folder / "gateway.yaml"
    config.write_text(
        "data: var\n"
        "callers: [{name: app, anonymous: true, models: [chat]}]\n"
        "models:\n"
        "  - {name: chat, license: l.jws, policy: p.yaml, targets: "
        "[{protocol: openai, base_url: 'http://127.0.0.1:9/v1', model: m}]}\n"
    )
    return config


def test_l1_a_policy_that_breaks_a_row_which_begins_refuses_from_that_day_on(tmp_path: Path) -> None:
    async def run() -> None:
        now_s = float(BEGINS_S - 1)
        made = load_settings(settings(tmp_path, LOOSER))
        catalog = Catalog(
            made,
            authorities=Authorities(made.trust, tmp_path / "0", now_s=lambda: now_s),
            entities=frozenset(),
            detectors={},
            now_s=lambda: now_s,
        )

        def polled() -> Governed | Reason:
            for _ in range(3):
                catalog.poll()
            return catalog.find("chat", "openai")

        try:
            (clock,) = (one for one in catalog.clocks() if one.name == "policy_row")
            assert (clock.due_s, clock.subject) == (BEGINS_S, "p license.required")
            assert clock.lead_days(now_s) == 1
            assert isinstance(polled(), Governed)
            now_s = BEGINS_S
            assert polled() is Reason.REGIME
            assert "license.required" in " ".join(catalog.problems)
            now_s += LAPSED_S
            assert polled() is Reason.REGIME
            (tmp_path / "p.yaml").write_text(LOOSER.replace("warn", "true"))
            found = polled()
            assert isinstance(found, Governed)
            assert found.policy.license.required == "true"
            assert [one for one in catalog.clocks() if one.name == "policy_row"] == []
        finally:
            await catalog.close()

    asyncio.run(run())


def test_a_policy_that_could_not_be_read_on_its_day_is_read_again(tmp_path: Path) -> None:
    async def run() -> None:
        now_s = float(BEGINS_S - 1)
        made = load_settings(settings(tmp_path, LOOSER.replace("warn", "true")))
        catalog = Catalog(
            made,
            authorities=Authorities(made.trust, tmp_path / "0", now_s=lambda: now_s),
            entities=frozenset(),
            detectors={},
            now_s=lambda: now_s,
        )

        def polled() -> Governed | Reason:
            for _ in range(3):
                catalog.poll()
            return catalog.find("chat", "openai")

        try:
            assert not any(one.name == "policy_row" for one in catalog.clocks())
            (tmp_path / "p.yaml").rename(tmp_path / "away.yaml")
            now_s = BEGINS_S
            assert polled() is Reason.REGIME
            (tmp_path / "away.yaml").rename(tmp_path / "p.yaml")
            now_s += LAPSED_S
            assert isinstance(polled(), Governed)
        finally:
            await catalog.close()

    asyncio.run(run())


def test_a_model_that_is_licensed_for_embeddings_alone_is_listed(tmp_path: Path) -> None:
    async def listed(**terms: Any) -> list[str]:
        config = settings(tmp_path, "version: 1\nname: p\nowner: o@example.com\nlicense: {binding_min: 0}\n")
        config.write_text(config.read_text() + "trust: {keys: trust.json}\n")
        (tmp_path / "trust.json").write_text(add_to_trust(None, ISSUER, KEY))
        made = claims(jurisdictions=["*"], purposes=["*"], **terms)
        made["license"]["endpoint"] = {"origins": ["http://127.0.0.1:9"], "served_model_aliases": []}
        made["license"]["model"] = {"name": "m"}
        (tmp_path / "l.jws").write_bytes(token(made))
        read = load_settings(config)
        catalog = Catalog(
            read,
            authorities=Authorities(read.trust, tmp_path / "0", now_s=lambda: NOW_S),
            entities=frozenset(),
            detectors={},
            now_s=lambda: NOW_S,
        )
        try:
            caller = Callers(read.callers).authenticate([])
            assert isinstance(caller, Caller)
            return [one.id for one in catalog.listing(caller, "openai", NOW_S)]
        finally:
            await catalog.close()

    assert asyncio.run(listed(modalities_out=["text"])) == ["chat"]
    assert asyncio.run(listed(modalities_out=["embedding"])) == ["chat"]
    assert asyncio.run(listed(modalities_out=["image"])) == []
