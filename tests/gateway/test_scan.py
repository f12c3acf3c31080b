"""`licet scan` in this process: what is read, where findings stand, and what the reports say."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from filters import Engine, Finding, NameRules, Rules, UndecidedError
from filters.names import NameFinder
from gateway.cli import app
from gateway.printable import printable
from gateway.scan.jobs import scan_each
from gateway.scan.lines import LINE_BYTES_MAX, LineReader
from gateway.scan.look import Hit, Options, Scanner, UsageError
from gateway.scan.places import Places
from gateway.scan.report import JsonReport, SarifReport, Summary
from gateway.scan.sources import PIECE_BYTES, BinaryFileError, Problem, Skipped, Source, TextReader, sources

CARD = "4111 1111 1111 1111"
MAIL = "bob@example.com"


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner.load(Options())


def source(path: Path) -> Source:
    return Source(str(path), path, True, 0)


def hits(scanner: Scanner, path: Path) -> list[Hit]:
    return [event for event in scanner.scan(source(path)) if isinstance(event, Hit)]


def problems(scanner: Scanner, path: Path) -> list[str]:
    return [event.reason for event in scanner.scan(source(path)) if isinstance(event, Problem)]


class Done:
    """What a command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def report(self) -> dict[str, Any]:
        """The JSON document."""
        report: dict[str, Any] = json.loads(self.out)
        return report


def licet_scan(*arguments: object, stdin: bytes = b"") -> Done:
    result = CliRunner().invoke(app, ["scan", *map(str, arguments)], input=stdin, env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


# --- which files


def listing(*paths: Path, exclude: tuple[str, ...] = ()) -> dict[str, str]:
    """File -> "scan", or why not."""
    told = {}
    for one in sources(paths, exclude):
        told[one.name if isinstance(one, Source) else one.file] = "scan" if isinstance(one, Source) else one.reason
    return told


def test_a_folder_is_walked_in_the_order_of_names_without_git_and_links(tmp_path: Path) -> None:
    for name in ("b.txt", "a/x.py", "a/.git/config", ".git/HEAD", "c/deep/er/z.md"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "b.txt")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    told = listing(tmp_path)
    assert [os.path.relpath(name, tmp_path) for name in told] == [
        "a/x.py",
        "b.txt",
        "c/deep/er/z.md",
        "link",
        "loop",
        "pipe",
    ]
    assert [*told.values()] == ["scan", "scan", "scan", "symbolic link", "symbolic link", "no regular file"]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        pytest.param("*.py", {"b.txt", "build/c.txt"}, id="a name anywhere"),
        pytest.param("build", {"a/x.py", "b.txt"}, id="a folder by name"),
        pytest.param("build/", {"a/x.py", "b.txt"}, id="a folder with its slash"),
        pytest.param("a/*", {"b.txt", "build/c.txt"}, id="a path"),
        pytest.param("[ab]*", set(), id="a class"),
    ],
)
def test_exclude_takes_names_and_paths(tmp_path: Path, pattern: str, left: set[str]) -> None:
    for name in ("b.txt", "a/x.py", "build/c.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("x")
    assert {os.path.relpath(name, tmp_path) for name in listing(tmp_path, exclude=(pattern,))} == left


@pytest.mark.slow
def test_folders_deeper_than_the_stack_are_walked(tmp_path: Path) -> None:
    path = tmp_path
    for _ in range(1_100):
        path = path / "d"
    with contextlib.chdir(tmp_path):
        for _ in range(1_100):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.txt").write_text("x")
    try:
        assert listing(tmp_path) == {str(path / "a.txt"): "scan"}
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # shutil.rmtree goes by recursion


def test_l1_what_is_not_there_or_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    assert listing(tmp_path / "gone.txt") == {str(tmp_path / "gone.txt"): "no such file or directory"}
    done = licet_scan(tmp_path / "gone.txt")
    assert (done.code, done.err) == (2, f"not scanned: {tmp_path / 'gone.txt'}: no such file or directory\n")


def test_l1_a_file_whose_reading_fails_is_a_problem() -> None:
    done = licet_scan("/proc/self/mem")  # nothing is mapped at its begin, so reading fails, for root too
    assert done.code == 2
    assert done.err.startswith("not scanned: /proc/self/mem: not read to its end: ")


# --- their text


def read(data: bytes, encoding: str = "utf-8") -> tuple[str, str]:
    reader = TextReader(io.BytesIO(data), encoding)
    return "".join(reader.pieces()), reader.problem


LONG = "Grüße, 张伟: 𝔘 " * 5_000


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(LONG.encode(), id="utf-8"),
        pytest.param(LONG.encode("utf-8-sig"), id="utf-8 with a mark"),
        pytest.param(b"\xff\xfe" + LONG.encode("utf-16-le"), id="utf-16-le"),
        pytest.param(b"\xfe\xff" + LONG.encode("utf-16-be"), id="utf-16-be"),
        pytest.param(LONG.encode("utf-32"), id="utf-32"),
    ],
)
def test_unicode_is_recognized_however_pieces_cut_characters(data: bytes) -> None:
    assert len(data) > 2 * PIECE_BYTES
    assert read(data) == (LONG, "")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_recognized_by_its_nul_bytes(encoding: str) -> None:
    assert read("mail bob@example.com\r\n".encode(encoding)) == ("mail bob@example.com\r\n", "")


