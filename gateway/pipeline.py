"""What happens to a call, in order. Every branch of control flow is here; every room is told, none reaches back.

    caller -> body -> target and policy -> limits -> license -> prompt filters -> intent record -> license again
           -> upstream -> served model -> answer filters -> license again -> caller -> outcome record

Between a look at the license and what it lets go nothing is waited for: what authorities say may change at each wait.

A step that decides against the call returns a `Stop`; a step that cannot decide raises a GatewayError. Both end in one
refusal in the caller's dialect and one outcome record (L1, L6). In shadow mode the license and the filters decide and
are recorded, and nothing that they decide is carried out. What a step asks is in a room at hand: `licensing` asks the
license, `filtering` the filters; `recording` writes the records, `keeping` what is kept beside them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from gateway.audit.digest import DigestKeys
from gateway.call import Call, Clock, Stop, new_call_id
from gateway.callers import Callers, Denied, Limiter
from gateway.catalog import Catalog
from gateway.delivered import readable, text_digests
from gateway.edge import ClientDisconnect, DisconnectWatch, body_length, read_body
from gateway.errors import AuditError, CallerError, GatewayError, UpstreamError
from gateway.faults import log_fault
from gateway.filtering import Filtering
from gateway.headers import answer_fields, media_type, request_fields, request_id, traceparent
from gateway.keeping import Keeping
from gateway.licensing import Licensing
from gateway.metrics import GatewayMetrics
from gateway.protocols.base import Adapter
from gateway.reasons import Reason
from gateway.recording import Recording
from gateway.refusals import body_of, own_fields, reason_of, refusal_of
from gateway.relay import KEY_ECHOED, Interrupt, LiveStreams, Outlet, pump, read_rest
from gateway.spool import Spool
from gateway.training.calls import TrainingCall
from gateway.upstream import Reply
from policies.model import Content, Durable

# Query parameters an SDK is known to send and a provider to need; any other is refused, because a query string is a
# place where text can hide (L4). Anthropic's SDK marks its beta endpoints with beta=true.
KNOWN_QUERIES = frozenset({b"", b"beta=true"})

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything one worker needs to serve calls. Built by `app.py`; serves any number of calls at once."""

    catalog: Catalog
    callers: Callers
    limiter: Limiter
    licensing: Licensing
    filtering: Filtering
    recording: Recording
    keeping: Keeping
    spool: Spool
    live: LiveStreams
    digests: DigestKeys
    metrics: GatewayMetrics

    async def serve(
        self, adapter: Adapter, scope: Scope, receive: Receive, send: Send, *, stop: Stop | None = None
    ) -> None:
        """One call, from its head to its outcome record. `stop` refuses it as soon as the caller is known."""
        client = scope.get("client")
        call = Call(new_call_id(), adapter, Clock.start(), source=client[0] if client else "")
        call.stop = stop
        call.linked = traceparent(scope["headers"])
        call.training = adapter if isinstance(adapter, TrainingCall) else None
        call.operation = adapter.operation if stop is None else None
        interrupt = Interrupt()
        watch = DisconnectWatch(scope, receive)
        outlet = Outlet(
            send,
            call.clock,
            self.digests.content_digest(),
            ready=lambda: self.recording.durable(call),
            ending=lambda: self._finish(call, outlet, watch, interrupt),
        )
        self.metrics.in_flight.add(1)
        try:
            await self._guarded(call, scope, receive, outlet, watch, interrupt)
        finally:
            if call.admission is not None:
                call.admission.release()
            if call.training is not None:
                call.training.close()
            self.metrics.in_flight.add(-1)
            if not call.concluded:
                call.sent_bytes, call.sent_digest = outlet.bytes, outlet.content.value()
                self.recording.abandon(call)

    async def _guarded(
        self,
        call: Call,
        scope: Scope,
        receive: Receive,
        outlet: Outlet,
        watch: DisconnectWatch,
        interrupt: Interrupt,
    ) -> None:
        """The order of events, and the one place where what went wrong becomes what the caller is told."""
        try:
            body = await self._read(call, scope, receive)
            async with watch:
                if call.stop is None:
                    call.stop = await self._decide(call, body, scope["headers"])
                if call.stop is None:
                    call.stop = await self._answer(call, scope, outlet, interrupt)
        except ClientDisconnect:
            self.metrics.client_cancelled.inc()
            await self.keeping.ended(call)
            return
        except asyncio.CancelledError:
            cut = interrupt.absorb()
            if cut is None:
                raise
            call.stop = call.stop_for(cut)
        except GatewayError as error:
            call.stop = Stop(error.reason, error.public_message, error.param)
        except Exception as error:  # noqa: BLE001  # a fault of ours: refused, recorded and logged, never passed
            log_fault(call.id, error)
            call.stop = Stop(Reason.INTERNAL)
        if call.stop is None:
            return
        try:
            await self._refuse(call, scope, outlet)
        except AuditError as error:  # the outcome cannot be written, and nothing of the refusal has left yet
            call.stop = Stop(error.reason)
            await self._refuse(call, scope, outlet)

    # ------------------------------------------------------------------ before the upstream

    async def _read(self, call: Call, scope: Scope, receive: Receive) -> bytes:
        """Who calls, and with what body. Nothing of an unknown caller's body is read."""
        headers = scope["headers"]
        caller = self.callers.authenticate(headers)
        if isinstance(caller, Reason):
            call.stop = Stop(caller)
            return b""
        call.caller = caller
        if call.stop is not None:
            return b""
        if call.training is not None:
            body = await call.training.read(scope, receive, caller, self.catalog)
        elif scope.get("query_string", b"") not in KNOWN_QUERIES:
            raise CallerError(Reason.BODY_MALFORMED, "Query parameters are not accepted here; put them in the body.")
        else:
            length = body_length(headers)
            body = await read_body(receive, limit=self.catalog.prompt_bytes_max, content_length=length, scope=scope)
        call.body_bytes = len(body)
        digest = self.digests.digest
        uploads = call.training is not None and call.training.uploads  # may be large: others' streams go on meanwhile
        call.body_digest = await asyncio.to_thread(digest, body) if uploads else digest(body)
        return body

    async def _decide(self, call: Call, body: bytes, headers: Headers) -> Stop | None:
        """Every check before anything leaves, in order. Returns the first decision against the call."""
        if call.training is not None:
            assert call.caller is not None
            await call.training.find(body, call.caller, self.catalog, self.licensing.now_s())
        stop = (
            self._resolve(call, body)
            or self._deliverable(call, body)
            or await self._admit(call)
            or self.licensing.begin(call)
        )
        if stop is not None:
            return stop
        if call.training is not None:
            assert call.model is not None
            assert call.facts is not None
            await call.training.permitted(call.model, call.facts, self.licensing.now_s())
        return await self.filtering.prompt(call, headers)

    def _resolve(self, call: Call, body: bytes) -> Stop | None:
        """The target and its policy: what every later check binds to (L8)."""
        assert call.caller is not None
        prompt = call.adapter.parse(body)
        call.prompt = prompt
        if not call.caller.may_use(prompt.model):
            # The same answer as for a model that is not there: a caller learns nothing about the models of others.
            return Stop(Reason.MODEL_UNKNOWN, param="model")
        model = self.catalog.find(prompt.model, call.adapter.dialect)
        if isinstance(model, Reason):
            lapsed = "A rule began that the policy of this model does not keep." if model is Reason.REGIME else ""
            return Stop(model, lapsed, param="model")
        call.model = model
        call.facts = model.policy.facts.resolve(call.caller.facts)
        if prompt.user is not None:
            call.subject = self.digests.subject(call.facts.tenant, prompt.user)
        uploads = call.training is not None and call.training.uploads  # those have a bound of their own
        if len(body) > model.policy.limits.prompt_bytes_max and not uploads:
            return Stop(
                Reason.BODY_TOO_LARGE,
                f"The body has {len(body)} bytes; this model's policy allows {model.policy.limits.prompt_bytes_max}.",
            )
        return None

    def _deliverable(self, call: Call, body: bytes) -> Stop | None:
        """Whether what the policy wants to have kept can be, and records reach the places that they must reach."""
        assert call.model is not None
        if self.spool.refuses(call.model.policy.spool_full):
            return Stop(Reason.AUDIT_SPOOL)
        return self.keeping.begin(call, body)

    async def _admit(self, call: Call) -> Stop | None:
        assert call.caller is not None
        assert call.model is not None
        limits = call.model.policy.limits
        admitted = await self.limiter.admit(
            call.caller,
            call.model.name,
            model_rate_per_minute=limits.rate_per_minute,
            model_concurrent=limits.concurrent,
        )
        if isinstance(admitted, Denied):
            self.metrics.limit_hits.inc(admitted.limit)
            return Stop(admitted.reason, retry_after_s=admitted.retry_after_s)
        call.admission = admitted
        return None

    # ------------------------------------------------------------------ the upstream and its answer

    async def _answer(self, call: Call, scope: Scope, outlet: Outlet, interrupt: Interrupt) -> Stop | None:
        """Ask the upstream and let the judged answer go. Returns a decision against it, whole or in its middle."""
        assert call.model is not None
        assert call.prompt is not None
        self.recording.intend(call)
        if call.model.policy.durable is Durable.BEFORE_EGRESS:
            await self.recording.durable(call)
        stop = self.licensing.again(call)
        if stop is not None:
            return stop
        if call.training is not None:
            assert call.facts is not None
            call.training.again(self.catalog, call.facts, self.licensing.now_s())
        assert call.receipt is not None
        if not call.receipt.is_durable:
            call.unsynced = ("egress",)
        model, prompt = call.model, call.prompt
        edits = call.screening.edits if call.screening is not None and not call.shadow else {}
        body = prompt.document.rewrite(edits, model=model.target_model)
        headers = request_fields(model.target_fields, scope["headers"], protocol=model.protocol, stream=prompt.stream)
        if call.kept is not None and call.kept.transcript:
            call.kept.sent, outlet.copy = body, call.kept.answer
        method = "POST"
        if call.training is not None:
            method, headers = call.training.method, call.training.fields(headers)
        call.clock.upstream_sent_ns = time.monotonic_ns()
        reply = await model.upstream.open(
            url=model.url(call.adapter, scope.get("query_string", b"")),
            method=method,
            headers=headers,
            body=body,
            pins=model.pinned(call.verdict.binding if call.verdict is not None else 0),
        )
        async with reply:
            call.clock.upstream_first_ns = time.monotonic_ns()
            call.reply_status = reply.status
            call.request_id = request_id(reply.headers)
            stop = readable(reply)
            if stop is not None:
                return stop
            call.status = reply.status
            media = media_type(reply.headers)
            fields = [(b"content-type", media.encode("ascii")), *answer_fields(reply.headers), *own_fields(call)]
            outlet.prepare(reply.status, fields)
            if media == "text/event-stream":
                return await self._answer_stream(call, reply, outlet, interrupt)
            return await self._answer_whole(call, reply, outlet)

    async def _answer_whole(self, call: Call, reply: Reply, outlet: Outlet) -> Stop | None:
        assert call.model is not None
        model = call.model
        body = await reply.read_all(model.policy.limits.answer_bytes_max)
        call.clock.upstream_done_ns = time.monotonic_ns()
        if model.secret and model.secret in body:
            raise UpstreamError(Reason.UPSTREAM_UNREADABLE, KEY_ECHOED)
        if call.kept is not None and call.kept.evidence:
            call.kept.raw += body
        answer = call.answer = call.adapter.answer(body)
        if call.training is not None:
            await call.training.remember(reply.status, answer)
        call.served_model = answer.served_model
        call.provider_id = answer.provider_id
        stop = self.licensing.served(call, answer.served_model)
        if stop is not None:
            return stop
        edits = await self.filtering.answer(call, answer)
        if isinstance(edits, Stop):
            return edits
        alias = model.name if answer.served_model else None
        shown = answer.document.rewrite(edits, model=alias)
        if model.policy.content is not Content.NONE:
            call.texts = text_digests(answer, edits, self.digests)
        await self.keeping.exchange(call, shown)
        await self.recording.durable(call)  # nothing is waited for between the last look at the license and the answer
        stop = self.licensing.again(call)
        if stop is not None:
            return stop
        outlet.add_field(b"content-length", b"%d" % len(shown))
        await outlet.write(shown, last=True)
        return None

    async def _answer_stream(self, call: Call, reply: Reply, outlet: Outlet, interrupt: Interrupt) -> Stop | None:
        assert call.model is not None
        policy = call.model.policy
        stop = self.licensing.cut(call)
        if stop is not None:
            return stop
        call.codec = call.adapter.stream(alias=call.model.name)
        screen = call.stream = self.filtering.stream(
            call, call.codec, lambda name: call.cut_by(self.licensing.served(call, name))
        )
        ends_at_s = time.time() + policy.limits.stream_seconds_max
        self.live.add(interrupt, lambda now_s: self._cut(call, now_s, ends_at_s), outlet)
        try:
            last = await pump(
                reply,
                screen,
                outlet,
                interrupt,
                heartbeat=call.codec.heartbeat(),
                answer_bytes_max=policy.limits.answer_bytes_max,
                secret=call.model.secret,
                copy=call.kept.raw if call.kept is not None and call.kept.evidence else None,
            )
        finally:
            self.live.discard(interrupt)
            call.clock.upstream_done_ns = time.monotonic_ns()
            call.served_model = screen.served_model
            call.provider_id = screen.provider_id
            self.filtering.count(screen)
        reason = reason_of(screen.blocked) if screen.blocked is not None else screen.refused
        if reason is not None:
            if last:
                await outlet.write(last)
            return call.stop_for(reason)
        if not (screen.ended or screen.finish_reasons):
            # Neither the dialect's end signal nor a finish reason: it was cut where no framing tells. It must not look whole.
            if last:
                await outlet.write(last)
            return Stop(Reason.UPSTREAM_CLOSED)
        self.filtering.watched(call, screen)
        await self.keeping.exchange(call, last)
        await self.recording.durable(call)  # of a stream that was held until its end nothing has left yet
        stop = self.licensing.cut(call)
        if stop is not None:
            return stop
        await outlet.write(last, last=True)
        await read_rest(reply)
        return None

    def _cut(self, call: Call, now_s: float, ends_at_s: float) -> Reason | None:
        """Why a live stream must end now, looked at each second."""
        if now_s >= ends_at_s:
            self.metrics.limit_hits.inc("stream_seconds")
            return Reason.STREAM_TOO_LONG
        return call.cut_by(self.licensing.cut(call))

    # ------------------------------------------------------------------ the end, good or bad

    def _finish(self, call: Call, outlet: Outlet, watch: DisconnectWatch, interrupt: Interrupt) -> None:
        """Just before the last byte: from here on the call has ended, whatever the connection does."""
        watch.complete()
        interrupt.disarm()
        if call.admission is not None:
            call.admission.release()  # who has read the answer may ask again at once
        call.sent_bytes, call.sent_digest = outlet.bytes, outlet.content.value()
        self.recording.conclude(call)

    async def _refuse(self, call: Call, scope: Scope, outlet: Outlet) -> None:
        """Tell the caller, in its dialect: with a status while that is still possible, else as the stream's end."""
        await self.recording.refused(call)
        await self.keeping.ended(call)
        refusal = refusal_of(call, scope["headers"])
        if outlet.started:
            codec = call.adapter.stream() if call.codec is None else call.codec
            await outlet.write(codec.refusal(refusal), last=True)
            return
        body, media = body_of(call, refusal)
        call.status = refusal.status
        outlet.prepare(
            refusal.status,
            [
                (b"content-type", media),
                (b"content-length", b"%d" % len(body)),
                *own_fields(call),
                *((name.encode("ascii"), value.encode("ascii")) for name, value in refusal.headers.items()),
            ],
        )
        await outlet.write(body, last=True)
