"""What authorities say in the moments between the steps of a call: a look at the license stands before each that lets go."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx2
import pytest

from gateway.audit.store import OsStore
from gateway.license.status import StatusValue
from tests.e2e.stack import ISSUER, STATUS_URI, policy_text
from tests.e2e.test_standing import SUSPENDED, VALID, Listed
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
