"""A bucket with object lock: objects that nobody can change or remove before their time, not even who wrote them.

Every object is put with mode COMPLIANCE, a date until which it stays, and its SHA-256, which the store checks. `put_once` names immutable objects: it
asks that none of that name is there (`If-None-Match: *`); one that is there with the same bytes counts as taken, and is locked if it was not;
one with other bytes is an alarm. `put_version` names the few objects that get newer versions; the older ones stay locked. boto3 makes and
signs requests and reads answers; what brings them (`gateway.audit.exchange`) retries nothing, follows no proxy of the environment, verifies TLS, and
waits for no more than TIMEOUT_S in all. An answer without a version id is none of such a bucket's.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import urllib3

from gateway.audit.answer import AnswerError
from gateway.audit.exchange import Exchanges
from gateway.errors import ConfigError
from gateway.settings.audit import S3
from gateway.ship.port import TIMEOUT_S, SinkError

CONNECT_S: Final = 5.0  # our choice
OBJECT_BYTES_MAX: Final = 256 * (65_535 + 2)  # the longest bundle of entries
COMPLIANCE: Final = "COMPLIANCE"
NEEDED: Final = (
    "s3:PutObject, s3:PutObjectRetention, s3:GetObject, s3:GetObjectRetention and s3:GetBucketObjectLockConfiguration"
)
_CODE: Final = re.compile(r"[A-Za-z0-9.]{1,60}")
_T = TypeVar("_T")


class DifferentError(SinkError):
    """There is an object of that name with other bytes."""


class Bucket:
    """For one thread at a time."""

    def __init__(
        self, s3: S3, *, now: Callable[[], datetime.datetime] | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        """`timeout_s`: of one request in all. Raises ConfigError; connects to nothing."""
        _demand(s3)
        try:
            import boto3
            from botocore.awsrequest import AWSResponse
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
            from botocore.httpsession import get_cert_path
        except ModuleNotFoundError:
            raise ConfigError("telemetry.s3: boto3 is not installed; run `pip install 'licet[s3]'`") from None
        self._name = s3.bucket
        self._retain = datetime.timedelta(seconds=s3.retain_s)
        self._now = now or (lambda: datetime.datetime.now(datetime.UTC))
        self._client_error, self._any_error, self._answer = ClientError, BotoCoreError, AWSResponse
        host = urlsplit(s3.endpoint).hostname or ""
        amazon = host == "amazonaws.com" or host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
        try:
            session = boto3.session.Session(
                aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key, region_name=s3.region
            )
            self._client = session.client(
                "s3",
                endpoint_url=s3.endpoint,
                config=Config(
                    signature_version="s3v4",
                    s3={"addressing_style": "virtual" if amazon else "path"},
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    proxies={},
                ),
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigError(f"telemetry.s3: cannot be used: {type(error).__name__}") from None
        ca_file = str(s3.ca_file) if s3.ca_file is not None else str(get_cert_path(True))
        self._exchanges = Exchanges(timeout_s=timeout_s, connect_s=CONNECT_S, ca_file=ca_file)
        self._client.meta.events.register("before-send.s3", self._bring)

    def check(self) -> None:
        """That objects can be locked here. Raises SinkError with the remedy."""
        missing = (
            f"bucket {self._name} has no object lock, so nothing is put there; make a new one with it "
            f"(aws s3api create-bucket --object-lock-enabled-for-bucket), for it should be there from the start"
        )
        try:
            answer = self._ask(self._client.get_object_lock_configuration)
        except self._client_error as error:
            if _code(error) == "ObjectLockConfigurationNotFoundError":
                raise SinkError(missing) from None
            raise self._refused(error, "its object lock cannot be read") from None
        if answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
            raise SinkError(missing)

    def put_once(self, key: str, data: bytes) -> None:
        """Raises SinkError; DifferentError."""
        try:
            self._put(key, data, IfNoneMatch="*")
        except self._client_error as error:
            if _status(error) != 412:
                raise self._refused(error, f"it did not take {key}") from None
        else:
            return
        self._must_equal(key, data)

    def put_version(self, key: str, data: bytes) -> None:
        """Raises SinkError."""
        try:
            self._put(key, data)
        except self._client_error as error:
            raise self._refused(error, f"it did not take {key}") from None

    def get(self, key: str, version: str | None = None) -> bytes:
        """Raises SinkError where it is not there, cannot be read or has more bytes than any object of ours."""
        which = {"VersionId": version} if version else {}
        try:
            body = self._ask(self._client.get_object, Key=key, **which)["Body"]
        except self._client_error as error:
            raise self._refused(error, f"{key} cannot be read") from None
        with contextlib.closing(body), self._reading():
            data: bytes = body.read(OBJECT_BYTES_MAX + 1)
        if len(data) > OBJECT_BYTES_MAX:
            raise SinkError(f"bucket {self._name}: {key} has more bytes than any object of this log")
        return data

    def versions(self, prefix: str) -> Iterator[tuple[str, list[str], bool]]:
        """(key, ids of its versions, oldest first, whether somebody marked it as deleted), by key. Raises SinkError."""
        key, ids, marked = "", list[str](), False
        for one, is_marker in self._listed(prefix):
            if one["Key"] != key:
                if ids or marked:
                    yield key, ids[::-1], marked
                key, ids, marked = one["Key"], [], False
            if is_marker:
                marked = True
            else:
                ids.append(one["VersionId"])
        if ids or marked:
            yield key, ids[::-1], marked

    def _listed(self, prefix: str) -> Iterator[tuple[dict[str, Any], bool]]:
        place: dict[str, str] = {}
        while True:
            try:
                page = self._ask(self._client.list_object_versions, Prefix=prefix, **place)
            except self._client_error as error:
                raise self._refused(error, "its objects cannot be listed") from None
            both = [(one, False) for one in page.get("Versions", ())]
            both += [(one, True) for one in page.get("DeleteMarkers", ())]
            both.sort(key=lambda one: one[0]["Key"])  # stable: the store lists newest versions first
            yield from both
            if not page.get("IsTruncated"):
                return
            place = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()
        self._exchanges.close()

    def _bring(self, request: Any, **_: object) -> Any:
        """Takes the place of boto3's own connections, which bound each wait for bytes and not their sum. Raises SinkError."""
        try:
            came = self._exchanges.ask(
                request.method, request.url, headers=request.headers, body=request.body, bytes_max=OBJECT_BYTES_MAX + 1
            )
        except AnswerError as error:
            raise SinkError(f"bucket {self._name} {error}") from None
        except urllib3.exceptions.HTTPError as error:  # its text may hold more than is ours to show
            raise SinkError(f"bucket {self._name} cannot be reached: {type(error).__name__}") from None
        raw = urllib3.HTTPResponse(io.BytesIO(came.data), preload_content=False)
        return self._answer(request.url, came.status, came.headers, raw)

    def _put(self, key: str, data: bytes, **condition: str) -> None:
        digest = _sha256(data)
        answer = self._ask(
            self._client.put_object,
            Key=key,
            Body=data,
            ContentType="application/octet-stream",
            ContentMD5=base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),  # older stores ask for it
            ChecksumSHA256=digest,
            ObjectLockMode=COMPLIANCE,
            ObjectLockRetainUntilDate=self._now() + self._retain,
            **condition,
        )  # fmt: skip
        if not answer.get("VersionId") or answer.get("ChecksumSHA256", digest) != digest:
            raise SinkError(f"bucket {self._name} answered as no bucket with object lock does; is a proxy before it?")

    def _must_equal(self, key: str, data: bytes) -> None:
        try:
            there = self._ask(self._client.head_object, Key=key, ChecksumMode="ENABLED")
            checksum = there.get("ChecksumSHA256", "")
            if "-" in checksum or not checksum:  # of parts, or of none
                checksum = _sha256(self.get(key))
            if checksum != _sha256(data):
                raise DifferentError(
                    f"ALARM: bucket {self._name} has another {key} than the log: one of them was changed"
                )
            if there.get("ObjectLockMode") != COMPLIANCE:
                until = {"Mode": COMPLIANCE, "RetainUntilDate": self._now() + self._retain}
                self._ask(self._client.put_object_retention, Key=key, Retention=until)
        except self._client_error as error:
            raise self._refused(error, f"{key} is there and cannot be compared") from None

    def _ask(self, call: Callable[..., _T], **arguments: Any) -> Any:
        with self._reading():
            return call(Bucket=self._name, **arguments)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except self._any_error as error:  # its text may hold more than is ours to show
            raise SinkError(f"bucket {self._name} cannot be reached: {type(error).__name__}") from None

    def _refused(self, error: Any, what: str) -> SinkError:
        code = _code(error)
        remedy = f"; the access key needs {NEEDED}" if code in ("AccessDenied", "403") else ""
        after = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after", "")
        after_s = float(after[:9]) if after.isascii() and after.isdigit() else None
        return SinkError(f"bucket {self._name}: {what}: {code}{remedy}", after_s=after_s)


def _demand(s3: S3) -> None:
    parts = urlsplit(s3.endpoint)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ConfigError("telemetry.s3.endpoint: give an https:// address; http:// only on this host")
    for name in ("bucket", "region", "access_key", "secret_key"):
        if not getattr(s3, name):
            raise ConfigError(f"telemetry.s3.{name}: missing")
    if s3.retain_s <= 0:
        raise ConfigError("telemetry.s3.retain: for how long objects are locked must be more than nothing")
    if s3.prefix.startswith("/") or "//" in s3.prefix or (s3.prefix and not s3.prefix.endswith("/")):
        raise ConfigError("telemetry.s3.prefix: begin without a slash and end with one, as in `licet/`")
    if s3.ca_file is not None and not s3.ca_file.is_file():
        raise ConfigError(f"telemetry.s3.ca_file: {s3.ca_file} is not there")


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _code(error: Any) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if _CODE.fullmatch(code) else f"status {_status(error)}"


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
