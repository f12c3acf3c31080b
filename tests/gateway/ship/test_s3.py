"""A bucket with object lock, by a real server: what is put there stays, and a download of it is verified without the gateway."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gateway.audit.sealed import SealedError, SealedHead, log_dir, sealed_head, sealed_records, sealed_streams
from gateway.errors import ConfigError
from gateway.settings.audit import S3, Telemetry
from gateway.ship.bucket import Bucket
from gateway.ship.cursor import SHIP_NAME
from gateway.ship.port import Batch, SinkError
from gateway.ship.process import ShipperProcess, Work
from gateway.ship.runner import Runner
from gateway.ship.s3 import S3Sink, files_of
from gateway.ship.s3_fetch import fetch, fetch_command
from gateway.tlog import cli as verifier
from gateway.tlog import tiles
from gateway.tlog.note import parse_key
from gateway.tlog.verify import Report, Trust, check, kept_head
from tests.fakes.drip import Drip
from tests.fakes.tiles import tiles_of
from tests.gateway.history.made import History, history
from tests.gateway.ship.s3_server import ACCESS, SECRET, ObjectStore
from tests.gateway.ship.sealed_log import SOON, make
from tests.gateway.ship.test_process import behind, wait

slow = pytest.mark.slow
PREFIX = "trail/gw/"
CONFIG = """\
listen: {{host: 127.0.0.1, port: 8080, workers: 1}}
callers: [{{name: app, key_sha256: {key}, models: [chat]}}]
trust: {{keys: trust.json}}
models:
  - name: chat
    license: chat.jws
    policy: chat.yaml
    targets: [{{protocol: openai, base_url: "https://api.example.com/v1/", api_key: k, model: m}}]
telemetry:
  s3:
    endpoint: {s3.endpoint}
    bucket: {s3.bucket}
    access_key: {s3.access_key}
    secret_key: {s3.secret_key}
    prefix: {s3.prefix}
    ca_file: {s3.ca_file}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    made = ObjectStore(tmp_path_factory.mktemp("store"))
    yield made
    made.kill()


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make(tmp_path_factory.mktemp("sealed") / "data", calls=200)


def runner_of(data: Path, s3: S3) -> Runner:
    """One that has brought nothing yet."""
    shutil.rmtree(data / SHIP_NAME, ignore_errors=True)
    return Runner(data, S3Sink(Bucket(s3), data, s3.prefix), backoff=SOON)


def brought(data: Path, s3: S3) -> None:
    runner = runner_of(data, s3)
    assert runner.drain(30), runner.place().problem
    runner.sink.close()


def fetched(s3: S3, to: Path) -> list[str]:
    bucket = Bucket(s3)
    found = fetch(bucket, s3.prefix, to)
    bucket.close()
    return found.remarks


def verified(data: Path, folder: Path) -> Report:
    keys = tuple(parse_key(line) for line in (log_dir(data) / "vkeys").read_text().split())
    return check([folder], Trust(keys))


def batch_of(data: Path, stream: str, start: int, stop: int) -> Batch:
    payloads = tuple(p for _, p in sealed_records(data, stream, start, stop))
    return Batch(stream, start, payloads, sealed_head(data, stream))


def longest(data: Path) -> SealedHead:
    return max((sealed_head(data, s) for s in sealed_streams(data)), key=lambda head: head.size)


