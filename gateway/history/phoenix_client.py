"""Asking an Arize Phoenix what it has: pages of spans by REST, counts by GraphQL. Checked against 20.26.1.

Traps that this file knows: `attribute=k:17` matches numbers and `k:"17"` texts, and a wrong kind matches nothing without an error; what is inside a list
matches never; answers come from what is stored, some 70 spans a second behind what was accepted; a redirect or a page of HTML is no answer.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson
import urllib3

from gateway.audit.answer import AnswerError, read_answer
from gateway.history.attributes import SEQ, STREAM, Scalar
from gateway.settings.audit import Otlp
from gateway.tlog.frames import STREAM_NAME

PAGE: Final = 1000  # the most that Phoenix gives
ANSWER_BYTES_MAX: Final = 64 << 20  # our choice: a page of largest spans
TIMEOUT_S: Final = 30.0  # our choice, for each wait: it counts some million spans in less
ANSWER_S_MAX: Final = 120.0  # our choice, for a whole answer: 64 MB at 5 Mbit/s
_VERSION_PATH: Final = "/arize_phoenix_version"
_COUNT: Final = "query($name: String!, $filter: String!) { getProjectByName(name: $name) { recordCount(filterCondition: $filter) } }"


class PhoenixError(Exception):
    """It does not answer, or not as it should. Without its text."""


class Phoenix:
    """One project of one server. For one thread at a time."""

    def __init__(
        self, endpoint: str, project: str, *, headers: Sequence[tuple[str, str]] = (), ca_file: Path | None = None
    ) -> None:
        parts = urlsplit(endpoint)
        self._base = endpoint.rstrip("/")
        self._where = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        self._project = project
        self._headers = {**dict(headers), "Accept": "application/json", "User-Agent": "licet"}
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            retries=False,
            timeout=urllib3.Timeout(connect=5.0, read=TIMEOUT_S),
            cert_reqs="CERT_REQUIRED",
            ca_certs=str(ca_file) if ca_file is not None else None,
        )

    def is_phoenix(self) -> bool:
        """Whether the server says that it is one. Raises PhoenixError where nobody answers."""
        status, _, data = self._request("GET", _VERSION_PATH)
        return status == 200 and len(data) < 64 and data[:1].isdigit()

    def count(self, stream: str, start: int, stop: int) -> int:
        """Distinct spans of a stream whose number is in [start, stop). Raises PhoenixError."""
        if not STREAM_NAME.fullmatch(stream):
            raise ValueError(f"{stream} is no name of a stream")
        seq, name = _path(SEQ), _path(STREAM)
        condition = f"{name} == '{stream}' and {seq} >= {int(start)} and {seq} < {int(stop)}"
        body = json.dumps({"query": _COUNT, "variables": {"name": self._project, "filter": condition}}).encode()
        answer = self._json("POST", "/graphql", body)
        try:
            project = answer["data"]["getProjectByName"]
            return 0 if project is None else int(project["recordCount"])
        except (KeyError, TypeError, ValueError):
            raise PhoenixError(f"{self._where} does not count as expected; is it Phoenix 20?") from None

    def spans(
        self, attributes: Mapping[str, Scalar], *, since_ms: int | None, until_ms: int | None
    ) -> Iterator[dict[str, Scalar]]:
        """Attributes of each span that has these, by time. Raises PhoenixError."""
        asked: list[tuple[str, str]] = [("limit", str(PAGE)), ("sort", "start_time"), ("order", "asc")]
        asked += [("attribute", f"{name}:{json.dumps(value)}") for name, value in attributes.items()]
        asked += [(name, _iso(ms)) for name, ms in (("start_time", since_ms), ("end_time", until_ms)) if ms is not None]
        cursor: str | None = None
        while True:
            before = cursor
            query = urlencode([*asked, *([("cursor", cursor)] if cursor else [])])
            path = f"/v1/projects/{quote(self._project, safe='')}/spans?{query}"
            answer = self._json("GET", path, missing={"data": [], "next_cursor": None})
            try:
                for span in answer["data"]:
                    yield span["attributes"]
                cursor = answer["next_cursor"]
            except (KeyError, TypeError):
                raise PhoenixError(f"{self._where} lists spans in another form; is it Phoenix 20?") from None
            if not cursor:
                return
            if cursor == before:
                raise PhoenixError(f"{self._where} lists one page of spans again and again")

    def close(self) -> None:
        """Let go of connections."""
        self._pool.clear()

    def _json(self, method: str, path: str, body: bytes | None = None, *, missing: Any = None) -> Any:
        status, kind, data = self._request(method, path, body)
        if status == 404 and missing is not None:
            return missing  # a project is made with its first span
        if status != 200 or kind != "application/json":
            raise PhoenixError(f"{self._where} answered {status} with {kind[:40] or 'no type'}")
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            raise PhoenixError(f"{self._where} answered with what is no JSON") from None

    def _request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        try:
            response = self._pool.request(
                method,
                self._base + path,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
            )
            data = read_answer(response, ANSWER_BYTES_MAX, ANSWER_S_MAX)
        except AnswerError as error:
            raise PhoenixError(f"{self._where} {error}") from None
        except urllib3.exceptions.HTTPError as error:
            raise PhoenixError(f"{self._where} cannot be reached: {type(error).__name__}") from None
        return response.status, response.headers.get("Content-Type", "").partition(";")[0].strip().lower(), data


def _path(attribute: str) -> str:
    return "attributes" + "".join(f"['{part}']" for part in attribute.split("."))


def _iso(ms: int) -> str:
    """RFC 3339, to the millisecond; Phoenix knows years 1 to 9999."""
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    limit = 253_402_300_799_999  # the end of 9999
    return (epoch + datetime.timedelta(milliseconds=min(max(ms, 0), limit))).isoformat(timespec="milliseconds")


def phoenix_of(otlp: Otlp) -> Phoenix:
    """The project that spans go to, as the settings name it."""
    return Phoenix(otlp.endpoint, otlp.project, headers=otlp.headers, ca_file=otlp.ca_file)
