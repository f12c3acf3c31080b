"""What the journal says of licenses and orders: one note for each whose standing changed, and which calls that concerns.

The detail of a note on `standing` is flat. Of a license:

    {"subject": "license", "license": jti, "issuer": iss, "status": "suspended", "was": "valid", "published_s": iat of the
     status list, "list": its URI, "digest": of its token, "version": of the whole set of files}

Of an order:

    {"subject": "order", "order": ref, "issuer": iss, "state": "given", "scope": "model", "effective_at": s, "lifted_at": s,
     "published_s": iat of the list, "reach": "any", "models.0": '["gpt-*"]', "digest": ..., "version": ...}

`status` is valid, suspended, revoked, other, or unknown where no list says it; `was` is left out, and `first` set, in a stream's first
notes. `state` is given, changed, or gone when the list no longer has the order. `reach` is own for an issuer that can only
stop its own licenses. Lists of words are JSON in pieces (`models.0`, `models.1`, ...), which follow each other; `cut` says
that not all words had room. Names longer than a value may be end in their digest (`short`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.audit.record import STRING_CHARS_MAX, Intent, Note
from policies.territories import meet

TOPIC = "standing"
LICENSE, ORDER = "license", "order"
VALID, SUSPENDED, REVOKED, OTHER, UNKNOWN = "valid", "suspended", "revoked", "other", "unknown"
STOPPED = frozenset({SUSPENDED, REVOKED, OTHER})  # statuses that forbid every call
GIVEN, CHANGED, GONE = "given", "changed", "gone"
OWN, ANY = "own", "any"
# Pieces that a note has room for beside its other values, which are 13 at most (32 in all).
PIECES = {"models": 15, "modalities": 2, "jurisdictions": 2}

Detail = dict[str, str | int | bool]

_HASH_CHARS = 64
_OUT_OF = {"embeddings": "embedding"}  # what an operation gives back, where it is not text


def short(name: str) -> str:
    """A name as a note holds it: itself, or its beginning and its SHA-256."""
    if len(name) <= STRING_CHARS_MAX:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[: STRING_CHARS_MAX - _HASH_CHARS - 1]}~{digest}"


def pieces(name: str, words: Iterable[str]) -> tuple[Detail, bool]:
    """The values that hold a list of words, and whether some had no room."""
    room = PIECES[name] * STRING_CHARS_MAX
    kept: list[str] = []
    cut = False
    used = 2  # the brackets
    for word in words:
        used += len(json.dumps(word)) + 2
        if used > room:
            cut = True
            break
        kept.append(word)
    text = json.dumps(kept) if kept else ""
    starts = range(0, len(text), STRING_CHARS_MAX)
    return {f"{name}.{i}": text[at : at + STRING_CHARS_MAX] for i, at in enumerate(starts)}, cut


def _words(detail: Mapping[str, str | int | bool], name: str) -> tuple[str, ...]:
    text = "".join(str(detail[key]) for i in range(PIECES[name]) if (key := f"{name}.{i}") in detail)
    made = json.loads(text) if text else []
    if not isinstance(made, list):
        raise TypeError(name)
    return tuple(str(word) for word in made)


@dataclass(frozen=True, slots=True)
class Change:
    """One note, read back."""

    seq: int
    received_ms: int  # when this worker began to go by it
    subject: str  # license | order
    name: str  # jti or ref, as `short`
    issuer: str
    status: str  # of a license; of an order its state
    published_s: int
    first: bool  # whether the stream began with it
    effective_at_s: int = 0
    lifted_at_s: int | None = None
    scope: str = ""
    reach: str = OWN
    models: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    jurisdictions: tuple[str, ...] = ()
    cut: bool = False

    @property
    def stops(self) -> bool:
        """Whether calls that it concerns are forbidden from it on."""
        return self.status in STOPPED if self.subject == LICENSE else self.status != GONE

    @property
    def effective_ms(self) -> int:
        """From when on: an order may be received before it takes effect."""
        return max(self.received_ms, self.effective_at_s * 1000)

    def reaches_like(self, other: Change) -> bool:
        """Whether it forbids the same calls from the same time on."""
        if self.subject == LICENSE:
            return self.status == other.status
        mine, theirs = (
            (c.effective_at_s, c.scope, c.reach, c.models, c.modalities, c.jurisdictions, c.cut) for c in (self, other)
        )
        return mine == theirs

    def concerns(self, call: Intent, *, new_caller: bool) -> bool:
        """Whether a call is of that license, or in the order's reach, as far as its record tells. Doubt says yes."""
        if self.subject == LICENSE:
            return call.license is not None and short(call.license.id or "") == self.name
        if self.reach == OWN and call.license is not None and call.license.issuer not in (None, self.issuer):
            return False
        if self.scope == "model" and self.models:
            id_ = call.license.id if call.license is not None else None
            names = {name.lower() for name in (call.model, call.target_model, id_) if name}
            if not any(_named(pattern.lower(), names) for pattern in self.models):
                return False
        if self.scope == "modality" and self.modalities:
            ordered = {modality.lower() for modality in self.modalities}
            inward = call.prompt.modalities if call.prompt is not None else None
            used = {*(inward or ("text",)), _OUT_OF.get(call.operation or "", "text")}
            if "*" not in ordered and ordered.isdisjoint(used):
                return False
        if self.scope == "new_callers" and not new_caller:
            return False
        return _touches(self.jurisdictions, call.territory or ())


def read_change(seq: int, note: Note) -> Change | None:
    """The change that a note tells; None for a note on something else, or of a form that is not known."""
    detail = note.detail
    if note.topic != TOPIC or detail is None:
        return None
    subject = detail.get("subject")
    if subject not in (LICENSE, ORDER):
        return None
    lifted_at = detail.get("lifted_at")
    try:
        return Change(
            seq=seq,
            received_ms=note.ts,
            subject=str(subject),
            name=str(detail[str(subject)]),
            issuer=str(detail["issuer"]),
            status=str(detail["status" if subject == LICENSE else "state"]),
            published_s=int(detail["published_s"]),
            first="was" not in detail if subject == LICENSE else bool(detail.get("first", False)),
            effective_at_s=int(detail.get("effective_at", 0)),
            lifted_at_s=None if lifted_at is None else int(lifted_at),
            scope=str(detail.get("scope", "")),
            reach=str(detail.get("reach", OWN)),
            models=_words(detail, "models"),
            modalities=_words(detail, "modalities"),
            jurisdictions=_words(detail, "jurisdictions"),
            cut=bool(detail.get("cut", False)),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _named(pattern: str, names: set[str]) -> bool:
    """As orders are read: `*` at either end stands for anything."""
    core = pattern.removeprefix("*").removesuffix("*")
    if len(core) == len(pattern):
        return pattern in names
    starts, ends = pattern.startswith("*"), pattern.endswith("*")
    return any((core in name if ends else name.endswith(core)) if starts else name.startswith(core) for name in names)


def _touches(ordered: tuple[str, ...], places: tuple[str, ...]) -> bool:
    """Whether an order for some territories reaches a call from some."""
    codes = {code.lower() for code in ordered}
    return "*" in codes or meet(codes, {place.lower() for place in places})
