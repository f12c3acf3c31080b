"""What looks harmless (L4): strings and numbers that need no channel, because nothing readable fits in them.

- true, false and null;
- numbers of fewer than seven digits (no identifier that a policy names is that short), and what the tables call
  counts, times or vectors, if they look it;
- the strings that the tables call words, idents, names or opaque blobs, if they look it;
- keys that are plain identifiers: letters, digits, "_", "-" and ".", no five digits in a row however they are
  separated, so no address and no long number.
"""

from __future__ import annotations

import re

WORD = re.compile(r"[A-Za-z_][A-Za-z_.-]{0,31}")  # roles, types, finish reasons: no digits
# How keys of well-known services begin: an endpoint that calls its answer so has put a credential there.
_KEYLIKE = re.compile(
    r"(?:^|[^A-Za-z0-9])(?:[srp]k[-_](?:[a-z]+[-_])?[A-Za-z0-9]{16}|gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|npm_|hf_|AKIA|ASIA|AIza|eyJ)"
)
# Ids, judged only if they hold the shape of a card, an account, a phone or social security number or an address: most ids
# are random or hold a time, and a detector that takes one for a number would refuse an honest call.
IDENT = re.compile(
    r"(?:[a-z]{1,16}[_-])?(?=[0-9-]*[a-f])[0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{24})|"  # a UUID
    r"(?![0-9.:/_-]{7,}\Z)"
    r"(?!.*(?:[0-9]{12}|[0-9]{4}[._:/-][0-9]{4,6}[._:/-][0-9]{4}|//"
    r"|(?<![A-Za-z0-9])(?:[0-9]{3}[._-][0-9]{2,3}[._-][0-9]{4}(?![A-Za-z0-9])"
    r"|[A-Z]{2}[0-9]{2}-?[A-Z0-9]{4}-?[A-Z0-9]{4}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})))"
    r"[A-Za-z0-9_.:/-]{0,128}"
)
PLAIN = re.compile(r"(?!.*[0-9](?:[_.-]?[0-9]){4})[A-Za-z_][A-Za-z0-9_.-]{0,63}")
# Signatures and ciphertext in base64; judged if they are short, or hold digits that chance does not bring.
OPAQUE = re.compile(r"(?!.*[0-9]{3}[_-]?[0-9]{2,4}[_-]?[0-9]{4})[A-Za-z0-9+/=_-]{48,}")
SMALL_FLOAT = re.compile(r"-?[0-9]{1,6}(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,3})?")
COUNT = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")  # tokens, milliseconds, positions
EPOCH = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,9})?")
LONG_NUMBER = re.compile(r"[0-9](?:[.,]?[0-9]){6}")  # long enough to be an identifier
LONG_INTEGER = re.compile(r"(?<![0-9.])[0-9]{7}")
_WORD_EDGE = re.compile(r"\w")


def as_stated(value: str | None, *, word: bool = False) -> str | None:
    """What an answer says of itself, as a record may hold it (L7): an id or, if asked for, a word; else "odd"."""
    if not value:
        return None
    return value if (WORD if word else IDENT).fullmatch(value) and not _KEYLIKE.search(value) else "odd"


def is_small(number: str) -> bool:
    """Whether `small` takes a number, as it is written, for no text."""
    return SMALL_FLOAT.fullmatch(number) is not None


def word_seam(left: str, right: str) -> bool:
    """Whether two parts of a text, joined, make one word of the end of the first and the start of the second."""
    return bool(_WORD_EDGE.match(left[-1:]) and _WORD_EDGE.match(right))
