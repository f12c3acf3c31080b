"""The list of models in each dialect. Which models may be listed is for the caller of these functions to decide."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model that may serve."""

    id: str
    created: int  # seconds since the epoch; when its license was issued, or the gateway started
    owned_by: str = "licet"
    license_id: str | None = None
    policy_digest: str | None = None


def models_body(models: Sequence[ModelEntry], *, anthropic: bool = False) -> bytes:
    """The body of GET /v1/models. Anthropic's SDKs ask with an `anthropic-version` header and expect their own shape."""
    if not anthropic:
        return orjson.dumps({"object": "list", "data": [_openai(model) for model in models]})
    return orjson.dumps(
        {
            "data": [_anthropic(model) for model in models],
            "has_more": False,
            "first_id": models[0].id if models else None,
            "last_id": models[-1].id if models else None,
        }
    )


def model_body(model: ModelEntry, *, anthropic: bool = False) -> bytes:
    """The body of GET /v1/models/<id>."""
    return orjson.dumps(_anthropic(model) if anthropic else _openai(model))


def wants_anthropic(headers: Mapping[str, str]) -> bool:
    """Whether a request for the list comes from an Anthropic client. Header names in lower case."""
    return "anthropic-version" in headers


def _openai(model: ModelEntry) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "license_id": model.license_id,
        "policy_digest": model.policy_digest,
    }


def _anthropic(model: ModelEntry) -> dict[str, Any]:
    created = datetime.datetime.fromtimestamp(model.created, datetime.UTC)
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "license_id": model.license_id,
        "policy_digest": model.policy_digest,
    }
