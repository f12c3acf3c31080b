"""Training calls through the whole gateway, over real sockets: nothing is trained on, tuned or cloned without a permit."""

from __future__ import annotations

import functools
import hashlib
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from gateway.governed import Governed
from gateway.license.issuer import add_to_trust, generate_key
from gateway.license.orders import Order, OrderList
from gateway.license.signed import Kind, sign
from tests.e2e.stack import ISSUER, Stack, policy_text
from tests.fakes.endpoint import Endpoint, Reply, Seen

OTHER_ISSUER = "https://registry.test"
EXAMPLES = b'{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "My card is 4111 1111 1111 1111"}]}\n'
VALIDATION = b'{"messages": []}\n'
VOICE, CONSENT = b"RIFF voice \x00\xff\r\n--", b"RIFF consent \r"
LARGE = bytes(range(256)) * 20_000  # more than any policy here lets a prompt have
NAMED = (EXAMPLES, VALIDATION, VOICE, CONSENT, LARGE)


def digest(data: bytes) -> str:
    """As a permit names data."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# One model, one caller and, but for the first, one permit for each case; each differs from a good permit in one thing.
CASES: Mapping[str, dict[str, Any]] = {
    "none": {},
    "good": {},
    "rival": {},  # another tenant, with a permit for the same data
    "shadow": {},
    "sm3": {"permit": {"data_sources": [f"sm3:{hashlib.new('sm3', EXAMPLES).hexdigest()}"]}},
    "other-data": {"permit": {"data_sources": [digest(b"other")]}},
    "other-base": {"permit": {"base_model": "another"}},
    "other-holder": {"permit": {"holder": {"legal_name": "Somebody Else"}}},
    "ended": {"exp": -5},
    "not-begun": {"nbf": 3600},
    "no-right": {"issuer": OTHER_ISSUER},
    "forged": {"issuer": "https://nobody.test"},
    "no-voice": {"permit": {"capabilities": ["text"]}},
    "no-grant": {"permit": {"grants": []}},
    "no-license": {},
    "suspended": {},
}
REFUSED = ("none", "other-data", "other-base", "other-holder", "ended", "not-begun", "no-right", "forged")


@dataclass
class TrainingStack(Stack):
    """A model and a caller for each case, each caller a tenant of its own."""

    keys: dict[str, Any] = field(default_factory=dict)

    def write_files(self) -> Path:
        """The permits, too."""
        path = super().write_files()
        self.keys = {ISSUER: self.key, OTHER_ISSUER: generate_key(), "https://nobody.test": generate_key()}
        trust = json.loads(
            add_to_trust((self.folder / "trust.json").read_bytes(), OTHER_ISSUER, self.keys[OTHER_ISSUER])
        )
        trust["issuers"][1]["may"] = ["license", "status"]
        (self.folder / "trust.json").write_text(json.dumps(trust))
        (self.folder / "shadow.yaml").write_text(policy_text(mode="shadow"))
        for case, changes in CASES.items():
            self.write_license(f"license-{case}.jws", modalities=["text", "audio"])
            if case != "none":
                self.write_permit(case, **changes)
        (self.folder / "license-no-license.jws").unlink()
        return path

    def write_permit(
        self,
        case: str,
        *,
        permit: Mapping[str, Any] | None = None,
        issuer: str = ISSUER,
        nbf: int = -10,
        exp: int = 3600,
    ) -> None:
        """A permit for all of our data, with some of its terms changed."""
        now = int(time.time())
        grant = {
            "model": "made",
            "base_model": "up",
            "holder": {"legal_name": "Acme"},
            "data_sources": [digest(data) for data in NAMED],
            "grants": ["grant:jane"],
            "capabilities": ["text", "voice_clone"],
        }
        payload = {"iss": issuer, "sub": "made", "jti": f"permit-{case}", "iat": now - 20}
        payload |= {"nbf": now + min(nbf, exp - 1), "exp": now + exp, "permit": {**grant, **(permit or {})}}
        (self.folder / f"permit-{case}.jws").write_text(sign(payload, Kind.PERMIT, self.keys[issuer]))

    def _settings(self) -> str:
        text = super()._settings()
        for case in CASES:
            sha = hashlib.sha256(key_of(case).encode()).hexdigest()
            text = text.replace(
                "trust: {", f"  - {{name: {case}, key_sha256: {sha}, models: [{case}], tenant: {case}}}\ntrust: {{", 1
            )
            if case != "none":
                text = text.replace(f"license: license-{case}.jws", f"license: license-{case}.jws\n    permits: [permit-{case}.jws]")  # fmt: skip
        return text.replace(
            "permits: [permit-shadow.jws]\n    policy: policy.yaml",
            "permits: [permit-shadow.jws]\n    policy: shadow.yaml",
        )


def key_of(case: str) -> str:
    """The key of a case's caller."""
    return f"lk-{case}"


