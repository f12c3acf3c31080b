"""Which keys sign now, and how one hands over to the next without a restart."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.errors import ConfigError
from gateway.settings.audit import SignerSettings
from gateway.signing import cli
from gateway.signing.command import CommandSigner
from gateway.signing.keys import (
    LogKeys,
    Signers,
    Where,
    keys_path,
    open_signer,
    read_signers,
    read_statements,
    write_signers,
)
from gateway.signing.logkey import LogKey
from gateway.signing.rotate import rotate
from gateway.tlog.checkpoint import open_checkpoint, sign_checkpoint
from gateway.tlog.keys import key_terms
from gateway.tlog.note import ED25519, VerifierKey

FILE = SignerSettings()
ROOT = bytes(range(32))
# A signing command as short as they come: the key's file is its argument.
SCRIPT = (
    "import sys,pathlib\n"
    "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as K\n"
    "sys.stdout.buffer.write(K.from_private_bytes(pathlib.Path(sys.argv[1]).read_bytes()).sign(sys.stdin.buffer.read()))"
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def note_by(keys: LogKeys) -> str:
    newest, *also = keys.signers()
    return sign_checkpoint("gw1/s", 5, ROOT, newest, keys.name, also)


def test_a_rotation_is_taken_up_by_whoever_signs_and_followed_by_whoever_verifies(tmp_path: Path) -> None:
    clock = Clock()
    running = LogKeys(FILE, tmp_path, "gw1", now_s=clock)
    (first,) = running.signers()
    root = VerifierKey("gw1", ED25519, first.public)
    assert first.public == LogKey.load(tmp_path).public
    change = rotate(tmp_path, FILE, "gw1", overlap_s=100, now_s=clock)
    assert (change.old, change.at_s, change.until_s) == (root, 1_000, 1_100)
    newest, old = running.signers()
    assert (newest.public, old.public) == (change.new.public, first.public)
    for signer in (newest, old):  # both sign while the time lasts
        assert open_checkpoint(note_by(running), signer.public).size == 5
    clock.now_s = 1_101
    assert [one.public for one in running.signers()] == [newest.public]
    third = rotate(tmp_path, FILE, "gw1", overlap_s=0, now_s=clock)
    again = LogKeys(FILE, tmp_path, "gw1", now_s=clock)
    clock.now_s = 1_102
    assert [one.public for one in again.signers()] == [third.new.public]
    assert list(again.trusted) == [root, change.new, third.new]
    statements = read_statements(tmp_path)
    assert list(key_terms(statements, (root,))) == list(again.trusted)
    assert sorted(p.name for p in (tmp_path / "keys").glob("log-*")) == ["log-1.key", "log-2.key", "log-3.key"]


def test_a_rotation_that_died_is_taken_up_by_the_next(tmp_path: Path) -> None:
    LogKeys(FILE, tmp_path, "gw1")
    left = LogKey.load(tmp_path, "log-2.key")  # made, and no statement
    assert rotate(tmp_path, FILE, "gw1").new.public == left.public


def test_rotations_have_an_end_and_a_clock(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(3):
        rotate(tmp_path, FILE, "gw1", overlap_s=100, now_s=clock)
    with pytest.raises(ConfigError, match="4 keys sign at once"):
        rotate(tmp_path, FILE, "gw1", now_s=clock)
    clock.now_s = 2_000
    rotate(tmp_path, FILE, "gw1", overlap_s=0, now_s=clock)
    clock.now_s = 1_999
    with pytest.raises(ConfigError, match="clock"):
        rotate(tmp_path, FILE, "gw1", now_s=clock)


def command_key(tmp_path: Path) -> SignerSettings:
    key = LogKey.load(tmp_path / "kms", "k")
    command = (sys.executable, "-c", SCRIPT, str(tmp_path / "kms" / "keys" / "k"))
    return SignerSettings(command=command, public=base64.b64encode(key.public).decode())


def test_a_key_behind_a_command_takes_over_from_a_file(tmp_path: Path) -> None:
    data, kms = tmp_path / "var", command_key(tmp_path)
    running = LogKeys(FILE, data, "gw1")
    change = rotate(data, FILE, "gw1", to=kms)
    newest, old = running.signers()
    assert isinstance(newest, CommandSigner)
    assert open_checkpoint(note_by(running), change.new.public).size == 5
    assert isinstance(old, LogKey)
    assert [one.public for one in LogKeys(kms, data, "gw1").signers()] == [newest.public, old.public]


def test_settings_whose_key_nothing_leads_to_are_refused(tmp_path: Path) -> None:
    LogKeys(FILE, tmp_path, "gw1")
    with pytest.raises(ConfigError, match="rotate"):
        LogKeys(command_key(tmp_path), tmp_path, "gw1")


@pytest.mark.parametrize("public", ["", "AAAA", "no base64"])
def test_a_command_without_its_public_key_is_refused(tmp_path: Path, public: str) -> None:
    with pytest.raises(ConfigError, match=r"audit\.signer\.public"):
        open_signer(SignerSettings(command=("true",), public=public), tmp_path)


def test_a_name_that_a_statement_holds_stays(tmp_path: Path) -> None:
    LogKeys(FILE, tmp_path, "gw1")
    assert LogKeys(FILE, tmp_path, "gw2").name == "gw2"  # nobody wrote it down yet
    rotate(tmp_path, FILE, "gw2")
    with pytest.raises(ConfigError, match="'gw2', not 'gw1'"):
        LogKeys(FILE, tmp_path, "gw1")


def test_files_that_are_lost_or_changed_stop_the_signer(tmp_path: Path) -> None:
    rotate(tmp_path, FILE, "gw1")
    statements, signers = keys_path(tmp_path), tmp_path / "keys" / "signers.json"
    for path, content, told in (
        (statements, statements.read_bytes()[:-20], "restore it"),
        (signers, b"{}", "cannot be read"),
        (signers, b'{"name":"gw1","keys":[]}', "no key"),
        (signers, None, "is missing"),
        (tmp_path / "keys" / "log-2.key", None, "is missing"),
        (tmp_path / "keys" / "log-2.key", bytes(32), "not the one that signed"),
        (tmp_path / "keys" / "log-1.key", b"short", "32 bytes"),
    ):
        kept = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match=told):
            LogKeys(FILE, tmp_path, "gw1")
        path.write_bytes(kept)
    assert len(LogKeys(FILE, tmp_path, "gw1").signers()) == 2


def test_the_commands_show_rotate_and_list(tmp_path: Path) -> None:
    run = CliRunner()
    data = ["--data", str(tmp_path)]
    shown = run.invoke(cli.app, [*data, "--name", "gw1"])
    assert shown.exit_code == 0
    assert "(made now)" in shown.stdout
    assert run.invoke(cli.app, ["rotate", *data]).exit_code == 2  # under which name?
    assert run.invoke(cli.app, ["rotate", *data, "--name", "gw1", "--pkcs11-module", "/x"]).exit_code == 2
    rotated = run.invoke(cli.app, ["rotate", *data, "--name", "gw1", "--overlap-days", "1"])
    assert rotated.exit_code == 0, rotated.output
    new = LogKeys(FILE, tmp_path, "gw1").terms[-1].key
    assert f"new key       {new}" in rotated.stdout
    assert str(new) in run.invoke(cli.app, data).stdout
    assert f'"verifier_key":"{new}"' in run.invoke(cli.app, [*data, "--json"]).stdout
    listed = run.invoke(cli.app, ["list", *data]).stdout.splitlines()
    assert len(listed) == 2
    assert "from the beginning until" in listed[0]
    bad = run.invoke(cli.app, ["rotate", *data, "--command", "true", "--public", "AAAA"])
    assert bad.exit_code == 2
    assert "base64 of 32 bytes" in bad.output


def test_the_key_that_the_settings_name_is_shown_before_the_first_start(tmp_path: Path) -> None:
    """What would be enrolled otherwise is a file's key, which is made by looking and never signs."""
    public = base64.b64encode(LogKey.load(tmp_path / "elsewhere").public).decode()
    (tmp_path / "policy.yaml").write_text("version: 1\nname: p\nowner: a@b.example\npreset: []\n")
    (tmp_path / "gateway.yaml").write_text(f"""
data: here
models:
  - {{name: m, policy: policy.yaml, targets: [{{protocol: openai, base_url: "https://x.example/v1", model: m}}]}}
callers: [{{name: a, key_sha256: {"a1" * 32}, models: [m]}}]
audit: {{signer: {{name: acme.example, command: [sign], public: "{public}"}}}}
""")
    done = CliRunner().invoke(cli.app, ["--config", str(tmp_path / "gateway.yaml"), "--json"])
    assert done.exit_code == 0, done.output
    key = VerifierKey("acme.example", ED25519, base64.b64decode(public))
    assert f'"verifier_key":"{key}"' in done.stdout
    assert not (tmp_path / "here").exists()