def versions(store: ObjectStore, bucket: str, prefix: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.client().list_object_versions(Bucket=bucket, Prefix=prefix).get("Versions", [])
    return found


# What goes there


def test_every_file_of_a_log_goes_once_whatever_the_batches(sealed: History) -> None:
    head = longest(sealed.data)
    folder = log_dir(sealed.data) / head.stream
    assert head.size > 300
    expected = {tiles.tile_path(*one) for one in tiles_of(head.size)}
    expected |= {tiles.entries_path(i, min(256, head.size - i * 256)) for i in range(-(-head.size // 256))}
    for step in (64, 100, 256, 512):
        found: dict[str, bytes] = {}
        for start in range(0, head.size, step):
            stop = min(start + step, head.size)
            found |= files_of(folder, batch_of(sealed.data, head.stream, start, stop))
        assert found.keys() == expected
        assert all((folder / path).read_bytes() == data for path, data in found.items())


def test_after_pruning_the_tiles_of_what_was_before_go_too(sealed: History) -> None:
    head = longest(sealed.data)
    batch = batch_of(sealed.data, head.stream, 256, head.size)
    paths = {path for path, _ in files_of(log_dir(sealed.data) / head.stream, batch, all_tiles=True)}
    assert tiles.tile_path(0, 0) in paths
    assert tiles.entries_path(0) not in paths


@pytest.mark.parametrize("path", [tiles.entries_path(0), tiles.tile_path(0, 0)])
def test_what_does_not_lead_to_the_signed_root_is_not_locked_for_ever(tmp_path: Path, path: str) -> None:
    made = make(tmp_path / "data", calls=150)
    head = longest(made.data)
    batch = batch_of(made.data, head.stream, 0, head.size)
    file = log_dir(made.data) / head.stream / path
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(SealedError, match="nothing of it goes out"):
        list(files_of(log_dir(made.data) / head.stream, batch))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"endpoint": "http://store.example"}, "endpoint"),
        ({"endpoint": "ftp://127.0.0.1"}, "endpoint"),
        ({"bucket": ""}, "bucket"),
        ({"secret_key": ""}, "secret_key"),
        ({"retain_s": 0}, "retain"),
        ({"prefix": "/x/"}, "prefix"),
        ({"prefix": "x"}, "prefix"),
        ({"ca_file": Path("/nowhere/ca.pem")}, "ca_file"),
    ],
)
def test_settings_that_cannot_be_are_named(change: dict[str, Any], field: str) -> None:
    good = {"endpoint": "https://store.example", "bucket": "b", "region": "r", "access_key": "a", "secret_key": SECRET}
    with pytest.raises(ConfigError, match=rf"telemetry\.s3\.{field}") as failure:
        Bucket(S3(**{**good, **change}))
    assert SECRET not in str(failure.value)


# The store


@slow
def test_a_download_of_the_bucket_is_verified(store: ObjectStore, sealed: History, tmp_path: Path) -> None:
    s3 = store.settings(store.bucket(), prefix=PREFIX)
    brought(sealed.data, s3)
    assert fetched(s3, tmp_path / "b") == []
    report = verified(sealed.data, tmp_path / "b")
    assert report.ok, report.problems
    assert {one.stream: one.sealed for one in (*report.streams, *report.fleets)} == {
        stream: sealed_head(sealed.data, stream).size for stream in sealed_streams(sealed.data)
    }
    assert all(one.signed_by for one in (*report.streams, *report.fleets))
    # The names alone are enough, too: each object under its own name, in the layout of tlog-tiles.
    client = store.client()
    for one in versions(store, s3.bucket):
        path = tmp_path / "plain" / one["Key"].removeprefix(PREFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=s3.bucket, Key=one["Key"])["Body"].read())
    assert verifier.main(["--quiet", "--keys", str(log_dir(sealed.data) / "vkeys"), str(tmp_path / "plain")]) == 0
    # Changed after the download, it is not.
    bundle = next((tmp_path / "b").rglob("entries/000"))
    bundle.write_bytes(bundle.read_bytes().replace(b"allowed", b"blocked", 1))
    assert not verified(sealed.data, tmp_path / "b").ok


