"""What a provider, or the proxy before an endpoint, says of calls: read from its exports, row by row.

Two kinds. A row a call (`Row`: ids, time, model, tokens), from CSV, JSON Lines, a list of stored completions, or an access log;
or sums (`Bucket`: a time span, a model, how many calls and tokens), from the usage API of OpenAI (`/v1/organization/usage/completions`)
or the usage report of Anthropic (`/v1/organizations/usage_report/messages`), as pages of JSON, or from CSV of the same. Nothing here
guesses: a column that no alias names must be mapped by the caller, and a row that cannot be read is an error with its line.

Anthropic counts input that came from or went to its prompt cache apart from `uncached_input_tokens`; answers do the same with
`input_tokens`, which is what records hold. So only the uncached count is compared.
"""

from __future__ import annotations

import csv
import datetime
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

FORMATS = ("auto", "openai-usage", "csv", "jsonl", "access-log")
FIELDS = ("request_id", "provider_id", "time", "end", "model", "input_tokens", "output_tokens", "requests", "status")
LINE_BYTES_MAX = 1 << 20  # our choice: a row of an export has some 500 bytes
PAGES_BYTES_MAX = 128 << 20  # our choice: a year of hourly buckets of 50 models has some 100 MB
WIDTHS = {"1m": 60_000, "1h": 3_600_000, "1d": 86_400_000}
_SNIFF_BYTES = 65_536
_INT_MAX = 2**53 - 1

# How exports of providers, gateways and proxies call what we compare. Lower case; of several that are there, the first counts.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "request_id": ("request_id", "x-request-id", "x_request_id", "request-id", "req_id", "requestid"),
    "provider_id": ("provider_id", "response_id", "completion_id", "message_id", "generation_id", "id"),
    "time": (
        *("time", "timestamp", "created_at", "created", "start_time_iso", "start_time", "starting_at", "@timestamp"),
        *("time_iso8601", "usage_date_utc", "date", "datetime"),
    ),
    "end": ("end_time_iso", "end_time", "ending_at", "end"),
    "model": ("model", "model_name", "model_version", "snapshot_id"),
    "input_tokens": (
        *("input_tokens", "prompt_tokens", "usage.prompt_tokens", "usage.input_tokens", "uncached_input_tokens"),
        *("usage_input_tokens_no_cache", "n_context_tokens_total", "tokens_prompt"),
    ),
    "output_tokens": (
        *("output_tokens", "completion_tokens", "usage.completion_tokens", "usage.output_tokens"),
        *("usage_output_tokens", "n_generated_tokens_total", "tokens_completion"),
    ),
    "requests": ("num_model_requests", "requests", "request_count", "n_requests"),
    "status": ("status", "status_code", "response_code"),
}


class UsageError(ValueError):
    """The export cannot be read. Names the line or column, and what to do."""


class Row(NamedTuple):
    """One call, as the other side tells it."""

    line: int
    at_ms: int | None = None
    request_id: str = ""
    provider_id: str = ""
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    status: int | None = None


class Bucket(NamedTuple):
    """What was used in a span of time. None: not told."""

    start_ms: int
    end_ms: int  # exclusive
    model: str = ""  # "": all models
    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """An opened export. Exactly one of `rows` and `buckets` is there; both are read once."""

    format: str
    rows: Iterator[Row] | None
    buckets: list[Bucket] | None
    columns: Mapping[str, str]  # our field -> its column


def open_export(
    path: Path, *, format_: str = "auto", columns: Mapping[str, str] | None = None, width_ms: int | None = None
) -> Export:
    """What the file holds. `columns` maps a column to one of FIELDS; `width_ms` is how long buckets without an end are.

    Raises UsageError, OSError; a row that cannot be read raises UsageError when its turn comes.
    """
    from gateway.completeness.access_log import is_access_log, read_access_log

    mapped = _mapping(columns or {})
    with path.open("rb") as file:
        head = file.read(_SNIFF_BYTES)
    if format_ == "auto":
        format_ = _sniff(head, is_access_log)
    if format_ == "openai-usage":
        return Export(format_, None, _pages(path), {})
    if format_ == "access-log":
        if mapped:
            raise UsageError("--map is for csv and jsonl; the fields of an access log are known by their places")
        return Export(format_, read_access_log(path), None, {})
    if format_ == "csv":
        names, rows = _csv(path, head)
        found = _resolve(names, mapped)
    elif format_ == "jsonl":
        names, rows = _jsonl(path)
        found = _resolve(names, mapped)
    else:
        raise UsageError(f"format {format_!r} is not known; take one of {', '.join(FORMATS)}")
    if _aggregated(found):
        return Export(format_, None, _merged(_bucket(*row, found, width_ms) for row in rows), found)
    return Export(format_, (_row(*row, found) for row in rows), None, found)


