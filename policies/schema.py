"""The keys of the policy file. Grows by addition; a key or value of a later version is refused by name until it works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from policies.impose import PRESET_PATTERN
from policies.model import (
    CUSTOM_SCORE,
    HOUR_S,
    KEEP,
    KEEP_MAX,
    MIN_SCORE,
    NAMES_CHARS_MAX,
    NAMES_DEADLINE_MS,
    PSEUDONYM_TTL_S,
    ROLES,
    SPOOL_FULL,
    STATUS_AGE_S_MAX,
)
from policies.rows import ON_DRIFT, STATUS, TRUST
from policies.spec import Choice, Duration, Either, Key, Kind, Many, Number, Record, Table, Text, Whole
from policies.yamlread import Log, Map, Node

ENTITY_PATTERN = r"[A-Z][A-Z0-9_]{0,63}"
# Tags name a law and a term of it, such as pipl.spi; `secret` is a term of its own.
TAG_PATTERN = r"[a-z][a-z0-9]{0,31}(?:\.[a-z][a-z0-9_]{0,31})?"
IMPERSONATION_PREFIX = "IMPERSONATION_"  # findings of the impersonation gate; their actions stand under `impersonation`
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
# ISO 3166-1 alpha-2 and 3166-2 codes and unions of states such as `eu`, in lower case.
# A member state goes by its own code: `eu-de` would meet nothing.
TERRITORY_PATTERN = r"(?!eu-)[a-z]{2,3}(?:-[a-z0-9]{1,3})?"
WORD_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}"
# BCP 47 language tags in their usual short forms.
LANGUAGE_PATTERN = r"[a-z]{2,3}(?:-[a-z0-9]{2,8}){0,2}"

FROM_CALLER = "caller."  # caller.tenant: the fact comes from the caller's entry
FROM_CLAIM = "claim:"  # claim:x: the fact comes from a signed claim

TERRITORY = Text(TERRITORY_PATTERN, "a territory code such as eu, de (never eu-de) or us-ca", lower=True)
PURPOSE = Text(WORD_PATTERN, "a purpose such as customer-service", lower=True)
AUDIENCE = Choice(("internal", "public"))

_ACTIONS = ("allow", "report", "mask", "block")
_PROMPT_ACTION = Choice(("allow", "report", "pseudonymize", "mask", "block"))
_ANSWER_ACTION = Choice(
    _ACTIONS,
    elsewhere={
        "pseudonymize": ("only prompts are pseudonymized; in answers pseudonyms become values again", "use mask")
    },
)


@dataclass(frozen=True, slots=True)
class _Treatment(Record):
    """An action with what belongs to it: how a mask looks, and from which score on it acts."""

    def read(self, node: Node, at: str, log: Log) -> Any:
        made = Record.read(self, node, at, log)
        if not isinstance(node, Map) or made is None:
            return made
        action, entries = made["action"], node.entries
        if action is not None and action != "mask":
            for name in ("style", "keep"):
                if name in entries:
                    log.add(
                        entries[name], f"{at}.{name}", f"`{action}` has no {name}", "remove it, or use action: mask"
                    )
        elif "keep" in entries and made["style"] not in ("partial", None):
            what = f"`{made['style']}` shows no character of the value"
            log.add(entries["keep"], f"{at}.keep", what, "remove it, or use style: partial")
        return made


def _treatment(action: Choice) -> Kind:
    keys = {
        "action": Key(action, "What is done.", required=True),
        "style": Key(
            Choice(("label", "partial", "hash")),
            "How a mask looks. label: <ENTITY>. partial: **** and the last characters. hash: <ENTITY:keyed digest>.",
            "label",
        ),
        "keep": Key(Whole(0, KEEP_MAX), "Characters that `partial` shows, never more than a third of the value.", KEEP),
        "min_score": Key(_SCORE, "Findings of it below this score do not count; else the direction's min_score."),
    }
    return Either(action, _Treatment(keys))


_SCORE = Number(0, 1)


def _entities(action: Choice, *, tagged: bool) -> Table:
    """Actions by entity; in a role's table, which has no place beside it, by tag too."""
    words: dict[str, Kind] = {"default": action}
    if tagged:
        words["tags"] = _tags(action)
    return Table(ENTITY_PATTERN, "an entity name such as CREDIT_CARD, or default", _treatment(action), words=words)