class Provider:
    """What an endpoint that trains would answer. Ids count up; `next` replaces the next answer."""

    def __init__(self) -> None:
        self.made = 0
        self.next: Reply | None = None

    def __call__(self, seen: Seen) -> Reply:
        if self.next is not None:
            reply, self.next = self.next, None
            return reply
        self.made += 1
        path = seen.path.partition("?")[0]
        if seen.method == "DELETE":
            return answer({"id": path.rpartition("/")[2], "object": "file", "deleted": True})
        if path == "/v1/fine_tuning/jobs":
            return answer(job(f"ftjob-{self.made}", seen.json["training_file"]))
        if path.endswith(("/events", "/checkpoints")):
            return answer({"object": "list", "data": [EVENT], "has_more": False})
        if path.startswith("/v1/fine_tuning/jobs/"):
            return answer(job(path.split("/")[4], "file-1"))
        if path == "/v1/voices/add":
            return answer({"voice_id": "c38kUX8pkfYO2kHyqfFy", "requires_verification": False})
        kind = {"/v1/audio/voice_consents": "cons", "/v1/audio/voices": "voice"}.get(path, "file")
        made = {"id": f"{kind}-{self.made}", "object": kind, "created_at": 1800000000, "name": "a name"}
        return answer(made | {"bytes": 120, "filename": "a.jsonl", "purpose": "fine-tune", "status": "processed"})


EVENT = {
    "object": "fine_tuning.job.event",
    "id": "ftevent-1",
    "created_at": 1800000000,
    "level": "info",
    "message": "Step 100 of jane@example.com",
    "type": "metrics",
    "data": {"step": 100, "train_loss": 0.45265128222328162},
}


def job(id_: str, file: str, **changes: Any) -> dict[str, Any]:
    """A fine-tuning job as OpenAI shows it."""
    return {
        "object": "fine_tuning.job",
        "id": id_,
        "model": "up-2024-07-18",
        "created_at": 1800000000,
        "fine_tuned_model": "ft:up-2024-07-18:acme::7p4lURel",
        "organization_id": "org-1",
        "result_files": [],
        "status": "queued",
        "training_file": file,
        "hyperparameters": {"n_epochs": 4},
        "seed": 1234567890,
        **changes,
    }


def answer(body: Any, status: int = 200) -> Reply:
    """One JSON answer."""
    return Reply([json.dumps(body).encode()], "application/json", status)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(Provider()) as made:
        yield made


@pytest.fixture(scope="module")
def stack(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingStack]:
    models = dict.fromkeys(CASES, ("openai", "up"))
    claims = {"holder": "Acme"}
    made = TrainingStack(tmp_path_factory.mktemp("training"), endpoint.origin, models=models, claims=claims)
    with made:
        yield made
    connection().close()
    connection.cache_clear()


SENT: list[bytes] = []


@pytest.fixture(autouse=True)
def fresh(endpoint: Endpoint) -> None:
    endpoint.seen.clear()
    SENT.clear()


@functools.cache
def connection() -> httpx2.Client:
    """One for all callers: making one costs more than most tests. It notes the bodies that it sends."""
    return httpx2.Client(event_hooks={"request": [lambda request: SENT.append(request.read())]}, timeout=30)


def sdk(stack: Stack, case: str) -> AbstractContextManager[openai.OpenAI]:
    """OpenAI's SDK as one of the callers."""
    client = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key_of(case), http_client=connection(), max_retries=0)
    return nullcontext(client)


def refusal(call: Any) -> openai.APIStatusError:
    """The SDK's error of a call that must be refused."""
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    return caught.value


def code_of(error: openai.APIStatusError) -> tuple[int, str | None]:
    return error.status_code, error.code


