"""What a license says: the part of the license record that this version checks. Everything else is kept as it came.

A scope that is left out grants nothing; `*` in a list grants all. What a license demands and this version cannot check
(a status list, conditions, pinned TLS keys) is kept visible here, so that the check can refuse instead of ignoring it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

ALL = "*"
_DEFAULT_PORTS = {"http": 80, "https": 443}

_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
_Words = Annotated[tuple[_Short, ...], msgspec.Meta(max_length=512)]
# Seconds since 1970. The bound is the largest whole number that JSON readers agree on (RFC 8259, section 6).
_Seconds = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class ClaimsError(ValueError):
    """The signed content is not a license."""


class Model(msgspec.Struct, frozen=True):
    """Which model is licensed."""

    name: _Short
    version: _Short | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """Where the model is served, and what it may call itself."""

    origins: _Words = ()
    served_model_aliases: _Words = ()
    spki_pins: _Words = ()


class Audience(msgspec.Struct, frozen=True):
    """Who may see answers. Left out: only people inside the organization."""

    public: bool = False
    age_min: int | None = None


class Terms(msgspec.Struct, frozen=True):
    """The `license` claim."""

    model: Model
    endpoint: Endpoint = Endpoint()
    modalities_in: _Words = ()
    modalities_out: _Words = ()
    jurisdictions: _Words = ()
    purposes: _Words = ()
    excluded_purposes: _Words = ()
    audience: Audience = Audience()
    state: _Short = "active"
    regime: _Short | None = None
    trust_level: _Short | None = None
    conditions: tuple[Any, ...] = ()


class Claims(msgspec.Struct, frozen=True):
    """The claims set. Times are seconds since 1970."""

    iss: _Short
    sub: _Short
    jti: _Short
    nbf: _Seconds
    exp: _Seconds
    iat: _Seconds
    license: Terms
    aud: _Words | _Short | None = None
    status: Any = None

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
