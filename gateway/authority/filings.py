"""What regulators publish about filings, brought in: a list (CSV or XLSX) becomes a dated snapshot, and licenses are
attested against its rows.

A snapshot says which list it is, when it was captured, the SHA-256 of the file it was read from, which column was taken
for what, and every row as it stood. An attested license carries the digest of the snapshot, so that anyone who has the
list can look the row up. The shape of a number only warns: what counts is that the list holds it.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from gateway.authority.sheets import FilingsError, Sheet, read_sheets
from gateway.license.issuer import build_claims
from gateway.license.record import Date, Digest, Short

SNAPSHOT_BYTES_MAX = 256 << 20  # our choice: a list of 100,000 rows has about 30 MB
HEADER_WITHIN_ROWS = 20  # our choice: titles and notes above the header are a few lines
PROBLEMS_MAX = 20  # told at once

# How published lists head their columns, in the order of preference. Seen in lists of the Cyberspace Administration of
# China and of provinces, and in translations of them; `columns` overrides the guess.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "no": (
        "备案号",
        "备案编号",
        "上线编号",
        "登记编号",
        "登记号",
        "编号",
        "filing number",
        "filing no",
        "registration number",
        "registration no",
        "record number",
        "number",
        "no",
    ),
    "model": (
        "模型名称",
        "大模型名称",
        "模型名",
        "应用名称",
        "产品名称",
        "服务名称",
        "算法名称",
        "model",
        "model name",
        "application",
        "product",
        "algorithm",
    ),
    "holder": (
        "备案单位",
        "登记单位",
        "备案主体",
        "主体名称",
        "单位名称",
        "公司名称",
        "开发者",
        "holder",
        "company",
        "provider",
        "entity",
    ),
    "province": ("属地", "省份", "所在地", "地区", "province", "region", "location"),
    "date": (
        "备案时间",
        "备案日期",
        "登记时间",
        "登记日期",
        "上线时间",
        "公布时间",
        "date",
        "filing date",
        "filed at",
        "filing time",
    ),
    "serial": ("序号", "serial", "serial number", "#"),
}
_MODEL_FILING = re.compile(r"[A-Z][A-Za-z]+-[A-Z][A-Za-z0-9]*-\d{8}")  # as in Beijing-YunQue-20230821
_ALGORITHM_FILING = re.compile(r"网信算备\d{21}号")
_DATE = re.compile(r"(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})\s*日?(?:[ T].*)?|(\d{4})(\d\d)(\d\d)")


class Row(msgspec.Struct, frozen=True):
    """One row: where it stood, and its cells by heading."""

    row: Annotated[int, msgspec.Meta(ge=1)]  # as a spreadsheet counts
    cells: dict[str, str]


class Snapshot(msgspec.Struct, frozen=True):
    """A published list as it stood on a day."""

    list_name: Short
    captured_at: Date
    source_name: str
    source_digest: Digest  # of the file it was read from
    sheet: str
    header_row: int
    columns: dict[str, str]  # field -> heading
    rows: tuple[Row, ...]
    schema: str = "list-snapshot.v1"

    def value(self, row: Row, name: str) -> str:
        """A row's value of a known field; "" when the list has none."""
        heading = self.columns.get(name)
        return row.cells.get(heading, "") if heading is not None else ""

    def find(self, no: str) -> list[Row]:
        """The rows of a number, written with any width and blanks."""
        wanted = plain(no)
        return [row for row in self.rows if plain(self.value(row, "no")) == wanted]


@dataclass(frozen=True, slots=True)
class Change:
    """A row that reads otherwise than before: heading -> (before, after)."""

    no: str
    row: int
    cells: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """What happened between two snapshots, by number."""

    appeared: tuple[Row, ...]
    vanished: tuple[Row, ...]
    changed: tuple[Change, ...]