def parse_time(value: Any, where: str) -> int:
    """ms since 1970 of an ISO 8601 text (UTC unless it says otherwise), or of seconds or milliseconds. Raises UsageError."""
    if isinstance(value, str):
        text = value.strip()
        try:
            number = float(text)
        except ValueError:
            return _iso_ms(text, where)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    else:
        raise UsageError(f"{where}: the time is missing; write ISO 8601, or seconds since 1970")
    if not math.isfinite(number) or not 0 <= number < 1e16:
        raise UsageError(f"{where}: {number:g} is no time; write ISO 8601, or seconds since 1970")
    if number >= 1e14:  # microseconds: as seconds they would be after the year 3,000,000
        return int(number / 1000)
    return int(number) if number >= 1e11 else int(number * 1000)  # 1e11 s is the year 5138, 1e11 ms is 1973


def _iso_ms(text: str, where: str) -> int:
    text = text.removesuffix(" UTC")
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{where}: the time cannot be read; write ISO 8601, or seconds since 1970") from error
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return round(at.timestamp() * 1000)


# -- which format


def _sniff(head: bytes, is_access_log: Any) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text:
        raise UsageError("the file is empty")
    if text[:1] in b"{[":
        first = text.split(b"\n", 1)[0]
        bucketed = any(name in head for name in (b'"results"', b'"organization.usage', b'"organization.costs'))
        if text[:1] == b"[" and not bucketed and is_access_log(text):  # Envoy's lines begin with a bracket
            return "access-log"
        whole_line = text[:1] == b"{" and first.rstrip().endswith(b"}")
        return "openai-usage" if bucketed and (not whole_line or b'"results"' in first) else "jsonl"
    if is_access_log(text):
        return "access-log"
    return "csv"


# -- columns


def _mapping(columns: Mapping[str, str]) -> dict[str, str]:
    """Our field -> column."""
    found: dict[str, str] = {}
    for column, name in columns.items():
        if name not in FIELDS:
            raise UsageError(f"--map {column}={name}: the field is one of {', '.join(FIELDS)}")
        if name in found:
            raise UsageError(f"--map: two columns are named for {name}")
        found[name] = column
    return found


def _resolve(names: Sequence[str], mapped: Mapping[str, str]) -> dict[str, str]:
    """Which column holds which field: as mapped, else by its usual names."""
    listed = ", ".join(names) or "none"
    for column in mapped.values():
        if column not in names:
            raise UsageError(f"--map: there is no column {column!r}; there are: {listed}")
    lower = {name.strip().lower(): name for name in reversed(names)}
    found = dict(mapped)
    taken = set(mapped.values())
    for name, aliases in ALIASES.items():
        if name in found:
            continue
        known = next((lower[alias] for alias in aliases if alias in lower and lower[alias] not in taken), None)
        if known is not None:
            found[name] = known
            taken.add(known)
    if not found.keys() & {"request_id", "provider_id", "time"}:
        raise UsageError(
            f"no column is known to hold an id or a time; there are: {listed}. Say --map COLUMN=request_id or =time"
        )
    return found


def _aggregated(found: Mapping[str, str]) -> bool:
    """Whether rows are sums: they count requests or end at a time, and name no request."""
    return bool(found.keys() & {"requests", "end"}) and not found.keys() & {"request_id", "provider_id"}


# -- rows


