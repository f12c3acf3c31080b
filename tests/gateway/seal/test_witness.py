"""A witness signs what extends the past that it saw, and nothing else: forks, rollbacks, replays, clocks, and its own memory."""

from __future__ import annotations

import base64
import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.errors import ConfigError
from gateway.seal import witness_cli
from gateway.seal.witness import Witness, init, load, read_request
from gateway.tlog.checkpoint import open_cosigned
from gateway.tlog.note import COSIGNATURE_ED25519, ED25519, NoteError, VerifierKey
from tests.fakes.signed_log import SignedLog, key

NOW_S = 1_700_000_000
LOG = SignedLog()


class Clock:
    def __init__(self) -> None:
        self.now_s = float(NOW_S)

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def witness(tmp_path: Path, clock: Clock) -> Iterator[Witness]:
    init(tmp_path, "w.example/w1")
    found = Witness(tmp_path, [str(LOG.vkey)], now_s=clock)
    yield found
    found.close()


def request(log: SignedLog, old: int, size: int, proof: list[bytes] | None = None) -> bytes:
    if proof is None:
        proof = log.proof(old, size) if 0 < old <= size else []
    lines = [f"old {old}", *(base64.b64encode(one).decode() for one in proof)]
    return ("\n".join(lines) + "\n\n" + log.note(size)).encode()


def add(witness: Witness, log: SignedLog, old: int, size: int) -> int:
    return witness.add_checkpoint(request(log, old, size)).status


def evidence(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / "evidence").glob("*")) if (folder / "evidence").is_dir() else []


def test_an_honest_extension_is_cosigned(witness: Witness, clock: Clock) -> None:
    for old, size in ((0, 0), (0, 600), (600, 600), (600, 1_000), (1_000, 1_001)):
        clock.now_s += 10
        answer = witness.add_checkpoint(request(LOG, old, size))
        assert answer.status == 200
        found = open_cosigned(LOG.note(size) + answer.body.decode(), [LOG.vkey], [witness.key], 1)
        assert found.cosignatures[0].time_s == int(clock.now_s)
        kept = witness.checkpoint(hashlib.sha256(b"gw1/s").hexdigest())
        assert open_cosigned(kept.body.decode(), [LOG.vkey], [witness.key], 1).checkpoint.size == size
    assert witness.checkpoint("0" * 64).status == 404


