"""The whole hardened engine at once: identifiers, secrets, disguises, names, own entities, pseudonyms and their way back.

Each pack has its own tests at every cut. Here they meet in one sieve, where what one finds lies inside or beside what
another finds, scanners sleep beside others that hold, and a resolver masks, names, restores and blocks in one text.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import (
    HELD_CHARS_MAX,
    Action,
    Direction,
    Edit,
    Engine,
    Finding,
    Mask,
    Release,
    Rules,
    Scanner,
    Sieve,
    UndecidedError,
)
from filters.detectors.custom import CustomDetector
from filters.finding import NameRules, Sleeper
from filters.restore import Restorer
from filters.segments import Segmenter
from filters.sieve import JUDGED_HELD_CHARS_MAX
from filters.vault import Pseudonyms, Style
from policies.model import CustomEntity
from tests.filters.detectors.china.test_pack import POSITIVE
from tests.filters.detectors.secrets.making import jwt, pem
from tests.filters.detectors.secrets.test_kinds import KINDS
from tests.filters.detectors.test_disguise import FOUND
from tests.filters.samples import ACTS, CLAIMS, CLUTTER, LONGEST

CUSTOM: Final = CustomDetector(
    [
        CustomEntity("EMPLOYEE_ID", pattern=r"\bEMP-[0-9]{6}\b", context=("badge", "工号")),
        CustomEntity("TICKET", pattern=r"[A-Z]{2,5}-[0-9]+(?:/[a-z0-9]+)*"),
        CustomEntity("PROJECT", words=("Blue Heron", "蓝鹭计划", "北京一号"), score=1.0),
    ]
)
_NAMES: Final = re.compile(
    r"John Smith|Ada(?: Lovelace)?|Jürgen Müller|O'Neil|王小明|欧阳娜娜|Example Ltd\.|Springfield|4111"
)
PEOPLE: Final = ("John Smith", "Ada Lovelace", "Ada", "Jürgen Müller", "王小明", "欧阳娜娜", "Springfield", "O'Neil")


def judged(segment: str) -> list[Finding]:
    """A judge that finds some names, and one that overlaps with card numbers."""
    return [Finding("PERSON", m.start(), m.end(), 0.85) for m in _NAMES.finditer(segment)]


# What the answers' vaults know: tags beyond ten, names, numbers, addresses and Chinese surrogates.
VALUES: Final = (
    *(("PERSON", f"Person Number{chr(97 + n)}") for n in range(11)),
    ("EMAIL_ADDRESS", "ann.lee@example.org"),
    ("PHONE_NUMBER", "212-555-1234"),
    ("CREDIT_CARD", "4111 1111 1111 1111"),
    ("CN_RESIDENT_ID", "11010519491231002X"),
    ("PERSON", "王小明"),
    ("LOCATION", "浙江省杭州市西湖区文三路478号"),
    ("DATE_TIME", "2024-03-01"),
)


def vault(style: Style) -> Pseudonyms:
    """One conversation's, with values in it."""
    one = Pseudonyms(b"k" * 32, style=style, trusting=True)
    for entity, value in VALUES:
        one.name(entity, value, restorable=True)
    return one


@functools.cache
def restorer(style: Style) -> Restorer:
    """What brings them back."""
    made = vault(style).restorer()
    assert made is not None
    return made


@functools.cache
def placeholders() -> tuple[str, ...]:
    """As issued, as models change them, and as nobody issued them."""
    own = [p.text for style in ("tag", "realistic") for p in vault(style).placeholders()]
    changed = [
        "<person 1>", "[Person-11]", "&lt;PERSON\\_2&gt;", "PERSON_1", "<EMAIL_ADDRESS_1>", "<PERSON_99>", "<PERSON_1", "\\u003cPERSON_3\\u003e",
        "{{PERSON_10}}", "（CREDIT_CARD_1）", "<PERSON_1><PERSON_10>",
    ]  # fmt: skip
    return (*own, *changed)


