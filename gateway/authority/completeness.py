"""What a complete application holds, regime by regime. Data and one function; an officer reads the result.

Every regime asks for the dossier: need, objectives, data sources, intended applications, security and anti-misuse
measures (Interim Measures 2023, art. 7 and 17, as applications state them). A regime that is not listed asks for that alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from gateway.authority.model import Missing

_A = "license.application."
_DOSSIER = (
    (_A + "need", "why the model is needed"),
    (_A + "objectives", "what it is made for"),
    (_A + "data_sources", "where its data come from"),
    (_A + "intended_applications", "where it will be used"),
    (_A + "security_measures", "how data and service are protected"),
    (_A + "anti_misuse_measures", "how misuse is prevented"),
)
_WHO = (
    ("license.holder.legal_name", "who will hold the license"),
    ("license.holder.id_code", "the holder's code, such as USCC or LEI"),
)
_SCOPE = (
    ("license.jurisdictions", "where it will be offered"),
    ("license.purposes", "what it will be used for"),
    ("license.modalities_out", "what it puts out"),
)
_ANNEX_VIII = (  # AI Act, Annex VIII, section A, 1-13
    ("license.holder.address", "Annex VIII A 1"),
    ("license.holder.contact", "Annex VIII A 1"),
    ("license.system.trade_name", "Annex VIII A 4"),
    ("license.system.unambiguous_ref", "Annex VIII A 4"),
    ("license.system.intended_purpose", "Annex VIII A 5"),
    ("license.system.inputs_logic", "Annex VIII A 6"),
    ("license.system.status", "Annex VIII A 7"),
    ("license.system.member_states", "Annex VIII A 10"),
    ("license.system.doc_digest", "Annex VIII A 11: declaration of conformity"),
)


class Regime(NamedTuple):
    """What a regime asks of an application, and of its assessment."""

    fields: tuple[tuple[str, str], ...]
    assessments: frozenset[str] = frozenset()  # types that have to be attached before an approval


_PLAIN = Regime((*_DOSSIER, *_WHO, *_SCOPE))
REGIMES: Mapping[str, Regime] = MappingProxyType(
    {
        # Interim Measures art. 17: security assessment and algorithm filing.
        "cn-beian": Regime(
            (*_PLAIN.fields, ("license.filing.province", "which local office it goes through")),
            frozenset({"security"}),
        ),
        # The lighter tier: an unmodified model that somebody else has filed, called by its interface.
        "cn-dengji": Regime(
            (
                *_PLAIN.fields,
                ("license.filing.province", "which local office it goes through"),
                ("license.filing.launched_at", "when service begins: its clock starts then"),
                ("license.model.base_model.name", "the filed model that is called"),
                ("license.model.base_model.license_id", "the filing or license of that model"),
            )
        ),
        # Algorithm Provisions art. 24.
        "cn-algo": Regime(
            (*_PLAIN.fields, ("license.filing.launched_at", "when service begins")), frozenset({"algo_self"})
        ),
        "eu-db": Regime((*_PLAIN.fields, *_ANNEX_VIII)),
        "us-ca-contract": Regime(
            (
                *_PLAIN.fields,
                ("license.disclosure.latent", "the system must be able to mark its output (SB 942)"),
                ("license.tenant_contract", "the contract that keeps that ability"),
            )
        ),
        # A company's own board: the dossier, and who answers for it.
        "internal": Regime((*_DOSSIER, ("license.holder.legal_name", "which unit will hold the license"))),
    }
)
_PERMIT = Regime(
    (
        ("permit.holder", "who trains"),
        ("permit.model", "the model to be made"),
        ("permit.objectives", "what it is made for"),
        ("permit.data_sources", "digests of the data"),
        ("permit.grants", "references to the consent of the people imitated"),
        ("permit.intended_applications", "where it will be used"),
        ("permit.capabilities", "what it will be able to do"),
    ),
    frozenset({"security"}),
)


def regime_of(kind: str, regime: str) -> Regime:
    """What is asked. Permits are asked the same everywhere."""
    return _PERMIT if kind == "permit" else REGIMES.get(regime, _PLAIN)


def missing(kind: str, regime: str, form: Mapping[str, Any]) -> tuple[Missing, ...]:
    """What a complete application would hold, and this one does not."""
    lacks = [Missing(field, why) for field, why in regime_of(kind, regime).fields if not _at(form, field.split("."))]
    if regime == "cn-dengji" and _at(form, ["license", "model", "modified"]):
        lacks.append(Missing("license.model.modified", "this tier is for unmodified models; apply under cn-beian"))
    if _at(form, ["license", "disclosure", "latent"]) and not _at(form, ["license", "modalities_out"]):
        lacks.append(Missing("license.modalities_out", "a mark needs to know what is marked"))
    return tuple(lacks)


def unassessed(kind: str, regime: str, assessments: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Types of assessment that the regime asks for and nobody has attached."""
    return tuple(sorted(regime_of(kind, regime).assessments - {str(made.get("type")) for made in assessments}))


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
