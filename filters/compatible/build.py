"""Write recognizers.json and english.json: `python -m filters.compatible.build`.

A worker imports neither presidio nor spaCy nor tldextract; what they know is compiled here to data: recognizers with their
expressions, the public suffix list, classes of characters as the `regex` package sees them, formats of IBANs, which
short numbers the German plan takes for valid, and the rules of spaCy's English tokenizer. Run this when a pinned
version changes; a test compares the files with what this module would write.
"""

from __future__ import annotations

import importlib.metadata
import re._constants as codes  # the library's own parser, private since Python 3.11; a build-time tool
import re._parser as parser
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from filters.compatible.data import ENGLISH, RECOGNIZERS
from filters.compiled import render

_SPECIAL: Final = "\u0130\u0131\u017f\u212a"  # what IGNORECASE lets stand for i, I, s and k
_PHONES: Final = "PhoneRecognizer"


def build() -> dict[str, Any]:
    """The content of recognizers.json."""
    from presidio_analyzer.recognizer_registry import RecognizerRegistry

    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    recognizers: list[dict[str, Any]] = []
    labels: list[str] = []
    listed: Any = registry.recognizers
    for recognizer in listed:
        kind = type(recognizer).__name__
        if kind == "SpacyRecognizer":
            continue
        patterns: list[Any] = getattr(recognizer, "patterns", [])
        if kind == "UrlRecognizer":
            labels = _labels(patterns[0].regex)
        recognizers.append(
            {
                "name": recognizer.name,
                "entity": recognizer.supported_entities[0],
                "context": list(recognizer.context or []),
                "flags": int(getattr(recognizer, "global_regex_flags", 0)),
                "score": getattr(recognizer, "SCORE", None) if kind == _PHONES else None,
                "patterns": [
                    {"name": p.name, "score": p.score}
                    | (
                        {}
                        if kind == "UrlRecognizer"
                        else {"regex": p.regex, "shape": shape_of(p.regex), "needs": needs_of(p.regex)}
                    )
                    for p in patterns
                ],
            }
        )
    words, digits, spaces = _classes()
    return {
        "source": "presidio-analyzer " + importlib.metadata.version("presidio-analyzer"),
        "recognizers": sorted(recognizers, key=lambda r: str(r["name"])),
        "url_labels": labels,
        "suffixes": _suffixes(),
        "idna": _idna(),
        "iban_formats": _iban_formats(),
        "short_numbers": _short_numbers(),
        "plans": _plans(),
        "words": words,
        "digits": digits,
        "spaces": spaces,
    }


def _labels(regex: str) -> list[str]:
    """The top-level domains of the URL expression, in the order in which it tries them."""
    import re

    listed = re.findall(r"\(\?:([a-z]+)\)", regex)
    first = re.search(r"\(\?:\(\?:com\)", regex)
    if first is None or not listed or listed[0] != "com":
        raise ValueError("the URL expression is not built as it was")
    return list(dict.fromkeys(listed))


def _suffixes() -> list[str]:
    import tldextract

    extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    return sorted(extract.tlds)


def _idna() -> dict[str, str]:
    """The labels of suffixes that are not ASCII, by their IDNA form."""
    import idna

    labels = {label for suffix in _suffixes() for label in suffix.split(".") if not label.isascii()}
    return dict(sorted((idna.encode(label).decode(), label) for label in labels))


def _iban_formats() -> dict[str, str]:
    from presidio_analyzer.predefined_recognizers.generic.iban_patterns import regex_per_country

    return dict(sorted(regex_per_country.items()))


def _short_numbers() -> dict[str, list[str]]:
    """By count of digits: how the numbers of four to six digits begin that the German plan, and no other, takes for valid."""
    from rphonenumbers import PhoneNumberMatcher

    heads: dict[str, list[str]] = {}
    for digits, head in ((4, 4), (5, 4), (6, 4)):
        valid = {
            number[:head]
            for number in (str(n).zfill(digits) for n in range(10**digits))
            if PhoneNumberMatcher(number, "DE", 1, 1).has_next()
        }
        heads[str(digits)] = sorted(valid)
    return heads


