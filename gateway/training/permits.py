"""Whether a permit gives leave: for training from this model, on these files, for these people's voices, now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.license.permits import Permit, gaps, withdrawn
from gateway.license.record import Holder
from gateway.license.standing import NO_STANDING, Standing
from gateway.license.token import Failure
from gateway.reasons import Reason
from policies.model import LicenseRules

VOICE_CLONE = "voice_clone"  # the capability, as permits and licenses name it


_DEFAULTS = LicenseRules()


@dataclass(frozen=True, slots=True)
class Told:
    """What authorities say now, and how old that may be. Unless stated, nothing: a permit with a status does not count."""

    standing: Standing = NO_STANDING
    rules: LicenseRules = _DEFAULTS


_NOTHING = Told()


@dataclass(frozen=True, slots=True)
class Need:
    """What a call needs leave for."""

    files: Sequence[tuple[str, ...]] = ()  # each by all digests that are known of it
    consents: Collection[str] | None = None  # references, one of which the permit must hold; None: nobody's voice
    unknown: bool = False  # it names a file that did not come through here


def missing(
    permit: Permit, need: Need, *, base_model: str, holder: Holder | None, now_s: float, told: Told = _NOTHING
) -> tuple[Failure, ...]:
    """What this permit does not cover; the details are for operators."""
    sources = frozenset(permit.grant.data_sources)
    digests = [next((one for one in file if one in sources), file[0]) for file in need.files]
    capabilities = () if need.consents is None else (VOICE_CLONE,)
    found = gaps(permit, now_s=now_s, base_model=base_model, capabilities=capabilities, data_sources=digests)
    more = []
    if need.consents is not None and not set(need.consents) & set(permit.grant.grants):
        more.append("the permit holds no such consent")
    if need.unknown:
        more.append("a file did not come here under a permit")
    if not _same(permit.grant.holder, holder):
        more.append("the permit is another holder's")
    found += withdrawn(permit, told.standing, told.rules, now_s=now_s)
    return (*found, *(Failure(Reason.TRAINING_PERMIT, detail) for detail in more))


def leave(
    permits: Sequence[Permit | Failure],
    need: Need,
    *,
    base_model: str,
    holder: Holder | None,
    now_s: float,
    told: Told = _NOTHING,
) -> Permit | None:
    """The first permit that covers all of it. One that could not be read covers nothing."""
    for permit in permits:
        if not isinstance(permit, Permit):
            continue
        if not missing(permit, need, base_model=base_model, holder=holder, now_s=now_s, told=told):
            return permit
    return None


def _same(permitted: Holder | str | None, licensed: Holder | None) -> bool:
    """Whether two statements of a holder can mean the same one, as far as both say."""
    if permitted is None or licensed is None:
        return True
    if isinstance(permitted, str):
        permitted = Holder(id_code=permitted)
    if permitted.id_code is not None and licensed.id_code is not None:
        return permitted.id_code == licensed.id_code
    if permitted.legal_name is not None and licensed.legal_name is not None:
        return permitted.legal_name == licensed.legal_name
    return True
