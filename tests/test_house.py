"""The house stays in order: imports follow the arrow, public names are said, documents know every key."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("filters", "gateway", "policies")

# Who may import whom, room by room. A room is a package, or a file of `gateway/`. What is not listed may import nothing
# of ours but the words that all rooms share.
SHARED = {
    "gateway",
    "gateway.errors",
    "gateway.file_lock",
    "gateway.own_module",
    "gateway.printable",
    "gateway.reasons",
    "gateway.shown_time",
    "gateway.strict_json",
    "gateway.whole_file",
}
MAY: dict[str, set[str]] = {
    "filters": set(),
    "policies": set(),
    "gateway": set(),
    "gateway.reasons": set(),
    "gateway.reason_registry": set(),
    "gateway.reason_cli": {"gateway.reason_registry"},
    "gateway.strict_json": set(),
    "gateway.whole_file": set(),
    "gateway.file_lock": set(),
    "gateway.own_module": set(),
    "gateway.shown_time": set(),
    "gateway.printable": set(),
    "gateway.errors": {"gateway.reasons"},
    "gateway.faults": set(),
    "gateway.keyfile": set(),
    "gateway.owned": set(),
    "gateway.live_connections": set(),
    "gateway.lazy": set(),
    "gateway.tlog": set(),
    "gateway.signing": {"gateway.keyfile", "gateway.settings", "gateway.tlog"},
    "gateway.audit": {"gateway.keyfile", "gateway.live_connections", "gateway.tlog", "policies", "gateway.signing"},
    "gateway.seal": {"gateway.owned", "gateway.audit", "gateway.settings", "gateway.signing", "gateway.tlog"},
    "gateway.ship": {
        "gateway.owned",
        "gateway.audit",
        "gateway.history",
        "gateway.reason_registry",
        "gateway.settings",
        "gateway.tlog",
    },
    "gateway.history": {"gateway.audit", "gateway.settings", "gateway.tlog"},
    "gateway.evidence": {"gateway.audit", "gateway.history", "gateway.license", "gateway.reports", "gateway.tlog"},
    "gateway.reports": {
        "filters",
        "gateway.audit",
        "gateway.evidence",
        "gateway.history",
        "gateway.license",
        "gateway.tlog",
        "policies",
    },
    "gateway.vault": {
        "gateway.audit",
        "gateway.evidence",
        "gateway.history",
        "gateway.keyfile",
        "gateway.settings",
        "gateway.tlog",
        "policies",
    },
    "gateway.completeness": {
        "gateway.audit",
        "gateway.evidence",
        "gateway.history",
        "gateway.seal",
        "gateway.signing",
        "gateway.tlog",
        "gateway.vault",
    },
    "gateway.license": {"policies"},
    "gateway.trust": {"gateway.license", "gateway.live_connections", "gateway.settings"},
    "gateway.authority": {
        "gateway.audit",
        "gateway.edge",
        "gateway.license",
        "gateway.signing",
        "gateway.state",
        "gateway.tlog",
        "policies",
    },
    "gateway.protocols": set(),
    "gateway.sample": set(),
    "gateway.edge": set(),
    "gateway.headers": set(),
    "gateway.routes": set(),
    "gateway.upstream": set(),
    "gateway.upstream_aiohttp": {"gateway.routes", "gateway.upstream"},
    "gateway.attest": {"gateway.license", "gateway.routes", "gateway.upstream"},
    "gateway.state": set(),
    "gateway.metrics": set(),
    "gateway.names": {"gateway.owned", "filters"},
    "gateway.recognizers": {"filters", "gateway.names", "gateway.settings"},
    "gateway.judges": {"filters", "gateway.names", "gateway.recognizers", "gateway.settings"},
    "gateway.pseudonyms": {"filters", "gateway.keyfile", "gateway.state"},
    "gateway.auditors": {
        "gateway.audit",
        "gateway.completeness",
        "gateway.history",
        "gateway.reports",
        "gateway.tlog",
    },
    "gateway.wall": set(),
    "gateway.spool": {"gateway.audit", "gateway.settings", "policies"},
    "gateway.clocks": {"gateway.license", "gateway.metrics", "policies"},
    "gateway.clocks_cli": {
        "gateway.checkup",
        "gateway.clocks",
        "gateway.filter_rules",
        "gateway.license",
        "gateway.settings",
        "gateway.trust",
        "policies",
    },
    "gateway.standing_notes": {"gateway.audit", "gateway.license"},
    "gateway.beside": {"gateway.audit", "gateway.seal", "gateway.settings", "gateway.ship", "gateway.tlog"},
    "gateway.callers": {"gateway.state", "policies"},
    "gateway.record_rules": {"gateway.settings", "gateway.vault", "policies"},
    "gateway.reload": {"policies"},
    "gateway.settings": {"gateway.license", "policies"},
    "gateway.trail_check": {
        "gateway.audit",
        "gateway.seal",
        "gateway.settings",
        "gateway.ship",
        "gateway.signing",
        "gateway.tlog",
        "gateway.vault",
    },
    "gateway.checkup": {
        "gateway.license",
        "gateway.record_rules",
        "gateway.settings",
        "gateway.trail_check",
        "gateway.trust",
        "policies",
    },
    "gateway.policy_cli": {
        "filters",
        "gateway.checkup",
        "gateway.filter_rules",
        "gateway.recognizers",
        "gateway.settings",
        "policies",
    },
    "gateway.screen": {"filters", "gateway.protocols"},
    "gateway.filter_rules": {"filters", "gateway.protocols", "gateway.screen", "policies"},
    "gateway.held": {"filters", "gateway.audit", "gateway.protocols", "gateway.screen"},
    "gateway.streams": {"filters", "gateway.audit", "gateway.held", "gateway.protocols", "gateway.screen"},
    "gateway.conversation": {
        "filters",
        "gateway.protocols",
        "gateway.pseudonyms",
        "gateway.screen",
        "gateway.state",
        "policies",
    },
    "gateway.authorities": {"gateway.license", "gateway.settings", "gateway.trust", "policies"},
    "gateway.governed": {
        "filters",
        "gateway.attest",
        "gateway.audit",
        "gateway.authorities",
        "gateway.license",
        "gateway.protocols",
        "gateway.screen",
        "gateway.upstream",
        "policies",
    },
    "gateway.catalog": {
        "filters",
        "gateway.clocks",
        "gateway.attest",
        "gateway.routes",
        "gateway.authorities",
        "gateway.callers",
        "gateway.filter_rules",
        "gateway.governed",
        "gateway.headers",
        "gateway.license",
        "gateway.protocols",
        "gateway.record_rules",
        "gateway.reload",
        "gateway.settings",
        "gateway.upstream",
        "gateway.upstream_aiohttp",
        "policies",
    },
    "gateway.scan": {"filters", "policies", "gateway.filter_rules", "gateway.protocols"},
    "gateway.training": {
        "gateway.callers",
        "gateway.catalog",
        "gateway.edge",
        "gateway.governed",
        "gateway.license",
        "gateway.protocols",
        "policies",
    },
    "gateway.call": {
        "gateway.audit",
        "gateway.callers",
        "gateway.governed",
        "gateway.license",
        "gateway.protocols",
        "gateway.pseudonyms",
        "gateway.screen",
        "gateway.streams",
        "gateway.training",
        "policies",
    },
    "gateway.keeping": {"gateway.audit", "gateway.call", "gateway.refusals", "gateway.vault", "policies"},
    "gateway.licensing": {"gateway.call", "gateway.catalog", "gateway.governed", "gateway.license"},
    "gateway.delivered": {
        "filters",
        "gateway.audit",
        "gateway.call",
        "gateway.headers",
        "gateway.protocols",
        "gateway.screen",
        "gateway.upstream",
        "policies",
    },
    "gateway.relay": {"gateway.audit", "gateway.call", "gateway.streams", "gateway.upstream"},
    "gateway.refusals": {"filters", "gateway.call", "gateway.headers", "policies"},
    "gateway.ledger": {
        "gateway.audit",
        "gateway.call",
        "gateway.governed",
        "gateway.metrics",
        "gateway.protocols",
        "gateway.screen",
    },
    "gateway.recording": {
        "gateway.audit",
        "gateway.call",
        "gateway.faults",
        "gateway.ledger",
        "gateway.metrics",
        "gateway.refusals",
    },
    "gateway.filtering": {
        "filters",
        "gateway.audit",
        "gateway.call",
        "gateway.conversation",
        "gateway.delivered",
        "gateway.ledger",
        "gateway.metrics",
        "gateway.protocols",
        "gateway.refusals",
        "gateway.screen",
        "gateway.streams",
        "policies",
    },
}
# The top of the arrow: the order of events, and those who build and run it. They may know every room below them.
TOP = (
    "gateway.pipeline",
    "gateway.doors",
    "gateway.app",
    "gateway.server",
    "gateway.demo",
    "gateway.audit_cli",
    "gateway.cli",
    "gateway.__main__",
)


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "gateway" else parts[0]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # Relative imports hide which room is meant; the one room that is installed under another name, too, needs them.
            assert node.level == 0 or (node.level == 1 and path.parent.name == "tlog"), f"{path}: relative import"
            module = ".".join(p for p in ("gateway.tlog" if node.level else "", node.module or "") if p)
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pytest.mark.parametrize("module", [pytest.param(name, id=name) for name, _ in modules()])
def test_imports_follow_the_arrow(module: str) -> None:
    path = dict(modules())[module]
    room = room_of(module)
    for name in sorted(imports(path)):
        if not is_module(name):
            continue
        other = room_of(name)
        if other == room or other in SHARED:
            continue
        if room in TOP:
            assert other not in TOP or TOP.index(other) < TOP.index(room), f"{module} reaches up to {name}"
            continue
        assert other in MAY[room], f"{module} may not import {name}"


def test_each_room_has_a_place_on_the_arrow() -> None:
    rooms = {room_of(name) for name, _ in modules()}
    assert rooms == set(MAY) | set(TOP)


def test_the_verifier_needs_no_gateway() -> None:
    seen: set[str] = set()
    todo = ["gateway.tlog.verify"]
    known = dict(modules())
    while todo:
        module = todo.pop()
        seen.add(module)
        todo += [n for n in imports(known[module]) if n in known and n not in seen]
    assert {room_of(m) for m in seen} <= {"gateway", "gateway.tlog"}


@pytest.mark.parametrize("package", ["filters", "policies", "gateway.protocols", "gateway.edge"])
def test_public_names_are_those_listed(package: str) -> None:
    module = importlib.import_module(package)
    listed = module.__all__
    assert sorted(listed, key=str.lower) == sorted(set(listed), key=str.lower)
    for name in listed:
        assert hasattr(module, name), f"{package}.__all__ names {name}, which is not there"
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    imported = {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
    public = {n for n in imported if not n.startswith("_") and n not in {"annotations", "Final", "Mapping"}}
    internal = {"CHAT", "COMPLETIONS", "EMBEDDINGS", "MESSAGES", "COUNT_TOKENS", "Adapter"}
    assert public - internal <= set(listed)


def test_files_stay_readable() -> None:
    """A file that outgrows this has become two things; data tables are not counted."""
    long = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules()}
    assert {name: lines for name, lines in long.items() if lines > 560} == {}


def readme() -> str:
    return (ROOT / "README.md").read_text("utf-8")


def test_the_readme_knows_each_reason_code() -> None:
    from gateway.reasons import Reason

    missing = [reason.code for reason in Reason if f"`{reason.code}`" not in readme()]
    assert missing == []


def keys(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        for name, inner in (schema.get("properties") or {}).items():
            yield name
            yield from keys(inner)
        for part in ("items", "anyOf", "oneOf"):
            yield from keys(schema.get(part))
    elif isinstance(schema, list):
        for inner in schema:
            yield from keys(inner)


def test_the_readme_knows_each_setting_and_policy_key() -> None:
    from gateway.settings import json_schema as settings_schema
    from policies.schema import json_schema as policy_schema

    text = readme()
    wanted = set(keys(settings_schema())) | set(keys(policy_schema()))
    missing = sorted(name for name in wanted if not re.search(rf"\b{re.escape(name)}\b", text))
    assert missing == []


def test_the_readme_knows_each_command() -> None:
    import typer.main

    from gateway.cli import app

    context: Any = None

    def commands(group: Any, prefix: str) -> Iterator[str]:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if command.hidden:
                continue
            if hasattr(command, "commands"):
                yield from commands(command, f"{prefix} {name}")
            else:
                yield f"{prefix} {name}"

    missing = [name for name in commands(typer.main.get_command(app), "licet") if name not in readme()]
    assert missing == []