# How each region's prefix for calls inside it is written at most: a carrier may follow in Brazil. The check of the
# prefixes below says when the plans change so that this does not hold.
_TRUNKS: Final = {
    "US": ("1", "1"), "GB": ("0|180020", "(?:0|180020)"), "DE": ("0", "0"), "FR": ("0", "0"), "IL": ("0", "0"), "IN": ("0", "0"),
    "BR": (r"(?:0|90)(?:(1[245]|2[1-35]|31|4[13]|[56]5|99)(\d{10,11}))?", r"(?:0|90)(?:\d\d)?"),
}  # fmt: skip


_KINDS: Final = (
    "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "pager", "uan", "voicemail",
)  # fmt: skip


def _plans() -> dict[str, list[str]]:
    """By region, two expressions for runs of seven digits and more: a coarse one, and one for all that could be valid there.

    The second leaves out what is written without the prefix for calls inside the region where the matcher demands it.
    """
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

    plans = {}
    for region, (prefix, trunk) in _TRUNKS.items():
        metadata: Any = PhoneMetadata.metadata_for_region(region)
        if metadata.national_prefix_for_parsing != prefix or metadata.national_prefix_transform_rule not in (
            None,
            "\\2",
        ):
            raise ValueError(f"the prefix of {region} is not what it was")
        code = metadata.country_code
        sharing: list[Any] = [PhoneMetadata.metadata_for_region(other) for other in COUNTRY_CODE_TO_REGION_CODE[code]]
        coarse = _any(other.general_desc.national_number_pattern for other in sharing)
        kinds = (getattr(other, kind) for other in sharing for kind in _KINDS)
        valid = _any(
            kind.national_number_pattern for kind in kinds if kind is not None and kind.national_number_pattern
        )
        abroad = rf"(?:{metadata.international_prefix})\d+"
        # The code and the prefix may both stand before a number, and the prefix twice; or what looks like one; or neither.
        marks = rf"(?:{code}|{trunk})"
        plans[region] = [
            rf"{abroad}|{marks}{{0,3}}{coarse}",
            rf"{abroad}|(?:{marks}{{1,3}}|(?={trunk})|{_without_trunk(metadata)}){valid}",
        ]
    return plans


def _any(expressions: Iterable[str]) -> str:
    return "(?:" + "|".join(dict.fromkeys("".join(one.split()) for one in expressions)) + ")"


def _without_trunk(metadata: Any) -> str:
    """An expression for where a number starts that may be written without the prefix for calls inside its region."""
    from phonenumbers import phonenumberutil

    demanding: list[str] = []
    free: list[str] = []
    for one in metadata.number_format:
        rule = one.national_prefix_formatting_rule
        first_group_only: Any = phonenumberutil._formatting_rule_has_first_group_only
        demands = rule and not one.national_prefix_optional_when_formatting and not first_group_only(rule)
        heads = one.leading_digits_pattern
        (demanding if demands else free).append((f"(?={heads[-1]})" if heads else "") + one.pattern + r"\Z")
    if not demanding:
        return ""
    return f"(?:(?!{_any(demanding)})|(?={_any(free)}))" if free else f"(?!{_any(demanding)})"


def _classes() -> tuple[list[int], list[int], list[int]]:
    """Ranges (first, last, first, last, ...) of what is not ASCII: word characters that are no digits, digits, spaces."""
    import regex

    every = "".join(map(chr, range(0x80, 0x110000)))

    def ranges(expression: str, but: str = "") -> list[int]:
        listed: list[int] = []
        for match in regex.finditer(expression, every):
            code = match.start() + 0x80
            if chr(code) in but:
                continue
            if listed and listed[-1] == code - 1:
                listed[-1] = code
            else:
                listed += (code, code)
        return listed

    return ranges(r"(?!\d)\w", _SPECIAL), ranges(r"\d"), ranges(r"\s")


def shape_of(regex: str) -> str:
    """An expression over shapes (data.py) that finds something in the shape of every text that `regex` matches in."""
    tree = parser.parse(regex)
    groups: dict[int, Any] = {}
    return _shape(tree, groups)


def _image(code: int) -> str:
    char = chr(code)
    if char.isalpha():
        return "a"
    return "0" if char.isdigit() else char


