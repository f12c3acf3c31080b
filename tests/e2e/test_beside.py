"""The processes beside the workers end last: what the workers wrote at their end is sealed and has arrived."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.audit.sealed import sealed_head
from gateway.beside import Beside
from gateway.settings import parse_settings
from gateway.tlog.verify import verify
from tests.fakes.otlp_receiver import OtlpReceiver
from tests.gateway.audit.samples import call, open_journal
from tests.gateway.test_settings import ENVIRON, GOOD


@pytest.mark.slow
def test_the_last_records_are_sealed_and_sent_before_the_end(tmp_path: Path) -> None:
    with OtlpReceiver() as backend:
        text = f"{GOOD}audit: {{seal: {{every_s: 600, records: 1000000}}}}\ntelemetry: {{otlp: {backend.url}}}\n"
        settings = parse_settings(text.encode(), source="g.yaml", folder=tmp_path, environ=ENVIRON)
        beside = Beside(settings, "gw")
        try:
            beside.ready()
            journal = open_journal(settings.data)
            for _ in range(20):
                call(journal)
            asyncio.run(journal.close())
        finally:
            beside.close()
        assert sealed_head(settings.data, journal.stream).size == 42
        assert len(backend.calls()) == 20
        beside.close()
    assert verify(settings.data).ok


@pytest.mark.slow
def test_a_backend_that_is_away_holds_up_no_end(tmp_path: Path) -> None:
    text = f"{GOOD}telemetry: {{otlp: 'http://127.0.0.1:9'}}\n"
    settings = parse_settings(text.encode(), source="g.yaml", folder=tmp_path, environ=ENVIRON)
    with Beside(settings, "gw") as beside:
        beside.ready()
        journal = open_journal(settings.data)
        call(journal)
        asyncio.run(journal.close())
    assert sealed_head(settings.data, journal.stream).size == 4