def _csv(path: Path, head: bytes) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    try:
        sample = head.decode("utf-8-sig", "ignore")
        dialect: Any = csv.Sniffer().sniff(sample.split("\n", 1)[0], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    lines = _csv_lines(path, dialect)
    _, names = next(lines, (1, []))
    if len(set(names)) != len(names):
        raise UsageError("line 1: two columns have one name; name them apart")

    def rows() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for line, cells in lines:
            if not cells:
                continue
            if len(cells) != len(names):
                raise UsageError(f"line {line}: {len(cells)} cells, where the first line names {len(names)} columns")
            yield line, dict(zip(names, cells, strict=True))

    return names, rows()


def _csv_lines(path: Path, dialect: Any) -> Iterator[tuple[int, list[str]]]:
    with path.open("r", encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, dialect, strict=True)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, UnicodeDecodeError) as error:
                raise UsageError(f"line {reader.line_num}: not CSV in UTF-8 ({error})") from error
            yield reader.line_num, cells


def _jsonl(path: Path) -> tuple[list[str], Iterator[tuple[int, Mapping[str, Any]]]]:
    rows = _objects(path)
    first = list(itertools.islice(rows, 1))
    return list(first[0][1]) if first else [], itertools.chain(first, rows)


def _objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each line's object, its inner objects by dotted names. A page of a list counts as the objects in its `data`."""
    with path.open("rb") as file:
        line = 0
        while data := file.readline(LINE_BYTES_MAX + 1):
            line += 1
            if len(data) > LINE_BYTES_MAX:
                if line == 1:
                    raise UsageError("the file is one long line; write one JSON object a line (`jq -c '.data[]'`)")
                raise UsageError(f"line {line}: more than {LINE_BYTES_MAX:,} bytes")
            if not data.strip():
                continue
            found = _json(data.removeprefix(b"\xef\xbb\xbf"), f"line {line}")
            inner = found.get("data") if isinstance(found, dict) and found.get("object") == "list" else [found]
            for one in inner if isinstance(inner, list) else [inner]:
                if not isinstance(one, dict):
                    raise UsageError(f"line {line}: not a JSON object; write one object a line (`jq -c '.data[]'`)")
                yield line, _flat(one)


def _flat(value: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, dict) and depth < 3:  # our choice: as deep as exports nest what is counted
            found |= _flat(inner, f"{prefix}{name}.", depth + 1)
        elif not isinstance(inner, list | dict):
            found[prefix + name] = inner
    return found


def _json(data: bytes, where: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{where}: not JSON ({error.msg}); write one object a line (`jq -c '.data[]'`)") from error


def _row(line: int, cells: Mapping[str, Any], found: Mapping[str, str]) -> Row:
    where = f"line {line}"
    at = _cell(cells, found, "time")
    return Row(
        line,
        parse_time(at, where) if at is not None else None,
        _text(cells, found, "request_id"),
        _text(cells, found, "provider_id"),
        _text(cells, found, "model"),
        _count(cells, found, "input_tokens", where),
        _count(cells, found, "output_tokens", where),
        _status(cells, found),
    )


def _cell(cells: Mapping[str, Any], found: Mapping[str, str], name: str) -> Any:
    """The value of a field; None where it has no column, or nothing stands in it."""
    value = cells.get(found[name]) if name in found else None
    return None if value is None or value in ("", "-") else value


def _text(cells: Mapping[str, Any], found: Mapping[str, str], name: str) -> str:
    value = _cell(cells, found, name)
    return value.strip() if isinstance(value, str) else "" if value is None else str(value)


def _count(cells: Mapping[str, Any], found: Mapping[str, str], name: str, where: str) -> int | None:
    value = _cell(cells, found, name)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, str) else value
        whole = int(number)
    except (TypeError, ValueError, OverflowError):
        whole = -1
        number = 0
    if isinstance(value, bool) or whole != number or not 0 <= whole <= _INT_MAX:
        raise UsageError(f"{where}: column {found[name]!r} ({name}) holds no whole number")
    return whole


def _status(cells: Mapping[str, Any], found: Mapping[str, str]) -> int | None:
    """An HTTP status; a word such as `completed` is none."""
    text = str(_cell(cells, found, "status"))
    return int(text) if text.isascii() and text.isdigit() and len(text) == 3 else None


# -- sums


