"""`licet license status | order | enroll | renew`: lists that are only ever followed by later ones of the same hand."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.license.cli import app
from gateway.license.cli_status import next_index
from gateway.license.issuer import load_private_key
from gateway.license.kept_lists import KeptError, Signer, Spans, open_list, sign_list, take_index, values_of
from gateway.license.orders import read_orders
from gateway.license.signed import Kind
from gateway.license.standing import read_gateways
from gateway.license.status import StatusList, StatusValue, read_status_list
from gateway.license.territory import touches
from gateway.license.trust import Trust, load_trust
from tests.fakes.commands import Done, commands

BOARD = "https://board.example"
URI = f"{BOARD}/status"
THUMBPRINT = "A" * 43


run = commands(app)


def ran(*args: str | Path) -> str:
    made = run(*args)
    assert made.exit_code == 0, made.output
    return made.output


class House:
    """A folder with keys and a status list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ran("keygen", "--out", folder, "--issuer", BOARD)
        (self.key,) = folder.glob("*.private.jwk")
        self.list = folder / "status.jwt"
        ran("status", "init", "--key", self.key, "--uri", URI, "--out", self.list, "--size", "8")

    @property
    def trust(self) -> Trust:
        return load_trust((self.folder / "trust.json").read_bytes(), source="t")

    @property
    def statuses(self) -> StatusList:
        return read_status_list(self.list.read_bytes(), self.trust)

    @property
    def signer(self) -> Signer:
        return Signer(*load_private_key(self.key.read_bytes(), source="k"))

    def issue(self, name: str, *more: str | Path) -> Done:
        scope = ("--origin", "https://a.example", "--jurisdiction", "eu", "--purpose", "p")
        status = more or ("--status", self.list)
        return run("issue", "--key", self.key, "--model", "m", *scope, *status, "--out", self.folder / name)

    def set(self, word: str, *more: str | Path) -> Done:
        return run("status", "set", self.list, word, "--key", self.key, *more)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_new_list_has_no_license_and_is_never_overwritten(house: House) -> None:
    made = house.statuses
    assert (made.iss, made.uri, made.ttl_s, made.exp - made.iat) == (BOARD, URI, 86_400, 30 * 86_400)
    assert list(values_of(made)) == [StatusValue.OTHER] * 8
    again = run("status", "init", "--key", house.key, "--uri", URI, "--out", house.list)
    assert again.exit_code == 2
    assert "forget" in again.output


def test_each_license_gets_an_index_of_its_own_and_the_list_grows(house: House) -> None:
    for number in range(9):
        assert house.issue(f"{number}.jws").exit_code == 0
    entries = [
        json.loads(run("inspect", "--json", house.folder / f"{n}.jws").output)["payload"]["status"] for n in range(9)
    ]
    assert entries == [{"status_list": {"uri": URI, "idx": n}} for n in range(9)]
    made = house.statuses
    assert [made.value(n) for n in (0, 8, 9, 15)] == [StatusValue.VALID] * 2 + [StatusValue.OTHER] * 2
    assert made.value(16) is None


def test_an_index_is_not_given_away_for_a_license_that_cannot_be_issued(house: House) -> None:
    before = house.list.read_bytes()
    refused = house.issue("x.jws", "--status", house.list, "--pin", "no pin")
    assert refused.exit_code == 2
    assert house.list.read_bytes() == before


def test_suspended_is_lifted_and_revoked_is_final(house: House) -> None:
    house.issue("a.jws")
    one = ("--license", house.folder / "a.jws")
    times = [house.statuses.iat]
    for word, value in (("suspended", 2), ("valid", 0), ("suspended", 2), ("revoked", 1)):
        assert house.set(word, *one, "--reason", "because").exit_code == 0
        assert house.statuses.value(0) == value
        times.append(house.statuses.iat)
    assert times == sorted(set(times)), "each list is later than the one before"
    before = house.list.read_bytes()
    assert "already" in house.set("revoked", *one).output
    for word in ("valid", "suspended"):
        refused = house.set(word, *one)
        assert refused.exit_code == 1
        assert "final" in refused.output
    assert house.list.read_bytes() == before
    log = [json.loads(line) for line in (house.folder / "status.jwt.log").read_text().splitlines()]
    assert [line["status"] for line in log] == ["valid", "suspended", "valid", "suspended", "revoked"]
    assert log[1]["reason"] == "because"


