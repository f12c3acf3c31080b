"""What an adopted volume's records need comes with them: keys by which texts are matched, transcripts that open and can be erased, cases."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
import orjson
import pytest
import typer

from gateway.audit.digest import DigestKeys, held_keys
from gateway.audit.homes import HOMES_MAX, adopted_ids, home_path, homes
from gateway.audit.record import Note, decode
from gateway.completeness import cli
from gateway.completeness.adopt import AdoptError, Adoption, adopt
from gateway.completeness.match import MatchError, digests_of, find_delivered
from gateway.history.local import LocalHistory
from gateway.seal.sealer import Sealer
from gateway.settings.audit import Retention
from gateway.signing.logkey import LogKey
from gateway.vault import cases, custody, pruning, transcripts
from gateway.vault import cli as vault_cli
from gateway.vault.access import ErasedError, VaultError, opened
from gateway.vault.transcripts import Transcripts
from gateway.vault.wrapped import months
from gateway.vault.wrapping import rotate
from tests.fakes.commands import commands
from tests.gateway.audit.samples import payloads
from tests.gateway.completeness.logs import NOON, answered, write
from tests.gateway.completeness.test_adopt import killed_at
from tests.gateway.vault.samples import DAY_MS, custodian, every_file, holding, keyrings, notes

app = typer.Typer()
cli.mount(app)
app.add_typer(vault_cli.transcript_app, name="transcript")
app.command("erase")(vault_cli.erase_command)
run = commands(app)
PEOPLE = keyrings("alice", "bob")
FIRST, SECOND, CASE = "1" * 32, "2" * 32, "3" * 32
TEXT, OWN, EXCHANGE = b"What the lost gateway said.", b"What the adopter said.", b'{"prompt":"jane asked"}'


def lose(volume: Path, *, gateway: str = "lost", text: bytes = TEXT, calls: tuple[str, str] = (FIRST, SECOND)) -> None:
    """A gateway that is gone: a delivered text, a transcript under each of two wrapping keys, a case."""
    keys = DigestKeys.load(volume)
    write(volume, [answered(NOON, texts=keys.all_texts(text.decode()))], gateway=gateway)

    async def keep(call: str, user: str) -> None:
        made = Transcripts.open(volume, now_ms=lambda: NOON)
        await made.keep(call, keys.subject("t1", user), EXCHANGE)
        await made.close()

    asyncio.run(keep(calls[0], "jane"))
    with opened(volume, gateway) as log:
        rotate(volume, "every year", log)
    asyncio.run(keep(calls[1], "joe"))
    sealed(volume, gateway)


def case(data: Path, evidence: bytes = b"evidence") -> None:
    people = custody.holders([custodian(one) for one in PEOPLE])
    cases.seal(data, people, CASE, evidence, kind=cases.BLOCKED, now_ms=NOON)


def sealed(data: Path, gateway: str = "adopter") -> None:
    assert Sealer(data, gateway, LogKey.load(data)).round().problems == {}


def take(volume: Path, data: Path) -> Adoption:
    made = adopt(volume, data, "adopter", build="test")
    sealed(data)
    return made


def matched(data: Path, text: bytes) -> list[str]:
    """Streams whose records delivered a text, by a look at all and by the index."""
    wanted = digests_of(data, text)
    found = find_delivered(data, wanted).matches
    history = LocalHistory(data)
    assert find_delivered(data, wanted, history).matches == found
    history.close()
    return [match.record.rpartition("/")[0] for match in found]


@dataclass(frozen=True, slots=True)
class Adopted:
    volume: Path
    data: Path
    made: Adoption

    @property
    def home(self) -> Path:
        [id_] = adopted_ids(self.data)
        return home_path(self.data, id_)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lost volume and an adopter, before anything is taken."""
    top = tmp_path_factory.mktemp("template")
    lose(top / "volume")
    case(top / "volume")
    own = DigestKeys.load(top / "data").all_texts(OWN.decode())
    write(top / "data", [answered(NOON, texts=own)], gateway="adopter")
    return top


