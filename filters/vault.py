"""The vault: one conversation's values and what stands for them, in memory and in one task.

A value gets one placeholder for as long as the conversation lives: a tag (`<PERSON_1>`) or a surrogate of the same shape.
Numbers are counted by label and never given twice, whatever was forgotten since. What may be restored is narrow:

- a value that the application wrote (system text, tool schemas) never, nor where a user repeats it;
- a placeholder that a prompt held before it was issued never: it is forged, and its number is passed over;
- unless the vault is `trusting`, only values that stand in this call's own prompt.

The last rule is for conversations that are told apart by their first message alone: two users who both begin with "Hi" may
share a vault, and must not get each other's values by writing `<PERSON_1>`.

At rest a vault is sealed by AES-256-GCM and bound to its place: it opens under no other tenant, caller or conversation.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from filters.finding import UndecidedError
from filters.restore import Kind, Placeholder, Restorer
from filters.surrogates import candidate, lexicon
from filters.view import fold

Style = Literal["tag", "realistic"]

# Our choice: a conversation of a thousand turns names fewer. The longest unused go first; one call may use no more.
ENTRIES_MAX: Final = 2_048
VALUE_BYTES_MAX: Final = 8_192  # a private key of 8,192 bits in PEM is 6,400
DUMP_BYTES_MAX: Final = 512 << 10  # 2,048 values of 150 bytes with their overhead, and room
LABEL_CHARS_MAX: Final = 48
NUMBER_MAX: Final = 999_999  # of a tag: seven digits and more are nobody's
FORGED_MAX: Final = 2_048  # forged tags that are remembered one by one; beyond it numbers begin behind the highest
SEEN_WORDS_MAX: Final = (
    262_144  # different words of one call's texts, about 25 MB: more than a prompt of the usual limit holds
)
_ATTEMPTS: Final = 32  # at a surrogate that nothing else is like; then a tag
_ENTRIES_BYTES_MAX: Final = DUMP_BYTES_MAX - (160 << 10)  # the rest is for FORGED_MAX of the longest labels
_ENTRY_BYTES: Final = 40  # of a dump, beside the texts of an entry: marks, kind and number
_NORMAL_CHARS_MAX: Final = 128  # longer forms are kept as a digest, inside the sealed dump
_VERSION: Final = 1
_NONCE_BYTES: Final = 12  # NIST SP 800-38D, section 5.2.1.1

_WORDS: Final = re.compile(r"[^\W_]+")
# An identifier whose separators do not count, and what only looks like one: dots and slashes stay, 1.12.2024 and 11.2.2024 are
# two dates, and so are those with dashes.
_SEPARATED: Final = re.compile(r"[0-9A-Za-z +()\-\u2010-\u2015]*")
_DATED: Final = re.compile(r"[0-9]{4}[ -][0-9]{1,2}[ -][0-9]{1,2}|[0-9]{1,2}[ -][0-9]{1,2}[ -][0-9]{4}")
_DIGITS_MIN: Final = 6
_HAN_RUNS: Final = re.compile(r"[\u3400-\u9fff·]{2,}")
_NUMBER_RUNS: Final = re.compile(r"[0-9](?:[ ().\-/]{0,3}[0-9]){4,40}")
_TAG: Final = re.compile(rb"<([A-Z_]{1,49})([0-9]{1,6})>")  # as they are issued
# What could be read as a tag (placeholders.py): a label and a number behind brackets of any kind, or bare.
_GAPS: Final = rb"\s_\-\\*`:#"
_LABEL: Final = rb"[%b]{0,6}+([A-Za-z]++(?:[%b]{1,6}+[A-Za-z]++){0,24}+)[%b]{0,6}+([0-9]{1,6}+)(?![0-9])" % (
    _GAPS,
    _GAPS,
    _GAPS,
)
_FORGED: Final = (
    re.compile(rb"[<\[{(\x02;]" + _LABEL),
    re.compile(rb"\\u003c" + _LABEL, re.IGNORECASE),
    re.compile(rb"([A-Z]++(?:[_\\]{1,6}+[A-Z]++){0,24}+)[_\\]{1,6}+([0-9]{1,6}+)(?![0-9])"),
)


class SealError(Exception):
    """What should be a sealed vault is broken, or was sealed for another place."""


class Seal:
    """AES-256-GCM under one conversation's key. `place` names tenant, caller and conversation; it is not stored."""

    def __init__(self, key: bytes, place: bytes) -> None:
        self._cipher = AESGCM(key)
        self._place = place

    def close(self, data: bytes) -> bytes:
        """Sealed. The nonce is random: one key closes far fewer than 2**32 times (SP 800-38D, section 8.3)."""
        nonce = os.urandom(_NONCE_BYTES)
        return bytes((_VERSION,)) + nonce + self._cipher.encrypt(nonce, data, self._place)

    def open(self, sealed: bytes) -> bytes:
        """Opened. Raises SealError."""
        if len(sealed) < 1 + _NONCE_BYTES or sealed[0] != _VERSION:
            raise SealError("not a sealed vault")
        try:
            return self._cipher.decrypt(sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], self._place)
        except InvalidTag:
            raise SealError("a vault that is broken or another's") from None