def test_the_head_is_on_the_disk_before_the_signature_leaves(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert add(witness, LOG, 0, 5) == 200

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr("gateway.seal.witness.put", full)
        answer = witness.add_checkpoint(request(LOG, 5, 9))
        assert (answer.status, b"\xe2\x80\x94" in answer.body) == (503, False)
    assert witness.add_checkpoint(request(LOG, 9, 9)).body == b"5\n"  # it never saw nine


def test_attack_fork_is_refused_and_kept(witness: Witness, tmp_path: Path) -> None:
    forked = SignedLog(parts_at=500)
    assert add(witness, LOG, 0, 600) == 200
    assert add(witness, forked, 600, 1_000) == 422  # another history, longer
    assert evidence(tmp_path) == [".known", ".request"]
    assert add(witness, forked, 600, 1_000) == 422
    assert len(evidence(tmp_path)) == 2  # each thing once
    assert add(witness, forked, 600, 600) == 422  # another history of this size
    assert len(evidence(tmp_path)) == 4
    assert add(witness, forked, 0, 600) == 409  # and whatever it says of the past, it is kept
    assert len(evidence(tmp_path)) == 6
    (one,) = [p for p in (tmp_path / "evidence").glob("*.request") if p.read_bytes() == request(forked, 600, 600)]
    known = one.with_suffix(".known").read_text()
    assert open_cosigned(known, [LOG.vkey], [witness.key], 1).checkpoint.root == LOG.root(600)
    assert add(witness, LOG, 600, 1_000) == 200  # the true one goes on


def test_attack_rollback_is_refused(witness: Witness) -> None:
    assert add(witness, LOG, 0, 1_000) == 200
    assert add(witness, LOG, 1_000, 900) == 400
    answer = witness.add_checkpoint(request(LOG, 900, 900))
    assert (answer.status, answer.body, answer.content_type) == (409, b"1000\n", "text/x.tlog.size")
    assert add(witness, LOG, 0, 900) == 409


def test_attack_replay_of_an_old_request_is_refused(witness: Witness) -> None:
    first = request(LOG, 0, 5)
    assert witness.add_checkpoint(first).status == 200
    assert add(witness, LOG, 5, 9) == 200
    assert witness.add_checkpoint(first).status == 409
    assert add(witness, LOG, 9, 12) == 200


def test_attack_clock_back_is_refused(witness: Witness, clock: Clock) -> None:
    assert add(witness, LOG, 0, 5) == 200
    clock.now_s -= 1
    assert add(witness, LOG, 5, 9) == 503
    clock.now_s += 1
    assert add(witness, LOG, 5, 9) == 200


def test_attack_wrong_key_is_refused(witness: Witness) -> None:
    assert add(witness, SignedLog(signer=key(2)), 0, 5) == 403
    stolen = (
        SignedLog(signer=key(2))
        .note(5)
        .replace(SignedLog(signer=key(2)).note(5).split("— ")[1], SignedLog().note(6).split("— ")[1])
    )
    assert witness.add_checkpoint(b"old 0\n\n" + stolen.encode()).status == 403


def test_each_log_of_the_keys_name_is_known_and_no_other(witness: Witness) -> None:
    for origin, status in (("gw1", 200), ("gw1/t", 200), ("gw1/fleet-gw1", 200), ("gw10/t", 404), ("gw2/gw1/", 404)):
        assert add(witness, SignedLog(origin), 0, 3) == status, origin


def test_a_new_key_beside_the_old_is_known(tmp_path: Path) -> None:
    init(tmp_path, "w")
    new = key(2)
    witness = Witness(tmp_path, [str(LOG.vkey), str(VerifierKey("gw1", ED25519, new.public))], now_s=lambda: NOW_S)
    both = b"old 0\n\n" + LOG.note(5, [new]).encode()
    answer = witness.add_checkpoint(both)
    assert answer.status == 200
    later = SignedLog(signer=new)
    assert add(witness, later, 5, 9) == 200
    witness.close()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"old 5\n" + LOG.note(5).encode(), id="no empty line"),
        pytest.param(b"old 05\n\n" + LOG.note(5).encode(), id="leading zero"),
        pytest.param(b"old -1\n\n" + LOG.note(5).encode(), id="below zero"),
        pytest.param(b"size 0\n\n" + LOG.note(5).encode(), id="another word"),
        pytest.param(b"old 0\nAAAA\n\n" + LOG.note(5).encode(), id="short hash"),
        pytest.param(
            b"old 0\n" + b"\n".join([base64.b64encode(bytes(32))] * 64) + b"\n\n" + LOG.note(5).encode(), id="long"
        ),
        pytest.param(b"old 0\n\n" + LOG.note(5).encode().replace(b"gw1", b"\xff"), id="no text"),
        pytest.param(b"old 0\n\n" + b"x" * 200_000, id="endless"),
    ],
)
def test_a_request_of_another_form_is_refused(witness: Witness, body: bytes) -> None:
    assert witness.add_checkpoint(body).status == 400


def test_a_proof_where_none_may_be_is_refused(witness: Witness) -> None:
    assert witness.add_checkpoint(request(LOG, 0, 5, [bytes(32)])).status == 422
    assert add(witness, LOG, 0, 5) == 200
    assert witness.add_checkpoint(request(LOG, 5, 5, [bytes(32)])).status == 422


def test_racing_histories_are_never_both_cosigned(witness: Witness) -> None:
    """Eight threads show two histories at once; whatever is cosigned is of one of them."""
    assert add(witness, LOG, 0, 4) == 200
    forked = SignedLog(parts_at=4)
    requests = [request(log, 4, size) for log in (LOG, forked) for size in (6, 7, 8, 9)]
    barrier = threading.Barrier(len(requests))
    answers: list[int] = []

    def ask(body: bytes) -> None:
        barrier.wait()
        answers.append(witness.add_checkpoint(body).status)

    threads = [threading.Thread(target=ask, args=(body,)) for body in requests]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(answers) == [200] + [409] * 7


