"""Cases: only two custodians together open one, every step is recorded first, and nothing that was altered or replayed opens."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.audit import Custodian
from gateway.vault import cases, custody, transcripts
from gateway.vault.access import VaultError, opened
from gateway.vault.cases import Vault
from gateway.vault.custody import Keyring
from gateway.vault.erasure import erase
from gateway.vault.incidents import incident
from gateway.vault.transcripts import Transcripts
from tests.gateway.audit.samples import call as journal_call
from tests.gateway.audit.samples import check_log, open_journal, payloads
from tests.gateway.vault.samples import SECRET, call_id, custodian, holding, keyrings, notes

ALICE, BOB, CAROL = keyrings("alice", "bob", "carol")
PEOPLE = [custodian(one) for one in (ALICE, BOB, CAROL)]
JANE = "k1:" + "a" * 32
EVIDENCE = f'{{"prompt":"{SECRET}"}}'.encode()


def keep(data: Path, *calls: str, people: list[Custodian] = PEOPLE) -> list[cases.Sealed]:
    async def run() -> list[cases.Sealed]:
        vault = Vault(data, people)
        try:
            return [await vault.keep(one, EVIDENCE) for one in calls]
        finally:
            vault.close()

    return asyncio.run(run())


def request(data: Path, case: str, me: Keyring, to: str, **more: int) -> bytes:
    with opened(data, "gw") as log:
        return cases.request(data, case, me, to, "an authority asks", log, **more)


def open_case(data: Path, case: str, me: Keyring, half: bytes, **more: int) -> bytes:
    with opened(data, "gw") as log:
        return cases.open_case(data, case, me, half, "an authority asks", log, **more)


@pytest.fixture
def case(tmp_path: Path) -> str:
    [made] = keep(tmp_path, call_id())
    return made.case


def test_any_two_custodians_open_a_case_and_each_step_is_recorded(tmp_path: Path) -> None:
    calls = [call_id() for _ in range(3)]
    sealed = keep(tmp_path, *calls)
    for made, (one, other) in zip(sealed, itertools.combinations((ALICE, BOB, CAROL), 2), strict=True):
        assert open_case(tmp_path, made.case, other, request(tmp_path, made.case, one, other.name)) == EVIDENCE
        assert open_case(tmp_path, made.case, one, request(tmp_path, made.case, other, one.name)) == EVIDENCE
    told = notes(tmp_path, "case")
    assert [(one["what"], one["who"]) for one in told[:4]] == [
        ("requested", "alice"),
        ("accessed", "bob"),
        ("requested", "bob"),
        ("accessed", "alice"),
    ]
    assert all(one["reason"] == "an authority asks" and one["call"] in calls for one in told)
    assert [one.accessed for one in cases.cases(tmp_path)] == [2, 2, 2]
    check_log(tmp_path)


def test_l7_evidence_shares_and_keys_lie_open_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []
    real = custody.split

    def split(case: str, people: Any) -> tuple[bytes, dict[str, str]]:
        key, shares = real(case, people)
        keys.append(key)
        return key, shares

    monkeypatch.setattr(custody, "split", split)
    data = tmp_path / "data"
    [made] = keep(data, call_id())
    half = request(data, made.case, ALICE, "bob")
    (tmp_path / "half").write_bytes(half)
    assert open_case(data, made.case, BOB, half) == EVIDENCE
    assert len(keys) == 1
    needles = [*keys, SECRET.encode(), BOB.private.private_bytes_raw(), ALICE.private.private_bytes_raw()]
    assert [holding(tmp_path, needle) for needle in needles] == [[]] * len(needles)
    assert all(p.stat().st_mode & 0o077 == 0 for p in (data / "vault").rglob("*"))


def test_one_custodian_alone_cannot_open(tmp_path: Path, case: str) -> None:
    with pytest.raises(VaultError, match="two different"):
        request(tmp_path, case, ALICE, "alice")
    with pytest.raises(VaultError, match="made for bob"):  # alice uses the half that she made for bob
        open_case(tmp_path, case, ALICE, request(tmp_path, case, ALICE, "bob"))
    half = json.loads(request(tmp_path, case, ALICE, "bob"))
    for forged in ({"from": "bob", "to": "alice"}, {"to": "alice"}, {"from": "alice", "to": "alice"}):
        with pytest.raises(VaultError):
            open_case(tmp_path, case, ALICE, json.dumps({**half, **forged}).encode())
    assert cases.status(tmp_path, case).accessed == 0


def test_what_one_custodian_holds_is_independent_of_the_key() -> None:
    people = custody.holders(PEOPLE)
    key, sealed = custody.split("case-x", people)
    shares = {
        one.name: custody._open(
            sealed[one.name], one, custody._share_info("case-x", one.name, custody.fingerprint(people)), ""
        )
        for one in (ALICE, BOB, CAROL)
    }
    for held in shares.values():
        parts = [held[:32], held[32:]]
        assert key not in (*parts, custody._xor(*parts))
    assert custody._xor(shares["alice"][:32], shares["bob"][:32]) == key
    assert custody._xor(shares["alice"][32:], shares["carol"][:32]) == key
    assert custody._xor(shares["bob"][32:], shares["carol"][32:]) == key


def test_a_half_serves_its_case_its_person_its_time_and_once(tmp_path: Path, case: str) -> None:
    [other] = keep(tmp_path, call_id())
    half = request(tmp_path, case, ALICE, "bob", now_s=1_000_000)
    for changes, me in (
        ({"case": other.case}, BOB),  # replayed for another case
        ({"to": "carol"}, CAROL),
        ({"from": "carol"}, BOB),
        ({"made_s": 1_000_500}, BOB),  # made younger than it is
    ):
        forged = {**json.loads(half), **changes}
        with pytest.raises(VaultError, match="does not open"):
            open_case(tmp_path, forged["case"], me, json.dumps(forged).encode(), now_s=1_000_600)
    with pytest.raises(VaultError, match="not for bob"):
        open_case(tmp_path, other.case, BOB, half, now_s=1_000_600)
    for late in (1_000_000 + cases.HALF_AGE_S_MAX + 1, 1_000_000 - cases.CLOCK_SLACK_S - 1):
        with pytest.raises(VaultError, match="hours ago"):
            open_case(tmp_path, case, BOB, half, now_s=late)
    assert open_case(tmp_path, case, BOB, half, now_s=1_000_600) == EVIDENCE
    with pytest.raises(VaultError, match="used already"):
        open_case(tmp_path, case, BOB, half, now_s=1_000_601)
    assert [one["what"] for one in notes(tmp_path, "case")].count("failed") == 8


def swap_custodian(head: dict[str, Any]) -> None:
    head["custodians"][1][1] = custodian(keyrings("mallory")[0]).key


def swap_shares(head: dict[str, Any]) -> None:
    head["shares"]["alice"], head["shares"]["bob"] = head["shares"]["bob"], head["shares"]["alice"]


def later(head: dict[str, Any]) -> None:
    head["made_ms"] += 1


def kind(head: dict[str, Any]) -> None:
    head["kind"] = "incident"


@pytest.mark.parametrize("change", [swap_custodian, swap_shares, later, kind])
def test_an_altered_head_does_not_open(tmp_path: Path, case: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = tmp_path / "vault" / case / "evidence.sealed"
    line, _, sealed = path.read_bytes().partition(b"\n")
    head = json.loads(line)
    change(head)
    path.write_bytes(json.dumps(head, separators=(",", ":")).encode() + b"\n" + sealed)
    with pytest.raises(VaultError, match=r"do not open|altered|not the key"):
        open_case(tmp_path, case, BOB, request(tmp_path, case, ALICE, "bob"))


def test_altered_and_swapped_evidence_does_not_open(tmp_path: Path, case: str) -> None:
    [other] = keep(tmp_path, call_id())
    here, there = (tmp_path / "vault" / name / "evidence.sealed" for name in (case, other.case))
    good, half = here.read_bytes(), request(tmp_path, case, ALICE, "bob")
    here.write_bytes(good[:-1] + bytes((good[-1] ^ 1,)))
    with pytest.raises(VaultError, match="altered"):
        open_case(tmp_path, case, BOB, half)
    here.write_bytes(good.partition(b"\n")[0] + b"\n" + there.read_bytes().partition(b"\n")[2])
    with pytest.raises(VaultError, match="altered"):
        open_case(tmp_path, case, BOB, half)
    here.write_bytes(there.read_bytes())
    with pytest.raises(VaultError, match="another case"):
        open_case(tmp_path, case, BOB, half)
    here.write_bytes(good)
    assert open_case(tmp_path, case, BOB, half) == EVIDENCE


def test_a_look_that_cannot_be_recorded_shows_nothing(tmp_path: Path, case: str) -> None:
    half = request(tmp_path, case, ALICE, "bob")
    with opened(tmp_path, "gw") as log:
        log._runner.run(log._journal.close())
        with pytest.raises(Exception, match="AUDIT_UNAVAILABLE"):
            cases.open_case(tmp_path, case, BOB, half, "why not", log)
        with pytest.raises(Exception, match="AUDIT_UNAVAILABLE"):
            cases.request(tmp_path, case, ALICE, "bob", "why not", log)
    assert cases.status(tmp_path, case).accessed == 0


def test_the_note_names_the_evidence_and_a_call_has_one_case(tmp_path: Path) -> None:
    one = call_id()
    [made] = keep(tmp_path, one)
    assert made.case == f"case-{one}"
    assert made.detail["what"] == "opened"
    assert len(str(made.detail["evidence"])) == 64
    with pytest.raises(VaultError, match="already"):
        keep(tmp_path, one)


def test_l9_the_vault_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "EVIDENCE_BYTES_MAX", 1_000)

    async def run() -> None:
        vault = Vault(tmp_path, PEOPLE, bytes_max=3_000)
        await vault.keep(call_id(), bytes(900))
        with pytest.raises(VaultError, match="at most"):
            await vault.keep(call_id(), bytes(1_001))
        with pytest.raises(VaultError, match="close cases and prune"):
            await vault.keep(call_id(), bytes(900))
        assert (vault.kept, vault.failed) == (1, 2)
        vault.close()

    asyncio.run(run())
    with pytest.raises(VaultError, match="32 hex"):
        keep(tmp_path, "../../etc")


def test_reports_and_closing_are_recorded_and_told(tmp_path: Path, case: str) -> None:
    with opened(tmp_path, "gw") as log:
        cases.report(tmp_path, case, "the regulator", "R-17", "as the law asks", log, now_ms=5)
        cases.close(tmp_path, case, "done with", log, now_ms=7)
        with pytest.raises(VaultError, match="closed already"):
            cases.close(tmp_path, case, "again", log, now_ms=8)
    told = cases.status(tmp_path, case)
    assert (told.reports[0].at, told.reports[0].ref, told.closed_ms) == ("the regulator", "R-17", 7)
    assert [one["what"] for one in notes(tmp_path, "case")] == ["reported", "closed"]


def answered(data: Path) -> str:
    """The id of a call of JANE's, whose exchange was kept."""

    async def run() -> str:
        journal = open_journal(data)
        kept = Transcripts.open(data)
        first, _ = journal_call(journal)
        id_ = str(json.loads(payloads(data)[first.id])["call_id"])
        await kept.keep(id_, JANE, EVIDENCE)
        await kept.close()
        await journal.close()
        return id_

    return asyncio.run(run())