@pytest.fixture
def places(template: Path, tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "volume", tmp_path / "data"


@pytest.fixture
def done(places: tuple[Path, Path]) -> Adopted:
    return Adopted(*places, take(*places))


def test_l9_no_more_volumes_are_adopted_than_are_looked_through(places: tuple[Path, Path]) -> None:
    volume, data = places
    for number in range(HOMES_MAX):
        home_path(data, f"{number:016x}").mkdir(parents=True)
    before = list(every_file(volume))
    with pytest.raises(AdoptError, match="256 volumes already"):
        take(volume, data)
    assert not [path for path in every_file(volume) if path not in before and path.name == "adopted-by"]


def test_a_text_that_the_lost_gateway_delivered_is_found_under_its_key(done: Adopted) -> None:
    stream, own = matched(done.data, TEXT), matched(done.data, OWN)
    assert [len(stream), len(own)] == [1, 1]
    assert stream[0] in done.made.streams
    assert own[0] not in done.made.streams
    assert matched(done.data, b"Nobody said that.") == []
    taken = done.made.taken
    assert (taken.digest_keys, taken.transcript_keys, taken.transcript_files, taken.cases) == (1, 2, 2, 1)
    assert taken.problems == ()
    mine, theirs = DigestKeys.load(done.data).newest, held_keys(done.home)[0]
    assert mine.id == theirs.id == "k1"
    assert mine.digest(b"") != theirs.digest(b"")


@pytest.mark.slow
def test_a_key_counts_for_the_records_that_came_with_it_and_no_others(places: tuple[Path, Path]) -> None:
    """Who had the lost gateway's key could else write records here that match what was never delivered."""
    volume, data = places
    mine, theirs = DigestKeys.load(data), DigestKeys.load(volume)
    write(data, [answered(NOON, texts=theirs.all_texts("Planted here."))], gateway="adopter")
    write(volume, [answered(NOON, texts=mine.all_texts("Planted there."))], gateway="lost")
    take(volume, data)
    assert matched(data, b"Planted here.") == []
    assert matched(data, b"Planted there.") == []
    assert len(matched(data, TEXT)) == 1


@pytest.mark.slow
def test_l7_keys_are_the_owners_alone_and_in_no_record_or_output(places: tuple[Path, Path]) -> None:
    volume, data = places
    keys = [path.read_bytes() for path in (volume / "keys").glob("*.key")]
    told = run("adopt", volume, "--data", data, "--gateway", "adopter")
    assert (told.exit_code, "1 digest keys, 1 cases, 2 files of transcripts with 2 keys" in told.output) == (0, True)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (data / "adopted").rglob("*"))
    shown = told.output.encode() + run("transcript", "keys", "--data", data, "--json").output.encode()
    for key in keys:
        assert key not in shown
        assert key.hex().encode() not in shown
        assert (
            holding(data / "journal", key) + holding(data / "log", key) + holding(data / "journal", key.hex().encode())
            == []
        )
    [note] = [r for r in map(decode, payloads(data).values()) if isinstance(r, Note) and r.topic == "adopted"]
    assert note.detail is not None
    assert {key: note.detail[key] for key in ("digest_keys", "transcript_keys", "transcript_files", "cases")} == {
        "digest_keys": 1,
        "transcript_keys": 2,
        "transcript_files": 2,
        "cases": 1,
    }


@pytest.mark.slow
def test_a_second_adoption_changes_nothing(done: Adopted) -> None:
    before = {path: path.read_bytes() for path in every_file(done.data)}
    assert adopt(done.volume, done.data, "adopter", build="test").already
    assert {path: path.read_bytes() for path in every_file(done.data) if path in before} == before


def test_adopted_transcripts_open_and_their_keys_are_moved(places: tuple[Path, Path]) -> None:
    volume, data = places
    os.link(volume / "keys" / "transcript-1.key", volume.parent / "aside")
    take(volume, data)
    assert [transcripts.read(data, one) for one in (FIRST, SECOND)] == [EXCHANGE, EXCHANGE]
    frame = transcripts.find(data, SECOND)
    assert frame is not None
    assert transcripts.read(data, SECOND, frame.ref) == EXCHANGE
    shown = run("transcript", "show", FIRST, "--data", data, "--reason", "complaint 7")
    assert (shown.exit_code, "jane asked" in shown.output) == (0, True)
    assert (volume.parent / "aside").read_bytes() == b""  # overwritten where it lay
    for one in (FIRST, SECOND):
        with pytest.raises(ErasedError):
            transcripts.read(volume, one)


