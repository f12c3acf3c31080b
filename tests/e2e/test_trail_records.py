"""Every call that was admitted has one terminal record, which says how it ended; strangers are counted. On two workers, with tenants between each other."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.audit.digest import DigestKeys
from tests.e2e.stack import KEY, said
from tests.e2e.trail import CHAT, MESSAGES, Site, ask_audit, records, unsealed, until, verified
from tests.fakes.endpoint import CUT, Endpoint, Reply, Seen, Wait, chat_answer, chat_stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

HEAD = f"host: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"


def test_cases_55_to_57_each_call_has_one_terminal_record_of_its_own(tmp_path: Path) -> None:
    release = threading.Event()

    def script(seen: Seen) -> Reply:
        word = seen.json["messages"][-1]["content"]
        text = f"said: {word}"
        pieces = chat_stream([text[at : at + 3] for at in range(0, len(text), 3)])
        if word == "cut":
            return Reply([*pieces[:3], CUT])
        if word == "hold":
            return Reply([*pieces[:3], Wait(release), *pieces[3:]])
        if word == "error":
            return Reply([b'{"error": {"message": "no"}}'], "application/json", 500)
        if seen.json.get("stream"):
            return Reply([step for piece in pieces for step in (piece, Wait(seconds=0.001))])
        return Reply([chat_answer(text)], "application/json")

    expected: Counter[tuple[str, str]] = Counter()
    with Endpoint(script) as endpoint:
        site = Site(tmp_path, endpoint.origin, workers=2, settings="audit: {seal: {every_s: 0.1}}\n")
        with site.running() as gateway:
            ids = _calls(site, expected)
            ids += _cancelled(site, expected, release)
            strangers = _strangers(site)
            answers = _at_once(site, 24, 5)
            ids += answers
            expected["allowed", ""] += len(answers)
            until(lambda: len(_outcomes(site)) >= len(ids), f"{len(ids)} outcomes")
            assert gateway.end() == 0
    outcomes = _outcomes(site)
    assert Counter(call for call, _ in outcomes) == Counter(ids), "each id once, and no other"
    ended = dict(outcomes)
    assert Counter((ended[c]["outcome"], (ended[c].get("reasons") or [""])[0]) for c in ids) == expected
    intents = Counter(r["call_id"] for r in records(site.data) if r["kind"] == "intent")
    assert intents == Counter(ids)
    counted = Counter[str]()
    for note in records(site.data):
        for line in note.get("refused", ()):
            counted[line["code"]] += line["count"]
    assert counted == strangers
    _are_their_own(site, answers)
    report = verified(site.data, site.vkeys())
    assert unsealed(report) == {}
    assert sum(one.calls for one in report.streams) == len(ids)
    told = json.loads(ask_audit("query", "--data", site.data, "--count", "decision", "--json").output)
    assert {line["decision"]: line["count"] for line in told["counts"]} == Counter(d for d, _ in expected.elements())


def _outcomes(site: Site) -> list[tuple[str, dict[str, Any]]]:
    return [(r["call_id"], r) for r in records(site.data) if r["kind"] == "outcome"]


def _calls(site: Site, expected: Counter[tuple[str, str]]) -> list[str]:
    """Those that end by themselves; their ids."""
    say = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    bad: list[tuple[str, bytes, str]] = [
        (CHAT, b'{"model"', "BODY_JSON"),
        (CHAT, b"[]", "BODY_JSON"),
        (CHAT, json.dumps({**say, "model": "none"}).encode(), "MODEL_UNKNOWN"),
        (CHAT, json.dumps({**say, "pad": "a" * 3_000_000}).encode(), "BODY_TOO_LARGE"),
        (MESSAGES, b"{}", "BODY_FIELD"),
        ("/v1/nowhere", b"{}", "PATH_UNKNOWN"),
    ]
    ids = []
    with site.client() as caller:
        for path, content, _ in bad:
            answer = caller.post(path, content=content, headers={"content-type": "application/json"})
            assert answer.status_code >= 400
            ids.append(answer.headers["x-licet-call-id"])
            expected["refused", answer.json()["error"].get("code") or ""] += 1
        answer = caller.post(CHAT, content=b"x", headers={"content-type": "text/plain"})
        ids.append(answer.headers["x-licet-call-id"])
        expected["refused", answer.json()["error"]["code"]] += 1
        for stream in (False, True) * 5:
            answer = caller.post(CHAT, json={**say, "stream": stream})
            ids.append(answer.headers["x-licet-call-id"])
            expected["allowed", ""] += 1
        for word, code in (("cut", "UPSTREAM_CLOSED"), ("error", "")):
            body = {**say, "stream": word == "cut", "messages": [{"role": "user", "content": word}]}
            answer = caller.post(CHAT, json=body)
            ids.append(answer.headers["x-licet-call-id"])
            expected["failed", code] += 1
    return ids


def _cancelled(site: Site, expected: Counter[tuple[str, str]], release: threading.Event) -> list[str]:
    """Callers that leave: in the middle of an answer, at its very end, and in the middle of their own body."""
    ids = []
    body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "hold"}]}
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
        fields = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        connection.request("POST", CHAT, json.dumps(body), fields)
        answer = connection.getresponse()
        assert answer.read1(100)
        ids.append(answer.headers["x-licet-call-id"])
        expected["cancelled", ""] += 1
        assert connection.sock is not None
        connection.sock.close()
        answer.close()
    until(lambda: len([1 for _, r in _outcomes(site) if r["outcome"] == "cancelled"]) == 3, "three who left")
    release.set()
    for _ in range(3):  # read to the last byte, then gone at once: that is no cancellation
        data = json.dumps({**body, "messages": [{"role": "user", "content": "Hello"}]}).encode()
        with socket.create_connection(("127.0.0.1", site.port), timeout=60) as sock:
            sock.sendall(f"POST {CHAT} HTTP/1.1\r\n{HEAD}content-length: {len(data)}\r\n\r\n".encode() + data)
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                got += sock.recv(65536)
        at = got.find(b"x-licet-call-id: ")
        ids.append(got[at + 17 : at + 49].decode())
        expected["allowed", ""] += 1
    return ids


def _strangers(site: Site) -> Counter[str]:
    """No calls: counted by reason, and told no closer."""
    expected: Counter[str] = Counter()
    with httpx2.Client(base_url=site.url, timeout=30) as nobody:
        for key in ("lk-a", "lk-b", "lk-c"):
            answer = nobody.post(CHAT, json={}, headers={"authorization": f"Bearer {key}"})
            assert "x-licet-record" not in answer.headers
            expected[answer.json()["error"]["code"]] += 1
        expected[nobody.post(CHAT, json={}).json()["error"]["code"]] += 1
    for data in (b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx: \x01\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", site.port), timeout=30) as sock:
            sock.sendall(data)
            got = b""
            while piece := sock.recv(65536):
                got += piece
        expected[json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"]] += 1
    return expected


def _are_their_own(site: Site, answers: dict[str, tuple[str, str, str]]) -> None:
    """Of calls with others between them: each answer, and each record's digests, tell of its own prompt and of no other."""
    keys = DigestKeys.load(site.data)
    ended = dict(_outcomes(site))
    begun = {r["call_id"]: r for r in records(site.data) if r["kind"] == "intent"}
    assert len(answers) == 120
    for call_id, (user, text, shown) in answers.items():
        assert shown == f"said: {text}"
        assert ended[call_id]["answer"]["texts"] == [keys.all_texts(f"said: {text}")[0]]
        assert begun[call_id]["subject"] == keys.subject("acme", user)


def _at_once(site: Site, callers: int, each: int) -> dict[str, tuple[str, str, str]]:
    """call id -> user, prompt, answer."""
    found: dict[str, tuple[str, str, str]] = {}

    def work(number: int) -> None:
        with site.client() as caller:
            for turn in range(each):
                text, user = f"caller {number} turn {turn} of many", f"user-{number}"
                stream = (number + turn) % 2 == 0
                body = {
                    "model": "chat",
                    "stream": stream,
                    "user": user,
                    "messages": [{"role": "user", "content": text}],
                }
                answer = caller.post(CHAT, json=body)
                assert answer.status_code == 200
                shown = said(answer.content) if stream else answer.json()["choices"][0]["message"]["content"]
                found[answer.headers["x-licet-call-id"]] = (user, text, shown)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return found
