"""An audit of a real journal through the gateway's own door: both sides speak of the same things."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx

from gateway.audit.sealed import log_dir
from gateway.auditors import AuditDoor
from gateway.authority.audits import FetchError, audit
from gateway.authority.authority import Authority
from gateway.callers import new_key
from gateway.seal.sealer import Sealer
from gateway.settings import Auditor
from gateway.signing.logkey import LogKey
from gateway.tlog.checkpoint import public_jwk
from tests.gateway.audit.samples import call, open_journal
from tests.gateway.authority.offices import AUDITOR, OFFICER, Hands

KEY, DIGEST = new_key()


def write(data: Path, calls: int) -> str:
    async def run() -> str:
        journal = open_journal(data)
        for _ in range(calls):
            call(journal)
        await journal.close()
        return journal.stream

    stream = asyncio.run(run())
    Sealer(data, "gw", LogKey.load(data)).round()
    return stream


def test_a_gateway_is_audited_through_its_door(tmp_path: Path, authority: Authority, clock: Hands) -> None:
    clock.now = 1_700_000_000  # the time that the sample records are of
    data = tmp_path / "gateway"
    first = write(data, 5)
    key = LogKey.load(data)
    door = AuditDoor(data, [Auditor("authority", DIGEST)], lambda _: None)

    def fetch(url: str) -> bytes:
        async def ask() -> bytes:
            transport = httpx.ASGITransport(app=door)
            async with httpx.AsyncClient(transport=transport, base_url="http://gw") as http:
                answer = await http.get(
                    urlsplit(url)._replace(scheme="", netloc="").geturl(), headers={"authorization": f"Bearer {KEY}"}
                )
                if answer.status_code != 200:
                    raise FetchError(f"answered with status {answer.status_code}")
                return answer.content

        return asyncio.run(ask())

    jwk = public_jwk(key.public)
    authority.enroll_gateway(OFFICER, "gw", operator="*", key=jwk, streams=["*"], audit_url="http://gw")
    assert authority.gateway("gw").thumbprint == key.thumbprint
    found = audit(authority, AUDITOR, "gw", fetch)
    assert (found.findings, [head.stream for head in found.heads]) == ((), [first])
    assert found.sampled > 5
    second = write(data, 3)
    found = audit(authority, AUDITOR, "gw", fetch)
    assert (found.findings, [head.stream for head in found.heads]) == ((), sorted([first, second]))
    shutil.rmtree(log_dir(data) / first)
    door.close()
    door = AuditDoor(data, [Auditor("authority", DIGEST)], lambda _: None)
    assert [finding.code for finding in audit(authority, AUDITOR, "gw", fetch).findings] == ["VANISHED"]
    door.close()
