"""Where conversations' vaults are kept between calls, and whose they are.

A vault belongs to one tenant, one caller and one conversation. Its place in the shared state is a keyed digest of the three, and
it is sealed under a key derived from them, so that neither the store nor another conversation can open it. All keys come from
`DATA/keys/pseudonym-1.key`, made at the first start and shared by all workers; whoever holds it and the store can read
the values, so keep it as you keep the provider keys.

A call opens its conversation, names the values of its prompt, and saves before the prompt leaves. Of calls that run at once
one saves first; the others take their names over to its mapping if they fit, else `save` says False and the prompt is
screened again. So no number stands for two values. A store that is down costs the memory of earlier calls and no more:
the call goes on with a mapping of its own.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from filters.restore import Restorer
from filters.vault import Pseudonyms, Seal, SealError, Style
from gateway.keyfile import load_key
from gateway.state import SharedState, StateUnavailable

KEY_BYTES: Final = 32  # as long as the hash's output: RFC 5869, section 3.3
KEY_NAME: Final = "pseudonym-1.key"
HEADER: Final = "x-licet-conversation"
HEADER_CHARS_MAX: Final = 128  # our choice: an id with a prefix
TTL_S: Final = 86_400.0  # our choice: a working day and the night; a longer pause begins anew
_SWAPS_MAX: Final = 4  # races lost in a row before the caller is told; each takes one winner


class Conversation(NamedTuple):
    """What a call belongs to. `named`: the caller said so; else it is told by how the conversation began."""

    key: bytes
    named: bool


class PseudonymKeys:
    """Derives every key from one secret (HKDF-SHA256). One a worker."""

    def __init__(self, master: bytes) -> None:
        """Use `load`. Raises ValueError for a key of the wrong length."""
        if len(master) != KEY_BYTES:
            raise ValueError(f"a pseudonym key has {KEY_BYTES} bytes, not {len(master)}")
        self._conversations = _derive(master, b"conversation")
        self._places = _derive(master, b"place")
        self._seals = _derive(master, b"seal")
        self._surrogates = _derive(master, b"surrogate")

    @classmethod
    def load(cls, data_dir: Path) -> PseudonymKeys:
        """The keys of this data directory, made if there are none. Of workers that start at once, all get the same ones.

        Raises OSError, and ValueError for a file that is no key.
        """
        return cls(load_key(data_dir, KEY_NAME, KEY_BYTES))

    def conversation(
        self, tenant: str, caller: str, model: str, header: str | None, texts: Sequence[str]
    ) -> Conversation:
        """Which conversation a call belongs to: the one that its header names, else the one that begins with `texts`.

        `texts` are the system text and the first message of the user: clients send the whole history with each turn, so
        these stay. Raises ValueError for a header that is no name.
        """
        if header is None:
            parts = [b"texts", model.encode(), *(text.encode("utf-8", "surrogatepass") for text in texts)]
        elif 0 < len(header) <= HEADER_CHARS_MAX and header.isascii() and header.isprintable():
            parts = [b"header", model.encode(), header.encode()]
        else:
            raise ValueError(f"{HEADER} takes 1 to {HEADER_CHARS_MAX} printable ASCII characters")
        framed = _framed([tenant.encode(), caller.encode(), *parts])
        return Conversation(hmac.digest(self._conversations, framed, "sha256"), header is not None)

    def place(self, tenant: str, caller: str, conversation: Conversation) -> tuple[str, Seal]:
        """The key in the shared state, and what opens the value there."""
        bound = _framed([tenant.encode(), caller.encode(), conversation.key])
        key = hmac.digest(self._places, bound, "sha256").hex()[:32]
        return f"pseudonyms:{key}", Seal(hmac.digest(self._seals, bound, "sha256"), bound)

    def surrogates(self, tenant: str) -> bytes:
        """What chooses a tenant's surrogates."""
        return hmac.digest(self._surrogates, tenant.encode(), "sha256")


def _derive(master: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"licet pseudonyms " + purpose).derive(master)


