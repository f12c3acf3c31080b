"""Who may do what: roles, and the keys by which people and programs show who they are.

A key is 256 random bits, shown once; the store has its SHA-256 only. The command line needs none: whoever can write the
authority's folder can do everything anyway, and is named in the log as they call themselves.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Iterable

from gateway.authority.errors import FormError, RoleError, SecondError
from gateway.authority.model import Actor
from gateway.authority.states import TABLE, Operation, Role

PREFIX = "lca_"  # so that scanners for leaked secrets can tell what it is
_KEY_BYTES = 32
NAME_CHARS_MAX = 128  # our choice
GIVEN = frozenset(Role) - {Role.CLOCK}
OWN = ("clock", "founder")  # whom the log names when nobody in particular acted


def make_actor(name: str, roles: Iterable[str]) -> Actor:
    """Somebody with roles. Raises FormError for a name or role that cannot be."""
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise FormError(f"name: write 1 to {NAME_CHARS_MAX} printable characters without spaces around them")
    wanted = {role.strip().lower() for role in roles}
    unknown = sorted(wanted - set(GIVEN))
    if unknown or not wanted:
        what = f"{unknown[0]!r} is no role" if unknown else "there is none"
        raise FormError(f"roles: {what}; choose from {', '.join(sorted(GIVEN))}")
    return Actor(name, frozenset(Role(role) for role in wanted))


def require_other_name(name: str, known: Iterable[str]) -> None:
    """Raises FormError if people could take the name for another one: who is whom decides who may confirm."""
    same = [one for one in (*OWN, *known) if one != name and _folded(one) == _folded(name)]
    if name in OWN or same:
        raise FormError(f"name: {name!r} reads like {same[0] if same else name!r}, which is taken; choose another")


def _folded(name: str) -> str:
    """The same for names that differ in case, width or the way accents are written (Unicode TR 15, NFKC)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def new_key() -> tuple[str, str]:
    """A new API key, and its digest."""
    key = PREFIX + secrets.token_urlsafe(_KEY_BYTES)
    return key, key_digest(key)


def key_digest(key: str) -> str:
    """What the store knows of a key. Plain SHA-256: 256 random bits cannot be guessed, so nothing has to be slow."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def require(actor: Actor, roles: frozenset[Role], what: str) -> None:
    """Raises RoleError unless the actor has one of the roles."""
    if not actor.roles & roles:
        raise RoleError(f"{what} is for the roles {', '.join(sorted(roles))}; {actor.name} has none of them")


def require_for(actor: Actor, operation: Operation, applicant: str) -> None:
    """Raises RoleError or SecondError unless the actor may do this to a record of that applicant."""
    rule = TABLE[operation]
    require(actor, rule.roles, operation)
    if actor.roles & rule.roles == {Role.APPLICANT} and actor.name != applicant:
        raise RoleError(f"{operation} is for the applicant of the record, or for another role")
    if rule.apart and actor.name == applicant:
        raise SecondError(f"{operation} has to be done by someone other than the applicant")
