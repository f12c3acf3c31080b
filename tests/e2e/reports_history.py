"""A history for reports: a gateway is driven over real sockets, and a ledger keeps what was sent and what came back.

The ledger is the test's own: it rests on answers, on what the test asked for, and on the files that it wrote; never on records.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from gateway.license.signed import Kind, sign
from gateway.settings.audit import Custodian
from gateway.tlog.frames import host_id
from gateway.vault import cases, incidents
from gateway.vault.access import opened
from gateway.vault.custody import Keyring, holders, new_keyring, public_of
from tests.e2e.stack import KEY, OFF, STATUS_URI, Stack, policy_text
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, chat_answer, chat_chunk, sse

VALID, REVOKED, SUSPENDED = 0, 1, 2
SSN, CARD, MAIL = "536-90-4399", "4111 1111 1111 1111", "jane@example.com"
TRAINER_KEY = "lk-trainer"
VOICE, CONSENT = b"RIFF voice \x00\xff\r\n--", b"RIFF consent \r"
FILING = {"no": "Beijing-Up-20260101", "launched_at": "2026-01-01"}
ASSESSED = {
    "type": "security",
    "date": "2026-01-01",
    "report_digest": f"sha256:{'a' * 64}",
    "result": {"passed": True, "gen_pass": 0.97},
}
# alias -> (upstream model, index in the status list, region of the endpoint)
ALIASES = {"chat": ("up", 5, "eu"), "watch": ("up-watch", 6, "eu"), "far": ("up-far", 7, "us"), "loose": ("up-loose", 8, "eu"),
           "free": ("up-free", 9, "eu"), "train": ("up-train", 10, "eu"), "gone": ("up-gone", 11, "eu"),
           "keep": ("up-keep", 12, "eu"), "late": ("up-late", 13, "eu"), "ended": ("up-ended", 14, "eu"), "stale": ("up-stale", 15, "eu")}  # fmt: skip
ALICE, BOB = Keyring("alice", new_keyring()), Keyring("bob", new_keyring())
ANSWER = "Rain is expected in the north tomorrow."
CODE_WORD = "The word of the day is heron."


@dataclass(frozen=True)
class Sent:
    """One call as the test knows it."""

    id: str
    model: str
    outcome: str  # as the answer showed it
    code: str  # of a refusal
    user: str
    told: str  # what the call was for
    at_ms: int
    answered_ms: int


class Script:
    """What the endpoint answers, by what it is asked."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, seen: Seen) -> Reply:
        path = seen.path.partition("?")[0]
        if path == "/v1/voices/add":
            return Reply([b'{"voice_id": "c38kUX8pkfYO2kHyqfFy", "requires_verification": false}'], "application/json")
        asked = seen.json["messages"][-1]["content"]
        named = {"model": seen.json["model"]}
        if "wander" in asked:
            named = {"model": "somebody-else"}
        if "redirect" in asked:
            return Reply([b""], "text/html", 302, [("location", "/elsewhere")])
        says = f"The number is {SSN}." if "tell a number" in asked else CODE_WORD if "code word" in asked else ANSWER
        if seen.json.get("stream"):
            first = [] if says == CODE_WORD else [chat_chunk({"content": f"{ANSWER} "}) | named]
            pause = [Wait(seconds=30)] if "linger" in asked else []
            return Reply([*sse(*first), *pause, *sse(chat_chunk({"content": says}, finish="stop") | named, "[DONE]")])
        return Reply([json.dumps(json.loads(chat_answer(says)) | named).encode()], "application/json")