def recorded(stack: Stack, call_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Intent and outcome of a call: one of each (L6)."""
    outcome = stack.outcome(call_id)
    (intent,) = (record for record in stack.records("intent") if record["call_id"] == call_id)
    return intent, outcome


# uploads


@pytest.mark.parametrize("case", REFUSED)
def test_l1_without_a_permit_nothing_is_uploaded(stack: TrainingStack, endpoint: Endpoint, case: str) -> None:
    with sdk(stack, case) as client:
        error = refusal(lambda: client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune"))
        assert code_of(error) == (403, "TRAINING_PERMIT")
        refused = refusal(lambda: client.fine_tuning.jobs.create(model=case, training_file="file-1"))
        assert code_of(refused) == (403, "TRAINING_PERMIT")
    assert endpoint.seen == []
    for one, operation in ((error, "files.create"), (refused, "fine_tuning.create")):
        intent, outcome = recorded(stack, one.response.headers["x-licet-call-id"])
        assert (intent["caller"], intent["operation"]) == (case, operation)
        assert (outcome["outcome"], outcome["reasons"]) == ("refused", ["TRAINING_PERMIT"])


def test_a_job_under_a_permit_from_upload_to_end(stack: TrainingStack, endpoint: Endpoint) -> None:
    with sdk(stack, "good") as client:
        raw = client.files.with_raw_response.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
        training = raw.parse()
        validation = client.files.create(file=("b.jsonl", VALIDATION), purpose="fine-tune")
        upload = endpoint.seen[0]
        assert upload.body == SENT[0]  # byte for byte, though a card number is in it (L5)
        assert upload.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert upload.headers["authorization"] == "Bearer provider-secret"
        made = client.fine_tuning.jobs.create(
            model="good", training_file=training.id, validation_file=validation.id, suffix="mine", seed=7
        )
        assert endpoint.seen[2].body == SENT[2].replace(b'"good"', b'"up"')
        assert (made.model, made.fine_tuned_model) == ("good", "ft:up-2024-07-18:acme::7p4lURel")
        jobs = client.fine_tuning.jobs
        assert jobs.retrieve(made.id).id == made.id
        (event,) = jobs.list_events(made.id, limit=10).data
        assert event.message == "Step 100 of <EMAIL_ADDRESS>"
        assert event.data == EVENT["data"]
        assert len(jobs.checkpoints.list(made.id, after="ftckpt-1").data) == 1
        for act in (jobs.pause, jobs.resume, jobs.cancel):
            assert act(made.id).id == made.id
        assert client.files.retrieve(training.id).purpose == "fine-tune"
        assert client.files.delete(training.id).deleted
        gone = refusal(lambda: jobs.create(model="good", training_file=training.id))
        assert code_of(gone) == (403, "TRAINING_PERMIT")
    at = f"/v1/fine_tuning/jobs/{made.id}"
    assert [(one.method, one.path) for one in endpoint.seen[2:]] == [
        ("POST", "/v1/fine_tuning/jobs"),
        ("GET", at),
        ("GET", f"{at}/events?limit=10"),
        ("GET", f"{at}/checkpoints?after=ftckpt-1"),
        ("POST", f"{at}/pause"),
        ("POST", f"{at}/resume"),
        ("POST", f"{at}/cancel"),
        ("GET", f"/v1/files/{training.id}"),
        ("DELETE", f"/v1/files/{training.id}"),
    ]
    assert {one.body for one in endpoint.seen[3:]} == {b""}
    assert {one.headers.get("content-type") for one in endpoint.seen[3:]} == {None}
    intent, outcome = recorded(stack, raw.headers["x-licet-call-id"])
    assert (intent["model"], intent["operation"], intent["tenant"]) == ("good", "files.create", "good")
    assert (intent["license"]["verdict"], intent["prompt"]["bytes"]) == ("allow", len(SENT[0]))
    assert set(intent["training"]) == {"permit", "digest", "issuer"}
    assert (outcome["outcome"], outcome["provider_id"]) == ("allowed", training.id)
    assert "a.jsonl" not in json.dumps([intent, outcome])


def test_data_may_be_named_by_sm3(stack: TrainingStack, endpoint: Endpoint) -> None:
    with sdk(stack, "sm3") as client:
        made = client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
        assert client.fine_tuning.jobs.create(model="sm3", training_file=made.id).model == "sm3"
        error = refusal(lambda: client.files.create(file=("a.jsonl", VALIDATION), purpose="fine-tune"))
    assert code_of(error) == (403, "TRAINING_PERMIT")
    assert len(endpoint.seen) == 2


def test_permits_are_asked_for_in_shadow_mode(stack: TrainingStack, endpoint: Endpoint) -> None:
    with sdk(stack, "shadow") as client:
        client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
        error = refusal(lambda: client.files.create(file=("a.jsonl", b"other"), purpose="fine-tune"))
        assert code_of(error) == (403, "TRAINING_PERMIT")
        assert code_of(refusal(lambda: client.fine_tuning.jobs.create(model="shadow", training_file="x")))[0] == 403
    assert len(endpoint.seen) == 1


def test_a_large_upload_is_sent_whole(stack: TrainingStack, endpoint: Endpoint) -> None:
    with sdk(stack, "good") as client:
        client.files.create(file=("a.jsonl", LARGE), purpose="fine-tune")
    assert endpoint.seen[0].body == SENT[0]
    assert len(SENT[0]) > 5_000_000


# whose it is


def test_what_one_tenant_made_is_nobody_elses(stack: TrainingStack, endpoint: Endpoint) -> None:
    with sdk(stack, "good") as ours, sdk(stack, "rival") as theirs:
        file = ours.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
        made = ours.fine_tuning.jobs.create(model="good", training_file=file.id)
        endpoint.seen.clear()
        jobs = theirs.fine_tuning.jobs
        errors = [
            refusal(lambda: jobs.create(model="rival", training_file=file.id)),
            refusal(lambda: jobs.create(model="rival", training_file="file-unknown")),
            refusal(lambda: theirs.files.retrieve(file.id)),
            refusal(lambda: theirs.files.delete(file.id)),
            *(
                refusal(lambda act=act: act(made.id))
                for act in (
                    jobs.retrieve,
                    jobs.cancel,
                    jobs.pause,
                    jobs.resume,
                    jobs.list_events,
                    jobs.checkpoints.list,
                )
            ),
        ]
        unknown = refusal(lambda: jobs.retrieve("ftjob-unknown"))
        assert {code_of(error) for error in errors} == {(403, "TRAINING_PERMIT")}
        assert errors[4].message.replace(made.id, "") == unknown.message.replace("ftjob-unknown", "")
        mixed = theirs.files.create(file=("b.jsonl", VALIDATION), purpose="fine-tune")
        error = refusal(lambda: jobs.create(model="rival", training_file=mixed.id, validation_file=file.id))
        assert code_of(error) == (403, "TRAINING_PERMIT")
    assert [one.path for one in endpoint.seen] == ["/v1/files"]


def test_the_license_is_asked_for_as_well(stack: TrainingStack, endpoint: Endpoint) -> None:
    with sdk(stack, "no-license") as client:
        error = refusal(lambda: client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune"))
        assert code_of(error) == (403, "LIC_MISSING")
    assert endpoint.seen == []


def test_a_job_that_trains_another_model_is_refused_and_can_be_ended(stack: TrainingStack, endpoint: Endpoint) -> None:
    provider = endpoint.script
    assert isinstance(provider, Provider)
    with sdk(stack, "good") as client:
        file = client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
        provider.next = answer(job("ftjob-drift", file.id, model="another"))
        error = refusal(lambda: client.fine_tuning.jobs.create(model="good", training_file=file.id))
        assert code_of(error) == (403, "MODEL_DRIFT")
        assert client.fine_tuning.jobs.cancel("ftjob-drift").id == "ftjob-drift"


def test_who_may_no_longer_train_can_still_stop(
    stack: TrainingStack, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a license in force, or under an order against everything, jobs can be ended and files deleted."""
    monkeypatch.setattr("gateway.app.TICK_S", 0.02)
    provider = endpoint.script
    assert isinstance(provider, Provider)
    authorities = stack.gateway.catalog.authorities
    before = authorities.standing

    def license_id() -> str:
        model = stack.gateway.catalog.find("suspended", "openai")
        assert isinstance(model, Governed)
        return model.facts.license.id

    with sdk(stack, "suspended") as client:
        jobs = client.fine_tuning.jobs
        file = client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
        made = jobs.create(model="suspended", training_file=file.id)
        license_ = stack.folder / "license-suspended.jws"
        token = license_.read_bytes()
        license_.unlink()
        stack.wait(lambda: not license_id())
        raw = jobs.with_raw_response.cancel(made.id)
        with sdk(stack, "rival") as theirs:
            error = refusal(lambda: theirs.fine_tuning.jobs.cancel(made.id))
            assert code_of(error) == (403, "TRAINING_PERMIT")  # another tenant's
        for act in (
            lambda: jobs.resume(made.id),
            lambda: jobs.retrieve(made.id),
            lambda: client.files.retrieve(file.id),
        ):
            assert code_of(refusal(act)) == (403, "LIC_MISSING")
        intent, outcome = recorded(stack, raw.headers["x-licet-call-id"])
        assert (intent["license"]["verdict"], intent["license"]["reasons"]) == ("deny", ["LIC_MISSING"])
        assert (outcome["outcome"], outcome["flags"]) == ("allowed", ["LIC_MISSING"])
        license_.write_bytes(token)
        stack.wait(lambda: bool(license_id()))
        order = Order("O-1", "all", effective_at=1)
        now = int(time.time())
        orders = OrderList(ISSUER, now, now + 3600, 3600, (order,))
        authorities.standing = replace(before, orders=(orders,))
        try:
            assert code_of(refusal(lambda: jobs.resume(made.id))) == (403, "ORDER_IN_FORCE")
            assert jobs.pause(made.id).id == made.id
            deleted = client.files.with_raw_response.delete(file.id)
        finally:
            authorities.standing = before
    intent, outcome = recorded(stack, deleted.headers["x-licet-call-id"])
    assert intent["license"]["order"] == "O-1"
    assert outcome["flags"] == ["ORDER_IN_FORCE"]


# what else is in the calls


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"suffix": "536-90-4399"}, "CONTENT_BLOCKED"),
        ({"metadata": {"who": "536-90-4399"}}, "CONTENT_BLOCKED"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "BODY_MALFORMED"),
        ({"extra_body": {"training_files": ["file-x"]}}, "BODY_MALFORMED"),
    ],
)
def test_what_else_a_job_says_is_judged(
    stack: TrainingStack, endpoint: Endpoint, changes: dict[str, Any], code: str
) -> None:
    with sdk(stack, "good") as client:
        file = client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
        error = refusal(lambda: client.fine_tuning.jobs.create(model="good", training_file=file.id, **changes))
        assert code_of(error) == (400, code)
        masked = {"who": "jane@example.com"}
        client.fine_tuning.jobs.create(model="good", training_file=file.id, metadata=masked)
    assert [one.path for one in endpoint.seen] == ["/v1/files", "/v1/fine_tuning/jobs"]
    assert endpoint.seen[1].json["metadata"] == {"who": "<EMAIL_ADDRESS>"}


