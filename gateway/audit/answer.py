"""What a place that records go to, or come from, answers over HTTP: whole, and bounded in bytes and in time.

A timeout of urllib3 bounds each wait for the next bytes, not their sum: who sends one byte now and then would never be done.
"""

from __future__ import annotations

import time

import urllib3


class AnswerError(Exception):
    """The answer has no end that is waited for. Says which bound it broke, and nothing of the answer."""


def read_answer(response: urllib3.BaseHTTPResponse, bytes_max: int, timeout_s: float) -> bytes:
    """The body of an answer that was asked for with `preload_content=False`. The connection is kept if it came whole, closed otherwise.

    `timeout_s` from now on, and the response's own timeout at most behind that. Raises AnswerError, urllib3's HTTPError.
    """
    deadline = time.monotonic() + timeout_s
    found = bytearray()
    whole = False
    try:
        while part := response.read1(bytes_max + 1):
            found += part
            if len(found) > bytes_max:
                raise AnswerError(f"answers with more than {bytes_max:,} bytes")
            if time.monotonic() > deadline:
                raise AnswerError(f"did not end its answer within {timeout_s:g} s")
        whole = True
    finally:
        if whole:
            response.release_conn()
        else:
            response.close()
    return bytes(found)
