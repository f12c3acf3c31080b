"""Which fields cross the gateway."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.headers import (
    HOP_BY_HOP,
    answer_fields,
    is_encoded,
    media_type,
    request_fields,
    request_id,
    target_fields,
    traceparent,
    without_hop_by_hop,
)

Fields = list[tuple[bytes, bytes]]

# What an SDK, a browser or a curious caller may send.
CALLER: Fields = [
    (b"host", b"gateway:8080"),
    (b"authorization", b"Bearer caller-key"),
    (b"x-api-key", b"caller-key"),
    (b"api-key", b"caller-key"),
    (b"cookie", b"session=1"),
    (b"proxy-authorization", b"Basic Zm9v"),
    (b"user-agent", b"Mozilla/5.0 (John Smith)"),
    (b"x-stainless-os", b"Linux"),
    (b"x-forwarded-for", b"10.0.0.1"),
    (b"accept-encoding", b"gzip, br"),
    (b"content-encoding", b"gzip"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"keep-alive, x-custom"),
    (b"x-custom", b"my card is 4111 1111 1111 1111"),
    (b"openai-organization", b"org-other"),
    (b"x-licet-call-id", b"forged"),
]


def names(fields: Fields) -> list[bytes]:
    """Field names in order."""
    return [name for name, _ in fields]


@pytest.mark.parametrize(
    ("protocol", "key"),
    [("openai", (b"authorization", b"Bearer sk-1")), ("anthropic", (b"x-api-key", b"sk-1"))],
)
def test_request_carries_the_providers_key_and_nothing_of_the_caller(protocol: str, key: tuple[bytes, bytes]) -> None:
    sent = request_fields(target_fields(protocol, "sk-1"), CALLER, protocol=protocol, stream=False)
    assert key in sent
    expected = {b"content-type", b"user-agent", b"accept", b"accept-encoding", key[0]}
    if protocol == "anthropic":
        expected.add(b"anthropic-version")
    assert set(names(sent)) == expected
    assert len(sent) == len(expected)
    assert not [value for _, value in sent if b"caller" in value or b"4111" in value or b"John" in value]
    assert (b"accept-encoding", b"identity") in sent


def test_accept_follows_the_call() -> None:
    target = target_fields("openai", None)
    assert (b"accept", b"text/event-stream") in request_fields(target, [], protocol="openai", stream=True)
    assert (b"accept", b"application/json") in request_fields(target, [], protocol="openai", stream=False)


def test_without_a_key_none_is_sent() -> None:
    assert names(list(target_fields("openai", None))) == [b"content-type", b"user-agent"]


@pytest.mark.parametrize("key", ["", "a b", "a\r\nx: y", "ключ", "a\x00"])
def test_key_that_is_none_stops_the_start_unseen(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        target_fields("openai", key)
    assert not key or key not in str(caught.value)


def test_versions_and_betas_of_the_caller_cross() -> None:
    caller = [
        (b"anthropic-version", b"2024-01-01"),
        (b"anthropic-version", b"2025-01-01"),
        (b"anthropic-beta", b"tools-2024-04-04, max-tokens=3"),
        (b"anthropic-beta", b"other"),
        (b"openai-beta", b"assistants=v2"),
    ]
    sent = request_fields(target_fields("anthropic", "k"), caller, protocol="anthropic", stream=False)
    assert [field for field in sent if field[0].startswith((b"anthropic", b"openai"))] == [
        (b"anthropic-version", b"2024-01-01"),
        (b"anthropic-beta", b"tools-2024-04-04, max-tokens=3"),
        (b"anthropic-beta", b"other"),
    ]
    sent = request_fields(target_fields("openai", "k"), caller, protocol="openai", stream=False)
    assert (b"openai-beta", b"assistants=v2") in sent
    assert b"anthropic-version" not in names(sent)


@pytest.mark.parametrize(
    "value", [b"call 138 1234 5678", b"a" * 65, b"\xe5\xbc\xa0", b"a\r\nb", b"", b",".join([b"a"] * 17), b"a@b.example"]
)
def test_l4_text_cannot_cross_as_a_beta(value: bytes) -> None:
    sent = request_fields(
        target_fields("anthropic", "k"), [(b"anthropic-beta", value)], protocol="anthropic", stream=False
    )
    assert b"anthropic-beta" not in names(sent)


@given(
    st.lists(st.tuples(st.binary(max_size=30).map(bytes.lower), st.binary(max_size=60))),
    st.sampled_from(["openai", "anthropic"]),
)
def test_what_crosses_can_be_written_to_a_socket(caller: Fields, protocol: str) -> None:
    for name, value in request_fields(target_fields(protocol, "k"), caller, protocol=protocol, stream=False):
        assert name.decode("ascii").isprintable()
        assert value.decode("ascii").isprintable()


ANSWER: Fields = [
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    (b"Content-Length", b"10"),
    (b"Content-Encoding", b"gzip"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Connection", b"keep-alive, Retry-After"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Set-Cookie", b"__cf=1"),
    (b"Set-Cookie", b"b=2"),
    (b"Server", b"cloudflare"),
    (b"Date", b"Sun, 22 Nov 2026 03:00:00 GMT"),
    (b"Alt-Svc", b'h3=":443"'),
    (b"Strict-Transport-Security", b"max-age=1"),
    (b"openai-organization", b"acme"),
    (b"openai-processing-ms", b"120"),
    (b"x-ratelimit-remaining-tokens", b"9"),
    (b"X-Request-Id", b"req_1"),
    (b"x-request-id", b"req_2"),
    (b"Retry-After", b"3"),
    (b"X-Should-Retry", b"false"),
    (b"x-licet-record", b"forged/1"),
    (b"x-note", b"card 4111 1111 1111 1111"),
    (b"Cache-Control", b"no-cache"),
]


def test_answer_fields_that_reach_the_caller() -> None:
    assert answer_fields(ANSWER) == [
        (b"openai-processing-ms", b"120"),
        (b"x-request-id", b"req_1"),
        (b"x-request-id", b"req_2"),
        (b"x-should-retry", b"false"),
        (b"cache-control", b"no-cache"),
    ]


@pytest.mark.parametrize(
    "field",
    [
        (b"x-request-id", b"my name is John"),
        (b"retry-after", b"call me"),
        (b"content-type", b"text/html\r\nx: y"),
        (b"x-request-id", b"a" * 129),
        (b"openai-version", b"call 138"),
    ],
)
def test_l4_text_cannot_cross_in_an_answers_field(field: tuple[bytes, bytes]) -> None:
    assert answer_fields([field]) == []


def test_retry_after_as_a_date() -> None:
    field = (b"retry-after", b"Sun, 22 Nov 2026 03:00:00 GMT")
    assert answer_fields([field]) == [field]


def test_unframed_answer_keeps_its_coding_and_length() -> None:
    kept = answer_fields(ANSWER, inspected=False)
    assert (b"content-encoding", b"gzip") in kept
    assert (b"content-length", b"10") in kept
    sent = request_fields(target_fields("openai", "k"), CALLER, protocol="openai", stream=False, inspected=False)
    assert (b"accept-encoding", b"gzip, br") in sent


def test_uninspected_answer_is_asked_for_plainly_when_the_caller_named_no_coding() -> None:
    sent = request_fields(target_fields("openai", "k"), [], protocol="openai", stream=False, inspected=False)
    assert (b"accept-encoding", b"identity") in sent


def test_hop_by_hop_fields_end_here() -> None:
    fields = [
        (b"A", b"1"),
        (b"Connection", b"close, X-Hop"),
        (b"x-hop", b"2"),
        (b"a", b"3"),
        (b"cOnnection", b" X-Other ,"),
        (b"X-OTHER", b"4"),
    ]
    fields += [(name.title(), b"x") for name in sorted(HOP_BY_HOP)]
    assert without_hop_by_hop(fields) == [(b"A", b"1"), (b"a", b"3")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Application/JSON; charset=utf-8", "application/json"),
        (b" text/event-stream ", "text/event-stream"),
        (b"", ""),
    ],
)
def test_media_type(value: bytes, expected: str) -> None:
    assert media_type([(b"Content-Type", value)]) == expected
    assert media_type([]) == ""


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(b"gzip", True), (b"identity", False), (b"Identity", False), (b"br, gzip", True), (b"", False)],
)
def test_is_encoded(value: bytes, encoded: bool) -> None:
    assert is_encoded([(b"Content-Encoding", value)]) is encoded
    assert not is_encoded([])


def test_a_second_coding_is_seen() -> None:
    assert is_encoded([(b"content-encoding", b"identity"), (b"content-encoding", b"gzip")])


def test_the_provider_names_the_request_in_a_header() -> None:
    assert request_id([(b"Request-Id", b"req_9")]) == "req_9"
    assert request_id([(b"request-id", b"b"), (b"X-Request-Id", b"a")]) == "a"
    assert request_id([(b"x-request-id", b"my name is John")]) is None
    assert request_id([]) is None


@pytest.mark.parametrize(
    ("value", "read"),
    [
        pytest.param(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True, id="the standard's own"),
        pytest.param(b"00-00000000000000000000000000000000-00f067aa0ba902b7-01", False, id="trace id zero"),
        pytest.param(b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False, id="span id zero"),
        pytest.param(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 my card", False, id="text behind"),
        pytest.param(b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False, id="a version nobody knows"),
    ],
)
def test_l8_a_callers_trace_is_told_only_if_it_is_one(value: bytes, read: bool) -> None:
    assert traceparent([(b"traceparent", value)]) == (value.decode() if read else None)
    assert traceparent([(b"traceparent", value)] * 2) is None
