"""Training calls: uploads of training data, fine-tuning jobs, and the making of voices, in OpenAI's dialect.

The paths are OpenAI's, and ElevenLabs' one for a voice. A call is read into a `Prompt`, whose channels are judged like
any other, and a `Wish`: which files it brings or names, and whose voice it asks for. Files themselves are no channels:
nobody reads a million examples at a gateway, so they pass by their digest or not at all.

Forms and jobs go by closed lists of fields. A field that is not known here may name more data, another model or another
place to send things to, so it is refused instead of judged.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.errors import CallerError, UpstreamError
from gateway.protocols.base import Answer, Channel, EditLike, Kind, Prompt, Role, StreamCodec
from gateway.protocols.bodies import malformed, model_of, read_answer, read_prompt, string
from gateway.protocols.document import EditError, JsonBody
from gateway.protocols.failures import BARE_ERROR, error
from gateway.protocols.jsontext import ARRAY, LITERAL, NUMBER, OBJECT, STRING, Node
from gateway.protocols.refusals import openai_error
from gateway.protocols.rules import (
    Fields,
    Rule,
    anything,
    as_role,
    constant,
    count,
    each,
    epoch,
    ident,
    members,
    obj,
    small,
    text,
    word,
)
from gateway.protocols.shapes import IDENT, PLAIN, is_small
from gateway.protocols.surfaces import Walk, nested_walk
from gateway.reasons import Reason, Refusal

ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")  # of files, jobs and consents: what providers make


class Act(enum.StrEnum):
    """What a training call does; also its operation in records."""

    UPLOAD = "files.create"
    FILE = "files.retrieve"
    FORGET = "files.delete"
    TRAIN = "fine_tuning.create"
    JOB = "fine_tuning.retrieve"
    EVENTS = "fine_tuning.events"
    CHECKPOINTS = "fine_tuning.checkpoints"
    CANCEL = "fine_tuning.cancel"
    PAUSE = "fine_tuning.pause"
    RESUME = "fine_tuning.resume"
    CONSENT = "voice_consents.create"
    VOICE = "voices.create"
    VOICE_ADD = "voices.add"
    OTHER = "training"  # a path of this kind that is refused by name


# Calls about something made earlier: the path says about what.
ABOUT_FILES: Final = frozenset({Act.FILE, Act.FORGET})
ABOUT_JOBS: Final = frozenset({Act.JOB, Act.EVENTS, Act.CHECKPOINTS, Act.CANCEL, Act.PAUSE, Act.RESUME})
# Calls that end what goes on, or take it back: whoever may no longer train must be able to stop.
ENDING: Final = frozenset({Act.CANCEL, Act.PAUSE, Act.FORGET})
VOICES: Final = frozenset({Act.CONSENT, Act.VOICE, Act.VOICE_ADD})


@dataclass(frozen=True, slots=True)
class FormField:
    """What one field of a form may be."""

    file: bool = False
    required: bool = False
    many: bool = False
    shape: re.Pattern[str] | None = None


_REQUIRED: Final = FormField(required=True)
_FILE: Final = FormField(file=True, required=True)
# OpenAI: `fine-tune`; some servers that speak its dialect write it with an underscore.
FINE_TUNING: Final = frozenset({"fine-tune", "fine_tune"})

FORMS: Final[Mapping[Act, Mapping[str, FormField]]] = {
    Act.UPLOAD: {
        "purpose": _REQUIRED,
        "file": _FILE,
        "expires_after[anchor]": FormField(shape=re.compile("created_at")),
        "expires_after[seconds]": FormField(shape=re.compile("[0-9]{1,8}")),
    },
    Act.CONSENT: {
        "name": _REQUIRED,
        "language": FormField(required=True, shape=re.compile("[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,4}")),  # BCP 47
        "recording": _FILE,
    },
    Act.VOICE: {
        "name": _REQUIRED,
        "consent": _REQUIRED,
        "audio_sample": _FILE,
        "type": FormField(),
        # Of voices that are made from a description, which `read_form` refuses.
        "prompt": FormField(),
        "model": FormField(),
        "script_hint": FormField(),
    },
    Act.VOICE_ADD: {
        "name": _REQUIRED,
        # Its documentation says `files`, the examples beside it `files[]`.
        "files": FormField(file=True, many=True),
        "files[]": FormField(file=True, many=True),
        "description": FormField(),
        "labels": FormField(),
        "remove_background_noise": FormField(shape=re.compile("true|false")),
    },
}


_DESCRIBED: Final = frozenset({"prompt", "model", "script_hint"})


class Part(msgspec.Struct, frozen=True):
    """One part of a form that was read: a field with its text, or a file with its digests."""

    name: str
    text: str = ""
    filename: str = ""  # "": a field
    media: str = ""
    digests: tuple[str, ...] = ()  # `sha256:` and 64 hex digits, and `sm3:` where it was asked for
    bytes: int = 0


class Form(msgspec.Struct, frozen=True):
    """A form that was read, and the very bytes it was read from."""

    body: bytes
    boundary: str
    parts: tuple[Part, ...]

    def texts(self, name: str) -> str:
        """The text of a field; "" if it is not there."""
        return next((part.text for part in self.parts if part.name == name and not part.filename), "")


class Wish(msgspec.Struct, frozen=True):
    """What a training call needs leave for."""

    files: tuple[Part, ...] = ()  # that it brings
    named: tuple[str, ...] = ()  # ids of files that were brought earlier
    grant: str = ""  # the reference to a person's consent that it states
    consent: str = ""  # the id of a recorded consent


class FormDocument:
    """A form's texts. None can be edited: what would be masked blocks, and the form leaves as it came (L5)."""

    __slots__ = ("_body", "_channels")

    def __init__(self, body: bytes, channels: Sequence[Channel]) -> None:
        self._body = body
        self._channels = channels

    @property
    def channels(self) -> Sequence[Channel]:
        """Fields, names of files, and what else of a form a caller can write at will."""
        return self._channels

    def rewrite(self, edits: Mapping[str, Sequence[EditLike]], *, model: str | None = None) -> bytes:
        """The very bytes that came in. Raises EditError for an edit."""
        if any(edits.values()):
            raise EditError("a form cannot be edited")
        return self._body