def test_show_and_verify_tell_of_one_license(house: House) -> None:
    house.issue("a.jws")
    trust = ("--trust", house.folder / "trust.json")
    one = ("--license", house.folder / "a.jws")
    verify = ("verify", house.folder / "a.jws", *trust)
    assert run("status", "show", house.list, *trust, *one).exit_code == 0
    assert "status valid" in ran(*verify, "--status", house.list)
    house.set("suspended", *one)
    shown = run("status", "show", house.list, *one, "--json")
    assert shown.exit_code == 1
    said = json.loads(shown.output)
    assert (said["status"], said["index"], said["signature_checked"]) == ("suspended", 0, False)
    assert "not looked up" in ran(*verify)
    assert run(*verify, "--status", house.list).output.startswith("LIC_STATE")
    whole = json.loads(ran("status", "show", house.list, *trust, "--json"))
    assert (whole["suspended"], whole["free"], whole["size"], whole["signature_checked"]) == (1, 7, 8, True)


def test_a_license_of_another_list_or_without_one_says_nothing_here(house: House) -> None:
    house.issue("other.jws", "--status-uri", "https://elsewhere.example", "--status-index", "0")
    house.issue("none.jws", "--days", "3")
    for name, word in (("other.jws", "elsewhere"), ("none.jws", "names no status list")):
        refused = house.set("revoked", "--license", house.folder / name)
        assert refused.exit_code == 2
        assert word in refused.output
    assert house.set("revoked", "--index", "8").exit_code == 1
    assert house.set("revoked").exit_code == 2
    assert run("status", "show", house.folder / "none.jws").exit_code == 2


def test_a_list_that_another_hand_wrote_is_not_built_upon(house: House, tmp_path: Path) -> None:
    other = House(tmp_path / "other")
    for key, file in ((other.key, house.list), (house.key, other.list)):
        before = file.read_bytes()
        refused = run("status", "set", file, "revoked", "--key", key, "--index", "0")
        assert refused.exit_code == 2
        assert "LIC_ISSUER" in refused.output
        assert file.read_bytes() == before
    head, _, rest = house.list.read_text().partition(".")
    house.list.write_text(f"{head}.A{rest}")
    assert "LIC_SIG" in house.set("revoked", "--index", "0").output
    assert run("renew", house.list, "--key", house.key).exit_code == 2


def test_a_new_key_takes_over_what_the_old_one_signed(house: House) -> None:
    house.issue("a.jws")
    ran("keygen", "--out", house.folder, "--issuer", BOARD)
    (new,) = set(house.folder.glob("*.private.jwk")) - {house.key}
    assert "--trust" in run("renew", house.list, "--key", new).output
    ran("renew", house.list, "--key", new, "--trust", house.folder / "trust.json")
    house.key = new
    assert house.statuses.value(0) is StatusValue.VALID
    assert house.set("suspended", "--index", "0").exit_code == 0


def test_renewing_keeps_everything_but_the_times(house: House) -> None:
    house.issue("a.jws")
    before = house.statuses
    ran("status", "renew", house.list, "--key", house.key, "--ttl", "2h", "--expires", "3d")
    after = house.statuses
    assert (after.entries, after.uri) == (before.entries, before.uri)
    assert (after.ttl_s, after.exp - after.iat) == (7200, 3 * 86_400)
    assert after.iat > before.iat
    ran("renew", house.list, "--key", house.key)
    assert (house.statuses.ttl_s, house.statuses.exp - house.statuses.iat) == (7200, 3 * 86_400)


