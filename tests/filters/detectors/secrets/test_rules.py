"""The data file, and every rule of it against strings made from its own expression."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from filters.detectors.secrets import SecretsPack, compile, rule_of  # noqa: A004  # the module that writes the data
from filters.detectors.secrets.rules import alternation
from filters.engine import Engine
from filters.view import fold
from tests.filters.detectors.secrets.making import grown

DATA: dict[str, Any] = json.loads(compile.TARGET.read_text())


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine((SecretsPack(),), {"prompt": (), "answer": ()})


def test_the_data_file_is_what_the_generator_writes() -> None:
    source = os.environ.get("LICET_GITLEAKS_TOML")
    if source is None:
        pytest.skip("LICET_GITLEAKS_TOML names no rule file of gitleaks")
    assert compile.render(compile.build(Path(source).read_bytes())) == compile.TARGET.read_text()


def test_every_rule_is_kept_once_or_has_its_place_in_code() -> None:
    kept = {rule["id"] for rule in DATA["rules"]}
    assert not kept & set(compile.BY_CODE)
    assert len(kept | set(compile.BY_CODE)) == 222
    assert set(compile.BY_MARK) <= kept


def test_every_expression_compiles_and_none_has_an_unbounded_repeat_of_a_repeat() -> None:
    for rule in DATA["rules"]:
        for key in ("regex", "name", "value"):
            if key in rule:
                re.compile(rule[key].encode())
                assert not re.search(r"[+*]\)[+*]", rule[key]), rule["id"]


def test_every_beginning_begins_every_match() -> None:
    rng = random.Random(5)
    for rule in DATA["rules"]:
        if "prefixes" in rule:
            for _ in range(4):
                value = grown(rule["regex"], rng)
                assert value.startswith(tuple(rule["prefixes"])), rule["id"]
        if "mark" in rule:
            assert all(rule["mark"] in grown(rule["regex"], rng) for _ in range(4)), rule["id"]


def test_nearly_every_rule_finds_what_its_expression_makes(engine: Engine) -> None:
    rng = random.Random(11)
    missed = {}
    for rule in DATA["rules"]:
        found = tried = 0
        for _ in range(5):
            if rule["kind"] == "token":
                value = grown(rule["regex"], rng)
                text = f"here it is: {value} and so on"
            else:
                value = grown(rule["value"], rng)
                text = f'{grown(rule["name"], rng)}_key = "{value}"'
            tried += 1
            at = text.index(value) if value in text else 0
            found += any(f.start <= at + len(value) - 1 and f.end > at for f in engine.find(text))
        if found < tried * 0.6:
            missed[rule["id"]] = f"{found}/{tried}"
    assert len(missed) <= len(DATA["rules"]) * 0.05, missed


def test_a_shared_beginning_is_tried_once() -> None:
    words = (b"sk-", b"sk_live", b"ghp_", b"gho_", b"g", b"AKIA")
    find = re.compile(alternation(words))
    for word in words:
        match = find.match(word + b"x")
        assert match is not None
        assert match[0] == word
    assert find.match(b"xghp_") is None


def test_a_finding_names_its_rule(engine: Engine) -> None:
    text = "this is   ghp_" + "".join(random.Random(1).choices("abcdefXYZ0123456789", k=36))
    (found,) = [f for f in engine.find(text) if f.start == 10]
    assert rule_of(found) == "github-pat"
    assert found == ("SECRET", 10, len(text), found.score)
    assert rule_of(found._replace(end=found.end)) in {"github-pat", ""}


def test_the_view_and_the_text_have_the_same_offsets(engine: Engine) -> None:
    text = "密码是：Ab１２３４cd"
    (found,) = engine.find(text)
    assert text[found.start : found.end] == "Ab１２３４cd"
    assert len(fold(text)) == len(text)