def _shape(tree: Any, groups: dict[int, Any]) -> str:
    pieces: list[str] = []
    for op, value in tree:
        if op is codes.LITERAL:
            pieces.append(parser_escape(_image(value)))
        elif op is codes.IN:
            pieces.append(_set(value))
        elif op in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            low, high, inner = value
            top = "" if high is codes.MAXREPEAT else str(high)
            body = _shape(inner, groups)
            pieces.append(f"(?:{body}){{{low},{top}}}" if len(body) > 1 else f"{body}{{{low},{top}}}")
        elif op is codes.SUBPATTERN:
            number, _, _, inner = value
            if number is not None:
                groups[number] = inner
            pieces.append(f"(?:{_shape(inner, groups)})")
        elif op is codes.BRANCH:
            branches = dict.fromkeys(_shape(branch, groups) for branch in value[1])
            pieces.append("(?:" + "|".join(branches) + ")")
        elif op is codes.GROUPREF:
            pieces.append(f"(?:{_shape(groups[value], groups)})")
        elif op is codes.ANY or op is codes.NOT_LITERAL:
            pieces.append("(?s:.)")
        elif op not in (codes.AT, codes.ASSERT, codes.ASSERT_NOT):
            raise ValueError(f"an expression uses {op}, which has no shape yet")
    return "".join(pieces)


def _set(items: Any) -> str:
    images: set[str] = set()
    for op, value in items:
        if op is codes.NEGATE:
            return "(?s:.)"
        if op is codes.LITERAL:
            images.add(_image(value))
        elif op is codes.RANGE:
            images |= {_image(code) for code in range(value[0], value[1] + 1)}
        elif op is codes.CATEGORY and value is codes.CATEGORY_DIGIT:
            images.add("0")
        elif op is codes.CATEGORY and value is codes.CATEGORY_WORD:
            images |= {"a", "0", "_", "\u00aa"}
        else:
            return "(?s:.)"
    listed = "".join(parser_escape(image) for image in sorted(images))
    return listed if len(images) == 1 else f"[{listed}]"


def needs_of(regex: str) -> str:
    """The marks `-/.:` that stand in every text that `regex` matches."""
    return "".join(sorted(_needs(parser.parse(regex))))


def _needs(tree: Any) -> set[str]:
    found: set[str] = set()
    for op, value in tree:
        if op is codes.LITERAL and chr(value) in "-/.:":
            found.add(chr(value))
        elif op in (codes.MAX_REPEAT, codes.MIN_REPEAT) and value[0] > 0:
            found |= _needs(value[2])
        elif op is codes.SUBPATTERN:
            found |= _needs(value[3])
        elif op is codes.BRANCH:
            found |= set.intersection(*(_needs(branch) for branch in value[1]))
    return found


def parser_escape(char: str) -> str:
    """A character as an expression has it, inside a set or out of it."""
    return char if char.isalnum() else "\\" + char


def english() -> dict[str, Any]:
    """The content of english.json: spaCy's blank English tokenizer."""
    import spacy

    language = spacy.blank("en")
    tokenizer: Any = language.tokenizer
    if tokenizer.token_match is not None:
        raise ValueError("the tokenizer has a token_match, which english.py does not know")
    rules = {text: [token[65] for token in tokens] for text, tokens in tokenizer.rules.items()}
    matched = [
        text
        for text in sorted(rules)
        if " " in text or tokenizer.find_prefix(text) or tokenizer.find_infix(text) or tokenizer.find_suffix(text)
    ]
    return {
        "source": "spacy " + importlib.metadata.version("spacy"),
        "prefix": tokenizer.prefix_search.__self__.pattern,
        "suffix": tokenizer.suffix_search.__self__.pattern,
        "infix": tokenizer.infix_finditer.__self__.pattern,
        "url": tokenizer.url_match.__self__.pattern,
        "rules": dict(sorted(rules.items())),
        "matched": matched,
        "stop_words": sorted(language.Defaults.stop_words),
    }


def main() -> None:
    """Write the files."""
    here = Path(__file__).parent
    (here / RECOGNIZERS).write_text(render(build()))
    (here / ENGLISH).write_text(render(english()))


if __name__ == "__main__":
    main()
