"""`licet license`: keys, licenses and verdicts as files and exit codes."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.license.cli import app
from gateway.license.token import open_license
from gateway.license.trust import load_trust
from tests.fakes.commands import Done, commands

run = commands(app)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    made = run("keygen", "--out", tmp_path / "keys", "--issuer", "https://authority.example")
    assert made.exit_code == 0, made.output
    return tmp_path / "keys"


def private(keys: Path) -> Path:
    (found,) = keys.glob("authority.example-*.private.jwk")
    return found


def issue(keys: Path, out: Path, *more: str) -> Done:
    scope = ("--origin", "https://api.example.com/v1", "--jurisdiction", "EU", "--purpose", "demo")
    return run("issue", "--key", private(keys), "--model", "gpt-4o", *scope, "--out", out, *more)


@pytest.fixture
def license_file(keys: Path, tmp_path: Path) -> Path:
    out = tmp_path / "chat.jws"
    made = issue(keys, out)
    assert made.exit_code == 0, made.output
    return out


def test_the_private_key_is_for_its_owner_only_and_not_in_the_trust_file(keys: Path) -> None:
    assert stat.S_IMODE(private(keys).stat().st_mode) == 0o600
    secret = json.loads(private(keys).read_text())["d"]
    assert secret not in (keys / "trust.json").read_text()
    assert load_trust((keys / "trust.json").read_bytes(), source="t").issuers == {"https://authority.example"}


def test_a_second_keygen_adds_to_the_trust_file(keys: Path) -> None:
    assert run("keygen", "--out", keys, "--issuer", "https://authority.example").exit_code == 0
    assert run("keygen", "--out", keys, "--issuer", "board").exit_code == 0
    trust = load_trust((keys / "trust.json").read_bytes(), source="t")
    assert len(trust.keys) == 3
    assert trust.issuers == {"https://authority.example", "board"}
    assert len(list(keys.glob("*.private.jwk"))) == 3


def test_keygen_leaves_a_trust_file_it_cannot_read_alone(tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_text("{broken")
    made = run("keygen", "--out", tmp_path, "--issuer", "x")
    assert made.exit_code == 2
    assert (tmp_path / "trust.json").read_text() == "{broken"
    assert not list(tmp_path.glob("*.jwk"))


def test_an_issued_license_opens_and_says_what_was_asked(keys: Path, license_file: Path) -> None:
    found = open_license(license_file.read_bytes(), load_trust((keys / "trust.json").read_bytes(), source="t"))
    assert found.claims is not None
    terms = found.claims.license
    assert terms.endpoint.origins == ("https://api.example.com",)
    assert terms.endpoint.served_model_aliases == ("gpt-4o",)
    assert terms.jurisdictions == ("eu",)
    assert terms.modalities_in == terms.modalities_out == ("text",)
    assert not terms.audience.public
    assert found.claims.exp - found.claims.nbf == 365 * 86_400


def test_inspect_needs_no_key_and_says_that_it_checked_nothing(license_file: Path) -> None:
    shown = run("inspect", license_file)
    assert shown.exit_code == 0
    assert "signature not checked" in shown.output
    assert "https://api.example.com" in shown.output
    as_json = json.loads(run("inspect", "--json", license_file).output)
    assert as_json["signature_checked"] is False
    assert as_json["payload"]["license"]["model"]["name"] == "gpt-4o"


def test_verify_says_yes_with_exit_0(keys: Path, license_file: Path) -> None:
    trust = ("--trust", keys / "trust.json")
    assert run("verify", license_file, *trust).exit_code == 0
    full = run(
        "verify", license_file, *trust, "--model", "gpt-4o", "--origin", "https://api.example.com", "--territory", "eu",
        "--purpose", "demo", "--modality", "text", "--audience", "internal",
    )  # fmt: skip
    assert full.exit_code == 0, full.output


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--model", "x"), "MODEL_MISMATCH"),
        (("--origin", "https://evil.example"), "MODEL_MISMATCH"),
        (("--territory", "cn"), "JURISDICTION"),
        (("--purpose", "x"), "PURPOSE"),
        (("--modality", "image"), "MODALITY"),
        (("--audience", "public"), "AUDIENCE"),
        (("--at", "2001-01-01"), "LIC_TIME"),
        (("--at", "2999-01-01T00:00:00Z"), "LIC_TIME"),
    ],
)
def test_verify_says_no_with_exit_1_and_the_code(
    keys: Path, license_file: Path, more: tuple[str, ...], code: str
) -> None:
    said = run("verify", license_file, "--trust", keys / "trust.json", *more)
    assert said.exit_code == 1
    assert said.output.startswith(f"{code}: ")
    as_json = run("verify", license_file, "--trust", keys / "trust.json", "--json", *more)
    assert as_json.exit_code == 1
    assert code in [f["code"] for f in json.loads(as_json.output)["failures"]]


def test_verify_names_a_tampered_license_and_an_untrusted_issuer(
    keys: Path, license_file: Path, tmp_path: Path
) -> None:
    license_file.write_text(license_file.read_text()[:-3] + "\n")
    said = run("verify", license_file, "--trust", keys / "trust.json")
    assert (said.exit_code, said.output.partition(":")[0]) == (1, "LIC_SIG")
    assert run("keygen", "--out", tmp_path / "o", "--issuer", "other").exit_code == 0
    assert issue(keys, license_file).exit_code == 0
    said = run("verify", license_file, "--trust", tmp_path / "o" / "trust.json")
    assert (said.exit_code, said.output.partition(":")[0]) == (1, "LIC_ISSUER")


def test_a_license_may_begin_later(keys: Path, tmp_path: Path) -> None:
    out = tmp_path / "later.jws"
    assert issue(keys, out, "--not-before", "2999-01-01", "--days", "10").exit_code == 0
    trust = ("--trust", keys / "trust.json")
    assert run("verify", out, *trust).output.startswith("LIC_TIME")
    assert run("verify", out, *trust, "--at", "2999-01-10T23:59:59Z").exit_code == 0
    assert run("verify", out, *trust, "--at", "2999-01-11").exit_code == 1


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("inspect", "nowhere.jws"), id="no file"),
        pytest.param(("inspect", "."), id="a folder"),
        pytest.param(("verify", "nowhere.jws", "--trust", "nowhere.json"), id="no trust"),
        pytest.param(("keygen", "--out", "/dev/null/x", "--issuer", "x"), id="folder that cannot be"),
        pytest.param(("keygen", "--out", "k", "--issuer", ""), id="no issuer"),
    ],
)
def test_what_cannot_be_used_is_exit_2_with_one_clear_line(
    args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = run(*args)
    assert said.exit_code == 2
    assert said.output.startswith("error: ")
    assert "Traceback" not in said.output


@pytest.mark.parametrize(
    "more",
    [
        ("--audience", "all"),
        ("--not-before", "soon"),
        ("--origin", "api.example.com"),
        ("--model", ""),
        ("--not-before", "1900-01-01"),
    ],
)
def test_issue_refuses_what_would_not_be_a_license(keys: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    said = issue(keys, tmp_path / "x.jws", *more)
    assert said.exit_code == 2
    assert said.output.startswith("error: ")
    assert not (tmp_path / "x.jws").exists()


# -- all groups of the record

PIN = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
DIGEST = "sha256:" + "ab" * 32


def payload(out: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(run("inspect", "--json", out).output)["payload"]
    return made


def test_flags_write_pins_weights_capabilities_conditions_and_status(keys: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.jws"
    made = issue(
        keys, out, "--pin", PIN, "--weights-digest", DIGEST, "--capability", "tts", "--supersedes", "old",
        "--condition", '{"type": "audit_by", "at": 5}', "--status-uri", "https://s.example/1", "--status-index", "7",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    claims = payload(out)
    terms = claims["license"]
    assert terms["endpoint"]["spki_pins"] == [PIN]
    assert terms["model"]["weights"] == {"root_digest": DIGEST}
    assert (terms["capabilities"], terms["supersedes"]) == (["tts"], "old")
    assert terms["conditions"] == [{"type": "audit_by", "at": 5}]
    assert claims["status"] == {"status_list": {"uri": "https://s.example/1", "idx": 7}}
    assert "https://s.example/1 index 7" in run("inspect", out).output


TERMS = """
holder: {legal_name: Example Ltd, id_code: "91310000"}
filing: {no: "2027-1", filed_at: 2027-01-02}
model: {modified: true}
endpoint:
  region: eu
  host_keys: [{kid: host-1, x: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]
modalities_in: [text, image]
assessments: [{type: security, date: 2027-01-02, report_digest: "%s", result: {passed: true}}]
training: {started_at: 1, permit: {id: p, digest: "%s", not_before: 0}}
conditions: [{type: enrolled_gateway}]
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_terms_from_a_file_are_merged_into_what_the_flags_say(keys: Path, tmp_path: Path, as_json: bool) -> None:
    out, terms = tmp_path / "x.jws", tmp_path / "terms.yaml"
    terms.write_text(TERMS % (DIGEST, DIGEST))
    if as_json:
        terms.write_text(json.dumps({"holder": {"id_code": "1"}, "endpoint": {"region": "eu"}}, indent=2))
    made = issue(keys, out, "--terms", str(terms), "--regime", "internal")
    assert made.exit_code == 0, made.output
    found = open_license(out.read_bytes(), load_trust((keys / "trust.json").read_bytes(), source="t"))
    assert found.claims is not None
    license_ = found.claims.license
    assert license_.endpoint.origins == ("https://api.example.com",)
    assert license_.endpoint.region == "eu"
    if not as_json:
        assert license_.model.name == "gpt-4o"
        assert license_.model.modified
        assert license_.modalities_in == ("text", "image")
        assert license_.filing is not None
        assert license_.filing.filed_at == "2027-01-02"
        assert license_.conditions == ({"type": "enrolled_gateway"},)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("fillings: {no: a}", "did you mean filing?", id="unknown group"),
        pytest.param("filing: {nr: a}", "license.filing.nr", id="unknown member"),
        pytest.param("assessments: [{kind: a}]", "license.assessments[0].kind", id="unknown in a list"),
        pytest.param("filing: {no: 5}", "$.license.filing.no", id="not a text"),
        pytest.param("model: {weights: {root_digest: abc}}", "$.license.model.weights.root_digest", id="no digest"),
        pytest.param("conditions: [{type: enrolled_gatway}]", "license.conditions[0]", id="condition nobody knows"),
        pytest.param("model: {name: other}", "license.model.name", id="contradicts a flag"),
        pytest.param("a: [", "terms.yaml:", id="broken"),
        pytest.param("- a", "write groups", id="a list"),
        pytest.param("", "the file is empty", id="empty"),
    ],
)
def test_terms_that_cannot_be_used_are_named(keys: Path, tmp_path: Path, text: str, named: str) -> None:
    terms = tmp_path / "terms.yaml"
    terms.write_text(text)
    made = issue(keys, tmp_path / "x.jws", "--terms", str(terms))
    assert made.exit_code == 2
    assert made.output.startswith("error: ")
    assert named in made.output
    assert not (tmp_path / "x.jws").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--pin", "abc"),
        ("--weights-digest", "md5:1"),
        ("--condition", "{"),
        ("--condition", "[]"),
        ("--condition", '{"type": "x"}'),
        ("--status-uri", "u"),
        ("--status-index", "1"),
        ("--status", "nowhere.jwt"),
    ],
)
def test_flags_that_cannot_be_used_are_refused(keys: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    made = issue(keys, tmp_path / "x.jws", *more)
    assert (made.exit_code, made.output[:7]) == (2, "error: ")
    assert not (tmp_path / "x.jws").exists()


@pytest.mark.parametrize("kind", ["license", "permit", "order", "gateway", "condition"])
def test_schemas_are_json_schema(kind: str) -> None:
    made = json.loads(run("schema", "--kind", kind).output)
    assert made["$schema"].endswith("2020-12/schema")
    assert "Licet" in made["title"]
    assert made["$defs"]
