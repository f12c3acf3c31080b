"""What an answer says of itself, as records may hold it."""

from __future__ import annotations

import pytest

from gateway.protocols.shapes import as_stated


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        pytest.param("chatcmpl-BxYz0123abcdEFGH4567", "chatcmpl-BxYz0123abcdEFGH4567", id="an answer of OpenAI's"),
        pytest.param("msg_01XFDUDYJgAACzvnptvVoYEL", "msg_01XFDUDYJgAACzvnptvVoYEL", id="an answer of Anthropic's"),
        pytest.param("req_011CSHoEeqs5C35K2UUqR7Fy", "req_011CSHoEeqs5C35K2UUqR7Fy", id="a request"),
        pytest.param("gpt-4o-2024-08-06", "gpt-4o-2024-08-06", id="a model"),
        pytest.param("sk-proj-abcdefghij0123456789", "odd", id="an API key"),
        pytest.param("ghp_abcdefghij0123456789abcdefghij012345", "odd", id="a token of GitHub's"),
        pytest.param("AKIAIOSFODNN7EXAMPLE", "odd", id="a key of AWS'"),
        pytest.param("my name is Jane", "odd", id="text"),
    ],
)
def test_l7_what_an_answer_calls_itself_is_told_only_if_it_is_an_id(stated: str, told: str) -> None:
    assert as_stated(stated) == told
