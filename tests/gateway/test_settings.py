"""The settings file: strict, filled from the environment once, every mistake with its line; `check` sees it all."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.checkup import ReadPolicy, check
from gateway.errors import ConfigError
from gateway.filter_rules import read_policy
from gateway.license.issuer import add_to_trust, build_claims, generate_key, issue
from gateway.license.signed import Kind, sign
from gateway.license.status import build_status_payload
from gateway.settings import SETTINGS, Settings, json_schema, load_settings, parse_settings
from gateway.settings.audit import AuditSettings, Telemetry
from policies.spec import Record
from tests.gateway.trust.world import World

KEY_SHA256 = hashlib.sha256(b"secret-key").hexdigest()
FOLDER = Path("/etc/licet")

GOOD = f"""\
listen: {{host: 0.0.0.0, port: 8080, workers: 1}}
data: ./var
redis: ${{LICET_REDIS:-}}
callers:
  - {{name: app, key_sha256: {KEY_SHA256}, models: [chat]}}
trust: {{keys: trust.json}}
models:
  - name: chat
    license: licenses/chat.jws
    policy: policies/chat.yaml
    targets:
      - {{protocol: openai, base_url: "https://api.example.com/v1/", api_key: "${{PROVIDER_KEY}}", model: gpt-4o}}
