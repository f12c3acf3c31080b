"""Mail addresses and URLs, by code rather than by expression: linear, and with a border behind the domain's last label.

Where this differs from presidio-analyzer 2.2.366, whose expressions these functions follow:
- a URL's domain ends with a whole label. Presidio takes the first top-level domain that the label begins with, so it
  finds `self.na` in `self.name` and `os.pa` in `os.path`. What follows an underscore, or reads like a source file, is none;
- quotes around a URL are not part of it; a bare host name inside a mail address is not a second finding;
- a mail address needs a top-level domain of the public suffix list. Presidio also asks for a label before a longer
  suffix: `me@co.uk` counts here and not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from filters.detectors.patterns import Context
from filters.finding import Finding

EMAIL: Final = "EMAIL_ADDRESS"
URL: Final = "URL"
_EMAIL_SCORE: Final = 1.0  # presidio's score for a validated address
_URL_SCORE: Final = 0.6
_BARE_URL_SCORE: Final = 0.5

_ATOM: Final = rb"!#$%&'*+\-/=?^_`{|}~\w\x01"  # RFC 5322 atext, and letters of other alphabets
_LOCAL_END: Final = re.compile(rb"[^" + _ATOM + rb".]")
_LOCAL_START: Final = re.compile(rb"(?<![\w\x01])[\w\x01]|(?<=[\w\x01])[!#$%&'*+\-/=?^`{|}~]")
_DOMAIN: Final = re.compile(rb"[\w\x01]++(?:-++[\w\x01]++)*+(?:\.[\w\x01]++(?:-++[\w\x01]++)*+)++")
_HOST: Final = re.compile(rb"[A-Za-z0-9.\-]++")
_SCHEME: Final = re.compile(rb"https?://", re.IGNORECASE)
_PATH: Final = re.compile(rb"/[^\x00\x02-\x20\x7f-\xff\"<>()']*+")
# Top-level domains that end names of files far more often than bare two-label host names (our choice).
_FILE_ENDINGS: Final = frozenset((b"cc", b"md", b"ml", b"pl", b"ps", b"py", b"rs", b"sh", b"so"))
_HOST_CHARS_MAX: Final = 253  # RFC 1035 2.3.4 less the length octets; presidio's bound too


class Hosts:
    """Finds mail addresses and URLs inside one token."""

    def __init__(self, mail_labels: Iterable[str], url_labels: Iterable[str], context: Context) -> None:
        self._mail_labels = frozenset(label.encode() for label in mail_labels)
        self._url_labels = frozenset(label.encode() for label in url_labels)
        self._context = context

    def mails(self, view: bytes, start: int, end: int) -> list[Finding]:
        """Mail addresses in view[start:end]."""
        found: list[Finding] = []
        left = start
        at = view.find(b"@", start, end)
        while at >= 0 and view.find(b".", at, end) >= 0:
            begin = self._local(view, left, at, start)
            left = at + 1
            if begin >= 0:
                domain = _DOMAIN.match(view, at + 1, end)
                if domain is not None:
                    left = domain.end()
                    label = view[at + 1 : left].rsplit(b".", 1)[1].lower()
                    # A label in letters of another alphabet is taken: its ASCII form is not looked up.
                    if label in self._mail_labels or b"\x01" in label:
                        found.append(Finding(EMAIL, begin, left, _EMAIL_SCORE))
            at = view.find(b"@", max(at + 1, left - 1), end)
        return found

    @staticmethod
    def _local(view: bytes, left: int, at: int, start: int) -> int:
        """Where the local part that ends at `at` begins, or -1."""
        if at == left or view[at - 1] == 0x2E:
            return -1
        begin = left
        for stop in _LOCAL_END.finditer(view, left, at):
            begin = stop.end()
        match = _LOCAL_START.search(view, begin, at)
        return -1 if match is None else match.start()

    def urls(self, view: bytes, start: int, end: int, mails: list[Finding]) -> list[Finding]:
        """URLs with a scheme, and bare host names with or without a path, in view[start:end]."""
        found: list[Finding] = []
        at = start
        while True:
            dot = view.find(b".", at, end)
            if dot < 0:
                return found
            host_start = dot
            while host_start > at and (view[host_start - 1] in _HOST_BYTES):
                host_start -= 1
            host = _HOST.match(view, host_start, end)
            assert host is not None  # the dot itself matches
            at = host.end()
            scheme = _SCHEME.match(view, max(start, host_start - 8), host_start) if host_start - start >= 7 else None
            if scheme is None and host_start - start >= 7:
                scheme = _SCHEME.match(view, host_start - 7, host_start)
            if scheme is not None and scheme.end() != host_start:
                scheme = None
            last = self._host_end(view, host_start, at, self._mail_labels if scheme else self._url_labels)
            if last < 0:
                continue
            path = _PATH.match(view, last, end)
            if path is not None:
                last = path.end()
            first = host_start if scheme is None else scheme.start()
            if scheme is None and (
                self._no_host(view, first, last) or any(m.start < last and first < m.end for m in mails)
            ):
                continue
            score = self._context.score(URL, _BARE_URL_SCORE if scheme is None else _URL_SCORE, view, first)
            found.append(Finding(URL, first, last, score))
            at = max(at, last)

    @staticmethod
    def _no_host(view: bytes, first: int, last: int) -> bool:
        """True for parts of names of programs: `foo_bar.py`, `main.rs`."""
        if first > 0 and view[first - 1 : first] in _LABEL_BYTES:
            return True
        name, _, ending = view[first:last].lower().rpartition(b".")
        return ending in _FILE_ENDINGS and b"." not in name

    @staticmethod
    def _host_end(view: bytes, start: int, end: int, labels: frozenset[bytes]) -> int:
        """The end of the longest name in the host run that ends with a known label, or -1."""
        stop = min(end, start + _HOST_CHARS_MAX)
        while True:
            dot = view.rfind(b".", start, stop)
            if dot <= start:
                return -1
            label = view[dot + 1 : stop].rstrip(b"-").lower()
            if label in labels and view[dot + 1 + len(label) : dot + 2 + len(label)] not in _LABEL_BYTES:
                return dot + 1 + len(label)
            stop = dot


_HOST_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_LABEL_BYTES: Final = frozenset(
    bytes([c]) for c in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_\x01"
)
