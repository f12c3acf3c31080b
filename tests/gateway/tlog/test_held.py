"""Records that outlast their bundle, and logs that were adopted: what the verifier holds them to."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from gateway.audit.held import held_path
from gateway.audit.sealed import log_dir, sealed_head
from gateway.audit.sealed_tree import SealedHashes
from gateway.seal.adopted import ADOPTED_NAME
from gateway.seal.sealer import Sealer
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import sign_checkpoint, verifier_key
from gateway.tlog.cli import lines
from gateway.tlog.note import parse_key
from gateway.tlog.proof import HELD_NAME, read_proof, write_proof
from gateway.tlog.report import StreamReport
from gateway.tlog.tree import inclusion_proof, leaf_hash, node_hash
from gateway.tlog.verify import Trust, check
from tests.gateway.completeness.test_adopt import lose, take
from tests.gateway.history.outlasting import Made, make, prune


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make(tmp_path_factory.mktemp("held"))
    prune(made.data)
    return made


@pytest.fixture
def made(template: Made, tmp_path: Path) -> Made:
    shutil.copytree(template.data, tmp_path / "data")
    return Made(tmp_path / "data", template.stream, template.config, template.trained, template.across)


def key_of(data: Path, name: str = "gw") -> Trust:
    return Trust((parse_key(verifier_key(name, LogKey.load(data).public)),))


def found(data: Path, stream: str, trust: Trust | None = None) -> StreamReport:
    (one,) = [one for one in check([data], trust).streams if one.stream == stream]
    return one


def test_held_records_are_verified_and_told(made: Made) -> None:
    one = found(made.data, made.stream, key_of(made.data))
    assert (one.problem, one.pruned, one.held) == (None, 512, 4)
    text = "\n".join(lines(check([made.data], key_of(made.data))))
    assert "records before 512 were pruned (4 of them are held, each with its proof)" in text
    # What a kill left is no proof, and held twice is no harm.
    (held_path(made.data, made.stream, 1).parent / ".1.tlog-proof.tmp").write_text("half")
    assert found(made.data, made.stream).problem is None


def reproof(made: Made, seq: int, payload: bytes | None = None, size: int = 0, note: str = "", index: int = -1) -> None:
    """Write a held record's proof anew, in part another."""
    path = held_path(made.data, made.stream, seq)
    proof = read_proof(path.read_text())
    size = size or sealed_head(made.data, made.stream).size
    hashes = SealedHashes(log_dir(made.data) / made.stream, size)
    route = inclusion_proof(seq, size, hashes) if seq < size else proof.path
    text = write_proof(seq if index < 0 else index, route, note or proof.checkpoint, payload or proof.extra)
    path.write_text(text)


def other_record(made: Made) -> None:
    extra = read_proof(held_path(made.data, made.stream, made.config).read_text()).extra
    assert extra is not None
    reproof(made, made.config, extra.replace(b"retail", b"wholes"))


def other_place(made: Made) -> None:
    shutil.copy(held_path(made.data, made.stream, made.trained[0]), held_path(made.data, made.stream, made.config))


def other_path(made: Made) -> None:
    path = held_path(made.data, made.stream, made.config)
    proof = read_proof(path.read_text())
    path.write_text(write_proof(proof.index, [bytes(32), *proof.path[1:]], proof.checkpoint, proof.extra))


def other_key(made: Made) -> None:
    head = sealed_head(made.data, made.stream)
    forger = LogKey.load(made.data.parent / "forger")
    reproof(made, made.config, note=sign_checkpoint(f"gw/{made.stream}", head.size, head.root, forger, "gw"))


def other_tree(made: Made) -> None:
    """Signed by the key itself: a head of a history that this log does not go on from."""
    leaf = leaf_hash(read_proof(held_path(made.data, made.stream, made.config).read_text()).extra or b"")
    size = made.config + 1
    route = inclusion_proof(made.config, size, SealedHashes(log_dir(made.data) / made.stream, 667))
    route = [bytes(32), *route[1:]]
    root = root_of(leaf, made.config, size, route)
    note = sign_checkpoint(f"gw/{made.stream}", size, root, LogKey.load(made.data), "gw")
    path = held_path(made.data, made.stream, made.config)
    path.write_text(write_proof(made.config, route, note, read_proof(path.read_text()).extra))


