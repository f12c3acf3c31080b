"""The digest of a model's files: that of OpenSSF Model Signing, and what changes it or refuses."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gateway.attest import weights
from gateway.attest.weights import EXIT_UNUSABLE, Hashed, WeightsError, boot_id, hash_model, look
from tests.gateway.attest.samples import write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_the_digest_is_over_the_digests_of_the_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "z").write_bytes(b"1")  # before "a.txt": paths are compared part by part
    (folder / "a.txt").write_bytes(b"2")
    found = hash_model(folder)
    assert found.root == "sha256:" + hashlib.sha256(sha(b"1") + sha(b"2")).hexdigest()
    listing = f"{sha(b'1').hex()}  a/z\n{sha(b'2').hex()}  a.txt\n"
    assert found.manifest == "sha256:" + hashlib.sha256(listing.encode()).hexdigest()
    assert (found.files, found.bytes, found.boot) == (2, 2, boot_id())


@pytest.mark.slow
def test_the_digest_is_what_model_signing_signs(model: Path, tmp_path: Path) -> None:
    """The package itself is asked, in a process of its own: it loads a whole signing stack."""
    pytest.importorskip("model_signing", reason="the extra `models` is not installed")
    single = tmp_path / "one.gguf"
    single.write_bytes(b"one file")
    script = (
        "import sys, pathlib, model_signing\n"
        "from model_signing._signing.signing import Payload\n"
        "for path in sys.argv[1:]:\n"
        "    config = model_signing.hashing.Config().set_ignored_paths(paths=['model.sig'])\n"
        "    print(Payload(config.hash(pathlib.Path(path))).statement.pb.subject[0].digest['sha256'])\n"
    )
    (model / "model.sig").write_text("a signature")
    said = subprocess.run(  # our own interpreter
        [sys.executable, "-W", "ignore", "-c", script, str(model), str(single)], capture_output=True, check=True
    )
    assert said.stdout.decode().split() == [hash_model(p).root.removeprefix("sha256:") for p in (model, single)]


CHANGES: list[tuple[str, Callable[[Path], object], bool]] = [
    ("a byte", lambda m: (m / "a/b.bin").write_bytes(b"Deep"), True),
    ("a file more", lambda m: (m / "adapter.safetensors").write_bytes(b""), True),
    ("a file more in a new folder", lambda m: write(m / "new/x", b"x"), True),
    ("a file less", lambda m: (m / "config.json").unlink(), True),
    ("two files exchanged", lambda m: swap(m / "model-00001.safetensors", m / "model-00002.safetensors"), True),
    ("an empty folder", lambda m: (m / "empty-folder").mkdir(), False),
    ("the signature", lambda m: (m / "model.sig").write_text("x"), False),
    ("what Git keeps", lambda m: write(m / ".git/objects/ab", b"x"), False),
]


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


@pytest.mark.parametrize(
    ("change", "matters"), [pytest.param(change, matters, id=name) for name, change, matters in CHANGES]
)
def test_what_changes_the_digest(model: Path, change: Callable[[Path], object], matters: bool) -> None:
    before, seen = hash_model(model), look(model)
    change(model)
    after = hash_model(model)
    assert (after.root != before.root) is matters
    assert (after.manifest != before.manifest) is matters
    assert (look(model).fingerprint != seen.fingerprint) is matters


def test_a_file_under_another_name_is_seen_in_the_manifest_alone(model: Path) -> None:
    before = hash_model(model)
    (model / "config.json").rename(model / "config.jsom")  # the order stays
    after = hash_model(model)
    assert after.root == before.root
    assert after.manifest != before.manifest
    assert after.fingerprint != before.fingerprint


def test_a_change_of_the_same_size_with_its_time_set_back_is_seen(model: Path) -> None:
    path = model / "a/b.bin"
    found, before = path.stat(), look(model)
    path.write_bytes(b"Deep")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert path.stat().st_mtime_ns == found.st_mtime_ns
    assert look(model).fingerprint != before.fingerprint


def test_a_file_replaced_by_one_with_the_same_bytes_is_another_file_with_the_same_digest(model: Path) -> None:
    before, seen = hash_model(model), look(model)
    copy = model.parent / "copy"
    copy.write_bytes((model / "a/b.bin").read_bytes())
    copy.replace(model / "a/b.bin")
    assert look(model).fingerprint != seen.fingerprint
    assert hash_model(model).root == before.root


def link_out(model: Path) -> None:
    (model.parent / "outside").write_bytes(b"x")
    (model / "link").symlink_to("../outside")


def sock(model: Path) -> None:
    here = Path.cwd()
    os.chdir(model)  # a socket's address is short
    try:
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).bind("s")
    finally:
        os.chdir(here)


REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    ("a link out of the folder", link_out, "link"),
    ("a link inside the folder", lambda m: (m / "link").symlink_to("config.json"), "link"),
    ("a link to a folder", lambda m: (m / "link").symlink_to("a"), "link"),
    ("a link to nothing", lambda m: (m / "link").symlink_to("nowhere"), "link"),
    ("a pipe", lambda m: os.mkfifo(m / "pipe"), "neither file nor folder"),
    ("a name with a line break", lambda m: (m / "x\ny").write_bytes(b""), "line break"),
    ("a name that is no text", lambda m: os.close(os.open(os.fsencode(m) + b"/\xff", os.O_CREAT)), "UTF-8"),
]


@pytest.mark.parametrize(("spoil", "why"), [pytest.param(spoil, why, id=name) for name, spoil, why in REFUSED])
def test_l1_a_folder_that_cannot_be_watched_has_no_digest(
    model: Path, spoil: Callable[[Path], object], why: str
) -> None:
    spoil(model)
    with pytest.raises(WeightsError, match=why):
        hash_model(model)


def test_l1_an_empty_or_missing_folder_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no files"):
        hash_model(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        hash_model(tmp_path / "missing")


def test_l9_a_folder_with_too_many_files_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "FILES_MAX", 5)
    with pytest.raises(WeightsError, match="more than 5 files"):
        look(model)


def test_the_folder_itself_may_be_a_link(model: Path, tmp_path: Path) -> None:
    current = tmp_path / "current"
    current.symlink_to(model)
    assert look(current).fingerprint == look(model).fingerprint
    other = write_model(tmp_path / "other")
    current.unlink()
    current.symlink_to(other)
    assert look(current).fingerprint == look(other).fingerprint != look(model).fingerprint


@pytest.mark.parametrize("when", ["before it is read", "while it is read", "after it was read"])
def test_l1_a_file_that_changes_under_way_gives_no_digest(
    model: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Whichever moment is hit: the result would be of bytes that never stood there together."""
    path, real, count = model / "a/b.bin", hashlib.file_digest, 0

    def meddle() -> None:
        path.write_bytes(b"something else")

    def reading(*args: object) -> object:
        nonlocal count
        count += 1
        made = real(*args)  # type: ignore[arg-type]  # passed on
        if count == (3 if when == "while it is read" else 4):  # .hidden, a/.gitignore, a/b.bin, the next
            meddle()
        return made

    monkeypatch.setattr(weights, "THREADS_MAX", 1)
    if when == "before it is read":
        seen = look(model)
        meddle()
        monkeypatch.setattr(weights, "look", lambda _: seen)
    else:
        monkeypatch.setattr(hashlib, "file_digest", reading)
    with pytest.raises(WeightsError, match="changed"):
        hash_model(model)


