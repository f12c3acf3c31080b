"""Policies: one YAML file a model, written by a compliance officer; here it becomes frozen types.

A policy's life: bytes -> nodes with line numbers (`yamlread`) -> checked against the schema (`spec`, `schema`) ->
frozen (`model`), with the SHA-256 of its bytes as `digest`. On the way the presets that it names, regimes as data in
`presets`, are imposed on it (`impose`). A wrong file is never half used: `load` returns a whole policy or raises
`PolicyError` with every problem it found. This package imports nothing else of ours and reads no file but its presets.
"""

from __future__ import annotations

from policies.load import load
from policies.model import Action, CallerFacts, CustomEntity, Deviation, LicenseRules, Mode, Policy, PresetRef, Required
from policies.yamlread import PolicyError, Problem, explain

__all__ = [
    "Action",
    "CallerFacts",
    "CustomEntity",
    "Deviation",
    "LicenseRules",
    "Mode",
    "Policy",
    "PolicyError",
    "PresetRef",
    "Problem",
    "Required",
    "explain",
    "load",
]
