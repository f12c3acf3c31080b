"""People, papers and a clock for the tests of the authority; every authority is a real one in a folder."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from gateway.authority.authority import Authority
from gateway.authority.model import Actor, Application, License
from gateway.authority.states import Role

ISSUER = "https://authority.example"
NOW_S = 1_795_024_000  # Wednesday, 2026-11-18, 17:46:40 UTC: Thursday in China
DAY_S = 86_400
TODAY = datetime.date(2026, 11, 19)  # where the calendar is kept


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def who(name: str, *roles: Role) -> Actor:
    return Actor(name, frozenset(roles))


APPLICANT = who("alice", Role.APPLICANT)
OFFICER = who("olga", Role.OFFICER)
ASSESSOR = who("sam", Role.ASSESSOR)
APPROVER = who("ann", Role.APPROVER)
SECOND = who("bob", Role.APPROVER)
OPERATOR = who("otto", Role.OPERATOR)
AUDITOR = who("ada", Role.AUDITOR)
ADMIN = who("root", Role.ADMIN)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW_S

    def __call__(self) -> float:
        return self.now


def make(folder: Path, clock: Hands | None = None, **settings: Any) -> Authority:
    return Authority.create(folder, ISSUER, clock=clock or Hands(), **settings)


DOSSIER = {
    "need": digest("1"),
    "objectives": digest("2"),
    "data_sources": [digest("3")],
    "intended_applications": digest("4"),
    "security_measures": digest("5"),
    "anti_misuse_measures": digest("6"),
}


def form(more: dict[str, Any] | None = None, **record: Any) -> dict[str, Any]:
    """A complete application under a company's own regime; `record` replaces members of the license record."""
    license_ = {
        "regime": "internal",
        "model": {"name": "acme-chat"},
        "holder": {"legal_name": "Acme", "id_code": "ACME-1"},
        "application": DOSSIER,
        "endpoint": {"origins": ["https://api.example.com"]},
        "jurisdictions": ["cn"],
        "purposes": ["demo"],
        "modalities_in": ["text"],
        "modalities_out": ["text"],
        **record,
    }
    return {"license": license_, **(more or {})}


def permit_form(**more: Any) -> dict[str, Any]:
    grant = {
        "holder": "ACME-1",
        "model": "acme-voice",
        "objectives": digest("2"),
        "data_sources": [digest("3"), digest("7")],
        "intended_applications": digest("4"),
        "capabilities": ["voice_clone"],
        "grants": ["grant-1"],
        **more,
    }
    return {"permit": grant, "valid_days": 30}


def to_assessing(authority: Authority, paper: dict[str, Any] | None = None) -> Application:
    made = authority.submit(APPLICANT, paper or form())
    assert authority.check_completeness(OFFICER, made.id) == ()
    result = {"passed": True, "gen_pass": 0.95}
    return authority.attach_assessment(ASSESSOR, made.id, type="security", report=b"report", result=result)


def to_approved(authority: Authority, paper: dict[str, Any] | None = None, *conditions: Any) -> Application:
    made = to_assessing(authority, paper)
    authority.decide(
        APPROVER, made.id, "approve_conditional" if conditions else "approve", reason="sound", conditions=conditions
    )
    if authority.two_person:
        authority.confirm(SECOND, made.id)
    return authority.application(made.id)


def to_active(authority: Authority, paper: dict[str, Any] | None = None, *conditions: Any) -> License:
    return authority.issue(OPERATOR, to_approved(authority, paper, *conditions).id)
