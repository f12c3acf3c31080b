"""Tags of the law: every row has its source, and names an entity that some detector can find."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from filters import Engine
from filters.tags import DATA, TAGS, entities_of, source_of, tags_of

# What the packs for China, secrets and names find.
OTHERS = frozenset(
    [
        "CN_RESIDENT_ID",
        "CN_MOBILE",
        "CN_LANDLINE",
        "CN_PASSPORT",
        "CN_TRAVEL_PERMIT",
        "CN_BANK_CARD",
        "CN_USCC",
        "CN_LICENSE_PLATE",
        "HK_ID",
        "MO_ID",
        "TW_ID",
        "CN_ADDRESS",
        "CN_WECHAT_ID",
        "CN_QQ",
        "SECRET",
        "PRIVATE_KEY",
        "PASSWORD",
        "CONNECTION_STRING",
        "JWT",
        "PERSON",
        "LOCATION",
        "ORGANIZATION",
        "NRP",
    ]
)


def test_every_tag_has_a_source_and_every_row_an_article() -> None:
    data = json.loads(resources.files("filters").joinpath(DATA).read_bytes())
    assert set(data) == set(TAGS)
    for tag, row in data.items():
        assert row["source"]
        assert row["entities"] or "no detector" in row["note"], tag
        assert all(row["entities"].values()), tag


def test_no_row_names_an_entity_that_nothing_finds() -> None:
    known = Engine.load().entities | OTHERS
    assert {entity for entities in TAGS.values() for entity in entities} - known == set()


@pytest.mark.parametrize(
    ("tag", "entity"),
    [
        ("pipl.spi", "CN_RESIDENT_ID"),
        ("pipl.spi", "CN_BANK_CARD"),
        ("pipl.pi", "CN_MOBILE"),
        ("gdpr.personal", "PERSON"),
        ("gdpr.art9", "NRP"),
        ("pci.chd", "CREDIT_CARD"),
        ("hipaa.identifier", "DATE_TIME"),
        ("ccpa.sensitive", "US_SSN"),
        ("secret", "PRIVATE_KEY"),
    ],
)
def test_a_tag_holds_what_its_law_names(tag: str, entity: str) -> None:
    assert entity in entities_of(tag)
    assert tag in tags_of(entity)
    assert source_of(tag, entity)


def test_sensitive_information_is_personal_information_too() -> None:
    assert entities_of("pipl.spi") <= entities_of("pipl.pi")
    assert entities_of("gdpr.art9") <= entities_of("gdpr.personal")


def test_a_company_number_is_nobodys_personal_information() -> None:
    assert tags_of("CN_USCC") == ()
    assert tags_of("ORGANIZATION") == ()


def test_an_unknown_tag_is_an_error() -> None:
    with pytest.raises(KeyError):
        entities_of("pipl.all")
    with pytest.raises(KeyError):
        source_of("pci.chd", "PERSON")
