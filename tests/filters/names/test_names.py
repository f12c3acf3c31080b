"""The finder of names: offsets, scripts, batches, and what it says when a model is missing or is another one."""

from __future__ import annotations

import random
import subprocess
import sys
from functools import lru_cache

import pytest

from filters.finding import Finding
from filters.names import ModelError, NameFinder, available
from filters.names.models import ModelFile, checked
from filters.segments import SEGMENT_CHARS_MAX
from tests.quality.names import JUDGED, chinese, finder, natural
from tests.quality.score import score

pytestmark = pytest.mark.skipif(available("fast") is not None, reason=f"no models: {available('fast')}")


@lru_cache(maxsize=1)
def fast() -> NameFinder:
    return NameFinder.load("fast")


def spans(text: str, *entities: str) -> list[tuple[str, str]]:
    (found,) = fast().find([text])
    return [(f.entity, text[f.start : f.end]) for f in found if not entities or f.entity in entities]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Sarah O'Connor met Jean-Luc Picard.", ["Sarah O'Connor", "Jean-Luc Picard"], id="whole words"),
        pytest.param("Please call Dr. Okonkwo tomorrow.", ["Okonkwo"], id="behind a title"),
        pytest.param("my name is john smith and i need help", ["john smith"], id="small letters"),
        pytest.param("Maria's brother phoned.", ["Maria"], id="without the possessive"),
        pytest.param("George W. Bush wrote to J.K. Miller", ["George W. Bush", "J.K. Miller"], id="initials"),
        pytest.param("我叫王小明，我的同事是John Miller。", ["王小明", "John Miller"], id="two scripts"),
        pytest.param("PRIME MINISTER JOHN SMITH VISITS PARIS", ["JOHN SMITH"], id="headline"),
    ],
)
def test_people_are_found_as_whole_names(text: str, expected: list[str]) -> None:
    assert [value for _, value in spans(text, "PERSON")] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("She moved from Boston to New York City.", ["Boston", "New York City"], id="cities"),
        pytest.param("The U.S. and Germany agreed.", ["U.S.", "Germany"], id="countries"),
        pytest.param("他从上海飞往北京。", ["上海", "北京"], id="chinese"),
        pytest.param("we flew to tunisia last week", ["tunisia"], id="small letters"),
    ],
)
def test_places_are_found(text: str, expected: list[str]) -> None:
    assert [value for _, value in spans(text, "LOCATION")] == expected


@pytest.mark.parametrize(
    "text",
    [
        "Will you mark this? I hope the bill is in the mail, and may even win.",
        "Please Review The Attached Report And Send It To Finance",
        "def may(self): return self.will.grant(rose)",
        "git.frank_config = jack.load('/home/victor/grace.txt')",
        "On Monday in March the English and German teams meet.",
        "请把下面这段话翻译成英文，并检查语法。",
        "これは日本語の文章です。田中さんではありません。",
        "",
        " \n\t",
        "1234567890 !!! ??? ---",
    ],
)
def test_ordinary_words_are_no_people(text: str) -> None:
    assert spans(text, "PERSON") == []


def texts() -> list[str]:
    samples = [*natural("news")[:14], *natural("comments")[:14], *chinese(8)]
    return [sample.text[:SEGMENT_CHARS_MAX] for sample in samples]


def test_l10_findings_do_not_depend_on_the_batch() -> None:
    every = texts()
    alone = [fast().find([text])[0] for text in every]
    assert fast().find(every) == alone
    order = list(range(len(every)))
    random.Random(10).shuffle(order)
    shuffled = fast().find([every[i] for i in order])
    assert [shuffled[order.index(i)] for i in range(len(every))] == alone
    assert any(alone)


