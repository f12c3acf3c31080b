"""A small user's gateway: keys, licenses, statuses and orders by commands and files alone, without an authority's service."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import app
from tests.e2e.stack import Stack, policy_text
from tests.fakes.commands import commands
from tests.fakes.endpoint import Endpoint, Reply, chat_answer

run = commands(app)
BOARD = "https://board.example"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than in service."""
    monkeypatch.setattr("gateway.trust.source.FILES_REFRESH_S", 0.05)
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)


def licet(*args: str | Path) -> str:
    """What one command says; it must work."""
    done = run(*args)
    assert done.exit_code == 0, done.output
    return done.output


class Small(Stack):
    """All that the settings name, made by commands."""

    def write_files(self) -> Path:
        folder = self.folder
        licet("license", "keygen", "--out", folder, "--issuer", BOARD)
        (private,) = folder.glob("*.private.jwk")
        self.sign = ("--key", private)
        licet("license", "status", "init", *self.sign, "--uri", f"{BOARD}/status", "--out", folder / "status.jwt")
        licet(
            "license", "issue", *self.sign, "--model", "up", "--origin", self.origin, "--jurisdiction", "eu",
            "--purpose", "test", "--regime", "internal", "--status", folder / "status.jwt",
            "--out", folder / "license.jws",
        )  # fmt: skip
        licet(
            "license",
            "order",
            "add",
            folder / "orders.jws",
            *self.sign,
            "--ref",
            "O-0",
            "--scope",
            "model",
            "--model",
            "x",
        )
        (folder / "policy.yaml").write_text(self.policy)
        (folder / "gateway.yaml").write_text(self._settings())
        assert "no problems" in licet("check", "--config", folder / "gateway.yaml")
        return folder / "gateway.yaml"

    def status(self, word: str) -> None:
        """The board decides about its license."""
        file, license_ = self.folder / "status.jwt", self.folder / "license.jws"
        licet("license", "status", "set", file, word, *self.sign, "--license", license_)

    def until(self, code: str) -> None:
        """Calls until one ends with the code ("": served)."""

        def ended() -> bool:
            answer = self.chat()
            return ("" if answer.status_code == 200 else answer.json()["error"]["code"]) == code

        self.wait(ended)


def test_a_board_licenses_suspends_orders_and_revokes_by_commands_alone(tmp_path: Path) -> None:
    rules = "required: true, regimes: [internal], status: required, binding_min: 1"
    policy = policy_text().replace("required: true, binding_min: 1", rules)
    trust = ", status: [status.jwt], orders: [orders.jws]"
    with (
        Endpoint(lambda _: Reply([chat_answer("Hi.")], media="application/json")) as endpoint,
        Small(tmp_path, endpoint.origin, policy=policy, trust=trust) as stack,
    ):
        assert stack.chat().status_code == 200
        orders = tmp_path / "orders.jws"
        stack.status("suspended")
        stack.until("LIC_STATE")
        stack.status("valid")
        stack.until("")
        licet("license", "order", "add", orders, *stack.sign, "--ref", "O-1", "--scope", "all")
        stack.until("ORDER_IN_FORCE")
        checked = run("check", "--config", tmp_path / "gateway.yaml")
        assert checked.exit_code == 1
        assert "ORDER_IN_FORCE" in checked.output
        licet("license", "order", "lift", orders, *stack.sign, "--ref", "O-1")
        stack.until("")
        licet("license", "renew", orders, tmp_path / "status.jwt", *stack.sign)
        stack.status("revoked")
        stack.until("LIC_STATE")
        again = run("license", "status", "set", tmp_path / "status.jwt", "valid", *stack.sign, "--index", "0")
        assert again.exit_code == 1
        assert stack.chat().json()["error"]["code"] == "LIC_STATE"
