"""Write gitleaks.json from the rule file of gitleaks: `python -m filters.detectors.secrets.compile gitleaks.toml`.

Rules come in two forms. `assignment` rules are a name, an operator and a value in one frame that all of them share: only
name and value are kept, and the frame is code (assignments.py). `token` rules start with a literal: its forms are
listed as `prefixes`, so that one look says whether any rule could match. Rules that need more than one line or have no
literal are named in BY_CODE with the place that does their work. Run this when the rules are brought up to date.
"""

from __future__ import annotations

import hashlib
import json
import re
import re._parser as parser  # the library's own parser, private since 3.11
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

TARGET: Final = Path(__file__).with_name("gitleaks.json")
# Their work is done by code; what for.
BY_CODE: Final = {
    "pkcs12-file": "a path and no text",
    "generic-api-key": "assignments.py, with this rule's stop words",
    "curl-auth-header": "sentences.py (bearer, basic) and assignments.py",
    "curl-auth-user": "sentences.py",
    "hashicorp-tf-password": "assignments.py",
    "kubernetes-secret-yaml": "assignments.py, for each value",
    "nuget-config-password": "assignments.py",
    "private-key": "blocks.py",
    "freemius-secret-key": "assignments.py",
}
# Rules without a literal at their start: what tokens.py looks for in the shape of a token instead.
BY_MARK: Final = {
    "azure-ad-client-secret": "Q~",
    "facebook-access-token": "|",
    "hashicorp-tf-api-token": ".atlasv1.",
    "maxmind-license-key": "_mmk",
    "sidekiq-sensitive-url": "contribsys",
    "microsoft-teams-webhook": ".webhook.office.com",
}
_PRE: Final = r"[\w.-]{0,50}?"
_TAIL: Final = r"""(?:[ \t\w.-]{0,20})[\s'"]{0,3}"""
_OPERATOR: Final = r"""(?:=|>|:{1,3}=|\|\||:|=>|\?=|,)[\x60'"\s=]{0,5}"""
_END: Final = r"""(?:[\x60'"\s;]|\\[nr]|$)"""
_FRAME: Final = re.compile(
    r"(?P<fold>\(\?i\))?"
    + re.escape(_PRE)
    + r"(?P<inner>\(\?i:"
    + re.escape(_PRE)
    + r")?\(\?:(?P<name>.+)\)"
    + re.escape(_TAIL)
    + r"(?(inner)\))"
    + re.escape(_OPERATOR)
    + r"\((?P<value>.+)\)"
    + re.escape(_END)
)
# A token may stand in a sentence: whatever cannot be a part of it ends it, not blanks and quotes alone.
_BORDER: Final = r"(?![A-Za-z0-9])"
_PREFIXES_MAX: Final = 64
_PREFIX_CHARS: Final = 24
_PREFIXES_KEPT: Final = 12  # of one rule; of more than that the first characters are enough
_PREFIX_SHORT: Final = 4


def pythonic(regex: str) -> str:
    """A Go expression as Python reads it: flags in the middle become groups to the end of the group around them."""
    regex = regex.replace("[[:alnum:]]", "[A-Za-z0-9]").replace(r"\z", r"\Z")
    at = regex.find("(?i)", 1)
    while at > 0:
        depth = 0
        end = at + 4
        in_class = False
        while end < len(regex):
            char = regex[end]
            if char == "\\":
                end += 1
            elif in_class:
                in_class = char != "]"
            elif char == "[":
                in_class = True
            elif char == "(":
                depth += 1
            elif char == ")":
                if depth == 0:
                    break
                depth -= 1
            end += 1
        regex = regex[:at] + "(?i:" + regex[at + 4 : end] + ")" + regex[end:]
        at = regex.find("(?i)", 1)
    return regex


def prefixes(regex: str) -> list[str]:
    """The literals of which every match starts with one, or [""] where there are none."""
    found = {"".join(p) for p, _ in _starts(list(parser.parse(regex)))}
    if len(found) > _PREFIXES_KEPT:
        found = {one[:_PREFIX_SHORT] for one in found}
    return sorted(one for one in found if not any(one != other and one.startswith(other) for other in found))


