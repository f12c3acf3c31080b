"""`licet-verify`: the verifier as a command of its own. Plain text; what takes long tells so on standard error.

Exit code 0: nothing is damaged. 1: something is; the first bad record of each log is named; or too few witnesses cosigned. 2: it could
not be checked.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import orjson

from .note import ED25519, NoteError, VerifierKey, parse_key
from .places import one_server
from .proof import SUFFIX
from .report import PACK, UNWITNESSED, Report, StreamReport, shown
from .verify import Kept, Trust, check, kept_head

OK, DAMAGED, UNUSABLE = 0, 1, 2
_BEARER_CHARS_MAX = 4096  # our choice: no key of ours has more than 100
_FILE_BYTES_MAX = 1 << 20  # our choice: of a file of keys or a kept note
_EVERY_S = 2.0  # our choice: between two lines of progress
_LINE_CHARS_MAX = 4096  # our choice
_OPEN_SHOWN = 5  # our choice: of the calls that are open in a stream

_ABOUT = """\
Check the audit log of a Licet gateway: every byte of its journal and of its sealed logs, every signature, and that no record
is missing. It needs nothing but the files (or the URL of a published log) and the public keys that you trust."""
_MORE = f"""\
PLACE is a gateway's data directory, a folder of logs, one log, a folder of several of these, the http(s) URL of a log, or an evidence
pack (a .zip file): of a pack, the first bad file is named. Without
--key, signatures are checked against nothing that you trust: get the gateway's key from its operator by another way.
--since-note takes a checkpoint or a {SUFFIX} file that you kept: the log must still have what it had then.
Exit code 0: nothing is damaged. 1: something is, or fewer witnesses cosigned than are required. 2: it could not be checked."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit code."""
    asked = _parser().parse_args(argv)
    try:
        trust = trust_of(asked.key, asked.keys, asked.witness, asked.witnesses_required)
        kept = kept_heads(asked.since_note, trust)
        with_progress = None if asked.quiet else _teller(sys.stderr)
        bearer = bearer_of(asked.bearer_file, asked.place)
        report = check(asked.place, trust, kept=kept, bearer=bearer, progress=with_progress)
    except (ValueError, OSError) as error:
        print(f"licet-verify: {_sentence(error)}", file=sys.stderr)  # noqa: T201 - a command's own output
        return UNUSABLE
    text = as_json(report) if asked.json else "\n".join(lines(report))
    print(text)  # noqa: T201 - as above
    return OK if report.ok else DAMAGED


def trust_of(
    keys: Sequence[str] = (), files: Sequence[Path] = (), witnesses: Sequence[str] = (), required: int = 0
) -> Trust:
    """What options say. A file has a key a line, a log's or a witness'. Raises ValueError with the remedy, OSError."""
    found = [_key(text, "--key") for text in keys]
    for path in files:
        lines_ = _text(path).splitlines()
        found += [_key(line.strip(), str(path)) for line in lines_ if line.strip() and not line.startswith("#")]
    found += [_key(text, "--witness") for text in witnesses]
    logs = tuple(dict.fromkeys(one for one in found if one.kind == ED25519))
    watching = tuple(dict.fromkeys(one for one in found if one.kind != ED25519))
    wrong = [one.name for one in (_key(text, "--witness") for text in witnesses) if one.kind == ED25519]
    if wrong:
        raise ValueError(f"--witness {wrong[0]}: this is a log's key (type 1); a witness' key is of type 4 or 6")
    return Trust(logs, watching, required)


def kept_heads(paths: Sequence[Path], trust: Trust) -> list[Kept]:
    """The checkpoints and proofs that somebody kept. Raises ValueError, OSError."""
    return [kept_head(_text(path), path.name, trust) for path in paths]


def bearer_of(path: Path | None, places: Sequence[str]) -> str:
    """The key in a file, for the one server among the places; "" without a file. Raises ValueError, which never holds the key, and OSError."""
    if path is None:
        return ""
    key = _text(path).strip()
    if not 0 < len(key) <= _BEARER_CHARS_MAX or not all("!" <= c <= "~" for c in key):
        raise ValueError(f"{path}: holds no key; --bearer-file takes a file with one line, the key alone")
    if not one_server(places):
        raise ValueError("--bearer-file: the key goes to one server; give the URLs of one at a time")
    return key


def as_json(report: Report) -> str:
    """One document."""
    return orjson.dumps(
        {
            "ok": report.ok,
            "limits": report.limits,
            "streams": [asdict(one) for one in report.streams],
            "fleets": [asdict(one) for one in report.fleets],
            "remarks": report.remarks,
        }
    ).decode()


