"""Screening a prompt, with the pseudonyms of the conversation that it belongs to.

The values of a prompt are named and the names saved before the prompt leaves. Where another call of the conversation gave
the same names away meanwhile, the prompt is screened again with that call's mapping; a call that loses every such race
goes on with a mapping of its own, which no later call knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from filters import Engine
from gateway.errors import CallerError
from gateway.protocols.base import Document, Role
from gateway.pseudonyms import HEADER, PseudonymKeys, PseudonymStore, Session
from gateway.reasons import Reason
from gateway.screen import Pseudonyms, RoleRules, Screening, screen_document
from gateway.state import SharedState
from policies import CallerFacts, Policy

# Screenings of one prompt. Each lost race has one winner, so three calls of one conversation at the same moment all end
# with a shared mapping; more than that is no conversation.
_TRIES: Final = 3
_HEADER: Final = HEADER.encode("ascii")


@dataclass(slots=True)
class Conversations:
    """Opens conversations. One a worker."""

    state: SharedState
    keys: PseudonymKeys
    _stores: dict[int, PseudonymStore] = field(default_factory=dict)  # by the policies' times to live

    async def open(
        self,
        document: Document,
        facts: CallerFacts,
        model: str,
        policy: Policy,
        headers: Sequence[tuple[bytes, bytes]],
    ) -> Session:
        """The conversation of a call. Raises CallerError for a header that is no name."""
        named = next((value.decode("latin-1") for name, value in headers if name == _HEADER), None)
        try:
            conversation = self.keys.conversation(facts.tenant, facts.name, model, named, _opening(document))
        except ValueError as error:
            raise CallerError(Reason.BODY_MALFORMED, str(error), param=HEADER) from error
        ttl_s = policy.pseudonyms.ttl_s
        store = self._stores.get(ttl_s)
        if store is None:
            store = self._stores[ttl_s] = PseudonymStore(self.state, self.keys, float(ttl_s))
        return await store.open(facts.tenant, facts.name, conversation, style=policy.pseudonyms.style.value)

    async def screen(
        self, document: Document, engine: Engine, rules: RoleRules, session: Session, policy: Policy
    ) -> Screening:
        """Screens a prompt and saves what it named. Raises filters.UndecidedError."""
        lost_races = 0
        while True:
            for channel in document.channels:
                session.reserve(channel.text)
            if lost_races == _TRIES:
                session.detach()
            screening = await screen_document(document, engine, rules, pseudonyms=Pseudonyms(namer=session))
            if policy.shadow or screening.findings.blocked is not None:
                return screening  # nothing of it leaves
            if await self._stores[policy.pseudonyms.ttl_s].save(session):
                return screening
            lost_races += 1


def _opening(document: Document) -> list[str]:
    """The system text and the user's first message: what stays the same while a conversation goes on."""
    texts = []
    for channel in document.channels:
        if channel.role is Role.SYSTEM:
            texts.append(channel.text)
        elif channel.role is Role.USER:
            texts.append(channel.text)
            break
    return texts
