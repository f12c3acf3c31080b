"""Keyed digests: how a record can tell that two contents are the same without telling what they are (L7).

A plain hash of a phone number is found by hashing all phone numbers; HMAC-SHA256 under a key that only the operator holds
is not. The keys are `DATA/keys/digest-<n>.key`, shared by all workers; the newest makes digests, and its number goes before
each (`k2:...`), so that keys rotate: digests of one period cannot be joined with those of another except by whoever holds
both keys. When a key began to be used stands in `digest-<n>.json` beside it, which a copy of the folder keeps. Whoever holds
the keys can test guesses: keep them as you keep the provider keys.

Uses that must not be mixed up have prefixes of their own below the HMAC: bodies none, sources, end users, texts, masks.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from gateway.audit.homes import homes
from gateway.audit.sealed import SealedError, first_kept, log_dir, sealed_head, sealed_records, sealed_streams
from gateway.keyfile import load_key
from gateway.tlog import frames
from gateway.whole_file import new

KEY_BYTES = 32  # as long as the hash's output: RFC 2104, section 3
KEYS_MAX = 1_000  # our choice: a key a day for three years; each is tried where a text is looked for (L9)
SUBJECT_CHARS = 32  # hex digits of an end user's digest: 128 bits, no two of any number of users meet by chance
FLUSH_PIECES = 128  # our choice: pieces of a text that wait to be digested together
PIECE_CHARS = 1_024  # our choice: a longer piece waits for no other
_KEY_NAME = re.compile(r"digest-([1-9][0-9]{0,8})\.key")
_WORD_NAME = re.compile(r"digest-([1-9][0-9]{0,8})\.json")
_IN_RECORD = re.compile(rb'"(?:digest|subject)":"k([1-9][0-9]{0,5}):[0-9a-f]{32}')
STREAMS_READ, END_BYTES, END_RECORDS = 4, 1 << 20, 512  # our choice: where the newest digests are looked for (L9)
_SOURCES_CACHED = 4096  # our choice: sources of refusals come in bursts from few places
_BLOCK_BYTES = 64  # of SHA-256
_ASCII_SPACE = bytes(code for code in range(128) if chr(code).isspace())  # what `str.split` takes for white space


class _Birth(msgspec.Struct, frozen=True):
    """What stands beside a key."""

    since_s: int  # s since 1970


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Birth)


class DigestKey:
    """One key. `DigestKeys` has them all."""

    def __init__(self, key: bytes, number: int = 1) -> None:
        """Use `load`. Raises ValueError for a key of the wrong length."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a digest key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self.id = f"k{number}"
        self._prefix = f"k{number}:"
        # The two ends of HMAC (RFC 2104, section 2) over texts, ready to be copied: an HMAC object is 5x dearer to make.
        inner = bytes(b ^ 0x36 for b in key.ljust(_BLOCK_BYTES, b"\x00"))
        self._content, self._inner = hashlib.sha256(inner), hashlib.sha256(inner + b"text\x00")
        self._outer = hashlib.sha256(bytes(b ^ 0x5C for b in key.ljust(_BLOCK_BYTES, b"\x00")))
        self.source = functools.lru_cache(maxsize=_SOURCES_CACHED)(self._source)

    @classmethod
    def load(cls, data_dir: Path) -> DigestKey:
        """The first key of this data directory, made if there is none. Of workers that start at once, all get the same one.

        Raises OSError, and ValueError for a file that is no key.
        """
        return cls(load_key(data_dir, _name(1), KEY_BYTES))

    def digest(self, data: bytes) -> str:
        """`k1:<hex>` of a content."""
        return f"{self._prefix}{hmac.digest(self._key, data, 'sha256').hex()}"

    def content_digest(self) -> ContentDigest:
        """As `digest`, of a content that is still to come."""
        return ContentDigest(self._content, self._outer, self._prefix)

    def text_digest(self) -> TextDigest:
        """A digest of a text that is still to come."""
        return TextDigest(self._inner, self._outer, self._prefix)

    def text(self, text: str) -> str:
        """The digest of a whole text, without its white space."""
        made = self.text_digest()
        made.feed(text)
        return made.value()

    def subject(self, tenant: str, stated: str) -> str:
        """An end user, as a tenant's caller names them: the same name of two tenants has two digests."""
        tenants = tenant.encode("utf-8", "surrogatepass")
        named = b"subject\x00%d\x00%b%b" % (len(tenants), tenants, stated.encode("utf-8", "surrogatepass"))
        return f"{self._prefix}{hmac.digest(self._key, named, 'sha256').hex()[:SUBJECT_CHARS]}"

    @property
    def mask_key(self) -> bytes:
        """The key of masks that show a digest of the value instead of it: another use, so another key."""
        return hmac.digest(self._key, b"mask\x00", "sha256")

    def _source(self, address: str) -> str:
        """A caller's network (/24 of IPv4, /48 of IPv6), as 16 hex digits: enough to tell sources of one minute apart."""
        try:
            prefix = 24 if ipaddress.ip_address(address).version == 4 else 48
            network = str(ipaddress.ip_network((address, prefix), strict=False))
        except ValueError:  # a Unix socket, or nothing
            network = "local"
        return hmac.digest(self._key, b"source\x00" + network.encode(), "sha256").hex()[:16]


