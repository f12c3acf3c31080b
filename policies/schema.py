"""The keys of the policy file. Grows by addition; a key or value of a later version is refused by name until it works."""

from __future__ import annotations

from typing import Any

from policies.model import MIN_SCORE, ROLES
from policies.spec import Choice, Either, Key, Many, Number, Record, Table, Text, Whole

ENTITY_PATTERN = r"[A-Z][A-Z0-9_]{0,63}|default"
IMPERSONATION_PREFIX = "IMPERSONATION_"  # findings of the impersonation gate; their actions stand under `impersonation`
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
# ISO 3166-1 alpha-2 and 3166-2 codes and unions of states such as `eu`, in lower case.
TERRITORY_PATTERN = r"[a-z]{2,3}(?:-[a-z0-9]{1,3})?"
WORD_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}"
# BCP 47 language tags in their usual short forms.
LANGUAGE_PATTERN = r"[a-z]{2,3}(?:-[a-z0-9]{2,8}){0,2}"

FROM_CALLER = "caller."  # caller.tenant: the fact comes from the caller's entry
FROM_CLAIM = "claim:"  # claim:x: the fact comes from a signed claim

TERRITORY = Text(TERRITORY_PATTERN, "a territory code such as eu, de or us-ca", lower=True)
PURPOSE = Text(WORD_PATTERN, "a purpose such as customer-service", lower=True)
AUDIENCE = Choice(("internal", "public"))

_ACTION = Choice(("allow", "report", "mask", "block"), later=("pseudonymize",))
_ENTITIES = Table(ENTITY_PATTERN, "an entity name such as CREDIT_CARD, or default", _ACTION, words=("default",))
_PERSON_ACTION = Choice(("allow", "report", "block"), later=("label",))
_NO_DETECTOR = Choice(("allow",), later=("report", "block", "label"))
_NAMES = Choice(("off",), later=("fast", "thorough"))
_REFUSE = Choice(("refuse",))
_SCORE = Number(0, 1)


def _fact(name: str, kind: Text) -> Text:
    """Text that may also be a reference to the caller's entry or a claim, told apart by `load`."""
    return Text(
        rf"caller\.{name}|claim:.*|(?!caller\.|claim:)(?:{kind.pattern})",
        f"{kind.expect}, or caller.{name}",
        lower=kind.lower,
    )


_FACTS = Record(
    {
        "tenant": Key(
            _fact("tenant", Text(WORD_PATTERN, "a tenant's name")),
            "Whose call it is: a fixed name, or caller.tenant.",
            "caller.tenant",
        ),
        "territory": Key(
            Many(_fact("territory", TERRITORY), items_max=60),
            "Where the answer is used: territory codes, or caller.territory. The license must cover each.",
            (),
        ),
        "purpose": Key(_fact("purpose", PURPOSE), "What the model is used for, or caller.purpose.", ""),
        "audience": Key(
            Choice(("internal", "public", "caller.audience")),
            "Who sees the answers: internal, public, or caller.audience.",
            "public",
        ),
        "age_band": Key(None, "The age band of the end user, from a signed claim."),
    }
)

_LICENSE = Record(
    {
        "required": Key(
            Choice((True, "warn", False)),
            "true: no valid license, no call. warn: record only. false: not looked at.",
            True,
        ),
        "regimes": Key(Many(Text(), later=True), "Regimes that the license must come from.", ()),
        "binding_min": Key(
            Whole(0, 3, later_above=1),
            "How strongly the endpoint is bound to the license. 0: name. 1: endpoint origin and served-model string.",
            1,
        ),
        "status_max_age": Key(None, "How old the license's status may be."),
        "offline_grace": Key(None, "How long a stale status is tolerated."),
        "served_model": Key(
            Many(Text(chars_max=128)),
            "Glob patterns of what the upstream may call itself in its answers; empty: what the license says.",
            (),
        ),
    }
)

_PROMPT = Record(
    {
        "names": Key(_NAMES, "Find personal names with a model.", "off"),
        "entities": Key(_ENTITIES, "What to do with each kind of finding. `default` is for those not listed.", {}),
        "min_score": Key(_SCORE, "Findings below this score do not count.", MIN_SCORE),
        "roles": Key(
            Record(
                {
                    role: Key(
                        Either(_ACTION, _ENTITIES),
                        f"For {role} text: one action for everything, or actions by entity over those above.",
                    )
                    for role in ROLES
                }
            ),
            "Other actions by who wrote the text.",
        ),
        "impersonation": Key(
            Record(
                {
                    "public_figure": Key(_PERSON_ACTION, "Asking the model to speak as a known person.", "block"),
                    "private_person": Key(_NO_DETECTOR, "Asking the model to speak as a private person.", "allow"),
                    "fictional": Key(_NO_DETECTOR, "Asking the model to speak as a fictional character.", "allow"),
                }
            ),
            "What to do when a prompt asks the model to be somebody.",
        ),
    }
)

