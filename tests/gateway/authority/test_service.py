"""The service on a real socket: who may do what, what is published and when, and what bad requests get."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gateway.authority.authority import Authority
from gateway.authority.model import Actor
from gateway.authority.service_files import read_published
from gateway.authority.states import Role
from gateway.license.orders import read_orders
from gateway.license.status import StatusValue, read_status_list
from gateway.license.token import open_license
from gateway.license.trust import Trust, load_trust
from gateway.tlog.checkpoint import Checkpoint
from tests.gateway.authority.served import DIGEST, Served, form


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("service") / "authority") as made:
        yield made
        made.authority.verify()


def trust_of(served: Served) -> Trust:
    return load_trust(served.target("keys.json"), source="keys.json")


def status_of(served: Served, jti: str) -> StatusValue | None:
    found = served.http.get(f"/tuf/licenses/{jti}.jws")
    if found.status_code == 404 or not served.names("status/1.jwt"):
        return None  # not published yet
    claims = open_license(found.content, trust_of(served)).claims
    assert claims is not None
    assert claims.status is not None
    listed = read_status_list(served.target("status/1.jwt"), trust_of(served))
    assert listed.uri == claims.status.status_list.uri
    return listed.value(claims.status.status_list.idx)


def test_a_license_goes_from_application_to_revocation_and_each_change_is_published(served: Served) -> None:
    jti = served.issued()
    served.wait(lambda: status_of(served, jti) is StatusValue.VALID)
    served.ask("suspend", "pia", id=jti, reason="a complaint")
    served.wait(lambda: status_of(served, jti) is StatusValue.SUSPENDED)
    assert served.ask("revoke", "pia", id=jti, reason="obtained by deceit")["state"] == "revoked"
    served.wait(lambda: status_of(served, jti) is StatusValue.INVALID)
    story = served.ask("history", "ann", id=jti)["text"]
    assert "pia (approver) revoked the license" in story
    assert "obtained by deceit" in story


def test_an_order_is_published_and_shown_in_the_history(served: Served) -> None:
    jti = served.issued(model="paused")
    ref = served.ask("order", "pia", scope="model", models=["paused"], reason="P-7 of the ministry")["ref"]

    def given() -> bool:
        orders = read_orders(served.target("orders/main.jws"), trust_of(served)).orders
        return any(order.ref == ref for order in orders)

    served.wait(given)
    assert f"put order {ref} in force" in served.ask("history", "udo", id=jti)["text"]


def test_a_change_by_another_process_in_the_same_folder_is_published(served: Served) -> None:
    jti = served.issued()
    other = Authority.open(served.folder)
    try:
        other.suspend(Actor("pia", frozenset({Role.APPROVER})), jti, "from the command line")
    finally:
        other.close()
    served.wait(lambda: status_of(served, jti) is StatusValue.SUSPENDED)


REFUSED = [
    pytest.param("bob", "submit", {}, 400, "FORM", "form", id="a field is missing"),
    pytest.param("bob", "submit", {"form": {"license": {}}}, 400, "FORM", "application.license", id="no model"),
    pytest.param("bob", "submit", {"form": {}, "as": "pia"}, 400, "FORM", "as", id="who acts is no input"),
    pytest.param("pia", "submit", {"form": form()}, 403, "ROLE", None, id="not an applicant"),
    pytest.param(
        "ann", "decide", {"id": "x", "outcome": "maybe", "reason": "r"}, 400, "FORM", "outcome", id="no outcome"
    ),
    pytest.param("ann", "show", {"id": "nothing"}, 404, "NOT_FOUND", "id", id="nothing there"),
    pytest.param("ann", "list", {"what": "licenses"}, 403, "ROLE", None, id="an applicant sees no others"),
    pytest.param("ann", "log", {}, 403, "ROLE", None, id="nor the log"),
    pytest.param("olga", "key-new", {"name": "eve", "roles": ["admin"]}, 403, "ROLE", None, id="not an admin"),
    pytest.param("ada", "key-new", {"name": "eve", "roles": ["clock"]}, 400, "FORM", "roles", id="nobody is the clock"),
    pytest.param("ada", "open-door", {}, 404, "NOT_FOUND", "operation", id="no such operation"),
    pytest.param("olga", "assess", {"id": "x", "type": "pipia", "report": "&"}, 400, "FORM", "report", id="no base64"),
    pytest.param("ada", "list", {"limit": 5000}, 400, "FORM", "limit", id="a list without end"),
]


@pytest.mark.parametrize(("who", "name", "inputs", "status", "code", "field"), REFUSED)
def test_a_refusal_names_code_and_field(
    served: Served, who: str, name: str, inputs: dict[str, object], status: int, code: str, field: str | None
) -> None:
    answer = served.post(name, who, **inputs)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["field"]) == (code, field)
    assert error["message"]


def test_separation_of_duties_holds_over_http(served: Served) -> None:
    id_ = served.ask("submit", "ann", form=form())["id"]
    served.ask("complete", "olga", id=id_)
    served.ask("decide", "pia", id=id_, outcome="approve", reason="fine")
    again = served.post("confirm", "pia", id=id_)
    assert (again.status_code, again.json()["error"]["code"]) == (403, "SECOND_PERSON")
    early = served.post("issue", "olga", id=id_)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "TRANSITION")


def test_an_applicant_sees_their_own_records_alone(served: Served) -> None:
    id_ = served.ask("submit", "ann", form=form())["id"]
    assert id_ in [one["id"] for one in served.ask("list", "ann", limit=500)]
    assert served.ask("list", "bob") == []
    for name in ("show", "history", "token"):
        hidden = served.post(name, "bob", id=id_)
        missing = served.post(name, "bob", id="00000000")
        assert hidden.status_code == missing.status_code == 404
        assert hidden.json()["error"]["message"].replace(id_, "00000000") == missing.json()["error"]["message"]


def test_who_acts_comes_from_the_key_and_from_nothing_else(served: Served) -> None:
    id_ = served.ask("submit", "ann", form=form())["id"]
    claims_to_be = {"x-actor": "pia", "x-forwarded-user": "pia", "x-licet-actor": "pia"}
    headers = {"authorization": f"Bearer {served.keys['ann']}", **claims_to_be}
    answer = served.http.post("/v1/complete", json={"id": id_}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ROLE")


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(None, id="none"),
        pytest.param("Bearer lca_unknown", id="unknown"),
        pytest.param("Basic cGlhOnBpYQ==", id="another scheme"),
        pytest.param("Bearer", id="empty"),
        pytest.param("Bearer " + "x" * 5000, id="long"),
    ],
)
def test_no_key_no_answer(served: Served, authorization: str | None) -> None:
    headers = {"authorization": authorization} if authorization else {}
    for answer in (
        served.http.post("/v1/list", json={}, headers=headers),
        served.http.get("/v1/history/x", headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.json()["error"]["field"] == "authorization"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_l7_no_key_is_kept_or_shown(served: Served) -> None:
    secret = served.ask("key-new", "ada", name="eve", roles=["auditor"])["key"]
    assert served.http.post("/v1/log", json={}, headers={"authorization": f"Bearer {secret}"}).status_code == 200
    served.ask("key-remove", "ada", name="eve")
    assert served.http.post("/v1/log", json={}, headers={"authorization": f"Bearer {secret}"}).status_code == 401
    stored = b"".join(path.read_bytes() for path in served.folder.glob("authority.db*"))
    for key in (secret, *served.keys.values()):
        assert key.encode() not in stored


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        pytest.param(b"{", "application/json", 400, id="half an object"),
        pytest.param(b"[]", "application/json", 400, id="a list"),
        pytest.param(b"{}", "application/x-www-form-urlencoded", 415, id="a form of another site"),
        pytest.param(b"{}", "text/plain", 415, id="text"),
        pytest.param(b" " * 400_000, "application/json", 413, id="l9 too large"),
        pytest.param(b"[" * 100_000, "application/json", 400, id="deep"),
        pytest.param(b'{"what": "\xff"}', "application/json", 400, id="no UTF-8"),
    ],
)
def test_bodies_that_cannot_be_read_are_refused(served: Served, body: bytes, media: str, status: int) -> None:
    headers = {"authorization": f"Bearer {served.keys['ada']}", "content-type": media}
    answer = served.http.post("/v1/list", content=body, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"code", "message", "field"}


def raw(served: Served, path: str) -> tuple[int, bytes]:
    """The status and body of a GET whose path no client tidies up."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "path",
    [
        "/tuf/../authority.db",
        "/tuf/..%2fauthority.db",
        "/tuf/%2e%2e/authority.db",
        "/tuf/targets/../../authority.db",
        "/tuf//etc/passwd",
        "/tuf/targets\\..\\..\\authority.db",
        "/tuf/licenses/../../keys/online/root.json",
        "/tuf/timestamp.json%00",
        "/tuf/.hidden",
        "/tuf/targets",
        "/tuf/" + "a/" * 400,
    ],
)
def test_nothing_but_published_files_is_served(served: Served, path: str) -> None:
    (served.folder / "tuf" / ".hidden").write_text("half written")
    status, body = raw(served, path)
    assert status in (400, 404)
    assert b"SQLite" not in body
    assert b"half written" not in body