def test_l1_a_file_swapped_for_a_link_after_the_look_is_not_followed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = look(model)
    (tmp_path / "outside").write_bytes(b"deep")
    (model / "a/b.bin").unlink()
    (model / "a/b.bin").symlink_to(tmp_path / "outside")
    monkeypatch.setattr(weights, "look", lambda _: seen)
    with pytest.raises(OSError, match="symbolic links"):
        hash_model(model)


def run(folder: Path) -> subprocess.CompletedProcess[bytes]:
    child = subprocess.Popen(  # our own interpreter and module
        [sys.executable, "-m", "gateway.attest.weights", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        out = child.stdout.read()
    return subprocess.CompletedProcess(child.args, child.wait(), out)


def test_as_a_program_it_says_one_line(model: Path, tmp_path: Path) -> None:
    good = run(model)
    found = msgspec.json.decode(good.stdout, type=Hashed)
    assert (good.returncode, found.root) == (0, hash_model(model).root)
    bad = run(tmp_path / "missing")
    assert bad.returncode == EXIT_UNUSABLE
    assert "missing" in json.loads(bad.stdout)["error"]


def test_as_a_program_it_ends_when_nobody_listens_any_more(tmp_path: Path) -> None:
    big = tmp_path / "m"
    big.mkdir()
    with (big / "big").open("wb") as file:
        file.truncate(1 << 36)  # 64 GiB of nothing: a minute at least
    child = subprocess.Popen(  # our own interpreter and module
        [sys.executable, "-m", "gateway.attest.weights", str(big)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(20) == EXIT_UNUSABLE