def test_an_incident_over_an_erased_transcript_holds_the_records_alone(tmp_path: Path) -> None:
    id_ = answered(tmp_path)
    with opened(tmp_path, "gw") as log:
        erase(tmp_path, [JANE], "a request", log)
    answered(tmp_path)  # the same user again, in the same month
    with opened(tmp_path, "gw") as log:
        made = incident(tmp_path, custody.holders(PEOPLE), id_, "a complaint", log, now_ms=1)
    assert made.erased
    case = made.sealed.case
    evidence = json.loads(open_case(tmp_path, case, BOB, request(tmp_path, case, ALICE, "bob")))
    assert (evidence["transcript"], evidence["erased"]) == (None, True)
    assert [json.loads(one["record"])["kind"] for one in evidence["records"]] == ["intent", "outcome"]


def test_an_incident_outlives_the_transcript_that_it_was_opened_over(tmp_path: Path) -> None:
    id_ = answered(tmp_path)
    with opened(tmp_path, "gw") as log:
        made = incident(tmp_path, custody.holders(PEOPLE), id_, "a complaint", log, now_ms=1).sealed
        with pytest.raises(VaultError, match="no call"):
            incident(tmp_path, custody.holders(PEOPLE), "f" * 32, "a complaint", log, now_ms=1)
    for path in list(transcripts.files(tmp_path)):
        path.unlink()
    evidence = json.loads(open_case(tmp_path, made.case, BOB, request(tmp_path, made.case, ALICE, "bob")))
    assert json.loads(evidence["transcript"]) == json.loads(EVIDENCE)
    assert [json.loads(one["record"])["kind"] for one in evidence["records"]] == ["intent", "outcome"]
    assert [one["what"] for one in notes(tmp_path, "case")][:2] == ["incident", "opened"]
    assert [one["what"] for one in notes(tmp_path, "transcript_access")] == ["moved"]
    assert holding(tmp_path, SECRET.encode()) == []