@dataclass(slots=True)
class _Entry:
    label: str
    normal: str = field(repr=False)
    text: str  # the placeholder
    value: str = field(repr=False)
    kind: Kind
    one_way: bool
    number: int  # of a tag; else 0

    @property
    def cost(self) -> int:
        """About as many bytes as in a dump."""
        return sum(map(_bytes, (self.label, self.normal, self.text, self.value))) + _ENTRY_BYTES


_Key = tuple[str, str]  # label, normal form


class Pseudonyms:
    """One conversation's mapping. Not for two tasks at once."""

    def __init__(self, key: bytes, *, style: Style = "tag", trusting: bool = False) -> None:
        """`key` (at most 64 bytes, the tenant's own) chooses surrogates. `trusting`: the caller named the conversation."""
        self._key = key
        self._style = style
        self._trusting = trusting
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()  # the longest unused first
        self._tags: dict[tuple[str, int], _Key] = {}
        self._counters: dict[str, int] = {}
        self._forged: set[tuple[str, int]] = set()
        self._floor = 0
        self._one_way: set[str] = set()
        self._by_value: dict[str, set[_Key]] = {}
        self._used_words: set[str] = set()  # of surrogates
        self._shown: set[str] = set()  # surrogates without separators
        self._shown_text = "\n"  # the same in one text
        self._shown_lengths: set[int] = set()
        self._touched: set[_Key] = set()
        self._new: dict[_Key, None] = {}  # in order
        self._size = 0
        self._seen_words: set[str] = set()
        self._seen_numbers: set[str] = set()
        self._seen_han: list[str] = []
        self._unknown: set[tuple[str, int]] = set()
        self.changed = False  # since it was made or loaded
        self.until = 0.0  # when the dump it was loaded from expires, in seconds since the epoch

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def issued(self) -> int:
        """How many different values of this call have a placeholder."""
        return len(self._touched)

    @property
    def unknown(self) -> int:
        """How many tags stand in this call's texts that are nobody's here: forged, or issued by a vault that is lost."""
        return len(self._unknown)

    def reserve(self, text: str) -> None:
        """Takes note of one of the prompt's texts; all of them before the first `name`.

        Tags in it that were not issued here are forged: they never resolve. Surrogates will not be like anything in it.
        Raises UndecidedError where there is more than a call may hold.
        """
        view = fold(text)
        for pattern in _FORGED:
            for found in pattern.finditer(view):
                self._forge(_label_letters(found[1]), int(found[2]))
        for found in _TAG.finditer(view):
            tag = _label_letters(found[1]), int(found[2])
            if tag not in self._tags and len(self._unknown) < FORGED_MAX:
                self._unknown.add(tag)
        if self._style == "realistic":
            self._note_words(text)

    def _forge(self, label: str, number: int) -> None:
        if len(label) > LABEL_CHARS_MAX or number <= self._floor:
            return
        if (label, number) in self._tags or (label, number) in self._forged:
            return
        self.changed = True
        if len(self._forged) < FORGED_MAX:
            self._forged.add((label, number))
        else:
            self._floor = number

    def _note_words(self, text: str) -> None:
        self._seen_words.update(_WORDS.findall(text.casefold()))
        if len(self._seen_words) > SEEN_WORDS_MAX:
            raise UndecidedError("more different words than surrogates can be told apart from", limit=True)
        self._seen_numbers.update(map(squeeze, _NUMBER_RUNS.findall(fold(text).decode("latin-1"))))
        han = _HAN_RUNS.findall(text)
        if han:
            self._seen_han.append("\n".join(han))

    def name(self, entity: str, value: str, *, restorable: bool) -> str:
        """What stands for a value. `restorable` is false for what the application wrote, and then stays so.

        Raises UndecidedError where a bound is hit.
        """
        if len(value.encode("utf-8", "surrogatepass")) > VALUE_BYTES_MAX:
            raise UndecidedError(f"a value of more than {VALUE_BYTES_MAX} bytes to be kept", limit=True)
        key = label_of(entity), normal(value)
        squeezed = squeeze(value) or value
        if not restorable and squeezed not in self._one_way:
            self._one_way.add(squeezed)
            for other in self._by_value.get(squeezed, ()):
                self._entries[other].one_way = True
                self.changed = True
        entry = self._entries.get(key)
        if entry is None:
            text, kind, number = self._choose(entity, key, value)
            entry = _Entry(*key, text, value, kind, squeezed in self._one_way, number)
            self._make_room(entry.cost)
            self._insert(key, entry)
            self._new[key] = None
            self.changed = True
        else:
            self._entries.move_to_end(key)
        self._touched.add(key)
        return entry.text

    def _choose(self, entity: str, key: _Key, value: str) -> tuple[str, Kind, int]:
        label, normalized = key
        if self._style == "realistic":
            for attempt in range(_ATTEMPTS):
                made = candidate(self._key, entity, value, normalized, attempt)
                if made is None:
                    break
                if self._free(made.text, made.kind, value):
                    return made.text, made.kind, 0
        squeezed = _label_letters(label.encode())
        number = max(self._counters.get(squeezed, 0), self._floor) + 1
        while (squeezed, number) in self._forged:
            number += 1
        if number > NUMBER_MAX:
            raise UndecidedError("all numbers of a placeholder are used up", limit=True)
        return f"<{label}_{number}>", Kind.TAG, number

    def _free(self, text: str, kind: Kind, value: str) -> bool:
        """Whether a surrogate is like nothing real that was seen, and like no other surrogate nor a part of one."""
        squeezed = squeeze(text)
        if len(squeezed) < 2 or squeezed in self._by_value or squeezed in self._seen_numbers:
            return False
        words = set(_WORDS.findall(text.casefold()))
        if words <= self._seen_words:
            return False
        known = lexicon()
        for word in words.difference(_WORDS.findall(value.casefold())):
            if (word in known or (kind is Kind.NAME and len(word) > 2)) and (
                word in self._used_words or word in self._seen_words
            ):
                return False
        if any(run in seen for run in _HAN_RUNS.findall(text) for seen in self._seen_han):
            return False
        if squeezed in self._shown_text:
            return False
        return not any(
            squeezed[at : at + length] in self._shown
            for length in self._shown_lengths
            for at in range(len(squeezed) - length + 1)
        )

    def _make_room(self, cost: int) -> None:
        while len(self._entries) >= ENTRIES_MAX or self._size + cost > _ENTRIES_BYTES_MAX:
            oldest = next(iter(self._entries), None)
            if oldest is None or oldest in self._touched:
                raise UndecidedError("more values in one call than a conversation may hold", limit=True)
            self._remove(oldest)

    def _insert(self, key: _Key, entry: _Entry) -> None:
        self._entries[key] = entry
        self._size += entry.cost
        value = squeeze(entry.value) or entry.value
        self._by_value.setdefault(value, set()).add(key)
        if entry.one_way:
            self._one_way.add(value)
        if entry.kind is Kind.TAG:
            squeezed = _label_letters(entry.label.encode())
            self._tags[squeezed, entry.number] = key
            self._counters[squeezed] = max(self._counters.get(squeezed, 0), entry.number)
        else:
            self._used_words.update(_WORDS.findall(entry.text.casefold()))
            shown = squeeze(entry.text)
            self._shown.add(shown)
            self._shown_text += shown + "\n"
            self._shown_lengths.add(len(shown))

    def _remove(self, key: _Key) -> None:
        """Forgets a value. Its tag's number is not given again; words of its surrogate stay used until the next load."""
        entry = self._entries.pop(key)
        self._size -= entry.cost
        value = squeeze(entry.value) or entry.value
        self._by_value[value].discard(key)
        if not self._by_value[value]:
            del self._by_value[value]
        if entry.kind is Kind.TAG:
            del self._tags[_label_letters(entry.label.encode()), entry.number]
        self.changed = True

    def placeholders(self) -> Iterator[Placeholder]:
        """What may be restored now."""
        for key, entry in self._entries.items():
            if entry.one_way or not (self._trusting or key in self._touched):
                continue
            kind = entry.kind
            # A word of the surrogate that somebody real has by now says nothing alone.
            if kind is Kind.NAME:
                own = set(_WORDS.findall(entry.text.casefold())).difference(_WORDS.findall(entry.value.casefold()))
                if not own.isdisjoint(self._seen_words):
                    kind = Kind.WORDS
            yield Placeholder(entry.text, entry.value, kind)

    def restorer(self) -> Restorer | None:
        """A snapshot of what may be restored, taken when the whole prompt has been named; None if nothing may be."""
        placeholders = list(self.placeholders())
        return Restorer(placeholders) if placeholders else None

    def dump(self, seal: Seal, *, until: float) -> bytes:
        """The sealed form, which expires at `until` (seconds since the epoch)."""
        entries = [
            [e.label, e.normal, e.text, e.value, e.kind.value, int(e.one_way), e.number] for e in self._entries.values()
        ]
        data = {
            "until": until,
            "floor": self._floor,
            "counters": self._counters,
            "forged": sorted(self._forged),
            "entries": entries,
        }
        dumped = _json(data)
        if len(dumped) > DUMP_BYTES_MAX:
            raise UndecidedError("a conversation's values are more than may be stored", limit=True)
        return seal.close(dumped)

    @classmethod
    def load(
        cls, sealed: bytes, seal: Seal, key: bytes, *, now: float, style: Style = "tag", trusting: bool = False
    ) -> Pseudonyms:
        """The mapping that `dump` sealed. Raises SealError for what is broken, another's, or expired at `now`."""
        self = cls(key, style=style, trusting=trusting)
        opened = seal.open(sealed)
        try:
            data: dict[str, Any] = json.loads(opened.decode("utf-8", "surrogatepass"))
            self.until = data["until"]
            self._floor = data["floor"]
            self._counters = data["counters"]
            self._forged = {(label, number) for label, number in data["forged"]}
            for label, form, text, value, kind, one_way, number in data["entries"]:
                self._insert((label, form), _Entry(label, form, text, value, Kind(kind), bool(one_way), number))
        except (ValueError, KeyError, TypeError) as error:
            raise SealError(f"a vault of another version ({type(error).__name__})") from None
        if self.until <= now:
            raise SealError("a vault that has expired")
        return self

    def _clashes(self, other: Pseudonyms) -> bool:
        for key in other._touched:
            entry = other._entries[key]
            known = self._entries.get(key)
            if known is not None:
                if known.text != entry.text:
                    return True
            elif key not in other._new:
                return True  # forgotten meanwhile
            elif entry.kind is not Kind.TAG:
                if not self._free(entry.text, entry.kind, entry.value):
                    return True
            else:
                tag = _label_letters(entry.label.encode()), entry.number
                # A number up to the counter was issued here, perhaps to a value that was forgotten since.
                if entry.number <= max(self._counters.get(tag[0], 0), self._floor) or tag in self._forged:
                    return True
        return any(tag in self._tags for tag in other._forged)

    def adopt(self, other: Pseudonyms) -> bool:
        """Takes over what `other` issued in this call, on top of what this one was loaded with.

        False if that would give a number, a surrogate or a value a second meaning; this mapping is then of no more use.
        """
        if self._clashes(other):
            return False
        self._touched |= other._touched
        for key in other._new:
            entry = other._entries[key]
            if key not in self._entries:
                self._make_room(entry.cost)
                self._insert(key, entry)
                self._new[key] = None
        self._floor = max(self._floor, other._floor)
        for label, number in other._forged:
            self._forge(label, number)
        self._one_way |= other._one_way
        for squeezed in other._one_way:
            for key in self._by_value.get(squeezed, ()):
                self._entries[key].one_way = True
        self._seen_words, self._seen_numbers, self._seen_han = other._seen_words, other._seen_numbers, other._seen_han
        self._unknown = other._unknown
        self.changed = True
        return True