"""
ENVIRON = {"PROVIDER_KEY": "sk-upstream-123"}


def read(text: str, environ: dict[str, str] | None = None) -> Settings:
    return parse_settings(
        text.encode(), source="g.yaml", folder=FOLDER, environ=ENVIRON if environ is None else environ
    )


def problems_of(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, environ)
    return caught.value.problems


def test_the_file_of_the_design_is_read() -> None:
    made = read(GOOD)
    assert (made.listen.host, made.listen.port, made.listen.workers) == ("0.0.0.0", 8080, 1)
    assert made.data == FOLDER / "var"
    assert made.trust.keys == FOLDER / "trust.json"
    (caller,) = made.callers
    assert caller.key_sha256 == KEY_SHA256
    assert not caller.anonymous
    assert caller.models == ("chat",)
    assert caller.facts.name == "app"
    assert caller.facts.tenant == ""
    model = made.model("chat")
    assert model is not None
    assert model.license == FOLDER / "licenses/chat.jws"
    assert model.policy == FOLDER / "policies/chat.yaml"
    (target,) = model.targets
    assert target.base_url == "https://api.example.com/v1"
    assert target.origin == "https://api.example.com"
    assert target.api_key == "sk-upstream-123"
    assert (target.connect_timeout_s, target.first_byte_timeout_s, target.idle_timeout_s) == (5.0, 120.0, 60.0)
    assert made.model("other") is None
    assert made.notices == ()


def test_absolute_paths_stay_absolute() -> None:
    assert read(GOOD.replace("data: ./var", "data: /srv/licet")).data == Path("/srv/licet")


def test_l7_secrets_are_in_no_representation() -> None:
    made = read(GOOD.replace("model: gpt-4o", 'model: gpt-4o, proxy: "http://u:pw-123@proxy.example:3128"'))
    assert made.models[0].targets[0].proxy == "http://u:pw-123@proxy.example:3128"
    assert "sk-upstream" not in repr(made)
    assert "pw-123" not in repr(made)


@pytest.mark.parametrize(
    ("written", "environ", "value"),
    [
        pytest.param('"${K}"', {"K": "v"}, "v", id="set"),
        pytest.param('"${K}"', {"K": ""}, "", id="set to nothing"),
        pytest.param('"${K:-d}"', {}, "d", id="default"),
        pytest.param('"${K:-d}"', {"K": ""}, "d", id="default for empty, as shells do"),
        pytest.param('"${K:-}"', {}, "", id="empty default"),
        pytest.param('"a${K}b${L:-x}c"', {"K": "1"}, "a1bxc", id="inside text"),
        pytest.param('"$${K}"', {}, "${K}", id="escaped"),
        pytest.param('"$K $ {K}"', {}, "$K $ {K}", id="no reference"),
        pytest.param('"${K}"', {"K": "${L}"}, "${L}", id="filled once"),
        pytest.param('"${K}"', {"K": "a: [b\n"}, "a: [b\n", id="YAML in the variable stays text"),
    ],
)
def test_environment_variables_are_filled_in_once(written: str, environ: dict[str, str], value: str) -> None:
    made = read(GOOD.replace('"${PROVIDER_KEY}"', written), environ)
    assert made.models[0].targets[0].api_key == value


def test_a_number_may_come_from_the_environment() -> None:
    block = change("listen: {host: 0.0.0.0, port: 8080, workers: 1}", "listen:\n  host: 0.0.0.0\n  port: ${PORT}")
    assert read(block, ENVIRON | {"PORT": "9000"}).listen.port == 9000
    (problem,) = problems_of(block, ENVIRON | {"PORT": "many"})
    assert problem == "g.yaml:3: listen.port: '${PORT}' is not a whole number; write 0 to 65535"


def test_a_missing_variable_is_named_with_its_line_and_nothing_else_is_said_of_it() -> None:
    (problem,) = problems_of(GOOD, {})
    assert problem.startswith("g.yaml:12: the environment variable PROVIDER_KEY is not set; set it")


def change(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


CALLER = f"  - {{name: app, key_sha256: {KEY_SHA256}, models: [chat]}}\n"
TARGET = GOOD[GOOD.index("      - {protocol") :]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(change("listen:", "lisen:"), ["g.yaml:1: lisen", "did you mean listen?"], id="unknown key"),
        pytest.param(change("port: 8080", "port: 80800"), ["g.yaml:1: listen.port", "0 to 65535"], id="port"),
        pytest.param(change("workers: 1", "workers: 0"), ["listen.workers", "1 to 64"], id="workers"),
        pytest.param(change("${LICET_REDIS:-}", "http://h"), ["g.yaml:3: redis", "not a Redis URL"], id="redis"),
        pytest.param(
            GOOD + "telemetry: {otlp: x}\n", ["g.yaml:13: telemetry.otlp", "not an http or https URL"], id="telemetry"
        ),
        pytest.param(
            GOOD + "telemetry: {required: [s3]}\n",
            ["telemetry.required", "s3 is not set"],
            id="a place that is not there",
        ),
        pytest.param(
            GOOD + "audit: {witnesses_required: 1}\n",
            ["g.yaml:13: audit.witnesses_required", "add witnesses"],
            id="more witnesses than there are",
        ),
        pytest.param(
            GOOD + "audit: {custodians: [{name: a, key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}\n",
            ["audit.custodians", "second custodian"],
            id="one custodian",
        ),
        pytest.param(GOOD + "audit: {signer: {command: [sign]}}\n", ["audit.signer", "public key"], id="no public key"),
        pytest.param(
            GOOD + "audit: {retention: {trace: 200}}\n", ["audit.retention.trace", "such as 90s"], id="no unit"
        ),
        pytest.param(change("keys: trust.json", "tuf: x"), ["trust.tuf", "without its root"], id="tuf without root"),
        pytest.param(
            change("keys: trust.json", "tuf: 'ftp://x', root: r"), ["trust.tuf", "https URL"], id="tuf by ftp"
        ),
        pytest.param(change("keys: trust.json", "root: r"), ["trust.root", "remove it"], id="root without tuf"),
        pytest.param(
            change("license: licenses/chat.jws", "license: authority:x"),
            ["license", "needs trust.tuf"],
            id="by name alone",
        ),
        pytest.param(
            change("models: [chat]", "models: [chat], since: 2026-13-01"),
            ["since", "no such day"],
            id="day that is none",
        ),
        pytest.param(
            change("models: [chat]", "models: [chatt]"), ["g.yaml:5", "did you mean chat?"], id="no such model"
        ),
        pytest.param(change("models: [chat]", "models: []"), ["callers[0].models", "1 to"], id="no models"),
        pytest.param(change(KEY_SHA256, "abc"), ["key_sha256", "64 hex digits"], id="short digest"),
        pytest.param(change(KEY_SHA256, hashlib.sha256().hexdigest()), ["empty key"], id="digest of an empty key"),
        pytest.param(change(f"key_sha256: {KEY_SHA256}, ", ""), ["either key_sha256 or anonymous"], id="no key"),
        pytest.param(
            change("name: app,", "name: app, anonymous: true,"), ["either key_sha256"], id="key and anonymous"
        ),
        pytest.param(change(CALLER, CALLER * 2), ["callers[1].name", "callers[1].key_sha256"], id="caller twice"),
        pytest.param(
            change(
                CALLER,
                "  - {name: a, anonymous: true, models: [chat]}\n  - {name: b, anonymous: true, models: [chat]}\n",
            ),
            ["callers[1].anonymous"],
            id="two anonymous callers",
        ),
        pytest.param(
            change("protocol: openai", "protocol: opnai"), ["g.yaml:12", "did you mean openai?"], id="protocol"
        ),
        pytest.param(change("https://api", "ftp://api"), ["base_url", "http or https"], id="scheme"),
        pytest.param(change("https://api", "https://u:pw-9@api"), ["base_url", "api_key"], id="user in the URL"),
        pytest.param(change("/v1/", "/v1?x=1"), ["base_url", "query"], id="query in the URL"),
        pytest.param(GOOD + TARGET, ["targets[1]", "not available yet"], id="two targets"),
        pytest.param(change("    policy: policies/chat.yaml\n", ""), ["models[0].policy", "missing"], id="no policy"),
        pytest.param("", ["empty"], id="empty file"),
        pytest.param("- x\n", ["not a mapping"], id="a list"),
        pytest.param("listen: null\n", ["listen", "callers", "models"], id="nulls"),
        pytest.param("callers: [x]\nmodels: [{targets: [y]}]\n", ["callers[0]", "models[0].targets[0]"], id="words"),
    ],
)
def test_each_mistake_is_named(text: str, says: list[str]) -> None:
    found = "\n".join(problems_of(text))
    for word in says:
        assert word in found
    assert all(line.startswith("g.yaml:") for line in found.splitlines())
    assert "sk-upstream" not in found
    assert "pw-9" not in found
    assert KEY_SHA256 not in found


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = change("port: 8080", "port: x").replace("openai", "opnai").replace("[chat]", "[chatt]")
    assert [line.split(":")[1] for line in problems_of(text)] == ["1", "5", "12"]


def test_what_weakens_is_said_aloud() -> None:
    text = change(f"key_sha256: {KEY_SHA256}", "anonymous: true").replace("workers: 1", "workers: 4")
    notices = read(text.replace("https://api", "http://api")).notices
    assert len(notices) == 3
    assert "anonymous" in notices[0]
    assert "4 workers" in notices[1]
    assert "plain http" in notices[2]
    assert read(change("https://api.example.com", "http://127.0.0.1:9")).notices == ()


def test_the_json_schema_lists_every_key_that_works() -> None:
    made = json_schema()
    json.dumps(made)
    assert set(made["properties"]) == {k for k, v in SETTINGS.keys.items() if v.kind is not None}
    listen = SETTINGS.keys["listen"].kind
    assert isinstance(listen, Record)
    assert set(made["properties"]["listen"]["properties"]) == set(listen.keys)


def test_a_settings_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    for path, word in ((tmp_path / "nowhere.yaml", "no such file"), (tmp_path, "readable")):
        with pytest.raises(ConfigError, match=word):
            load_settings(path)
        assert word in check(path)[0]


NOW_S = 1_800_000_000
ISSUER = "https://authority.example"
LIST = f"{ISSUER}/status"
KEY = generate_key()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A settings file with everything it names, all good at NOW_S."""
    (tmp_path / "trust.json").write_text(add_to_trust(None, ISSUER, KEY))
    (tmp_path / "licenses").mkdir()
    (tmp_path / "policies").mkdir()
    (tmp_path / "licenses/chat.jws").write_text(a_license())
    facts = "facts: {territory: eu, purpose: caller.purpose, audience: internal}\n"
    (tmp_path / "policies/chat.yaml").write_text("version: 1\nname: p\nowner: o\n" + facts)
    (tmp_path / "g.yaml").write_text(change("models: [chat]", "models: [chat], purpose: demo"))
    return tmp_path