def test_names_of_files_are_judged(stack: TrainingStack, endpoint: Endpoint) -> None:
    with sdk(stack, "good") as client:
        for name in ("ssn 536-90-4399 a.jsonl", "of jane@example.com"):
            error = refusal(lambda name=name: client.files.create(file=(name, EXAMPLES), purpose="fine-tune"))
            assert code_of(error) == (400, "CONTENT_BLOCKED")
    assert endpoint.seen == []


@pytest.mark.parametrize("purpose", ["batch", "assistants", "user_data"])
def test_other_uploads_are_refused(stack: TrainingStack, endpoint: Endpoint, purpose: Any) -> None:
    with sdk(stack, "good") as client:
        error = refusal(lambda: client.files.create(file=("a.jsonl", EXAMPLES), purpose=purpose))
        assert code_of(error) == (400, "CONTENT_UNJUDGEABLE")
        parts = refusal(
            lambda: client.uploads.create(bytes=9, filename="a", mime_type="text/plain", purpose="fine-tune")
        )
        assert code_of(parts) == (400, "CONTENT_UNJUDGEABLE")
        assert code_of(refusal(lambda: client.files.content("file-1"))) == (400, "CONTENT_UNJUDGEABLE")
        assert code_of(refusal(client.files.list)) == (405, "METHOD_NOT_ALLOWED")
        assert code_of(refusal(client.fine_tuning.jobs.list)) == (405, "METHOD_NOT_ALLOWED")
    assert endpoint.seen == []


