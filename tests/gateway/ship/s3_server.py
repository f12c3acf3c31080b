"""A real object store with object lock, as a process on this host: SeaweedFS behind TLS."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gateway.settings.audit import S3
from tests.fakes.pki import Pki, new_key

ACCESS, SECRET = "access-of-the-test", "secret-of-the-test-81723"


def free_ports(count: int) -> list[int]:
    holders = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return found


class ObjectStore:
    """Starts at once and keeps its data in `folder`, also over `kill` and `start`."""

    def __init__(self, folder: Path) -> None:
        (folder / "data").mkdir(parents=True)
        self._folder = folder
        self._pki = Pki(folder)
        self._pem = self._pki.pem(new_key())
        identity = {"name": "test", "credentials": [{"accessKey": ACCESS, "secretKey": SECRET}], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
        self._ports = free_ports(9)
        self.url = f"https://127.0.0.1:{self._ports[0]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._buckets = 0
        self.start()

    def start(self) -> None:
        names = (
            "s3.port",
            "s3.port.grpc",
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        )
        arguments = [f"-{name}={port}" for name, port in zip(names, self._ports, strict=False)]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("weed")),
                    "-logtostderr=true",
                    "server",
                    f"-dir={self._folder / 'data'}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    "-filer",
                    "-s3",
                    f"-s3.config={self._folder / 's3.json'}",
                    f"-s3.cert.file={self._pem}",
                    f"-s3.key.file={self._pem}",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    "-master.telemetry=false",
                    "-master.volumeSizeLimitMB=64",
                    "-volume.max=0",
                    *arguments,
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        self._await_writes()

    def _await_writes(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        end = time.monotonic() + 60
        while True:
            try:
                self.bucket(lock=False)
            except (BotoCoreError, ClientError):
                assert self._process is not None
                assert self._process.poll() is None, (self._folder / "server.log").read_text()[-2000:]
                assert time.monotonic() < end, (self._folder / "server.log").read_text()[-2000:]
                time.sleep(0.1)
            else:
                return

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> Any:
        import boto3  # here: tests that need no store need not wait for it
        from botocore.config import Config

        return boto3.session.Session(ACCESS, SECRET, region_name="us-east-1").client(
            "s3",
            endpoint_url=self.url,
            verify=str(self._pki.ca_file),
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={}),
        )

    def bucket(self, *, lock: bool = True) -> str:
        """A new one; an object in it shows that the store takes writes."""
        self._buckets += 1
        name = f"bucket-{self._buckets}"
        self.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=lock)
        if not lock:
            self.client().put_object(Bucket=name, Key="probe", Body=b"1")
        return name

    def settings(self, bucket: str, **more: Any) -> S3:
        return S3(
            self.url, bucket, "us-east-1", ACCESS, SECRET, **{"ca_file": self._pki.ca_file, "retain_s": 3600, **more}
        )