def a_license(top: dict[str, Any] | None = None, **terms: Any) -> str:
    """A license for the model of the settings, with some claims and terms of its own."""
    claims = build_claims(
        issuer=ISSUER,
        model="gpt-4o",
        origins=["https://api.example.com"],
        served=["gpt-4o*"],
        jurisdictions=["eu"],
        purposes=["demo"],
        modalities=["text"],
        issued_s=NOW_S,
        not_before_s=NOW_S,
        expires_s=NOW_S + 1000,
    )
    claims["license"]["endpoint"]["spki_pins"] = ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
    claims["license"] |= terms
    return issue(claims | (top or {}), KEY) + "\n"


def check_house(house: Path, now_s: float = NOW_S, **more: ReadPolicy) -> list[str]:
    return check(house / "g.yaml", environ=ENVIRON, now_s=now_s, **more)


def test_check_has_nothing_to_say_about_a_good_house(house: Path) -> None:
    assert check_house(house) == []


def test_check_reports_every_file_at_once(house: Path) -> None:
    (house / "trust.json").write_text("{")
    (house / "policies/chat.yaml").write_text("version: 1\nname: p\nownr: o\nmode: x\n")
    (house / "g.yaml").write_text(
        (house / "g.yaml").read_text().replace("model: gpt-4o", "model: gpt-4o, ca_file: ca.pem")
    )
    found = check_house(house)
    assert [Path(line.split(":")[0]).name for line in found] == ["trust.json", "ca.pem"] + ["chat.yaml"] * 3