def read_list(
    data: bytes,
    *,
    source: str,
    list_name: str,
    captured_at: str,
    columns: Mapping[str, str] | None = None,
    sheet: str | None = None,
    header_row: int | None = None,
) -> tuple[Snapshot, list[str]]:
    """A snapshot of a published list, and warnings. `columns` (field -> heading) overrides what is guessed.

    Raises FilingsError that names sheet, row and column.
    """
    captured = iso_date(captured_at)
    if captured is None:
        raise FilingsError(f"captured: {captured_at!r} is not a date; write it as 2026-11-22")
    if not 1 <= len(list_name) <= 512:
        raise FilingsError("list: give the list's name, up to 512 characters")
    wrong = sorted(set(columns or ()) - set(FIELDS))
    if wrong:
        raise FilingsError(f"columns: {wrong[0]!r} is not a field; the fields are {', '.join(FIELDS)}")
    sheets = read_sheets(data, source=source)
    chosen, at, found = _header(sheets, columns or {}, sheet, header_row, source)
    headings = _unique([_text(cell) for cell in chosen.rows[at]])
    rows, problems, warnings = _rows(chosen, at, found, headings)
    if problems:
        more = [f"and {len(problems) - PROBLEMS_MAX} more"] if len(problems) > PROBLEMS_MAX else []
        raise FilingsError("\n".join([f"{source}: {p}" for p in problems[:PROBLEMS_MAX]] + more))
    if not rows:
        raise FilingsError(f"{source}: sheet {chosen.name!r} has no row below its header in row {at + 1}")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    mapping = {name: headings[index] for name, index in found.items()}
    snapshot = Snapshot(list_name, captured, source, digest, chosen.name, at + 1, mapping, tuple(rows))
    twice = sorted(no for no, group in _by_number(snapshot).items() if len(group) > 1)
    warnings += [f"the number {no!r} stands in more than one row" for no in twice[:PROBLEMS_MAX]]
    return snapshot, warnings


def encode(snapshot: Snapshot) -> bytes:
    """The snapshot's file. The same snapshot makes the same bytes."""
    return msgspec.json.format(msgspec.json.encode(snapshot, order="sorted"), indent=1) + b"\n"


def digest_of(snapshot: Snapshot) -> str:
    """What licenses refer to: SHA-256 of the snapshot's file."""
    return f"sha256:{hashlib.sha256(encode(snapshot)).hexdigest()}"