def test_what_the_endpoint_refuses_is_relayed_and_not_remembered(stack: TrainingStack, endpoint: Endpoint) -> None:
    provider = endpoint.script
    assert isinstance(provider, Provider)
    with sdk(stack, "good") as client:
        provider.next = answer({"error": {"message": "no", "type": "invalid_request_error"}, "id": "file-odd"}, 400)
        with pytest.raises(openai.BadRequestError):
            client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune")
        error = refusal(lambda: client.fine_tuning.jobs.create(model="good", training_file="file-odd"))
        assert code_of(error) == (403, "TRAINING_PERMIT")
        provider.next = answer({"error": {"message": "key"}}, 401)
        error = refusal(lambda: client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune"))
        assert code_of(error) == (502, "UPSTREAM_AUTH")
        provider.next = Reply([b'data: {"id": "file-odd"}\n\n'])
        error = refusal(lambda: client.files.create(file=("a.jsonl", EXAMPLES), purpose="fine-tune"))
        assert code_of(error) == (502, "UPSTREAM_UNREADABLE")


# voices


def consented(client: openai.OpenAI) -> str:
    """The id of a recorded consent."""
    return client.audio.voice_consents.create(
        name="grant:jane", language="en-US", recording=("c.wav", CONSENT, "audio/wav")
    ).id


def voice(client: openai.OpenAI, consent: str, sample: bytes = VOICE) -> Any:
    return client.audio.voices.create(name="My voice", consent=consent, audio_sample=("v.wav", sample, "audio/wav"))


def test_a_voice_is_made_with_a_permit_a_consent_and_its_recording(stack: TrainingStack, endpoint: Endpoint) -> None:
    with sdk(stack, "good") as client, sdk(stack, "rival") as rival:
        consent = consented(client)
        assert voice(client, consent).id.startswith("voice-")
        assert voice(client, "grant:jane").id.startswith("voice-")
        assert [one.body for one in endpoint.seen] == SENT[:3]
        endpoint.seen.clear()
        errors = [
            refusal(lambda: voice(client, "cons-unknown")),
            refusal(lambda: voice(client, consent, b"another recording")),
            refusal(lambda: voice(rival, consent)),
            refusal(lambda: client.audio.voices.create(name="n", type="prompt", prompt="A warm voice")),
        ]
    assert {code_of(error) for error in errors} == {(403, "TRAINING_PERMIT")}
    assert endpoint.seen == []


@pytest.mark.parametrize("case", ["none", "no-voice", "no-grant", "ended"])
def test_l1_no_voice_without_a_permit_for_it(stack: TrainingStack, endpoint: Endpoint, case: str) -> None:
    with sdk(stack, case) as client:
        errors = [refusal(lambda: consented(client)), refusal(lambda: voice(client, "grant:jane"))]
    added = add_voice(stack, case)
    assert {code_of(error) for error in errors} == {(403, "TRAINING_PERMIT")}
    assert (added.status_code, added.json()["error"]["code"]) == (403, "TRAINING_PERMIT")
    assert endpoint.seen == []


def add_voice(stack: Stack, case: str, name: str = "grant:jane") -> httpx2.Response:
    """ElevenLabs' call."""
    files = [("files", ("v.wav", VOICE, "audio/wav")), ("files", ("c.wav", CONSENT, "audio/wav"))]
    return httpx2.post(
        f"{stack.url}/v1/voices/add",
        files=files,
        data={"name": name, "labels": '{"accent": "none"}'},
        headers={"authorization": f"Bearer {key_of(case)}"},
    )


def test_a_voice_is_added_as_elevenlabs_does(stack: TrainingStack, endpoint: Endpoint) -> None:
    added = add_voice(stack, "good")
    assert (added.status_code, added.json()["voice_id"]) == (200, "c38kUX8pkfYO2kHyqfFy")
    assert endpoint.seen[0].path == "/v1/voices/add"
    assert add_voice(stack, "good", "Somebody").status_code == 403
    assert len(endpoint.seen) == 1


# attacks on the wire

B = b"x-boundary-x"
PURPOSE = b'--x-boundary-x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n%b\r\n'
FILE = b'--x-boundary-x\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n'
END = b"--x-boundary-x--\r\n"
WHOLE = PURPOSE % b"fine-tune" + FILE % (b"a.jsonl", EXAMPLES) + END


def raw(stack: Stack, body: bytes, *, chunks: int = 0, head: bytes = b"") -> tuple[int, dict[str, Any]]:
    """Status and body of an upload as these very bytes; `chunks` of that size."""
    lines = [
        b"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer lk-good\r\nconnection: close",
        head or b"content-type: multipart/form-data; boundary=x-boundary-x",
        b"transfer-encoding: chunked" if chunks else b"content-length: %d" % len(body),
    ]
    if chunks:
        pieces = [body[at : at + chunks] for at in range(0, len(body), chunks)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), 20) as link:
        link.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        data = b""
        while piece := link.recv(65_536):
            data += piece
    head_, _, content = data.partition(b"\r\n\r\n")
    return int(head_.split(b" ")[1]), json.loads(content)


