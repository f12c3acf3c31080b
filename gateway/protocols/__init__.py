"""Wire formats: bytes to text channels and back, one adapter per path.

Rules of this room:
- It knows no policy, license, filter or record; it imports `errors` and `reasons` and nothing else of ours.
- Tables say what is structural; everything else is a channel (L4). A field nobody thought of is judged, not skipped.
- What cannot be judged is named (`Prompt.unjudgeable`) or raises; it is never passed on in silence.
- Rewriting splices: bytes outside an edit are the bytes that came in (L5).
- No name of a channel, no parameter and no message holds text of a call (L7).
- No I/O and no clock, except the `created` stamp of a refusal that is worded as an answer.

`plain` reads the bodies that nearly all callers and models send without a tree; `jsontext` finds values and splices strings;
`surfaces` walks a document and names its texts, by the `rules` that tables are made of; `shapes` says what looks harmless,
`logprobs` judges token probabilities; `document` is a body with its channels; `streams`, `events` and `sse` are the same
for event streams; `bodies` has the checks that paths share; `openai` and `anthropic` are the dialects, `openai_tables`
holds the tables of the first; `refusals` and `models` write bodies of our own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.protocols.anthropic import COUNT_TOKENS, MESSAGES
from gateway.protocols.base import Adapter
from gateway.protocols.document import EditError, JsonString, json_document
from gateway.protocols.models import ModelEntry, model_body, models_body, wants_anthropic
from gateway.protocols.openai import CHAT, COMPLETIONS, EMBEDDINGS

METHOD: Final = "POST"  # of every path below

ADAPTERS: Final[Mapping[str, Adapter]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": COUNT_TOKENS,
}


def adapter_for(path: str) -> Adapter | None:
    """The adapter that serves POST on this path; None where the path is not ours."""
    return ADAPTERS.get(path)


__all__ = [
    "ADAPTERS",
    "METHOD",
    "EditError",
    "JsonString",
    "ModelEntry",
    "adapter_for",
    "json_document",
    "model_body",
    "models_body",
    "wants_anthropic",
]
