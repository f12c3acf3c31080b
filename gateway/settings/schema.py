"""The keys of the settings file. Grows by addition; a key of a later version is refused by name until it works."""

from __future__ import annotations

from typing import Any

from gateway.settings.audit_schema import AUDIT, TELEMETRY
from policies.schema import AUDIENCE, NAME_PATTERN, PURPOSE, TERRITORY, WORD_PATTERN
from policies.spec import Choice, Key, Many, Number, Record, Text, Whole

MODEL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}"  # the names providers use
CLASS_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"

_PATH = Text(chars_max=4096, expect="a path")
_TIMEOUT = Number(0.01, 3600)
_RATE = Whole(1, 10_000_000)

_CALLER = Record(
    {
        "name": Key(Text(NAME_PATTERN, "letters, digits, `.`, `_` and `-`"), "the caller's name", required=True),
        "key_sha256": Key(
            Text("[0-9a-f]{64}", "the SHA-256 of the key as 64 hex digits", secret=True, lower=True),
            "SHA-256 of the caller's key. `licet key new` makes both.",
        ),
        "anonymous": Key(Choice((True, False)), "true: no key is asked for; for a trusted network only.", False),
        "models": Key(Many(Text(MODEL_PATTERN, "a model's name"), items_min=1), "models it may use", required=True),
        "rate_per_minute": Key(_RATE, "Calls a minute; left out: only the policy's limit."),
        "concurrent": Key(Whole(1, 100_000), "Calls in flight; left out: only the policy's limit."),
        "tenant": Key(
            Text(WORD_PATTERN, "a tenant's name"), "Whose calls these are, for policies with caller.tenant.", ""
        ),
        "territory": Key(Many(TERRITORY, items_max=60), "Where answers are used, for caller.territory.", ()),
        "purpose": Key(PURPOSE, "What the models are used for, for caller.purpose.", ""),
        "audience": Key(AUDIENCE, "Who sees the answers, for caller.audience.", ""),
        "since": Key(
            Text(r"\d{4}-\d\d-\d\d", "a day such as 2026-11-22"),
            "The day it was admitted. An order against new callers means everyone admitted later, and who has no day.",
        ),
    }
)

_AUDITOR = Record(
    {
        "name": Key(Text(NAME_PATTERN, "letters, digits, `.`, `_` and `-`"), "the auditor's name", required=True),
        "key_sha256": Key(
            Text("[0-9a-f]{64}", "the SHA-256 of the key as 64 hex digits", secret=True, lower=True),
            "SHA-256 of the auditor's key, as `licet key new` makes it",
            required=True,
        ),
    }
)

_TARGET = Record(
    {
        "protocol": Key(Choice(("openai", "anthropic")), "the endpoint's protocol", required=True),
        "base_url": Key(Text(chars_max=2048, expect="a URL"), "e.g. https://api.example.com/v1", required=True),
        "api_key": Key(Text(chars_min=0, chars_max=8192, secret=True), "Sent upstream; callers never see it.", ""),
        "model": Key(Text(MODEL_PATTERN, "a model's name"), "what the endpoint is asked for", required=True),
        "version": Key(Text(chars_max=128), "The model's version, for licenses that name one."),
        "modified": Key(
            Choice((True, False)), "true: the model is served fine-tuned, with adapters or otherwise changed.", False
        ),
        "weights": Key(_PATH, "Folder of the model's files on this host: hashed, and held against the license."),
        "statement": Key(
            Text(chars_max=2048, expect="a URL"), "Where the serving host states, signed, what it has loaded."
        ),
        "proxy": Key(Text(chars_max=2048, secret=True), "HTTP proxy, e.g. http://proxy.example:3128."),
        "ca_file": Key(_PATH, "Certificates (PEM) to trust beside the system's own."),
        "connect_timeout_s": Key(_TIMEOUT, "Longest wait for a connection.", 5.0),
        "first_byte_timeout_s": Key(_TIMEOUT, "Longest wait for the answer to begin.", 120.0),
        "idle_timeout_s": Key(_TIMEOUT, "Longest pause inside an answer.", 60.0),
    }
)