NOTHING: Final = FormDocument(b"", ())
# Node's own fetch makes boundaries that no rule for ids takes: a zero and eleven random digits.
_UNDICI: Final = re.compile(r"----formdata-undici-0[0-9]{11}")


def _channels(form: Form) -> list[Channel]:
    channels: list[Channel] = []
    if not IDENT.fullmatch(form.boundary) and not _UNDICI.fullmatch(form.boundary):
        channels.append(Channel("boundary", Role.UNKNOWN, form.boundary, Kind.FIXED))
    for position, part in enumerate(form.parts):
        at = f"{part.name}#{position}" if part.name.startswith("files") else part.name
        if part.filename:
            channels.append(Channel(f"{at}.filename", Role.USER, part.filename, Kind.FIXED))
        elif part.text:
            channels.append(Channel(at, Role.USER, part.text, Kind.FIXED))
            inner = nested_walk(part.text, f"{at}/", Role.USER, 1)  # labels: JSON can spell a text in other ways
            for channel in inner.channels if inner is not None else ():
                channels.append(msgspec.structs.replace(channel, kind=Kind.FIXED))
        if part.media and not IDENT.fullmatch(part.media):
            channels.append(Channel(f"{at}.type", Role.UNKNOWN, part.media, Kind.FIXED))
    return channels


def read_form(act: Act, form: Form) -> tuple[Prompt, Wish]:
    """A form's texts and what it wishes for. Raises CallerError."""
    known = FORMS[act]
    files = tuple(part for part in form.parts if part.filename)
    given = {part.name for part in form.parts}
    if act is Act.VOICE and (form.texts("type") not in ("", "audio_sample") or given & _DESCRIBED):
        raise CallerError(
            Reason.TRAINING_PERMIT, "A voice is made only from a recording that a permit names.", param="type"
        )
    for name, rule in known.items():
        if rule.required and name not in given:
            malformed(name, "is missing from the form")
        if rule.shape is not None and name in given and not rule.shape.fullmatch(form.texts(name)):
            malformed(name, "does not have the form that the dialect gives it")
    if act is Act.UPLOAD and form.texts("purpose") not in FINE_TUNING:
        raise CallerError(
            Reason.CONTENT_UNJUDGEABLE, "Files are accepted for fine-tuning only: set purpose to fine-tune.", param="purpose"
        )  # fmt: skip
    if act is Act.VOICE_ADD and len({part.name for part in files}) != 1:
        malformed("files", "must hold the recordings, under one name")
    grant = form.texts("name") if act in (Act.CONSENT, Act.VOICE_ADD) else ""
    wish = Wish(files, grant=grant, consent=form.texts("consent"))
    modalities = frozenset({"text", "audio"} if act in VOICES else {"text"})
    return Prompt(FormDocument(form.body, _channels(form)), "", stream=False, modalities=modalities), wish


# jobs


def _integrations(w: Walk, node: Node, path: str, role: Role) -> None:
    """They would send what the job learns to a third service."""
    if not (node.kind == LITERAL and node.value == "null") and not (node.kind == ARRAY and not node.items):
        malformed(path, "is not accepted: it would send results of the training to another service")


