"""Sensitive data through the whole gateway under policies as people write them: tags, styles, roles, own entities."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Stack, policy_text, said
from tests.fakes.dialects import DIALECTS, Dialect
from tests.fakes.endpoint import Endpoint, Reply, Seen, Wait, chat_answer, chat_chunk, chat_stream, sse
from tests.filters.detectors.china.test_pack import CARD, ID

both = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
EXAMPLES = Path(__file__).parents[2] / "policies" / "examples"
MAIL = "ann.lee@example.org"
MOBILE = "13812345678"
US_CARD = "4111 1111 1111 1111"
KEY = "ghp_" + "aB3dE5gH7jK9mN1pQ3sT5vW7xY9zA1bC3dE5"

# As a bank in two countries might write it.
STRICT = policy_text(
    prompt=(
        "{default: report, EMAIL_ADDRESS: pseudonymize, CN_MOBILE: pseudonymize, PHONE_NUMBER: pseudonymize,"
        " CREDIT_CARD: {action: mask, style: partial, keep: 4}, SECRET: {action: mask, style: hash}, EMPLOYEE_ID: pseudonymize, PROJECT: block}\n"
        "  tags: {pipl.spi: block}\n"
        "  roles: {system: report, tool: {PROJECT: mask}}"
    ),
    answer="{default: report, CREDIT_CARD: {action: mask, style: partial}, CN_RESIDENT_ID: {action: mask, style: hash}, SECRET: block, PROJECT: mask}",
).replace(
    "prompt:\n",
    "custom:\n  EMPLOYEE_ID: {pattern: '\\bEMP-[0-9]{6}\\b', context: [badge]}\n  PROJECT: {words: [Blue Heron, 蓝鹭计划], score: 1.0}\nprompt:\n",
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda _: Reply([])) as one:
        yield one


@pytest.fixture(scope="module")
def strict(endpoint: Endpoint, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("strict"), endpoint.origin, policy=STRICT) as one:
        yield one


def prompt_of(seen: Seen) -> str:
    """All text of the last message that reached the endpoint."""
    content = seen.json["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def echo(dialect: Dialect, size: int = 0) -> Any:
    """A script that says the last message back, in pieces of that size, or whole."""

    def answer(seen: Seen) -> Reply:
        text = prompt_of(seen)
        if not seen.json.get("stream"):
            return Reply([dialect.whole(text)], "application/json")
        return Reply(dialect.stream([text[i : i + size] for i in range(0, len(text), size)]))

    return answer


def ask(stack: Stack, dialect: Dialect, content: Any, *, stream: bool = False, **extra: Any) -> Any:
    return stack.http.post(dialect.path, json=dialect.body(content, stream=stream, **extra))


def told(dialect: Dialect, response: Any, *, stream: bool) -> str:
    assert response.status_code == 200, response.text
    return dialect.said(response.content) if stream else dialect.told(response.content)


@both
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_all_treatments_in_one_prompt(strict: Stack, endpoint: Endpoint, dialect: Dialect, stream: bool) -> None:
    endpoint.script = echo(dialect, 3)
    text = (
        f"badge EMP-123456, 手机{MOBILE}，mail {MAIL}; card {US_CARD}\r\ntoken {KEY}\n"
        "https://docs.example.com/a_b?x=1#y `v1.2.3` <b>4</b> 🙂 \\u0041 1,234.56"
    )
    response = ask(strict, dialect, text, stream=stream)
    sent = prompt_of(endpoint.seen[-1])
    for value in ("EMP-123456", MOBILE, MAIL, US_CARD, KEY):
        assert value not in sent
    assert sent.startswith(
        "badge <EMPLOYEE_ID_1>, 手机<CN_MOBILE_1>，mail <EMAIL_ADDRESS_1>; card ****1111\r\ntoken <SECRET:"
    )
    assert sent.endswith("\nhttps://docs.example.com/a_b?x=1#y `v1.2.3` <b>4</b> 🙂 \\u0041 1,234.56")
    shown = told(dialect, response, stream=stream)
    assert shown.startswith(f"badge EMP-123456, 手机{MOBILE}，mail {MAIL}; card ****1111\r\ntoken <SECRET:")
    assert shown[shown.index("\nhttps") :] == text[text.index("\nhttps") :]


@both
@pytest.mark.parametrize("value", [ID, "１１０１０５１９４９１２３１００２Ｘ", f"{ID[:6]} {ID[6:14]} {ID[14:]}", CARD])
def test_a_tag_of_the_law_blocks_each_of_its_entities(
    strict: Stack, endpoint: Endpoint, dialect: Dialect, value: str
) -> None:
    before = len(endpoint.seen)
    response = ask(strict, dialect, f"我的号码是{value}，谢谢")
    assert response.status_code == 400
    assert value not in response.text
    assert len(endpoint.seen) == before, "nothing leaves"


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_case_33_the_applications_own_text_does_not_block(strict: Stack, endpoint: Endpoint, stream: bool) -> None:
    """Examples of numbers in instructions and tool schemas, which a rule for users would block."""
    endpoint.script = lambda seen: (
        Reply(chat_stream(["Fine."])) if seen.json.get("stream") else Reply([chat_answer("Fine.")], "application/json")
    )
    parameters = {
        "type": "object",
        "properties": {"id": {"type": "string", "description": f"such as {ID}", "enum": ["Blue Heron"]}},
    }
    tools = [{"type": "function", "function": {"name": "find", "description": "Blue Heron", "parameters": parameters}}]
    messages = [
        {"role": "system", "content": f"Never tell {ID} of Blue Heron."},
        {"role": "user", "content": "Hello"},
    ]
    body = {"model": "chat", "messages": messages, "tools": tools, "stream": stream}
    response = strict.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    assert endpoint.seen[-1].json["messages"][0] == messages[0]
    assert endpoint.seen[-1].json["tools"] == tools
    messages[1]["content"] = f"And {ID}?"
    assert strict.http.post("/v1/chat/completions", json=body).status_code == 400


def test_a_tool_may_bring_what_a_user_may_not_say(strict: Stack, endpoint: Endpoint) -> None:
    endpoint.script = lambda _: Reply([chat_answer("Fine.")], "application/json")
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Look it up"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": json.dumps({"project": "Blue Heron", "owner": MAIL, "n": 3})},
    ]
    response = strict.http.post("/v1/chat/completions", json={"model": "chat", "messages": messages})
    assert response.status_code == 200, response.text
    sent = json.loads(endpoint.seen[-1].json["messages"][-1]["content"])
    assert sent == {"project": "<PROJECT>", "owner": "<EMAIL_ADDRESS_1>", "n": 3}


@both
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_answers_are_masked_in_the_policys_style(
    strict: Stack, endpoint: Endpoint, dialect: Dialect, size: int
) -> None:
    text = f"Your ID is {ID}, card {US_CARD}; 项目蓝鹭计划。Done."
    endpoint.script = lambda seen: (
        Reply(dialect.stream([text[i : i + size] for i in range(0, len(text), size)]))
        if seen.json.get("stream")
        else Reply([dialect.whole(text)], "application/json")
    )
    whole = told(dialect, ask(strict, dialect, "Tell me"), stream=False)
    assert ID not in whole
    assert whole.startswith("Your ID is <CN_RESIDENT_ID:")
    assert whole.endswith(">, card ****1111; 项目<PROJECT>。Done.")
    assert told(dialect, ask(strict, dialect, "Tell me", stream=True), stream=True) == whole


@both
def test_a_secret_in_an_answer_ends_the_stream_before_it(strict: Stack, endpoint: Endpoint, dialect: Dialect) -> None:
    pieces = ["The token is ", KEY[:7], KEY[7:30], KEY[30:], " and more", " text"]
    endpoint.script = lambda _: Reply(dialect.stream(pieces))
    response = ask(strict, dialect, "Tell me", stream=True)
    assert "The token is ".startswith(dialect.said(response.content))
    assert dialect.code(response.content) is not None
    assert KEY[:7] not in response.text


REALISTIC = policy_text(
    prompt="{default: report, EMAIL_ADDRESS: pseudonymize, CN_MOBILE: pseudonymize, PHONE_NUMBER: pseudonymize, CREDIT_CARD: pseudonymize, CN_RESIDENT_ID: pseudonymize, CN_ADDRESS: pseudonymize, IBAN_CODE: pseudonymize}",
    answer="{default: report}",
).replace("record:", "pseudonyms: {style: realistic}\nrecord:")
ADDRESS = "浙江省杭州市西湖区文三路478号翠湖名邸3幢2单元501室"


@both
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_realistic_surrogates_come_back_in_text_and_json(
    endpoint: Endpoint, tmp_path: Path, dialect: Dialect, stream: bool
) -> None:
    values = (MAIL, MOBILE, "212-555-0147", US_CARD, ID, ADDRESS, "DE89 3704 0044 0532 0130 00")
    texts = [
        "记录：" + "；".join(values) + "。",
        json.dumps({"items": [{"v": value, "n": i} for i, value in enumerate(values)]}, ensure_ascii=False),
        "\n".join(f"- {value}" for value in values),
    ]
    endpoint.script = echo(dialect, 2)
    with Stack(tmp_path, endpoint.origin, policy=REALISTIC) as stack:
        for text in texts:
            response = ask(stack, dialect, text, stream=stream)
            assert told(dialect, response, stream=stream) == text
            sent = prompt_of(endpoint.seen[-1])
            assert not [value for value in values if value in sent]
            if text.startswith("{"):
                assert [item["n"] for item in json.loads(sent)["items"]] == list(range(len(values)))


def test_case_02_paced_chunks_stay_chunks_with_masks_and_pseudonyms(strict: Stack, endpoint: Endpoint) -> None:
    """Forty chunks, each sent only when the one before it but one has been shown: nothing is collected."""
    words = [f"word{i} " for i in range(40)]
    words[20] = f"{US_CARD} "
    gates = [threading.Event() for _ in words]

    def steps() -> list[Any]:
        out: list[Any] = sse(chat_chunk({"role": "assistant", "content": ""}))
        for word, gate in zip(words, gates, strict=True):
            out += sse(chat_chunk({"content": word}))
            out.append(Wait(gate, 10))
        return [*out, *sse(chat_chunk({}, finish="stop"), "[DONE]")]

    endpoint.script = lambda _: Reply(steps())
    body = {"model": "chat", "messages": [{"role": "user", "content": "Go"}], "stream": True}
    shown: list[str] = []
    with strict.http.stream("POST", "/v1/chat/completions", json=body) as response:
        gates[0].set()  # a word is open until the next one begins
        for line in response.iter_lines():
            if line.startswith("data: {") and (piece := said(line.encode())):
                shown.append(piece)
                count = sum(map(len, shown))
                for gate, until in zip(gates[1:], _ends(words), strict=False):
                    if count >= until - 21:
                        gate.set()
    assert "".join(shown) == "".join(words).replace(US_CARD, "****1111")
    assert len(shown) >= 35


def _ends(words: list[str]) -> list[int]:
    ends = []
    at = 0
    for word in words:
        at += len(word)
        ends.append(at)
    return ends


def test_case_31_what_is_embedded_is_masked_and_the_record_says_so(strict: Stack, endpoint: Endpoint) -> None:
    answer = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}],
        "model": "up",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
    endpoint.script = lambda _: Reply([json.dumps(answer).encode()], "application/json")
    response = strict.http.post("/v1/embeddings", json={"model": "chat", "input": ["plain text", f"card {US_CARD}"]})
    assert response.status_code == 200, response.text
    assert response.json()["data"] == answer["data"]
    assert endpoint.seen[-1].json["input"] == ["plain text", "card ****1111"]
    assert strict.outcome(response)["outcome"] == "masked"
    (intent,) = [r for r in strict.records("intent") if r["call_id"] == response.headers["x-licet-call-id"]]
    assert intent["prompt"]["findings"]["CREDIT_CARD"] == {"mask": 1}
    response = strict.http.post("/v1/embeddings", json={"model": "chat", "input": [f"号码{ID}"]})
    assert response.status_code == 400


BENIGN = (
    "def f(a, b):\n    return a[0] + b['x'] # see foo_bar.py:12 v1.2.3\n",
    "SELECT id, name FROM t WHERE created > '2024-05-01' AND n IN (1, 2, 3);",
    "Order 20240501-000123 shipped; tracking 1Z 999; sha256 9f86d081884c7d659a2feaa0c55ad015.",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "今天的会议改到下午三点，请大家准时参加。一二三四五，上山打老虎。",
    "The key to success is a password manager; keep your secret to yourself.",
    'curl -X POST https://api.example.com/v1/items -d \'{"a": 1}\'',
    "<div class=\"x\">&nbsp;&amp;&#39;</div>\r\n\t\\u0041 %20 \\n",
    "Wait...... what? 1, 2, 3 - 4/5 = 100 % (see [1], {2}, <3>).",
)  # fmt: skip
MASK_ALL = policy_text(
    prompt="{default: report, SECRET: mask}\n  tags: {pci.chd: mask, pipl.spi: mask}",
    answer="{default: report, SECRET: mask}\n  tags: {pci.chd: mask, pipl.spi: mask}",
)


def test_case_50_ordinary_text_passes_two_gateways_as_the_same_bytes(endpoint: Endpoint, tmp_path: Path) -> None:
    rng = random.Random(50)
    bodies = []
    for _ in range(30):
        content = " ".join(rng.sample(BENIGN, rng.randint(1, 4)))
        body = {"model": "chat", "messages": [{"role": "user", "content": content}], "n": 1}
        bodies.append(json.dumps(body, ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 1))).encode())
    endpoint.script = lambda seen: Reply([chat_answer(prompt_of(seen))], "application/json")
    answers: list[list[bytes]] = []
    sent: list[list[bytes]] = []
    for name in ("one", "two"):
        with Stack(tmp_path / name, endpoint.origin, policy=MASK_ALL) as stack:
            before = len(endpoint.seen)
            got = [
                stack.http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
                for body in bodies
            ]
            assert {response.status_code for response in got} == {200}
            answers.append([response.content for response in got])
            sent.append([seen.body for seen in endpoint.seen[before:]])
    assert answers[0] == answers[1]
    assert sent[0] == sent[1] == [body.replace(b'"chat"', b'"up"', 1) for body in bodies]
    for asked, answer in zip(bodies, answers[0], strict=True):
        assert json.loads(answer)["choices"][0]["message"]["content"] == json.loads(asked)["messages"][0]["content"]


@pytest.mark.slow
def test_case_49_a_prompt_of_a_megabyte_lets_small_callers_pass_it(strict: Stack, endpoint: Endpoint) -> None:
    """While a long prompt is judged others are answered: one that began later ends earlier, several times over."""
    endpoint.script = lambda _: Reply([chat_answer("Fine.")], "application/json")
    rng = random.Random(49)
    long = " ".join(f"{rng.choice(BENIGN[4:8])} {n}" for n in range(16_000))[:1_000_000]
    done = threading.Event()
    statuses: list[int] = []

    def send() -> None:
        statuses.append(strict.chat(long).status_code)
        done.set()

    thread = threading.Thread(target=send)
    thread.start()
    small = 0
    while not done.is_set():
        assert strict.chat(f"Hello {small}").status_code == 200
        small += not done.is_set()
    thread.join()
    assert statuses == [200]
    assert small >= 3


@both
def test_the_example_for_a_companys_own_people(endpoint: Endpoint, tmp_path: Path, dialect: Dialect) -> None:
    policy = (EXAMPLES / "internal-assistant.yaml").read_text()
    endpoint.script = echo(dialect, 3)
    with Stack(tmp_path, endpoint.origin, policy=policy, claims={"purposes": ["internal-assistant"]}) as stack:
        text = f"工号EMP-123456, {MAIL}, call (212) 555-0147, card {US_CARD}. f(x[0]) = {{'a': 1}}"
        for stream in (False, True):
            response = ask(stack, dialect, text, stream=stream)
            assert told(dialect, response, stream=stream) == text.replace(US_CARD, "****1111")
            sent = prompt_of(endpoint.seen[-1])
            assert sent.startswith("工号<EMPLOYEE_ID_1>, <EMAIL_ADDRESS_1>, call <PHONE_NUMBER_1>, card ****1111.")
            assert ask(stack, dialect, "What of 蓝鹭计划?", stream=stream).status_code == 400
