"""Which header fields cross the gateway, both ways. Pure functions over raw fields; names are compared without case.

Both ways go by allow-list, because a field is a place where text can hide (L4) and nobody judges fields:
- to the model: what the protocol needs, made here, plus a few of the caller's fields whose values fit a narrow grammar.
  The caller's credentials, cookies and addresses never cross; the provider's key is set here.
- to the caller: retry hints and the provider's request id; the media type is said anew, without parameters. Not the provider's cookies, organization,
  quota, `alt-svc` or `strict-transport-security` (both of which would lead callers past the gateway), and nothing named
  `x-licet-*`, which only the gateway may say.

Hop-by-hop fields, and those a `Connection` field names, end at each hop (RFC 9110, section 7.6.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gateway import __version__
from gateway.errors import ConfigError

Fields = Sequence[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1 (Connection, Proxy-Connection, Keep-Alive, TE, Transfer-Encoding, Upgrade), RFC 9110 section 11.7
# (Proxy-*), RFC 9112 section 7.1.2 (Trailer announces chunked trailers, which are dropped with the framing).
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# The version that Anthropic's own SDKs send; its API refuses calls that name none.
ANTHROPIC_VERSION: Final = b"2023-06-01"

# Fields that choose a version or a beta feature of the API. Lists of short names and nothing else, so that no text of
# the caller can cross in them. Left out on purpose:
#   user-agent           free text about the caller; the gateway names itself
#   openai-organization, openai-project   whose account pays is the operator's choice, not the caller's
#   idempotency-key      free text, and each call is one exchange here
#   accept               made from what the call is
_NAME_LIST: Final = re.compile(
    rb"(?!.*[0-9]{3}[._-]?[0-9]{2,4}[._-]?[0-9]{4})"  # no nine digits that could be a number; a date has eight
    rb"[A-Za-z0-9._=-]{1,64}(?:, ?[A-Za-z0-9._=-]{1,64}){0,15}"
)
_DATE: Final = re.compile(rb"\d{4}-\d{2}-\d{2}")
FROM_CALLER: Final[Mapping[str, Mapping[bytes, re.Pattern[bytes]]]] = {
    "openai": {b"openai-beta": _NAME_LIST},
    "anthropic": {b"anthropic-version": _DATE, b"anthropic-beta": _NAME_LIST},
}

# What may go back to the caller, and the shape its value must have. Request ids are what the SDKs show as `_request_id`
# and what the provider's support asks for; retry hints are what the SDKs obey.
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_NUMBER: Final = re.compile(rb"\d{1,12}(?:\.\d{1,6})?")
_RETRY_AFTER: Final = re.compile(
    rb"\d{1,9}|[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT"
)  # RFC 9110, 10.2.3
TO_CALLER: Final[Mapping[bytes, re.Pattern[bytes]]] = {
    b"cache-control": re.compile(rb"[A-Za-z0-9=, -]{1,128}"),
    b"openai-processing-ms": _NUMBER,
    b"openai-version": _DATE,
    b"request-id": _TOKEN,
    b"retry-after": _RETRY_AFTER,
    b"retry-after-ms": _NUMBER,
    b"x-request-id": _TOKEN,
    b"x-should-retry": re.compile(rb"true|false"),
}

_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_CODINGS: Final = re.compile(
    rb"[a-z*]{1,12}(?:;q=[01](?:\.\d{1,3})?)?(?:, ?[a-z*]{1,12}(?:;q=[01](?:\.\d{1,3})?)?){0,7}"
)
_OF_THE_BODY: Final = {
    b"content-length": re.compile(rb"\d{1,15}"),
    b"content-encoding": re.compile(rb"[a-z]{1,12}(?:, ?[a-z]{1,12}){0,3}"),
}

# A key travels in a header field: visible ASCII, no spaces (RFC 6750 section 2.1 is narrower; providers are not).
_KEY: Final = re.compile(r"[\x21-\x7e]+")


def target_fields(protocol: str, api_key: str | None) -> tuple[tuple[bytes, bytes], ...]:
    """The fields every request to a target carries; made once at start, for they hold the key.

    `protocol` is "openai" or "anthropic". Without a key none is sent. Raises ConfigError; its text never holds the key.
    """
    if api_key is not None and not _KEY.fullmatch(api_key):
        raise ConfigError(
            "api_key: holds spaces, control or non-ASCII characters; check the environment variable it comes from"
        )
    fields = [(b"content-type", b"application/json"), (b"user-agent", b"licet/" + __version__.encode("ascii"))]
    if api_key is not None:
        key = api_key.encode("ascii")
        fields.append((b"authorization", b"Bearer " + key) if protocol == "openai" else (b"x-api-key", key))
    return tuple(fields)


def request_fields(
    target: Fields, caller: Iterable[tuple[bytes, bytes]], *, protocol: str, stream: bool, inspected: bool = True
) -> list[tuple[bytes, bytes]]:
    """The fields of one request to the model. `target` is `target_fields`; `caller` the caller's own, names in lower case.

    An inspected answer is asked for without compression. One that is not goes to the caller as it is, so the caller's
    Accept-Encoding decides; without one, none is asked for, because no field at all means "any" (RFC 9110, 12.5.3).
    """
    coding = b"identity"
    fields = [*target, (b"accept", b"text/event-stream" if stream else b"application/json")]
    allowed = FROM_CALLER[protocol]
    versioned = protocol != "anthropic"
    for name, value in caller:
        shape = allowed.get(name)
        if shape is not None and shape.fullmatch(value):
            if name == b"anthropic-version":
                if versioned:  # a second one would leave the choice to the provider's parser
                    continue
                versioned = True
            fields.append((name, value))
        elif name == b"accept-encoding" and not inspected and _CODINGS.fullmatch(value):
            coding = value
    fields.append((b"accept-encoding", coding))
    if not versioned:
        fields.append((b"anthropic-version", ANTHROPIC_VERSION))
    return fields


def answer_fields(answer: Fields, *, inspected: bool = True) -> list[tuple[bytes, bytes]]:
    """The fields of a model's answer that may go to the caller, names in lower case, order and duplicates kept.

    Content-Length and Content-Encoding only of a body that is passed on as it is: else the gateway frames what it sends,
    and what it judged was not compressed.
    """
    named = connection_names(answer)
    kept = []
    for raw, value in answer:
        name = raw.lower()
        shape = TO_CALLER.get(name) or (None if inspected else _OF_THE_BODY.get(name))
        if shape is not None and name not in named and shape.fullmatch(value):
            kept.append((name, value))
    return kept


def without_hop_by_hop(fields: Fields) -> list[tuple[bytes, bytes]]:
    """`fields` less those that end at this hop."""
    named = connection_names(fields)
    return [field for field in fields if field[0].lower() not in HOP_BY_HOP and field[0].lower() not in named]


def connection_names(fields: Fields) -> frozenset[bytes]:
    """The field names that Connection fields declare to be hop-by-hop, in lower case."""
    values = [value for name, value in fields if name.lower() == b"connection"]
    if not values:
        return frozenset()
    return frozenset(item.strip().lower() for value in values for item in value.split(b","))


def first(fields: Fields, name: bytes) -> bytes | None:
    """The first value of a field, `name` in lower case; None if there is none."""
    for key, value in fields:
        if key.lower() == name:
            return value
    return None


def media_type(fields: Fields) -> str:
    """The Content-Type without parameters, in lower case: "application/json"; "" if there is none or it is not ASCII."""
    value = first(fields, b"content-type") or b""
    return value.split(b";", 1)[0].strip().lower().decode("ascii", "ignore")


def is_encoded(fields: Fields) -> bool:
    """Whether the body is compressed (or claims to be anything but identity), so that it cannot be judged as it is."""
    for key, value in fields:
        if key.lower() == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            return True
    return False


def language_of(fields: Fields) -> str:
    """The first language tag the caller asks for; it chooses only among the policy's own refusal texts."""
    for name, value in fields:
        if name == b"accept-language":
            return value.split(b",", 1)[0].split(b";", 1)[0].strip().decode("ascii", "ignore")
    return "en"


def traceparent(fields: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The caller's place in its own trace (W3C Trace Context, section 3.2), for the record; None if absent, twice or malformed."""
    found = [value for name, value in fields if name == b"traceparent"]
    if len(found) != 1 or not _TRACEPARENT.fullmatch(found[0]):
        return None
    return found[0].decode("ascii")


def request_id(fields: Fields) -> str | None:
    """The provider's own id of the request, for the record: `x-request-id`, else `request-id`; None if absent or odd."""
    for name in (b"x-request-id", b"request-id"):
        value = first(fields, name)
        if value is not None and _TOKEN.fullmatch(value):
            return value.decode("ascii")
    return None
