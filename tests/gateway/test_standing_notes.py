"""The notes on a change of standing, and what is read back from them."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from gateway import standing_notes as module
from gateway.audit import changes
from gateway.audit.record import LIST_ITEMS_MAX, STRING_CHARS_MAX, Intent, LicenseRef, Note, Text, encode
from gateway.license.orders import Order, OrderList, Target, reaches
from gateway.license.standing import NO_STANDING, Standing
from gateway.license.status import StatusList, StatusValue, pack_status
from gateway.standing_notes import standing_notes
from tests.gateway.license.material import ISSUER, TRUST

URI = "https://authority.example/status/1"
LICENSES = {"lic-0": (ISSUER, URI, 0), "lic-1": (ISSUER, URI, 1)}
T = 1_790_000_000


def listed(*values: StatusValue, iat: int = T) -> Standing:
    made = StatusList(ISSUER, URI, iat, iat + 600, 60, pack_status(bytes(values)), digest=f"d{iat}")
    return Standing(trust=TRUST, statuses={(ISSUER, URI): made}, version=f"v{iat}")


def ordered(*orders: Order, iat: int = T) -> Standing:
    return Standing(trust=TRUST, orders=(OrderList(ISSUER, iat, iat + 600, 60, orders, digest="o"),), version="v")


def change(detail: dict[str, Any]) -> changes.Change:
    assert len(detail) <= LIST_ITEMS_MAX
    assert all(len(v) <= STRING_CHARS_MAX for v in detail.values() if isinstance(v, str))
    note = Note(ts=1, topic=changes.TOPIC, detail=detail)
    assert b"clipped" not in encode(note, "s/1")
    made = changes.read_change(1, note)
    assert made is not None
    return made


VALID, SUSPENDED, INVALID = StatusValue.VALID, StatusValue.SUSPENDED, StatusValue.INVALID


def test_a_start_tells_only_what_does_not_hold() -> None:
    (note,) = standing_notes(NO_STANDING, listed(VALID, SUSPENDED), LICENSES)
    assert note == {
        "subject": "license",
        "license": "lic-1",
        "issuer": ISSUER,
        "status": "suspended",
        "published_s": T,
        "list": URI,
        "digest": f"d{T}",
        "version": f"v{T}",
    }
    assert change(note).first
    assert [n["status"] for n in standing_notes(NO_STANDING, Standing(trust=TRUST, version="x"), LICENSES)] == []


def test_each_license_whose_status_changed_is_told() -> None:
    before, after = listed(VALID, SUSPENDED), listed(INVALID, SUSPENDED, iat=T + 9)
    (note,) = standing_notes(before, after, LICENSES)
    assert (note["license"], note["status"], note["was"], note["published_s"]) == ("lic-0", "revoked", "valid", T + 9)
    assert change(note).stops
    assert not change(note).first
    assert standing_notes(after, listed(INVALID, SUSPENDED, iat=T + 20), LICENSES) == []
    (note,) = standing_notes(after, listed(INVALID, VALID, iat=T + 20), LICENSES)
    assert (note["status"], note["was"]) == ("valid", "suspended")
    assert not change(note).stops
    # A list that is lost, and one that comes: both are told, so that whoever reads knows when a stop ended.
    lost = Standing(trust=TRUST, version="lost")
    assert [n["status"] for n in standing_notes(after, lost, LICENSES)] == ["unknown", "unknown"]
    assert [n["status"] for n in standing_notes(lost, listed(VALID, VALID), LICENSES)] == ["valid", "valid"]


def test_orders_are_told_when_given_changed_and_gone() -> None:
    order = Order("r1", "model", T, models=("gpt-*",), jurisdictions=("eu",))
    (given,) = standing_notes(NO_STANDING, ordered(order), {})
    assert (given["state"], given["effective_at"], given["reach"], given["first"]) == ("given", T, "own", True)
    assert change(given).models == ("gpt-*",)
    assert change(given).jurisdictions == ("eu",)
    assert standing_notes(ordered(order), ordered(order, iat=T + 5), {}) == []
    lifted = dataclasses_replace(order, lifted_at=T + 50)
    (changed,) = standing_notes(ordered(order), ordered(lifted), {})
    assert (changed["state"], changed["lifted_at"]) == ("changed", T + 50)
    (gone,) = standing_notes(ordered(order), ordered(iat=T + 7), {})
    assert (gone["state"], gone["published_s"]) == ("gone", T + 7)
    assert not change(gone).stops
    assert change(given).stops


def dataclasses_replace(order: Order, **changes_: Any) -> Order:
    members = {name: getattr(order, name) for name in order.__struct_fields__}
    return Order(**members | changes_)


def test_notes_keep_their_bounds_whatever_an_order_names(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "x" * 500
    order = Order(
        long,
        "model",
        T,
        models=tuple(f"{long}{i}" for i in range(500)),
        modalities=tuple(f"m{i}" for i in range(512)),
        jurisdictions=tuple(f"xx-{i}" for i in range(512)),
        issued_at=T,
        lifted_at=T,
    )
    (note,) = standing_notes(NO_STANDING, ordered(order), {})
    made = change(note)
    assert made.cut
    assert made.models == order.models[: len(made.models)]
    assert made.models
    assert made.name == changes.short(long) != long
    monkeypatch.setattr(module, "NOTES_MAX", 2)
    many = ordered(*(Order(f"r{i}", "all", T) for i in range(5)))
    notes = standing_notes(NO_STANDING, many, {})
    assert [n.get("order") for n in notes] == ["r0", "r1", None]
    assert notes[-1]["left_out"] == 3


def test_names_that_are_cut_stay_different() -> None:
    a, b = "x" * 400 + "a", "x" * 400 + "b"
    assert len(changes.short(a)) == len(changes.short(b)) == STRING_CHARS_MAX
    assert changes.short(a) != changes.short(b)
    assert changes.short("lic-1") == "lic-1"


ORDERS = [
    Order("r", "all", T),
    Order("r", "all", T, jurisdictions=("eu",)),
    Order("r", "all", T, jurisdictions=("us-ca", "de")),
    Order("r", "model", T, models=("GPT-4*",)),
    Order("r", "model", T, models=("*mini",), jurisdictions=("*",)),
    Order("r", "model", T, models=("lic-1", "other")),
    Order("r", "model", T),
    Order("r", "modality", T, modalities=("Image",)),
    Order("r", "modality", T, modalities=("embedding",)),
    Order("r", "modality", T, modalities=("*",)),
]
CALLS: list[dict[str, Any]] = [
    {"territory": territory, "modality": modality, "operation": operation, "target": target}
    for territory, modality, operation, target in itertools.product(
        ((), ("de",), ("us",), ("eu",), ("us-ca", "cn")), ("text", "image"), ("chat", "embeddings"), ("gpt-4o", "mini")
    )
]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_a_note_concerns_the_calls_that_the_order_reaches(order: Order) -> None:
    """The journal's reading of an order, against the gate's own."""
    (note,) = standing_notes(NO_STANDING, ordered(order), {})
    told = dataclasses.replace(change(note), reach=changes.ANY)
    for call in CALLS:
        out = "embedding" if call["operation"] == "embeddings" else "text"
        target = Target(
            frozenset({"chat", call["target"], "lic-1"}), frozenset({call["modality"], out}), call["territory"], None
        )
        intent = Intent(
            ts=1,
            call_id="0" * 32,
            stream=False,
            model="chat",
            target_model=call["target"],
            operation=call["operation"],
            license=LicenseRef(verdict="allow", id="lic-1"),
            prompt=Text(bytes=1, modalities=(call["modality"],)),
            territory=call["territory"] or None,
        )
        assert told.concerns(intent, new_caller=True) == reaches(order, target), call
