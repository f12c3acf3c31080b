"""Evidence packs: what is in them, that they verify elsewhere, and that whatever is altered is named."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.audit.sealed import sealed_records, sealed_streams
from gateway.evidence.kept import KEPT_NAME
from gateway.evidence.pack import EvidenceError, export
from gateway.history.port import Query, QueryError
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import Checkpoint
from gateway.tlog.cosignature import cosign
from gateway.tlog.note import COSIGNATURE_ED25519, ED25519, VerifierKey, read_note
from gateway.tlog.tree import leaf_hash
from gateway.tlog.trust import Trust
from gateway.tlog.verify import Kept, check
from tests.gateway.evidence.packs import (
    BLOCKED,
    CASE,
    MADE_MS,
    STATUS_S,
    Driven,
    Made,
    driven,
    members,
    remade,
    trust_in,
    verdict,
)


def manifest_of(pack: Path) -> dict[str, object]:
    told = json.loads(members(pack)["manifest.json"])
    assert isinstance(told, dict)
    return told


def test_a_pack_holds_stored_bytes_proofs_and_all_that_was_in_force(made: Made) -> None:
    files = members(made.pack)
    assert made.exported.complete, made.exported.missing
    assert made.exported.calls == 16
    stored = {}
    for stream in sealed_streams(made.data):
        size = json.loads(files["manifest.json"])["records"]
        for seq, payload in sealed_records(made.data, stream, 0, sealed_size(made.data, stream)):
            stored[f"records/{stream}/{seq}.json"] = payload
        assert stream in size
    records = {name: data for name, data in files.items() if name.startswith("records/") and name.endswith(".json")}
    assert {name: stored[name] for name in records} == records
    assert {name.removesuffix(".json") + ".tlog-proof" for name in records} <= files.keys()
    kinds = [json.loads(data).get("kind") for name, data in records.items() if "/fleet-" not in name]
    assert (kinds.count("intent"), kinds.count("outcome"), kinds.count("start")) == (16, 16, 2)
    notes = sorted(
        int(name.rpartition("/")[2][:-5])
        for name, data in records.items()
        if made.first in name and json.loads(data).get("kind") == "note"
    )
    assert notes == [
        *made.notes,
        86,
    ]  # of two before the first call the last, the word on the license, and the one amid the calls
    for kind, digest in (("policies", "policies"), ("licenses", "licenses"), ("status", "status"), ("trust", "trust")):
        [kept] = [p.name for p in (made.data / KEPT_NAME / kind).iterdir()]
        assert hashlib.sha256(files[f"documents/{digest}/{kept}"]).hexdigest() == kept
    told = json.loads(files["manifest.json"])
    assert told["question"] == {"decisions": ["blocked"]}
    assert told["completeness"]["complete"] is True
    assert told["missing"] == []


def sealed_size(data: Path, stream: str) -> int:
    return int((data / "log" / stream / "checkpoint").read_text().split("\n")[1])


def test_it_verifies_in_another_process_that_has_only_the_pack(made: Made, tmp_path: Path) -> None:
    pack = shutil.copy(made.pack, tmp_path / "pack.zip")
    keys = tmp_path / "keys"
    keys.write_text("".join(f"{key}\n" for key in made.trust.keys))
    code = "import sys; from gateway.tlog.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(pack), "--keys", str(keys), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": ""})
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    [stream] = told["streams"]
    assert (stream["state"], stream["calls"], stream["open_calls"]) == ("pack", 16, [])
    assert stream["signed_by"] == [f"gw+{made.trust.keys[0].id.hex()}"]
    assert "its maker says that the answer is complete" in stream["remarks"]


def test_one_flipped_byte_of_any_file_is_named(made: Made, tmp_path: Path) -> None:
    raw = made.pack.read_bytes()
    with zipfile.ZipFile(made.pack) as zip_:
        infos = zip_.infolist()
    altered = tmp_path / "altered.zip"
    chosen = [one for one in infos if not one.filename.startswith("records/")]
    chosen += [one for one in infos if one.filename.startswith("records/")][:: len(infos) // 4]
    for info in chosen:
        start = info.header_offset + 30 + len(info.filename)
        for at in (info.header_offset + 10, start + info.compress_size // 2):  # its head, and its middle
            altered.write_bytes(raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :])
            assert verdict(altered, made.trust).startswith(f"{info.filename}: "), info.filename


def test_every_byte_between_the_first_and_the_last_counts(made: Made, tmp_path: Path) -> None:
    raw = made.pack.read_bytes()
    altered = tmp_path / "altered.zip"
    for at in (*range(len(raw) - 22, len(raw), 3), *range(0, len(raw), len(raw) // 16)):
        altered.write_bytes(raw[:at] + bytes((raw[at] ^ 0x10,)) + raw[at + 1 :])
        found = verdict(altered, made.trust)  # only the bits that fill up the last byte of a deflated file say nothing
        assert found or members(altered) == members(made.pack), at


def test_whoever_makes_list_and_manifest_anew_is_found_by_the_proofs(made: Made, tmp_path: Path) -> None:
    files = members(made.pack)
    intent = next(name for name, data in files.items() if name.endswith(".json") and b'"kind":"intent"' in data)
    proof = intent.removesuffix(".json") + ".tlog-proof"
    other = next(name for name in files if name.endswith(".tlog-proof") and name != proof and made.first in name)
    document = next(name for name in files if name.startswith("documents/licenses/"))
    commitment = next(name for name in files if name.endswith("commitment.json"))
    checkpoint = f"log/{made.first}/checkpoint"

    def cases() -> Iterator[tuple[str, dict[str, bytes | None]]]:
        yield proof, {intent: files[intent].replace(b'"clinic"', b'"clinix"')}
        yield proof, {proof: files[other], other: files[proof]}
        yield intent, {proof: None}
        yield proof, {intent: None}
        yield document, {document: b"another license"}
        yield document, {document: None}
        yield "extra.txt", {"extra.txt": b"hello"}
        yield "documents/licenses/../../x", {"documents/licenses/../../x": b""}
        yield checkpoint, {checkpoint: files[checkpoint].replace(b"gw/", b"gx/", 1)}
        yield commitment, {commitment: files[commitment].replace(b'"size": ', b'"size": 1')}
        yield "manifest.json", {intent: None, proof: None, **outcome_of(files, intent)}

    for named, changes in cases():
        out = remade(made.pack, tmp_path / "remade.zip", partial(put, changes))
        found = verdict(out, made.trust)
        first = min(changes) if len(changes) == 2 and proof in changes and other in changes else named
        assert found.startswith(f"{first}: "), (first, found)


def put(changes: dict[str, bytes | None], files: dict[str, bytes]) -> None:
    """Other bytes, or none."""
    for name, data in changes.items():
        if data is None:
            del files[name]
        else:
            files[name] = data


def outcome_of(files: dict[str, bytes], intent: str) -> dict[str, bytes | None]:
    """The outcome of an intent and its proof, gone."""
    seq = int(intent.rpartition("/")[2][:-5])
    folder = intent.rpartition("/")[0]
    [name] = [
        one
        for one, data in files.items()
        if one.startswith(folder) and one.endswith(".json") and json.loads(data).get("intent") == seq
    ]
    return {name: None, name.removesuffix(".json") + ".tlog-proof": None}


def test_files_that_come_or_go_without_the_list_are_named(made: Made, tmp_path: Path) -> None:
    some = next(name for name in members(made.pack) if name.startswith("records/"))
    out = remade(made.pack, tmp_path / "less.zip", partial(put, {some: None}), sums=False)
    assert verdict(out, made.trust).startswith(("manifest.json: ", f"{some}: "))
    out = remade(made.pack, tmp_path / "more.zip", partial(put, {"log/x": b""}), sums=False)
    assert verdict(out, made.trust).startswith(("manifest.json: ", "log/x: "))


def test_a_wrong_key_is_told(made: Made, tmp_path: Path) -> None:
    wrong = Trust((VerifierKey("gw", ED25519, LogKey.load(tmp_path).public),))
    found = verdict(made.pack, wrong)
    assert found.startswith("log/fleet-gw/checkpoint: ")
    assert "not signed by a trusted key" in found


def test_a_witness_stands_for_streams_by_the_fleet_log(history: Driven, made: Made, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made.data, data)
    witness = LogKey.load(tmp_path / "witness")
    checkpoint = data / "log" / "fleet-gw" / "checkpoint"
    note = checkpoint.read_text("utf-8")
    checkpoint.write_text(note + cosign(read_note(note).text, witness, "w.example/1", 1_764_600_000), "utf-8")
    out = tmp_path / "pack.zip"
    export(data, BLOCKED, out, now_ms=MADE_MS)
    key = VerifierKey("w.example/1", COSIGNATURE_ED25519, witness.public)
    assert verdict(out, Trust(made.trust.keys, (key,), 1)) == ""
    other = VerifierKey("w.example/2", COSIGNATURE_ED25519, witness.public)
    assert "witnesses cosigned, and 1 must" in verdict(out, Trust(made.trust.keys, (other,), 1))


def test_a_head_that_grew_since_the_fleet_log_named_it_is_led_to(tmp_path: Path) -> None:
    there = driven(tmp_path / "data")
    journal = there.open(0)
    for _ in range(5):
        there.call(journal)
    there.seal()
    for _ in range(300):
        there.call(journal)
    there.seal()  # the fleet log's next entry is due in a minute
    trust = trust_in(there.data)
    try:
        exported = export(there.data, Query(ids=frozenset({f"{2:032x}", f"{250:032x}"})), tmp_path / "pack.zip")
    finally:
        there.close()
    assert exported.complete
    files = members(tmp_path / "pack.zip")
    [commitment] = [json.loads(data) for name, data in files.items() if name.endswith("commitment.json")]
    assert commitment["size"] == 11
    assert commitment["consistency"]
    assert verdict(tmp_path / "pack.zip", trust) == ""
    steps = json.dumps({**commitment, "consistency": commitment["consistency"][::-1]}).encode()
    [place] = [name for name in files if name.endswith("commitment.json")]
    out = remade(tmp_path / "pack.zip", tmp_path / "other.zip", partial(put, {place: steps}))
    assert verdict(out, trust).startswith(f"{place}: the fleet log's head does not lead to the checkpoint")


def test_a_document_that_is_not_kept_is_told(made: Made, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made.data, data)
    [policy] = (data / KEPT_NAME / "policies").iterdir()
    policy.write_bytes(b"something else")
    shutil.rmtree(data / KEPT_NAME / "status")
    exported = export(data, BLOCKED, tmp_path / "pack.zip", now_ms=MADE_MS)
    assert not exported.complete
    told = manifest_of(tmp_path / "pack.zip")
    missing = told["missing_documents"]
    assert isinstance(missing, list)
    assert f"policies/{policy.name}" in missing
    assert f"status/published-{STATUS_S}" in missing
    assert any("what is kept under its digest are other bytes" in one for one in exported.missing)
    assert verdict(tmp_path / "pack.zip", made.trust) == ""  # told, so that nothing is wrong
    out = remade(tmp_path / "pack.zip", tmp_path / "silent.zip", silenced)
    found = verdict(out, made.trust)
    assert found.startswith("documents/")
    assert "neither here nor told as missing" in found


def test_a_document_that_its_maker_took_out_is_told_by_the_verifier(made: Made, tmp_path: Path) -> None:
    """Whatever the maker's own sentences say."""
    [policy] = [name for name in members(made.pack) if name.startswith("documents/policies/")]

    def taken_out(files: dict[str, bytes]) -> None:
        del files[policy]
        told = json.loads(files["manifest.json"])
        told |= {"missing_documents": [policy.removeprefix("documents/")], "missing": []}
        files["manifest.json"] = json.dumps(told).encode()

    out = remade(made.pack, tmp_path / "less.zip", taken_out)
    assert verdict(out, made.trust) == ""
    [pack] = check([out], made.trust).streams
    [remark] = [one for one in pack.remarks if one.startswith("not in the pack: ")]
    assert remark.startswith(f"not in the pack: {policy}, which {made.first}/")
    assert not any("not in the pack" in one for one in check([made.pack], made.trust).streams[0].remarks)