def lines(report: Report) -> Iterator[str]:
    """The report for people. Each is one line, whatever words came with the log."""
    return (shown(line, _LINE_CHARS_MAX) for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    for one in (*report.fleets, *report.streams):
        yield from _stream_lines(one)
    for remark in report.remarks:
        yield f"Note: {remark}"
    yield ""
    if report.ok:
        yield f"OK: {report.records:,} records of {report.calls:,} calls in {report.streams_read:,} streams, nothing is damaged."
    logs = (*report.streams, *report.fleets)
    for state, told in (
        (False, f"DAMAGED: {{}} of {len(logs)} logs. First bad records:"),
        (
            True,
            f"NOT COSIGNED by so many witnesses as are required: {{}} of {len(logs)} logs. Nothing else is wrong with them.",
        ),
    ):
        bad = [one.problem for one in (*report.fleets, *report.streams) if (one.state == UNWITNESSED) is state]
        problems = [one for one in bad if one is not None]
        if problems:
            yield told.format(len(problems))
        for problem in problems:
            yield f"  {problem.record}  {problem.segment} at byte {problem.offset:,}: {problem.problem}"
    yield report.limits


def _stream_lines(one: StreamReport) -> Iterator[str]:
    sealed = f", {one.sealed:,} sealed" if one.origin else ", not sealed"
    if one.state == PACK:
        sealed = f" of {one.streams:,} streams, {one.documents:,} documents"
    yield f"{one.stream}: {one.state}, {one.records:,} records{sealed}"
    if one.origin:
        signed = ", ".join(one.signed_by) or "nobody that is trusted"
        seen = f"; cosigned by {', '.join(one.witnesses)}" if one.witnesses else ""
        yield f"  signed by {signed}{seen}"
    if one.pruned:
        held = f" ({one.held:,} of them are held, each with its proof)" if one.held else ""
        yield f"  records before {one.pruned:,} were pruned{held}; the tree still proves what is left"
    if one.origin and one.records > one.sealed and one.problem is None:
        yield f"  {one.records - one.sealed:,} records at its end are not sealed yet"
    if one.open_calls:
        more = "" if len(one.open_calls) <= _OPEN_SHOWN else f" and {len(one.open_calls) - _OPEN_SHOWN:,} more"
        where = "in this pack" if one.state == PACK else "yet"
        yield f"  {len(one.open_calls):,} calls have no outcome {where}: {', '.join(one.open_calls[:_OPEN_SHOWN])}{more}"
    if one.torn_bytes:
        yield f"  {one.torn_bytes:,} bytes of an incomplete frame at the end"
    for remark in one.remarks:
        yield f"  note: {remark}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="licet-verify", description=_ABOUT, epilog=_MORE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("place", nargs="+", metavar="PLACE", help="a folder, the URL of a log, or an evidence pack")
    parser.add_argument("--key", action="append", default=[], metavar="VKEY", help="a log's key that you trust")
    parser.add_argument(
        "--keys", action="append", default=[], type=Path, metavar="FILE", help="keys that you trust, one a line"
    )
    parser.add_argument("--witness", action="append", default=[], metavar="VKEY", help="a witness' key that you trust")
    parser.add_argument(
        "--witnesses-required", type=int, default=0, metavar="N", help="how many witnesses must have cosigned each log"
    )
    parser.add_argument(
        "--since-note", action="append", default=[], type=Path, metavar="FILE", help="a checkpoint or proof you kept"
    )
    parser.add_argument(
        "--bearer-file",
        type=Path,
        metavar="FILE",
        help="a file with the key that the URL's server asks for (an auditor's)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document, for programs")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return parser


def _key(text: str, where: str) -> VerifierKey:
    try:
        return parse_key(text)
    except NoteError as error:
        raise ValueError(f"{where}: {error}") from error


def _text(path: Path) -> str:
    with path.open("rb") as handle:
        data = handle.read(_FILE_BYTES_MAX + 1)
    if len(data) > _FILE_BYTES_MAX:
        raise ValueError(f"{path}: has more than {_FILE_BYTES_MAX:,} bytes; give a key file, checkpoint or proof")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not text; give a key file, checkpoint or proof") from error


def _teller(to: TextIO) -> Callable[[int, int], None]:
    """Tells how far the check is, now and then."""
    due_s = time.monotonic() + _EVERY_S

    def told(done: int, total: int) -> None:
        nonlocal due_s
        if time.monotonic() < due_s:
            return
        due_s = time.monotonic() + _EVERY_S
        share = f" of {total / 1e6:,.0f} MB ({100 * done / total:.0f} %)" if total > done else " MB"
        print(f"verified {done / 1e6:,.0f}{share}", file=to, flush=True)

    return told


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def run() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