@pytest.mark.parametrize(
    ("people", "problem"),
    [
        pytest.param([PEOPLE[0]], "name 2 to 16", id="one alone"),
        pytest.param([PEOPLE[0], Custodian("al", PEOPLE[0].key)], "one name or one key", id="one key twice"),
        pytest.param([PEOPLE[0], Custodian("alice", PEOPLE[1].key)], "one name or one key", id="one name twice"),
        pytest.param([PEOPLE[0], Custodian("bob", "AAAA")], r"custodians\[1\].key", id="no key"),
        pytest.param([PEOPLE[0], Custodian("bob", "A" * 43 + "=")], r"custodians\[1\].key", id="a point of low order"),
        pytest.param([], "none", id="nobody"),
    ],
)
def test_custodians_that_could_not_be_two_people_are_refused(
    tmp_path: Path, people: list[Custodian], problem: str
) -> None:
    with pytest.raises(VaultError, match=problem):
        Vault(tmp_path, people)


def test_key_files_open_with_their_passphrase_alone(tmp_path: Path) -> None:
    path = tmp_path / "alice.pem"
    path.write_bytes(custody.private_pem(ALICE.private, b"correct horse"))
    assert custody.public_of(custody.load_keyring("alice", path, b"correct horse")) == custody.public_of(ALICE)
    for wrong in (b"another", None):
        with pytest.raises(VaultError, match="passphrase"):
            custody.load_keyring("alice", path, wrong)