def _tags(action: Choice) -> Table:
    return Table(TAG_PATTERN, "a tag such as pipl.spi", _treatment(action))


_PERSON_ACTION = Choice(("allow", "report", "block"), later=("label",))
_NO_DETECTOR = Choice(("allow",), later=("report", "block", "label"))
_NAMES_MODE = Choice(("off", "fast", "thorough"))
# Bounds of our own: the deadline keeps a call from waiting without end, the size is 16 MB of a body at the most.
_NAMES = Either(
    _NAMES_MODE,
    Record(
        {
            "mode": Key(_NAMES_MODE, "off, fast, or thorough, which finds more and costs more.", required=True),
            "deadline_ms": Key(Whole(10, 60_000), "How long the models may take for one text.", NAMES_DEADLINE_MS),
            "chars_max": Key(
                Whole(1, 16_777_216), "Characters of one body, or of one answer, that are looked at.", NAMES_CHARS_MAX
            ),
            "beyond": Key(
                Choice(("refuse", "patterns")),
                "Beyond deadline or size: refuse the call, or go on with patterns alone.",
                "refuse",
            ),
        }
    ),
)
_REFUSE = Choice(("refuse",))


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
        "regimes": Key(
            Many(Text(r"[a-z0-9][a-z0-9_.-]{0,63}", "a regime such as internal or cn-beian")),
            "What the license's own `regime` may be; empty: any.",
            (),
        ),
        "trust_min": Key(
            Choice(TRUST),
            "Who must vouch for the license: anybody trusted here, an attestor, or a regulator.",
            TRUST[0],
        ),
        "binding_min": Key(
            Whole(0, 3),
            "How strongly the endpoint is bound to the license. 0: name. 1: endpoint origin, TLS keys and served names. "
            "2: the serving host states what it loaded. 3: weights hashed on this host.",
            1,
        ),
        "status": Key(
            Choice(STATUS),
            "required: a license without a status list, which nobody can suspend, is refused.",
            STATUS[0],
        ),
        "status_max_age": Key(Duration(60, STATUS_AGE_S_MAX), "How old the license's status may be.", 24 * HOUR_S),
        "offline_grace": Key(
            Duration(0, STATUS_AGE_S_MAX),
            "For how long on top, when no newer status can be had; both together at most 96h.",
            24 * HOUR_S,
        ),
        "on_drift": Key(
            Choice(ON_DRIFT), "When the endpoint calls itself by a name that is not licensed: block, or flag.", "block"
        ),
        "served_model": Key(
            Many(Text(chars_max=128)),
            "Glob patterns of what the upstream may call itself in its answers; empty: what the license says.",
            (),
        ),
    }
)

_NAMES_DOC = "Whether models look for names of people, places and organizations."
_DECODE = Many(Choice(("base64",)))
_DECODE_DOC = "Encodings that are undone and looked into. `base64` stands for hexadecimal text, too; what is found covers all of it."
_ENTITIES_DOC = "What to do with each kind of finding: an action, or {action, style, keep, min_score}. `default` is for those not listed."
_TAGS_DOC = (
    "The same by tag of a law, such as pipl.spi; an entity that is named goes before its tags, of tags the strictest."
)

