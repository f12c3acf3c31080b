"""One training call on its way through the pipeline: an adapter that knows what its path asks leave for.

The pipeline asks it, in order: `read` the body, `find` the model that it belongs to, `permitted` once the license has
said yes, `again` before it goes out, `fields` of the request, `remember` what the endpoint made, `close`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.callers import Caller
from gateway.catalog import Catalog
from gateway.edge import Receive, body_length, read_body
from gateway.errors import CallerError
from gateway.governed import Governed
from gateway.license.permits import Permit
from gateway.license.record import Holder
from gateway.license.token import Failure
from gateway.protocols.base import Answer, Prompt, StreamCodec
from gateway.protocols.shapes import IDENT
from gateway.protocols.training import (
    ABOUT_FILES,
    ABOUT_JOBS,
    ENDING,
    ID,
    VOICES,
    Act,
    Form,
    TrainingAdapter,
    Wish,
    read_form,
    read_job,
)
from gateway.reasons import Reason, Refusal
from gateway.training.form import ALGORITHMS, content_type
from gateway.training.permits import Need, Told, leave
from gateway.training.registry import Made, Registry
from gateway.training.spool import BYTES_MAX, Spool
from policies import CallerFacts

FILE_NAME: Final = "training.db"  # in the data folder

_PAGES: Final = re.compile(
    rb"after=([A-Za-z0-9_-]{1,128})(?:&limit=[0-9]{1,3})?|limit=[0-9]{1,3}(?:&after=([A-Za-z0-9_-]{1,128}))?"
)
_EMPTY: Final = frozenset({b"", b"{}"})
_NO_PERMIT: Final = {
    "file": "No training permit in force here names this file: its digest must be among the permit's data sources.",
    "job": "No training permit in force here covers these files, or they were not uploaded through this gateway.",
    "voice": "No training permit in force here covers this recording together with this consent.",
    "about": "Nothing of that id was made here under a training permit.",
}


class Training:
    """What one worker's training calls share."""

    def __init__(self, registry: Registry, spool: Spool) -> None:
        self.registry = registry
        self.spool = spool

    @classmethod
    def open(cls, data: Path, *, bytes_max: int = BYTES_MAX) -> Training:
        """In that data folder, which is touched by the first call."""
        return cls(Registry(data / FILE_NAME), Spool(data, bytes_max=bytes_max))

    def begin(self, adapter: TrainingAdapter) -> TrainingCall:
        """A call that has just come in."""
        return TrainingCall(self, adapter)

    async def close(self) -> None:
        """Harmless twice."""
        await self.registry.close()