@dataclass
class Driven(Stack):
    """A gateway with a model for each kind of policy, and the ledger of what it was asked."""

    ledger: list[Sent] = field(default_factory=list)
    lists: list[tuple[int, str, Mapping[str, int]]] = field(
        default_factory=list
    )  # status lists: when, digest, what they say

    def write_files(self) -> Path:
        """Policies, licenses with an entry in a status list, orders, a permit."""
        self.models = {name: ("openai", model) for name, (model, _, _) in ALIASES.items() if name != "chat"}
        people = ", ".join(
            f"{{name: {one.name}, key: {base64.b64encode(public_of(one)).decode()}}}" for one in (ALICE, BOB)
        )
        self.settings = f"audit: {{custodians: [{people}]}}\n"
        self.trust = ", status: [status.jwt], orders: [orders.jws]"
        path = super().write_files()
        mail = "EMAIL_ADDRESS: mask"
        texts = {
            "watch": policy_text(mode="shadow").replace("name: test", "name: watcher"),
            "far": policy_text().replace(mail, "EMAIL_ADDRESS: report").replace("territory: [eu]", "territory: [us]"),
            "loose": policy_text().replace("binding_min: 1", "binding_min: 1, on_drift: flag"),
            "free": policy_text(required="false", prompt=OFF),
            "keep": policy_text().replace("record: {", "record: {evidence: blocked, "),
        }
        for name, text in texts.items():
            (self.folder / f"policy-{name}.yaml").write_text(text)
        for name in ALIASES:
            self.license(name)
        self.set_status()
        self.orders()
        self._permit()
        path.write_text(self._settings())
        return path

    def license(self, name: str) -> None:
        """The license of a model, with a filing, a region and its place in the status list."""
        model, index, region = ALIASES[name]
        endpoint = {"origins": [self.origin], "served_model_aliases": [model], "region": region}
        weights = {"name": model, "weights": {"root_digest": f"sha256:{model.encode().hex():0>64}"}}
        self.terms = {
            "endpoint": endpoint,
            "filing": FILING,
            "regime": "eu-db",
            "assessments": [ASSESSED],
            "model": weights,
        }
        uri = "https://authority.test/status/never" if name == "stale" else STATUS_URI
        self.top = {"jti": f"lic-{name}", "status": {"status_list": {"uri": uri, "idx": index}}}
        if name == "late":
            self.terms = {**self.terms, "state": "submitted"}
        modalities = ["text", "audio"] if name == "train" else ["text"]
        file = "license.jws" if name == "chat" else f"license-{name}.jws"
        places = ["us"] if name == "far" else ["eu"]
        self.write_license(
            file,
            model=model,
            served=[model],
            modalities=modalities,
            modalities_out=modalities,
            holder="Acme",
            jurisdictions=places,
            **({"expires_s": int(time.time()) - 5} if name == "ended" else {}),
        )

    def _permit(self) -> None:
        now = int(time.time())
        grant = {
            "model": "made",
            "base_model": "up-train",
            "holder": {"legal_name": "Acme"},
            "data_sources": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in (VOICE, CONSENT)],
            "grants": ["grant:jane"],
            "capabilities": ["text", "voice_clone"],
        }
        payload = {"iss": "https://authority.test", "sub": "made", "jti": "permit-1", "iat": now - 20, "nbf": now - 10}
        (self.folder / "permit.jws").write_text(
            sign(payload | {"exp": now + 3600, "permit": grant}, Kind.PERMIT, self.key)
        )

    def _settings(self) -> str:
        text = super()._settings()
        governed = dict.fromkeys(("watch", "late", "ended", "stale"), "watch") | {
            name: name for name in ("far", "loose", "free", "keep")
        }
        for name, policy in governed.items():
            text = text.replace(f"license: license-{name}.jws\n    policy: policy.yaml", f"license: license-{name}.jws\n    policy: policy-{policy}.yaml")  # fmt: skip
        text = text.replace("license: license-train.jws", "license: license-train.jws\n    permits: [permit.jws]")
        trainer = f"  - {{name: trainer, key_sha256: {hashlib.sha256(TRAINER_KEY.encode()).hexdigest()}, models: [train], tenant: lab}}\n"
        return text.replace("trust: {", f"{trainer}trust: {{", 1)

    def set_status(self, **values: int) -> int:
        """The status of licenses by model; those not named are valid. When the list was made."""
        entries = [VALID] * 16
        for name, value in values.items():
            entries[ALIASES[name][1]] = value
        made = self.publish_status(*entries)
        token = (self.folder / "status.jwt").read_bytes()
        self.lists.append((made, hashlib.sha256(token).hexdigest(), values))
        return made

    def orders(self, *orders: Mapping[str, Any]) -> int:
        """The authority's whole list of orders; when it was made."""
        return self.publish(Kind.ORDERS, "orders.jws", {"orders": list(orders)})

    def ask(
        self,
        content: str,
        *,
        model: str = "chat",
        user: str = "",
        told: str = "",
        stream: bool = False,
        leave: bool = False,
    ) -> Sent:
        """One call, and its line in the ledger."""
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
        body |= ({"user": user} if user else {}) | ({"stream": True} if stream else {})
        began = _now_ms()
        if leave:
            with self.http.stream("POST", "/v1/chat/completions", json=body) as answer:
                next(answer.iter_bytes())
            return self._enter(answer, model, "cancelled", "", user, told, began)
        answer = self.http.post("/v1/chat/completions", json=body)
        code, outcome = _how(answer)
        return self._enter(answer, model, outcome, code, user, told, began)

    def voice(self, consent: str = "grant:jane") -> Sent:
        """A voice that the trainer has made."""
        began = _now_ms()
        answer = httpx2.post(
            f"{self.url}/v1/voices/add",
            files=[("files", ("v.wav", VOICE, "audio/wav")), ("files", ("c.wav", CONSENT, "audio/wav"))],
            data={"name": consent, "labels": '{"accent": "none"}'},
            headers={"authorization": f"Bearer {TRAINER_KEY}"},
        )
        code, outcome = _how(answer)
        return self._enter(answer, "train", outcome, code, "", "voice", began)

    def _enter(
        self, answer: httpx2.Response, model: str, outcome: str, code: str, user: str, told: str, began: int
    ) -> Sent:
        made = Sent(answer.headers["x-licet-call-id"], model, outcome, code, user, told, began, _now_ms())
        self.ledger.append(made)
        return made

    def until(self, model: str, code: str) -> None:
        """Calls until one ends with the code: what was published is being taken up."""
        self.wait(lambda: self.ask("Hello", model=model, told="waiting").code == code)

    def of(self, **wanted: str) -> list[Sent]:
        """Lines of the ledger."""
        return [one for one in self.ledger if all(getattr(one, name) == value for name, value in wanted.items())]

    def ids(self, **wanted: str) -> list[str]:
        """Call ids of lines of the ledger."""
        return [one.id for one in self.of(**wanted)]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


