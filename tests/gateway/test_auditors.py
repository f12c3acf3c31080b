"""The auditor's door, asked as an ASGI application, over sealed logs on the disk."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2 as httpx
import msgspec
import pytest
from starlette.types import Message, Receive

from gateway.audit.digest import DigestKeys
from gateway.audit.journal import Journal
from gateway.audit.record import Note
from gateway.audit.recovery import recover
from gateway.audit.sealed import log_dir, sealed_head
from gateway.auditors import TOPIC, AuditDoor, answers
from gateway.auditors import door as auditors
from gateway.callers import new_key
from gateway.errors import AuditError
from gateway.reasons import Outcome, Reason
from gateway.seal.sealer import Sealer
from gateway.settings import Auditor
from gateway.signing.logkey import LogKey
from gateway.tlog import frames, tree
from gateway.tlog.checkpoint import open_checkpoint, verifier_key
from gateway.tlog.note import parse_key
from gateway.tlog.proof import verify_proof
from gateway.tlog.tiles import TILE_WIDTH, entries_path, tile_path, unpack_entries
from tests.fakes.tiles import tiles_of
from tests.gateway.audit.samples import call, check_log, open_journal, payloads
from tests.gateway.completeness.logs import NOON, answered, write

KEY, DIGEST = new_key()
AUDITOR = Auditor("authority", DIGEST)


def seal(data: Path) -> None:
    Sealer(data, "gw", LogKey.load(data)).round()


def journal_of(data: Path, *, calls: int = 5) -> None:
    async def run() -> None:
        for worker in range(2):
            journal = open_journal(data, worker=worker)
            for _ in range(calls):
                call(journal)
            await journal.close()

    asyncio.run(run())
    seal(data)


@asynccontextmanager
async def client(door: AuditDoor, key: str | None = KEY) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    transport = httpx.ASGITransport(app=door)
    async with httpx.AsyncClient(transport=transport, base_url="http://gw", headers=headers) as made:
        try:
            yield made
        finally:
            door.close()


def door_of(data: Path, seen: list[Note] | None = None, on_access: Callable[[Note], object] | None = None) -> AuditDoor:
    record = on_access or (seen if seen is not None else []).append
    return AuditDoor(data, [Auditor("other", "0" * 64), AUDITOR], record)


def test_an_audit_from_outside_needs_only_the_public_key(tmp_path: Path) -> None:
    """Heads are signed, a later head is proved to contain the earlier, and a sampled record to be in it."""
    seen: list[Note] = []

    async def run() -> None:
        journal = open_journal(tmp_path)
        call(journal)
        seal(tmp_path)
        async with client(door_of(tmp_path, seen)) as http:
            (first,) = (await http.get("/audit/checkpoints")).json()["streams"]
            for _ in range(400):
                call(journal)
            seal(tmp_path)
            (second,) = (await http.get("/audit/checkpoints")).json()["streams"]
            public = LogKey.load(tmp_path).public
            heads = [open_checkpoint(s["note"], public, name="gw") for s in (first, second)]
            assert [(h.size, h.root.hex()) for h in heads] == [(s["size"], s["root"]) for s in (first, second)]
            assert {h.origin for h in heads} == {f"gw/{journal.stream}"}
            query: dict[str, str | int] = {"stream": journal.stream, "old": heads[0].size, "new": heads[1].size}
            found = (await http.get("/audit/consistency", params=query)).json()
            proof = [bytes.fromhex(h) for h in found["proof"]]
            assert tree.verify_consistency(heads[0].size, heads[1].size, heads[0].root, heads[1].root, proof)
            query = {"stream": journal.stream, "seq": 300, "size": heads[1].size}
            found = (await http.get("/audit/record", params=query)).json()
            stored = base64.b64decode(found["record"])
            assert stored == payloads(tmp_path)[f"{journal.stream}/300"]
            proof = [bytes.fromhex(h) for h in found["proof"]]
            assert tree.verify_inclusion(tree.leaf_hash(stored), 300, heads[1].size, proof, heads[1].root)
        await journal.close()
        assert [n.topic for n in seen] == [TOPIC] * 4
        assert seen[-1].detail == {
            "auditor": "authority",
            "what": "record",
            "stream": journal.stream,
            "seq": 300,
            "size": heads[1].size,
        }

    asyncio.run(run())
    check_log(tmp_path)


def test_streams_of_all_workers_are_listed_and_may_be_asked_for_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal_of(tmp_path)

    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            listed = (await http.get("/audit/checkpoints")).json()["streams"]
            assert [s["stream"] for s in listed] == [d.name for d in frames.streams(tmp_path)]
            assert all(set(s) == {"stream", "size", "root", "note"} for s in listed)
            rest = (await http.get("/audit/checkpoints", params={"after": listed[0]["stream"]})).json()["streams"]
            assert rest == listed[1:]
            monkeypatch.setattr(answers, "STREAMS_MAX", 1)
            assert (await http.get("/audit/checkpoints")).json()["streams"] == listed[:1]

    asyncio.run(run())


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="no key"),
        pytest.param([("authorization", "Bearer wrong")], id="wrong key"),
        pytest.param([("authorization", "Bearer ")], id="empty key"),
        pytest.param([("authorization", f"Basic {KEY}")], id="another scheme"),
        pytest.param([("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")], id="twice"),
        pytest.param([("x-api-key", KEY)], id="another header"),
        pytest.param([("authorization", f"Bearer {KEY}" + "x" * 600)], id="too long"),
    ],
)
def test_whoever_is_no_auditor_learns_nothing(tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    seen: list[Note] = []

    async def run() -> None:
        async with client(door_of(tmp_path, seen), None) as http:
            for path in ("checkpoints", "nothing-here", "record?stream=x"):
                answer = await http.get(f"/audit/{path}", headers=headers)
                assert answer.status_code == 401
                assert KEY not in answer.text

    asyncio.run(run())
    assert not seen


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "", 404, id="nothing"),
        pytest.param("GET", "checkpoints/", 404, id="slash"),
        pytest.param("POST", "checkpoints", 405, id="post"),
        pytest.param("DELETE", "record", 405, id="delete"),
        pytest.param("POST", "query", 405, id="a question as a form"),
        pytest.param("POST", "nothing", 404, id="post to nothing"),
        pytest.param("GET", "checkpoints?x=1", 400, id="unknown parameter"),
        pytest.param("GET", "consistency?stream=s&old=1", 400, id="missing"),
        pytest.param("GET", "consistency?stream=s&old=1&old=2&new=3", 400, id="twice"),
        pytest.param("GET", "consistency?stream=s&old=-1&new=3", 400, id="below zero"),
        pytest.param("GET", "consistency?stream=s&old=1&new=9999999999999999", 400, id="too large"),
        pytest.param("GET", "record?seq=1&size=2", 400, id="no stream"),
        pytest.param("GET", "record?stream=..&seq=1&size=2", 404, id="path"),
        pytest.param("GET", "record?stream=%2e%2e%2fkeys&seq=1&size=2", 404, id="escaped path"),
        pytest.param("GET", "record?stream=%ff&seq=1&size=2", 400, id="not unicode"),
        pytest.param("GET", "record?stream=none&seq=1&size=2", 404, id="no such stream"),
        pytest.param("GET", "record?" + "x" * 5000, 400, id="long query"),
        pytest.param("GET", "log/s/ended", 404, id="another file of a log"),
        pytest.param("GET", "log/s/tile/0/../../checkpoint", 404, id="a way up"),
        pytest.param("GET", "log/../keys/log-1.key", 404, id="a key"),
        pytest.param("GET", "log/s/checkpoint", 404, id="no such log"),
        pytest.param("GET", "proof/s/one", 400, id="no number"),
        pytest.param("GET", "proof/s/1", 404, id="nothing sealed"),
        pytest.param("GET", "call/" + "f" * 32, 404, id="no such call"),
        pytest.param("GET", "call/CALL", 404, id="no call id"),
        pytest.param("GET", "match", 405, id="a text by GET"),
        pytest.param("POST", "match", 400, id="no text"),
        pytest.param("GET", "query?count=color", 400, id="a count by nothing known"),
        pytest.param("GET", "query?limit=0", 400, id="no rows"),
        pytest.param("GET", "query?since=yesterday", 400, id="no time"),
        pytest.param("GET", "query?cursor=x", 400, id="no cursor"),
        pytest.param("GET", "query?color=red", 400, id="an unknown condition"),
        pytest.param("GET", "report/Q99", 400, id="no such report"),
        pytest.param("GET", "report/Q01?color=red", 400, id="a parameter that the report does not take"),
    ],
)
def test_what_is_not_there_is_said_and_nothing_else(tmp_path: Path, method: str, path: str, status: int) -> None:
    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            answer = await http.request(method, f"/audit/{path}")
            assert answer.status_code == status
            assert set(answer.json()) == {"error"}
            assert answer.headers.get("allow") == ({"GET": "POST"}.get(method, "GET") if status == 405 else None)

    asyncio.run(run())


def test_a_report_names_the_parameters_of_the_query_and_no_options(tmp_path: Path) -> None:
    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            told = (await http.get("/audit/report/Q01")).text
            assert "give the query parameter `model`" in told
            told += (await http.get("/audit/report/Q05?from=2026-03-02&to=2026-03-01")).text
            assert "put the query parameter `from` before the query parameter `to`" in told
            assert "--" not in told

    asyncio.run(run())


def test_a_look_that_cannot_be_recorded_is_not_answered(tmp_path: Path) -> None:
    journal_of(tmp_path)

    def refuse(_: Note) -> None:
        raise AuditError(Reason.AUDIT_UNAVAILABLE)

    async def run() -> None:
        async with client(door_of(tmp_path, on_access=refuse)) as http:
            answer = await http.get("/audit/checkpoints")
            assert answer.status_code == 503
            assert "streams" not in answer.json()

    asyncio.run(run())


def test_looks_are_records_of_the_journal_itself(tmp_path: Path) -> None:
    async def run() -> None:
        journal = Journal.open(tmp_path, gateway_id="gw", worker=0, build="test")
        async with client(door_of(tmp_path, on_access=journal.append)) as http:
            assert (await http.get("/audit/checkpoints")).json()["streams"] == []  # nothing is sealed yet
            seal(tmp_path)
            (told,) = (await http.get("/audit/checkpoints")).json()["streams"]
            assert told["size"] == 2  # the head covers the first look
        await journal.close()

    asyncio.run(run())
    report = check_log(tmp_path)
    assert any(b'"audit_access"' in p for p in payloads(tmp_path).values())
    assert report.records == 4


def test_damage_is_told_to_the_auditor(tmp_path: Path) -> None:
    journal_of(tmp_path)
    segment = frames.journal_dir(tmp_path) / frames.streams(tmp_path)[0].name / frames.segment_name(1)
    data = bytearray(segment.read_bytes())
    data[-40] ^= 1
    segment.write_bytes(data)
    (segment.parent / frames.ENDED_NAME).unlink()
    assert recover(tmp_path, by="gw").damaged

    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            first, second = (await http.get("/audit/checkpoints")).json()["streams"]
            assert "damaged" in first["problem"]
            assert "problem" not in second

    asyncio.run(run())


def test_records_that_changed_refuse_and_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal_of(tmp_path)
    stream = frames.streams(tmp_path)[0]

    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            size = (await http.get("/audit/checkpoints")).json()["streams"][0]["size"]
            bundle = log_dir(tmp_path) / stream.name / entries_path(0, size)
            bundle.write_bytes(bundle.read_bytes().replace(b'"tenant":"t1"', b'"tenant":"t2"'))
            query = {"stream": stream.name, "seq": 1, "size": size}
            with caplog.at_level(logging.ERROR):
                answer = await http.get("/audit/record", params=query)
            assert answer.status_code == 500

    asyncio.run(run())
    assert stream.name in caplog.text


def test_calls_go_on_while_a_question_waits_and_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal_of(tmp_path)
    go, begun = threading.Event(), threading.Event()

    def wait(_: AuditDoor) -> None:
        begun.set()
        assert go.wait(30)

    monkeypatch.setattr(AuditDoor, "_pause", wait)

    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            held = [asyncio.create_task(http.get("/audit/checkpoints")) for _ in range(auditors.WAITING_MAX)]
            await asyncio.to_thread(begun.wait, 30)
            # The loop serves: a further question is refused at once, a stranger is turned away.
            answer = await http.get("/audit/checkpoints")
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
            assert (await http.get("/audit/x", headers={"authorization": "no"})).status_code == 401
            go.set()
            assert [answer.status_code for answer in await asyncio.gather(*held)] == [200] * auditors.WAITING_MAX

    asyncio.run(run())


def test_a_question_that_takes_too_long_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal_of(tmp_path)
    go = threading.Event()
    monkeypatch.setattr(AuditDoor, "_pause", lambda _: go.wait(30))
    monkeypatch.setattr(auditors, "ANSWER_S", 0.01)

    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            assert (await http.get("/audit/checkpoints")).status_code == 503
            go.set()
            monkeypatch.setattr(auditors, "ANSWER_S", 30.0)
            assert (await http.get("/audit/checkpoints")).status_code == 200

    asyncio.run(run())


def test_a_closed_door_gives_up_and_answers_no_more(tmp_path: Path) -> None:
    journal_of(tmp_path)

    async def run() -> None:
        door = door_of(tmp_path)
        async with client(door) as http:
            door.close()
            assert (await http.get("/audit/checkpoints")).status_code == 503

    asyncio.run(run())


def test_looks_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditors, "LOOKS_PER_MINUTE", 2)
    seen: list[Note] = []
    now_s = [60.0]

    async def run() -> None:
        door = AuditDoor(tmp_path, [AUDITOR], seen.append, now_s=lambda: now_s[0])
        async with client(door) as http:
            for expected in (200, 200, 429):
                assert (await http.get("/audit/checkpoints")).status_code == expected
            now_s[0] += 60
            assert (await http.get("/audit/checkpoints")).status_code == 200

    asyncio.run(run())
    assert len(seen) == 3


def test_an_auditor_who_left_breaks_nothing(tmp_path: Path) -> None:
    async def nothing() -> Message:
        raise AssertionError("the body is not read")

    async def gone(_: Message) -> None:
        raise BrokenPipeError

    async def run(receive: Receive) -> None:
        door = door_of(tmp_path)
        scope = {"type": "http", "method": "GET", "path": "/audit/checkpoints", "headers": []}
        await door(scope, receive, gone)
        door.close()

    asyncio.run(run(nothing))


def public_of(data: Path) -> str:
    return verifier_key("gw", LogKey.load(data).public)


def test_a_log_is_read_as_any_client_of_tiles_reads_it(tmp_path: Path) -> None:
    """Every tile and bundle comes out as it is; the look into the log is recorded once a minute."""
    journal_of(tmp_path, calls=150)
    seen: list[Note] = []
    stream = frames.streams(tmp_path)[0].name
    head = sealed_head(tmp_path, stream)

    async def run() -> None:
        async with client(door_of(tmp_path, seen)) as http:
            found = await http.get(f"/audit/log/{stream}/checkpoint")
            assert found.text == head.note
            assert found.headers["content-type"].startswith("text/plain")
            hashes = list(tiles_of(head.size))
            for level, index, width in hashes:
                tile = await http.get(f"/audit/log/{stream}/{tile_path(level, index, width)}")
                assert (tile.status_code, len(tile.content)) == (200, width * 32)
            records: list[bytes] = []
            for index in range(-(-head.size // TILE_WIDTH)):
                width = min(TILE_WIDTH, head.size - index * TILE_WIDTH)
                bundle = await http.get(f"/audit/log/{stream}/{entries_path(index, width)}")
                records += unpack_entries(bundle.content, width)
            written = payloads(tmp_path)
            assert records == [written[f"{stream}/{seq}"] for seq in range(head.size)]

    asyncio.run(run())
    assert [note.detail for note in seen] == [{"auditor": "authority", "what": "log", "stream": stream, "for_s": 60}]


def test_a_proof_is_a_file_that_anyone_checks(tmp_path: Path) -> None:
    journal_of(tmp_path)
    stream = frames.streams(tmp_path)[0].name

    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            proof = (await http.get(f"/audit/proof/{stream}/3")).text
            record = payloads(tmp_path)[f"{stream}/3"]
            assert verify_proof(proof, record, [parse_key(public_of(tmp_path))]).checkpoint.size == 12
            assert (await http.get(f"/audit/proof/{stream}/12")).status_code == 404

    asyncio.run(run())


def test_a_call_is_shown_once_it_is_sealed(tmp_path: Path) -> None:
    async def run() -> None:
        journal = open_journal(tmp_path)
        first, second = call(journal)
        call_id = json.loads(payloads(tmp_path)[first.id])["call_id"]
        async with client(door_of(tmp_path)) as http:
            for sealed in (False, True):
                told = (await http.get(f"/audit/call/{call_id}")).json()["records"]
                assert [(one["record"], one["kind"], one["sealed"]) for one in told] == [
                    (first.id, "intent", sealed),
                    (second.id, "outcome", sealed),
                ]
                assert ["content" in one for one in told] == [sealed, sealed]
                seal(tmp_path)
            assert told[1]["content"] == json.loads(payloads(tmp_path)[second.id])
        await journal.close()

    asyncio.run(run())


def test_a_delivered_text_is_found_by_its_digest(tmp_path: Path) -> None:
    key = DigestKeys.load(tmp_path)
    stream = write(tmp_path, [answered(NOON + i, texts=key.all_texts(f"Answer {i}")) for i in range(4)])
    seen: list[Note] = []

    async def run() -> None:
        async with client(door_of(tmp_path, seen)) as http:
            found = (await http.post("/audit/match", content="  Ans\twer 2\r\n\n")).json()
            assert [match["record"] for match in found["matches"]] == [f"{stream}/6"]
            record = payloads(tmp_path)[f"{stream}/6"]
            key_of_log = parse_key(public_of(tmp_path))
            assert verify_proof(found["matches"][0]["proof"], record, [key_of_log]).signed == (key_of_log,)
            assert (await http.post("/audit/match", content="Answer 9")).json()["matches"] == []
            assert (await http.post("/audit/match", content=b"x" * (1 << 20 | 1))).status_code == 413
            assert (await http.post("/audit/match", content=b"\xff")).status_code == 400

    asyncio.run(run())
    # The look says how much was asked, and nothing of the text.
    assert seen[0].detail == {"auditor": "authority", "what": "match", "bytes": 14}


def test_guesses_at_texts_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditors, "MATCHES_PER_MINUTE", 1)
    journal_of(tmp_path)
    DigestKeys.load(tmp_path)

    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            assert (await http.post("/audit/match", content="a")).status_code == 200
            assert (await http.post("/audit/match", content="b")).status_code == 429
            assert (await http.get("/audit/checkpoints")).status_code == 200

    asyncio.run(run())


def test_questions_are_answered_with_their_completeness(tmp_path: Path) -> None:
    how = [Outcome.ALLOWED, Outcome.BLOCKED, Outcome.ALLOWED, Outcome.MASKED]
    calls = [answered(NOON + i, how=one) for i, one in enumerate(how)]
    both = msgspec.structs.replace(calls[1][1], reasons=("CONTENT_BLOCKED", "IMPERSONATION"))
    stream = write(tmp_path, [calls[0], (calls[1][0], both), *calls[2:]])
    seen: list[Note] = []

    async def run() -> None:
        async with client(door_of(tmp_path, seen)) as http:
            query = "/audit/query?decision=allowed,masked&since=2026-03-01T12:00:00Z&until=2026-03-01T13:00:00Z&limit=2"
            first = (await http.get(query)).json()
            assert [(row["stream"], row["intent"]) for row in first["rows"]] == [(stream, 1), (stream, 5)]
            assert first["completeness"]["complete"] is True
            rest = (await http.get(f"{query}&cursor={first['cursor']}")).json()
            assert [row["intent"] for row in rest["rows"]] == [7]
            counted = (await http.get("/audit/query?count=decision")).json()
            assert counted["counts"] == [
                {"values": ["allowed"], "count": 2},
                {"values": ["blocked"], "count": 1},
                {"values": ["masked"], "count": 1},
            ]
            assert counted["total"] == 4
            several = (await http.get("/audit/query?count=reason")).json()
            assert (sum(one["count"] for one in several["counts"]), several["total"]) == (5, 4)
            nothing = (await http.get("/audit/query?model=chad&count=")).json()
            assert (nothing["total"], nothing["unnamed"]) == (0, ["model: no call of any time has `chad`"])
            bundle = log_dir(tmp_path) / stream / entries_path(0, sealed_head(tmp_path, stream).size)
            bundle.unlink()
            told = (await http.get("/audit/query?count=decision")).json()["completeness"]
            assert told["complete"] is False
            assert stream in told["missing"][0]

    asyncio.run(run())
    assert seen[0].detail is not None
    assert seen[0].detail["decision"] == "allowed,masked"


def test_a_named_report_is_made_for_an_auditor(tmp_path: Path) -> None:
    write(tmp_path, [answered(NOON)])

    async def run() -> None:
        async with client(door_of(tmp_path)) as http:
            found = (await http.get("/audit/report/Q05?from=2026-03-01&to=2026-03-02")).json()
            assert (found["report"], found["completeness"]["complete"]) == ("Q05", True)
            day = (await http.get("/audit/report/Q18?from=2026-03-01&to=2026-03-01")).json()
            assert (day["to"], day["rows"][0]["calls"]) == ("2026-03-02T00:00:00.000Z", 1)
            east = await http.get("/audit/report/Q18?from=2026-03-01T00:00:00+08:00")
            assert (east.status_code, "%2B" in east.text) == (400, True)

    asyncio.run(run())
