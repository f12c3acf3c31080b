"""A bar is shown where somebody sees it, and nothing at all elsewhere."""

from __future__ import annotations

import pytest

from gateway.audit.progress import steps_shown, work_shown


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is taken for a person's."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.usefixtures("terminal")
def test_work_is_counted_in_records_or_in_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    with work_shown("indexing") as told:
        told(0, 0)
        told(3, 7)
    with work_shown("verifying", in_bytes=True) as told:
        told(3_000_000, 7_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "indexing" in err
    assert "3/7" in err
    assert "3.0/7.0 MB" in err


@pytest.mark.usefixtures("terminal")
def test_what_is_done_now_is_said_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with steps_shown("asking") as told:
        told("writing [x]", 1, 2)
    err = capsys.readouterr().err
    assert "writing [x]" in err
    assert "1/2" in err


def test_nothing_is_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with steps_shown("asking") as told:
        told("writing", 1, 2)
    with work_shown("indexing") as done:
        done(2, 2)
    assert capsys.readouterr() == ("", "")