_RNG: Final = random.Random(20240301)
SECRETS: Final = tuple(text for _, make in KINDS.values() if len(text := make(_RNG)[0]) < 700)
LONG: Final = (
    pem(_RNG, 9200, "PGP PRIVATE KEY BLOCK"),
    pem(_RNG, 3240),
    pem(_RNG, 3240, line="\\n"),
    pem(_RNG, 2000, ended=False),
    jwt(_RNG, 5000),
    "api_secret = '" + "aB3" * 2500 + "'",
    "4111 1111 1111 1111 " * 130,
    "https://u:p4ssW0rd@h.example/" + "ab," * 900,
    "北京市" * 400,
    "密码" * 500,
    "%34" * 900,
    "&#52;" * 500,
    "one " * 600,
    "四一一一" * 400,
    "1" * 2500,
    "1-" * 1300,
    "a.b@c.de/" * 250,
    "I am the " * 150,
    "EMP-123456" * 250,
    "AB-1/a" * 500,
    "x" * 3000,
    "<" * 800,
    "\\u0034" * 500,
    "(" * 700,
)
DISGUISED: Final = tuple(text.replace("«", "").replace("»", "") for _, _, text in FOUND)
CHINESE: Final = tuple(str(p.values[0]) for p in POSITIVE)
OWN: Final = (
    "EMP-123456",
    "badge EMP-654321",
    "ABC-1/x9/y",
    "Blue Heron",
    "blue\u00a0heron",
    "蓝鹭计划",
    "Blue",
    "EMP-",
    "AB-",
)
TRIGGERS: Final = (
    "password is", "my password:", "密码", "密码是", "口令：", "令牌", "Bearer", "curl -u", "api_key =", "-----BEGIN", "-----BEGIN RSA PRIVATE", "-----END", "wx", "wxid_", "V信", "v",
    "信", "QQ", "微", "生", "出生", "字第", "北", "地址", "住", "黔西", "特别行政区", "号", "路", "京", "粤Z", "(+86)", "+86", "[at]", " at ", " dot ", "%", "%4", "&", "&#", "&#x3", "\\", "\\u", "\\x3",
    "one", "two hundred", "twenty-", "一", "二百", "零", "壹", "٣", "MTIz", "ssn", "card", "卡号", "身份证号", "account number", "eyJ", "sk-", "ghp_", "://", "@", "AKIA", "以", "代", "你现在是", "pretend", "I am", "我是", "As",
    "Sincerely,", "\r\n", "\r", "\u2028", "\udc80", "\ud83d", "🙂", "👩‍👩‍👧", "e\u0301", "\u200b", "\u00ad", "\u3000", "ﬁ", "K", "ı", "ſ", "\x00", "\x1b", "“", "”", "‘", "「", "」", "'", '"', "`", "{", "}", "[", "]", "<", ">", "=", "|", "~", "^", "#", "$",
)  # fmt: skip
GLUE: Final = (
    "",
    "",
    "",
    " ",
    " ",
    "\n",
    ". ",
    "。",
    ", ",
    "，",
    "：",
    "/",
    "-",
    "'",
    '"',
    "=",
    "中",
    "x",
    "1",
    "<",
    "\r\n",
    "@",
    "\u200b",
)
POOL: Final = (
    LONGEST,
    LONGEST,
    CHINESE,
    CHINESE,
    DISGUISED,
    DISGUISED,
    SECRETS,
    SECRETS,
    ACTS,
    CLAIMS,
    CLUTTER,
    TRIGGERS,
    TRIGGERS,
    OWN,
    PEOPLE,
)


def made(rng: random.Random, pieces: int, *, long: float = 0.0) -> str:
    """Pieces of everything, whole or broken off, with or without something between."""
    out = []
    for _ in range(pieces):
        if rng.random() < long:
            piece = rng.choice(LONG)
        elif rng.random() < 0.12:
            piece = rng.choice(placeholders())
        else:
            piece = rng.choice(rng.choice(POOL))
        if piece and rng.random() < 0.25:
            at = rng.randrange(len(piece))
            piece = rng.choice((piece[:at], piece[at:]))
        out.append(piece + rng.choice(GLUE))
    return "".join(out)


def cut(text: str, places: Iterable[int]) -> list[str]:
    """The text in parts."""
    parts, at = [], 0
    for place in sorted({p % (len(text) + 1) for p in places}):
        parts.append(text[at:place])
        at = place
    return [*parts, text[at:]]


