"""What a policy says of records: what is kept of texts, for how long, and what happens when they cannot be delivered."""

from __future__ import annotations

import pytest

from policies import Policy, PolicyError, load
from policies.model import SPOOL_FULL, SPOOL_PATIENCE_S, Content

HEAD = "version: 1\nname: p\nowner: o@example.com\n"


def read(text: str, preset: str = "") -> Policy:
    return load(f"{HEAD}{preset}{text}\n".encode(), source="p.yaml", entities={"CREDIT_CARD"})


def test_what_is_kept_is_said_by_the_policy() -> None:
    plain = read("")
    assert (plain.content, plain.keeps_blocked, plain.retention_s, plain.spool_full) == (
        Content.DIGEST,
        False,
        0,
        "refuse",
    )
    said = read(
        "record: {content: encrypted, evidence: blocked, retention: 300d}\nfailure: {spool_full: refuse-after-5m}"
    )
    assert said.content is Content.ENCRYPTED
    assert said.keeps_blocked
    assert (said.retention_s, said.spool_full) == (300 * 86_400, "refuse-after-5m")


EU = "preset: [eu-ai-act/records]\nfacts: {territory: [eu]}\n"


def test_a_presets_retention_is_a_floor() -> None:
    assert read("", EU).retention_s == 200 * 86_400
    assert read("record: {retention: 400d}", EU).retention_s == 400 * 86_400
    with pytest.raises(PolicyError) as caught:
        read("record: {retention: 30d}", EU)
    (problem,) = caught.value.problems
    assert problem.key == "record.retention"
    assert "200d" in problem.remedy


def test_what_a_free_row_asks_for_an_undeliverable_trail_may_be_loosened_and_is_told() -> None:
    policy = read("failure: {spool_full: open}", EU)
    assert policy.spool_full == "open"
    assert [d.row for d in policy.deviations if d.row == "failure.spool_full"] == ["failure.spool_full"]


def test_each_word_has_its_patience() -> None:
    assert set(SPOOL_PATIENCE_S) == set(SPOOL_FULL)
    finite = [SPOOL_PATIENCE_S[word] for word in SPOOL_FULL[1:]]
    assert finite == sorted(finite, key=lambda s: -(s or 0))