def _bucket(line: int, cells: Mapping[str, Any], found: Mapping[str, str], width_ms: int | None) -> Bucket:
    where = f"line {line}"
    if "time" not in found:
        raise UsageError("rows are sums, and no column is known to hold their start; say --map COLUMN=time")
    start = parse_time(_cell(cells, found, "time"), where)
    if "end" in found:
        end = parse_time(_cell(cells, found, "end"), where)
    elif width_ms is not None:
        end = start + width_ms
    else:
        raise UsageError("rows are sums without an end; say --map COLUMN=end, or how long each is by --width 1m|1h|1d")
    counts = [_count(cells, found, name, where) for name in ("requests", "input_tokens", "output_tokens")]
    return _checked(Bucket(start, end, _text(cells, found, "model"), *counts), where)


def _checked(bucket: Bucket, where: str) -> Bucket:
    if not bucket.start_ms < bucket.end_ms:
        raise UsageError(f"{where}: a bucket ends before it begins")
    return bucket


def _pages(path: Path) -> list[Bucket]:
    """All buckets of pages of JSON: one page, an array of pages, or a page a line."""
    if path.stat().st_size > PAGES_BYTES_MAX:
        raise UsageError(f"more than {PAGES_BYTES_MAX >> 20} MiB of buckets; ask the provider for fewer at a time")
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        pages = orjson.loads(data)
    except orjson.JSONDecodeError:
        pages = [_json(line, f"line {n}") for n, line in enumerate(io.BytesIO(data), 1) if line.strip()]
    pages = pages if isinstance(pages, list) else [pages]
    if pages and isinstance(pages[-1], dict) and pages[-1].get("has_more"):
        raise UsageError("the last page says that there are more (`has_more`); fetch all pages by `next_page`")
    return _merged(itertools.chain.from_iterable(_page(page, n) for n, page in enumerate(pages, 1)))


def _page(page: Any, number: int) -> Iterator[Bucket]:
    listed = page.get("data") if isinstance(page, dict) else None
    if not isinstance(listed, list):
        raise UsageError(f"page {number}: `data` is missing; give the answers of the usage API as they are")
    for at, bucket in enumerate(listed):
        where = f"page {number}, bucket {at}"
        if not isinstance(bucket, dict) or not isinstance(bucket.get("results"), list):
            raise UsageError(f"{where}: `results` is missing")
        start = parse_time(bucket.get("start_time", bucket.get("starting_at")), where)
        end = parse_time(bucket.get("end_time", bucket.get("ending_at")), where)
        yield _checked(Bucket(start, end, _EMPTY), where)
        for result in bucket["results"]:
            if not isinstance(result, dict):
                raise UsageError(f"{where}: a result is not an object")
            if str(result.get("object", "")).startswith("organization.costs"):
                raise UsageError(f"{where}: costs tell no calls and no tokens; export the usage instead")
            names = _resolve([*result, "time"], {}) if result else {}
            counts = [_count(result, names, name, where) for name in ("requests", "input_tokens", "output_tokens")]
            if counts == [None, None, None]:
                raise UsageError(f"{where}: a result tells neither requests nor tokens")
            yield Bucket(start, end, _text(result, names, "model"), *counts)


_EMPTY = "\x00"  # the model of a bucket that stands for its time span alone: nothing may have been used in it


def _merged(buckets: Iterable[Bucket]) -> list[Bucket]:
    """One bucket for each span and model, in order: results that are split by project, key or tier are summed up.

    A span without results stays, as a bucket of all models with nothing in it. Raises UsageError for spans that overlap.
    """
    sums: dict[tuple[int, int], dict[str, list[int | None]]] = {}
    for bucket in buckets:
        models = sums.setdefault((bucket.start_ms, bucket.end_ms), {})
        if bucket.model == _EMPTY:
            continue
        counts = models.setdefault(bucket.model, [None, None, None])
        for i, more in enumerate(bucket[3:]):
            if more is not None:
                counts[i] = (counts[i] or 0) + int(more)
    spans = sorted(sums)
    for (_, end), (start, _) in itertools.pairwise(spans):
        if start < end:
            raise UsageError("buckets overlap; export one width only (1m, 1h or 1d)")
    return [
        Bucket(*span, model, *counts)
        for span in spans
        for model, counts in sorted((sums[span] or {"": [0, 0, 0]}).items())
    ]
