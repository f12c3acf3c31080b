"""Which path is answered by what: those of the protocols go straight to the pipeline; probes, metrics and the list of models
are answered here; what is not served is refused by the pipeline, in the dialect of who asks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import orjson
from starlette.types import Receive, Scope, Send

from gateway.auditors import PREFIX as AUDIT
from gateway.auditors import AuditDoor
from gateway.call import Stop
from gateway.callers import Callers
from gateway.catalog import Catalog
from gateway.metrics import CONTENT_TYPE, GatewayMetrics
from gateway.pipeline import Pipeline
from gateway.protocols import ADAPTERS, adapter_for, model_body, models_body, wants_anthropic
from gateway.protocols.base import Adapter
from gateway.protocols.training import TrainingAdapter, training_for
from gateway.reasons import Reason
from gateway.training.calls import Training

_PROBES = frozenset({"/livez", "/health/liveness", "/health/liveliness"})
_READY = frozenset({"/readyz", "/health/readiness"})


class Doors:
    """An ASGI callable for HTTP. Without a pipeline, before the worker's start and after its end, only probes and metrics
    are answered; without auditors nothing is below `/audit/`."""

    def __init__(
        self,
        catalog: Catalog,
        callers: Callers,
        training: Training,
        metrics: GatewayMetrics,
        *,
        now_s: Callable[[], float],
        readiness: Callable[[], tuple[int, dict[str, object]]],
    ) -> None:
        """`now_s` is the clock that licenses go by; `readiness` gives status and body of /readyz."""
        self.pipeline: Pipeline | None = None
        self.audit: AuditDoor | None = None
        self._catalog = catalog
        self._callers = callers
        self._training = training
        self._metrics = metrics
        self._now_s = now_s
        self._readiness = readiness
        self._dialects: Mapping[str, Adapter] = {
            adapter.dialect: adapter for adapter in reversed(tuple(ADAPTERS.values()))
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        path, method = scope["path"], scope["method"]
        pipeline = self.pipeline
        adapter = adapter_for(path)
        if adapter is not None and pipeline is not None and method == "POST":
            await pipeline.serve(adapter, scope, receive, send)
        elif pipeline is not None and (training := self._training_of(method, scope)) is not None:
            await self._train(pipeline, training, scope, receive, send)
        elif self.audit is not None and path.startswith(AUDIT):
            await self.audit(scope, receive, send)
        elif method in ("GET", "HEAD") and path in _PROBES:
            await _respond(send, 200, b'{"status":"alive"}')
        elif method in ("GET", "HEAD") and path in _READY:
            status, body = self._readiness()
            await _respond(send, status, orjson.dumps(body))
        elif method == "GET" and path == "/metrics":
            await _respond(send, 200, self._metrics.render(), CONTENT_TYPE.encode("ascii"))
        elif method == "GET" and (path == "/v1/models" or path.startswith("/v1/models/")) and pipeline is not None:
            await self._models(pipeline, scope, send, path.removeprefix("/v1/models").removeprefix("/"))
        elif pipeline is not None:
            stop = self._no_service(path)
            await pipeline.serve(adapter or self._dialect_of(scope), scope, receive, send, stop=stop)
        else:
            await _respond(send, 503, b'{"status":"not ready"}')

    def _training_of(self, method: str, scope: Scope) -> TrainingAdapter | None:
        """The adapter of a training path. Anthropic's SDKs mean other things by such paths, none of them served here."""
        found = training_for(method, scope["path"])
        return found if found is not None and self._dialect_of(scope).dialect == found.dialect else None

    async def _train(
        self, pipeline: Pipeline, adapter: TrainingAdapter, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Uploads, jobs and voices, and those of their paths that are refused by name."""
        stop = Stop(*adapter.refused) if adapter.refused is not None else None
        await pipeline.serve(self._training.begin(adapter), scope, receive, send, stop=stop)

    @staticmethod
    def _no_service(path: str) -> Stop:
        known = path in ADAPTERS or path == "/v1/models"
        return Stop(Reason.METHOD_NOT_ALLOWED if known else Reason.PATH_UNKNOWN)

    def _dialect_of(self, scope: Scope) -> Adapter:
        """Whose error envelope an unknown path gets: Anthropic's SDKs are told apart by the version they send."""
        anthropic = wants_anthropic({name.decode("latin-1"): "" for name, _ in scope["headers"]})
        return self._dialects["anthropic" if anthropic else "openai"]

    async def _models(self, pipeline: Pipeline, scope: Scope, send: Send, name: str) -> None:
        """The models that may serve this caller now, with license and policy; or one of them by name."""
        adapter = self._dialect_of(scope)
        caller = self._callers.authenticate(scope["headers"])
        if isinstance(caller, Reason):
            await pipeline.serve(adapter, scope, _no_body, send, stop=Stop(caller))
            return
        anthropic = adapter.dialect == "anthropic"
        entries = self._catalog.listing(caller, adapter.dialect, self._now_s())
        if not name:
            await _respond(send, 200, models_body(entries, anthropic=anthropic))
            return
        entry = next((entry for entry in entries if entry.id == name), None)
        if entry is None:
            await pipeline.serve(adapter, scope, _no_body, send, stop=Stop(Reason.MODEL_UNKNOWN))
            return
        await _respond(send, 200, model_body(entry, anthropic=anthropic))


async def _respond(send: Send, status: int, body: bytes, media: bytes = b"application/json") -> None:
    headers = [(b"content-type", media), (b"content-length", b"%d" % len(body))]
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _no_body() -> dict[str, object]:
    return {"type": "http.request", "body": b"", "more_body": False}
