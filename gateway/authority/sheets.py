"""The files that regulators publish, as rows of cells: CSV in UTF-8 or GB18030, and XLSX.

Everything is bounded before it is unpacked: a spreadsheet is a ZIP file, and a small one can hold a huge one.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.authority.errors import FormError

FILE_BYTES_MAX = 32 << 20  # our choice: the largest published list seen has 2 MB
UNPACKED_BYTES_MAX = 512 << 20  # our choice: XML packs at about 10:1
ROWS_MAX = 200_000
COLUMNS_MAX = 256
CELL_CHARS_MAX = 4096
_CHUNK = 1 << 20

Cell = object  # text, number, date or None, as the file has it


class FilingsError(FormError):
    """A list or snapshot cannot be used. Says where and what to do."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet: its rows from the first, whether filled or not."""

    name: str
    rows: Sequence[Sequence[Cell]]


def read_sheets(data: bytes, *, source: str) -> list[Sheet]:
    """The sheets of a file. Raises FilingsError."""
    if len(data) > FILE_BYTES_MAX:
        raise FilingsError(f"{source}: {len(data):,} bytes; at most {FILE_BYTES_MAX:,} are read")
    if not data.strip():
        raise FilingsError(f"{source}: the file is empty")
    if data.startswith(b"PK\x03\x04"):
        sheets = _xlsx(data, source)
    elif data.startswith(b"\xd0\xcf\x11\xe0"):
        raise FilingsError(f"{source}: an old XLS file, or one with a password; save it as XLSX or CSV")
    else:
        sheets = [_csv(data, source)]
    for sheet in sheets:
        _check_size(sheet, source)
    return sheets


def _check_size(sheet: Sheet, source: str) -> None:
    if len(sheet.rows) > ROWS_MAX:
        raise FilingsError(f"{source}: sheet {sheet.name!r} has more than {ROWS_MAX:,} rows; split the list")
    for number, row in enumerate(sheet.rows, start=1):
        if len(row) > COLUMNS_MAX:
            raise FilingsError(f"{source}: sheet {sheet.name!r}, row {number} has more than {COLUMNS_MAX} columns")
        for index, cell in enumerate(row, start=1):
            if isinstance(cell, str) and len(cell) > CELL_CHARS_MAX:
                where = f"sheet {sheet.name!r}, row {number}, column {index}"
                raise FilingsError(f"{source}: {where}: more than {CELL_CHARS_MAX:,} characters")


def _csv(data: bytes, source: str) -> Sheet:
    text = _decoded(data, source)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            # A quoted cell may hold line breaks: rows are counted as a spreadsheet does.
            rows.append(row)
            if len(rows) > ROWS_MAX:
                break
    except csv.Error as error:
        raise FilingsError(f"{source}: sheet 'csv', row {len(rows) + 1}: {error}; check its quotes") from error
    return Sheet("csv", rows)


def _decoded(data: bytes, source: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4096]:
        raise FilingsError(f"{source}: neither UTF-8 nor GB18030 text; save it as CSV in UTF-8, or as XLSX")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            fault = error
    line = data[: fault.start].count(b"\n") + 1
    raise FilingsError(f"{source}: line {line} is neither UTF-8 nor GB18030 text; save the file as CSV in UTF-8")


def _xlsx(data: bytes, source: str) -> list[Sheet]:
    _bound_zip(data, source)
    try:
        import python_calamine as calamine
    except ImportError as error:
        raise FilingsError(
            f"{source}: XLSX needs the extra `spreadsheets`: pip install 'licet[spreadsheets]'"
        ) from error
    failures = (calamine.CalamineError, OSError, ValueError)
    sheets = []
    try:
        with calamine.load_workbook(io.BytesIO(data)) as book:
            for name in book.sheet_names:
                sheet = book.get_sheet_by_name(name)
                # One more than is accepted, so that the check of sizes sees that there are more.
                found = sheet.to_python(skip_empty_area=False, nrows=ROWS_MAX + 1)
                rows: list[list[Cell]] = [list(row) for row in found]
                for start, end in sheet.merged_cell_ranges or ():
                    _fill(rows, start, end)
                sheets.append(Sheet(name, rows))
    except failures as error:
        raise FilingsError(f"{source}: not a readable XLSX file ({type(error).__name__}); save it again") from error
    return sheets


def _fill(rows: list[list[Cell]], start: tuple[int, int], end: tuple[int, int]) -> None:
    """A merged cell says the same for every row it covers: lists merge the province's column. Not across: titles do that."""
    if start[1] != end[1] or start[0] >= len(rows):
        return
    value = rows[start[0]][start[1]]
    for at in range(start[0] + 1, min(end[0] + 1, len(rows))):
        rows[at][start[1]] = value


def _bound_zip(data: bytes, source: str) -> None:
    """Unpacks every member into nothing, counting: what a member says about its size is not relied on."""
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                # Read until the packed data ends, whatever the header says, or until the count below has seen too much.
                info.file_size = UNPACKED_BYTES_MAX + 2 * _CHUNK
                with archive.open(info) as member:
                    while chunk := member.read(_CHUNK):
                        total += len(chunk)
                        if total > UNPACKED_BYTES_MAX:
                            raise FilingsError(f"{source}: unpacks to more than {UNPACKED_BYTES_MAX:,} bytes")
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise FilingsError(f"{source}: not a readable XLSX file ({type(error).__name__}); save it again") from error