def test_offsets_lie_within_the_segment_and_findings_of_an_entity_do_not_overlap() -> None:
    for text, found in zip(texts(), fast().find(texts()), strict=True):
        assert found == sorted(found, key=lambda f: (f.start, f.end, f.entity))
        for one in found:
            assert 0 <= one.start < one.end <= len(text)
            assert one.entity in fast().entities
            assert 0.0 < one.score <= 1.0
            assert not text[one.start].isspace()
            assert not text[one.end - 1].isspace()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("한국어" * 170, id="several pieces a character"),
        pytest.param("John " * 102, id="one name over and over"),
        pytest.param("A." * 256, id="initials"),
        pytest.param("de la " * 85, id="particles"),
        pytest.param("\u0301" * 512, id="marks alone"),
        pytest.param("\ud800 John Smith \udfff", id="lone surrogates"),
        pytest.param("李" * 512, id="one Han character"),
        pytest.param("x王y李" * 128, id="scripts that change at every character"),
    ],
)
def test_l9_hard_segments_are_judged(text: str) -> None:
    (found,) = fast().find([text])
    assert all(0 <= one.start < one.end <= len(text) for one in found)


def test_a_longer_text_than_the_network_takes_is_read_in_windows() -> None:
    text = "zq " * 600 + "my name is Sarah Miller and I live here"
    assert ("PERSON", "Sarah Miller") in spans(text)


def test_l7_findings_hold_no_text() -> None:
    (found,) = fast().find(["Sarah Miller"])
    assert found
    assert "Sarah" not in repr(found)


def test_name_and_version_tell_mode_and_models() -> None:
    assert fast().name == "names-fast"
    assert fast().version == NameFinder.load("fast").version
    assert len(fast().version) == 16


def test_quality_floor() -> None:
    """Counts on small fixed sets: far below what is measured today means that something broke."""
    find = finder(fast())
    people = score(natural("news"), find, JUDGED).by_entity["PERSON"]
    assert people.found >= 28
    assert people.findings - people.right <= 8
    han = score(chinese(40), find, ("PERSON", "LOCATION")).micro()
    assert han.recall >= 0.95
    assert han.precision >= 0.98
    assert len(score(natural("plain"), find, JUDGED).errors) <= 2


@pytest.mark.slow
def test_quality_floor_on_social_media() -> None:
    found = {name: score(natural(name), finder(fast()), JUDGED).by_entity["PERSON"] for name in ("comments", "tweets")}
    assert found["comments"].found >= 46
    assert found["tweets"].found >= 20
    assert all(counts.precision >= 0.75 for counts in found.values())


def test_nothing_heavy_is_imported_before_load() -> None:
    code = (
        "import sys, filters.names; filters.names.available('thorough');"
        "print([m for m in ('numpy', 'onnxruntime', 'tokenizers', 'spacy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_l1_a_missing_package_is_an_error_that_names_the_remedy() -> None:
    file = ModelFile("no_such_package_of_models", "model.onnx", "00")
    assert "pip install" in str(file.reason())
    with pytest.raises(ModelError, match="pip install"):
        checked(file)


def test_l1_a_missing_file_is_an_error_that_names_the_remedy() -> None:
    file = ModelFile(None, "built/no-such-file.onnx", "00")
    assert "filters.names.build" in str(file.reason())
    with pytest.raises(ModelError, match=r"filters\.names\.build"):
        checked(file)


def test_l10_a_file_that_is_not_the_pinned_one_is_refused() -> None:
    with pytest.raises(ModelError, match="not the one"):
        checked(ModelFile(None, "models.txt", "0" * 64))


def test_empty_batches_and_segments() -> None:
    assert fast().find([]) == []
    assert fast().find(["", "Sarah Miller", ""]) == [
        [],
        [Finding("PERSON", 0, 12, fast().find(["Sarah Miller"])[0][0].score)],
        [],
    ]


@pytest.mark.slow
@pytest.mark.skipif(available("thorough") is not None, reason=f"no models: {available('thorough')}")
def test_thorough_finds_more_people_in_news() -> None:
    thorough = NameFinder.load("thorough")
    people = score(natural("news"), finder(thorough), JUDGED).by_entity["PERSON"]
    assert people.found >= 32
    assert people.precision >= 0.8
    every = texts()
    assert thorough.find(every) == [thorough.find([text])[0] for text in every]