@pytest.mark.parametrize("span", ["97h", "0h", "24", "-1h", "1y", ""])
def test_a_span_that_makes_no_sense_is_refused(house: House, span: str) -> None:
    refused = run("renew", house.list, "--key", house.key, "--ttl", span)
    assert refused.exit_code == 2
    assert "--ttl" in refused.output


def test_a_list_from_the_future_is_not_followed(house: House) -> None:
    now_s = int(time.time())
    before = house.statuses
    for ahead_s, fine in ((59, True), (60, False), (3600, False)):
        late = StatusList(BOARD, URI, now_s + ahead_s, now_s + 9_999, 60, before.entries)
        if fine:
            assert sign_list({}, Kind.STATUS, house.signer, before=late, now_s=now_s, spans=Spans())
            continue
        with pytest.raises(KeptError, match="clock"):
            sign_list({}, Kind.STATUS, house.signer, before=late, now_s=now_s, spans=Spans())


def test_two_commands_at_once_lose_nothing(house: House) -> None:
    taken: list[int] = []

    def take() -> None:
        with next_index(house.list, house.signer) as one:
            one.take(str(one.idx))
            taken.append(one.idx)

    threads = [threading.Thread(target=take) for _ in range(4)]
    handle = os.open(house.folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # so that all of them wait at the door
    for thread in threads:
        thread.start()
    assert not taken
    os.close(handle)
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == [0, 1, 2, 3]
    assert [house.statuses.value(n) for n in range(5)] == [0, 0, 0, 0, 3]


def test_a_folder_that_stays_locked_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.license.cli_files.LOCK_WAIT_S", 0.05)
    handle = os.open(house.folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        refused = house.set("revoked", "--index", "0")
    finally:
        os.close(handle)
    assert refused.exit_code == 2
    assert "another command" in refused.output
    assert not list(house.folder.glob(".*"))


def test_an_index_is_the_first_that_is_free() -> None:
    values = bytearray([0, 1, 2, 3, 3])
    assert [take_index(values) for _ in range(3)] == [3, 4, 5]
    assert len(values) == 10


# -- orders


def orders_of(house: House) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        ran("order", "list", house.folder / "o.jws", "--trust", house.folder / "trust.json", "--json")
    )["orders"]
    return found


def order(house: House, *args: str) -> Done:
    verb, *more = args
    return run("order", verb, house.folder / "o.jws", "--key", house.key, *more)


def test_orders_are_added_lifted_and_kept(house: House) -> None:
    assert order(house, "add", "--ref", "1", "--scope", "all", "--reason", "flood").exit_code == 0
    added = order(
        house, "add", "--ref", "2", "--scope", "model", "--model", "gpt-*", "--jurisdiction", "EU",
        "--at", "2999-01-01", "--ttl", "1h",
    )  # fmt: skip
    assert added.exit_code == 0
    assert order(house, "add", "--ref", "3", "--scope", "modality", "--modality", "Image").exit_code == 0
    first, second, third = orders_of(house)
    assert (first["ref"], first["scope"], first["reason"]) == ("1", "all", "flood")
    assert (second["models"], second["jurisdictions"], second["effective_at"]) == (["gpt-*"], ["eu"], 32_472_144_000)
    assert third["modalities"] == ["image"]
    assert order(house, "lift", "--ref", "1").exit_code == 0
    assert "lifted_at" in orders_of(house)[0]
    said = ran("order", "list", house.folder / "o.jws")
    assert "gpt-*" in said
    assert "signature checked  no" in said
    made = read_orders((house.folder / "o.jws").read_bytes(), house.trust)
    assert (made.ttl_s, len(made.orders)) == (3600, 3)
    ran("renew", house.folder / "o.jws", house.list, "--key", house.key)
    assert read_orders((house.folder / "o.jws").read_bytes(), house.trust).orders == made.orders


@pytest.mark.parametrize(
    ("args", "code"),
    [
        pytest.param(("add", "--ref", "1", "--scope", "all"), 1, id="reference twice"),
        pytest.param(("add", "--ref", "2", "--scope", "model"), 1, id="no model"),
        pytest.param(("add", "--ref", "2", "--scope", "modality"), 1, id="no modality"),
        pytest.param(("add", "--ref", "2", "--scope", "all", "--model", "m"), 1, id="a model that has no place"),
        pytest.param(("add", "--ref", "", "--scope", "all"), 2, id="no reference"),
        pytest.param(("add", "--ref", "2", "--scope", "all", "--at", "soon"), 2, id="no time"),
        pytest.param(("lift", "--ref", "2"), 1, id="no such order"),
    ],
)
def test_orders_that_make_no_sense_change_nothing(house: House, args: tuple[str, ...], code: int) -> None:
    order(house, "add", "--ref", "1", "--scope", "all")
    before = (house.folder / "o.jws").read_bytes()
    refused = order(house, *args)
    assert (refused.exit_code, refused.output[:7]) == (code, "error: ")
    assert (house.folder / "o.jws").read_bytes() == before


def test_an_order_ends_once(house: House) -> None:
    order(house, "add", "--ref", "1", "--scope", "new_callers")
    assert order(house, "lift", "--ref", "1", "--at", "2027-01-01").exit_code == 0
    assert order(house, "lift", "--ref", "1", "--at", "2027-06-01").exit_code == 1
    assert order(house, "lift", "--ref", "1", "--at", "2026-12-01").exit_code == 0, "an earlier end is one"


# -- gateways


def test_gateways_are_enrolled_replaced_and_removed(house: House) -> None:
    file = house.folder / "g.jws"
    enroll = ("enroll", file, "--key", house.key, "--name", "gw")
    whole = ("--operator", "H-1", "--log-key", THUMBPRINT, "--stream", "gw/*", "--stream", "old/*")
    ran(*enroll, *whole)
    ran(*enroll, *whole[:-2])
    (found,) = read_gateways(file.read_bytes(), house.trust).gateways
    assert (found.name, found.operator, found.key, found.streams) == ("gw", "H-1", THUMBPRINT, ("gw/*",))
    before = file.read_bytes()
    for wrong in (
        (*enroll, "--operator", "H-1"),
        (*enroll, *whole, "--remove"),
        (*enroll, "--operator", "H-1", "--log-key", "short", "--stream", "*"),
        ("enroll", house.list, *enroll[2:], *whole),
        ("enroll", house.folder / "nowhere.jws", *enroll[2:], "--remove"),
    ):
        assert run(*wrong).exit_code == 2
    assert run("enroll", file, "--key", house.key, "--name", "other", "--remove").exit_code == 1
    assert file.read_bytes() == before
    ran(*enroll, "--remove")
    assert read_gateways(file.read_bytes(), house.trust).gateways == ()


def test_a_list_belongs_to_the_issuer_of_the_key(house: House, tmp_path: Path) -> None:
    ran("keygen", "--out", house.folder, "--issuer", "https://other.example")
    with pytest.raises(KeptError, match="use the key that goes with the list"):
        open_list(house.list.read_bytes(), Kind.STATUS, house.trust, "https://other.example")
    assert run("renew", house.folder / "trust.json", "--key", house.key).exit_code == 2


def test_l7_no_command_shows_the_private_key(house: House) -> None:
    secret = json.loads(house.key.read_text())["d"]
    said = [house.issue("a.jws"), house.set("suspended", "--index", "0"), house.set("revoked", "--index", "99")]
    said += [order(house, "add", "--ref", "1", "--scope", "all"), run("renew", house.list, "--key", house.key)]
    assert all(secret not in one.output for one in said)
    assert secret not in repr(house.signer)


def test_l1_an_order_names_a_state_of_the_union_by_its_own_code(house: House) -> None:
    done = order(house, "add", "--ref", "1", "--scope", "all", "--jurisdiction", "EU-DE")
    assert done.exit_code == 2
    assert "write de" in done.output
    assert touches(["eu-de"], ("de",))  # another authority's order, as it came
    assert not touches(["eu-de"], ("fr",))
