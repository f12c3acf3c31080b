"""The command's standard output, where it is a pipe."""

from __future__ import annotations

import os

import pytest

from gateway.cli import READER_LEFT, to_reader


def test_a_reader_that_leaves_ends_the_command_and_is_no_error() -> None:
    reading, writing = os.pipe()
    out = to_reader(writing)
    out.write("one line\n")
    out.flush()
    assert os.read(reading, 100) == b"one line\n"
    os.close(reading)
    out.write("another\n")
    with pytest.raises(SystemExit) as ended:
        out.flush()
    assert ended.value.code == READER_LEFT
    out.write("what is said on the way out\n")
    out.close()  # goes nowhere, without a word
    os.close(writing)