def root_of(leaf: bytes, index: int, size: int, route: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.3.2: where a path leads."""
    fn, sn, r = index, size - 1, leaf
    for p in route:
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return r


def not_a_proof(made: Made) -> None:
    held_path(made.data, made.stream, made.config).write_text("proof")


def no_record(made: Made) -> None:
    path = held_path(made.data, made.stream, made.config)
    proof = read_proof(path.read_text())
    path.write_text(write_proof(proof.index, proof.path, proof.checkpoint))


def behind_the_log(made: Made) -> None:
    shutil.copy(held_path(made.data, made.stream, made.config), held_path(made.data, made.stream, 700))


@pytest.mark.parametrize(
    ("attack", "problem", "at"),
    [
        (other_record, "not the one that was sealed", 41),
        (other_place, "the proof is that of another record", 41),
        (other_path, "does not lead to the head", 41),
        (other_key, "does not hold|not signed|signature", 41),
        (other_tree, "do not have the root that held/41.tlog-proof holds", 42),
        (not_a_proof, "a proof begins with", 41),
        (no_record, "or holds none", 41),
        (behind_the_log, "held that is not in the log", 667),
    ],
)
def test_a_held_record_that_does_not_verify_is_damage(
    made: Made, attack: Callable[[Made], None], problem: str, at: int
) -> None:
    attack(made)
    one = found(made.data, made.stream, key_of(made.data))
    assert one.problem is not None
    assert one.problem.record == f"{made.stream}/{at}"
    assert any(part in one.problem.problem for part in problem.split("|")), one.problem.problem
    assert one.problem.segment.startswith(f"{HELD_NAME}/") or attack is other_tree


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Trust, Trust]:
    """An adopter's folder, the stream that it took over, and what each of both gateways' keys make trusted."""
    folder = tmp_path_factory.mktemp("taken")
    stream, _ = lose(folder / "volume")
    take(folder / "volume", folder / "data")
    assert Sealer(folder / "data", "adopter", LogKey.load(folder / "data")).round().problems == {}
    return folder / "data", stream, key_of(folder / "volume", "lost"), key_of(folder / "data", "adopter")


def test_an_adopted_log_goes_on_from_the_head_that_is_kept_of_the_lost_gateway(
    taken: tuple[Path, str, Trust, Trust],
) -> None:
    data, stream, lost, adopter = taken
    one = found(data, stream, adopter)
    assert one.problem is None
    assert one.remarks[0] == "another gateway began it, and adopter took it over"
    assert "ask for the key of that gateway, too" in one.remarks[1]  # the keys that the file names are nobody's word
    both = found(data, stream, Trust((*lost.keys, *adopter.keys)))
    assert both.problem is None
    assert not any("ask for the key" in remark for remark in both.remarks)
    assert found(data, stream).problem is None


@pytest.mark.parametrize("what", ["rewritten", "longer", "forged", "origin", "no json"])
def test_case_59_an_adopted_log_that_is_not_what_the_lost_gateway_signed_is_named(
    taken: tuple[Path, str, Trust, Trust], tmp_path: Path, what: str
) -> None:
    template, stream, lost, adopter = taken
    data = tmp_path / "data"
    shutil.copytree(template, data)
    path = log_dir(data) / stream / ADOPTED_NAME
    word = orjson.loads(path.read_bytes())
    old = word["checkpoint"].split("\n")
    if (
        what == "rewritten"
    ):  # as if the adopter had sealed another history: signed by nobody that is trusted, and still not followed
        old[2] = base64.b64encode(bytes(32)).decode()
    elif what == "longer":
        old[1] = "4000"
    elif what == "forged":
        old[2] = base64.b64encode(bytes(32)).decode()
    word["checkpoint"] = "\n".join(old)
    if what == "origin":
        word["origin"] = f"other/{stream}"
    path.write_text("{" if what == "no json" else json.dumps(word))
    trust = Trust((*lost.keys, *adopter.keys)) if what == "forged" else adopter
    one = found(data, stream, trust)
    assert one.problem is not None
    told = {
        "rewritten": "do not have the root that adopted-from holds",
        "longer": "adopted-from holds a head of 4000: the tail is lost",
        "forged": "the head that is kept there",
        "origin": "does not say where",
        "no json": "cannot be read",
    }
    assert told[what] in one.problem.problem