_ANSWER = Record(
    {
        "names": Key(_NAMES, "Find personal names with a model.", "off"),
        "entities": Key(_ENTITIES, "What to do with each kind of finding. `default` is for those not listed.", {}),
        "min_score": Key(_SCORE, "Findings below this score do not count.", MIN_SCORE),
        "impersonation": Key(
            Record({"self_claim": Key(_PERSON_ACTION, "The model claims to be a known person.", "block")}),
            "What to do when an answer claims to be somebody.",
        ),
        "unknown_fields": Key(
            Choice(("judge", "drop", "refuse")), "Fields of the answer that this version does not know.", "judge"
        ),
        "hold": Key(
            Choice(("open-match",), later=("sentence", "all")),
            "How much of a stream is held back: only text that a finding could still reach.",
            "open-match",
        ),
    }
)

# Upper bounds are our choice: far above use, low enough to keep one call from taking a worker's memory or time.
_LIMITS = Record(
    {
        "prompt_bytes_max": Key(Whole(1, 16_777_216), "Largest request body.", 1_048_576),
        "answer_bytes_max": Key(Whole(1, 67_108_864), "Largest answer, streamed or not.", 8_388_608),
        "rate_per_minute": Key(Whole(1, 10_000_000), "Calls of this model a minute, all callers together.", 600),
        "concurrent": Key(Whole(1, 100_000), "Calls of this model in flight, all callers together.", 64),
        "stream_seconds_max": Key(Whole(1, 86_400), "Longest stream.", 900),
    }
)

POLICY = Record(
    {
        "version": Key(Whole(1, 1), "version of this file format: 1", required=True),
        "name": Key(Text(NAME_PATTERN, "letters, digits, `.`, `_` and `-`"), "name of the policy", required=True),
        "owner": Key(Text(chars_max=256), "who answers for the policy; recorded with each decision", required=True),
        "preset": Key(Many(Text(), later=True), "Regulatory presets.", ()),
        "mode": Key(
            Choice(("enforce", "shadow")),
            "shadow: judge and record what would have happened, change nothing.",
            "enforce",
        ),
        "facts": Key(_FACTS, "Where the facts of a call come from; never from a header or a field of the request."),
        "license": Key(_LICENSE, "What is asked of the model's license."),
        "prompt": Key(_PROMPT, "What is done with findings in prompts."),
        "answer": Key(_ANSWER, "What is done with findings in answers."),
        "labels": Key(None, "Marks on answers."),
        "record": Key(
            Record(
                {
                    "content": Key(
                        Choice(("none",), later=("digest", "encrypted")), "What the record keeps of the text.", "none"
                    ),
                    "durable": Key(
                        Choice(("before_answer", "before_egress")),
                        "When the intent record must be on disk: before any of the answer is let through, or before "
                        "the prompt is sent.",
                        "before_answer",
                    ),
                }
            ),
            "The audit record.",
        ),
        "upstream_storage": Key(None, "Whether the provider may keep data."),
        "limits": Key(_LIMITS, "Bounds."),
        "refusal": Key(
            Record(
                {
                    "style": Key(
                        Choice(("error", "message")),
                        "An error, or a message of the assistant, in the dialect.",
                        "error",
                    ),
                    "status": Key(Whole(400, 499), "HTTP status when content is refused.", 400),
                    "text": Key(
                        Table(LANGUAGE_PATTERN, "a language tag such as en or zh", Text(chars_max=1000), 50),
                        "What the caller reads, by language.",
                        {},
                    ),
                }
            ),
            "How a refusal of content looks.",
        ),
        "failure": Key(
            Record(
                {
                    "license_stale": Key(_REFUSE, "When the license's status is too old.", "refuse"),
                    "detector": Key(_REFUSE, "When a detector fails or takes too long.", "refuse"),
                    "spool_full": Key(_REFUSE, "When what waits for remote places reaches its bound.", "refuse"),
                }
            ),
            "What happens when something cannot be decided.",
        ),
    }
)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the policy file, for editors."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Licet policy"}
    return head | POLICY.schema(references=False)
