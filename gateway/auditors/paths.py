"""What auditors can ask.

    GET  /audit/checkpoints[?after=STREAM]            {"streams": [{"stream", "size", "root", "note"}]}
    GET  /audit/consistency?stream=S&old=M&new=N      {"proof": [hex]}
    GET  /audit/record?stream=S&seq=I&size=N          {"record": base64, "proof": [hex]}
    GET  /audit/proof/S/I                             the .tlog-proof of a record, with the record in it
    GET  /audit/call/ID                               {"call_id", "records": [{"record", "kind", "sealed", ...}]}
    GET  /audit/query?decision=..&reason=..&model=..&license=..&tenant=..&jurisdiction=..&entity=..&id=..
              &since=..&until=..&cursor=..&limit=..   {"rows", "cursor", "completeness", "unnamed"}; values of one field by commas
              &count=by,by                            {"by", "counts", "total", "completeness", "unnamed"}; no `by`: all
    GET  /audit/report/Q05?from=..&to=..              one of the named reports
    GET  /audit/log/S/checkpoint, /audit/log/S/tile/..   the log in the layout of C2SP tlog-tiles
    POST /audit/match                                 the body is a text: {"matches": [...]}, where it was delivered

Times are ISO 8601 or milliseconds since 1970; a report's period that ends `to` a day has all of that day, as at the command line. Here paths and queries are read, and nothing is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from gateway.audit.record import STRING_CHARS_MAX
from gateway.history.moments import moment_ms
from gateway.history.port import LIMIT_MAX, Query
from gateway.tlog.frames import STREAM_NAME

PREFIX = "/audit/"
TOPIC = "audit_access"
QUERY_BYTES_MAX = 4096
VALUE_CHARS_MAX = 1024  # our choice: of one parameter
_DIGITS_MAX = 15  # of a number in a query: below 2^53

SETS = ("decision", "reason", "model", "license", "tenant", "jurisdiction", "entity", "id")
LIMIT = 100  # rows of a page, where nothing else is asked
REPORT_PARAMS_MAX = 16

_PARAMS: Mapping[str, frozenset[str] | None] = {
    "checkpoints": frozenset({"after"}),
    "consistency": frozenset({"stream", "old", "new"}),
    "record": frozenset({"stream", "seq", "size"}),
    "proof": frozenset(),
    "call": frozenset(),
    "query": frozenset({*SETS, "since", "until", "cursor", "limit", "count"}),
    "report": None,  # the report says which it takes
    "log": frozenset(),
    "match": frozenset(),
}
_CALL_ID = re.compile(r"[0-9a-f]{32}")
_REPORT = re.compile(r"[A-Za-z][0-9]{2}")
# Files of a log: nothing else of its folder is shown.
_FILE = re.compile(
    r"checkpoint|minimum|adopted-from|tile/(?:[0-9]{1,2}|entries)/(?:x[0-9]{3}/){0,6}[0-9]{3}(?:\.p/(?:[1-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
)
KEYS = "keys"  # statements about keys, beside the logs


class BadQueryError(ValueError):
    """A parameter is missing, unknown or no number. Safe to show."""


class NothingHereError(Exception):
    """No such path."""


class MethodError(Exception):
    """The path is there, and takes another method: its argument."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question."""

    what: str
    stream: str = ""
    name: str = ""  # of a file, a call, a report
    numbers: tuple[int, ...] = ()  # old, new | seq, size | seq
    query: Query = field(default_factory=Query)
    since_ms: int | None = None
    until_ms: int | None = None
    cursor: str | None = None
    limit: int = LIMIT
    by: tuple[str, ...] | None = None  # None: rows are asked for
    params: Mapping[str, str] = field(default_factory=dict)  # as they came, for the record of the look and for reports

    @property
    def detail(self) -> dict[str, str | int | bool]:
        """What the record of the look says of it."""
        found: dict[str, str | int | bool] = {"what": self.what}
        if self.stream:
            found["stream"] = self.stream
        if self.what in ("call", "report"):
            found["name"] = self.name
        if self.what == "proof":
            found["seq"] = self.numbers[0]
        for name, value in self.params.items():
            numeric = self.what in ("consistency", "record") and name != "stream"
            found[name[:STRING_CHARS_MAX]] = int(value) if numeric else value[:STRING_CHARS_MAX]
        return found