def _starts(items: list[Any]) -> list[tuple[tuple[str, ...], bool]]:
    """(characters, whether the expression may go on with a literal behind them)."""
    done: list[tuple[tuple[str, ...], bool]] = [((), True)]
    for op, value in items:
        kind = str(op)
        if kind == "AT":
            continue
        if not any(more for _, more in done):
            break
        nexts: list[tuple[tuple[str, ...], bool]]
        if kind == "LITERAL":
            nexts = [((chr(value),), True)]
        elif kind == "SUBPATTERN":
            nexts = _starts(list(value[3]))
        elif kind == "BRANCH":
            nexts = [one for branch in value[1] for one in _starts(list(branch))]
        elif kind == "IN" and all(str(o) == "LITERAL" for o, _ in value):
            nexts = [((chr(v),), True) for _, v in value]
        elif kind == "MAX_REPEAT" and value[0] == 0 and value[1] == 1:
            nexts = [((), True), *_starts(list(value[2]))]
        else:
            nexts = [((), False)]
        grown = [
            ((*head, *tail), on and len(head) + len(tail) < _PREFIX_CHARS)
            for head, more in done
            if more
            for tail, on in nexts
        ]
        kept = [one for one in done if not one[1]]
        if len(grown) + len(kept) > _PREFIXES_MAX:
            done = [(head, False) for head, _ in done]
            break
        done = kept + grown
    return done


def _rule(rule: dict[str, Any]) -> list[dict[str, Any]]:
    base: dict[str, Any] = {"id": rule["id"]}
    if "entropy" in rule:
        base["entropy"] = float(rule["entropy"])
    allowed = [r for a in rule.get("allowlists", []) for r in a.get("regexes", []) if a.get("regexTarget") is None]
    if allowed:
        base["allowed"] = [pythonic(r) for r in allowed]
    regex: str = rule["regex"]
    parts = regex.split(r"|\b(ATATT3")
    if len(parts) == 2:
        framed = _assignment(base, parts[0])
        assert framed is not None
        return [framed, _token({**base, "kind": "token"}, r"\b(ATATT3" + parts[1])]
    framed = _assignment(base, regex)
    return [framed] if framed is not None else [_token({**base, "kind": "token"}, regex)]


def _assignment(base: dict[str, Any], regex: str) -> dict[str, Any] | None:
    match = _FRAME.fullmatch(regex)
    if match is None:
        return None
    value = pythonic(match["value"])
    name = pythonic(match["name"])
    if match["fold"]:
        value = f"(?i:{value})"
    words = sorted({word.lower() for word in prefixes(f"(?:{name})")})
    return {**base, "kind": "assignment", "words": words, "name": f"(?i:{name})", "value": value}


def _token(base: dict[str, Any], regex: str) -> dict[str, Any]:
    regex = pythonic(regex.replace(_END, _BORDER).replace(r"""(?:[\x60'"\s;]|\\[nr]|$|\b)""", _BORDER))
    if base["id"] == "sourcegraph-access-token":  # a bare hash counts beside the name alone (assignments.py)
        regex = regex.replace(r"|[a-fA-F0-9]{40})", ")")
    if base["id"] == "facebook-access-token":  # an encoded one is looked for as it is written
        regex = regex.replace(r"(\||%)", r"(\|)")
    if base["id"] in BY_MARK:
        return {**base, "regex": regex, "mark": BY_MARK[base["id"]]}
    return {**base, "regex": regex, "prefixes": prefixes(regex)}


def build(source: bytes) -> dict[str, Any]:
    """The content of the file."""
    data = tomllib.loads(source.decode())
    generic = next(r for r in data["rules"] if r["id"] == "generic-api-key")
    stop_words = sorted({w for a in generic["allowlists"] for w in a.get("stopwords", [])})
    names = next(a for a in generic["allowlists"] if a.get("regexTarget") == "match")["regexes"][0]
    # Not linear, and what it allows is a coordinate of a library, which has no assignment's form here.
    names = names.replace("[a-z0-9-]*?api[a-z0-9-]*?:jar:|", "")
    names = names[: names.index("|(?-i:(?:[A-Z_]+=")] + ")"
    rules = [one for rule in data["rules"] if rule["id"] not in BY_CODE for one in _rule(rule)]
    return {
        "source": "gitleaks v8.30.1 config/gitleaks.toml sha256:" + hashlib.sha256(source).hexdigest(),
        "rules": rules,
        "allowed": [pythonic(r) for r in data["allowlist"]["regexes"]],
        "names_allowed": names,
        "stop_words": stop_words,
    }


def render(data: dict[str, Any]) -> str:
    """One rule a line, so that new rules can be read as a difference."""
    rules = ",\n".join("    " + json.dumps(rule) for rule in data["rules"])
    rest = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in data.items() if k != "rules")
    return '{\n  "rules": [\n' + rules + "\n  ],\n" + rest + "\n}\n"


def main() -> None:
    """Write the file."""
    TARGET.write_text(render(build(Path(sys.argv[1]).read_bytes())))


if __name__ == "__main__":
    main()