class ContentDigest:
    """As `DigestKey.digest`, of a content that comes in pieces."""

    __slots__ = ("_inner", "_outer", "_prefix", "feed")

    def __init__(self, inner: hashlib._Hash, outer: hashlib._Hash, prefix: str) -> None:
        """Use `DigestKey.content_digest`."""
        self._inner = inner.copy()
        self._outer = outer
        self._prefix = prefix
        self.feed: Callable[[bytes], None] = self._inner.update  # the next piece; a stream's every event comes by here

    def value(self) -> str:
        """`k1:<hex>` of all that was fed."""
        whole = self._outer.copy()
        whole.update(self._inner.digest())
        return f"{self._prefix}{whole.hexdigest()}"


class TextDigest:
    """The keyed digest of a text that comes in pieces, without its white space: how it was cut or laid out changes nothing.

    What is digested is `"".join(text.split())` in UTF-8. Holds at most FLUSH_PIECES pieces of PIECE_CHARS characters.
    """

    __slots__ = ("_inner", "_outer", "_pieces", "_prefix")

    def __init__(self, inner: hashlib._Hash, outer: hashlib._Hash, prefix: str) -> None:
        """Use `DigestKey.text_digest`."""
        self._inner = inner.copy()
        self._outer = outer
        self._prefix = prefix
        self._pieces: list[str] = []

    def feed(self, piece: str) -> None:
        """The next piece."""
        pieces = self._pieces
        pieces.append(piece)
        if len(pieces) >= FLUSH_PIECES or len(piece) > PIECE_CHARS:
            self._flush()

    def value(self) -> str:
        """`k1:<hex>` of all that was fed. More may follow, and then another value."""
        self._flush()
        whole = self._outer.copy()
        whole.update(self._inner.digest())
        return f"{self._prefix}{whole.hexdigest()}"

    def _flush(self) -> None:
        joined = "".join(self._pieces)
        if joined.isascii():  # the same bytes, in a tenth of the time
            self._inner.update(joined.encode("ascii").translate(None, _ASCII_SPACE))
        else:
            self._inner.update(
                "".join(joined.split()).encode("utf-8", "surrogatepass")
            )  # half a pair is text too, to JSON
        self._pieces.clear()