_MODEL = Record(
    {
        "name": Key(Text(MODEL_PATTERN, "a model's name"), "the name callers use", required=True),
        "license": Key(
            _PATH,
            "License file, or `authority:ID` for one from the repository. Without one, the policy decides whether calls pass.",
        ),
        "permits": Key(
            Many(_PATH, items_max=64), "Training permits, for calls that tune the model or make voices.", ()
        ),
        "policy": Key(_PATH, "policy file, or `authority:NAME` for one from the repository", required=True),
        "targets": Key(Many(_TARGET, items_min=1, single=False), "where the model is served", required=True),
    }
)

SETTINGS = Record(
    {
        "listen": Key(
            Record(
                {
                    "host": Key(Text(chars_max=253), "Address to listen on.", "127.0.0.1"),
                    "port": Key(Whole(0, 65_535), "Port; 0 takes any free one.", 8080),
                    "workers": Key(Whole(1, 64), "Worker processes.", 1),
                }
            ),
            "Where callers connect.",
        ),
        "data": Key(_PATH, "Folder for the journal, keys and caches.", "./var"),
        "redis": Key(Text(chars_min=0, chars_max=2048, secret=True), "Shared state; empty: in memory.", ""),
        "callers": Key(Many(_CALLER, items_max=10_000, single=False), "who may call", required=True),
        "trust": Key(
            Record(
                {
                    "keys": Key(_PATH, "Trusted issuers' keys, as `licet license keygen` writes them."),
                    "tuf": Key(
                        Text(chars_max=2048, expect="a URL or a folder"),
                        "An authority's TUF repository: keys, statuses and orders come from it. URL, or a folder that was copied.",
                        "",
                    ),
                    "root": Key(_PATH, "Root metadata of the repository, as the authority handed it over."),
                    "status": Key(Many(_PATH, items_max=64), "Status list files, for those who use no repository.", ()),
                    "orders": Key(Many(_PATH, items_max=64), "Files of orders, likewise.", ()),
                    "gateways": Key(Many(_PATH, items_max=64), "Files of enrolled gateways, likewise.", ()),
                    "refresh_s": Key(Number(1, 86_400), "How often the repository is asked.", 30.0),
                    "audience": Key(Text(chars_max=512), "This gateway's name, for licenses that name theirs.", ""),
                }
            ),
            "Whose licenses count.",
        ),
        "auditors": Key(
            Many(_AUDITOR, items_max=100, single=False),
            "Who may read checkpoints, proofs and records under /audit.",
            (),
        ),
        "names": Key(
            Record(
                {
                    "processes": Key(
                        Whole(1, 64),
                        "Processes that look for names, shared by all workers; started where a policy asks for names.",
                        2,
                    )
                }
            ),
            "Models that look for names of people, places and organizations.",
        ),
        "recognizers": Key(
            Record(
                {
                    "files": Key(Many(_PATH, items_max=16), "Presidio's YAML files of recognizers.", ()),
                    "classes": Key(
                        Many(Text(CLASS_PATTERN, "module:Class"), items_max=32),
                        "Recognizer classes, as module:Class, on PYTHONPATH or beside this file.",
                        (),
                    ),
                    "processes": Key(Whole(1, 64), "Processes that run them, shared by all workers.", 2),
                    "deadline_ms": Key(
                        Whole(10, 60_000),
                        "Longest wait for what they find in one prompt or piece of an answer; beyond it the call is refused.",
                        2000,
                    ),
                }
            ),
            "Presidio recognizers of your own, beside the detectors that are built in.",
        ),
        "models": Key(Many(_MODEL, items_min=1, items_max=1000, single=False), "what is served", required=True),
        "training_bytes_max": Key(
            Whole(1_048_576, 536_870_912),
            "Largest upload of training data, which a permit names by digest.",
            67_108_864,
        ),
        "audit": Key(AUDIT, "How the journal is sealed, witnessed, kept and opened."),
        "telemetry": Key(TELEMETRY, "Where sealed records are sent."),
    }
)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the settings file, for editors."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Licet settings"}
    return head | SETTINGS.schema(references=True)
