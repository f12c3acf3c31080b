"""The store under crash and competition: whole steps or none, and no index is ever given out twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

from gateway.authority.authority import Authority
from gateway.authority.errors import FormError
from gateway.authority.states import State
from gateway.authority.store import Store, StoreError
from gateway.license.signed import Kind, read_unverified
from tests.gateway.authority.offices import ADMIN, APPROVER, OPERATOR, form, make, to_active, to_approved

_WORK = """
import sys
from pathlib import Path
from gateway.authority.authority import Authority
from tests.gateway.authority.offices import APPROVER, to_active

authority = Authority.open(Path(sys.argv[1]))
print("ready", flush=True)
for step in range(int(sys.argv[2])):
    made = to_active(authority)
    authority.suspend(APPROVER, made.jti, "why")
    print(made.jti, flush=True)
"""


def work(folder: Path, steps: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WORK, str(folder), str(steps)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def check(authority: Authority) -> int:
    """Every license has its entry, its token and its status, every entry its license. How many licenses."""
    authority.verify()
    issued = {
        event.object.removeprefix("license/"): event.detail["idx"]
        for event in authority.events(limit=100_000)
        if event.action == "issue"
    }
    licenses = authority.licenses(limit=100_000)
    assert {one.jti: one.idx for one in licenses} == issued
    assert len({one.idx for one in licenses}) == len(licenses)
    ((_, values),) = authority._store.status_lists()
    for one in licenses:
        payload = read_unverified(one.token.encode(), Kind.LICENSE).payload
        assert payload["jti"] == one.jti
        assert payload["status"]["status_list"]["idx"] == one.idx
        assert values[one.idx] == {State.ACTIVE: 0, State.SUSPENDED: 2}[one.state]
        assert authority.application(one.application).license == one.jti
        assert authority.history(f"license/{one.jti}")[-1].after == one.state
    return len(licenses)


@pytest.mark.slow
def test_a_kill_in_any_step_leaves_whole_steps(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    make(folder).close()
    acknowledged: set[str] = set()
    for round_ in range(8):
        worker = work(folder, 10_000)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        acknowledged.add(worker.stdout.readline().strip())
        time.sleep(0.013 * round_)  # the kill comes at another point of the loop each time; nothing is asserted of it
        os.kill(worker.pid, signal.SIGKILL)
        acknowledged |= {line.strip() for line in worker.stdout if line.endswith("\n")}
        worker.wait()
        worker.stdout.close()
        authority = Authority.open(folder)
        assert check(authority) >= len(acknowledged)
        assert acknowledged <= {one.jti for one in authority.licenses(limit=100_000)}
        authority.close()


@pytest.mark.slow
def test_processes_at_once_take_turns(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    authority = make(folder)
    workers = [work(folder, 12) for _ in range(2)]
    for _ in range(12):
        to_active(authority)
    for worker in workers:
        out, _ = worker.communicate(timeout=100)
        assert worker.returncode == 0
        assert len(out.split()) == 13
    assert check(authority) == 36
    authority.close()


def test_two_connections_allocate_no_index_twice(tmp_path: Path) -> None:
    first = make(tmp_path / "authority", two_person=False)
    second = Authority.open(tmp_path / "authority")
    made = [to_active(authority) for _ in range(2) for authority in (first, second)]
    assert sorted(one.idx for one in made) == list(range(4))
    assert check(first) == check(second) == 4
    first.close()
    second.close()


def test_a_step_that_fails_at_its_end_leaves_nothing(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log entry is the last thing of a step: when it cannot be written, what came before did not happen."""
    approved = to_approved(authority)
    before = authority.head()

    def full(*_: object, **__: object) -> None:
        raise apsw.FullError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(authority._log, "append", full)
        with pytest.raises(apsw.FullError):
            authority.issue(OPERATOR, approved.id)
    assert (authority.licenses(), authority.head()) == ((), before)
    assert authority.application(approved.id).state is State.APPROVED
    assert authority.issue(OPERATOR, approved.id).idx == 0


def test_a_list_that_is_full_is_followed_by_another(authority: Authority) -> None:
    first = to_active(authority)
    with authority._store.transaction():
        authority._store.run("UPDATE status_lists SET size = used")
    second = to_active(authority)
    assert (first.list_name, first.idx, second.list_name, second.idx) == ("1", 0, "2", 0)
    authority.revoke(APPROVER, second.jti, "over")
    assert authority._store.status_lists() == [("1", b"\x00"), ("2", b"\x01")]
    assert set(authority.published().statuses) == {"1", "2"}


def test_a_change_outside_a_transaction_is_a_mistake_of_ours(authority: Authority) -> None:
    with pytest.raises(AssertionError):
        authority._store.set("two_person", 0)
    assert authority.two_person


def test_a_folder_without_an_authority_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="init"):
        Authority.open(tmp_path)
    assert not (tmp_path / "authority.db").exists()
    apsw.Connection(str(tmp_path / "authority.db")).execute("CREATE TABLE t (x)").close()
    with pytest.raises(StoreError, match="version"):
        Store(tmp_path / "authority.db")
    (tmp_path / "other.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="read"):
        Store(tmp_path / "other.db")


def test_an_authority_without_its_log_key_is_not_opened_and_gets_no_new_one(tmp_path: Path) -> None:
    make(tmp_path / "a").close()
    make(tmp_path / "b").close()
    key = tmp_path / "a" / "keys" / "log-1.key"
    key.unlink()
    with pytest.raises(StoreError, match="log-1"):
        Authority.open(tmp_path / "a")
    assert not key.exists()
    key.write_bytes((tmp_path / "b" / "keys" / "log-1.key").read_bytes())
    with pytest.raises(StoreError, match="log-1"):
        Authority.open(tmp_path / "a")


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    first = make(tmp_path)
    keys = first.keys_file()
    with pytest.raises(FormError, match="already"):
        make(tmp_path)
    assert first.keys_file() == keys
    first.verify()
    first.close()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        pytest.param({"issuer": "two words"}, "issuer", id="issuer"),
        pytest.param({"level": "divine"}, "level", id="level"),
        pytest.param({"ttl_s": 0}, "ttl_s", id="ttl"),
        pytest.param({"exp_s": 5 * 86_400}, "exp_s", id="longer than any list is believed"),
    ],
)
def test_settings_that_cannot_be_make_no_authority(tmp_path: Path, given: dict[str, object], field: str) -> None:
    arguments = {"issuer": "https://a.example", **given}
    with pytest.raises(FormError, match=field):
        Authority.create(tmp_path / "a", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()


def test_private_files_are_for_their_owner_only(tmp_path: Path) -> None:
    make(tmp_path / "a").close()
    keys = list((tmp_path / "a" / "keys").iterdir())
    assert len(keys) == 2
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}


def test_a_million_licenses_are_published_at_once(authority: Authority) -> None:
    """The list is a blob: a publication does not look at a single license that it has published before."""
    made = to_active(authority)
    authority.mark_published(authority.published())
    with authority._store.transaction():
        authority._store.run("UPDATE status_lists SET used = 1000000")
        authority._store.set_status("1", 999_999, 2)
    out = authority.published()
    assert list(out.licenses) == []
    assert len(out.statuses["1"]) < 10_000
    assert to_active(authority, form()).idx == 1_000_000
    assert authority.license(made.jti) == made
    assert json.loads(authority.keys_file())
    authority.configure(ADMIN, ttl_s=60)
