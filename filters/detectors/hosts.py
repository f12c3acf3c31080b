"""Mail addresses and URLs, by code rather than by expression: linear, and with a border behind the domain's last label.

Where this differs from presidio-analyzer 2.2.366, whose expressions these functions follow:
- a scheme names a URL whatever its host is (`localhost`, an address, a name of an intranet), with user information and port;
  ftp, sftp and ws are schemes too;
- a bare name ends with a whole label, as the last of its name. Presidio takes the first top-level domain that some label
  begins with, so it finds `self.na` in `self.name` and `os.pa` in `os.path`. What reads like a source file, a call or the
  name of a company (`Co.Ltd`) is none, and under a top-level domain that is also a word (`name`, `id`, `is`) a bare name
  counts only with `www.`, a path, or a word such as `visit` before it;
- quotes around a URL, and the marks that end a sentence, are not part of it; a bare host name inside a mail address is not
  a second finding;
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
_WEAK_URL_SCORE: Final = 0.3  # below what counts by default, and above it behind a word such as `visit`

_ATOM: Final = rb"!#$%&'*+\-/=?^_`{|}~\w\x01"  # RFC 5322 atext, and letters of other alphabets
_LOCAL_END: Final = re.compile(rb"[^" + _ATOM + rb".]")
_LOCAL_START: Final = re.compile(rb"(?<![\w\x01])[\w\x01]|(?<=[\w\x01])[!#$%&'*+\-/=?^`{|}~]")
_DOMAIN: Final = re.compile(rb"[\w\x01]++(?:-++[\w\x01]++)*+(?:\.[\w\x01]++(?:-++[\w\x01]++)*+)++")
_HOST: Final = re.compile(rb"[A-Za-z0-9.\-]++")
_REST: Final = rb"[^\x00\x02-\x20\x7f-\xff\"<>()']*+"
# Whatever host a scheme names: it need not be of a public domain. RFC 3986, section 3.2: user information, host, port.
_WITH_SCHEME: Final = re.compile(
    rb"(?:https?|ftps?|sftp|wss?)://(?P<user>[^\x00\x02-\x20\x7f-\xff\"<>()'/?#@]{1,128}+@)?"
    rb"(?:\[[0-9a-f:.%]{2,45}\]|[a-z0-9\x01][a-z0-9\x01._\-]{0,252}+)(?::[0-9]{1,5})?(?:[/?#]" + _REST + rb")?",
    re.IGNORECASE,
)
# What goes on behind a bare name.
_TAIL: Final = re.compile(rb"(?::[0-9]{2,5}(?![0-9]))?(?:[/?#]" + _REST + rb")|:[0-9]{2,5}(?![0-9.])")
_HARD: Final = re.compile(rb"[\x00\x02-\x20\x7f-\xff\"<>()]")
_SENTENCE: Final = frozenset(b".,;:!?*")
# Top-level domains that end names of files far more often than bare two-label host names (our choice).
_FILE_ENDINGS: Final = frozenset((b"cc", b"md", b"ml", b"pl", b"ps", b"py", b"rs", b"sh", b"so"))
# Those under which a bare name is a host name by itself: the large ones (our choice, by registered names) that are no
# English word and no common attribute in a program. Under others a name needs `www.`, a path or a word before it.
_COMMON: Final = frozenset(
    b"com net org edu gov mil int io co ai info biz xyz eu us uk de fr nl it es be ch cn jp kr tw hk ru ua br mx ca au nz se dk fi ie pt gr hu cz tr za tv"
    b" sg vn th ar cl kz ro bg hr sk lt lv ee lu cat asia".split()
)
# Names of objects in programs, whose attributes read like domains.
_OBJECTS: Final = frozenset(
    b"self this obj object console logger log logging java javax cls sys os req res request response event e".split()
)
# `Co.Ltd` ends the name of a company.
_COMPANIES: Final = frozenset(
    (b"ltd", b"inc", b"llc", b"co", b"corp", b"gmbh", b"company", b"limited", b"ltda", b"srl")
)
_COMPANY_PARTS: Final = frozenset(b"co mfg corp ind inds bros inc pty pte pvt mfg intl assoc holdings ptv s.a".split())
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
        """URLs with a scheme, and bare host names with or without a path, in view[start:end].

        Takes out of `mails` what is a URL's user information.
        """
        found: list[Finding] = []
        at = start
        if view.find(b"://", start, end) >= 0:
            for match in _WITH_SCHEME.finditer(view, start, end):
                first, last = match.start(), self._trimmed(view, match.end(), end)
                found.append(Finding(URL, first, last, self._context.score(URL, _URL_SCORE, view, first)))
                at_sign = match.end("user") - 1
                mails[:] = [one for one in mails if not one.start <= at_sign < one.end]  # name and password, no address
        taken = [*mails, *found] if found else mails
        while True:
            dot = view.find(b".", at, end)
            if dot < 0:
                return found
            first = dot
            while first > at and (view[first - 1] in _HOST_BYTES):
                first -= 1
            host = _HOST.match(view, first, end)
            assert host is not None  # the dot itself matches
            at = host.end()
            last = self._host_end(view, first, at)
            if last < 0:
                continue
            tail = _TAIL.match(view, last, end)
            stop = last if tail is None else self._trimmed(view, tail.end(), end)
            score = self._bare(view, first, last, tail is not None and b"/" in tail[0])
            if score > 0.0 and not any(one.start < stop and first < one.end for one in taken):
                found.append(Finding(URL, first, stop, self._context.score(URL, score, view, first)))
                at = max(at, stop)

    @staticmethod
    def _trimmed(view: bytes, last: int, end: int) -> int:
        """Where a URL ends that goes up to `last`: before the marks of the sentence around, if the token ends there."""
        if last == end and _HARD.match(view, end) is None:
            return last  # a window of a longer token: the URL goes on
        while view[last - 1] in _SENTENCE:
            last -= 1
        return last

    @staticmethod
    def _bare(view: bytes, first: int, last: int, path: bool) -> float:
        """The score of a name without a scheme, 0.0 where it is none: a part of a program, a file, a company."""
        after = view[last : last + 1]
        if (first > 0 and view[first - 1 : first] in _LABEL_BYTES) or after in (b"(", b"_", b"="):
            return 0.0
        host = view[first:last]
        lower = host.lower()
        labels = lower.split(b".")
        ending = labels[-1]
        if ending in _FILE_ENDINGS and len(labels) == 2 and not path:
            return 0.0
        if ending in _COMPANIES and labels[-2] in _COMPANY_PARTS:
            return 0.0
        written = host[len(host) - len(ending) :]
        if written != ending and not (ending in _COMMON and (written.isupper() or written == b"Com")):
            return 0.0
        if labels[0] == b"www" or ending in _COMMON or (path and host == lower and b"-" not in labels[0][:1]):
            return _BARE_URL_SCORE if labels[0] not in _OBJECTS else _WEAK_URL_SCORE
        return _WEAK_URL_SCORE

    def _host_end(self, view: bytes, start: int, end: int) -> int:
        """The end of the name in the host run, if its last label is a known one; or -1."""
        stop = min(end, start + _HOST_CHARS_MAX)
        while stop > start and view[stop - 1] in b".-":
            stop -= 1
        dot = view.rfind(b".", start, stop)
        if dot <= start or view[start] in b".-" or view[stop : stop + 1] in _LABEL_BYTES:
            return -1
        label = view[dot + 1 : stop].lower()
        return stop if label in self._url_labels and view.find(b"..", start, stop) < 0 else -1


_HOST_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_LABEL_BYTES: Final = frozenset(
    bytes([c]) for c in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_\x01"
)
