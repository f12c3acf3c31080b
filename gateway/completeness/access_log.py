"""Access logs of the endpoint, or of a proxy before it: which requests reached it, by id and time.

Read are the common and combined formats of Apache and nginx with an id anywhere behind (nginx: `$request_id`, or an id that the
upstream gave by `$upstream_http_x_request_id`), and Envoy's default format. JSON lines of either are read as `jsonl`. A line counts if it is
a POST to a path on which models answer; all others are passed over.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

from gateway.completeness.usage import LINE_BYTES_MAX, Row, UsageError, parse_time

# What ends a path on which models answer: OpenAI's and Anthropic's, whatever stands before.
PATHS = ("/chat/completions", "/completions", "/embeddings", "/messages", "/responses")

# host ident user [10/Oct/2000:13:55:36 -0700] "POST /v1/x HTTP/1.1" 200 2326 ...
_COMMON = re.compile(r'\S+ \S+ .*?\[([^\]]{20,32})\] "([A-Z]+) (\S+)[^"]*" (\d{3}) (?:\d+|-)(.*)', re.ASCII)
# [2016-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" 204 - ...
_ENVOY = re.compile(r'\[(\d{4}-\d\d-\d\dT[^\]]+)\] "([A-Z]+) (\S+)[^"]*" (\d{1,3}) (.*)', re.ASCII)
_NAMED = re.compile(r'\b(?:x[-_])?req(?:uest)?[-_]?id["\']?\s*[=:]\s*["\']?([A-Za-z0-9._:-]{8,200})', re.IGNORECASE)
# An id on its own: nginx's 32 hex digits, a UUID, or one as providers write them.
_BARE = re.compile(
    r"(?<![\w-])(req_[A-Za-z0-9]{8,64}|[0-9a-f]{32}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})(?![\w-])"
)


def is_access_log(head: bytes) -> bool:
    """Whether the first line looks like one."""
    line = head.split(b"\n", 1)[0].decode("utf-8", "replace")
    return bool(_COMMON.match(line) or _ENVOY.match(line))


def read_access_log(path: Path) -> Iterator[Row]:
    """The calls in it. Raises UsageError for a line that is of neither format, OSError."""
    with path.open("rb") as file:
        number = 0
        while data := file.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(data) > LINE_BYTES_MAX:
                raise UsageError(f"line {number}: more than {LINE_BYTES_MAX:,} bytes")
            row = _row(number, data.decode("utf-8", "replace").rstrip("\r\n"))
            if row is not None:
                yield row


def _row(number: int, line: str) -> Row | None:
    if not line:
        return None
    found = _ENVOY.match(line) or _COMMON.match(line)
    if found is None:
        raise UsageError(f"line {number}: neither the common log format nor Envoy's; JSON lines are read as jsonl")
    at, method, target, status, rest = found.groups()
    if method != "POST" or not target.split("?", 1)[0].rstrip("/").endswith(PATHS):
        return None
    named = _NAMED.search(rest) or _BARE.search(rest)
    return Row(number, _time_ms(at, number), request_id=named[1] if named else "", status=int(status))


def _time_ms(text: str, number: int) -> int:
    try:
        return int(datetime.datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z").timestamp() * 1000)
    except ValueError:
        return parse_time(text, f"line {number}")
