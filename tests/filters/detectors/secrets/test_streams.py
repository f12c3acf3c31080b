"""Law 3 and law 9: secrets at every cut, and of any length."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest

from filters.detectors.secrets import SecretsPack
from filters.engine import Engine
from filters.finding import Action, Finding, Rules
from filters.sieve import HELD_CHARS_MAX
from tests.filters.detectors.secrets.making import ALNUM, BASE64, jwt, password, pem, some
from tests.filters.detectors.secrets.test_kinds import KINDS, ORDINARY

REPORT = Rules(default=Action.REPORT, min_score=0.0)
MASK = Rules(default=Action.MASK, min_score=0.0)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine((SecretsPack(),), {"prompt": (), "answer": ()})


def _streamed(engine: Engine, text: str, cuts: Sequence[int], rules: Rules = REPORT) -> tuple[list[Finding], str, int]:
    """Findings, the text shown, and the most that was held."""
    sieve = engine.sieve(rules, direction="answer")
    found: list[Finding] = []
    shown = ""
    held = at = 0
    for cut in (*cuts, len(text)):
        release = sieve.feed(text[at:cut])
        found += release.findings
        shown += release.text
        held = max(held, sieve.held_chars)
        at = cut
    release = sieve.close()
    return sorted([*found, *release.findings]), shown + release.text, held


def _pieces(seed: int) -> list[str]:
    rng = random.Random(seed)
    made = [make(rng)[0] for _, make in KINDS.values()]
    return [text for text in made if len(text) < 700] + list(ORDINARY)


def test_l3_every_kind_is_the_same_at_every_cut(engine: Engine) -> None:
    for text in _pieces(1):
        whole = sorted(engine.find(text))
        assert _streamed(engine, text, range(1, len(text)))[0] == whole, text
        for cut in range(1, len(text), 7):
            assert _streamed(engine, text, [cut])[0] == whole, (text, cut)


def test_l3_mixtures_at_random_cuts(engine: Engine) -> None:
    rng = random.Random(2)
    pieces = [
        *_pieces(3),
        "key",
        "password is",
        "password 'a1B2c3D4'",
        "my password is now hunter2x",
        "-----BEGIN",
        "-----BEGIN RSA PRIVATE",
        "密码",
        "密码：",
        "Bearer",
        "Bearer token",
        "curl -u",
        "api_key =",
        "'",
        '"',
        "-----",
        "login with admin /",
        "creds: bob:",
        "credentials",
        "changed the password to",
        "mysql -p",
        "sshpass -p",
        "auth=('bob','",
        "| token |",
        "pw",
        "华为云AK：",
        "a1B2c3D4e5F6g7H8",
    ]
    between = ("\n", " ", "", ", ", "。", "：", "'", '"', " is ", "=", ": ", "是")
    for _ in range(150):
        text = ""
        for _ in range(rng.randint(1, 4)):
            piece = rng.choice(pieces)
            if rng.random() < 0.3:
                at = rng.randrange(len(piece) + 1)
                piece = rng.choice((piece[at:], piece[:at]))
            text += piece + rng.choice(between)
        whole = sorted(engine.find(text))
        cuts = sorted(rng.sample(range(len(text) + 1), min(len(text), rng.randint(1, 6))))
        assert _streamed(engine, text, cuts)[0] == whole, (text, cuts)
        assert _streamed(engine, text, range(1, len(text)))[0] == whole, text


LONG = {
    "RSA key of 4,096 bits": lambda r: pem(r, 3240),
    "RSA key in JSON": lambda r: pem(r, 3240, line="\\n"),
    "PGP block": lambda r: pem(r, 9500, "PGP PRIVATE KEY BLOCK"),
    "PGP block without end": lambda r: pem(r, 9500, "PGP PRIVATE KEY BLOCK", ended=False),
    "key on one line": lambda r: pem(r, 12_000, width=20_000),
    "long JWT": lambda r: jwt(r, 5000),
    "long secret": lambda r: "api_secret = '" + some(r, 6000, BASE64.replace("/", "x")) + "'",
}


@pytest.mark.parametrize("name", LONG)
def test_l3_nothing_of_a_long_secret_is_shown(engine: Engine, name: str) -> None:
    rng = random.Random(name)
    secret = LONG[name](rng)
    text = f"Here it is:\n{secret}\nThat was it, thanks."
    whole = sorted(engine.find(text))
    values = [secret[at : at + 16] for at in range(40, len(secret) - 80, 16)]
    for cuts in (
        range(7, len(text), 7),
        range(len(text) - 400, len(text)),
        sorted(rng.sample(range(len(text)), 9)),
        [len(text) - 1],
    ):
        found, shown, held = _streamed(engine, text, cuts, MASK)
        assert found == whole
        assert not any(value in shown for value in values)
        assert shown.startswith("Here it is:\n")
        assert shown.endswith("That was it, thanks.")
        assert held <= HELD_CHARS_MAX


def test_l3_what_is_held_of_ordinary_text_is_a_word(engine: Engine) -> None:
    text = (
        "My password is not what you think. The key to success: keep a token of trust, a secret - and basic courtesy. "
        * 3
    )
    sieve = engine.sieve(REPORT, direction="answer")
    held = 0
    for char in text:
        sieve.feed(char)
        held = max(held, sieve.held_chars)
    assert held <= 16


def test_l7_no_value_is_in_a_finding(engine: Engine) -> None:
    value = password(random.Random(4))
    for found in engine.find(f"my password is {value}"):
        assert value not in repr(found)
        assert value not in repr(vars(found))


HOSTILE = {
    "operators": "key=", "nested operators": "key=?", "names": "a_secret_token_key ", "quotes": 'password="', "colons": "token: ", "dashes": "-----BEGIN ", "openings": "-----BEGIN RSA PRIVATE KEY-----\n",
    "headers": "-----BEGIN RSA PRIVATE KEY-----\nVersion: 1\n", "words": "password for ", "chinese": "密码", "chinese filled": "密码的的的的的", "bearers": "Bearer bearer ", "curls": "-u a:", "dots": ".", "slashes": "key=/", "beginnings": "sk-", "jwts": "eyJ.",
    "urls": "a://b:", "escapes": "\\n", "random": "", "base64": "", "at": "a://b:c@", "equals": "=", "assignments": "api_key=a1B2c3D4e5F6g7H8 ", "marks": "a.b|c_d~",
    "typed": "mysql -p a ", "cells": "| key | a ", "cloud keys": "ak=", "logins": "login with a/", "credentials": "credentials: a", "changes": "changed password to ", "calls": 'auth=("a","', "users": "https://a", "hyphens": "0a-",
}  # fmt: skip


@pytest.mark.slow  # compares costs, which a loaded machine disturbs
@pytest.mark.parametrize("name", HOSTILE)
def test_l9_work_grows_with_the_text(name: str) -> None:
    rng = random.Random(name)
    alphabet = {"random": "".join(map(chr, range(32, 127))), "base64": BASE64}.get(name, ALNUM)
    unit = HOSTILE[name] or some(rng, 60_000, alphabet)

    def cost(chars: int) -> float:
        text = (unit * (chars // len(unit) + 1))[:chars]
        best = 1e9
        for turn in range(2):
            engine = Engine((SecretsPack(),), {"prompt": (), "answer": ()})
            began = time.thread_time()
            engine.find(text[: chars - turn])
            best = min(best, time.thread_time() - began)
        return best

    # Quadratic work would be sixteen times as much.
    assert cost(20_000) < 9 * cost(5_000) + 0.02