# Inside `method` these would bring in a model, data or a service that no permit and no license was looked at for.
_ELSEWHERE: Final = frozenset(
    {"model", "models", "file", "files", "file_id", "file_ids", "url", "endpoint", "integration", "integrations"}
)
_DEPTH_MAX: Final = 32  # our choice: a grader of graders is four deep


def _method(w: Walk, node: Node, path: str, role: Role) -> None:
    """How to train: numbers, and graders' texts, which are judged."""
    _stays_here(node, path, 0)
    w.bundle(path, Role.USER, node)


def _stays_here(node: Node, path: str, depth: int) -> None:
    if depth > _DEPTH_MAX:
        malformed(path, "is nested too deeply")
    for key, child in node.members if node.kind == OBJECT else ():
        if key.casefold() in _ELSEWHERE:
            malformed(path, "names a further model, file or service; training uses what the permit names")
        _stays_here(child, path, depth + 1)
    for child in node.items if node.kind == ARRAY else ():
        _stays_here(child, path, depth + 1)


_JOB: Final[Fields] = {
    "model": ident,
    "training_file": ident,
    "validation_file": ident,
    "suffix": as_role(Role.USER, text),
    "seed": small,
    "metadata": as_role(Role.USER, anything),
    "hyperparameters": _method,
    "method": _method,
    "integrations": _integrations,
}


def read_job(body: bytes) -> tuple[Prompt, Wish]:
    """A fine-tuning job's texts and the files it names. Raises CallerError."""
    source, root = read_prompt(body, _JOB)
    seen: set[str] = set()
    for key, _ in root.members:
        if key not in _JOB:
            known = ", ".join(_JOB)
            malformed(
                None, f"has a field that is not known here, and could name more data to train on; known are {known}"
            )
        if key in seen:
            malformed(key, "occurs twice: servers differ in which one they read")
        seen.add(key)
    model = model_of(root)
    named = [_file_id(root, "training_file"), _file_id(root, "validation_file")]
    if named[0] is None:
        malformed("training_file", "must be the id of a file, as a string")
    walk = Walk()
    members(walk, root, "", Role.UNKNOWN, _JOB)
    prompt = Prompt(JsonBody(body, source, root, walk), model.value, stream=False, unjudgeable=tuple(walk.unjudgeable))
    return prompt, Wish(named=tuple(name for name in named if name is not None))


def _file_id(root: Node, key: str) -> str | None:
    node = root.get(key)
    if node is None or (node.kind == LITERAL and node.value == "null"):
        return None
    if node.kind != STRING or not ID.fullmatch(node.value):
        malformed(key, "must be the id of a file, as a string")
    return node.value


# answers


def _metrics(w: Walk, node: Node, path: str, role: Role) -> None:
    """Losses and accuracies: numbers with many digits behind the point, under plain names."""
    if node.kind != OBJECT:
        w.bundle(path, role, node)
        return
    for position, (key, child) in enumerate(node.members):
        if not (child.kind == NUMBER and is_small(child.value) and PLAIN.fullmatch(key)):
            w.unknown(key, child, path + ".", position)


def _data(w: Walk, node: Node, path: str, role: Role) -> None:
    """The items of a list, or what an event measured."""
    (each(obj(_ANSWER)) if node.kind == ARRAY else _metrics)(w, node, path, role)


_ANSWER: dict[str, Rule] = {
    "id": ident,
    "object": word,
    "created_at": epoch,
    "status": word,
    "type": word,
    "name": text,
    # files
    "bytes": count,
    "expires_at": epoch,
    "filename": text,
    "purpose": word,
    "status_details": text,
    "deleted": anything,
    # jobs
    "model": constant,
    "fine_tuned_model": ident,
    "finished_at": epoch,
    "estimated_finish": epoch,
    "hyperparameters": anything,
    "integrations": anything,
    "metadata": anything,
    "method": anything,
    "organization_id": ident,
    "result_files": each(ident),
    "seed": epoch,
    "trained_tokens": count,
    "training_file": ident,
    "user_provided_suffix": text,
    "validation_file": ident,
    # their events and checkpoints
    "level": word,
    "data": _data,
    "metrics": _metrics,
    "step_number": count,
    "fine_tuning_job_id": ident,
    "fine_tuned_model_checkpoint": ident,
    "has_more": anything,
    "first_id": ident,
    "last_id": ident,
    # voices
    "language": ident,
    "voice_id": ident,
    "requires_verification": anything,
    "error": error,
    **BARE_ERROR,
}

# paths