def test_links_and_pipes_in_the_published_folder_lead_nowhere(tmp_path: Path) -> None:
    folder = tmp_path / "tuf"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(folder / "pipe")
    (folder / "sub" / "file").write_text("public")
    assert [read_published(folder, name) for name in ("link", "up/secret", "pipe", "sub", "sub/none")] == [None] * 5
    assert read_published(folder, "sub/file") == b"public"


def test_the_history_is_a_page_without_scripts(served: Served) -> None:
    id_ = served.ask("submit", "ann", form=form(holder={"legal_name": "<script>alert(1)</script>"}))["id"]
    headers = {"authorization": f"Bearer {served.keys['udo']}"}
    page = served.http.get(f"/v1/history/{id_}", headers=headers)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text
    text = served.http.get(f"/v1/history/{id_}", headers={**headers, "accept": "text/plain"})
    assert "<script>alert(1)</script>" in text.text


def test_an_assessment_is_hashed_and_not_kept(served: Served) -> None:
    import base64
    import hashlib

    id_ = served.ask("submit", "ann", form=form())["id"]
    served.ask("complete", "olga", id=id_)
    report = b"%PDF of 600 kB" + b"x" * 600_000
    made = served.ask(
        "assess", "olga", id=id_, type="security", report=base64.b64encode(report).decode(), result={"passed": True}
    )
    assert made["assessments"][-1]["report_digest"] == f"sha256:{hashlib.sha256(report).hexdigest()}"