@pytest.mark.parametrize(
    "data",
    [b"x\0y", b"\x7fELF\x02\x01\x01\0\0\0\0\0", b"PK\x03\x04\x14\0\0\0\x08\0", b"\0" * 64, bytes(range(256)) * 40],
)
def test_binary_files_are_told_from_text(data: bytes) -> None:
    with pytest.raises(BinaryFileError):
        read(data)


def test_l1_bytes_that_mean_nothing_are_told_and_the_rest_is_read() -> None:
    text, problem = read(b"caf\xe9 " + MAIL.encode())
    assert text == "caf\ufffd " + MAIL
    assert problem.startswith("not utf-8 at byte 3;")
    head = b"a" * (3 * PIECE_BYTES) + "é".encode()
    assert read(head + b"\xffz")[1].startswith(f"not utf-8 at byte {3 * PIECE_BYTES + 2:,};")
    assert read("é".encode() * 20_000 + b"\xc3")[1].startswith("not utf-8 at byte 40,000;")
    assert read("身份证".encode("gb18030"), "gb18030") == ("身份证", "")


def test_only_bad_bytes_cost_no_more_than_good_ones() -> None:
    text, problem = read(b"\xff" * 1_000_000)
    assert len(text) == 1_000_000
    assert problem


# --- lines and columns


@pytest.mark.parametrize("seed", range(5))
def test_places_agree_with_the_whole_text_however_it_arrives(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice("ab\n张𝔘") * draw.choice((1, 1, 1, 30)) for _ in range(6_000))
    places = Places(kept=500)
    at = 0
    while at < len(text):
        piece = text[at : at + draw.randint(1, 400)]
        places.add(piece)
        at += len(piece)
        for _ in range(3):
            offset = draw.randint(max(0, at - 500), at)
            line = text.count("\n", 0, offset) + 1
            assert places.at(offset) == (line, offset - (text.rfind("\n", 0, offset) + 1) + 1)
            assert places.slice(offset, at) == text[offset:at]
    with pytest.raises(UndecidedError):
        places.at(0)


def test_l9_places_keep_a_bounded_text() -> None:
    places = Places(kept=1_000)
    for _ in range(10_000):
        places.add("x" * 99 + "\n")
        assert len(places._text) + sum(map(len, places._new)) <= 2_200
    assert places.at(999_999) == (10_000, 100)


# --- findings


