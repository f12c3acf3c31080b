"""What an authority refuses to do, and why. Each error has a stable `code`; the message names the field and the remedy.

AuthorityError
├─ FormError         what was handed in cannot be used        FORM
├─ NotFoundError     there is no such record                  NOT_FOUND
├─ RoleError         the actor may not do this                ROLE
├─ SecondError       another person has to do this            SECOND_PERSON
├─ TransitionError   the record's state does not allow it     TRANSITION
├─ PermitError       trained without a permit, or before it   TRAINING_PERMIT
├─ ClockError        the clock went back                      CLOCK
└─ LogError          the log does not verify                  LOG
"""

from __future__ import annotations

from typing import ClassVar


class AuthorityError(Exception):
    """An operation that was refused; nothing was changed."""

    code: ClassVar[str] = "AUTHORITY"


class FormError(AuthorityError):
    """What was handed in cannot be used."""

    code = "FORM"


class NotFoundError(AuthorityError):
    """There is no such record."""

    code = "NOT_FOUND"


class RoleError(AuthorityError):
    """The actor has no role that may do this, or the record is someone else's."""

    code = "ROLE"


class SecondError(AuthorityError):
    """Another person has to do this: the applicant does not decide, and nobody confirms their own decision."""

    code = "SECOND_PERSON"


class TransitionError(AuthorityError):
    """The record is in a state that does not allow the operation."""

    code = "TRANSITION"


class PermitError(AuthorityError):
    """The model imitates persons, and no training permit covers how it was trained."""

    code = "TRAINING_PERMIT"

    def __init__(self, detail: str) -> None:
        super().__init__(f"TRAINING_PERMIT: {detail}")


class ClockError(AuthorityError):
    """The clock went back: what would be published now would be refused as older than what was."""

    code = "CLOCK"


class LogError(AuthorityError):
    """The authority's own log does not verify. `seq` is the first bad entry, None when it is the log as a whole."""

    code = "LOG"

    def __init__(self, detail: str, seq: int | None = None) -> None:
        self.seq = seq
        super().__init__(detail if seq is None else f"entry {seq}: {detail}")