def load_snapshot(data: bytes, *, source: str) -> Snapshot:
    """A snapshot from its file. Raises FilingsError, also when the file was changed by hand in a way that shows."""
    if len(data) > SNAPSHOT_BYTES_MAX:
        raise FilingsError(f"{source}: {len(data):,} bytes; at most {SNAPSHOT_BYTES_MAX:,} are read")
    try:
        snapshot = msgspec.json.decode(data, type=Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FilingsError(f"{source}: {error}; make it with `licet authority import-filings`") from error
    if snapshot.schema != "list-snapshot.v1":
        raise FilingsError(f"{source}: schema: {snapshot.schema[:40]!r} is not list-snapshot.v1")
    if "no" not in snapshot.columns:
        raise FilingsError(f"{source}: columns: no column is named for `no`")
    return snapshot


def diff(before: Snapshot, after: Snapshot) -> Difference:
    """What vanished, appeared or changed. Rows are known by their number; their place and serial number do not count."""
    old = _keyed(before)
    new = _keyed(after)
    changed = []
    for key in old.keys() & new.keys():
        one, two = _comparable(before, old[key]), _comparable(after, new[key])
        cells = {name: (one.get(name, ""), two.get(name, "")) for name in sorted(one.keys() | two.keys())}
        cells = {name: pair for name, pair in cells.items() if pair[0] != pair[1]}
        if cells:
            changed.append(Change(after.value(new[key], "no"), new[key].row, cells))
    return Difference(
        appeared=tuple(row for key, row in new.items() if key not in old),
        vanished=tuple(row for key, row in old.items() if key not in new),
        changed=tuple(sorted(changed, key=lambda change: change.row)),
    )


def row_of(snapshot: Snapshot, no: str, row: int | None = None) -> Row:
    """The one row of a number. Raises FilingsError when there is none, or several and `row` does not say which."""
    found = [one for one in snapshot.find(no) if row is None or one.row == row]
    if not found:
        where = f"{snapshot.list_name} of {snapshot.captured_at}"
        raise FilingsError(f"row: {no!r} is not in {where}; look it up there, or import a newer list")
    if len(found) > 1:
        places = ", ".join(str(one.row) for one in found[:10])
        raise FilingsError(f"row: {no!r} stands in the rows {places}; say which with --list-row")
    return found[0]


def filing_terms(snapshot: Snapshot, row: Row) -> dict[str, Any]:
    """The groups of a license record that a row vouches for: `filing`, `holder`, `system`, `regime`."""
    no = snapshot.value(row, "no")
    filing = {
        "no": no,
        "province": snapshot.value(row, "province"),
        "list_name": snapshot.list_name,
        "list_row": f"{snapshot.sheet}!{row.row}",
        "list_snapshot_digest": digest_of(snapshot),
        "captured_at": snapshot.captured_at,
        "filed_at": iso_date(snapshot.value(row, "date")) or "",
        "algo_no": no if _ALGORITHM_FILING.fullmatch(plain(no)) else "",
    }
    terms: dict[str, Any] = {"filing": {name: value for name, value in filing.items() if value}}
    if holder := snapshot.value(row, "holder"):
        terms["holder"] = {"legal_name": holder}
    if model := snapshot.value(row, "model"):
        terms["system"] = {"trade_name": model}
    if _ALGORITHM_FILING.fullmatch(plain(no)):
        terms["regime"] = "cn-algo"
    elif _MODEL_FILING.fullmatch(plain(no)):
        terms["regime"] = "cn-beian"
    return terms


def attest(
    snapshot: Snapshot,
    no: str,
    *,
    issuer: str,
    model: str,
    origins: Sequence[str],
    served: Sequence[str],
    jurisdictions: Sequence[str],
    purposes: Sequence[str],
    modalities: Sequence[str],
    not_before_s: int,
    expires_s: int,
    issued_s: int,
    public: bool = False,
    regime: str | None = None,
    region: str | None = None,
    status: tuple[str, int] | None = None,
    row: int | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Claims of an attested license for the row of a number, and warnings. Raises FilingsError.

    What is attested: that the list held this row on that day. Scope and endpoint are the attestor's own word. `status` is
    the URI of the attestor's status list and the index in it: rows vanish, and what was attested has to end with them.
    """
    found = row_of(snapshot, no, row)
    claims = build_claims(
        issuer=issuer,
        model=model,
        origins=origins,
        served=served,
        jurisdictions=jurisdictions,
        purposes=purposes,
        modalities=modalities,
        not_before_s=not_before_s,
        expires_s=expires_s,
        issued_s=issued_s,
        public=public,
        status=status,
    )
    if region:
        claims["license"]["endpoint"]["region"] = region.lower()
    terms = {"trust_level": "attested", "issuer": {"type": "attestor"}} | filing_terms(snapshot, found)
    if regime:
        terms["regime"] = regime
    claims["license"] |= terms
    warning = shape_warning(no)
    return claims, [warning] if warning else []


def shape_warning(no: str) -> str | None:
    """What is odd about a number, or None."""
    text = plain(no)
    if _ALGORITHM_FILING.fullmatch(text):
        return None
    if _MODEL_FILING.fullmatch(text):
        return None if iso_date(text[-8:]) else f"{no[:60]!r} ends with a date that does not exist"
    return f"{no[:60]!r} has neither shape known: Province-PinyinName-YYYYMMDD, or 网信算备, 21 digits and 号"


def iso_date(text: str) -> str | None:
    """A date as lists write it (2024年3月28日, 2024/3/28, 20240328), in ISO 8601; None if it is none."""
    found = _DATE.fullmatch(unicodedata.normalize("NFKC", text).strip())
    if not found:
        return None
    try:
        return datetime.date(*(int(part) for part in found.groups() if part is not None)).isoformat()
    except ValueError:
        return None


def plain(text: str) -> str:
    """A number without what typing adds: full-width forms, blanks, long dashes."""
    folded = unicodedata.normalize("NFKC", text).translate(_DASHES)
    return "".join(folded.split())


_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−－"), "-")


def _key(heading: str) -> str:
    """A heading as it is compared: lower case, one blank, without what stands in brackets, dots or colons."""
    folded = unicodedata.normalize("NFKC", heading).casefold().replace("_", " ")
    return " ".join(re.sub(r"\([^)]*\)|[.:*]", " ", folded).split())


def _header(
    sheets: Sequence[Sheet], columns: Mapping[str, str], name: str | None, row: int | None, source: str
) -> tuple[Sheet, int, dict[str, int]]:
    """The sheet, the index of its header row, and the index of each field's column."""
    wanted = [sheet for sheet in sheets if name is None or sheet.name == name]
    if not wanted:
        raise FilingsError(
            f"{source}: no sheet is named {name!r}; there are: {', '.join(s.name for s in sheets)[:300]}"
        )
    for sheet in wanted:
        places = range(min(HEADER_WITHIN_ROWS, len(sheet.rows))) if row is None else [row - 1]
        for at in places:
            if not 0 <= at < len(sheet.rows):
                continue
            found = _columns([_text(cell) for cell in sheet.rows[at]], columns)
            if "no" in found and (len(found) > 1 or row is not None or "no" in columns):
                return sheet, at, found
    if columns:
        for sheet in wanted:
            if row is not None and 0 < row <= len(sheet.rows):
                headings = [_text(cell) for cell in sheet.rows[row - 1]]
                missing = [h for h in columns.values() if _key(h) not in map(_key, headings)]
                if missing:
                    raise FilingsError(f"{source}: sheet {sheet.name!r}, row {row}: no column is headed {missing[0]!r}")
    where = f"row {row}" if row is not None else f"the first {HEADER_WITHIN_ROWS} rows"
    remedy = "name the columns (--column no=HEADING) and the row (--header-row N)"
    raise FilingsError(
        f"{source}: sheet {wanted[0].name!r}: {where} has no header with a number column such as 备案号; {remedy}"
    )


def _rows(
    sheet: Sheet, at: int, found: Mapping[str, int], headings: Sequence[str]
) -> tuple[list[Row], list[str], list[str]]:
    """The rows below the header, what makes the list unusable, and what is only odd."""
    by_index = {index: name for name, index in found.items()}
    rows: list[Row] = []
    problems: list[str] = []
    warnings: list[str] = []
    for number, cells in enumerate(sheet.rows[at + 1 :], start=at + 2):
        texts = []
        for index, cell in enumerate(cells):
            if isinstance(cell, float) and abs(cell) >= 2**53:
                where = f"sheet {sheet.name!r}, row {number}, column {_heading(headings, index)!r}"
                problems.append(f"{where}: the number has lost its last digits; format the column as text")
            texts.append(_text(cell))
        filled = {_heading(headings, index): text for index, text in enumerate(texts) if text}
        if not filled:
            continue
        no = texts[found["no"]] if found["no"] < len(texts) else ""
        where = f"sheet {sheet.name!r}, row {number}"
        if not no and len(filled) == 1:
            warnings.append(f"{where}: taken for a note, not a row: {next(iter(filled.values()))[:60]}")
            continue
        if not no:
            problems.append(f"{where}, column {headings[found['no']]!r}: empty; each row needs its number")
        for index, text in enumerate(texts):
            if text and by_index.get(index) == "date" and iso_date(text) is None:
                warnings.append(f"{where}, column {headings[index]!r}: {text[:40]!r} is not a date; kept as it is")
        shape = shape_warning(no) if no else None
        if shape:
            warnings.append(f"{where}, column {headings[found['no']]!r}: {shape}")
        rows.append(Row(number, filled))
    return rows, problems, warnings


def _columns(headings: Sequence[str], override: Mapping[str, str]) -> dict[str, int]:
    keys = [_key(heading) for heading in headings]
    found: dict[str, int] = {}
    for name, known in FIELDS.items():
        for candidate in [override[name]] if name in override else known:
            if _key(candidate) in keys and keys.index(_key(candidate)) not in found.values():
                found[name] = keys.index(_key(candidate))
                break
        else:
            if name in override:
                return {}  # what was asked for is not here: another row, or nothing
    return found


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(sep=" ")
    if isinstance(cell, datetime.date):
        return cell.isoformat()
    return " ".join(str(cell).split())


def _heading(headings: Sequence[str], index: int) -> str:
    return headings[index] if index < len(headings) else f"column {index + 1}"


def _unique(headings: Sequence[str]) -> list[str]:
    """Each heading once: an empty one gets its place, a second one a number."""
    made: list[str] = []
    for index, heading in enumerate(headings):
        name = heading or f"column {index + 1}"
        count = 2
        while name in made:
            name = f"{heading or f'column {index + 1}'} ({count})"
            count += 1
        made.append(name)
    return made


def _by_number(snapshot: Snapshot) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in snapshot.rows:
        groups.setdefault(plain(snapshot.value(row, "no")), []).append(row)
    return groups


def _keyed(snapshot: Snapshot) -> dict[tuple[str, int], Row]:
    """Rows by number and by which of that number's rows it is."""
    groups = _by_number(snapshot)
    return {(no, place): row for no, group in groups.items() for place, row in enumerate(group)}


def _comparable(snapshot: Snapshot, row: Row) -> dict[str, str]:
    """A row's cells, known fields by their field, so that a renamed heading is no change."""
    fields = {heading: name for name, heading in snapshot.columns.items()}
    return {
        fields.get(heading, heading): text for heading, text in row.cells.items() if fields.get(heading) != "serial"
    }
