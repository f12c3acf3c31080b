"""What a target must not be."""

from __future__ import annotations

import asyncio

import pytest

from gateway.catalog import upstream_for
from gateway.errors import ConfigError
from gateway.settings import Target


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
