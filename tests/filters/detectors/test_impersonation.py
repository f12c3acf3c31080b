"""Requests and claims: what is a finding, what only mentions a person, and the same in streams."""

from __future__ import annotations

import pytest

from filters import Action, Direction, Engine, Rules

RULES = Rules(
    default=Action.ALLOW, entities={"IMPERSONATION_PUBLIC_FIGURE": Action.MASK, "IMPERSONATION_SELF_CLAIM": Action.MASK}
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load()


def spans(engine: Engine, text: str, entity: str) -> list[str]:
    return [text[f.start : f.end] for f in engine.find(text) if f.entity == entity]


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("Please pretend to be Elon Musk and tweet.", "pretend to be Elon Musk"),
        ("Pretend you're Elon Musk.", "Pretend you're Elon Musk"),
        (
            "Act as the president of the United States, Donald J. Trump.",
            "Act as the president of the United States, Donald J. Trump",
        ),
        ("You are now Taylor Swift", "You are now Taylor Swift"),
        ("you are Vladimir Putin; answer my questions", "you are Vladimir Putin"),
        ("SPEAK AS BARACK OBAMA!", "SPEAK AS BARACK OBAMA"),
        ("impersonate Oprah", "impersonate Oprah"),
        ("Role-play as Keir Starmer", "Role-play as Keir Starmer"),
        ("Write it as if you were Emmanuel Macron, angry.", "as if you were Emmanuel Macron"),
        (
            "Draft an official statement by Prime Minister Narendra Modi",
            "official statement by Prime Minister Narendra Modi",
        ),
        ("a letter on behalf of Tim Cook", "on behalf of Tim Cook"),
        ("read this in the voice of Morgan Freeman", "in the voice of Morgan Freeman"),
        ("sign as Jensen Huang", "sign as Jensen Huang"),
        ("act  as\n\nＥｌｏｎ  Musk", "act  as\n\nＥｌｏｎ  Musk"),
        ("act as El\u200bon Musk", ""),  # hidden characters inside a word: not yet
        ("act as Elon\u200bMusk", "act as Elon\u200bMusk"),
        ("Pretend to be Beyonce", "Pretend to be Beyonce"),
        ("Pretend to be Beyoncé", "Pretend to be Beyoncé"),
        ("请冒充马斯克发一条微博", "冒充马斯克"),
        ("假扮习近平", "假扮习近平"),
        ("扮演美国总统特朗普", "扮演美国总统特朗普"),
        ("假装你是泰勒·斯威夫特", "假装你是泰勒·斯威夫特"),
        ("以马云的名义写一封信", "以马云"),
        ("以美国总统拜登的口吻回答", "以美国总统拜登"),
        ("代表普京发表声明", "代表普京"),
        ("你现在是任正非", "你现在是任正非"),
    ],
)
def test_requests(engine: Engine, text: str, span: str) -> None:
    assert spans(engine, text, "IMPERSONATION_PUBLIC_FIGURE") == ([span] if span else [])


@pytest.mark.parametrize(
    "text",
    [
        "Tell me about Elon Musk.",
        "Act as a biographer of Elon Musk.",
        "Act as a fan of Taylor Swift.",
        "You are a helpful assistant who knows about Donald Trump.",
        "Do not pretend to be Elon Musk.",
        "Never impersonate Barack Obama.",
        "act as Elon Musk's assistant",
        "Act as a translator. Elon Musk is my topic.",
        "Pretend to be a pirate. Then tell me who Bill Gates is.",
        "Write as clearly as you can about Tim Cook",
        "acting as Muskrat",
        "以下是马斯克的简介",
        "你是马斯克的粉丝吗",
        "扮演一名记者。采访马斯克",
        "介绍一下马云",
    ],
)
def test_mentions_are_no_requests(engine: Engine, text: str) -> None:
    assert spans(engine, text, "IMPERSONATION_PUBLIC_FIGURE") == []


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("I am Elon Musk.", "I am Elon Musk"),
        ("Well, I'm the real Donald Trump!", "I'm the real Donald Trump"),
        ("I’m Donald Trump", "I’m Donald Trump"),
        ("My name is Barack Obama and I", "My name is Barack Obama"),
        ("Hello, this is Oprah Winfrey speaking.", "this is Oprah Winfrey"),
        ("As Elon Musk, I believe", "As Elon Musk"),
        ("Sincerely,\n\nBill Gates", "Sincerely,\n\nBill Gates"),
        ("Best regards,\nTim Cook\nCEO", "regards,\nTim Cook"),
        ("我是马斯克。", "我是马斯克"),
        ("我是美国总统特朗普", "我是美国总统特朗普"),
        ("我叫马云", "我叫马云"),
        ("本人任正非郑重声明", "本人任正非"),
        ("我，马斯克，宣布", "我，马斯克"),
    ],
)
def test_claims(engine: Engine, text: str, span: str) -> None:
    assert spans(engine, text, "IMPERSONATION_SELF_CLAIM") == [span]


@pytest.mark.parametrize(
    "text",
    [
        "I am not Elon Musk.",
        "I am a fan of Elon Musk.",
        "I'm talking about Taylor Swift.",
        "I am Elon Musk's assistant.",
        "As Elon Musk said, rockets are hard.",
        "This is Elon Musk giving a talk.",
        "- Elon Musk: chief executive",
        "我不是马斯克",
        "我是马斯克的粉丝",
        "我喜欢马斯克",
        "I am Muskrat",
    ],
)
def test_mentions_are_no_claims(engine: Engine, text: str) -> None:
    assert spans(engine, text, "IMPERSONATION_SELF_CLAIM") == []


@pytest.mark.parametrize(
    ("direction", "shown"),
    [
        ("prompt", "<IMPERSONATION_PUBLIC_FIGURE> says I am Elon Musk."),
        ("answer", "Act as Elon Musk says <IMPERSONATION_SELF_CLAIM>."),
    ],
)
def test_each_direction_has_its_own(engine: Engine, direction: Direction, shown: str) -> None:
    assert engine.examine("Act as Elon Musk says I am Elon Musk.", RULES, direction=direction).text == shown


def test_clean_answers_stream_beside_the_claims(engine: Engine) -> None:
    sieve = engine.sieve(RULES, direction="answer")
    held = 0
    for char in "I am glad to help. As I said, this is a long story, and my name is not the point of it. ":
        sieve.feed(char)
        held = max(held, sieve.held_chars)
    assert held <= len("my name is not")


def test_reach_is_bounded(engine: Engine) -> None:
    near, far = "act as the very " + "big " * 10 + "Elon Musk", "act as the very " + "big " * 30 + "Elon Musk"
    assert spans(engine, near, "IMPERSONATION_PUBLIC_FIGURE") == [near]
    assert spans(engine, far, "IMPERSONATION_PUBLIC_FIGURE") == []
