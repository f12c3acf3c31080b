"""Audits of gateways: an honest one passes, each lie is found and named, and what cannot be read does not pass."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.authority.audits import FetchError, Plan, audit, examine, http_fetch
from gateway.authority.authority import Authority
from gateway.authority.errors import FormError, RoleError, TransitionError
from gateway.authority.model import AuditResult, Gateway
from gateway.signing.logkey import LogKey
from tests.fakes.audited_gateway import PAGE, AuditedGateway
from tests.gateway.authority.offices import APPLICANT, AUDITOR, DAY_S, NOW_S, OFFICER, Hands

ONE, TWO = "gw1-w0-a", "gw1-w0-b"
Lie = Callable[[AuditedGateway], object]


def gateway() -> AuditedGateway:
    made = AuditedGateway()
    made.add(ONE, 40, ts_s=NOW_S - 1000)
    return made


def plan(fake: AuditedGateway, before: AuditResult | None = None, sample: int = 6) -> Plan:
    entry = Gateway(fake.name, "ACME-1", fake.jwk, fake.key.thumbprint, ("gw1-*",), "http://gw1", NOW_S - DAY_S)
    return Plan(entry, before.heads if before else (), before.at if before else None, sample)


def look(fake: AuditedGateway, before: AuditResult | None = None, *, now: int = NOW_S, sample: int = 6) -> AuditResult:
    return examine(plan(fake, before, sample), fake.fetch, now=now, chance=random.Random(7))


def codes(result: AuditResult) -> list[str]:
    assert result.passed == (not result.findings)
    return sorted(finding.code for finding in result.findings)


def test_an_honest_gateway_passes_again_and_again() -> None:
    fake = gateway()
    first = look(fake)
    assert (codes(first), [(head.stream, head.size) for head in first.heads], first.sampled) == ([], [(ONE, 40)], 7)
    fake.add(ONE, 25, ts_s=NOW_S + 10)
    fake.add(TWO, 3, ts_s=NOW_S + 20)
    fake.asked.clear()
    second = look(fake, first, now=NOW_S + DAY_S)
    assert (codes(second), [(head.stream, head.size) for head in second.heads]) == ([], [(ONE, 65), (TWO, 3)])
    assert fake.asked.count("consistency") == 1
    assert fake.asked.count("record") == second.sampled == 6 + 3
    third = look(fake, second, now=NOW_S + 2 * DAY_S)  # nothing new: nothing to prove but what is there
    assert codes(third) == []


def rewrite(fake: AuditedGateway) -> None:
    fake.streams[ONE][3] = fake.streams[ONE][3].replace(b"note", b"nope")
    fake.add(ONE, 5, ts_s=NOW_S + 10)


def new_key(fake: AuditedGateway) -> None:
    fake.key = LogKey.of(Ed25519PrivateKey.generate())


def swap_records(fake: AuditedGateway) -> None:
    records = fake.streams[TWO] = list(reversed(fake.streams[ONE]))
    assert len(records) == 40


def forge_proofs(fake: AuditedGateway) -> None:
    fake.answers["record"] = json.dumps({"record": "e30=", "proof": []}).encode()


LIES: list[tuple[str, Lie, str]] = [
    ("rewritten history", rewrite, "REWRITTEN"),
    ("rewritten in place", lambda f: f.streams[ONE].__setitem__(3, b"{}"), "REWRITTEN"),
    ("cut tail", lambda f: f.streams[ONE].__delitem__(slice(30, None)), "SHRUNK"),
    ("vanished stream", lambda f: f.hidden.add(ONE), "VANISHED"),
    ("emptied stream", lambda f: f.streams[ONE].clear(), "SHRUNK"),
    ("a stream that was hidden at the last audit", lambda f: f.add(TWO, 9, ts_s=NOW_S - 2000), "HIDDEN"),
    ("a stream nobody enrolled", lambda f: f.add("other", 3, ts_s=NOW_S + 5), "NOT_ENROLLED"),
    ("records of another stream", swap_records, "MISPLACED"),
    ("another size in the list", lambda f: f.listing.update({ONE: {"size": 41}}), "LISTING"),
    ("another root in the list", lambda f: f.listing.update({ONE: {"root": "00" * 32}}), "LISTING"),
    ("damage that it admits", lambda f: f.listing.update({ONE: {"problem": "a frame is torn"}}), "DAMAGED"),
    ("no note", lambda f: f.listing.update({ONE: {"note": None}}), "SIGNATURE"),
    ("a note of no form", lambda f: f.listing.update({ONE: {"note": "x\n"}}), "SIGNATURE"),
    ("another gateway's heads", lambda f: setattr(f, "origin", "gw2"), "ORIGIN"),
    ("records that the tree does not hold", forge_proofs, "NOT_INCLUDED"),
]


@pytest.mark.parametrize(("lie", "code"), [pytest.param(lie, code, id=name) for name, lie, code in LIES])
def test_each_lie_is_found(lie: Lie, code: str) -> None:
    fake = gateway()
    before = look(fake)
    lie(fake)
    found = look(fake, before, now=NOW_S + DAY_S, sample=100)
    assert set(codes(found)) == {code}
    lied = {finding.stream for finding in found.findings}
    assert lied.isdisjoint(head.stream for head in found.heads)  # a later audit starts from what held


def test_a_wrong_key_is_found() -> None:
    fake = gateway()
    asked = plan(fake)
    new_key(fake)
    found = examine(asked, fake.fetch, now=NOW_S, chance=random.Random(7))
    assert (codes(found), found.heads) == (["SIGNATURE"], ())


def test_a_lie_about_one_record_in_many_is_found_by_a_large_sample() -> None:
    fake = gateway()
    before = look(fake)
    fake.add(ONE, 10, ts_s=NOW_S)
    fake.streams[ONE][45] = b"{}"
    assert codes(look(fake, before, sample=100)) == ["MISPLACED"]


UNREADABLE = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\xff", id="no text"),
    pytest.param(b"[]", id="a list"),
    pytest.param(b"{}", id="empty"),
    pytest.param(b'{"streams": 1, "proof": 1, "record": 1}', id="wrong types"),
    pytest.param(b'{"streams": [1], "proof": [1], "record": "e30="}', id="wrong members"),
    pytest.param(b'{"streams": [{"stream": ""}], "proof": ["zz"], "record": "e30="}', id="wrong texts"),
    pytest.param(b'{"streams": [{"stream": 1}], "proof": ["00"], "record": "e30="}', id="short hashes"),
    pytest.param(
        b'{"streams": null, "proof": ' + json.dumps(["00" * 32] * 131).encode() + b', "record": ""}', id="long"
    ),
    pytest.param(b"[" * 100_000, id="deep"),
]


@pytest.mark.parametrize("answer", UNREADABLE)
@pytest.mark.parametrize("what", ["checkpoints", "consistency", "record"])
def test_l1_what_cannot_be_read_does_not_pass(what: str, answer: bytes) -> None:
    fake = gateway()
    before = look(fake)
    fake.add(ONE, 5, ts_s=NOW_S)
    fake.answers[what] = answer
    found = look(fake, before)
    assert set(codes(found)) == {"UNREACHABLE"}
    assert found.heads == ()


def test_a_gateway_that_does_not_answer_does_not_pass_and_nothing_is_said_of_its_streams() -> None:
    fake = gateway()
    before = look(fake)
    fake.fails["checkpoints"] = FetchError("no answer")
    assert codes(look(fake, before)) == ["UNREACHABLE"]


def test_pages_are_followed_and_end() -> None:
    fake = AuditedGateway()
    for number in range(PAGE + 1):
        fake.streams[f"gw1-{number:05}"] = []
    assert codes(look(fake)) == []
    assert fake.asked == ["checkpoints"] * 3
    assert len({*fake.streams}) == PAGE + 1
    fake.asked.clear()
    fake.answers["checkpoints"] = fake.fetch("http://gw1/audit/checkpoints")  # the same page for ever
    assert codes(look(fake)) == ["LISTED_TWICE"] * PAGE + ["UNREACHABLE"]
    assert fake.asked == ["checkpoints"] * 3


def test_findings_are_bounded() -> None:
    fake = AuditedGateway()
    entries = [{"stream": f"other-{number:05}"} for number in range(150)]
    fake.answers["checkpoints"] = json.dumps({"streams": entries}).encode()
    assert len(look(fake).findings) == 200  # two of each would be 300


# With an authority


def enroll(authority: Authority, fake: AuditedGateway, url: str | None = "http://gw1") -> None:
    authority.enroll_gateway(OFFICER, fake.name, operator="ACME-1", key=fake.jwk, streams=["gw1-*"], audit_url=url)


def test_an_audit_is_recorded_logged_and_the_next_one_starts_from_it(authority: Authority, clock: Hands) -> None:
    fake = gateway()
    enroll(authority, fake)
    authority.schedule_audit(OFFICER, "gw1", every_days=30, sample=3)
    assert audit(authority, AUDITOR, "gw1", fake.fetch).passed
    clock.now += DAY_S
    rewrite(fake)
    fake.add(TWO, 2, ts_s=clock.now)
    failed = audit(authority, AUDITOR, "gw1", fake.fetch)
    assert codes(failed) == ["REWRITTEN"]
    assert [(head.stream, head.size) for head in authority.audited_heads("gw1")] == [(ONE, 40), (TWO, 2)]
    assert [one.passed for one in authority.audits("gw1")] == [False, True]
    told = authority.history("gateway/gw1")[-1]
    assert (told.action, told.actor, told.detail["passed"]) == ("record_audit", "ada", False)
    assert told.detail["findings"][0]["code"] == "REWRITTEN"
    assert codes(audit(authority, AUDITOR, "gw1", fake.fetch)) == ["REWRITTEN"]  # it does not pass by waiting
    assert authority.last_passed("gw1") == NOW_S


def test_who_and_what_is_audited(authority: Authority) -> None:
    fake = gateway()
    enroll(authority, fake, None)
    with pytest.raises(FormError, match="audit_url"):
        audit(authority, AUDITOR, "gw1", fake.fetch)
    authority.withdraw_gateway(OFFICER, "gw1", "moved")
    with pytest.raises(TransitionError):
        audit(authority, AUDITOR, "gw1", fake.fetch)
    enroll(authority, fake)
    with pytest.raises(RoleError):
        audit(authority, APPLICANT, "gw1", fake.fetch)
    assert authority.audits("gw1") == ()


def test_a_gateway_with_a_new_key_begins_a_new_log(authority: Authority, clock: Hands) -> None:
    fake = gateway()
    enroll(authority, fake)
    assert audit(authority, AUDITOR, "gw1", fake.fetch).passed
    authority.withdraw_gateway(OFFICER, "gw1", "a new machine")
    clock.now += DAY_S
    again = AuditedGateway()
    again.add(TWO, 5, ts_s=NOW_S - 5000)
    enroll(authority, again)
    assert authority.audited_heads("gw1") == ()
    assert audit(authority, AUDITOR, "gw1", again.fetch).passed


# Over HTTP


@contextmanager
def serve(answers: list[tuple[int, dict[str, str], bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives these answers one after the other, and notes the authorization of each request."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answers[min(len(seen), len(answers) - 1)]
            seen.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/audit/checkpoints", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_http_shows_the_key_and_asks_again_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    busy = (503, {"Retry-After": "5"}, b"")
    with serve([busy, (429, {"Retry-After": "9999"}, b""), (503, {}, b""), (200, {}, b'{"streams": []}')]) as (
        url,
        seen,
    ):
        assert http_fetch("secret", wait=waited.append)(url) == b'{"streams": []}'
    assert waited == [5.0, 10.0, 1.0]
    assert seen == ["Bearer secret"] * 4
    with serve([busy]) as (url, seen), pytest.raises(FetchError, match="503"):
        http_fetch("secret", wait=waited.append)(url)
    assert len(seen) == 5


def test_http_follows_no_redirect_and_gives_no_key_away() -> None:
    with serve([(200, {}, b"mine")]) as (elsewhere, stolen), serve([(302, {"Location": elsewhere}, b"")]) as (url, _):
        with pytest.raises(FetchError, match="302") as caught:
            http_fetch("secret")(url)
        assert stolen == []
    assert "secret" not in str(caught.value)


def test_http_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.authority.audits.ANSWER_BYTES_MAX", 1000)
    with serve([(200, {}, b"x" * 1001)]) as (url, _), pytest.raises(FetchError, match="more than"):
        http_fetch("secret")(url)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://x/y", "http://127.0.0.1:1/", "http://[::1/"])
def test_http_reaches_nothing_else(url: str) -> None:
    with pytest.raises(FetchError):
        http_fetch("secret")(url)