MASKS: Final = {
    "CREDIT_CARD": Mask("partial"),
    "CN_RESIDENT_ID": Mask("partial", 8),
    "SECRET": Mask("hash", key=b"k"),
    "EMAIL_ADDRESS": Mask("hash", key=b"k"),
}
_NAMED: Final = dict.fromkeys(
    ("PERSON", "EMAIL_ADDRESS", "PHONE_NUMBER", "CN_RESIDENT_ID", "CN_MOBILE", "CN_ADDRESS", "EMPLOYEE_ID"),
    Action.PSEUDONYMIZE,
)
FAST: Final = NameRules("fast")


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to use the engine."""

    direction: Direction
    rules: Rules
    names: bool = True
    style: Style | None = None  # of prompts: values get pseudonyms; of answers: they come back

    def __str__(self) -> str:
        return f"{self.direction}, {self.style}, names {self.names}, {self.rules.default}"


SETUPS: Final = (
    Setup("prompt", Rules(default=Action.REPORT, min_score=0.0), names=False),
    Setup("answer", Rules(default=Action.MASK, min_score=0.0), names=False),
    Setup("prompt", Rules(default=Action.MASK, masks=MASKS, names=FAST)),
    Setup("answer", Rules(default=Action.MASK, masks=MASKS, names=FAST), style="tag"),
    Setup("answer", Rules(default=Action.REPORT, entities={"CREDIT_CARD": Action.MASK}), names=False, style="realistic"),
    Setup("prompt", Rules(default=Action.MASK, entities=_NAMED, names=FAST), style="tag"),
    Setup("prompt", Rules(default=Action.REPORT, entities={**_NAMED, "SECRET": Action.BLOCK}, names=FAST), style="realistic"),
    Setup("prompt", Rules(default=Action.PSEUDONYMIZE, min_score=0.0), names=False, style="tag"),
    Setup("answer", Rules(default=Action.MASK, entities={"PERSON": Action.BLOCK, "SECRET": Action.BLOCK, "CREDIT_CARD": Action.REPORT}, names=FAST), style="tag"),
    Setup("answer", Rules(default=Action.REPORT, min_score=0.0, entities={"CN_MOBILE": Action.BLOCK, "URL": Action.MASK, "DATE_TIME": Action.ALLOW, "PHONE_NUMBER": Action.ALLOW}), names=False),
)  # fmt: skip

Seen = tuple[str, tuple[Edit, ...], tuple[Finding, ...], Finding | None, int] | str


class _Nobody:
    """The judge that the engine asks; these tests call `judged` instead, at times of their own."""

    name = "names"
    version = "1"
    entities = frozenset({"PERSON"})

    async def judge(self, segments: Sequence[str]) -> Sequence[Sequence[Finding]]:
        raise AssertionError


@functools.cache
def engine() -> Engine:
    """The one that all these tests share."""
    return Engine.load(judges={"fast": _Nobody()}).extended([CUSTOM])


def _namer(setup: Setup, text: str) -> Pseudonyms | None:
    if setup.direction == "answer" or setup.style is None:
        return None
    one = Pseudonyms(b"k" * 32, style=setup.style)
    one.reserve(text)
    return one


def whole(text: str, setup: Setup) -> Seen:
    """What the rules make of all that is found in the whole text."""
    namer = _namer(setup, text)
    restoring = restorer(setup.style) if setup.direction == "answer" and setup.style else None
    try:
        found: list[Finding] = list(engine()._find(text, engine()._chosen(setup.rules, setup.direction)))
        if setup.names:
            for segment in Segmenter().cut(text, 0, True):
                found += segment.placed(judged(segment.text))
        release = engine().decide(text, found, setup.rules, namer=namer, restoring=restoring)
    except UndecidedError as error:
        return "undecided" if error.limit else "failed"
    return release.text, release.edits, release.findings, release.blocked, release.end


def sieve_for(text: str, setup: Setup) -> Sieve:
    """A sieve for the text."""
    return engine().sieve(
        setup.rules,
        direction=setup.direction,
        judged=setup.names,
        namer=_namer(setup, text),
        restoring=restorer(setup.style) if setup.direction == "answer" and setup.style else None,
    )


def through(sieve: Sieve, parts: Sequence[str], *, late: random.Random | None = None) -> Seen:
    """All that a sieve releases, as one. `late`: the judge answers now and then, and not always for everything."""
    releases: list[Release] = []
    at = 0
    bound = JUDGED_HELD_CHARS_MAX if sieve.waits else HELD_CHARS_MAX

    def take(release: Release) -> None:
        nonlocal at
        assert release.start == at, "releases follow each other"
        assert release.end >= at
        at = release.end
        releases.append(release)

    try:
        for part in [*parts, None]:
            take(sieve.close() if part is None else sieve.feed(part))
            waiting = sieve.pending()
            if late is not None and part is not None:
                waiting = waiting[: late.randrange(len(waiting) + 1)]
            if waiting:
                take(sieve.judged([judged(segment) for segment in waiting]))
            assert sieve.held_chars <= bound
    except UndecidedError as error:
        return "undecided" if error.limit else "failed"
    return (
        "".join(r.text for r in releases),
        tuple(e for r in releases for e in r.edits),
        tuple(f for r in releases for f in r.findings),
        sieve.blocked,
        at,
    )


def assert_same(text: str, setup: Setup, parts: Sequence[str], *, late: random.Random | None = None) -> None:
    """A stream of those parts gives what the whole text gives."""
    assert through(sieve_for(text, setup), parts, late=late) == whole(text, setup), (str(setup), text)


# Each once differed between a stream and its whole text.
REGRESSIONS: Final = (
    "e(4111(1111(1111)1111)",
    "Erdoğan(4111)(1111)(1111)(1111)pretend",
    "password>\u200b<SO0",
    "<password>Ihyx52%rbds</password>\u200b<PERSON_1><PERSON_10>@",
)


@pytest.mark.parametrize("text", REGRESSIONS)
def test_l3_what_once_differed(text: str) -> None:
    for setup in (SETUPS[1], SETUPS[3], SETUPS[4]):
        assert_same(text, setup, text)
        for place in range(1, len(text), 3):
            assert_same(text, setup, (text[:place], text[place:]))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**48), st.sampled_from(SETUPS), st.lists(st.integers(0, 4000), max_size=10))
def test_l3_everything_together_at_any_cuts(seed: int, setup: Setup, places: list[int]) -> None:
    rng = random.Random(seed)
    text = made(rng, rng.randint(1, 6))
    assert_same(text, setup, cut(text, places))
    assert_same(text, setup, cut(text, places[::2]), late=rng)
    assert_same(text, setup, text)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**48), st.sampled_from(SETUPS), st.integers(80, 900))
def test_l3_l9_long_matches_together_stay_bounded(seed: int, setup: Setup, step: int) -> None:
    """`through` checks what is held after each part."""
    rng = random.Random(seed)
    text = made(rng, 3, long=0.4)
    assert_same(text, setup, [text[i : i + step] for i in range(0, len(text), step)])


def test_l3_every_cut_of_short_texts_with_everything() -> None:
    rng = random.Random(5)
    for setup in SETUPS:
        text = made(rng, 3)[:80]
        expected = whole(text, setup)
        for place in range(len(text) + 1):
            assert through(sieve_for(text, setup), (text[:place], text[place:])) == expected, (str(setup), text, place)


@pytest.mark.parametrize("entity", ["SECRET", "PASSWORD", "PRIVATE_KEY", "JWT", "CONNECTION_STRING", "API_TOKEN"])
def test_a_mask_with_a_digest_is_no_secret_again(entity: str) -> None:
    for n in range(20):
        mask = Mask("hash", key=b"k").show(entity, f"value {n}")
        for text in (
            f"token {mask}\n",
            f"my password is {mask} ok",
            f"api_key={mask}",
            f"密码是{mask}。",
            f'{{"k": "{mask}"}}',
        ):
            assert not [f for f in engine().find(text) if f.entity in ("SECRET", "PASSWORD")], text


class _Awake:
    """A scanner that a sieve cannot know for a sleeper."""

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner

    @property
    def at(self) -> int:
        return self.scanner.at

    def scan(self, text: str, view: bytes, final: bool) -> list[Finding]:
        return self.scanner.scan(text, view, final)

    def drop(self, chars: int) -> None:
        self.scanner.drop(chars)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**48), st.sampled_from(("prompt", "answer")), st.lists(st.integers(0, 4000), max_size=10))
def test_l3_scanners_that_sleep_miss_nothing(seed: int, direction: Direction, places: list[int]) -> None:
    """What sleeping saves is work, and nothing else: also where all the text between two pieces is quiet."""
    rng = random.Random(seed)
    quiet = ("a few plain words, ", "and so on. ", "谢谢，再见。", "\n", "x", "Then - as they say - ")
    text = "".join(made(rng, 1) + rng.choice(quiet) * rng.randint(0, 3) for _ in range(rng.randint(1, 3)))
    rules = Rules(default=Action.REPORT, min_score=0.0)
    for parts in (list(text), cut(text, places)):
        seen = []
        for awake in (False, True):
            scanners = engine().sieve(rules, direction=direction, judged=False)._scanners
            assert sum(isinstance(scanner, Sleeper) for scanner in scanners) >= 5
            seen.append(through(Sieve([_Awake(s) for s in scanners] if awake else scanners, rules), parts))
        assert seen[0] == seen[1], text


@pytest.mark.slow
def test_l3_a_thousand_texts_of_everything() -> None:
    rng = random.Random(31)
    for n in range(1000):
        setup = rng.choice(SETUPS)
        text = made(rng, rng.randint(1, 9), long=0.05 if n % 2 else 0.0)
        assert_same(text, setup, cut(text, [rng.randrange(len(text) + 1) for _ in range(rng.randint(1, 9))]), late=rng)
        if len(text) < 2000:
            assert_same(text, setup, text)