class DigestKeys:
    """All keys of a data directory: the newest makes digests, all are tried where something is looked for. One a worker.

    Takes the place of `DigestKey` where keys rotate. `refresh` may be called from time to time, from the thread that uses it.
    """

    def __init__(self, data_dir: Path, period_s: float | None, now_s: Callable[[], float]) -> None:
        """Use `load`."""
        self._data_dir = data_dir
        self._period_s = period_s
        self._now_s = now_s
        self._keys: dict[int, DigestKey] = {}
        self._newest = DigestKey(bytes(KEY_BYTES))
        self.refresh()

    @classmethod
    def load(
        cls, data_dir: Path, period_s: float | None = None, *, now_s: Callable[[], float] = time.time
    ) -> DigestKeys:
        """The keys that are there; the first is made if there is none, the next if the newest is older than the period.

        None: keys are not rotated, only read. Of workers that start at once, all get the same ones. Raises OSError, and
        ValueError for a file that is no key.
        """
        return cls(data_dir, period_s, now_s)

    def refresh(self) -> bool:
        """Look again, and make the next key if it is time. Whether another key is used from now on.

        Raises as `load`; what was known stays in use then.
        """
        held = digest_numbers(self._data_dir)
        numbers = held or [_next(self._data_dir, [])]
        if len(numbers) > KEYS_MAX:
            raise ValueError(
                f"{self._data_dir / 'keys'}: more than {KEYS_MAX} digest keys; remove the oldest, whose digests can then no longer be matched, or lengthen `audit.digest_key`"
            )
        newest = numbers[-1]
        if self._period_s is not None and held:
            age_s = self._now_s() - _since_s(self._data_dir, newest, self._now_s)
            if age_s >= self._period_s:
                newest = _next(self._data_dir, numbers)
                numbers.append(newest)
        keys = {n: self._keys.get(n) or self._read(n) for n in numbers}
        if self._period_s is not None:
            _since_s(self._data_dir, newest, self._now_s)
        changed = keys[newest].id != self._newest.id
        self._keys, self._newest = keys, keys[newest]
        return changed

    @property
    def newest(self) -> DigestKey:
        """The key that makes digests."""
        return self._newest

    @property
    def all(self) -> Sequence[DigestKey]:
        """All of them, newest first."""
        return [self._keys[n] for n in sorted(self._keys, reverse=True)]

    @property
    def mask_key(self) -> bytes:
        """Of the first key, whatever is newest: a mask shows the same value alike for as long as the data directory lasts.

        Raises ValueError where the first key was removed.
        """
        if 1 not in self._keys:
            path = self._data_dir / "keys" / _name(1)
            raise ValueError(
                f"{path} is missing, by which masks show digests; restore it, or write 32 random bytes there: masks then show other digests"
            )
        return self._keys[1].mask_key

    def digest(self, data: bytes) -> str:
        """`k<n>:<hex>` of a content."""
        return self._newest.digest(data)

    def source(self, address: str) -> str:
        """A caller's network, as 16 hex digits."""
        return self._newest.source(address)

    def subject(self, tenant: str, stated: str) -> str:
        """`k<n>:<32 hex digits>` of an end user, as a tenant's caller names them."""
        return self._newest.subject(tenant, stated)

    def content_digest(self) -> ContentDigest:
        """A digest of a content that is still to come."""
        return self._newest.content_digest()

    def text_digest(self) -> TextDigest:
        """A digest of a text that is still to come."""
        return self._newest.text_digest()

    def all_texts(self, text: str) -> tuple[str, ...]:
        """Of a whole text without its white space, under every key, newest first: whatever period a record is of, it holds one of these."""
        return tuple(key.text(text) for key in self.all)

    def all_subjects(self, tenant: str, stated: str) -> tuple[str, ...]:
        """Of an end user, as above."""
        return tuple(key.subject(tenant, stated) for key in self.all)

    def _read(self, number: int) -> DigestKey:
        try:
            return DigestKey(load_key(self._data_dir, _name(number), KEY_BYTES), number)
        except ValueError as error:
            raise ValueError(f"{self._data_dir / 'keys' / _name(number)}: {error}; restore it") from error


def held_keys(home: Path) -> tuple[DigestKey, ...]:
    """The keys of a home, newest first; none is made. Raises OSError, and ValueError for a file that is no key."""
    found = []
    listed = digest_numbers(home)
    if len(listed) > KEYS_MAX:
        raise ValueError(f"{home / 'keys'}: more than {KEYS_MAX} digest keys; remove the oldest")
    for number in reversed(listed):
        path = digest_path(home, number)
        try:
            found.append(DigestKey(path.read_bytes(), number))
        except ValueError as error:
            raise ValueError(f"{path}: {error}; restore it") from error
    return tuple(found)