def test_check_reports_rules_for_entities_that_nothing_finds(house: Path) -> None:
    path = house / "policies/chat.yaml"
    path.write_text(path.read_text() + "prompt: {entities: {CREDIT_CRAD: block}}\n")
    assert check_house(house) == []
    (found,) = check_house(house, read_policy=functools.partial(read_policy, entities={"CREDIT_CARD"}))
    assert "did you mean CREDIT_CARD?" in found


@pytest.mark.parametrize(
    ("file", "old", "new", "code"),
    [
        pytest.param("g.yaml", "    license: licenses/chat.jws\n", "", "LIC_MISSING", id="no license named"),
        pytest.param("g.yaml", "chat.jws", "nowhere.jws", "LIC_MISSING", id="no license file"),
        pytest.param("g.yaml", "model: gpt-4o", "model: gpt-5", "MODEL_MISMATCH", id="another model"),
        pytest.param("g.yaml", "trust: {keys: trust.json}\n", "", "LIC_ISSUER", id="no trust"),
        pytest.param("g.yaml", "purpose: demo", "purpose: x", "PURPOSE", id="purpose of the caller"),
        pytest.param("policies/chat.yaml", "eu", "cn", "JURISDICTION", id="territory"),
        pytest.param("policies/chat.yaml", "internal", "public", "AUDIENCE", id="audience"),
        pytest.param("licenses/chat.jws", ".", ".A", "LIC_SIG", id="tampered"),
    ],
)
def test_check_says_what_the_gate_would_refuse(house: Path, file: str, old: str, new: str, code: str) -> None:
    path = house / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = check_house(house)
    assert found
    assert all(f": {code}: " in line and "; " in line for line in found)


def test_check_looks_at_every_target(house: Path) -> None:
    path = house / "g.yaml"
    other = '      - {protocol: anthropic, base_url: "https://other.example", model: gpt-4o}\n'
    path.write_text(path.read_text() + other)
    assert [line.split(": ")[1] for line in check_house(house)] == ["MODEL_MISMATCH", "BINDING"]


def test_check_looks_at_the_time(house: Path) -> None:
    (found,) = check_house(house, NOW_S + 1000)
    assert ": LIC_TIME: " in found


def test_check_asks_callers_for_the_facts_that_a_policy_takes_from_them(house: Path) -> None:
    path = house / "g.yaml"
    path.write_text(path.read_text().replace(", purpose: demo", ""))
    stated, refused = check_house(house)
    assert "caller app states no purpose" in stated
    assert ": PURPOSE: " in refused