def test_an_erasure_by_name_reaches_adopted_transcripts_and_the_volume_keeps_nothing_that_opens_them(
    done: Adopted,
) -> None:
    asked = ("erase", "--data", done.data, "--reason", "asked by the user", "--tenant", "t1")
    erased = run(*asked, "--user", "jane", "--json")
    assert erased.exit_code == 0
    assert sum(one["keys"] for one in orjson.loads(erased.output)) == 1
    with pytest.raises(ErasedError):
        transcripts.read(done.data, FIRST)
    with pytest.raises(VaultError):
        transcripts.read(done.volume, FIRST)
    assert transcripts.read(done.data, SECOND) == EXCHANGE
    tombstones = [one for one in notes(done.data, "erasure") if one["what"] == "done" and one["keys"]]
    assert [one["transcripts"] for one in tombstones] == [1]
    assert tombstones[0]["subject"] == held_keys(done.home)[0].subject("t1", "jane")
    adopt(done.volume, done.data, "adopter", build="test")  # brings nothing back
    with pytest.raises(ErasedError):
        transcripts.read(done.data, FIRST)
    assert run(*asked, "--user", "jane").exit_code == 1


@pytest.mark.slow
def test_retention_takes_adopted_transcripts_and_then_all_their_keys(done: Adopted) -> None:
    wrap = done.home / "keys" / "transcript-2.key"
    os.link(wrap, done.data.parent / "aside")
    files = pruning.run(done.data, "adopter", Retention(), (), dry=False, now_ms=lambda: NOON + 5 * DAY_MS).files
    assert files.empty
    files = pruning.run(done.data, "adopter", Retention(), (), dry=False, now_ms=lambda: NOON + 80 * DAY_MS).files
    assert (len(files.days), len(files.months), len(files.wraps)) == (1, 1, 2)
    assert months(done.home) == []
    assert (done.data.parent / "aside").read_bytes() == b""
    assert transcripts.find(done.data, FIRST) is None
    assert len(matched(done.data, TEXT)) == 1  # what was delivered can still be matched


@pytest.mark.slow
def test_an_adopted_case_is_opened_by_its_two_custodians(done: Adopted) -> None:
    name = cases.case_of(CASE)
    assert [one.case for one in cases.cases(done.data)] == [name]
    alice, bob = PEOPLE
    with opened(done.data, "adopter") as log:
        half = cases.request(done.data, name, alice, "bob", "complaint 7", log)
        assert cases.open_case(done.data, name, bob, half, "complaint 7", log) == b"evidence"


@pytest.mark.slow
def test_a_case_that_is_here_with_other_evidence_is_left_and_told(places: tuple[Path, Path]) -> None:
    volume, data = places
    case(data, b"other evidence")
    here = (data / "vault" / cases.case_of(CASE) / cases.EVIDENCE_NAME).read_bytes()
    told = run("adopt", volume, "--data", data, "--gateway", "adopter")
    assert (told.exit_code, "there is one here with other evidence" in told.output) == (1, True)
    assert (data / "vault" / cases.case_of(CASE) / cases.EVIDENCE_NAME).read_bytes() == here
    assert (volume / "vault" / cases.case_of(CASE) / cases.EVIDENCE_NAME).is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("digest-1.key", None, "no digest key k1 came"),
        ("digest-1.key", b"half a key", "no digest key k1 came"),
        ("transcript-1.key", None, "transcript-1.key is missing"),
        ("transcript-1.key", b"half a key", "transcript-1.key is missing"),
        ("transcript-1.key", bytes(range(32)), "wrapped by another key than keys/transcript-1.key"),
    ],
)
def test_l7_a_wrong_or_missing_key_is_told_and_the_rest_is_taken_over(
    places: tuple[Path, Path], name: str, content: bytes | None, told: str
) -> None:
    volume, data = places
    path = volume / "keys" / name
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    made = take(volume, data)
    [problem] = made.taken.problems
    assert told in problem
    assert made.findings == {}
    assert any("lost" in one for one in made.gateways)
    assert transcripts.read(data, SECOND) == EXCHANGE
    [id_] = adopted_ids(data)
    place = home_path(data, id_) / "keys" / name
    if name.startswith("digest"):
        assert matched(data, TEXT) == []
        assert any("records of lost" in one for one in find_delivered(data, digests_of(data, TEXT)).missing)
        gone = run("erase", "--data", data, "--reason", "as asked", "--tenant", "t1", "--user", "jane")
        assert "not looked for in the adopted records of lost" in gone.output
    else:
        assert len(matched(data, TEXT)) == 1
        with pytest.raises(VaultError):
            transcripts.read(data, FIRST)
    if content == b"half a key":
        assert path.read_bytes() == content  # what is no key is not destroyed: somebody may look into it
    place.write_bytes(whole)  # it turned up
    assert len(matched(data, TEXT)) == 1
    assert transcripts.read(data, FIRST) == EXCHANGE


