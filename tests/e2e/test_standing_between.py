"""What authorities say in the moments between the steps of a call: a look at the license stands before each that lets go."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx2
import pytest

from gateway.audit.store import OsStore
from gateway.license.issuer import add_to_trust, generate_key
from gateway.license.status import StatusValue
from tests.e2e.stack import ISSUER, STATUS_URI, Stack, policy_text, replace_file
from tests.e2e.test_standing import SUSPENDED, VALID, Listed
from tests.e2e.test_training import EXAMPLES, TrainingStack, key_of
from tests.fakes.endpoint import Endpoint, Reply, Seen, chat_chunk, sse

SHORT = [b"".join(sse(chat_chunk({"content": "All of it."}))) + b"data: [DONE]\n\n"]


class SlowDisk(OsStore):
    """A disk that the test holds up."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def hold(self) -> None:
        """From now on nothing is durable until `go_on`."""
        self.reached.clear()
        self.go_on.clear()

    def sync(self, handle: int) -> None:
        self.reached.set()
        self.go_on.wait(20)
        super().sync(handle)


class Slow:
    """An endpoint that the test holds up before it says anything."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, seen: Seen) -> Reply:
        self.reached.set()
        self.go_on.wait(20)
        return Reply(SHORT)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.trust.source.FILES_REFRESH_S", 0.1)
    monkeypatch.setattr("gateway.relay.WATCH_S", 60.0)  # what is noticed here is noticed without the watch


def call_while(stack: Listed, reached: threading.Event, go_on: threading.Event, *, stream: bool) -> httpx2.Response:
    """The answer of a call that is held up somewhere while its license is suspended."""
    found: list[httpx2.Response] = []
    caller = threading.Thread(target=lambda: found.append(stack.chat(stream=stream)))
    caller.start()
    try:
        assert reached.wait(20)
        stack.publish_status(*[VALID] * 5, SUSPENDED)
        stack.wait(
            lambda: stack.gateway.authorities.standing.statuses[ISSUER, STATUS_URI].value(5) is StatusValue.SUSPENDED
        )
    finally:
        go_on.set()
        caller.join(20)
    (answer,) = found
    return answer


def started(folder: Path, endpoint: Endpoint, disk: OsStore, *, durable: str = "before_answer") -> Listed:
    trust = ", status: [status.jwt], orders: [orders.jws]"
    top = {"status": {"status_list": {"uri": STATUS_URI, "idx": 5}}}
    policy = policy_text(durable=durable)
    return Listed(folder, endpoint.origin, top=top, trust=trust, policy=policy, store=disk)


@pytest.mark.parametrize("stream", [False, True])
def test_l1_nothing_leaves_if_the_license_is_suspended_while_the_disk_is_waited_for(
    tmp_path: Path, stream: bool
) -> None:
    disk = SlowDisk()
    with Endpoint(lambda _: Reply(SHORT)) as endpoint, started(tmp_path, endpoint, disk, durable="before_egress") as s:
        disk.hold()
        answer = call_while(s, disk.reached, disk.go_on, stream=stream)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "LIC_STATE")
        assert endpoint.seen == []
        assert s.outcome(answer)["reasons"] == ["LIC_STATE"]


def test_l2_no_stream_begins_once_the_license_is_suspended(tmp_path: Path) -> None:
    slow = Slow()
    with Endpoint(slow) as endpoint, started(tmp_path, endpoint, OsStore()) as stack:
        answer = call_while(stack, slow.reached, slow.go_on, stream=True)
        assert "All of it" not in answer.text
        assert answer.status_code == 403
        assert stack.outcome(answer)["reasons"] == ["LIC_STATE"]


def test_l2_a_stream_that_was_held_whole_is_not_released_once_the_license_is_suspended(tmp_path: Path) -> None:
    disk = SlowDisk()
    with Endpoint(lambda _: Reply(SHORT)) as endpoint, started(tmp_path, endpoint, disk) as stack:
        disk.hold()
        # The endpoint's whole answer has come, and waits for the record of the call to be durable.
        answer = call_while(stack, disk.reached, disk.go_on, stream=True)
        assert "All of it" not in answer.text
        assert answer.status_code == 403
        assert stack.outcome(answer)["reasons"] == ["LIC_STATE"]


def test_a_key_that_is_trusted_no_more_ends_its_licenses_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.app.TICK_S", 3600.0)
    with Endpoint(lambda _: Reply(SHORT)) as endpoint, Stack(tmp_path, endpoint.origin) as stack:
        assert stack.chat(stream=True).status_code == 200
        before = stack.gateway.authorities.revision
        replace_file(tmp_path / "trust.json", add_to_trust(None, ISSUER, generate_key()))
        stack.wait(lambda: stack.gateway.authorities.revision > before)
        answer = stack.chat(stream=True)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "LIC_ISSUER")


@pytest.mark.parametrize(
    ("order", "mode", "caller", "shown"),
    [
        pytest.param({"scope": "all"}, "shadow", "", False, id="an order is carried out in shadow mode"),
        pytest.param({"scope": "new_callers"}, "enforce", ", since: 2020-01-01", True, id="an old caller is served"),
        pytest.param({"scope": "new_callers"}, "enforce", "", False, id="a new caller is not"),
    ],
)
def test_the_models_that_are_listed_are_those_that_an_order_leaves(
    tmp_path: Path, order: dict[str, str], mode: str, caller: str, shown: bool
) -> None:
    class Ordered(Listed):
        def order(self, *orders: dict[str, object]) -> int:
            return super().order({"ref": "O-7", "effective_at": int(self.clock()) - 5, **order})

    trust = ", status: [status.jwt], orders: [orders.jws]"
    with (
        Endpoint(lambda _: Reply(SHORT)) as endpoint,
        Ordered(tmp_path, endpoint.origin, trust=trust, policy=policy_text(mode=mode), caller=caller) as stack,
    ):
        assert (stack.code(stream=True) == "") is shown
        assert [one["id"] for one in stack.http.get("/v1/models").json()["data"]] == (["chat"] if shown else [])


def test_l1_nothing_is_uploaded_if_its_permit_is_gone_while_the_disk_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases: dict[str, dict[str, object]] = {"good": {}, "no-license": {}}
    monkeypatch.setattr("tests.e2e.test_training.CASES", cases)
    monkeypatch.setattr("gateway.app.TICK_S", 0.05)
    disk, found = SlowDisk(), list[httpx2.Response]()
    with (
        Endpoint(lambda _: Reply(SHORT)) as endpoint,
        TrainingStack(
            tmp_path,
            endpoint.origin,
            policy=policy_text(durable="before_egress"),
            store=disk,
            models=dict.fromkeys(cases, ("openai", "up")),
            claims={"holder": "Acme"},
        ) as stack,
    ):
        disk.hold()
        files: dict[str, tuple[str | None, bytes]] = {"file": ("a.jsonl", EXAMPLES), "purpose": (None, b"fine-tune")}
        headers = {"authorization": f"Bearer {key_of('good')}"}
        caller = threading.Thread(
            target=lambda: found.append(stack.http.post("/v1/files", files=files, headers=headers))
        )
        caller.start()
        try:
            assert disk.reached.wait(20)
            revision = stack.gateway.catalog.revision
            (tmp_path / "permit-good.jws").unlink()
            stack.wait(lambda: stack.gateway.catalog.revision > revision)
        finally:
            disk.go_on.set()
            caller.join(20)
        (answer,) = found
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "TRAINING_PERMIT")
        assert endpoint.seen == []
        assert stack.outcome(answer)["reasons"] == ["TRAINING_PERMIT"]