def test_check_is_content_where_the_policy_asks_for_no_license(house: Path) -> None:
    path = house / "policies/chat.yaml"
    path.write_text(path.read_text() + "license: {required: warn}\n")
    (house / "licenses/chat.jws").unlink()
    assert check_house(house) == []


# -- what authorities say


def signed(kind: Kind, content: dict[str, Any], iat: int = NOW_S) -> str:
    return sign({"iss": ISSUER, "iat": iat, "exp": iat + 86_400, "ttl": 3600, **content}, kind, KEY) + "\n"


def statuses(*values: int) -> str:
    made = build_status_payload(bytes(values), issuer="", uri=LIST, issued_s=0, expires_s=1, ttl_s=1)
    return signed(Kind.STATUS, {name: made[name] for name in ("sub", "status_list")})


def orders(*given: dict[str, Any]) -> str:
    return signed(Kind.ORDERS, {"orders": list(given)})


LISTED = {"status": {"status_list": {"uri": LIST, "idx": 1}}}


@pytest.fixture
def board(house: Path) -> Path:
    """The house, whose license has a status, with a list of statuses and one of orders, all good."""
    (house / "licenses/chat.jws").write_text(a_license(LISTED))
    (house / "status.jwt").write_text(statuses(0, 0))
    (house / "orders.jws").write_text(orders())
    trust = "trust: {keys: trust.json, status: [status.jwt], orders: [orders.jws]}"
    path = house / "g.yaml"
    path.write_text(path.read_text().replace("trust: {keys: trust.json}", trust))
    assert check_house(house) == []
    return house


@pytest.mark.parametrize(
    ("file", "content", "place", "code"),
    [
        pytest.param("status.jwt", lambda: statuses(0, 2), "chat.jws", "LIC_STATE", id="suspended"),
        pytest.param("status.jwt", lambda: statuses(0, 1), "chat.jws", "LIC_STATE", id="revoked"),
        pytest.param(
            "orders.jws",
            lambda: orders({"ref": "O", "scope": "model", "models": ["chat"], "effective_at": NOW_S}),
            "chat.jws", "ORDER_IN_FORCE", id="an order on the name that callers use",
        ),
        pytest.param("orders.jws", lambda: statuses(0, 0), "orders.jws", "LIC_SIG", id="another kind of list"),
        pytest.param(
            "status.jwt", lambda: statuses(0, 0).replace(".", ".A", 1), "status.jwt", "LIC_SIG", id="tampered list"
        ),
    ],
)  # fmt: skip
def test_check_looks_at_statuses_and_orders(
    board: Path, file: str, content: Callable[[], str], place: str, code: str
) -> None:
    (board / file).write_text(content())
    found = check_house(board)
    assert Path(found[0].split(":")[0]).name == place
    assert f": {code}: " in found[0]
    assert all("; " in line for line in found)


def test_check_sees_a_list_that_is_too_old_from_the_future_or_not_there(board: Path) -> None:
    old = check_house(board, NOW_S + 900)
    assert old == []
    claims = {**LISTED, "exp": NOW_S + 1_000_000}
    (board / "licenses/chat.jws").write_text(a_license(claims))
    later = check_house(board, NOW_S + 200_000)
    assert [line.split(": ")[1] for line in later] == ["LIC_STATUS_STALE", "LIC_STATUS_STALE"]
    assert all("licet license renew" in line for line in later)
    (board / "status.jwt").write_text(
        signed(Kind.STATUS, {"sub": LIST, "status_list": {"bits": 2, "lst": "eJxjAAAAAQAB"}}, iat=NOW_S + 3600)
    )
    assert "from the future" in check_house(board)[0]
    (board / "status.jwt").unlink()
    assert "there is no such file" in check_house(board)[0]