def test_l1_a_key_that_was_lost_is_not_made_anew(tmp_path: Path) -> None:
    """It would sign none of the logs that are here, and the gateway would serve without a fleet log."""
    log = tmp_path / "log" / "fleet-gw1"
    log.mkdir(parents=True)
    (log / "checkpoint").write_text("signed by the key that was lost")
    for opened in (lambda: LogKeys(FILE, tmp_path, "gw1"), lambda: open_signer(FILE, tmp_path)):
        with pytest.raises(ConfigError, match=r"log-1\.key: the log's key is missing.* restore it"):
            opened()
    assert CliRunner().invoke(cli.app, ["--data", str(tmp_path)]).exit_code == 2
    assert not (tmp_path / "keys").exists()
    (log / "adopted-from").write_text("another gateway signed it")
    assert LogKeys(FILE, tmp_path, "gw1").signers()


@pytest.mark.parametrize("arguments", [[], ["rotate"], ["list"]])
def test_a_folder_of_another_user_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    def denied(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", denied)
    done = CliRunner().invoke(cli.app, [*arguments, "--data", str(tmp_path)])
    assert (done.exit_code, "run this as the gateway's user" in done.output) == (2, True), done.exception


def test_a_replaced_key_that_is_gone_does_not_stop_the_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A token was taken away before its time was over: heads are signed by the newest key, and somebody is told."""
    change = rotate(tmp_path, FILE, "gw1")
    known = read_signers(tmp_path)
    (tmp_path / "pin").write_text("1234")
    old, new = known.keys

    def gone(key: Where) -> Where:
        module, pin = str(tmp_path / "none.so"), str(tmp_path / "pin")
        return Where(key.public, module=module, token="t", label="l", pin_file=pin)

    write_signers(tmp_path, Signers("gw1", (gone(old), new)))
    assert [one.public for one in LogKeys(FILE, tmp_path, "gw1").signers()] == [change.new.public]
    assert "does not sign beside the new one" in caplog.text
    write_signers(tmp_path, Signers("gw1", (old, gone(new))))
    with pytest.raises(OSError, match="token"):
        LogKeys(FILE, tmp_path, "gw1")
