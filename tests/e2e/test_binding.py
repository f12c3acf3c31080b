"""What binds an endpoint to its license, through a running gateway: pinned TLS keys, statements of hosts, weights."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.attest.host import HostServer, Statements
from gateway.attest.watch import WeightsWatch
from gateway.attest.weights import Hashed, hash_model
from gateway.license.issuer import generate_key, issue
from gateway.license.signed import Kind, read_unverified
from tests.e2e.stack import Stack, policy_text, shown
from tests.fakes import pki as certificates
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, chat_answer, chat_stream
from tests.fakes.pki import Pki, new_key, pin_of

pytestmark = pytest.mark.slow  # files and hosts are looked at each second

OTHER = "sha256:" + "00" * 32


@dataclass
class BoundStack(Stack):
    """A stack whose license says more of its model and its endpoint."""

    model_terms: Mapping[str, Any] = field(default_factory=dict)
    endpoint_terms: Mapping[str, Any] = field(default_factory=dict)

    def write_license(self, file: str = "license.jws", **changes: Any) -> None:
        """As the stack's, with those terms."""
        super().write_license(file, **changes)
        path = self.folder / file
        claims: dict[str, Any] = {**read_unverified(path.read_bytes(), Kind.LICENSE).payload}
        claims["license"]["model"] |= self.model_terms
        claims["license"]["endpoint"] |= self.endpoint_terms
        path.write_text(issue(claims, self.key))


def policy(binding_min: int) -> str:
    return policy_text().replace("binding_min: 1", f"binding_min: {binding_min}")


def answering(_: Seen) -> Reply:
    # The connection ends with the answer, so that the next call makes a new one.
    return Reply([chat_answer("Hi.")], media="application/json", headers=[("connection", "close")])


def refused(stack: Stack) -> list[str]:
    """The reasons of a call that is refused, by its record."""
    answer = stack.chat()
    assert answer.status_code == 403, answer.text
    record = stack.outcome(answer)
    assert record["outcome"] == "refused"
    return [str(reason) for reason in record["reasons"]]


def bindings(stack: Stack) -> list[str]:
    return [intent["license"].get("binding") for intent in stack.records("intent")]


def write_weights(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(100_000))
    return folder


def test_l1_weights_that_change_on_this_host_refuse_and_cut_until_they_are_the_licensed_ones_again(
    tmp_path: Path,
) -> None:
    folder = write_weights(tmp_path / "weights")
    terms = {"weights": {"root_digest": hash_model(folder).root}}
    asked, release = threading.Event(), threading.Event()

    def script(seen: Seen) -> Reply:
        if not seen.json.get("stream"):
            return answering(seen)
        asked.set()
        pieces = chat_stream(["Hello ", "world. "])
        return Reply([*pieces[:-2], Wait(release), *pieces[-2:]])

    with (
        Endpoint(script) as endpoint,
        BoundStack(
            tmp_path / "stack",
            endpoint.origin,
            policy=policy(3),
            target=f', weights: "{folder}"',
            model_terms=terms,
        ) as stack,
    ):
        stack.wait(lambda: stack.chat().status_code == 200)
        assert bindings(stack)[-1] == "B3"
        got: list[bytes] = []
        streaming = threading.Thread(target=lambda: got.append(stack.chat(stream=True).content))
        streaming.start()
        assert asked.wait(20)
        (folder / "adapter.safetensors").write_bytes(b"tuned")
        stack.wait(lambda: stack.chat().status_code == 403)
        before = len(endpoint.seen)
        assert "BINDING" in refused(stack)
        assert len(endpoint.seen) == before
        streaming.join(20)
        assert shown(got[0])[-1]["error"]["code"] in ("BINDING", "MODEL_MISMATCH")
        # Hashed again, it is known that they are others.
        stack.wait(lambda: "MODEL_MISMATCH" in refused(stack))
        (folder / "adapter.safetensors").unlink()
        stack.wait(lambda: stack.chat().status_code == 200)
    release.set()


@pytest.mark.parametrize("binding_min", [1, 3])
def test_l1_weights_known_to_be_others_are_refused_at_any_level(tmp_path: Path, binding_min: int) -> None:
    folder = write_weights(tmp_path / "weights")
    with (
        Endpoint(answering) as endpoint,
        BoundStack(
            tmp_path / "stack",
            endpoint.origin,
            policy=policy(binding_min),
            target=f', weights: "{folder}"',
            model_terms={"weights": {"root_digest": OTHER}},
        ) as stack,
    ):
        stack.wait(lambda: "MODEL_MISMATCH" in refused(stack) if stack.chat().status_code == 403 else False)


class Known(WeightsWatch):
    """What a serving host has hashed, as the test says."""

    def __init__(self, now: str) -> None:
        super().__init__(Path("/nowhere"))
        self.now = now

    @property
    def hashed(self) -> Hashed | None:
        return Hashed(self.now, self.now, "", 1, 1, 0.0, 0.0, "")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def test_l1_a_host_whose_weights_change_is_refused_until_it_serves_the_licensed_ones_again(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.attest.target.ASK_S", 0.2)
    licensed = "sha256:" + "ab" * 32
    tls, key = new_key(), generate_key()
    watch = Known(licensed)
    host = HostServer(watch, Statements(key, "up", lambda: certificates.shown(pin_of(tls))))

    def script(seen: Seen) -> Reply:
        if seen.path.startswith("/statement?"):
            status, body = host.answer(seen.path.partition("?")[2].encode())
            return Reply([body], media="application/json", status=status)
        return answering(seen)

    def chats() -> int:
        return sum(not seen.path.startswith("/statement") for seen in endpoint.seen)

    with (
        Endpoint(script, tls=pki.server(tls)) as endpoint,
        BoundStack(
            tmp_path,
            endpoint.origin,
            policy=policy(2),
            target=f', ca_file: "{pki.ca_file}", statement: "{endpoint.origin}/statement"',
            model_terms={"weights": {"root_digest": licensed}},
            endpoint_terms={
                "spki_pins": [certificates.shown(pin_of(tls))],
                "host_keys": [{"kid": str(key.kid), "x": str(key.as_dict()["x"])}],
            },
        ) as stack,
    ):
        assert stack.chat().status_code == 200
        assert bindings(stack) == ["B2"]
        watch.now = OTHER
        stack.wait(lambda: stack.chat().status_code == 403)
        before = chats()
        assert refused(stack) == ["BINDING"]
        assert chats() == before
        watch.now = licensed
        stack.wait(lambda: stack.chat().status_code == 200)


def test_l1_an_endpoint_whose_tls_key_is_swapped_gets_no_prompt(tmp_path: Path, pki: Pki) -> None:
    tls = new_key()
    server = pki.server(tls)
    with (
        Endpoint(answering, tls=server) as endpoint,
        BoundStack(
            tmp_path,
            endpoint.origin,
            target=f', ca_file: "{pki.ca_file}"',
            endpoint_terms={"spki_pins": [certificates.shown(pin_of(tls))]},
        ) as stack,
    ):
        assert stack.chat().status_code == 200
        assert bindings(stack) == ["B1"]
        server.load_cert_chain(pki.pem(new_key()))  # certified by the same authority, for the same name
        assert refused(stack) == ["BINDING"]
        assert len(endpoint.seen) == 1
        server.load_cert_chain(pki.pem(tls))
        assert stack.chat().status_code == 200