def test_check_reports_an_order_even_where_no_license_is_asked_for(board: Path) -> None:
    path = board / "policies/chat.yaml"
    path.write_text(path.read_text() + "license: {required: warn}\n")
    (board / "licenses/chat.jws").write_text(a_license(LISTED, purposes=["other"]))
    assert check_house(board) == []
    (board / "orders.jws").write_text(orders({"ref": "O", "scope": "all", "effective_at": NOW_S}))
    (found,) = check_house(board)
    assert ": ORDER_IN_FORCE: " in found


def test_check_takes_the_rules_of_the_callers_territories(house: Path) -> None:
    path = house / "policies/chat.yaml"
    path.write_text(path.read_text() + "license: {regimes: [internal], status: required}\n")
    assert [line.split(": ")[1] for line in check_house(house)] == ["REGIME", "REGIME"]


def test_check_sees_that_a_target_is_modified(house: Path) -> None:
    path = house / "policies/chat.yaml"
    (house / "licenses/chat.jws").write_text(a_license(regime="cn-dengji"))
    assert check_house(house) == []
    path = house / "g.yaml"
    path.write_text(path.read_text().replace("model: gpt-4o}", "model: gpt-4o, modified: true}"))
    (found,) = check_house(house)
    assert ": TIER_MODIFIED: " in found


@pytest.mark.parametrize(
    ("condition", "refused"),
    [
        pytest.param({"type": "lexicon_min", "name": "x", "version": "1"}, False, id="left to the gateway"),
        pytest.param({"type": "audit_by", "at": NOW_S}, True, id="overdue"),
        pytest.param({"type": "unheard_of"}, True, id="unknown"),
        pytest.param({"type": "enrolled_gateway"}, True, id="no list of gateways"),
    ],
)
def test_check_judges_the_conditions_that_it_can(house: Path, condition: dict[str, Any], refused: bool) -> None:
    (house / "licenses/chat.jws").write_text(a_license(conditions=[condition]))
    assert [": CONDITION: " in line for line in check_house(house)] == [True] * refused


def test_check_leaves_what_a_host_has_to_show_to_the_gateway(house: Path) -> None:
    path = house / "policies/chat.yaml"
    path.write_text(path.read_text() + "license: {binding_min: 2}\n")
    assert [line.split(": ")[1] for line in check_house(house)] == ["BINDING"]
    path = house / "g.yaml"
    path.write_text(
        path.read_text().replace("model: gpt-4o}", 'model: gpt-4o, statement: "https://api.example.com/s"}')
    )
    assert check_house(house) == []


