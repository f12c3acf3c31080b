"""The ceremony of the offline root on the command line: drafted, carried around, signed, published, followed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway.trust.tuf_source import TufSource
from tests.gateway.authority.test_cli import Desk, run

PHRASE = "correct horse battery"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that has published once; its root keys, locked, are where no authority is."""
    top = tmp_path_factory.mktemp("ceremony")
    (top / "phrase").write_text(PHRASE + "\n")
    people = ("--person", "ada:admin", "--person", "olga:operator")
    done = run(
        *("init", top / "authority", "--issuer", "https://authority.example", *people),
        *("--root-keys", top / "vault", "--passphrase-file", top / "phrase"),
    )
    assert done.code == 0, done.err
    assert run("publish", "--folder", top / "authority").code == 0
    return top


@pytest.fixture
def top(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "top"))


def root(top: Path, *arguments: object, code: int = 0) -> Any:
    done = run("root", *arguments, "--folder", top / "authority", "--json")
    assert done.code == code, done.out + done.err
    return done.json if code == 0 else done.err


def signed(top: Path, draft: Path, number: int, code: int = 0) -> Any:
    """A holder signs, with nothing but the draft and the key."""
    key = top / "vault" / f"root-{number}.pem"
    done = run("root", "sign", draft, "--key", key, "--passphrase-file", top / "phrase", "--json")
    assert done.code == code, done.out + done.err
    return done.json if code == 0 else done.err


def add(top: Path, draft: Path, code: int = 0, who: str = "ada") -> str:
    done = Desk(top / "authority")(who, "root", "add", draft, "--publish", code=code)
    return done.out + done.err


def test_a_follower_that_knows_the_first_root_follows_over_two_ceremonies(top: Path) -> None:
    authority = top / "authority"
    first = (authority / "root.json").read_bytes()
    follower = TufSource(str(authority / "tuf"), first, top / "follower")
    before = follower.fetch()
    old = root(top, "show")["keys"]["root"]
    # One holder goes, another comes, in one version ...
    made = run("root", "key", top / "vault" / "root-4.pem", "--passphrase-file", top / "phrase", "--json").json
    new = root(top, "next", top / "2.json", "--add", made["public"], "--remove", old[2][:12])
    assert (new["added"]["root"], new["removed"]["root"]) == ([made["id"]], [old[2]])
    assert new["missing"] == ["2 more signatures of its own keys", "2 more signatures of the keys before it"]
    signed(top, top / "2.json", 4)
    signed(top, top / "2.json", 1)
    assert "1 more signatures of the keys before it" in add(top, top / "2.json", code=2)
    signed(top, top / "2.json", 3)  # who goes signs a last time
    assert "root 2 is published" in add(top, top / "2.json")
    # ... and in the next the online keys are replaced, and all three have to sign from now on.
    root(top, "next", top / "3.json", "--replace", "timestamp", "--replace", "targets", "--threshold", 3)
    for number in (1, 2, 4):
        signed(top, top / "3.json", number)
    assert "root 3 is published" in add(top, top / "3.json")
    after = follower.fetch()
    assert after.keys == before.keys
    assert follower.facts().versions["root"] == 3
    late = TufSource(str(authority / "tuf"), first, top / "late")
    assert late.fetch().version == after.version
    assert json.loads((authority / "root.json").read_bytes())["signed"]["version"] == 3
    assert root(top, "show")["threshold"] == 3
    log = run("log", "show", "--folder", authority, "--as", "ada").out
    assert log.count("add_root root/") == 2
    assert run("log", "verify", "--folder", authority, "--as", "ada").code == 0


def test_a_draft_that_was_changed_after_a_signature_is_refused(top: Path) -> None:
    draft = top / "2.json"
    first = root(top, "next", draft)["sha256"]
    assert signed(top, draft, 1)["sha256"] == first  # what holders compare
    told = json.loads(draft.read_bytes())
    told["signed"]["expires"] = "2099-01-01T00:00:00Z"
    draft.write_text(json.dumps(told))
    assert root(top, "show", draft)["broken"]
    assert root(top, "show", draft)["sha256"] != first
    assert "changed after it was signed" in signed(top, draft, 2, code=2)
    assert "changed after it was signed" in add(top, draft, code=2)
    assert root(top, "show")["version"] == 1


def test_a_root_is_added_by_an_admin_and_told_once(top: Path) -> None:
    draft = top / "2.json"
    root(top, "next", draft)
    for number in (1, 3):
        signed(top, draft, number)
    add(top, draft, code=1, who="olga")
    assert root(top, "show")["version"] == 1
    add(top, draft)
    add(top, draft)  # harmless
    assert run("log", "show", "--folder", top / "authority", "--as", "ada").out.count("add_root") == 1


def test_drafts_that_cannot_be_are_refused_and_leave_nothing(top: Path) -> None:
    draft = top / "2.json"
    keys = sorted((top / "authority" / "keys" / "online").iterdir())
    for arguments, words in (
        (("--threshold", 4), "can never be met"),
        (("--threshold", 4, "--replace", "targets"), "can never be met"),
        (("--replace", "root"), "has no online key"),
        (("--remove", "abc"), "names no single root key"),
        (("--add", top / "vault" / "root-1.pem"), "never the private one"),
        (("--add", top / "nowhere"), "No such file"),
    ):
        told = root(top, "next", draft, *arguments, code=2)
        assert words in told
        assert PHRASE not in told
        assert not draft.exists()
    assert sorted((top / "authority" / "keys" / "online").iterdir()) == keys
    root(top, "next", draft)
    assert "choose another name" in root(top, "next", draft, code=2)


def test_a_locked_key_does_not_sign_without_its_passphrase(top: Path) -> None:
    draft = top / "2.json"
    root(top, "next", draft)
    done = run("root", "sign", draft, "--key", top / "vault" / "root-1.pem")
    assert done.code == 2
    assert "passphrase" in done.err
    (top / "empty").write_text("\n")
    done = run("root", "sign", draft, "--key", top / "vault" / "root-1.pem", "--passphrase-file", top / "empty")
    assert done.code == 2


def test_show_warns_when_the_end_is_near(top: Path) -> None:
    assert "WARNING" not in run("root", "show", "--folder", top / "authority").out
    root(top, "next", top / "2.json", "--days", 30)
    assert "ends in" in run("root", "show", top / "2.json", "--folder", top / "authority").out
    alone = run("root", "show", top / "2.json", "--folder", top / "nowhere").out  # on the holder's machine
    assert "--previous" in alone