@slow
def test_acceptance_9_what_is_there_cannot_be_deleted_shortened_or_overwritten(
    store: ObjectStore, sealed: History
) -> None:
    from botocore.exceptions import ClientError

    s3 = store.settings(store.bucket(), prefix=PREFIX)
    brought(sealed.data, s3)
    client = store.client()
    now = datetime.datetime.now(datetime.UTC)
    there = versions(store, s3.bucket)
    kinds = {one["Key"].removeprefix(PREFIX).split("/")[-2 if ".p/" in one["Key"] else -1] for one in there}
    assert {"checkpoint", "vkeys"} <= kinds
    for one in there:
        which = {"Bucket": s3.bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
        held = client.head_object(**which)
        assert held["ObjectLockMode"] == "COMPLIANCE"
        assert held["ObjectLockRetainUntilDate"] > now + datetime.timedelta(seconds=3000)
    for one in there[:3]:
        which = {"Bucket": s3.bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
        with pytest.raises(ClientError, match="AccessDenied"):
            client.delete_object(**which)
        with pytest.raises(ClientError, match="AccessDenied"):
            client.delete_object(**which, BypassGovernanceRetention=True)
        sooner = {"Mode": "COMPLIANCE", "RetainUntilDate": now + datetime.timedelta(minutes=1)}
        with pytest.raises(ClientError, match="AccessDenied"):
            client.put_object_retention(**which, Retention=sooner)
        with pytest.raises(ClientError, match="PreconditionFailed"):
            client.put_object(Bucket=s3.bucket, Key=one["Key"], Body=b"other", IfNoneMatch="*")
        assert client.head_object(**which)["ETag"] == one["ETag"]


@slow
def test_a_bucket_without_object_lock_gets_nothing_and_the_remedy_is_said(store: ObjectStore, sealed: History) -> None:
    s3 = store.settings(store.bucket(lock=False), prefix=PREFIX)
    runner = runner_of(sealed.data, s3)
    runner.round()
    assert "--object-lock-enabled-for-bucket" in runner.place().problem
    assert [one["Key"] for one in versions(store, s3.bucket)] == ["probe"]
    missing = runner_of(sealed.data, store.settings("no-such-bucket"))
    missing.round()
    assert "NoSuchBucket" in missing.place().problem


@slow
def test_wrong_credentials_and_certificates_are_said_without_the_secret(
    store: ObjectStore, sealed: History, caplog: pytest.LogCaptureFixture
) -> None:
    name = store.bucket()
    for s3, words in (
        (store.settings(name, ca_file=None), "SSLError"),
        (S3(store.url, name, "us-east-1", ACCESS, SECRET + "x", ca_file=store.settings(name).ca_file), "Signature"),
    ):
        runner = runner_of(sealed.data, s3)
        assert runner.round() == 0
        assert words in runner.place().problem
        assert SECRET not in repr(s3) + runner.place().problem + caplog.text
    assert versions(store, name) == []


@slow
def test_the_same_again_counts_as_taken_and_another_is_an_alarm(store: ObjectStore, sealed: History) -> None:
    s3 = store.settings(store.bucket())
    bucket = Bucket(s3)
    bucket.put_once("a", b"one")
    bucket.put_once("a", b"one")
    with pytest.raises(SinkError, match="ALARM"):
        bucket.put_once("a", b"two")
    client = store.client()
    client.put_object(Bucket=s3.bucket, Key="unlocked", Body=b"one")
    bucket.put_once("unlocked", b"one")
    assert client.head_object(Bucket=s3.bucket, Key="unlocked")["ObjectLockMode"] == "COMPLIANCE"
    assert [len(versions(store, s3.bucket, key)) for key in ("a", "unlocked")] == [1, 1]
    # All of a log again, from a shipper that knows nothing: no object is there twice.
    brought(sealed.data, s3)
    before = {one["Key"] for one in versions(store, s3.bucket)}
    brought(sealed.data, s3)
    counts: dict[str, int] = {}
    for one in versions(store, s3.bucket):
        counts[one["Key"]] = counts.get(one["Key"], 0) + 1
    assert counts.keys() == before
    assert {key for key, n in counts.items() if n > 1} <= {k for k in before if k.endswith(("/checkpoint", "keys"))}


@slow
def test_a_forked_log_is_an_alarm_and_more_signatures_are_none(store: ObjectStore, tmp_path: Path) -> None:
    made = history(tmp_path / "data", calls=4)
    s3 = store.settings(store.bucket())
    bucket = Bucket(s3)
    head = longest(made.data)
    sink = S3Sink(bucket, made.data, "")
    batch = batch_of(made.data, head.stream, 0, head.size)
    sink.send(batch)
    # A witness' line comes after the head was brought: the next batch brings it.
    cosigned = head.note + "— some.witness/w " + "QUJDREVGR0g=" + "\n"
    (log_dir(made.data) / head.stream / "checkpoint").write_text(cosigned)
    sink.send(batch)
    client = store.client()
    newest = client.get_object(Bucket=s3.bucket, Key=f"{head.stream}/checkpoint")["Body"].read().decode()
    assert newest == cosigned
    assert len(versions(store, s3.bucket, f"{head.stream}/checkpoints/")) == 2
    made.close()
    other = store.settings(store.bucket())
    forged = head.note.replace(head.note.split("\n")[2], "A" * 43 + "=")
    store.client().put_object(Bucket=other.bucket, Key=f"{head.stream}/checkpoints/{head.size}", Body=forged.encode())
    with pytest.raises(SinkError, match="forked"):
        S3Sink(Bucket(other), made.data, "").send(batch)


@slow
def test_older_heads_put_over_newer_and_marks_of_deletion_are_seen_and_undone(
    store: ObjectStore, tmp_path: Path
) -> None:
    made = history(tmp_path / "data", calls=40)
    s3 = store.settings(store.bucket(), prefix=PREFIX)
    runner = runner_of(made.data, s3)
    assert runner.drain(30)
    stream = longest(made.data).stream
    early = sealed_head(made.data, stream)
    made.close()
    made.seal()
    assert runner.drain(30)
    late = sealed_head(made.data, stream)
    assert late.size > early.size
    client = store.client()
    client.put_object(Bucket=s3.bucket, Key=f"{PREFIX}{stream}/checkpoint", Body=early.note.encode())
    client.delete_object(Bucket=s3.bucket, Key=f"{PREFIX}{stream}/checkpoints/{late.size}")
    partial = f"{PREFIX}{stream}/{tiles.entries_path(late.size // 256, late.size % 256)}"
    client.put_object(Bucket=s3.bucket, Key=partial, Body=b"forged")
    client.put_object(Bucket=s3.bucket, Key=f"{PREFIX}{stream}/elsewhere", Body=b"no")
    remarks = fetched(s3, tmp_path / "b")
    assert len(remarks) == 3
    assert any("marked" in one for one in remarks)
    assert any("newer versions" in one for one in remarks)
    assert any("no name of ours" in one for one in remarks)
    report = verified(made.data, tmp_path / "b")
    assert report.ok, report.problems
    assert {one.stream: one.sealed for one in report.streams}[stream] == late.size
    assert not (tmp_path / "b" / stream / "elsewhere").exists()
    # Somebody who takes the names as they are and kept a head sees it as well.
    (tmp_path / "b" / stream / "checkpoint").write_text(early.note)
    kept = kept_head(late.note, "kept")
    assert not check([tmp_path / "b"], Trust(), kept=[kept]).ok


@slow
def test_killed_amid_uploads_the_next_shipper_goes_on(store: ObjectStore, tmp_path: Path) -> None:
    made = make(tmp_path / "data", calls=250)
    s3 = store.settings(store.bucket(), prefix=PREFIX)
    process = ShipperProcess(Work(made.data, "gw", Telemetry(s3=s3, required=("s3",))))
    try:
        assert process.ready() == ["s3"]
        for count in (1, 6):
            wait(lambda count=count: len(versions(store, s3.bucket)) >= count)  # type: ignore[misc]
            os.kill(process.pid, signal.SIGKILL)
            wait(process.keep_alive)
            process.ready()
        wait(lambda: behind(made.data).get("s3") == 0)
    finally:
        process.close()
    assert fetched(s3, tmp_path / "b") == []
    report = verified(made.data, tmp_path / "b")
    assert report.ok, report.problems
    assert report.records == sum(sealed_head(made.data, one.stream).size for one in report.streams)


@slow
def test_while_the_store_is_away_nothing_is_lost_and_then_all_arrives(store: ObjectStore, tmp_path: Path) -> None:
    made = history(tmp_path / "data", calls=10)
    s3 = store.settings(store.bucket(), prefix=PREFIX)
    runner = runner_of(made.data, s3)
    assert runner.drain(30)
    store.kill()
    made.close()
    made.seal()
    for _ in range(3):
        assert runner.round() == 0
    place = runner.place()
    assert "cannot be reached" in place.problem
    assert place.behind_records > 0
    store.start()
    assert runner.drain(60), runner.place().problem
    assert runner.place().problem == ""
    assert fetched(s3, tmp_path / "b") == []
    assert verified(made.data, tmp_path / "b").ok


@slow
def test_what_was_pruned_before_it_was_brought_is_said_and_the_rest_is_proven(
    store: ObjectStore, tmp_path: Path
) -> None:
    made = make(tmp_path / "data", calls=200)
    stream = longest(made.data).stream
    folder = log_dir(made.data) / stream
    (folder / "minimum").write_text("256")
    (folder / tiles.entries_path(0)).unlink()
    s3 = store.settings(store.bucket(), prefix=PREFIX)
    runner = runner_of(made.data, s3)
    assert runner.drain(30)
    assert "were pruned before they were sent" in runner.place().problem
    assert fetched(s3, tmp_path / "b") == []
    report = verified(made.data, tmp_path / "b")
    assert report.ok, report.problems
    assert {one.stream: one.pruned for one in report.streams}[stream] == 256


class _LoginPage(BaseHTTPRequestHandler):
    """Answers everything with status 200 and a page."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<html><body>Please log in</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = _answer  # noqa: N815  # names of the library

    def log_message(self, *_: object) -> None:
        """Nothing."""


@slow
def test_a_page_with_status_200_is_no_store(sealed: History) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _LoginPage)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        s3 = S3(f"http://127.0.0.1:{server.server_port}", "b-1", "us-east-1", ACCESS, SECRET)
        runner = runner_of(sealed.data, s3)
        assert runner.round() == 0
        assert runner.place().problem
        with pytest.raises(SinkError, match="proxy"):
            Bucket(s3).put_once("a", b"1")
        with pytest.raises(SinkError, match="proxy"):
            Bucket(s3).put_version("a", b"1")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@slow
@pytest.mark.parametrize("where", ["head", "body", "length"])
def test_l9_a_store_that_sends_a_byte_now_and_then_holds_nothing_for_long(sealed: History, where: str) -> None:
    with Drip(where) as server:
        s3 = S3(server.url, "b-1", "us-east-1", ACCESS, SECRET)
        bucket = Bucket(s3, timeout_s=0.2)
        for asked in (
            bucket.check,
            lambda: bucket.put_once("a", b"1"),
            lambda: bucket.put_version("a", b"1"),
            lambda: bucket.get("a"),
            lambda: list(bucket.versions("")),
        ):
            with pytest.raises(SinkError, match=r"bucket b-1 did not end its answer within 0\.2 s"):
                asked()
        bucket.close()
        runner = Runner(sealed.data, S3Sink(Bucket(s3, timeout_s=0.2), sealed.data, ""), backoff=SOON)
        assert runner.round() == 0
        assert "did not end its answer" in runner.place().problem


@slow
def test_the_command_fetches_what_settings_name(store: ObjectStore, sealed: History, tmp_path: Path) -> None:
    s3 = store.settings(store.bucket(), prefix=PREFIX)
    brought(sealed.data, s3)
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(s3=s3, key="0" * 64))
    app = typer.Typer()
    app.command()(fetch_command)
    run = CliRunner()
    to = tmp_path / "b"
    told = run.invoke(app, ["--config", str(config), "--to", str(to)])
    assert told.exit_code == 0, told.output
    assert "licet-verify" in told.output
    assert verified(sealed.data, to).ok
    assert run.invoke(app, ["--config", str(config), "--to", str(to)]).exit_code == 2
    store.client().put_object(Bucket=s3.bucket, Key=f"{PREFIX}else", Body=b"")
    again = run.invoke(app, ["--config", str(config), "--to", str(tmp_path / "c")])
    assert (again.exit_code, SECRET in again.output) == (1, False)
    assert "no name of ours" in again.output