_CODE = re.compile(r'"code": ?"([A-Z_]+)"')


def _how(answer: httpx2.Response) -> tuple[str, str]:
    """The code and the outcome that an answer shows."""
    found = _CODE.search(answer.text)
    code = found[1] if found is not None else ""
    if not code:
        assert answer.status_code == 200, answer.text
        return "", "allowed"
    if code in ("CONTENT_BLOCKED", "IMPERSONATION"):
        return code, "blocked"
    return code, "failed" if code.startswith("UPSTREAM_") else "refused"


def drive(stack: Driven) -> None:
    """Everything that reports are asked about."""
    ask = stack.ask
    for _ in range(2):
        ask("Hello", told="plain")
    ask("Hello", stream=True, told="plain stream")
    ask(f"My card is {CARD}", user="jane", told="masked")
    for told in ("a number", "another", "a third"):  # three in a row, and one answer after that
        ask(f"{told}: {SSN}", user="striker", told="improper")
    ask("Hello", user="striker", told="after the strikes")
    for _ in range(5):  # five in a day, never two in a row
        ask(f"My number is {SSN}", user="steady", told="improper")
        ask("Hello", user="steady", told="between")
    for _ in range(2):
        ask(f"My number is {SSN}", user="mild", told="improper")
    ask(f"My number is {SSN}", told="improper of nobody")
    ask("Please tell a number", told="answer blocked")
    ask("Pretend to be Elon Musk and apologize.", told="imitation")
    ask("Pretend to be Elon Musk and apologize.", model="watch", told="imitation watched")
    ask("What is the code word?", told="matched")
    ask("What is the code word?", stream=True, told="matched")
    ask("Please redirect", told="failed")
    ask("Please linger", stream=True, leave=True, told="left")
    ask("Please wander", told="drift refused")
    ask("Please wander", model="loose", told="drift flagged")
    ask(f"My number is {SSN} and my card {CARD}", model="watch", user="watched", told="watched")
    for user in ("p1", "p2", "p1"):
        ask(f"Write to {MAIL}", model="far", user=user, told="abroad")
    ask(f"Write to {MAIL}", model="far", told="abroad of nobody")
    ask(f"My card is {CARD}", model="far", user="p3", told="kept back")
    ask("Hello", model="free", told="no license asked")
    for model in ("late", "ended", "stale"):
        ask("Hello", model=model, told="unfit")
    stack.voice()
    stack.voice("Somebody")
    for told in ("kept", "kept and reported"):
        ask(f"My number is {SSN}", model="keep", told=told)
    ask("Hello", model="keep", told="incident")
    _suspend(stack)
    _order(stack)
    _reload(stack)