def _framed(parts: Sequence[bytes]) -> bytes:
    """Parts so joined that no other parts give the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


class Session:
    """One call's use of one conversation. Not for two tasks at once."""

    def __init__(
        self, names: Pseudonyms, key: str, seal: Seal, fresh: Callable[[bytes | None], tuple[Pseudonyms, bool]]
    ) -> None:
        """Use `PseudonymStore.open`."""
        self.names = names  # another object after a `save` that said False
        self.local = False  # the store was not reached: nothing of earlier calls is known, or this one was not kept
        self.lost = False  # what the store held was broken or another's, or had expired
        self._key = key
        self._seal = seal
        self._fresh = fresh
        self._stored: bytes | None = None
        self._restorer: Restorer | None = None

    def name(self, entity: str, value: str, *, restorable: bool) -> str:
        """What stands for a value, as `Pseudonyms.name`."""
        return self.names.name(entity, value, restorable=restorable)

    def reserve(self, text: str) -> None:
        """Takes note of one of the prompt's texts, as `Pseudonyms.reserve`."""
        self.names.reserve(text)

    def restorer(self) -> Restorer | None:
        """What the answer's channels share. To be asked for once the whole prompt was screened and saved."""
        if self._restorer is None:
            self._restorer = self.names.restorer()
        return self._restorer

    def detach(self) -> None:
        """Goes on without the store, with what was named so far: for a call that lost every race."""
        self.local = True

    def as_record(self) -> dict[str, int | bool]:
        """For the audit record: counts and facts, no values (L7)."""
        return {
            "issued": self.names.issued,
            "restored": self._restorer.restored if self._restorer is not None else 0,
            "unknown": self.names.unknown,
            "lost": self.lost,
            "local": self.local,
        }


class PseudonymStore:
    """Vaults behind the shared state. Safe to use from many tasks at once, each with sessions of its own."""

    def __init__(
        self,
        state: SharedState,
        keys: PseudonymKeys,
        ttl_s: float = TTL_S,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._keys = keys
        self._ttl_s = ttl_s
        self._clock = clock

    async def open(self, tenant: str, caller: str, conversation: Conversation, *, style: Style = "tag") -> Session:
        """The conversation as the last call left it, or empty. Never raises for what the store holds or does not answer."""
        key, seal = self._keys.place(tenant, caller, conversation)
        surrogates = self._keys.surrogates(tenant)

        def fresh(stored: bytes | None) -> tuple[Pseudonyms, bool]:
            if stored is not None:
                try:
                    now = self._clock()
                    return Pseudonyms.load(
                        stored, seal, surrogates, now=now, style=style, trusting=conversation.named
                    ), False
                except SealError:
                    pass  # as good as lost; the caller is told, and the next save replaces it
            return Pseudonyms(surrogates, style=style, trusting=conversation.named), stored is not None

        session = Session(fresh(None)[0], key, seal, fresh)
        try:
            session._stored = await self._state.get(key)
        except StateUnavailable:
            session.local = True
        else:
            session.names, session.lost = fresh(session._stored)
        return session

    async def save(self, session: Session) -> bool:
        """Keeps what was named. Before the prompt leaves: only what was saved has its numbers to itself.

        False if a call that ran at the same time gave them away: `session.names` is then that call's mapping, and the
        prompt has to be reserved and named again from the start. A store that is down makes the session `local`; that is
        True. Raises UndecidedError where the mappings of both calls do not fit in one.
        """
        session._restorer = None
        now = self._clock()
        names = session.names
        if session.local or not (names.changed or (len(names) and names.until - now < self._ttl_s / 2)):
            return True
        for _ in range(_SWAPS_MAX):
            names = session.names
            until = now + self._ttl_s
            new = names.dump(session._seal, until=until)
            try:
                if await self._state.swap(session._key, session._stored, new, ttl_s=self._ttl_s):
                    session._stored = new
                    names.changed = False
                    names.until = until
                    return True
                session._stored = await self._state.get(session._key)
            except StateUnavailable:
                session.local = True
                return True
            if session._stored is None:
                continue  # it expired or was dropped meanwhile: all of it is kept anew
            session.names, lost = session._fresh(session._stored)
            session.lost |= lost
            if not session.names.adopt(names):
                return False
        return False