@pytest.mark.parametrize("chunks", [0, 1, 1000])
def test_l5_an_upload_arrives_as_it_was_however_it_was_cut(
    stack: TrainingStack, endpoint: Endpoint, chunks: int
) -> None:
    status, _ = raw(stack, WHOLE, chunks=chunks)
    assert status == 200
    assert endpoint.seen[0].body == WHOLE
    assert endpoint.seen[0].headers["content-length"] == str(len(WHOLE))


@pytest.mark.slow  # `tests/gateway/training/test_form.py` has them all, and more, without sockets
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param(PURPOSE % b"fine-tune" + WHOLE, 400, "BODY_MALFORMED", id="two purposes"),
        pytest.param(PURPOSE % b"batch" + WHOLE, 400, "BODY_MALFORMED", id="two purposes that differ"),
        pytest.param(PURPOSE % b"fine-tune" + FILE % (b"a", b"x") + FILE % (b"b", EXAMPLES) + END, 400, "BODY_MALFORMED", id="two files"),
        pytest.param(WHOLE.removesuffix(END), 400, "BODY_MALFORMED", id="no end"),
        pytest.param(WHOLE + WHOLE, 400, "BODY_MALFORMED", id="a second form"),
        pytest.param(b"hello\r\n" + WHOLE, 400, "BODY_MALFORMED", id="something before it"),
        pytest.param(PURPOSE % b"fine-tune" + FILE % (b"a", b"x\n--x-boundary-x\ny") + END, 400, "BODY_MALFORMED", id="boundary with a bare end of line"),
        pytest.param(PURPOSE % b"fine-tune" + FILE % (b"../a", EXAMPLES) + END, 400, "BODY_MALFORMED", id="a path as name"),
        pytest.param(PURPOSE % b"fine-tune" + FILE % (b"a" * 5000, EXAMPLES) + END, 400, "BODY_MALFORMED", id="a huge head"),
        pytest.param(PURPOSE % b"fine-tune" + FILE % (b"a", EXAMPLES + b"\n") + END, 403, "TRAINING_PERMIT", id="one byte more"),
    ],
)  # fmt: skip
def test_forms_that_are_no_plain_forms(
    stack: TrainingStack, endpoint: Endpoint, body: bytes, status: int, code: str
) -> None:
    for chunks in (0, 7):
        got, shown = raw(stack, body, chunks=chunks)
        assert (got, shown["error"]["code"]) == (status, code)
    assert endpoint.seen == []