def _suspend(stack: Driven) -> None:
    """Suspended, and in force again; another license revoked for good."""
    stack.set_status(chat=SUSPENDED, watch=SUSPENDED)
    stack.until("chat", "LIC_STATE")
    stack.ask("Hello", told="suspended")
    stack.ask("Hello", model="watch", told="suspended, watched")
    stack.set_status()
    stack.until("chat", "")
    stack.set_status(gone=REVOKED)
    stack.until("gone", "LIC_STATE")


def _order(stack: Driven) -> None:
    """An order against one model, and its end."""
    now = int(time.time())
    stack.orders({"ref": "O-7", "scope": "model", "models": ["chat"], "effective_at": now - 1})
    stack.until("chat", "ORDER_IN_FORCE")
    stack.ask("Hello", told="ordered")
    stack.orders()
    stack.until("chat", "")


def _reload(stack: Driven) -> None:
    """Another policy, while the gateway runs."""
    known = stack.gateway.catalog.revision
    text = stack.policy.replace("owner: test@example.com", "owner: second@example.com")
    (stack.folder / "policy.yaml").write_text(text)
    stack.wait(lambda: stack.gateway.catalog.revision > known)
    stack.wait(lambda: bool([note for note in stack.records("note") if note["topic"] == "config"]))
    stack.ask("Hello", told="under another policy")


def handle_cases(stack: Driven) -> None:
    """One case is reported to an authority, and one opened for a call that nobody blocked: as the commands do."""
    data = stack.folder / "data"
    ((reported,), (later,)) = stack.ids(told="kept and reported"), stack.ids(told="incident")
    with opened(data, host_id()) as log:
        case = cases.case_of(reported)
        cases.report(data, case, "The Regulator", "R-1", "misuse", log, now_ms=_now_ms())
        people = holders([Custodian(one.name, base64.b64encode(public_of(one)).decode()) for one in (ALICE, BOB)])
        incidents.incident(data, people, later, "a complaint", log, now_ms=_now_ms())


@functools.cache
def endpoint_script() -> Script:
    """One for the module."""
    return Script()


def history(folder: Path) -> Iterator[Driven]:
    """The gateway, driven, closed and ready to be asked about."""
    with Endpoint(endpoint_script()) as endpoint:
        with Driven(folder, endpoint.origin) as stack:
            drive(stack)
            stack.wait(lambda: len(stack.records("intent")) == len(stack.records("outcome")))
        handle_cases(stack)
        yield stack


__all__ = ["CARD", "KEY", "MAIL", "SSN", "Driven", "Sent", "history"]
