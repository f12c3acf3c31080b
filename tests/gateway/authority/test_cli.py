"""`licet authority` as people use it: a folder, people with roles, one command a step, errors that say what to do."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from typer.main import get_command

from gateway.authority.cli import app
from gateway.authority.doors import DOORS
from gateway.license.issuer import add_to_trust, generate_key, private_jwk
from gateway.license.signed import Kind, sign
from gateway.license.token import open_license
from gateway.license.trust import load_trust
from tests.gateway.authority.served import DIGEST, ISSUER, Served, form

ROOT = Path(__file__).parents[3]
PEOPLE = ("ann:applicant", "olga:officer,assessor,operator,auditor", "pia:approver", "paul:approver", "ada:admin")
COMMANDS = get_command(app)


@dataclass(frozen=True)
class Done:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*arguments: object, **environment: str) -> Done:
    """A command in this process. The tree of commands is built once: building it costs more than most commands."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.dict(os.environ, environment):
        try:
            COMMANDS.main(args=[str(argument) for argument in arguments], prog_name="authority")
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Desk:
    """Commands on one folder."""

    folder: Path

    def __call__(self, who: str, *arguments: object, code: int = 0) -> Done:
        done = run(*arguments, "--folder", self.folder, "--as", who)
        assert done.code == code, done.out + done.err
        return done

    def published(self) -> bytes:
        """The one status list as it lies in the published folder, the newest."""
        timestamp = json.loads((self.folder / "tuf" / "timestamp.json").read_bytes())["signed"]
        snapshot = self._signed(f"{timestamp['meta']['snapshot.json']['version']}.snapshot.json")
        targets = self._signed(f"{snapshot['meta']['targets.json']['version']}.targets.json")["targets"]
        digest = targets["status/1.jwt"]["hashes"]["sha256"]
        return (self.folder / "tuf" / "targets" / "status" / f"{digest}.1.jwt").read_bytes()

    def _signed(self, name: str) -> Any:
        return json.loads((self.folder / "tuf" / name).read_bytes())["signed"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("cli") / "authority"
    people = [word for person in PEOPLE for word in ("--person", person)]
    done = run("init", folder, "--issuer", ISSUER, *people)
    assert done.code == 0, done.err
    assert "hand it to gateways" in done.out
    yield Desk(folder)
    assert run("log", "verify", "--folder", folder, "--as", "olga").code == 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "application.yaml"
    path.write_text(yaml.safe_dump(form()))
    return path


def test_keys_are_private_and_root_keys_lie_apart(desk: Desk) -> None:
    private = [*desk.folder.glob("keys/**/*.jwk"), *desk.folder.glob("keys/**/*.pem"), *desk.folder.glob("root-keys/*")]
    assert len(list(desk.folder.glob("root-keys/root-*.pem"))) == 3
    assert len(private) >= 6
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)
    root = json.loads((desk.folder / "root.json").read_bytes())["signed"]
    assert root["roles"]["root"]["threshold"] == 2


def test_a_license_goes_through_all_steps_and_back(desk: Desk, file: Path, tmp_path: Path) -> None:
    id_ = desk("ann", "submit", file).out.strip()
    desk("olga", "complete", id_)
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF")
    desk(
        "olga", "assess", id_, "--type", "security", "--report", report, "--result", "passed", "--result", "refuse=0.98"
    )
    waits = desk("pia", "decide", id_, "--approve", "--reason", "as assessed", "--condition", "witness:lag_s_max=60")
    assert "waits for `confirm`" in waits.out
    desk("paul", "confirm", id_)
    out = tmp_path / "license.jws"
    desk("olga", "issue", id_, "--out", out, "--publish")
    (keys,) = (desk.folder / "tuf" / "targets").glob("*.keys.json")
    found = open_license(out.read_bytes(), load_trust(keys.read_bytes(), source="keys.json")).claims
    assert found is not None
    assert found.license.conditions == ({"type": "witness", "lag_s_max": 60},)
    assert found.license.assessments[0].result is not None
    assert (desk.folder / "tuf" / "licenses" / f"{found.jti}.jws").read_bytes().strip() == out.read_bytes().strip()

    before = desk.published()
    assert desk("pia", "revoke", id_, "--reason", "obtained by deceit", "--json").json["state"] == "revoked"
    assert desk.published() == before
    done = run("publish", "--folder", desk.folder, "--to", tmp_path / "web")
    assert done.code == 0, done.err
    assert desk.published() != before
    copied = {str(p.relative_to(tmp_path / "web")) for p in (tmp_path / "web").rglob("*") if p.is_file()}
    assert copied == {str(p.relative_to(desk.folder / "tuf")) for p in (desk.folder / "tuf").rglob("*") if p.is_file()}
    page = tmp_path / "history.html"
    desk("ann", "history", found.jti, "--html", page)
    assert "obtained by deceit" in page.read_text()
    assert "revoked" in desk("olga", "list", "licenses", "--state", "revoked").out


