"""A record's story, as text and as a page: everything that happened is in it, and nothing that was typed takes effect."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.authority.history import History, history, plain, touches
from gateway.authority.model import Application, Event, License
from gateway.authority.states import State
from gateway.license.orders import Order

TERMS = {
    "model": {"name": "chat"},
    "holder": {"legal_name": "Example <b>Ltd</b>"},
    "jurisdictions": ["cn", "us-ca"],
    "modalities_in": ["text"],
    "modalities_out": ["text", "image"],
}
APPLICATION = Application(
    id="a-1",
    kind="license",
    state=State.ACTIVE,
    applicant="ann",
    form={"license": TERMS},
    regime="internal",
    submitted_at=100,
    changed_at=100,
    conditions=({"type": "witness", "lag_s": 60},),
)
LICENSE = License(
    "jti-1", State.SUSPENDED, "a-1", "ann", "chat", "", "1", 0, 100, 5000, "e30.e30.e30", reason="a complaint"
)


def event(seq: int, action: str, **changes: object) -> Event:
    made = Event(seq, 100 + seq, "olga", ("approver",), action, "a-1", "submitted", "submitted", {}, {})
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def story(*orders: Order) -> History:
    events = [
        event(1, "submit", actor="ann", roles=("applicant",), before="draft", after="submitted"),
        event(2, "approve_conditional", detail={"conditions": [{"type": "witness"}]}),
        event(3, "suspend", detail={"reason": "<script>alert(1)</script>"}, digests={"order": "sha256:00"}),
    ]
    return history(APPLICATION, [LICENSE], events, orders)


def test_the_text_tells_who_did_what_and_why() -> None:
    text = story(Order(ref="P-7", scope="model", effective_at=102, models=("chat*",), lifted_at=104)).text
    assert "ann (applicant) applied" in text
    assert "status: draft -> submitted" in text
    assert "olga (approver) approved under conditions  [log 2]" in text
    assert 'condition  {"type": "witness", "lag_s": 60}' in text
    assert "jti-1: suspended (a complaint)" in text
    assert "order: sha256:00" in text
    places = [text.index(part) for part in ("applied", "put order P-7", "suspended the license", "ended order P-7")]
    assert places == sorted(places)


def test_the_page_holds_no_markup_that_somebody_typed() -> None:
    page = story().page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Example &lt;b&gt;Ltd&lt;/b&gt;" in page
    assert "<script" not in page
    assert "e30.e30" not in page  # the token is for gateways


def test_nothing_typed_steers_a_terminal() -> None:
    assert plain("a\x1b[2Jb\u202ec\nd") == "a\ufffd[2Jb\ufffdc\ufffdd"
    assert len(plain("x" * 10_000)) == 301


@pytest.mark.parametrize(
    ("order", "touched"),
    [
        pytest.param({"scope": "all"}, True, id="everything"),
        pytest.param({"scope": "new_callers"}, True, id="new callers"),
        pytest.param({"scope": "model", "models": ("chat",)}, True, id="the model"),
        pytest.param({"scope": "model", "models": ("jti-1",)}, True, id="the license"),
        pytest.param({"scope": "model", "models": ("other*",)}, False, id="another model"),
        pytest.param({"scope": "modality", "modalities": ("image",)}, True, id="a modality it has"),
        pytest.param({"scope": "modality", "modalities": ("audio",)}, False, id="a modality it has not"),
        pytest.param({"scope": "all", "jurisdictions": ("us",)}, True, id="a country around its part"),
        pytest.param({"scope": "all", "jurisdictions": ("eu",)}, False, id="elsewhere"),
    ],
)
def test_an_order_is_told_where_it_touches(order: dict[str, object], touched: bool) -> None:
    made = Order(ref="P-1", effective_at=1, **order)  # type: ignore[arg-type]
    assert touches(made, TERMS, "jti-1") is touched
    assert ("P-1" in story(made).text) is touched