def _name(number: int) -> str:
    return f"digest-{number}.key"


def digest_path(home: Path, number: int) -> Path:
    """Where a key is."""
    return home / "keys" / _name(number)


def digest_numbers(data_dir: Path) -> list[int]:
    """The numbers of the keys that are there, oldest first. Raises OSError."""
    folder = data_dir / "keys"
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _KEY_NAME.fullmatch(path.name)))


def digest_words(data_dir: Path) -> set[int]:
    """The numbers of keys that were used, by the words beside them. Raises OSError."""
    folder = data_dir / "keys"
    if not folder.is_dir():
        return set()
    return {int(match[1]) for path in folder.iterdir() if (match := _WORD_NAME.fullmatch(path.name))}


def digests_used(data_dir: Path) -> int:
    """The greatest number in this gateway's newest records; 0: they hold no digest. Reads at most STREAMS_READ streams' ends. Raises OSError."""
    try:
        others = {name for home in homes(data_dir) if home.word is not None for name in home.word.streams}
    except SealedError:
        others = set()  # the number is greater than it had to be, then, and taken by nobody
    streams = {path.name: path.stat().st_mtime_ns for path in frames.streams(data_dir)}
    for name in sealed_streams(data_dir):
        streams[name] = max(streams.get(name, 0), (log_dir(data_dir) / name).stat().st_mtime_ns)
    newest = sorted((name for name in streams if name not in others), key=lambda name: streams[name], reverse=True)
    found = {0}
    for name in newest[:STREAMS_READ]:
        for content in _ends(data_dir, name):
            found |= {int(match[1]) for match in _IN_RECORD.finditer(content)}
    return max(found)


def digests_missing(data_dir: Path) -> list[int]:
    """Numbers of this gateway's keys that were used and are not there, as far as a word beside them or the newest records tell. Raises OSError."""
    used = digests_used(data_dir)
    return sorted({*digest_words(data_dir), *([used] if used else [])}.difference(digest_numbers(data_dir)))


def _ends(data_dir: Path, stream: str) -> Iterator[bytes]:
    """The newest bytes of a stream, of its journal and of its log, as far as they can be read. Raises OSError."""
    journal = frames.journal_dir(data_dir) / stream
    try:
        for _, path in frames.segments(journal)[-2:] if journal.is_dir() else ():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - END_BYTES))
                yield file.read(END_BYTES)
        size = sealed_head(data_dir, stream).size
        start = max(first_kept(data_dir, stream), size - END_RECORDS)
        for _, payload in sealed_records(data_dir, stream, start, size):
            yield payload
    except (SealedError, FileNotFoundError):
        return  # nothing sealed, pruned meanwhile, or not readable: what reads the log says so


def _next(data_dir: Path, found: Sequence[int]) -> int:
    """A number that no key ever had, nor one that records name and that is missing: two keys under one would make different texts look alike."""
    ever = max((*found, *digest_words(data_dir), digests_used(data_dir)), default=0)
    again = digest_numbers(data_dir)
    if again and again[-1] not in found:
        return again[-1]  # another worker was faster
    return ever + 1


def _since_s(data_dir: Path, number: int, now_s: Callable[[], float]) -> float:
    """From when on a key was used. Of a key without a word beside it, the age of its file is written down.

    A crash between a key and its word leaves just that, and so did versions that had one key only.
    """
    key = data_dir / "keys" / _name(number)
    word = key.with_suffix(".json")
    if not word.exists():
        since_s = int(min(now_s(), key.stat().st_mtime))
        with contextlib.suppress(FileExistsError):  # another worker was faster
            new(word, _encoder.encode(_Birth(since_s)), durable=True, private=True)
    try:
        return float(_decoder.decode(word.read_bytes()).since_s)
    except msgspec.MsgspecError as error:
        raise ValueError(f'{word}: cannot be read; write {{"since_s": <seconds since 1970>}}') from error