def test_a_second_process_is_refused(witness: Witness, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another process"):
        Witness(tmp_path, [str(LOG.vkey)])
    witness.close()
    witness.close()
    assert add(witness, LOG, 0, 5) == 503
    again = Witness(tmp_path, [str(LOG.vkey)])
    assert again.key == witness.key
    again.close()


def test_a_memory_that_it_did_not_sign_is_refused(witness: Witness, tmp_path: Path) -> None:
    assert add(witness, LOG, 0, 5) == 200
    path = tmp_path / "logs" / hashlib.sha256(b"gw1/s").hexdigest()
    kept = path.read_text()
    forked = SignedLog(parts_at=0)
    for put_there in (forked.note(5), kept.replace("\n5\n", "\n4\n"), "", "\0"):
        path.write_text(put_there)
        assert add(witness, forked, 5, 9) == 503
    path.write_text(kept)
    assert add(witness, LOG, 5, 9) == 200
    path.rename(path.with_name(hashlib.sha256(b"gw1/t").hexdigest()))
    assert add(witness, SignedLog("gw1/t"), 9, 9) == 503  # of another log


def test_a_witness_whose_memory_is_lost_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no witness"):
        load(tmp_path)
    init(tmp_path, "w")
    (tmp_path / "logs").rmdir()
    with pytest.raises(ConfigError, match="missing"):
        Witness(tmp_path, [str(LOG.vkey)])


def test_keys_that_sign_no_logs_are_refused(tmp_path: Path) -> None:
    own = init(tmp_path, "w")
    assert own.kind == COSIGNATURE_ED25519
    for text in (str(own), "gw1", ""):
        with pytest.raises(ConfigError, match="log:"):
            Witness(tmp_path, [text])


def test_init_and_show_tell_the_key_and_what_was_seen(tmp_path: Path) -> None:
    run = CliRunner()
    made = run.invoke(witness_cli.app, ["init", "--data", str(tmp_path / "w"), "--name", "w.example/w1"])
    assert made.exit_code == 0
    assert run.invoke(witness_cli.app, ["init", "--data", str(tmp_path / "w"), "--name", "w2"]).exit_code == 2
    witness = Witness(tmp_path / "w", [str(LOG.vkey)])
    assert str(witness.key) == made.stdout.strip()
    assert add(witness, LOG, 0, 1_234) == 200
    witness.close()
    shown = run.invoke(witness_cli.app, ["show", "--data", str(tmp_path / "w")])
    assert shown.exit_code == 0
    assert "1,234  gw1/s" in shown.stdout
    as_json = run.invoke(witness_cli.app, ["show", "--json", "--data", str(tmp_path / "w")])
    assert '"size":1234' in as_json.stdout
    next((tmp_path / "w" / "logs").iterdir()).write_text("something else")
    assert run.invoke(witness_cli.app, ["show", "--data", str(tmp_path / "w")]).exit_code == 1
    assert run.invoke(witness_cli.app, ["show", "--data", str(tmp_path / "none")]).exit_code == 2
    bad = run.invoke(witness_cli.app, ["serve", "--data", str(tmp_path / "w"), "--log", "x", "--listen", "here"])
    assert bad.exit_code == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        command = ["serve", "--data", str(tmp_path / "new"), "--log", str(LOG.vkey), "--listen", listen]
        assert run.invoke(witness_cli.app, ["init", "--data", str(tmp_path / "new"), "--name", "w2"]).exit_code == 0
        bad = run.invoke(witness_cli.app, command)
    assert (bad.exit_code, f"--listen: {listen}: " in bad.output) == (2, True)


def test_nothing_is_raised_whatever_comes(witness: Witness) -> None:
    dice = random.Random(11)
    whole = request(LOG, 4, 9)
    for _ in range(400):
        body = bytearray(whole)
        at = dice.randrange(len(body))
        body[at : at + dice.randrange(4)] = dice.choice([b"", b"\n", b"\n\n", b"\xff", b"\0", b"9", b"=="])
        assert witness.add_checkpoint(bytes(body)).status in (400, 403, 404, 409)
        try:
            read_request(bytes(body))
        except NoteError:
            continue