def test_lists_and_conditions_come_back_as_they_were_given(served: Served) -> None:
    id_ = served.ask("submit", "ann", form=form())["id"]
    served.ask("complete", "olga", id=id_)
    condition = {"type": "witness", "lag_s_max": 60}
    served.ask("decide", "pia", id=id_, outcome="approve_conditional", reason="r", conditions=[condition])
    served.ask("confirm", "paul", id=id_)
    jti = served.ask("issue", "olga", id=id_)["jti"]
    token = served.ask("token", "ann", id=jti)["jws"]
    claims = open_license(token.encode(), trust_of(served)).claims
    assert claims is not None
    assert claims.license.conditions == (condition,)
    shown = served.ask("show", "ann", id=jti)
    assert "token" not in shown["license"]
    assert shown["license"]["state"] == "active"
    assert DIGEST in json.dumps(shown["application"]["form"])


def test_the_process_is_alive_and_ready_once_it_has_published(served: Served) -> None:
    assert served.http.get("/livez").json() == {"status": "ok"}
    ready = served.http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["published_iat"] > 0


def test_what_cannot_be_published_is_said_and_tried_again(tmp_path: Path) -> None:
    made = Served(tmp_path / "authority", every_s=0.2)
    online = made.folder / "keys" / "online"
    (key,) = online.glob("timestamp-*.pem")
    hidden = key.rename(tmp_path / "hidden.pem")
    with made as served:
        answer = served.http.get("/readyz")
        assert answer.status_code == 503
        assert "timestamp" in answer.json()["problem"]
        assert served.http.get("/livez").status_code == 200
        hidden.rename(key)
        served.wait(lambda: served.http.get("/readyz").status_code == 200)
        assert served.http.get("/tuf/timestamp.json").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"what": "applications", "what": "licenses"}', id="at the top"),
        pytest.param(b'{"form": {"license": {"model": {"name": "a", "name": "b"}}}}', id="inside"),
    ],
)
def test_a_member_that_is_there_twice_is_refused(served: Served, body: bytes) -> None:
    headers = {"authorization": f"Bearer {served.keys['ann']}", "content-type": "application/json"}
    for name in ("list", "submit"):
        answer = served.http.post(f"/v1/{name}", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BODY_MALFORMED")


def test_l9_a_body_that_says_it_is_too_large_is_not_waited_for(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        head = f"POST /v1/list HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.keys['ann']}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{"
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_proof_of_the_log_keeps_nobody_waiting(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revocation does not wait for an auditor who reads a long log."""
    begun, may_end = threading.Event(), threading.Event()
    verify = Authority.verify

    def long(self: Authority, heads: Sequence[str] = ()) -> Checkpoint:
        begun.set()
        assert may_end.wait(30)
        return verify(self, heads)

    monkeypatch.setattr(Authority, "verify", long)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(served.post("log-verify", "udo").status_code))
    thread.start()
    try:
        assert begun.wait(20)
        assert served.post("revoke", "pia", id=served.issued(), reason="deceit").status_code == 200
        assert served.post("log-verify", "udo").status_code == 503
    finally:
        may_end.set()
        thread.join(30)
    assert found == [200]


def test_where_things_lie_is_not_told_to_who_asks(tmp_path: Path) -> None:
    made = Served(tmp_path / "authority", every_s=0.2)
    (key,) = (made.folder / "keys" / "online").glob("timestamp-*.pem")
    key.unlink()
    with made as served:
        answer = served.http.get("/readyz")
        assert answer.status_code == 503
        assert "timestamp" in answer.json()["problem"]
        assert str(tmp_path) not in answer.text