def read(method: str, path: str, raw_query: bytes) -> Asked:
    """The question. Raises NothingHereError, MethodError, BadQueryError."""
    what, *rest = path.removeprefix(PREFIX).split("/")
    if what not in _PARAMS:
        raise NothingHereError
    takes = "POST" if what == "match" else "GET"
    if method != takes:
        raise MethodError(takes)
    asked = _query(raw_query, _PARAMS[what])
    if what == "log":
        return _log(rest)
    if what == "proof":
        return _proof(rest)
    if what in ("call", "report"):
        known = _CALL_ID if what == "call" else _REPORT
        if len(rest) != 1 or not known.fullmatch(rest[0]):
            raise NothingHereError
        since, until = (asked.get("from"), asked.get("to")) if what == "report" else (None, None)
        return Asked(
            what, name=rest[0], params=asked, since_ms=_time(since, "from"), until_ms=_time(until, "to", end=True)
        )
    if rest:
        raise NothingHereError
    if what in ("consistency", "record"):
        if not asked.get("stream"):
            raise BadQueryError("`stream` is missing; take it from /audit/checkpoints")
        names = ("old", "new") if what == "consistency" else ("seq", "size")
        numbers = tuple(_number(asked, name) for name in names)
        return Asked(what, stream=asked["stream"], numbers=numbers, params=asked)
    if what == "query":
        return _question(asked)
    return Asked(what, name=asked.get("after", ""), params=asked)


def _log(rest: list[str]) -> Asked:
    if rest == [KEYS]:
        return Asked("log", name=KEYS)
    stream, name = (rest[0], "/".join(rest[1:])) if rest else ("", "")
    if not STREAM_NAME.fullmatch(stream) or not _FILE.fullmatch(name):
        raise NothingHereError
    return Asked("log", stream=stream, name=name)


def _proof(rest: list[str]) -> Asked:
    if len(rest) != 2 or not STREAM_NAME.fullmatch(rest[0]):
        raise NothingHereError
    return Asked("proof", stream=rest[0], numbers=(_number({"the record's number": rest[1]}, "the record's number"),))


def _question(asked: Mapping[str, str]) -> Asked:
    def values(name: str) -> frozenset[str]:
        return frozenset(asked[name].split(",")) if asked.get(name) else frozenset()

    since, until = _time(asked.get("since"), "since"), _time(asked.get("until"), "until")
    limit = _number(asked, "limit") if "limit" in asked else LIMIT
    if not 1 <= limit <= LIMIT_MAX:
        raise BadQueryError(f"`limit` is 1 to {LIMIT_MAX:,}")
    by = None
    if "count" in asked:
        by = tuple(name for name in asked["count"].split(",") if name)
        if asked.keys() & {"cursor", "limit"}:
            raise BadQueryError("`count` answers with all counts; leave out `cursor` and `limit`")
    query = Query(
        decisions=values("decision"),
        reasons=values("reason"),
        models=values("model"),
        licenses=values("license"),
        tenants=values("tenant"),
        jurisdictions=values("jurisdiction"),
        entities=values("entity"),
        ids=values("id"),
        since_ms=since,
        until_ms=until,
    )
    cursor = asked.get("cursor") or None
    return Asked("query", query=query, cursor=cursor, limit=limit, by=by, params=asked)


def _query(raw: bytes, allowed: frozenset[str] | None) -> dict[str, str]:
    if len(raw) > QUERY_BYTES_MAX:
        raise BadQueryError(f"the query has more than {QUERY_BYTES_MAX} bytes")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), errors="strict")
    except ValueError as error:
        raise BadQueryError("the query cannot be read; write name=value&name=value") from error
    found = dict(pairs)
    if allowed is None and len(pairs) <= REPORT_PARAMS_MAX and len(found) == len(pairs):
        allowed = frozenset(found)
    unknown = sorted(found.keys() - (allowed or frozenset()))
    if unknown or len(found) != len(pairs):
        raise BadQueryError(f"each parameter once, and none but {', '.join(sorted(allowed or ())) or 'none'}")
    if any(len(value) > VALUE_CHARS_MAX for value in found.values()):
        raise BadQueryError(f"a value has more than {VALUE_CHARS_MAX} characters")
    return found


def _number(asked: Mapping[str, str], name: str) -> int:
    text = asked.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS_MAX:
        raise BadQueryError(f"`{name}` is missing or not a whole number")
    return int(text)


def _time(text: str | None, name: str, *, end: bool = False) -> int | None:
    if not text:
        return None
    if text.isascii() and text.isdigit() and 9 <= len(text) <= _DIGITS_MAX:
        return int(text)
    try:
        return moment_ms(text, end=end)
    except ValueError as error:
        why = f"`{name}` is neither ISO 8601 (2026-11-22, 2026-11-22T10:00:00Z) nor milliseconds since 1970"
        raise BadQueryError(f"{why}; in an address, + is written %2B" if " " in text else why) from error
