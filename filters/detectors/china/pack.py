"""The pack: see the package's own lines for what lives where."""

from __future__ import annotations

from collections.abc import Sequence

from filters.detectors.china import labels
from filters.detectors.china.addresses import AddressScanner, Places
from filters.detectors.china.data import load
from filters.detectors.china.numbers import Numbers
from filters.detectors.china.plates import HongKongScanner, PlateScanner
from filters.detectors.china.said import SaidScanner
from filters.detectors.china.tokens import Tokens
from filters.detectors.units import LateStarts
from filters.finding import Finding, Scanner

CODE_VERSION = 1  # raise when a change of code or of the tables in this package changes a finding

ENTITIES = frozenset(
    {
        labels.RESIDENT, labels.MOBILE, labels.LANDLINE, labels.PASSPORT, labels.PERMIT, labels.CARD, labels.USCC, labels.PLATE,
        labels.HONG_KONG, labels.MACAU, labels.TAIWAN, labels.ADDRESS, labels.WECHAT, labels.QQ, labels.BIRTHDATE, labels.MILITARY,
    }
)  # fmt: skip


class ChinaPack:
    """Identifiers of mainland China, Hong Kong, Macau and Taiwan, and addresses in Chinese."""

    def __init__(self) -> None:
        china = load()
        self.name = "china"
        self.version = f"{CODE_VERSION}+{china.digest}"
        self.entities = ENTITIES
        self._numbers = Numbers(china)
        self._tokens = Tokens(china)
        self._places = Places(china)

    def scanners(self) -> Sequence[Scanner]:
        """For what only Chinese characters or parentheses show."""
        return (PlateScanner(), HongKongScanner(), SaidScanner(), AddressScanner(self._places))

    def at_least(self, score: float) -> ChinaPack:
        """This pack itself: what counts costs no more for finding what does not."""
        return self

    def late(self) -> LateStarts | None:
        """None: what goes on behind a token has scanners of its own."""
        return None

    def in_token(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings inside one token."""
        return self._tokens.find(text, view, start, end, form)

    def in_number(self, text: str, view: bytes, start: int, end: int, form: bytes) -> list[Finding]:
        """Findings inside one run of digits."""
        return self._numbers.find(text, view, start, end, form)