def test_two_histories_to_two_auditors_part_at_a_kept_proof(made: Made, tmp_path: Path) -> None:
    """Of a head of another size than the pack's, which says nothing about it by itself."""
    stored = members(made.pack)[f"records/{made.first}/0.json"]
    for record, found in ((stored, ""), (stored.replace(b"test", b"tent"), f"records/{made.first}/0.json")):
        head = Checkpoint(f"gw/{made.first}", 1, leaf_hash(record))
        report = check([made.pack], made.trust, kept=[Kept("mine", head, 0)])
        assert [one.record.partition(": ")[2] for one in report.problems] == [found] * bool(found)
        assert all("it is not the record that mine proves" in one.problem for one in report.problems)


def test_l9_heads_are_not_kept_without_end(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.tlog.pack._HEADS_BYTES_MAX", 200)
    found = verdict(made.pack, made.trust)
    assert found.startswith("log/")
    assert "more than 200 bytes" in found


def silenced(files: dict[str, bytes]) -> None:
    told = json.loads(files["manifest.json"])
    told["missing_documents"] = []
    files["manifest.json"] = json.dumps(told).encode()


def test_the_same_data_and_time_are_the_same_bytes(made: Made, tmp_path: Path) -> None:
    export(made.data, BLOCKED, tmp_path / "again.zip", now_ms=MADE_MS)
    assert (tmp_path / "again.zip").read_bytes() == made.pack.read_bytes()
    with pytest.raises(FileExistsError):
        export(made.data, BLOCKED, tmp_path / "again.zip", now_ms=MADE_MS)
    assert [p.name for p in tmp_path.iterdir()] == ["again.zip"]  # and no draft


def test_l7_nothing_but_records_and_kept_documents(made: Made, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made.data, data)
    secret = b"4111 1111 1111 1111"
    for name in (
        "vault/case-1/evidence.sealed",
        "vault/key",
        "transcripts/a",
        "kept/policies/.draft",
        "run/note.json",
        "log/x/y",
    ):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(secret)
    export(data, BLOCKED, tmp_path / "pack.zip", now_ms=MADE_MS)
    private = [  # but for the sealed log, of which a pack is made
        p.read_bytes()
        for p in data.rglob("*")
        if p.is_file() and p.stat().st_mode & 0o077 == 0 and "index" not in p.name and data / "log" not in p.parents
    ]
    assert private
    for name, content in members(tmp_path / "pack.zip").items():
        assert secret not in content, name
        assert not any(one and one in content for one in private), name
    assert members(tmp_path / "pack.zip") == members(made.pack)
    assert (tmp_path / "pack.zip").stat().st_mode & 0o077 == 0


def test_the_page_escapes_what_records_hold_and_loads_nothing(made: Made) -> None:
    page = members(made.pack)["report.html"].decode()
    assert "<script" not in page
    assert "<img" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    drawn = re.findall(r"<svg.*?</svg>", page)
    assert len(drawn) >= 4
    for one in drawn:
        ElementTree.fromstring(one)  # our own page
    assert "http://" not in page
    assert "https://" not in page.replace("iss https://a", "")
    assert "Complete." in page
    assert "CONTENT_BLOCKED" in page


def test_one_call_a_case_and_records_of_a_report(made: Made, history: Driven, tmp_path: Path) -> None:
    one = export(made.data, Query(ids=frozenset({f"{3:032x}"})), tmp_path / "one.zip")
    assert (one.calls, one.complete) == (1, True)
    case = export(made.data, Query(), tmp_path / "case.zip", case=CASE)
    files = members(tmp_path / "case.zip")
    assert case.calls == 1
    assert json.loads(files["manifest.json"])["question"] == {"case": CASE}
    assert any(b'"topic":"case"' in data for data in files.values())
    ids = [f"{made.first}/86", f"{made.first}/10", f"{made.first}/999999"]
    some = export(made.data, Query(), tmp_path / "some.zip", records=ids, about={"report": "Q10"})
    assert some.calls == 1
    assert [one for one in some.missing if "not sealed" in one]  # the record that there is not
    for name in ("one", "case", "some"):
        assert verdict(tmp_path / f"{name}.zip", made.trust) == ""


def test_an_empty_answer_is_a_pack_too(made: Made, tmp_path: Path) -> None:
    exported = export(made.data, Query(models=frozenset({"nobody"})), tmp_path / "none.zip")
    assert (exported.calls, exported.streams, exported.complete) == (0, 0, True)
    assert verdict(tmp_path / "none.zip", made.trust) == ""
    with pytest.raises(QueryError, match="from"):
        export(made.data, BLOCKED, tmp_path / "x.zip", source="elsewhere")


def test_records_that_are_gone_are_no_silent_gap(made: Made, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made.data, data)
    shutil.rmtree(data / "log" / made.first / "tile" / "entries")
    with pytest.raises(EvidenceError, match="licet audit verify"):
        export(data, BLOCKED, tmp_path / "pack.zip")
    assert not (tmp_path / "pack.zip").exists()
