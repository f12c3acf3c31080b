"""The registry of reason codes: what others build rules, tickets and statistics on.

Rules: a code that was published stays, with its meaning, its status and its type. A new one raises `VERSION` and says so in `_SINCE`. One that is no longer
given stays in `Reason` and is named in `_DEPRECATED`. `breaks` tells what a change would break for those who read an older document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.reasons import Reason

SCHEMA: Final = "reasons.v1"
VERSION: Final = 1

GROUPS: Final[Mapping[str, tuple[Reason, ...]]] = {
    "caller": (Reason.AUTH_MISSING, Reason.AUTH_INVALID, Reason.RATE_LIMITED, Reason.CONCURRENCY_LIMITED),
    "request": (
        Reason.PATH_UNKNOWN,
        Reason.METHOD_NOT_ALLOWED,
        Reason.DIALECT_MISMATCH,
        Reason.MODEL_UNKNOWN,
        Reason.BODY_TOO_LARGE,
        Reason.BODY_MALFORMED,
        Reason.BODY_TIMEOUT,
        Reason.ENCODING_UNSUPPORTED,
        Reason.HEADERS_INVALID,
        Reason.HEADERS_TOO_LARGE,
        Reason.CONTENT_UNJUDGEABLE,
    ),
    "license": (
        Reason.LIC_MISSING,
        Reason.LIC_SIG,
        Reason.LIC_ISSUER,
        Reason.LIC_TIME,
        Reason.LIC_STATE,
        Reason.LIC_STATUS_STALE,
        Reason.ORDER_IN_FORCE,
        Reason.MODEL_MISMATCH,
        Reason.JURISDICTION,
        Reason.MODALITY,
        Reason.PURPOSE,
        Reason.AUDIENCE,
        Reason.TIER_MODIFIED,
        Reason.REGIME,
        Reason.REGION,
        Reason.CONDITION,
        Reason.ASSESSMENT_MISSING,
        Reason.DISCLOSURE_MISSING,
        Reason.TRAINING_PERMIT,
        Reason.BINDING,
        Reason.MODEL_DRIFT,
    ),
    "content": (Reason.CONTENT_BLOCKED, Reason.IMPERSONATION, Reason.DETECTOR_FAILED, Reason.HOLD_LIMIT),
    "delivery": (
        Reason.AUDIT_UNAVAILABLE,
        Reason.AUDIT_SPOOL,
        Reason.ANSWER_TOO_LARGE,
        Reason.STREAM_TOO_LONG,
        Reason.UPSTREAM_CONNECT,
        Reason.UPSTREAM_TIMEOUT,
        Reason.UPSTREAM_CLOSED,
        Reason.UPSTREAM_AUTH,
        Reason.UPSTREAM_REDIRECT,
        Reason.UPSTREAM_UNREADABLE,
        Reason.INTERNAL,
    ),
}
_SINCE: Final[Mapping[Reason, int]] = {}  # those that came after version 1
_DEPRECATED: Final[Mapping[Reason, int]] = {}  # from which version on a code is no longer given
_FIXED: Final = ("status", "type", "meaning", "group", "since")


def document() -> dict[str, Any]:
    """The registry, in the order of the groups."""
    return {
        "v": SCHEMA,
        "version": VERSION,
        "codes": [_line(group, reason) for group, reasons in GROUPS.items() for reason in reasons],
    }


def _line(group: str, reason: Reason) -> dict[str, Any]:
    line = {
        "code": reason.code,
        "status": reason.status,
        "type": reason.type,
        "meaning": reason.text,
        "group": group,
        "since": _SINCE.get(reason, 1),
    }
    if reason in _DEPRECATED:
        line["deprecated"] = _DEPRECATED[reason]
    return line


def breaks(old: Mapping[str, Any], new: Mapping[str, Any]) -> Sequence[str]:
    """Why `new` may not follow `old`: one sentence for each reason; none, if it may."""
    before = {line["code"]: line for line in old["codes"]}
    after = {line["code"]: line for line in new["codes"]}
    found = [f"{code}: it was published and is gone" for code in before.keys() - after.keys()]
    for code in before.keys() & after.keys():
        changed = [name for name in _FIXED if before[code][name] != after[code][name]]
        found += [f"{code}: its {name} is not what was published" for name in changed]
        if "deprecated" in before[code] and before[code]["deprecated"] != after[code].get("deprecated"):
            found.append(f"{code}: it was deprecated, and stays so")
    added = after.keys() - before.keys()
    found += [f"{code}: it is new, and its `since` is not version {new['version']}" for code in added if after[code]["since"] != new["version"]]  # fmt: skip
    retired = [c for c in before.keys() & after.keys() if "deprecated" in after[c] and "deprecated" not in before[c]]
    if (added or retired) and new["version"] <= old["version"]:
        found.append(f"the codes changed, and the version is still {old['version']}")
    if new["version"] < old["version"]:
        found.append(f"version {new['version']} comes after {old['version']}")
    return sorted(found)
