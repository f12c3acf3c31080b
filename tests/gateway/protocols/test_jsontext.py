"""Reading JSON as text: nothing is lost, nothing malformed passes, and splices touch what they name alone."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.base import Edit
from gateway.protocols.jsontext import (
    ARRAY,
    LITERAL,
    NUMBER,
    NUMBERS,
    OBJECT,
    JsonError,
    Node,
    apply,
    locate,
    merged,
    numbers,
    place_of,
    quote,
    raw_offset,
    read,
    read_text,
    splice_string,
    unquote,
)
from tests.gateway.protocols.support import any_text, json_values

LIMIT = 100_000


def value_of(node: Node) -> Any:
    """What a usual parser would have made of a tree."""
    if node.kind == OBJECT:
        return {key: value_of(child) for key, child in node.members}
    if node.kind == ARRAY:
        return [value_of(child) for child in node.items]
    if node.kind == NUMBERS:
        return [json.loads(number) for number in numbers(node)]
    if node.kind in (NUMBER, LITERAL):
        return json.loads(node.value)
    return node.value


@given(json_values, st.booleans(), st.sampled_from([None, 2]))
def test_the_tree_says_what_a_parser_says(value: Any, ascii_only: bool, indent: int | None) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        encoded = body.encode()
    except UnicodeEncodeError:  # raw lone surrogates are no UTF-8; escaped ones are tried in the other half of the runs
        return
    text, root = read(encoded, nodes_max=LIMIT)
    assert text == body
    assert value_of(root) == value
    locate(text, root)
    assert value_of(read_text(text, nodes_max=LIMIT)) == value
    assert text[root.start : root.end] == body


@given(any_text, st.booleans())
def test_places_of_strings_are_exact(value: str, ascii_only: bool) -> None:
    text = '[ 1, "é\\n", {"k" :' + json.dumps(value, ensure_ascii=ascii_only) + "}, [2, 3]]"
    root = read_text(text, nodes_max=LIMIT)
    node = root.items[2].members[0][1]
    assert json.loads(text[node.start : node.end]) == node.value == value


@given(st.data(), any_text, any_text)
def test_splicing_a_string_is_editing_its_value(data: st.DataObject, value: str, replacement: str) -> None:
    escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 and data.draw(st.booleans()) else quote(c) for c in value)
    text = f'{{"before": "x", "k": "{escaped}"}}'
    node = read_text(text, nodes_max=LIMIT).members[1][1]
    assert json.loads(f'"{escaped}"') == node.value == unquote(escaped)
    start = data.draw(st.integers(0, len(node.value)))
    end = data.draw(st.integers(start, len(node.value)))
    spliced = apply(text, splice_string(text, node, [Edit(start, end, replacement)]))
    expected = node.value[:start] + replacement + node.value[end:]
    # Halves of a surrogate pair that come to stand side by side read as one code point, in JSON as in UTF-16.
    assert json.loads(spliced)["k"].encode("utf-16", "surrogatepass") == expected.encode("utf-16", "surrogatepass")
    assert spliced.startswith('{"before": "x", "k": "' + escaped[: raw_offset(escaped, start)])
    assert spliced.endswith(escaped[raw_offset(escaped, end) :] + '"}')


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=6))
def test_overlapping_edits_become_one_over_all_they_cover(spans: list[tuple[int, int]]) -> None:
    edits = [Edit(a, a + n, "#") for a, n in spans]
    result = merged(edits)
    assert all(left.end <= right.start for left, right in itertools.pairwise(result))
    covered = {i for e in edits for i in range(e.start, e.end)}
    assert covered == {i for e in result for i in range(e.start, e.end)}


MALFORMED = [
    pytest.param(b"", id="empty"),
    pytest.param(b"   ", id="blank"),
    pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
    pytest.param(b'{"a": "\xff"}', id="invalid UTF-8"),
    pytest.param(b'{"a": "\xed\xa0\x80"}', id="raw lone surrogate"),
    pytest.param(b'{"a": "\xc0\xaf"}', id="overlong UTF-8"),
    pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
    pytest.param(b'{"a": "x\x00y"}', id="NUL in a string"),
    pytest.param(b'{"a": 1}\x00', id="NUL after the end"),
    pytest.param(b'{"a": "x\ny"}', id="raw line end in a string"),
    pytest.param(b'{"a": "x\x1fy"}', id="control character in a string"),
    pytest.param(b'{"a": 1} x', id="trailing garbage"),
    pytest.param(b'{"a": 1}{"a": 2}', id="two documents"),
    pytest.param(b'{"a": NaN}', id="NaN"),
    pytest.param(b'{"a": Infinity}', id="Infinity"),
    pytest.param(b'{"a": -Infinity, "b": "\\ud800"}', id="Infinity where the lenient reader looks"),
    pytest.param(b'{"a": 1e400}', id="beyond a double"),
    pytest.param(b"[1, 2, -1e999]", id="beyond a double in an array of numbers"),
    pytest.param(b'{"a": ' + b"9" * 400 + b"}", id="400 digits"),
    pytest.param(b'{"a": 0.' + b"1" * 400 + b"}", id="400 decimals"),
    pytest.param(b"[" + b"9" * 5000 + b"]", id="5,000 digits"),
    pytest.param(b'{"a": 01}', id="leading zero"),
    pytest.param(b'{"a": +1}', id="plus sign"),
    pytest.param(b'{"a": .5}', id="no leading digit"),
    pytest.param(b"{'a': 1}", id="single quotes"),
    pytest.param(b'{"a": 1,}', id="trailing comma"),
    pytest.param(b'{"a" 1}', id="no colon"),
    pytest.param(b"{a: 1}", id="bare key"),
    pytest.param(b'{"a": "\\x41"}', id="unknown escape"),
    pytest.param(b'{"a": "\\u12"}', id="short escape"),
    pytest.param(b'{"a": "x', id="open string"),
    pytest.param(b'{"a": [1, 2', id="open array"),
    pytest.param(b'{"a": [1, 2}', id="wrong bracket"),
    pytest.param(b'{"a": tru}', id="half a literal"),
    pytest.param(b'{"a": /* no */ 1}', id="comment"),
    pytest.param(b"[" * 65 + b"1" + b"]" * 65, id="65 levels"),
    pytest.param(b"[" * 10_000 + b"]" * 10_000, id="10,000 levels"),
    pytest.param(b"[" * 200_000, id="200,000 levels, open"),
    pytest.param(b'{"a":' * 10_000 + b'"\\ud800"' + b"}" * 10_000, id="10,000 levels where the lenient reader looks"),
    pytest.param(b"[" + b'"",' * LIMIT + b'""]', id="too many values"),
]


@pytest.mark.parametrize("body", MALFORMED)
def test_malformed_is_refused_without_quoting_it(body: bytes) -> None:
    start = time.process_time()
    with pytest.raises(JsonError) as caught:
        read(body, nodes_max=LIMIT)
    assert time.process_time() - start < 5  # far beyond what it takes; a quadratic reader takes minutes
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 60


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 64 + b'"x"' + b"]" * 64, id="64 levels"),
        pytest.param(b'{"a": "\\ud800", "b": [1, {"\\udc00": 1.5e300}]}', id="lone surrogates"),
        pytest.param(b'{"a": 12345678901234567890, "b": 0.1234567890123456789}', id="long but honest numbers"),
        pytest.param(b'\r\n\t {"a": [ ], "b": { }, "c": [ 1 , 2 ]} ', id="blanks everywhere"),
        pytest.param(b'{"a": [1, [2, 3], "x", {"b": 4}], "c": [-1.5e3]}', id="numbers beside other things"),
        pytest.param(b'"just a string"', id="a string"),
        pytest.param(b"-0.0", id="a number"),
    ],
)
def test_unusual_but_valid_is_read(body: bytes) -> None:
    _, root = read(body, nodes_max=LIMIT)
    assert value_of(root) == json.loads(body)


@given(st.dictionaries(any_text, json_values, min_size=1, max_size=4), st.data(), st.sampled_from([None, 1]))
def test_the_place_of_one_value_at_the_top(value: dict[str, Any], data: st.DataObject, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    key = data.draw(st.sampled_from(sorted(value)))
    place = place_of(text, key)
    assert place is not None
    assert json.loads(text[slice(*place)]) == value[key]
    assert place_of(text, "no such key of thirteen") is None


def test_both_values_of_a_repeated_key_are_kept() -> None:
    root = read_text('{"a": "x", "b": 1, "a": "y"}', nodes_max=LIMIT)
    assert [(key, node.value) for key, node in root.members] == [("a", "x"), ("b", "1"), ("a", "y")]
    assert root.repeated