class TrainingCall:
    """An `Adapter` for one call. Made anew for each."""

    dialect = "openai"

    def __init__(self, training: Training, adapter: TrainingAdapter) -> None:
        self._registry = training.registry
        self._spool = training.spool
        self._adapter = adapter
        self._spooled = False
        self._form: Form | None = None
        self._body = b""
        self._prompt: Prompt | None = None
        self._wish = Wish()
        self._about: Made | None = None  # what the path names
        self._looked_up: dict[tuple[str, str, str], tuple[Made, ...]] = {}
        # Set by `permitted`, for `remember`.
        self._owner = ""
        self._origin = ""
        self._model = ""
        self._need = Need()
        self.permit: Permit | None = None  # under which the call goes out

    # the adapter

    @property
    def operation(self) -> str:
        """As records name it."""
        return self._adapter.operation

    @property
    def upstream_path(self) -> str:
        """Where it goes, below the endpoint's base URL."""
        return self._adapter.upstream_path

    @property
    def method(self) -> str:
        """As it came in, and goes out."""
        return self._adapter.method

    @property
    def uploads(self) -> bool:
        """Whether it brings files."""
        return self._adapter.is_form

    @property
    def ends(self) -> bool:
        """Whether it only stops a job, or deletes a file, that its tenant made here: no license is needed for that."""
        return self._about is not None and self._adapter.act in ENDING

    def parse(self, body: bytes) -> Prompt:
        """What `find` has made of the body, with the model that the call belongs to."""
        if self._prompt is None:
            self._read_wish(body)
        assert self._prompt is not None
        return self._prompt

    def answer(self, body: bytes) -> Answer:
        """See TrainingAdapter."""
        return self._adapter.answer(body)

    def stream(self, *, alias: str | None = None) -> StreamCodec:
        """See TrainingAdapter: there is none."""
        return self._adapter.stream(alias=alias)

    def refusal_body(self, refusal: Refusal) -> bytes:
        """See TrainingAdapter."""
        return self._adapter.refusal_body(refusal)

    def refusal_message(self, refusal: Refusal, *, model: str, stream: bool) -> bytes:
        """See TrainingAdapter."""
        return self._adapter.refusal_message(refusal, model=model, stream=stream)

    # what the pipeline asks, in order

    async def read(self, scope: Mapping[str, Any], receive: Receive, caller: Caller, catalog: Catalog) -> bytes:
        """The body, within bounds. An upload is read only if the caller has some permit that could cover it.

        Raises CallerError, ClientDisconnect, OSError.
        """
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        act = self._adapter.act
        self._check_query(scope.get("query_string", b""))
        if self._adapter.is_form:
            algorithms = {
                digest.partition(":")[0]
                for model in _models(caller, catalog)
                for permit in model.permits
                if isinstance(permit, Permit)
                for digest in permit.grant.data_sources
            }
            if not algorithms:
                raise self._refusal()
            self._spool.admit()
            self._spooled = True
            wanted = algorithms | {ALGORITHMS[0]}
            self._form = await self._spool.read(act, headers, receive, algorithms=wanted)
            return self._form.body
        if act is Act.TRAIN:
            length = body_length(headers)
            return await read_body(receive, limit=catalog.prompt_bytes_max, content_length=length, scope=scope)
        body = await read_body(receive, limit=64, scope=scope)
        if body.strip() not in _EMPTY:
            raise CallerError(Reason.BODY_MALFORMED, "No body is expected with this path; send none.")
        return b""

    async def find(self, body: bytes, caller: Caller, catalog: Catalog, now_s: float) -> None:
        """The model that the call belongs to: the one its job names, the one whose permit names its files, or the one that
        made what its path names. Raises CallerError.
        """
        self._read_wish(body)
        assert self._prompt is not None
        if self._prompt.model:
            return
        for model in _models(caller, catalog):
            facts = model.policy.facts.resolve(caller.facts)
            if self._adapter.about:
                found = await self._made(self._kind, self._adapter.about, model, facts)
                if found is None or found.model != model.name:
                    continue
                self._about = found
            elif await self._leave(model, facts, now_s) is None:
                continue
            self._prompt = msgspec.structs.replace(self._prompt, model=model.name)
            return
        raise self._refusal()

    async def permitted(self, model: Governed, facts: CallerFacts, now_s: float) -> None:
        """Returns if a permit in force gives leave, or none is needed. Raises CallerError(TRAINING_PERMIT)."""
        self._owner, self._origin, self._model = owner_of(facts), model.origin, model.name
        if self._about is not None and self._adapter.act is not Act.RESUME:
            return  # looking at a job, or ending it
        self.permit = await self._leave(model, facts, now_s)
        if self.permit is None:
            raise self._refusal()

    def again(self, catalog: Catalog, facts: CallerFacts, now_s: float) -> None:
        """As `permitted`, for that very permit and without waiting: the last look before it goes out. Raises CallerError."""
        permit, model = self.permit, catalog.find(self._model, self.dialect)
        if permit is None:
            return
        permits = model.permits if isinstance(model, Governed) else ()
        same = [one for one in permits if isinstance(one, Permit) and one.digest == permit.digest]
        if not isinstance(model, Governed) or self._granted(model, same, facts, now_s) is None:
            raise self._refusal()

    def fields(self, fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """The request's fields, with the Content-Type of what is sent."""
        if self._adapter.act is Act.TRAIN:
            return list(fields)
        kept = [field for field in fields if field[0] != b"content-type"]
        return kept if self._form is None else [(b"content-type", content_type(self._form.boundary)), *kept]

    async def remember(self, status: int, answer: Answer) -> None:
        """What the endpoint made, before the caller learns of it: also where the answer itself is refused afterwards, so
        that a job can be ended. Raises apsw.Error.
        """
        if not 200 <= status < 300:
            return
        act, made = self._adapter.act, answer.provider_id
        if act is Act.FORGET and self._about is not None:
            await self._registry.forget(self._about)
        kind = _MAKES.get(act)
        if kind is None or made is None or not ID.fullmatch(made):
            return
        assert self.permit is not None
        await self._registry.remember(
            Made(
                kind,
                made,
                self._owner,
                self._origin,
                self._model,
                self.permit.digest,
                tuple(self._need.files),
                self._wish.grant,
            )
        )

    def close(self) -> None:
        """The call has ended, and its form goes from the disk. Harmless twice."""
        if self._spooled:
            self._spooled = False
            self._spool.release(self._form)

    # inside

    @property
    def _kind(self) -> str:
        return "file" if self._adapter.act in ABOUT_FILES else "job"

    def _read_wish(self, body: bytes) -> None:
        if self._form is not None:
            self._prompt, self._wish = read_form(self._adapter.act, self._form)
        elif self._adapter.act is Act.TRAIN:
            self._prompt, self._wish = read_job(body)
        else:
            self._prompt = self._adapter.parse(body)

    def _check_query(self, query: bytes) -> None:
        if not query:
            return
        pages = _PAGES.fullmatch(query) if self._adapter.act in (Act.EVENTS, Act.CHECKPOINTS) else None
        after = (pages[1] or pages[2] or b"").decode("ascii") if pages is not None else ""
        if pages is None or not IDENT.fullmatch(after):
            raise CallerError(
                Reason.BODY_MALFORMED, "Query parameters are not accepted here, but `after` and `limit` of events and checkpoints."
            )  # fmt: skip

    async def _leave(self, model: Governed, facts: CallerFacts, now_s: float) -> Permit | None:
        """The permit of that model under which the call may go out."""
        if not model.permits:
            return None
        self._need = await self._needs(model, facts)
        return self._granted(model, model.permits, facts, now_s)

    def _granted(
        self, model: Governed, permits: Sequence[Permit | Failure], facts: CallerFacts, now_s: float
    ) -> Permit | None:
        claims = model.facts.license.claims
        holder: Holder | None = claims.license.holder if claims is not None else None
        told = Told(model.authorities.standing, model.rules(facts.territories))
        return leave(permits, self._need, base_model=model.target_model, holder=holder, now_s=now_s, told=told)

    async def _needs(self, model: Governed, facts: CallerFacts) -> Need:
        files = [part.digests for part in self._wish.files]
        unknown = False
        for name in self._wish.named:
            made = await self._made("file", name, model, facts)
            unknown |= made is None
            files += made.basis if made is not None else ()
        if self._about is not None:
            files += self._about.basis
        consents = None
        if self._adapter.act in VOICES:
            consents = {self._wish.grant} if self._wish.grant else {self._wish.consent}
            recorded = await self._made("consent", self._wish.consent, model, facts) if self._wish.consent else None
            consents |= {recorded.consent} if recorded is not None else set()
        return Need(files, consents, unknown)

    async def _made(self, kind: str, id_: str, model: Governed, facts: CallerFacts) -> Made | None:
        """What this caller's tenant made under that id, at this model's endpoint."""
        key = kind, id_, owner_of(facts)
        if key not in self._looked_up:
            self._looked_up[key] = await self._registry.find(*key)
        return next((one for one in self._looked_up[key] if one.origin == model.origin), None)

    def _refusal(self) -> CallerError:
        act = self._adapter.act
        about = act in ABOUT_FILES or (act in ABOUT_JOBS and act is not Act.RESUME)
        what = "about" if about else "voice" if act in VOICES else "file" if act is Act.UPLOAD else "job"
        return CallerError(Reason.TRAINING_PERMIT, _NO_PERMIT[what])


_MAKES: Final[Mapping[Act, str]] = {Act.UPLOAD: "file", Act.TRAIN: "job", Act.CONSENT: "consent"}


def owner_of(facts: CallerFacts) -> str:
    """Whose things these are: the tenant's, or the caller's alone where no tenant is stated."""
    return f"tenant:{facts.tenant}" if facts.tenant else f"caller:{facts.name}"


def _models(caller: Caller, catalog: Catalog) -> Iterable[Governed]:
    """The models that this caller may use and that speak the dialect, in the order of the settings."""
    for one in catalog:
        model = catalog.find(one.name, TrainingCall.dialect) if caller.may_use(one.name) else None
        if isinstance(model, Governed):
            yield model