_PROMPT = Record(
    {
        "names": Key(_NAMES, _NAMES_DOC, "off"),
        "entities": Key(_entities(_PROMPT_ACTION, tagged=False), _ENTITIES_DOC, {}),
        "tags": Key(_tags(_PROMPT_ACTION), _TAGS_DOC, {}),
        "min_score": Key(_SCORE, "Findings below this score do not count.", MIN_SCORE),
        "decode": Key(_DECODE, _DECODE_DOC, ()),
        "roles": Key(
            Record(
                {
                    role: Key(
                        Either(_PROMPT_ACTION, _entities(_PROMPT_ACTION, tagged=True)),
                        f"For {role} text: one action for everything, or actions by entity (and `tags`) over those above.",
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
        "names": Key(_NAMES, _NAMES_DOC, "off"),
        "entities": Key(_entities(_ANSWER_ACTION, tagged=False), _ENTITIES_DOC, {}),
        "tags": Key(_tags(_ANSWER_ACTION), _TAGS_DOC, {}),
        "min_score": Key(_SCORE, "Findings below this score do not count.", MIN_SCORE),
        "decode": Key(_DECODE, _DECODE_DOC, ()),
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

_PSEUDONYMS = Record(
    {
        "style": Key(
            Choice(("tag", "realistic")),
            "tag: <PERSON_1>. realistic: an invented value of the same form.",
            "tag",
        ),
        "ttl": Key(Duration(60, 90 * 86_400), "How long a pseudonym is known after its last use.", PSEUDONYM_TTL_S),
        "scope": Key(Choice(("conversation",)), "Within what the same value has the same pseudonym.", "conversation"),
    }
)

# Bounds are our choice. What they say of expressions goes for detectors, too, which check the rest (`load`).
CUSTOM_WORDS_MAX = 20_000  # more do not fit into a file
_CUSTOM = Table(
    ENTITY_PATTERN,
    "a name such as EMPLOYEE_ID",
    Record(
        {
            "pattern": Key(Text(chars_max=1000), "A regular expression, run in linear time."),
            "words": Key(
                Many(Text(r"\S(?:.*\S)?", "a word or phrase", 2, 256), items_min=1, items_max=CUSTOM_WORDS_MAX),
                "Words and phrases, instead of a pattern.",
            ),
            "file": Key(None, "A file with one word or phrase a line."),
            "score": Key(Number(0, 1), "The score of a finding, before context.", CUSTOM_SCORE),
            "context": Key(
                Many(Text(r"\S(?:.*\S)?", "a word or phrase", 1, 64)),
                "Words that raise the score when they stand shortly before.",
                (),
            ),
            "whole_words": Key(
                Choice((True, False)),
                "Whether letters and digits around a word make it another one; not asked of Chinese characters.",
                True,
            ),
            "ignore_case": Key(Choice((True, False)), "Whether large and small letters are the same.", True),
        }
    ),
    entries_max=100,
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
        "preset": Key(
            Many(Text(PRESET_PATTERN, "a preset, or a section of one, such as cn-approval/license")),
            "Regimes as data: whole presets, or sections of them. `licet policy presets` lists them.",
            (),
        ),
        "mode": Key(
            Choice(("enforce", "shadow")),
            "shadow: judge and record what would have happened, change nothing.",
            "enforce",
        ),
        "facts": Key(_FACTS, "Where the facts of a call come from; never from a header or a field of the request."),
        "license": Key(_LICENSE, "What is asked of the model's license."),
        "prompt": Key(_PROMPT, "What is done with findings in prompts."),
        "answer": Key(_ANSWER, "What is done with findings in answers."),
        "custom": Key(_CUSTOM, "Entities of your own: a pattern or words. Their actions stand with the others.", {}),
        "pseudonyms": Key(_PSEUDONYMS, "What stands for values that are pseudonymized."),
        "labels": Key(None, "Marks on answers."),
        "record": Key(
            Record(
                {
                    "content": Key(
                        Choice(("none", "digest", "encrypted")),
                        "What is kept of the text: nothing but its size and the body's digest; a keyed digest of each text that "
                        "was delivered; or also the exchange as it was after filtering, encrypted.",
                        "digest",
                    ),
                    "evidence": Key(
                        Choice(("none", "blocked")),
                        "Whether content that was blocked is kept, encrypted, for two custodians to open together.",
                        "none",
                    ),
                    "retention": Key(
                        Duration(0, 36_500 * 86_400),
                        "For how long records must be kept at least; the settings say how long they are.",
                        0,
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
                    "spool_full": Key(
                        Choice(SPOOL_FULL),
                        "When what waits for remote places that are required reaches its bound: calls are refused at once, "
                        "after a while, or never.",
                        "refuse",
                    ),
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
