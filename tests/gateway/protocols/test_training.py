"""Training paths: which there are, what their bodies say, and where text can hide in them and in their answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import CallerError, UpstreamError
from gateway.protocols.base import Edit, Kind
from gateway.protocols.document import EditError
from gateway.protocols.training import Act, Form, Part, TrainingAdapter, read_form, read_job, training_for
from gateway.reasons import Reason

DIGEST = ("sha256:" + "1" * 64,)


def file(name: str, filename: str = "a.jsonl", **more: Any) -> Part:
    return Part(name, filename=filename, digests=DIGEST, bytes=3, **more)


def form(*parts: Part, boundary: str = "abc") -> Form:
    return Form(b"the very bytes", boundary, parts)


UPLOAD = (Part("purpose", "fine-tune"), file("file"))


@pytest.mark.parametrize(
    ("method", "path", "act", "about"),
    [
        ("POST", "/v1/files", Act.UPLOAD, ""),
        ("GET", "/v1/files/file-1", Act.FILE, "file-1"),
        ("DELETE", "/v1/files/file-1", Act.FORGET, "file-1"),
        ("POST", "/v1/fine_tuning/jobs", Act.TRAIN, ""),
        ("GET", "/v1/fine_tuning/jobs/ftjob-1", Act.JOB, "ftjob-1"),
        ("GET", "/v1/fine_tuning/jobs/ftjob-1/events", Act.EVENTS, "ftjob-1"),
        ("GET", "/v1/fine_tuning/jobs/ftjob-1/checkpoints", Act.CHECKPOINTS, "ftjob-1"),
        ("POST", "/v1/fine_tuning/jobs/ftjob-1/cancel", Act.CANCEL, "ftjob-1"),
        ("POST", "/v1/fine_tuning/jobs/ftjob-1/pause", Act.PAUSE, "ftjob-1"),
        ("POST", "/v1/fine_tuning/jobs/ftjob-1/resume", Act.RESUME, "ftjob-1"),
        ("POST", "/v1/audio/voice_consents", Act.CONSENT, ""),
        ("POST", "/v1/audio/voices", Act.VOICE, ""),
        ("POST", "/v1/voices/add", Act.VOICE_ADD, ""),
    ],
)
def test_paths_that_are_served(method: str, path: str, act: Act, about: str) -> None:
    adapter = training_for(method, path)
    assert adapter is not None
    assert (adapter.act, adapter.about, adapter.refused) == (act, about, None)
    assert (adapter.method, adapter.upstream_path) == (method, path.removeprefix("/v1"))
    assert adapter.operation == act.value


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("GET", "/v1/files", Reason.METHOD_NOT_ALLOWED),
        ("GET", "/v1/fine_tuning/jobs", Reason.METHOD_NOT_ALLOWED),
        ("GET", "/v1/audio/voices", Reason.METHOD_NOT_ALLOWED),
        ("GET", "/v1/files/file-1/content", Reason.CONTENT_UNJUDGEABLE),
        ("POST", "/v1/uploads", Reason.CONTENT_UNJUDGEABLE),
        ("POST", "/v1/uploads/upload_1/parts", Reason.CONTENT_UNJUDGEABLE),
        ("POST", "/v1/uploads/upload_1/complete", Reason.CONTENT_UNJUDGEABLE),
        ("PUT", "/v1/files", Reason.METHOD_NOT_ALLOWED),
        ("DELETE", "/v1/fine_tuning/jobs/ftjob-1", Reason.METHOD_NOT_ALLOWED),
    ],
)
def test_paths_that_are_refused_by_name(method: str, path: str, reason: Reason) -> None:
    adapter = training_for(method, path)
    assert adapter is not None
    assert adapter.refused is not None
    assert adapter.refused[0] is reason


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/",
        "/v1/files/../chat/completions",
        "/v1/files/a%2Fb",
        "/v1/files/a/b",
        "/v1/files/a\n",
        "/v1/files/" + "a" * 129,
        "/v1/fine_tuning/jobs/ftjob-1/events/",
        "/v1/fine_tuning/alpha/graders/run",
        "/v1/chat/completions",
        "/files",
    ],
)
def test_other_paths_are_none_of_these(path: str) -> None:
    assert training_for("GET", path) is None
    assert training_for("POST", path) is None


# forms


def test_upload_is_read() -> None:
    prompt, wish = read_form(Act.UPLOAD, form(*UPLOAD, Part("expires_after[anchor]", "created_at")))
    assert (prompt.model, set(prompt.modalities), prompt.unjudgeable) == ("", {"text"}, ())
    assert wish.files == (UPLOAD[1],)
    assert prompt.document.rewrite({}, model="up") == b"the very bytes"


@pytest.mark.parametrize(
    "purpose", ["batch", "assistants", "vision", "user_data", "evals", "", "Fine-tune", "fine-tune "]
)
def test_files_for_anything_but_fine_tuning_are_refused(purpose: str) -> None:
    with pytest.raises(CallerError) as caught:
        read_form(Act.UPLOAD, form(Part("purpose", purpose), UPLOAD[1]))
    assert (caught.value.reason, caught.value.param) == (Reason.CONTENT_UNJUDGEABLE, "purpose")


@pytest.mark.parametrize(
    ("act", "parts", "param"),
    [
        (Act.UPLOAD, UPLOAD[:1], "file"),
        (Act.UPLOAD, UPLOAD[1:], "purpose"),
        (Act.UPLOAD, (*UPLOAD, Part("expires_after[seconds]", "soon")), "expires_after[seconds]"),
        (Act.CONSENT, (Part("name", "n"), Part("language", "en us"), file("recording")), "language"),
        (Act.VOICE, (Part("name", "n"), file("audio_sample")), "consent"),
        (Act.VOICE_ADD, (Part("name", "n"),), "files"),
        (Act.VOICE_ADD, (Part("name", "n"), file("files"), file("files[]")), "files"),
        (
            Act.VOICE_ADD,
            (Part("name", "n"), file("files"), Part("remove_background_noise", "x")),
            "remove_background_noise",
        ),
    ],
)
def test_forms_that_lack_something(act: Act, parts: tuple[Part, ...], param: str) -> None:
    with pytest.raises(CallerError) as caught:
        read_form(act, form(*parts))
    assert (caught.value.reason, caught.value.param) == (Reason.BODY_MALFORMED, param)


def test_voices_ask_for_consent_and_for_audio() -> None:
    prompt, wish = read_form(Act.VOICE, form(Part("name", "n"), Part("consent", "cons_1"), file("audio_sample")))
    assert (set(prompt.modalities), wish.consent, wish.grant) == ({"text", "audio"}, "cons_1", "")
    _, wish = read_form(Act.VOICE_ADD, form(Part("name", "grant:1"), file("files"), file("files")))
    assert (wish.consent, wish.grant, len(wish.files)) == ("", "grant:1", 2)
    _, wish = read_form(Act.CONSENT, form(Part("name", "grant:1"), Part("language", "en-US"), file("recording")))
    assert wish.grant == "grant:1"
    sample = (Part("name", "n"), Part("consent", "cons_1"), file("audio_sample"))
    for more in (Part("type", "prompt"), Part("type", "other"), Part("prompt", "A warm voice"), Part("model", "")):
        with pytest.raises(CallerError) as caught:
            read_form(Act.VOICE, form(*sample, more))
        assert caught.value.reason is Reason.TRAINING_PERMIT
    assert read_form(Act.VOICE, form(*sample, Part("type", "audio_sample")))[1].consent == "cons_1"


def test_l4_each_text_of_a_form_is_judged_and_none_can_be_edited() -> None:
    parts = (
        Part("name", "the name"),
        Part("labels", '{"accent": "\\u0074he accent"}'),
        Part("description", "the description", media="text/plain"),
        file("files", "one.wav", media="audio/x-4111111111111111"),
        file("files", "two.wav"),
    )
    document = read_form(Act.VOICE_ADD, form(*parts, boundary="4111-1111-1111-1111"))[0].document
    texts = {channel.text for channel in document.channels}
    assert texts == {
        "the name", '{"accent": "\\u0074he accent"}', "the accent", "the description", "one.wav", "two.wav", "audio/x-4111111111111111", "4111-1111-1111-1111",
    }  # fmt: skip
    assert {channel.kind for channel in document.channels} == {Kind.FIXED}
    assert len({channel.key for channel in document.channels}) == len(document.channels)
    with pytest.raises(EditError):
        document.rewrite({"name": [Edit(0, 1, "")]})


@pytest.mark.parametrize(
    "boundary",
    [
        "517a78ad912968f9a9b20a6ac0df82d9",  # urllib3, httpx
        "------------------------d74496d66958873e",  # curl before 8.4
        "------------------------b2Yz3k9QmTnLw0aVcR5xJd",  # curl
        "----WebKitFormBoundary7MA4YWxkTrZu0gW",  # browsers
        "----formdata-undici-012345678901",  # Node
        "9051914041544843365972754266a1f3c5e7b9d1f3a5c7e9b1d3f5a7c9e1",  # Go
        "7d8f2a1e-3c4b-4a5d-9e6f-0123456789ab",  # OkHttp, .NET
    ],
)
def test_boundaries_that_clients_make(boundary: str) -> None:
    document = read_form(Act.UPLOAD, form(*UPLOAD, boundary=boundary))[0].document
    judged = [channel.text for channel in document.channels if channel.key == "boundary"]
    assert judged == ([boundary] if boundary.startswith("9051") else [])


# jobs


def job(**changes: Any) -> bytes:
    return json.dumps({"model": "tune", "training_file": "file-1", **changes}).encode()


def test_job_names_its_files() -> None:
    prompt, wish = read_job(job(validation_file="file-2", seed=7, integrations=None, suffix=None))
    assert (prompt.model, wish.named) == ("tune", ("file-1", "file-2"))
    assert prompt.document.channels == []
    assert json.loads(prompt.document.rewrite({}, model="up")) == json.loads(job(model="up", validation_file="file-2", seed=7, integrations=None, suffix=None))  # fmt: skip
    assert read_job(job(integrations=[], validation_file=None))[1].named == ("file-1",)


def test_l5_only_the_model_of_a_job_is_changed() -> None:
    body = b'{ "model" : "tune",\t"training_file":"file-1", "suffix":"a\\u0062c" }'
    assert read_job(body)[0].document.rewrite({}, model="up") == body.replace(b'"tune"', b'"up"')


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"training_files": [{"file_id": "file-2", "weight": 1}]}, id="files under another name"),
        pytest.param({"Training_File": "file-2"}, id="another case"),
        pytest.param({"api_base": "http://x"}, id="another place"),
        pytest.param({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, id="integrations"),
        pytest.param({"integrations": {"type": "wandb"}}, id="integrations, an object"),
        pytest.param({"training_file": None}, id="no file"),
        pytest.param({"training_file": ["file-1", "file-2"]}, id="several files"),
        pytest.param({"training_file": "file-1/../file-2"}, id="a file that is a path"),
        pytest.param({"validation_file": 7}, id="a file that is a number"),
        pytest.param({"model": ""}, id="no model"),
        pytest.param({"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "score_model", "model": "other"}}}}, id="a grader that is a model"),
        pytest.param({"method": {"type": "reinforcement", "reinforcement": {"grader": [{"graders": [{"URL": "http://x"}]}]}}}, id="a grader elsewhere"),
        pytest.param({"hyperparameters": {"file_id": "file-2"}}, id="a file among numbers"),
    ],
)  # fmt: skip
def test_jobs_that_reach_further_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CallerError) as caught:
        read_job(job(**changes))
    assert caught.value.reason is Reason.BODY_MALFORMED
    assert "file-2" not in str(caught.value)


@pytest.mark.parametrize("key", ["model", "training_file", "validation_file", "integrations", "method", "suffix"])
def test_fields_of_a_job_stand_once(key: str) -> None:
    twice = job(**{key: "a"})[:-1] + f', "{key}": "b"}}'.encode()
    with pytest.raises(CallerError) as caught:
        read_job(twice)
    assert caught.value.reason is Reason.BODY_MALFORMED


def test_l4_each_text_of_a_job_is_judged() -> None:
    changes = {
        "suffix": "the suffix",
        "metadata": {"a": "the value", "the key": "x"},
        "method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "python", "source": "the source", "n": 4111111111111111}}},
        "seed": 4111111111111111,
    }  # fmt: skip
    document = read_job(job(**changes))[0].document
    said = "\n".join(channel.text for channel in document.channels)
    for text in ("the suffix", "the value", "the key", "the source", "n 4111111111111111", "seed 4111111111111111"):
        assert text in said
    edited = document.rewrite({"suffix": [Edit(0, 3, "***")]}, model="up")
    assert json.loads(edited)["suffix"] == "*** suffix"
    assert json.loads(edited)["model"] == "up"


# calls without a body, and answers

ADAPTER = TrainingAdapter(Act.JOB, "GET", "/fine_tuning/jobs/ftjob-1", "ftjob-1")

JOB = {
    "object": "fine_tuning.job", "id": "ftjob-abc123", "model": "up-2024-07-18", "created_at": 1800000000, "seed": 1234567890,
    "finished_at": 1800000009, "fine_tuned_model": "ft:up-2024-07-18:acme:suffix:7p4lURel", "organization_id": "org-123",
    "result_files": ["file-abc123"], "status": "succeeded", "training_file": "file-abc12", "validation_file": None,
    "hyperparameters": {"n_epochs": 4, "batch_size": "auto", "learning_rate_multiplier": 1.0}, "trained_tokens": 5768000,
    "integrations": [], "error": {}, "user_provided_suffix": None, "metadata": None, "estimated_finish": None,
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}},
}  # fmt: skip
EVENTS = {
    "object": "list",
    "has_more": False,
    "data": [
        {"object": "fine_tuning.job.event", "id": "ftevent-1", "created_at": 1800000000, "level": "info", "type": "metrics",
         "message": "the message", "data": {"step": 100, "train_loss": 0.45265128222328162, "valid_loss": 1e-05}},
    ],
}  # fmt: skip


def test_a_body_where_none_belongs_is_refused() -> None:
    assert ADAPTER.parse(b"").model == ""
    with pytest.raises(CallerError):
        ADAPTER.parse(b'{"model": "x"}')


def test_answers_are_known_well_enough_to_pass() -> None:
    answer = ADAPTER.answer(json.dumps(JOB).encode())
    assert (answer.served_model, answer.provider_id) == ("up-2024-07-18", "ftjob-abc123")
    said = {channel.text for channel in answer.document.channels}
    assert said <= {"auto", "supervised"}
    shown = json.loads(answer.document.rewrite({}, model="tune"))
    assert shown == {**JOB, "model": "tune"}
    events = ADAPTER.answer(json.dumps(EVENTS).encode())
    assert [channel.text for channel in events.document.channels] == ["the message"]
    assert events.served_model is None
    assert ADAPTER.answer(b'{"voice_id": "v1", "requires_verification": false}').provider_id == "v1"


def test_l4_unknown_fields_of_answers_are_judged() -> None:
    odd = {**EVENTS, "more": "odd text", "data": [{"data": {"loss": "odd loss", "n": 4111111111111111.0}}]}
    said = "\n".join(channel.text for channel in ADAPTER.answer(json.dumps(odd).encode()).document.channels)
    for text in ("odd text", "odd loss", "4111111111111111"):
        assert text in said


def test_no_training_path_streams() -> None:
    with pytest.raises(UpstreamError):
        ADAPTER.stream()
    with pytest.raises(UpstreamError):
        ADAPTER.answer(b"not json")
