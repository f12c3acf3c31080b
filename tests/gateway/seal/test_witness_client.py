"""A gateway asks its witnesses: what it believes of their answers, and what it does with those that fail, lie or sleep."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.errors import ConfigError
from gateway.seal.witness import Witness, init, read_request
from gateway.seal.witness_client import SIZE_TYPE, WitnessClient, WitnessError
from gateway.seal.witness_group import WitnessGroup
from gateway.seal.witnesses import Witnesses
from gateway.settings.audit import WitnessSettings
from gateway.tlog.checkpoint import open_cosigned
from gateway.tlog.cosignature import cosign
from gateway.tlog.note import COSIGNATURE_ED25519, VerifierKey, read_note
from tests.fakes.signed_log import SignedLog, key
from tests.fakes.witness_server import Reply, answering, serving

NOW_S = 1_700_000_000
TEXT = "text/plain; charset=utf-8"
W1 = VerifierKey("w1", COSIGNATURE_ED25519, key(11).public)
W2 = VerifierKey("w2", COSIGNATURE_ED25519, key(12).public)
LOG = SignedLog()
_numbers = itertools.count()


class Ours:
    """Our witness, served once for this file; each test has a log of its own."""

    def __init__(self, folder: Path) -> None:
        self.now_s = float(NOW_S)
        self.key = init(folder, "w.example/ours")
        self.witness = Witness(folder, [str(LOG.vkey)], now_s=lambda: self.now_s)
        self.url = ""

    @property
    def settings(self) -> WitnessSettings:
        return WitnessSettings(self.url, str(self.key))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    found = Ours(tmp_path_factory.mktemp("witness"))
    with serving(found.witness) as found.url:
        yield found
    found.witness.close()


@pytest.fixture
def log() -> SignedLog:
    return SignedLog(f"gw1/stream-{next(_numbers)}")


def ask(client: WitnessClient, log: SignedLog, size: int) -> str:
    return client.cosign(log.origin, log.note(size), size, lambda old: log.proof(old, size))


def proof_to(log: SignedLog, size: int, old: int) -> list[bytes]:
    return log.proof(old, size)


def line(body: bytes, *, time_s: int = NOW_S, signer: int = 11, name: str = "w1") -> bytes:
    return cosign(read_request(body).note.text, key(signer), name, time_s).encode()


@contextlib.contextmanager
def client_of(tmp_path: Path, reply: Callable[[bytes], Reply]) -> Iterator[WitnessClient]:
    with answering(reply) as url:
        client = WitnessClient(WitnessSettings(url + "/", str(W1)), tmp_path, now_s=lambda: NOW_S)
        yield client
        client.close()


def test_an_honest_log_is_cosigned_again_and_again(ours: Ours, log: SignedLog, tmp_path: Path) -> None:
    client = WitnessClient(ours.settings, tmp_path, now_s=lambda: NOW_S)
    for size in (0, 600, 600, 1_000):
        note = log.note(size) + ask(client, log, size)
        assert open_cosigned(note, [log.vkey], [ours.key], 1).checkpoint.size == size
    client.close()
    again = WitnessClient(ours.settings, tmp_path, now_s=lambda: NOW_S)  # remembers
    asked: list[int] = []

    def proof(old: int) -> list[bytes]:
        asked.append(old)
        return log.proof(old, 1_001)

    again.cosign(log.origin, log.note(1_001), 1_001, proof)
    assert asked == [1_000]
    again.close()


def test_a_client_that_forgot_is_told_the_size(ours: Ours, log: SignedLog, tmp_path: Path) -> None:
    for size, memory in ((5, "a"), (9, "b")):
        client = WitnessClient(ours.settings, tmp_path / memory, now_s=lambda: NOW_S)
        assert ask(client, log, size)
        client.close()
    (tmp_path / "b" / f"witness-{ours.key.id.hex()}.json").write_text("{")  # damaged: forgotten
    client = WitnessClient(ours.settings, tmp_path / "b", now_s=lambda: NOW_S)
    assert ask(client, log, 12)
    client.close()


def test_attack_fork_is_told_as_such(ours: Ours, log: SignedLog, tmp_path: Path) -> None:
    forked = SignedLog(log.origin, parts_at=500)
    client = WitnessClient(ours.settings, tmp_path, now_s=lambda: NOW_S)
    assert ask(client, log, 600)
    for size in (600, 1_000):
        with pytest.raises(WitnessError, match="fork") as told:
            ask(client, forked, size)
        assert told.value.kind == "fork"
    client.close()


def test_attack_rollback_is_told_as_such(ours: Ours, log: SignedLog, tmp_path: Path) -> None:
    client = WitnessClient(ours.settings, tmp_path, now_s=lambda: NOW_S)
    assert ask(client, log, 600)
    with pytest.raises(WitnessError, match="rollback: it saw 600 entries"):
        ask(client, log, 500)
    client.close()
    forgot = WitnessClient(ours.settings, tmp_path / "new", now_s=lambda: NOW_S)
    with pytest.raises(WitnessError, match="rollback: it saw 600 entries"):
        ask(forgot, log, 500)
    forgot.close()


def test_who_is_not_enrolled_is_told_so(ours: Ours, tmp_path: Path) -> None:
    client = WitnessClient(ours.settings, tmp_path, now_s=lambda: NOW_S)
    with pytest.raises(WitnessError, match="untrusted"):
        ask(client, SignedLog(signer=key(2)), 5)
    with pytest.raises(WitnessError, match="unknown_log"):
        ask(client, SignedLog("gw2/s", name="gw2"), 5)
    client.close()


def test_attack_replayed_cosignature_of_before_is_refused(tmp_path: Path) -> None:
    """An idle log shows one head for hours: the date alone tells an answer of now from one that was kept."""
    kept = client_of(tmp_path, lambda body: (200, TEXT, line(body, time_s=NOW_S - 301)))
    with kept as client, pytest.raises(WitnessError, match="clock: its date is more than"):
        ask(client, LOG, 5)


def test_attack_clock_back_is_refused(tmp_path: Path) -> None:
    times = iter([NOW_S, NOW_S - 1, NOW_S])
    with client_of(tmp_path, lambda body: (200, TEXT, line(body, time_s=next(times)))) as client:
        assert ask(client, LOG, 5)
        with pytest.raises(WitnessError, match="clock: it dates this before"):
            ask(client, LOG, 5)
        assert ask(client, LOG, 5)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(lambda b: (200, TEXT, line(b, signer=12)), "wrong_key", id="another key"),
        pytest.param(lambda b: (200, TEXT, line(b, name="w2")), "wrong_key", id="another name"),
        pytest.param(lambda b: (200, TEXT, line(b)[:-9] + b"AAAAAAA=\n"), "no_cosignature", id="forged"),
        pytest.param(
            lambda b: (200, TEXT, line(b"old 0\n\n" + LOG.note(6).encode())), "no_cosignature", id="of another head"
        ),
        pytest.param(lambda b: (200, "text/html", b"<html>Log in</html>"), "no_cosignature", id="a page"),
        pytest.param(lambda b: (200, TEXT, b""), "no_cosignature", id="nothing"),
        pytest.param(lambda b: (200, TEXT, b"\xff\n"), "no_cosignature", id="no text"),
        pytest.param(lambda b: (200, TEXT, b"a" * 200_000), "unreachable", id="endless"),
        pytest.param(lambda b: (302, TEXT, line(b)), "failing", id="elsewhere"),
        pytest.param(lambda b: (201, TEXT, line(b)), "failing", id="nearly"),
        pytest.param(lambda b: (503, TEXT, b""), "failing", id="unwell"),
        pytest.param(lambda b: (400, TEXT, b""), "bad_request", id="misunderstood"),
        pytest.param(lambda b: (429, TEXT, b""), "busy", id="too often"),
        pytest.param(lambda b: (409, TEXT, b"3\n"), "fork", id="conflict without a size"),
        pytest.param(lambda b: (409, SIZE_TYPE, b"0\n"), "fork", id="the size that was asked from"),
        pytest.param(lambda b: (409, SIZE_TYPE, b"six\n"), "no_cosignature", id="no size"),
        pytest.param(lambda b: (409, SIZE_TYPE, b"6\n"), "rollback", id="a larger size"),
        pytest.param(
            lambda b: (409, SIZE_TYPE, b"%d\n" % (read_request(b).old + 1)), "busy", id="a new size each time"
        ),
    ],
)
def test_an_answer_that_is_no_cosignature_is_no_success(
    tmp_path: Path, reply: Callable[[bytes], Reply], kind: str
) -> None:
    with client_of(tmp_path, reply) as client:
        with pytest.raises(WitnessError) as told:
            ask(client, LOG, 5)
        assert told.value.kind == kind
        assert "127.0.0.1" not in str(told.value)


def test_lines_of_others_are_left_out(tmp_path: Path) -> None:
    with client_of(tmp_path, lambda b: (200, TEXT, line(b, signer=12, name="w2") + line(b))) as client:
        assert ask(client, LOG, 5) == cosign(read_note(LOG.note(5)).text, key(11), "w1", NOW_S)


def test_nobody_there_is_said_without_the_address(tmp_path: Path) -> None:
    with answering(lambda _: (200, TEXT, b"")) as url:
        pass
    client = WitnessClient(WitnessSettings(url, str(W1)), tmp_path)
    with pytest.raises(WitnessError, match=r"^unreachable: \w+$"):
        ask(client, LOG, 5)
    client.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param(WitnessSettings("http://w", "w1"), "key", id="no key"),
        pytest.param(WitnessSettings("http://w", str(LOG.vkey)), "signs logs", id="a log's key"),
        pytest.param(WitnessSettings("ftp://w", str(W1)), "url", id="another scheme"),
        pytest.param(WitnessSettings("w", str(W1)), "url", id="no scheme"),
        pytest.param(WitnessSettings("http://w?a=b", str(W1)), "url", id="a query"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(tmp_path: Path, settings: WitnessSettings, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        WitnessClient(settings, tmp_path)


def test_two_witnesses_of_which_one_lies_leave_the_others_word(ours: Ours, log: SignedLog, tmp_path: Path) -> None:
    with answering(lambda b: (200, TEXT, line(b, signer=12))) as url:  # says w1, and has not its key
        group = WitnessGroup([ours.settings, WitnessSettings(url, str(W1))], 1, tmp_path, now_s=lambda: NOW_S, wait_s=5)
        port: Witnesses = group
        note = port.cosign(log.origin, log.note(5), 5, log.root(5), lambda old: log.proof(old, 5))
        assert open_cosigned(note, [log.vkey], [ours.key, W1], 1).witnesses == {"w.example/ours"}
        places = {place.name: place for place in group.places()}
        assert places["witness:w.example/ours"].sent == 5
        assert places["witness:w.example/ours"].since_ms is None
        assert places["witness:w1"].problem.startswith("wrong_key")
        assert (places["witness:w1"].behind_records, places["witness:w1"].since_ms) == (5, NOW_S * 1000)
        assert (places["witness"].required, places["witness"].since_ms, places["witness"].sent) == (True, None, 5)
        again = group.cosign(log.origin, note, 5, log.root(5), lambda old: log.proof(old, 5))
        assert len(read_note(again).lines) == 2  # the same witness' older line is replaced
        group.close()


def test_too_few_witnesses_are_told_with_the_time_since_when(ours: Ours, log: SignedLog, tmp_path: Path) -> None:
    now = [float(NOW_S)]
    broken = [True]
    with answering(lambda b: (503, TEXT, b"") if broken[0] else (200, TEXT, line(b))) as url:
        group = WitnessGroup(
            [ours.settings, WitnessSettings(url, str(W1))], 2, tmp_path, now_s=lambda: now[0], wait_s=5
        )
        for size in (5, 7):
            group.cosign(log.origin, log.note(size), size, log.root(size), partial(proof_to, log, size))
            place = group.places()[-1]
            assert (place.name, place.since_ms, place.behind_records) == ("witness", NOW_S * 1000, size)
            now[0] += 10
        broken[0] = False
        note = group.cosign(log.origin, log.note(9), 9, log.root(9), lambda old: log.proof(old, 9))
        assert open_cosigned(note, [log.vkey], [ours.key, W1], 2).checkpoint.size == 9
        assert all((place.since_ms, place.behind_records) == (None, 0) for place in group.places())
        assert [place.failures for place in group.places()] == [0, 2, 2]
        group.close()


def test_a_witness_that_sleeps_is_not_waited_for(ours: Ours, log: SignedLog, tmp_path: Path) -> None:
    awake = threading.Event()

    def sleepy(body: bytes) -> Reply:
        awake.wait(20)
        return 200, TEXT, line(body)

    with answering(sleepy) as url:
        group = WitnessGroup(
            [ours.settings, WitnessSettings(url, str(W1))], 0, tmp_path, now_s=lambda: NOW_S, wait_s=0.4
        )
        for _ in range(2):
            note = group.cosign(log.origin, log.note(5), 5, log.root(5), lambda old: log.proof(old, 5))
            assert open_cosigned(note, [log.vkey], [ours.key]).witnesses == {"w.example/ours"}
        assert not awake.is_set()
        assert group.places()[1].problem.startswith("unreachable")
        assert len(group.places()) == 2  # nobody is required
        awake.set()
        group.close()


def test_settings_that_count_one_witness_twice_are_refused(ours: Ours, tmp_path: Path) -> None:
    twin = WitnessSettings("http://other", str(VerifierKey("twin", COSIGNATURE_ED25519, ours.key.public)))
    for settings, required in (([ours.settings, twin], 1), ([ours.settings, ours.settings], 1), ([ours.settings], 2)):
        with pytest.raises(ConfigError, match=r"audit\.witnesses"):
            WitnessGroup(settings, required, tmp_path)


def test_nothing_else_is_raised_whatever_is_answered(tmp_path: Path) -> None:
    dice = random.Random(13)

    def reply(body: bytes) -> Reply:
        answer = bytearray(line(body))
        at = dice.randrange(len(answer))
        answer[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(1, 4))
        return dice.choice([200, 200, 200, 409]), dice.choice([TEXT, SIZE_TYPE]), bytes(answer)

    with client_of(tmp_path, reply) as client:
        for _ in range(60):
            with contextlib.suppress(WitnessError):
                ask(client, LOG, 5)