@pytest.mark.slow
def test_without_any_digest_key_nothing_can_be_looked_for(places: tuple[Path, Path]) -> None:
    volume, data = places
    for folder in (volume, data):
        (folder / "keys" / "digest-1.key").unlink()
    take(volume, data)
    with pytest.raises(MatchError, match="no digest key"):
        digests_of(data, TEXT)


@pytest.mark.slow
def test_what_a_lost_gateway_had_adopted_itself_comes_along(places: tuple[Path, Path], tmp_path: Path) -> None:
    volume, data = places
    lose(tmp_path / "older", gateway="older", text=b"What the older one said.", calls=("4" * 32, "5" * 32))
    adopt(tmp_path / "older", volume, "lost", build="test")
    sealed(volume, "lost")
    made = take(volume, data)
    assert made.taken.problems == ()
    assert made.taken.digest_keys == 2
    assert len(homes(data)) == 3
    assert [len(matched(data, text)) for text in (TEXT, OWN, b"What the older one said.")] == [1, 1, 1]
    assert [transcripts.read(data, one) for one in (FIRST, "4" * 32, "5" * 32)] == [EXCHANGE] * 3
    for one in (FIRST, "4" * 32):
        with pytest.raises(ErasedError):
            transcripts.read(volume, one)


@pytest.mark.slow
def test_a_volume_that_an_older_version_adopted_without_its_secrets_gives_them_when_adopted_again(
    places: tuple[Path, Path],
) -> None:
    volume, data = places
    take(volume, data)
    shutil.rmtree(data / "adopted")
    mark = volume / "adopted-by"
    old = {
        key: value for key, value in orjson.loads(mark.read_bytes()).items() if key in ("by", "into", "at_ms", "done")
    }
    mark.write_bytes(msgspec.json.encode(old))
    assert matched(data, TEXT) == []
    assert not take(volume, data).already
    assert len(matched(data, TEXT)) == 1
    assert take(volume, data).already


@pytest.mark.slow
def test_a_kill_on_any_step_loses_no_key_and_leaves_none_behind(template: Path, tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        top = tmp_path / str(step)
        shutil.copytree(template, top)
        volume, data = top / "volume", top / "data"
        if not killed_at(step, volume, data):
            break
        made = take(volume, data)
        assert made.taken.problems == ()
        assert (made.taken.digest_keys, made.taken.transcript_keys, made.taken.cases) == (1, 2, 1)
        assert len(matched(data, TEXT)) == 1
        assert [transcripts.read(data, one) for one in (FIRST, SECOND)] == [EXCHANGE, EXCHANGE]
        assert [path.stat().st_size for path in (volume / "keys").glob("transcript-*.key")] == [0, 0]
        assert not [path for path in (data / "adopted").iterdir() if path.name.startswith(".")]
        noted = [r for r in map(decode, payloads(data).values()) if isinstance(r, Note) and r.topic == "adopted"]
        assert len(noted) == 1
        shutil.rmtree(top)
    assert step > 20