def test_anthropics_files_are_no_path_of_ours(stack: TrainingStack, endpoint: Endpoint) -> None:
    headers = {"x-api-key": key_of("good"), "anthropic-version": "2023-06-01"}
    files = {"file": ("a.jsonl", EXAMPLES)}
    refused = connection().post(f"{stack.url}/v1/files?beta=true", files=files, headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (404, "error")
    assert endpoint.seen == []


def test_forms_have_to_say_that_they_are_one(stack: TrainingStack, endpoint: Endpoint) -> None:
    for head in (b"content-type: application/json", b"content-type: multipart/form-data", b"x: y"):
        assert raw(stack, WHOLE, head=head)[0] == 415
    assert endpoint.seen == []


def test_l6_an_upload_that_is_left_in_its_middle_is_recorded(stack: TrainingStack, endpoint: Endpoint) -> None:
    def cancelled() -> list[dict[str, Any]]:
        return [one for one in stack.records("outcome") if one["outcome"] == "cancelled"]

    spool = stack.gateway._training.spool
    before = len(cancelled())
    head = b"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer lk-good\r\ncontent-length: 1000\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), 20) as link:
        link.sendall(head + b"content-type: multipart/form-data; boundary=x-boundary-x\r\n\r\n" + WHOLE[:50])
        stack.wait(lambda: spool.held == 1)
    stack.wait(lambda: spool.held == 0 and len(cancelled()) == before + 1)
    assert endpoint.seen == []


def test_nothing_of_an_upload_is_left_behind(stack: TrainingStack) -> None:
    assert stack.gateway._training.spool.held == 0
    left = {path.name for path in (stack.folder / "data").iterdir() if path.is_file()}
    assert {name.partition(".")[0] for name in left} <= {"training"}