@dataclass(frozen=True, slots=True)
class TrainingAdapter:
    """One training path with one method, and the id that the path names."""

    act: Act
    method: str
    upstream_path: str
    about: str = ""  # the id in the path
    refused: tuple[Reason, str] | None = None  # why nothing is served here, and what to do instead
    dialect: str = field(default="openai", init=False)

    @property
    def operation(self) -> str:
        """As records name it."""
        return self.act.value

    @property
    def is_form(self) -> bool:
        """Whether the body is a form."""
        return self.act in FORMS

    def parse(self, body: bytes) -> Prompt:
        """A call with no body, or a job's. Forms are read by `read_form`, piece by piece."""
        if self.act is Act.TRAIN:
            return read_job(body)[0]
        if body:
            malformed(None, "is not expected with this path; send none")
        return Prompt(NOTHING, "", stream=False)

    def answer(self, body: bytes) -> Answer:
        """Channels and facts of an answer. Names of models made by training stay as they are."""
        source, root, walk = read_answer(body, _ANSWER)
        return Answer(JsonBody(body, source, root, walk), string(root.get("model")), provider_id=id_of(root))

    def stream(self, *, alias: str | None = None) -> StreamCodec:
        """No training path answers in a stream. Raises UpstreamError."""
        raise UpstreamError(
            Reason.UPSTREAM_UNREADABLE, "The model's endpoint answered with a stream where none is known."
        )

    def refusal_body(self, refusal: Refusal) -> bytes:
        """OpenAI's error envelope."""
        return openai_error(refusal)

    def refusal_message(self, refusal: Refusal, *, model: str, stream: bool) -> bytes:
        """A refused upload has no words of an assistant: the error envelope."""
        return openai_error(refusal)


def id_of(root: Node) -> str | None:
    """What an answer says was made: `id`, or `voice_id`."""
    return string(root.get("id")) or string(root.get("voice_id"))


_IN_PARTS: Final = (
    Reason.CONTENT_UNJUDGEABLE,
    "A file in parts cannot be held against a permit; upload it whole with POST /v1/files.",
)
_CONTENT: Final = (Reason.CONTENT_UNJUDGEABLE, "What is in a file cannot be judged here, so it is not passed on.")
_EVERYBODY: Final = (
    Reason.METHOD_NOT_ALLOWED,
    "A list would show what other users of the provider's account made; ask for one thing by its id.",
)
_ONE: Final = r"([A-Za-z0-9_-]{1,128})"
_PATHS: Final[Sequence[tuple[str, re.Pattern[str], Act, tuple[Reason, str] | None]]] = [
    (method, re.compile(path), act, refused)
    for method, path, act, refused in (
        ("POST", "/v1/files", Act.UPLOAD, None),
        ("GET", "/v1/files", Act.OTHER, _EVERYBODY),
        ("GET", f"/v1/files/{_ONE}", Act.FILE, None),
        ("DELETE", f"/v1/files/{_ONE}", Act.FORGET, None),
        ("GET", f"/v1/files/{_ONE}/content", Act.OTHER, _CONTENT),
        ("POST", "/v1/uploads", Act.OTHER, _IN_PARTS),
        ("POST", f"/v1/uploads/{_ONE}/(?:parts|complete|cancel)", Act.OTHER, _IN_PARTS),
        ("POST", "/v1/fine_tuning/jobs", Act.TRAIN, None),
        ("GET", "/v1/fine_tuning/jobs", Act.OTHER, _EVERYBODY),
        ("GET", f"/v1/fine_tuning/jobs/{_ONE}", Act.JOB, None),
        ("GET", f"/v1/fine_tuning/jobs/{_ONE}/events", Act.EVENTS, None),
        ("GET", f"/v1/fine_tuning/jobs/{_ONE}/checkpoints", Act.CHECKPOINTS, None),
        ("POST", f"/v1/fine_tuning/jobs/{_ONE}/cancel", Act.CANCEL, None),
        ("POST", f"/v1/fine_tuning/jobs/{_ONE}/pause", Act.PAUSE, None),
        ("POST", f"/v1/fine_tuning/jobs/{_ONE}/resume", Act.RESUME, None),
        ("POST", "/v1/audio/voice_consents", Act.CONSENT, None),
        ("GET", "/v1/audio/voice_consents", Act.OTHER, _EVERYBODY),
        ("POST", "/v1/audio/voices", Act.VOICE, None),
        ("GET", "/v1/audio/voices", Act.OTHER, _EVERYBODY),
        ("POST", "/v1/voices/add", Act.VOICE_ADD, None),
    )
]
_WRONG_METHOD: Final = (Reason.METHOD_NOT_ALLOWED, "")


def training_for(method: str, path: str) -> TrainingAdapter | None:
    """The adapter of a training path; None where the path is none. What is refused says so in `refused`."""
    known = False
    for asked, pattern, act, refused in _PATHS:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        known = True
        if asked == method:
            about = match[1] if match.re.groups else ""
            return TrainingAdapter(act, method, path.removeprefix("/v1"), about, refused)
    return TrainingAdapter(Act.OTHER, method, "", refused=_WRONG_METHOD) if known else None