def test_findings_have_lines_and_columns_in_code_points(scanner: Scanner, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(f"𝔘卡号{CARD}。\r\n\r\nmail {MAIL}\r\n".encode())
    card, mail = hits(scanner, file)
    assert (card.entity, card.line, card.column, card.end_line, card.end_column) == ("CREDIT_CARD", 1, 4, 1, 23)
    assert (mail.entity, mail.line, mail.column, mail.end_column) == ("EMAIL_ADDRESS", 3, 6, 21)


def test_a_finding_over_a_line_end_ends_on_the_next_line(scanner: Scanner, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("Please\npretend to be\nElon Musk now")
    (asked,) = hits(scanner, file)
    assert (asked.entity, asked.line, asked.column) == ("IMPERSONATION_PUBLIC_FIGURE", 2, 1)
    assert (asked.end_line, asked.end_column) == (3, 10)


def long_text(seed: int, count: int) -> str:
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefghijkl", k=draw.randint(2, 9))) for _ in range(500)]
    parts = []
    for index in range(count):
        parts += draw.choices(words, k=40)
        parts.append(draw.choice([MAIL, CARD, f"user{index}@mail.example.org", "(212) 555-1234", "\n", "张伟"]))
    return " ".join(parts)


def test_l3_a_long_file_gives_what_the_whole_text_gives(scanner: Scanner, tmp_path: Path) -> None:
    text = long_text(1, 600)
    assert len(text.encode()) > 8 * PIECE_BYTES
    file = tmp_path / "long.txt"
    file.write_text(text)
    whole = sorted(f for f in Engine.load().find(text) if f.score >= 0.4)
    assert sorted((h.entity, h.start, h.end, h.score) for h in hits(scanner, file)) == [tuple(f) for f in whole]
    for hit in hits(scanner, file):
        assert hit.line == text.count("\n", 0, hit.start) + 1


def test_l1_what_the_engine_cannot_decide_is_a_problem(
    scanner: Scanner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        at = 0

        def scan(self, text: str, view: bytes, final: bool) -> list[object]:
            raise RuntimeError(text)

        def drop(self, chars: int) -> None: ...

    file = tmp_path / "a.txt"
    file.write_text(MAIL)
    choice = scanner._engine._chosen(scanner._rules, "prompt")  # type: ignore[union-attr]

    class Part:
        def scanners(self) -> list[Failing]:
            return [Failing()]

    monkeypatch.setattr(type(choice), "parts", property(lambda self: (Part(),)), raising=False)
    assert problems(scanner, file) == ["not scanned to its end: a detector failed: RuntimeError"]


class Finder:
    """Finds Ada, and what Ada writes to; refuses to look at Bob."""

    name = "names-fake"
    version = "1"
    entities = frozenset({"PERSON"})

    def find(self, segments: Sequence[str]) -> list[list[Finding]]:
        if any("Bob" in segment for segment in segments):
            raise RuntimeError("Bob")
        return [[Finding("PERSON", m.start(), m.end(), 0.8) for m in re.finditer("Ada", s)] for s in segments]


def test_names_are_looked_for_in_segments_of_the_whole_text(tmp_path: Path) -> None:
    options = Options(explain=True)
    scanner = Scanner(
        options, Rules(names=NameRules(chars_max=1 << 60)), None, Engine.load(), cast(NameFinder, Finder())
    )
    text = "".join(f"Line {n} of Ada and {MAIL}.\n" for n in range(400))
    file = tmp_path / "a.txt"
    file.write_text(text)
    found = hits(scanner, file)
    assert [(h.line, h.column) for h in found if h.entity == "PERSON"] == [
        (n + 1, len(f"Line {n} of ") + 1) for n in range(400)
    ]
    assert sum(h.entity == "EMAIL_ADDRESS" for h in found) == 400
    why = {h.entity: h.why for h in found}
    assert why["PERSON"] is not None
    assert why["EMAIL_ADDRESS"] is not None
    assert (why["PERSON"].detector, why["EMAIL_ADDRESS"].detector) == ("names-fake", "presidio")
    file.write_text("Bob")
    assert problems(scanner, file) == ["not scanned to its end: names-fake failed: RuntimeError"]


@pytest.mark.parametrize(
    ("arguments", "entities"),
    [
        pytest.param([], {"CREDIT_CARD", "EMAIL_ADDRESS", "DATE_TIME"}, id="all"),
        pytest.param(["--entities", "CREDIT_CARD, DATE_TIME"], {"CREDIT_CARD", "DATE_TIME"}, id="some"),
        pytest.param(["--min-score", "0.9"], {"CREDIT_CARD", "EMAIL_ADDRESS"}, id="least score"),
    ],
)
def test_options_say_what_counts(arguments: list[str], entities: set[str]) -> None:
    done = licet_scan(*arguments, "--format", "json", stdin=f"{CARD} {MAIL} 2024-01-02\n".encode())
    assert {f["entity"] for f in done.report["findings"]} == entities
    assert done.code == 1


def test_unknown_entities_and_options_are_explained() -> None:
    for arguments, told in [
        (["--entities", "CREDIT_CRAD"], "nothing finds CREDIT_CRAD; known: "),
        (["--entities", "PERSON"], "nothing finds PERSON without --names fast"),
        (["--fail-on", "block"], "needs --policy"),
        (["--encoding", "utf-99"], "'utf-99' is no text encoding"),
        (["--encoding", "base64"], "'base64' is no text encoding"),
        (["--policy", "/nowhere.yaml"], "/nowhere.yaml: No such file"),
        (["--baseline", "/nowhere.json"], "--baseline: /nowhere.json: No such file"),
        (["--output", "/nowhere/report.json"], "--output: /nowhere: No such file"),
    ]:
        done = licet_scan("-", *arguments)
        assert done.code == 2
        assert told in done.err
        assert done.out == ""


# --- JSON lines


def lines(data: bytes, *fields: str) -> tuple[list[tuple[int, str, str]], list[str]]:
    reader = LineReader(io.BytesIO(data), fields)
    values = [(v.line, v.field, v.text) for v in reader.values()]
    return values, reader.problems


def test_json_lines_give_the_strings_of_the_fields_alone() -> None:
    data = (
        b'\xef\xbb\xbf{"id": "x", "messages": [{"content": "a"}, {"content": ["b", {"c": "no"}, 3]}]}\n'
        b"\n"
        b'{"messages": {"content": "\\u5f20"}, "text": "t"}\r\n'
        b'{"text": "first", "text": "second"}'
    )
    assert lines(data, "messages.content", "text") == (
        [
            (1, "messages[0].content", "a"),
            (1, "messages[1].content[0]", "b"),
            (3, "messages.content", "张"),
            (3, "text", "t"),
            (4, "text", "first"),
            (4, "text", "second"),
        ],
        [],
    )


def test_l1_lines_that_are_no_json_and_fields_that_no_line_has_are_problems() -> None:
    values, told = lines(b'{"a": "x"}\n{broken\n"\xff"\n' + b"[" * 200_000 + b"\n" + b"?\n" * 9, "a", "b")
    assert values == [(1, "a", "x")]
    assert told == [
        "line 2: not JSON",
        "line 3: not utf-8",
        "line 4: nested too deeply",
        "line 5: not JSON",
        "line 6: not JSON",
        "7 more lines could not be read",
        "no line has a string at b",
    ]
    assert lines(b"", "a") == ([], [])


def test_l9_a_line_that_is_too_long_is_a_problem_and_the_next_is_read() -> None:
    long = b'{"a": "' + b"x" * (2 * LINE_BYTES_MAX) + b'"}\n'
    values, told = lines(long + b'{"a": "y"}\n', "a")
    assert values == [(2, "a", "y")]
    assert told == [f"line 1: longer than {LINE_BYTES_MAX:,} bytes"]


def test_findings_in_json_lines_have_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    rows = [{"id": MAIL, "m": [{"c": "hello"}, {"c": f"x\n{CARD}"}]}, {"m": [{"c": f"to {MAIL}"}]}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = licet_scan(file, "--jsonl", "m.c", "--format", "json")
    assert done.code == 1
    assert [{k: f[k] for k in ("entity", "line", "field", "start", "end")} for f in done.report["findings"]] == [
        {"entity": "CREDIT_CARD", "line": 1, "field": "m[1].c", "start": 2, "end": 21},
        {"entity": "EMAIL_ADDRESS", "line": 2, "field": "m[0].c", "start": 3, "end": 18},
    ]
    assert f"{file}:1 m[1].c" in licet_scan(file, "--jsonl", "m.c").out


def test_l1_a_value_that_cannot_be_decided_is_a_problem_and_the_next_is_judged(tmp_path: Path) -> None:
    finder = cast(NameFinder, Finder())
    scanner = Scanner(Options(fields=["t"]), Rules(names=NameRules(chars_max=1 << 60)), None, Engine.load(), finder)
    file = tmp_path / "a.jsonl"
    file.write_text('{"t": "Bob"}\n{"t": "Ada"}\n')
    first, second = scanner.scan(source(file))
    assert first == Problem(str(file), "line 1, t: not scanned to its end: names-fake failed: RuntimeError")
    assert isinstance(second, Hit)
    assert (second.entity, second.line) == ("PERSON", 2)


# --- reports and exit codes

POLICY = """
version: 1
name: scan-test
owner: test@bank.example
prompt:
  entities: {default: allow, CREDIT_CARD: block, EMAIL_ADDRESS: {action: mask, style: hash}, DATE_TIME: report}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return file


@pytest.mark.parametrize(
    ("text", "fail_on", "code"),
    [
        pytest.param("nothing here", "any", 0, id="clean"),
        pytest.param(MAIL, "any", 1, id="found"),
        pytest.param(MAIL, "none", 0, id="never fails"),
        pytest.param(MAIL, "block", 0, id="masked only"),
        pytest.param(CARD, "block", 1, id="blocked"),
        pytest.param("http://example.com/a", "any", 0, id="allowed by the policy"),
    ],
)
def test_exit_codes_say_what_was_found(policy: Path, text: str, fail_on: str, code: int) -> None:
    done = licet_scan("--policy", policy, "--fail-on", fail_on, "--format", "json", stdin=text.encode())
    assert (done.code, done.report["exit_code"], done.err) == (code, code, "")


def test_a_policy_says_what_it_would_do(policy: Path) -> None:
    done = licet_scan("--policy", policy, "--format", "json", stdin=f"{CARD} {MAIL} 2024-01-02 http://a.com".encode())
    assert {f["entity"]: (f["action"], f.get("mask")) for f in done.report["findings"]} == {
        "CREDIT_CARD": ("block", None),
        "EMAIL_ADDRESS": ("mask", "hash"),
        "DATE_TIME": ("report", None),
    }
    assert done.report["policy"].startswith("scan-test@")


def test_tags_of_a_policy_are_the_entities_under_them(tmp_path: Path) -> None:
    file = tmp_path / "tags.yaml"
    file.write_text("version: 1\nname: t\nowner: t@bank.example\nprompt:\n  tags: {pci.chd: block}\n")
    done = licet_scan("--policy", file, "--format", "json", "--fail-on", "block", stdin=f"{CARD} {MAIL}".encode())
    assert done.code == 1
    assert {f["entity"]: f["action"] for f in done.report["findings"]} == {
        "CREDIT_CARD": "block",
        "EMAIL_ADDRESS": "report",
    }


def test_a_policy_with_mistakes_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(POLICY.replace("block", "blok"))
    done = licet_scan("--policy", file, stdin=b"x")
    assert done.code == 2
    assert f"{file}:6" in done.err


def test_entities_of_a_policy_are_found(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(POLICY + 'custom:\n  EMPLOYEE_ID: {pattern: "EMP-[0-9]{6}"}\n')
    file.write_text(file.read_text().replace("default: allow", "default: allow, EMPLOYEE_ID: block"))
    done = licet_scan("--policy", file, "--format", "json", stdin=b"badge EMP-123456 x")
    assert [(f["entity"], f["column"], f["action"]) for f in done.report["findings"]] == [("EMPLOYEE_ID", 7, "block")]
    compatible = licet_scan("--policy", file, "--profile", "compatible", stdin=b"x")
    assert compatible.code == 2
    assert "use --profile hardened" in compatible.err


def test_l1_a_problem_goes_before_findings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(MAIL)
    (tmp_path / "b.txt").write_bytes(b"caf\xe9 " + CARD.encode())
    (tmp_path / "c.bin").write_bytes(b"\0\1\2")
    done = licet_scan(tmp_path, "--format", "json", "--fail-on", "none")
    assert done.code == 2
    assert [f["entity"] for f in done.report["findings"]] == ["EMAIL_ADDRESS", "CREDIT_CARD"]
    assert [p["file"] for p in done.report["problems"]] == [str(tmp_path / "b.txt")]
    assert done.report["skipped"] == [{"file": str(tmp_path / "c.bin"), "reason": "binary"}]
    assert f"not scanned: {tmp_path / 'b.txt'}: not utf-8 at byte 3" in done.err
    assert "skipped: 1 (1 binary)" in done.err
    named = licet_scan(tmp_path / "c.bin")
    assert (named.code, named.err) == (2, f"not scanned: {tmp_path / 'c.bin'}: binary, not text\n")


@pytest.mark.parametrize("format_", ["table", "json", "sarif"])
@pytest.mark.parametrize("more", [[], ["--explain"]], ids=["plain", "explained"])
def test_l7_no_value_is_in_any_report(policy: Path, format_: str, more: list[str]) -> None:
    values = ["4111111111111111", "bob.smith@corp-mail.example", "219-09-9999", "GB82WEST12345698765432"]
    text = f"card {values[0]} mail {values[1]} ssn {values[2]} iban {values[3]} 手机号13812345678"
    done = licet_scan("--format", format_, *more, stdin=text.encode())
    assert done.code == 1
    assert "CREDIT_CARD" in done.out
    for value in (*values, "bob.smith", "13812345678", "1111", "9999", "5432"):
        assert value not in done.out + done.err


def test_values_are_shown_in_part_when_asked() -> None:
    done = licet_scan("--show", "--format", "json", stdin=f"x {CARD} y {MAIL}".encode())
    assert [f["shown"] for f in done.report["findings"]] == ["****1111", "****.com"]
    assert "4111" not in done.out


def test_the_table_has_places_and_counts() -> None:
    done = licet_scan(stdin=f"a\n {MAIL} {MAIL}\n".encode())
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[:2] == [["<stdin>:2:2", "EMAIL_ADDRESS", "1.00"], ["<stdin>:2:18", "EMAIL_ADDRESS", "1.00"]]
    assert ["EMAIL_ADDRESS", "2"] in rows
    assert done.out.endswith("2 findings in 1 file.\n")
    assert licet_scan(stdin=b"x").out == "0 findings in 1 file.\n"


def test_names_of_files_cannot_speak_to_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m[bold]\n.txt").write_text(MAIL)
    done = licet_scan(tmp_path)
    assert "\x1b" not in done.out + done.err
    assert f"{tmp_path}/a?[31m[bold]?.txt:1:1" in done.out
    assert printable("a\u202eb\x07") == "a?b?"


def test_a_baseline_hides_what_was_at_the_same_place(tmp_path: Path) -> None:
    file, report = tmp_path / "a.txt", tmp_path / "base.json"
    file.write_text(f"{MAIL}\n")
    assert licet_scan(file, "--format", "json", "--output", report).code == 1
    assert licet_scan(file, "--baseline", report).code == 0
    file.write_text(f"{MAIL} {CARD}\n")
    done = licet_scan(file, "--baseline", report, "--format", "json")
    assert done.code == 1
    assert [f["entity"] for f in done.report["findings"]] == ["CREDIT_CARD"]
    assert done.report["in_baseline"] == 1
    report.write_text('{"findings": [{"file": 1}]}')
    assert licet_scan(file, "--baseline", report).code == 2


def test_the_report_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(MAIL)
    report = tmp_path / "report.sarif"
    for _ in range(2):  # the second time the report stands in the folder that is scanned
        done = licet_scan(tmp_path, "--format", "sarif", "--output", report)
        assert (done.code, done.out) == (1, "")
        assert len(json.loads(report.read_text())["runs"][0]["results"]) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "report.sarif"]


def sarif(write: Callable[[SarifReport], Summary]) -> dict[str, Any]:
    out = io.StringIO()
    report = SarifReport(out)
    report.end(write(report), 2)
    document: dict[str, Any] = json.loads(out.getvalue())
    return document


def walk(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for inner in node.values():
            yield from walk(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from walk(inner)


def test_sarif_has_what_the_standard_requires(tmp_path: Path) -> None:
    """SARIF 2.1.0: 3.13 (log), 3.14 (run), 3.18-3.19 (tool), 3.27 (result), 3.29-3.30 (locations), 3.20 (invocation)."""
    file = tmp_path / "ä b%.txt"
    file.write_text(f"x\n{MAIL} 2024-01-02\n")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    done = licet_scan(tmp_path, "--format", "sarif", "--explain")
    log = done.report
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "licet"
    assert [rule["id"] for rule in driver["rules"]] == ["DATE_TIME", "EMAIL_ADDRESS"]
    assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
    assert run["columnKind"] == "unicodeCodePoints"
    assert run["invocations"][0]["executionSuccessful"] is False
    assert run["invocations"][0]["exitCode"] == done.code == 2
    (note,) = run["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"].startswith("not utf-8")
    results = {result["ruleId"]: result for result in run["results"]}
    assert {name: result["level"] for name, result in results.items()} == {
        "EMAIL_ADDRESS": "error",
        "DATE_TIME": "warning",
    }
    physical = results["EMAIL_ADDRESS"]["locations"][0]["physicalLocation"]
    assert physical["region"] == {"startLine": 2, "startColumn": 1, "endLine": 2, "endColumn": 16}
    assert physical["artifactLocation"]["uri"] == f"file://{tmp_path}/%C3%A4%20b%25.txt"
    for node in walk(log):
        if "locations" in node and "ruleId" in node:
            assert node["message"]["text"]
            assert 0 <= node["rank"] <= 100


def test_sarif_levels_follow_the_policy_and_fields_are_logical_locations() -> None:
    def write(report: SarifReport) -> Summary:
        summary = Summary("hardened", {})
        for action in ("block", "mask", "report"):
            hit = Hit("a b.jsonl", action.upper(), 0.5, 0, 4, 7, 0, 7, 0, field="m[0]", action=action)
            summary.add(hit)
            report.hit(hit)
        return summary

    results = sarif(write)["runs"][0]["results"]
    assert [result["level"] for result in results] == ["error", "warning", "note"]
    location = results[0]["locations"][0]
    assert location["physicalLocation"] == {"artifactLocation": {"uri": "a%20b.jsonl"}, "region": {"startLine": 7}}
    assert location["logicalLocations"] == [{"fullyQualifiedName": "m[0]"}]


def test_reports_without_findings_are_whole_documents() -> None:
    assert sarif(lambda _: Summary("hardened", {}))["runs"][0]["results"] == []
    out = io.StringIO()
    JsonReport(out).end(Summary("hardened", {}), 0)
    assert json.loads(out.getvalue())["findings"] == []


def test_a_file_name_that_is_no_utf8_is_reported(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    Path(os.fsdecode(name)).write_text(MAIL)
    for format_, uri in (("json", None), ("sarif", "/caf%E9.txt"), ("table", None)):
        report = tmp_path.parent / f"{tmp_path.name}.{format_}"
        assert licet_scan(tmp_path, "--format", format_, "--output", report).code == 1
        if uri is not None:
            assert uri in report.read_text()


def test_l9_problems_are_counted_beyond_those_listed() -> None:
    summary = Summary("hardened", {})
    for index in range(5_000):
        summary.add(Problem(str(index), "x"))
        summary.add(Skipped(str(index), "x"))
    assert (len(summary.problems), summary.problem_count, len(summary.skipped), summary.skipped_count) == (
        1000,
        5000,
        1000,
        5000,
    )


def test_the_compatible_profile_gives_what_presidio_gives(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(f"x\nmy card {CARD}, mail {MAIL}\n")
    done = licet_scan(file, "--profile", "compatible", "--format", "json", "--explain")
    assert done.report["profile"] == "compatible"
    found = {f["entity"]: f for f in done.report["findings"]}
    assert set(found) == {"CREDIT_CARD", "EMAIL_ADDRESS", "URL"}  # presidio's: the host of a mail address is a URL
    assert (found["CREDIT_CARD"]["line"], found["CREDIT_CARD"]["column"]) == (2, 9)
    assert found["CREDIT_CARD"]["why"]["rule"] == "CreditCardRecognizer: All Credit Cards (weak)"


def test_l9_the_compatible_profile_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    scanner = Scanner.load(Options(profile="compatible"))
    file = tmp_path / "big.txt"
    with file.open("w") as out:
        for _ in range(70):
            out.write("word word word\n" * 4_500)
    (problem,) = problems(scanner, file)
    assert "use --profile hardened" in problem


@pytest.mark.slow
def test_l1_the_end_of_a_process_is_a_problem_of_its_files(tmp_path: Path) -> None:
    for index in range(40):
        (tmp_path / f"{index:02}.txt").write_text(MAIL)
    options = Options()
    scanner = Scanner.load(options)
    events = scan_each(scanner, options, sources([tmp_path]), 2)
    assert isinstance(next(events), Hit)
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    rest = list(events)
    told = [event for event in rest if isinstance(event, Problem)]
    assert len(told) >= 30
    assert {event.reason for event in told} == {"the process that scanned it has ended"}
    assert {event.file for event in rest} >= {str(tmp_path / f"{index:02}.txt") for index in range(1, 40)}


def test_models_that_are_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import filters.names

    def missing(mode: str) -> str:
        return f"the package for {mode} is not installed: install it"

    monkeypatch.setattr(filters.names, "available", missing)
    with pytest.raises(UsageError, match="--names fast: the package for fast is not installed"):
        Scanner.load(Options(names="fast"))
