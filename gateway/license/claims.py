"""The claims of a license token: who says it, about which model, from when to when, and the record itself.

A scope that is left out grants nothing; `*` in a list grants all. What a license demands and this version cannot check
is kept visible here, so that the check can refuse instead of ignoring it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from gateway.license.record import Seconds, Short, Terms, Words

ALL = "*"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class ClaimsError(ValueError):
    """The signed content is not what it should be."""


class ListEntry(msgspec.Struct, frozen=True):
    """Where the license's status stands (IETF Token Status List, section 6.2)."""

    uri: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    idx: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class Status(msgspec.Struct, frozen=True):
    """The `status` claim. Another mechanism than a status list is refused, not ignored."""

    status_list: ListEntry


class Claims(msgspec.Struct, frozen=True):
    """The claims set. Times are seconds since 1970."""

    iss: Short
    sub: Short
    jti: Short
    nbf: Seconds
    exp: Seconds
    iat: Seconds
    license: Terms
    aud: Words | Short | None = None
    status: Status | None = None

    @property
    def audiences(self) -> tuple[str, ...]:
        """The gateways that the license is meant for; empty: any."""
        if self.aud is None:
            return ()
        return (self.aud,) if isinstance(self.aud, str) else self.aud


def read_claims(payload: Mapping[str, Any]) -> Claims:
    """Typed claims. Raises ClaimsError that names the field."""
    try:
        claims = msgspec.convert(payload, Claims)
    except msgspec.ValidationError as error:
        raise ClaimsError(str(error)) from error
    if claims.exp <= claims.nbf:
        raise ClaimsError("`exp` is not after `nbf`")
    for origin in claims.license.endpoint.origins:
        if not _is_origin(origin):
            raise ClaimsError(
                f"`license.endpoint.origins`: {origin!r} is not an origin such as https://api.example.com"
            )
    return claims


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the claims set of a license. Members it does not name are allowed and kept."""
    schema = msgspec.json.schema(Claims)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Licet model license", **schema}


def _is_origin(text: str) -> bool:
    try:
        return origin_of(text) == text
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """The origin of a URL (RFC 6454): scheme, host in lower case, port unless it is the default. Raises ValueError."""
    parts = urlsplit(url)
    host = parts.hostname
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise ValueError(f"{url!r} is not an http or https URL")
    shown = f"[{host}]" if ":" in host else host
    if parts.port is None or parts.port == _DEFAULT_PORTS[parts.scheme]:
        return f"{parts.scheme}://{shown}"
    return f"{parts.scheme}://{shown}:{parts.port}"