def test_who_does_what_is_enforced_and_said(desk: Desk, file: Path) -> None:
    id_ = desk("ann", "submit", file, "--json").json["id"]
    assert "is for the roles officer" in desk("pia", "complete", id_, code=1).err
    desk("olga", "complete", id_)
    desk("pia", "decide", id_, "--approve", "--reason", "fine")
    assert "someone other" in desk("pia", "confirm", id_, code=1).err
    desk("paul", "decline", id_, "--reason", "too early")
    assert "possible in: approved" in desk("olga", "issue", id_, code=1).err
    nobody = run("complete", id_, "--folder", desk.folder)
    assert (nobody.code, "--as" in nobody.err) == (2, True)
    assert "nobody is named 'eve'" in desk("eve", "show", id_, code=2).err


def test_what_is_missing_is_listed(desk: Desk, tmp_path: Path) -> None:
    bare = form()
    del bare["license"]["application"]["need"]
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(bare))
    id_ = desk("ann", "submit", path).out.strip()
    assert "missing: license.application.need" in desk("olga", "complete", id_, code=1).out
    path.write_text(json.dumps(form()))
    desk("ann", "amend", id_, path)
    desk("olga", "complete", id_)


WRONG = [
    pytest.param("license: {model: {name: chat}", "line 1: neither YAML nor JSON", id="an open brace"),
    pytest.param("a: &a [1]\nb: *a\n", "neither YAML nor JSON", id="aliases"),
    pytest.param("- license\n", "write one object", id="a list"),
    pytest.param("license: {model: {}}\n", "license.model", id="no name"),
    pytest.param("lisence: {}\n", "lisence", id="a misspelt member"),
    pytest.param("license: {model: {name: x}, state: active}\n", "state", id="what the authority decides"),
    pytest.param("x" * 1_100_000, "more than 1,048,576 bytes", id="l9 too large"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_form_that_cannot_be_used_says_why(desk: Desk, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "form.yaml"
    path.write_text(text)
    done = desk("ann", "submit", path, code=2)
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_permit_of_another_authority_opens_the_door_that_its_lack_closes(
    desk: Desk, file: Path, tmp_path: Path
) -> None:
    pair, now = generate_key(), int(time.time())
    holder = {"legal_name": "Voices Ltd", "id_code": "V1"}
    grant = {"holder": "V1", "model": "voice", "data_sources": [DIGEST], "capabilities": ["voice_clone"]}
    claims = {"iss": "https://elsewhere.test", "sub": "voice", "jti": "p-1", "iat": now, "nbf": now, "exp": now + 9999}
    token = sign({**claims, "permit": grant}, Kind.PERMIT, pair)
    (tmp_path / "permit.jws").write_text(token + "\n")
    (tmp_path / "trust.json").write_text(add_to_trust(None, "https://elsewhere.test", pair))
    digest = f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"
    training = {
        "started_at": now + 5,
        "permit": {"id": "p-1", "digest": digest, "not_before": now},
        "sources": [DIGEST],
    }
    file.write_text(yaml.safe_dump(form("voice", holder=holder, capabilities=["voice_clone"], training=training)))
    id_ = desk("ann", "submit", file).out.strip()
    desk("olga", "complete", id_)
    desk("pia", "decide", id_, "--approve", "--reason", "r")
    desk("paul", "confirm", id_)
    assert "TRAINING_PERMIT" in desk("olga", "issue", id_, code=1).err
    given = ("--permit", tmp_path / "permit.jws")
    assert "go together" in desk("olga", "issue", id_, *given, code=2).err
    desk("olga", "issue", id_, *given, "--permit-trust", tmp_path / "trust.json", "--out", tmp_path / "voice.jws")
    assert (tmp_path / "voice.jws").exists()


def test_dates_stay_as_they_are_written(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "form.yaml"
    text = yaml.safe_dump(form(filing={"province": "Beijing", "launched_at": "2026-11-02"}))
    path.write_text(text.replace("'2026-11-02'", "2026-11-02"))
    shown = desk("ann", "submit", path, "--json").json
    assert shown["form"]["license"]["filing"]["launched_at"] == "2026-11-02"


def test_orders_gateways_audits_and_clocks(desk: Desk, tmp_path: Path) -> None:
    ref = desk("pia", "order", "give", "modality", "--modality", "image", "--reason", "P-7", "--json").json["ref"]
    assert ref in desk("olga", "list", "orders").out
    desk("pia", "order", "lift", ref, "--reason", "over")
    key = tmp_path / "key.jwk"
    key.write_text('{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}')
    desk("olga", "gateway", "enroll", "gw-1", "--operator", "EX1", "--key", key, "--stream", "main-*")
    assert "gw-1" in desk("olga", "gateway", "list").out
    desk("olga", "audit", "schedule", "gw-1", "--every-days", "30", "--warns")
    assert "next due" in desk("olga", "audit", "list", "gw-1").out
    assert "audit gateway/gw-1" in desk("olga", "clocks").out
    no_key = desk("olga", "audit", "run", "gw-1", code=2)
    assert "LICET_AUDITOR_KEY" in no_key.err
    assert "nothing was due" in desk("olga", "tick").out
    desk("olga", "gateway", "withdraw", "gw-1", "--reason", "sold")


def test_keys_are_shown_once_and_people_are_listed(desk: Desk) -> None:
    made = desk("ada", "key", "new", "--name", "robot", "--role", "applicant", "--json").json
    listed = desk("ada", "key", "list")
    assert "robot" in listed.out
    assert made["key"] not in listed.out
    desk("ada", "key", "remove", "--name", "robot")
    assert "robot" not in desk("ada", "key", "list").out
    assert desk("ada", "key", "rotate", "--json").json["kid"]


def test_an_authority_is_made_once(desk: Desk, tmp_path: Path) -> None:
    again = run("init", desk.folder, "--issuer", ISSUER)
    assert (again.code, "made once" in again.err) == (2, True)
    wrong = run("init", tmp_path / "b", "--issuer", ISSUER, "--root-holders", "1", "--root-threshold", "2")
    assert (wrong.code, "threshold" in wrong.err) == (2, True)
    assert not (tmp_path / "b").exists()
    none = run("show", "x", "--folder", tmp_path / "none", "--as", "ann")
    assert (none.code, "licet authority init" in none.err) == (2, True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "authority.db").write_bytes(b"not a store" * 100)
    broken = run("show", "x", "--folder", tmp_path / "other", "--as", "ann")
    assert (broken.code, "authority" in broken.err, "Traceback" in broken.err) == (2, True, False)
    bad = run("init", tmp_path / "c", "--issuer", ISSUER, "--person", "ann")
    assert (bad.code, "NAME:ROLE" in bad.err) == (2, True)


@pytest.mark.slow
def test_the_same_commands_ask_a_service(tmp_path: Path, file: Path) -> None:
    with Served(tmp_path / "authority") as served:
        url = f"http://127.0.0.1:{served.port}"

        def ask(who: str, *arguments: object) -> Done:
            return run(*arguments, "--url", url, LICET_AUTHORITY_KEY=served.keys[who])

        done = ask("ann", "submit", file)
        assert done.code == 0, done.err
        id_ = done.out.strip()
        assert ask("olga", "complete", id_).code == 0
        refused = ask("ann", "decide", id_, "--approve", "--reason", "mine")
        assert (refused.code, "is for the roles approver" in refused.err) == (1, True)
        assert ask("pia", "decide", id_, "--approve", "--reason", "fine").code == 0
        assert ask("paul", "confirm", id_).code == 0
        out = tmp_path / "license.jws"
        issued = ask("olga", "issue", id_, "--out", out)
        assert issued.code == 0, issued.err
        assert out.read_bytes().count(b".") == 2
        assert "ann (applicant) applied" in ask("ann", "history", id_).out
        unknown = run("list", "--url", url, LICET_AUTHORITY_KEY="lca_unknown")
        assert (unknown.code, "not known" in unknown.err) == (1, True)
        both = run("list", "--url", url, "--as", "ann", LICET_AUTHORITY_KEY="x")
        assert (both.code, "--as" in both.err) == (2, True)
    gone = run("list", "--url", url, LICET_AUTHORITY_KEY="x")
    assert (gone.code, "cannot be reached" in gone.err) == (2, True)


def test_l7_a_key_is_not_sent_where_others_can_read_it() -> None:
    done = run("list", "--url", "http://authority.example", LICET_AUTHORITY_KEY="lca_secret")
    assert (done.code, "https" in done.err) == (2, True)
    assert "lca_secret" not in done.err


LIST = (
    "序号,属地,模型名称,备案单位,备案编号,备案时间\n1,北京,云雀大模型,北京抖音,Beijing-YunQue-20230821,2023年8月31日\n"
)


def test_a_published_list_is_imported_compared_and_attested(desk: Desk, tmp_path: Path, file: Path) -> None:
    (tmp_path / "list.csv").write_text(LIST, "gb18030")
    (tmp_path / "later.csv").write_text(LIST.replace("1,北京,云雀大模型", "1,北京,豆包"))
    for name, day in (("list", "2026-11-01"), ("later", "2026-11-08")):
        arguments = (
            tmp_path / f"{name}.csv",
            "--list",
            "备案信息",
            "--captured",
            day,
            "--out",
            tmp_path / f"{name}.json",
        )
        done = run("import-filings", *arguments)
        assert done.code == 0, done.err
        assert "no=备案编号" in done.out
    differs = run("filings", "diff", tmp_path / "list.json", tmp_path / "later.json")
    assert "model: 云雀大模型 -> 豆包" in differs.out
    pair = generate_key()
    key = tmp_path / "issuer.private.jwk"
    key.write_text(private_jwk(ISSUER, pair))
    out = tmp_path / "attested.jws"
    scope = ("--model", "yunque", "--origin", "https://api.example.com", "--purpose", "*")
    common = ("--snapshot", tmp_path / "list.json", "--row", "Beijing-YunQue-20230821")
    done = run("attest", *common, "--key", key, "--out", out, *scope)
    assert done.code == 0, done.err
    trust = load_trust(add_to_trust(None, ISSUER, pair).encode(), source="trust.json")
    claims = open_license(out.read_bytes(), trust).claims
    assert claims is not None
    assert claims.license.filing is not None
    assert claims.license.filing.list_row == "csv!2"
    missing = run("attest", "--snapshot", tmp_path / "list.json", "--row", "X", "--key", key, "--out", out, *scope)
    assert (missing.code, "import a newer list" in missing.err) == (2, True)
    shown = desk("ann", "submit", file, *common, "--json").json
    record = shown["form"]["license"]
    assert record["filing"]["no"] == "Beijing-YunQue-20230821"
    assert record["holder"] == {"legal_name": "北京抖音", "id_code": "EX1"}
    assert record["regime"] == "internal"


def test_every_command_has_help_and_every_operation_a_command() -> None:
    def commands(group: Any, words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        for name, inner in group.commands.items():
            if hasattr(inner, "commands"):
                yield from commands(inner, (*words, name))
            else:
                yield " ".join((*words, name)), inner.help or ""

    found = dict(commands(COMMANDS, ()))
    assert len(found) >= 45
    assert [words for words, text in found.items() if len(text) < 20] == []
    source = "".join(path.read_text("utf-8") for path in ROOT.glob("gateway/authority/cli*.py"))
    assert [name for name in DOORS if f'"{name}"' not in source] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("a.yaml", "license:\n  model: {name: x}\n  purposes: [a]\n  purposes: [b]\n", id="yaml"),
        pytest.param("a.json", '{"license": {"model": {"name": "x"}}, "license": {"model": {"name": "y"}}}', id="json"),
        pytest.param("b.json", '{"license": {"model": {"name": "x"}, "gpai": "\\ud800"}}', id="half a pair"),
        pytest.param("c.json", '{"\\u001b[31m": 1}', id="a name that steers a terminal"),
    ],
)
def test_a_form_that_two_readers_could_take_otherwise_is_refused(
    desk: Desk, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    done = desk("ann", "submit", tmp_path / name, code=2)
    assert done.err.startswith("error: ")
    assert done.err.rstrip("\n").isprintable()


@pytest.mark.parametrize("text", ["witness:lag=--5", "audit_by:at=" + "9" * 5000, "a:x=1,x=2", "audit_by:at=²"])
def test_l1_a_condition_that_is_no_number_stays_text_or_is_refused(desk: Desk, text: str) -> None:
    done = desk("pia", "decide", "x", "--approve", "--reason", "r", "--condition", text, code=2)
    assert done.err.startswith("error: ")


def test_what_somebody_typed_steers_no_terminal(desk: Desk) -> None:
    # A terminal of its own keeps what a pipe would be spared.
    done = desk("pia", "order", "give", "all", "--reason", "r", "--ref", "x\x9b31m\u202ey")
    desk("pia", "order", "lift", "x\x9b31m\u202ey", "--reason", "r")
    assert done.out.rstrip("\n").isprintable()


def test_json_output_steers_no_terminal(desk: Desk, tmp_path: Path) -> None:
    name = "\x9b31m\u202ered"
    (tmp_path / "a.json").write_text(json.dumps({"license": {"model": {"name": name}}}))
    done = desk("ann", "submit", tmp_path / "a.json", "--json")
    assert done.json["form"]["license"]["model"]["name"] == name
    assert done.out.replace("\n", "").isprintable()