def test_check_reads_permits(house: Path) -> None:
    path = house / "g.yaml"
    path.write_text(path.read_text().replace("    policy:", "    permits: [permit.jws]\n    policy:"))
    assert "there is no such file" in check_house(house)[0]
    claims = {"iss": ISSUER, "sub": "m", "jti": "p", "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 900}
    (house / "permit.jws").write_text(sign(claims | {"permit": {"model": "m"}}, Kind.PERMIT, KEY))
    assert check_house(house) == []
    (found,) = check_house(house, NOW_S + 950)
    assert "permit.jws: TRAINING_PERMIT: the permit ended" in found
    (house / "permit.jws").write_text(signed(Kind.ORDERS, {"orders": []}))
    assert ": LIC_SIG: " in check_house(house)[0]


def test_check_of_a_repository_needs_its_root_and_says_nothing_of_what_is_not_here_yet(house: Path) -> None:
    path = house / "g.yaml"
    path.write_text(path.read_text().replace("{keys: trust.json}", "{tuf: repo, root: root.json}"))
    (found,) = check_house(house)
    assert "root.json: No such file" in found
    world = World(house)
    assert check_house(house) == []
    assert not (house / "var").exists(), "to check writes nothing"
    (house / "root.json").write_text("{}")
    (found,) = check_house(house)
    assert "trust.root: not a root" in found
    (house / "root.json").write_bytes(world.root)
    (house / "licenses/chat.jws").unlink()
    (found,) = check_house(house)
    assert ": LIC_MISSING: " in found, "that much is sure"


def test_check_uses_what_is_kept_of_a_repository(house: Path) -> None:
    world = World(house)
    keys = add_to_trust(None, ISSUER, KEY).encode()
    now_s = int(time.time())
    license_ = a_license({**LISTED, "jti": "L-1", "iat": now_s, "nbf": now_s, "exp": now_s + 900})
    path = house / "g.yaml"
    text = path.read_text().replace("{keys: trust.json}", "{tuf: repo, root: root.json}")
    path.write_text(text.replace("license: licenses/chat.jws", "license: authority:L-1"))

    def follow(*values: int) -> list[str]:
        made = build_status_payload(bytes(values), issuer="", uri=LIST, issued_s=0, expires_s=1, ttl_s=1)
        content = {name: made[name] for name in ("sub", "status_list")}
        listed = signed(Kind.STATUS, content, iat=int(time.time())).encode()
        world.publish(keys=keys, statuses={"main": listed}, orders={}, licenses={"L-1": license_.encode()})
        source = world.source(licenses=["L-1"])
        source.cached()
        source.fetch()
        target = house / "var" / "trust"
        if not target.exists():
            target.parent.mkdir()
            target.symlink_to(house / "trust")
        return check_house(house, time.time())

    assert follow(0, 0) == []
    (found,) = follow(0, 2)
    assert "g.yaml: model chat: LIC_STATE: the license is suspended" in found
    assert found.endswith("issued anew")


def test_the_audit_trail_needs_no_settings(tmp_path: Path) -> None:
    made = parse_settings(GOOD.encode(), source="g.yaml", folder=tmp_path, environ={"PROVIDER_KEY": "k"})
    assert made.audit == AuditSettings()
    assert made.telemetry == Telemetry()
    assert not made.telemetry.any


def test_what_the_settings_say_of_the_audit_trail(tmp_path: Path) -> None:
    key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    text = f"""\
audit:
  seal: {{every_s: 2, records: 100}}
  signer: {{pkcs11: {{module: /lib/token.so, token: t, label: log, pin_file: pin}}}}
  witnesses: [{{url: "https://w.example", key: "w+00000000+AQ=="}}]
  witnesses_required: 1
  witness_lag: 90s
  fleet: [../other/log, "https://gw2.example/log"]
  spool: {{bytes_max: 2097152, age: 5m}}
  retention: {{trace: 400d, transcript: 7d}}
  custodians: [{{name: a, key: {key}}}, {{name: b, key: {key[:-2]}E=}}]
  digest_key: 90d
telemetry:
  otlp: {{endpoint: "http://127.0.0.1:4318/", headers: {{authorization: "Bearer x"}}, semconv: [gen_ai, guardrail]}}
  syslog: {{host: siem.example, ca_file: ca.pem}}
  s3: {{endpoint: "https://s3.example", bucket: audit, access_key: a, secret_key: hidden, retain: 400d}}
  required: [s3, syslog]
"""
    made = parse_settings((GOOD + text).encode(), source="g.yaml", folder=tmp_path, environ={"PROVIDER_KEY": "k"})
    sealing = made.audit.sealing
    assert (sealing.every_s, sealing.every_records, sealing.required, sealing.lag_max_s) == (2, 100, 1, 90)
    assert sealing.signer.pkcs11 is not None
    assert sealing.signer.pkcs11.pin_file == tmp_path / "pin"
    assert sealing.fleet == (str(tmp_path / "../other/log"), "https://gw2.example/log")
    assert (made.audit.retention.trace_s, made.audit.retention.transcript_s) == (400 * 86_400, 7 * 86_400)
    assert made.audit.digest_key_s == 90 * 86_400
    assert [c.name for c in made.audit.custodians] == ["a", "b"]
    assert made.telemetry.otlp is not None
    assert made.telemetry.otlp.endpoint == "http://127.0.0.1:4318"
    assert made.telemetry.otlp.semconv == ("gen_ai", "guardrail")
    assert made.telemetry.syslog is not None
    assert (made.telemetry.syslog.port, made.telemetry.syslog.ca_file) == (6514, tmp_path / "ca.pem")
    assert made.telemetry.required == ("s3", "syslog")
    assert "hidden" not in repr(made)
    assert "Bearer" not in repr(made)