def _bytes(text: str) -> int:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return len(text)
    return len(_json(text))


def _json(data: object) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def label_of(entity: str) -> str:
    """The label of an entity's tags: capitals and underscores; a digit at its end would run into the number."""
    return re.sub(r"[^A-Z]+", "_", entity.upper()).strip("_")[:LABEL_CHARS_MAX].strip("_") or "VALUE"


def _label_letters(label: bytes) -> str:
    """What tells two labels apart, whatever the case and the separators: tags of A_BC and AB_C share their numbers."""
    return label.lower().translate(None, _NO_LETTERS).decode("ascii")


_NO_LETTERS: Final = bytes(byte for byte in range(256) if byte not in b"abcdefghijklmnopqrstuvwxyz")


def squeeze(text: str) -> str:
    """Letters and digits alone, without case."""
    folded = text.casefold()
    return folded if folded.isalnum() else "".join(_WORDS.findall(folded))


def normal(value: str) -> str:
    """What makes two spellings one value: case, inner blanks, and in identifiers of digits the separators."""
    digits = sum("0" <= c <= "9" for c in value)
    if digits >= _DIGITS_MIN and _SEPARATED.fullmatch(value) and not _DATED.fullmatch(value):
        form = squeeze(value)
    else:
        form = " ".join(value.casefold().split())
    if len(form) <= _NORMAL_CHARS_MAX:
        return form
    return hashlib.blake2b(form.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
