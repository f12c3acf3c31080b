"""What came in replaces what was known only when it verifies and is newer; nothing that was known is lost by silence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.license.check import Gate, check
from gateway.license.issuer import add_to_trust, generate_key
from gateway.license.published import CLOCK_SKEW_S
from gateway.license.signed import Kind, sign
from gateway.license.standing import LISTS_MAX, NO_STANDING, GatewayFacts, Material, Standing, stand
from gateway.license.status import StatusValue
from gateway.license.trust import NO_TRUST
from gateway.reasons import Reason
from policies.model import HOUR_S, STATUS_AGE_S_MAX, LicenseRules
from tests.gateway.license.material import (
    DAY_S,
    ISSUER,
    KEY,
    NOW_S,
    OTHER,
    OTHER_KEY,
    TRUST,
    URI,
    enrolled,
    gateways_token,
    listed,
    model,
    order,
    orders_token,
    status_token,
    trust_for,
    use,
)

ME = GatewayFacts(name="gw")


def step(
    previous: Standing = NO_STANDING, now_s: float = NOW_S, gateway: GatewayFacts = ME, trust: Any = TRUST, **files: Any
) -> tuple[Standing, tuple[str, ...]]:
    return stand(Material(**files), previous, now_s=now_s, gateway=gateway, trust=trust)


def value(standing: Standing) -> StatusValue | None:
    return standing.statuses[ISSUER, URI].value(0)


def test_files_of_all_kinds_come_in() -> None:
    made, problems = step(
        statuses=(status_token(b"\2"),),
        orders=(orders_token(order()),),
        gateways=(gateways_token(enrolled()),),
        version="7",
    )
    assert problems == ()
    assert value(made) is StatusValue.SUSPENDED
    assert [one.orders[0].ref for one in made.orders] == ["o-1"]
    assert [one.name for one in made.gateways[ISSUER].gateways] == ["gw"]
    assert (made.trust, made.gateway, made.version) == (TRUST, ME, "7")


def test_nothing_new_gives_the_very_same_standing() -> None:
    files: dict[str, Any] = {
        "statuses": (status_token(),),
        "orders": (orders_token(),),
        "gateways": (gateways_token(),),
    }
    made, _ = step(**files)
    assert step(made, NOW_S + 10, **files) == (made, ())
    assert step(made, NOW_S + 10, **files, version="8")[0] is not made
    assert step(made, NOW_S + 10, gateway=GatewayFacts(name="x"), **files)[0] is not made


@pytest.mark.parametrize(
    ("iat", "taken"),
    [
        pytest.param(NOW_S + 1, True, id="newer"),
        pytest.param(NOW_S, False, id="of the same second with other bytes"),
        pytest.param(NOW_S - 1, False, id="older"),
        pytest.param(NOW_S + CLOCK_SKEW_S, True, id="ahead by the skew"),
        pytest.param(NOW_S + CLOCK_SKEW_S + 1, False, id="from the future"),
    ],
)
def test_time_never_goes_back(iat: int, taken: bool) -> None:
    known, _ = step(
        statuses=(status_token(b"\1"),), orders=(orders_token(order()),), gateways=(gateways_token(enrolled()),)
    )
    made, problems = step(
        known,
        statuses=(status_token(b"\0", iat=iat),),
        orders=(orders_token(iat=iat),),
        gateways=(gateways_token(iat=iat),),
    )
    assert value(made) is (StatusValue.VALID if taken else StatusValue.INVALID)
    assert bool(made.orders[0].orders) is not taken
    assert bool(made.gateways[ISSUER].gateways) is not taken
    assert len(problems) == (0 if taken else 3)


def test_the_first_list_may_not_come_from_the_future_either() -> None:
    made, problems = step(statuses=(status_token(iat=NOW_S + CLOCK_SKEW_S + 1),))
    assert not made.statuses
    assert "clock" in problems[0]


def test_of_two_lists_in_one_set_the_newer_counts_in_either_order() -> None:
    both = (status_token(b"\1", iat=NOW_S + 1), status_token(b"\0"))
    for files in (both, both[::-1]):
        assert value(step(statuses=files)[0]) is StatusValue.INVALID


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b"", id="empty"),
        pytest.param(status_token(iat=NOW_S + 1)[:-9], id="truncated"),
        pytest.param(orders_token(iat=NOW_S + 1), id="of another kind"),
        pytest.param(status_token(iat=NOW_S + 1, key=OTHER_KEY), id="somebody else's signature"),
        pytest.param(sign({"iss": ISSUER}, Kind.STATUS, KEY).encode(), id="not a status list"),
    ],
)
def test_a_list_that_does_not_verify_leaves_the_known_one(bad: bytes) -> None:
    known, _ = step(statuses=(status_token(b"\2"),))
    made, problems = step(known, NOW_S + 5, statuses=(bad,))
    assert made.statuses == known.statuses
    assert len(problems) == 2  # what was not taken up, and what was not delivered
    assert value(made) is StatusValue.SUSPENDED


def test_lists_that_vanish_stay_until_no_policy_could_use_them_and_orders_stay_for_good() -> None:
    known, _ = step(statuses=(status_token(),), orders=(orders_token(order()),), gateways=(gateways_token(enrolled()),))
    made, problems = step(known, NOW_S + STATUS_AGE_S_MAX - 1)
    assert (made.statuses, made.orders, made.gateways) == (known.statuses, known.orders, known.gateways)
    assert len(problems) == 3
    late, problems = step(made, NOW_S + STATUS_AGE_S_MAX)
    assert (dict(late.statuses), dict(late.gateways)) == ({}, {})
    assert late.orders == known.orders
    assert len(problems) == 3
    verdict = check(model(listed()), use(NOW_S + DAY_S - 1), LicenseRules(), late)
    assert verdict.reason is Reason.ORDER_IN_FORCE


def test_keys_that_came_in_count_and_broken_ones_leave_the_known() -> None:
    keys = add_to_trust(None, OTHER, OTHER_KEY).encode()
    made, problems = step(keys=keys, statuses=(status_token(iss=OTHER, key=OTHER_KEY),))
    assert problems == ()
    assert made.trust.issuers == {OTHER}
    assert list(made.statuses) == [(OTHER, URI)]
    again, problems = step(made, keys=b"{")
    assert again.trust is made.trust
    assert "keys.json" in problems[0]
    assert step(made, keys=keys)[0].trust is made.trust
    first, problems = step(keys=b"{")
    assert first.trust is TRUST
    assert problems


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"issuers": [', id="cut off"),
        pytest.param(
            b'{"issuers": [{"iss": "a", "keys": [{"q": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}]}", id="deep"
        ),
        pytest.param(b'{"issuers": [{"iss": "\\ud800", "keys": []}]}', id="half a character"),
        pytest.param(b" " * 2_000_000, id="huge"),
    ],
)
def test_keys_that_cannot_be_read_are_a_problem_and_no_more(keys: bytes) -> None:
    made, problems = step(keys=keys, statuses=(status_token(),))
    assert made.trust is TRUST
    assert made.statuses
    assert len(problems) == 1


def test_what_a_key_signed_goes_with_the_key_but_orders_are_not_lifted_by_it() -> None:
    new = generate_key()
    known, _ = step(statuses=(status_token(),), orders=(orders_token(order()),), gateways=(gateways_token(enrolled()),))
    made, problems = step(known, trust=trust_for((ISSUER, new)))
    assert (dict(made.statuses), dict(made.gateways)) == ({}, {})
    assert len(made.orders) == 1
    assert len(problems) == 3
    renewed, problems = step(
        made,
        NOW_S + 1,
        trust=trust_for((ISSUER, new)),
        statuses=(status_token(iat=NOW_S + 1, key=new),),
        orders=(orders_token(iat=NOW_S + 1, key=new),),
    )
    assert problems == ()
    assert renewed.orders[0].orders == ()


def test_another_key_of_the_same_id_does_not_take_over_what_the_first_signed() -> None:
    known, _ = step(statuses=(status_token(),))
    impostor = generate_key(kid=KEY.kid)
    assert not step(known, trust=trust_for((ISSUER, impostor)))[0].statuses


def test_an_issuer_that_may_no_longer_give_orders_gives_none() -> None:
    known, _ = step(orders=(orders_token(order()),))
    file = json.loads(add_to_trust(None, ISSUER, KEY))
    file["issuers"][0]["may"] = ["license", "status"]
    made, problems = step(known, keys=json.dumps(file).encode())
    assert made.orders == ()
    assert len(problems) == 1
    assert step(known, trust=NO_TRUST)[0].orders == ()


def test_each_issuer_has_its_own_lists() -> None:
    made, problems = step(
        orders=(orders_token(order()), orders_token(iss=OTHER, key=OTHER_KEY)),
        statuses=(status_token(), status_token(iss=OTHER, key=OTHER_KEY), status_token(sub=URI + "2")),
    )
    assert problems == ()
    assert set(made.statuses) == {(ISSUER, URI), (OTHER, URI), (ISSUER, URI + "2")}
    assert {one.iss for one in made.orders} == {ISSUER, OTHER}


def test_l9_there_are_no_more_lists_than_are_allowed() -> None:
    one = status_token()
    made, problems = step(statuses=(b"x",) * LISTS_MAX + (one,))
    assert not made.statuses
    assert len(problems) == LISTS_MAX + 1


def test_l9_all_status_lists_together_have_a_greatest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.license.standing.STATUS_BYTES_MAX", 20)
    long = [status_token(bytes(40), sub=f"u{i}") for i in range(3)]
    made, problems = step(statuses=tuple(long))
    assert [uri for _, uri in made.statuses] == ["u0", "u1"]
    assert len(problems) == 1
    newer = status_token(bytes(80), sub="u0", iat=NOW_S + 1)
    assert step(made, NOW_S + 1, statuses=(newer, *long[1:2]))[0].statuses[ISSUER, "u0"].iat == NOW_S


def test_l7_problems_show_no_bytes_of_what_came_in() -> None:
    secret = b"hunter2hunter2"
    _, problems = step(statuses=(secret, secret + b".a.b"), keys=secret)
    assert problems
    assert "hunter2" not in " ".join(problems)


RULES = LicenseRules(offline_grace_s=0, status_max_age_s=HOUR_S)


def test_suspended_lifted_and_revoked_are_seen_at_the_next_call() -> None:
    gate, facts = Gate(), model(listed())
    held = NO_STANDING
    expected = [(b"\0", None, "valid"), (b"\2", Reason.LIC_STATE, "suspended"), (b"\0", None, "valid")]
    for i, (values, reason, word) in enumerate([*expected, (b"\1", Reason.LIC_STATE, "revoked")]):
        held, problems = step(held, NOW_S + i, statuses=(status_token(values, iat=NOW_S + i),))
        assert problems == ()
        verdict = gate.check(facts, use(NOW_S + i), RULES, held)
        assert (verdict.reason, verdict.status, verdict.status_iat_s) == (reason, word, NOW_S + i)
        assert verdict == check(facts, use(NOW_S + i), RULES, held)
        assert gate.remembered == 1
