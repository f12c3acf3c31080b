"""The keys `audit` and `telemetry` of the settings file, and what is built of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.settings.audit import (
    DAY_S,
    S3,
    AuditSettings,
    Custodian,
    Otlp,
    Pkcs11,
    Retention,
    Sealing,
    SignerSettings,
    Spool,
    Stream,
    Telemetry,
    WitnessSettings,
)
from policies.spec import Choice, Duration, Either, Key, Many, Number, Record, Table, Text, Whole
from policies.yamlread import Log, Node, find

PLACES: Final = ("otlp", "syslog", "jsonl", "s3")
_X25519_BYTES = _ED25519_BYTES = 32
_HUNDRED_YEARS_S = 36_500 * DAY_S

_PATH = Text(chars_max=4096, expect="a path")
_URL = Text(chars_max=2048, expect="a URL")
_KEY = Text(r"[A-Za-z0-9+/]{43}=", "32 bytes in base64")
_NAME = Text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "letters, digits, `.`, `_` and `-`")

_RETENTION = {
    "trace": ("records of calls", 200 * DAY_S),
    "incident": ("evidence, after its case was closed", 3 * 365 * DAY_S),
    "consent": ("records of consent and of training", 3 * 365 * DAY_S),
    "history": ("which policies, licenses and orders were in force", 3650 * DAY_S),
    "transcript": ("encrypted exchanges", 30 * DAY_S),
}

AUDIT = Record(
    {
        "seal": Key(
            Record(
                {
                    "every_s": Key(
                        Number(0.1, 600), "A head is signed at least this often, also when nothing happened.", 10.0
                    ),
                    "records": Key(Whole(1, 1_000_000), "And after this many records.", 4096),
                }
            ),
            "When heads of the log are signed.",
        ),
        "signer": Key(
            Record(
                {
                    "name": Key(
                        Text(r"[A-Za-z0-9._-]{0,121}", "letters, digits, `.`, `_` and `-`", chars_min=0),
                        "The log's name, in signatures and before each origin; empty: the gateway's id.",
                        "",
                    ),
                    "command": Key(
                        Many(Text(chars_max=4096), items_max=32),
                        "A command that signs: the message on its standard input, the signature on its standard output.",
                        (),
                    ),
                    "public": Key(_KEY, "The command's public key (Ed25519), in base64."),
                    "pkcs11": Key(
                        Record(
                            {
                                "module": Key(_PATH, "the token's library", required=True),
                                "token": Key(Text(chars_max=64), "the token's label", required=True),
                                "label": Key(Text(chars_max=64), "the key's label", required=True),
                                "pin_file": Key(_PATH, "a file with the PIN", required=True),
                            }
                        ),
                        "A key in a token that speaks PKCS#11.",
                        {},
                    ),
                }
            ),
            "Where the log's key is; without any of it, in DATA/keys.",
        ),
        "witnesses": Key(
            Many(
                Record(
                    {
                        "url": Key(_URL, "where it answers add-checkpoint", required=True),
                        "key": Key(Text(chars_max=512, expect="a verifier key"), "its verifier key", required=True),
                    }
                ),
                items_max=16,
                single=False,
            ),
            "Witnesses that cosign the log's heads.",
            (),
        ),
        "witnesses_required": Key(
            Whole(0, 16), "How many of them must have seen a head. 0: their silence only alarms.", 0
        ),
        "witness_lag": Key(
            Duration(1, 7 * DAY_S),
            "How old the newest head with enough cosignatures may be; beyond it the spool is full.",
            60,
        ),
        "fleet": Key(
            Many(Text(chars_max=2048, expect="a folder or URL"), items_max=64),  # what a round of the sealer asks
            "Logs of other gateways, to whose heads this one's fleet log commits as well.",
            (),
        ),
        "spool": Key(
            Record(
                {
                    "bytes_max": Key(Whole(1 << 20, 1 << 40), "Bytes that may wait for a required place.", 1 << 30),
                    "age": Key(Duration(1, 30 * DAY_S), "How long the oldest record may wait for one.", 3600),
                }
            ),
            "What may wait; beyond it a policy's `failure.spool_full` decides.",
        ),
        "retention": Key(
            Record(
                {
                    name: Key(Duration(0, _HUNDRED_YEARS_S), f"How long {what} stay.", default)
                    for name, (what, default) in _RETENTION.items()
                }
            ),
            "How long things are kept; `licet audit prune` removes what is older.",
        ),
        "custodians": Key(
            Many(
                Record(
                    {
                        "name": Key(_NAME, "the custodian's name", required=True),
                        "key": Key(_KEY, "the public key that `licet audit custodian new` prints", required=True),
                    }
                ),
                items_max=8,
                single=False,
            ),
            "Who, two together, may open evidence.",
            (),
        ),
        "digest_key": Key(
            Duration(DAY_S, 3650 * DAY_S), "How long a key of digests is used before the next is made.", 365 * DAY_S
        ),
    }
)

_LINES = Record(
    {
        "host": Key(Text(chars_max=253), "host name", required=True),
        "port": Key(Whole(1, 65_535), "port", 6514),
        "tls": Key(Choice((True, False)), "false: in the clear, for a collector on this very host.", True),
        "ca_file": Key(_PATH, "Certificates (PEM) to trust instead of the system's own."),
        "cert_file": Key(_PATH, "Our certificate (PEM), where the place asks for one."),
        "key_file": Key(_PATH, "Its key."),
    }
)

TELEMETRY = Record(
    {
        "otlp": Key(
            Either(
                _URL,
                Record(
                    {
                        "endpoint": Key(_URL, "e.g. http://127.0.0.1:4318", required=True),
                        "headers": Key(
                            Table(r"[A-Za-z0-9-]{1,64}", "a header's name", Text(chars_max=8192, secret=True), 32),
                            "Fields sent with each request, such as authorization.",
                            {},
                        ),
                        "semconv": Key(
                            Many(Choice(("gen_ai", "guardrail", "audit", "metrics")), items_min=1, items_max=4),
                            "Attributes beside our own: OpenTelemetry's for generative models, its drafts for guardrails and for "
                            "audit records; and whether metrics are sent too.",
                            ("gen_ai", "metrics"),
                        ),
                        "project": Key(
                            Text(chars_max=128), "The backend's project, for those that have some.", "licet"
                        ),
                        "ca_file": Key(_PATH, "Certificates (PEM) to trust instead of the system's own."),
                    }
                ),
            ),
            "OTLP/HTTP: its base URL, or a mapping.",
        ),
        "syslog": Key(_LINES, "RFC 5424 over TLS.", {}),
        "jsonl": Key(_LINES, "One JSON document a line, over TLS.", {}),
        "s3": Key(
            Record(
                {
                    "endpoint": Key(_URL, "e.g. https://s3.example.com", required=True),
                    "bucket": Key(
                        Text(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket's name"),
                        "a bucket with object lock",
                        required=True,
                    ),
                    "region": Key(Text(chars_max=64), "Its region.", "us-east-1"),
                    "access_key": Key(Text(chars_max=256, secret=True), "the access key", required=True),
                    "secret_key": Key(Text(chars_max=256, secret=True), "the secret key", required=True),
                    "retain": Key(Duration(DAY_S, _HUNDRED_YEARS_S), "How long objects are locked.", 200 * DAY_S),
                    "prefix": Key(
                        Text(
                            r"(?:[A-Za-z0-9!_.*'()/-]{1,511}/)?", "letters and digits, with / at the end", chars_min=0
                        ),
                        "Before each object's name.",
                        "",
                    ),
                    "ca_file": Key(_PATH, "Certificates (PEM) to trust instead of the system's own."),
                }
            ),
            "A bucket with object lock, for sealed records and heads.",
            {},
        ),
        "required": Key(
            Many(Choice(PLACES), items_max=4),
            "Of these places, those whose backlog counts for `failure.spool_full`.",
            (),
        ),
    }
)


def check_audit(raw: Mapping[str, Any], root: Node, log: Log, url_fault: Callable[[str], str | None]) -> None:
    """What concerns several keys of both sections at once, and what is asked of URLs: `url_fault` says what is wrong with one."""
    audit, telemetry = raw["audit"] or {}, raw["telemetry"] or {}
    witnesses = [w or {} for w in audit.get("witnesses") or ()]
    required = audit.get("witnesses_required") or 0
    if required > len(witnesses):
        place = find(root, "audit", "witnesses_required")
        log.add(
            place,
            "audit.witnesses_required",
            f"{required} of {len(witnesses)} witnesses",
            "add witnesses, or require fewer",
        )
    signer = audit.get("signer") or {}
    if bool(signer.get("command")) != (signer.get("public") is not None):
        remedy = "give both, or neither"
        log.add(find(root, "audit", "signer"), "audit.signer", "a command that signs needs its public key", remedy)
    custodians = [c or {} for c in audit.get("custodians") or ()]
    if len(custodians) == 1:
        what = "evidence is opened by two together, and there is one"
        log.add(find(root, "audit", "custodians"), "audit.custodians", what, "add a second custodian")
    for key in ("name", "key"):
        values = [c.get(key) for c in custodians]
        for i, value in enumerate(values):
            if value is not None and value in values[:i]:
                log.add(
                    find(root, "audit", "custodians", i, key),
                    f"audit.custodians[{i}].{key}",
                    "the same twice",
                    "each needs its own",
                )
    for at in ("signer", "custodians"):
        keys = [signer.get("public")] if at == "signer" else [c.get("key") for c in custodians]
        for i, text in enumerate(keys):
            if text is not None and _raw(text) is None:
                log.add(
                    find(root, "audit", at), f"audit.{at}", f"key {i + 1} is not 32 bytes in base64", "copy it again"
                )
    urls: list[tuple[tuple[str | int, ...], str | None]] = [
        (("audit", "witnesses", i, "url"), one.get("url")) for i, one in enumerate(witnesses)
    ]
    otlp = telemetry.get("otlp")
    at_otlp = ("telemetry", "otlp", "endpoint") if isinstance(otlp, dict) else ("telemetry", "otlp")
    urls.append((at_otlp, otlp.get("endpoint") if isinstance(otlp, dict) else otlp))
    urls.append((("telemetry", "s3", "endpoint"), (telemetry.get("s3") or {}).get("endpoint")))
    for path, url in urls:
        fault = url_fault(url) if url else None
        if fault:
            shown = ".".join(str(step) for step in path).replace(".0", "[0]")
            log.add(find(root, *path), shown, fault, "write e.g. https://collector.example")
    for name in telemetry.get("required") or ():
        if name is not None and not telemetry.get(name):
            log.add(
                find(root, "telemetry", "required"),
                "telemetry.required",
                f"{name} is not set",
                f"add telemetry.{name}, or remove it here",
            )


def _raw(text: str) -> bytes | None:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == _X25519_BYTES else None


def build_audit(raw: Mapping[str, Any], folder: Path) -> AuditSettings:
    """The section `audit`, paths relative to `folder`."""
    signer, spool, retention = raw["signer"], raw["spool"], raw["retention"]
    token = signer["pkcs11"]
    return AuditSettings(
        sealing=Sealing(
            every_s=raw["seal"]["every_s"],
            every_records=raw["seal"]["records"],
            signer=SignerSettings(
                name=signer["name"],
                command=tuple(signer["command"]),
                public=signer["public"] or "",
                pkcs11=Pkcs11(
                    _path(folder, token["module"]), token["token"], token["label"], _path(folder, token["pin_file"])
                )
                if token
                else None,
            ),
            witnesses=tuple(WitnessSettings(**one) for one in raw["witnesses"]),
            required=raw["witnesses_required"],
            lag_max_s=float(raw["witness_lag"]),
            fleet=tuple(one if "://" in one else str(_path(folder, one)) for one in raw["fleet"]),
        ),
        spool=Spool(bytes_max=spool["bytes_max"], age_max_s=float(spool["age"])),
        retention=Retention(**{f"{name}_s": retention[name] for name in _RETENTION}),
        custodians=tuple(Custodian(**one) for one in raw["custodians"]),
        digest_key_s=raw["digest_key"],
    )


def build_telemetry(raw: Mapping[str, Any], folder: Path) -> Telemetry:
    """The section `telemetry`."""
    otlp, s3 = raw["otlp"], raw["s3"]
    if isinstance(otlp, str):
        otlp = {"endpoint": otlp, "headers": {}, "semconv": ("gen_ai", "metrics"), "project": "licet", "ca_file": None}
    return Telemetry(
        otlp=Otlp(
            endpoint=otlp["endpoint"].rstrip("/"),
            headers=tuple(otlp["headers"].items()),
            semconv=tuple(otlp["semconv"]),
            project=otlp["project"],
            ca_file=_file(folder, otlp["ca_file"]),
        )
        if otlp
        else None,
        syslog=_lines(raw["syslog"], folder),
        jsonl=_lines(raw["jsonl"], folder),
        s3=S3(
            endpoint=s3["endpoint"].rstrip("/"),
            bucket=s3["bucket"],
            region=s3["region"],
            access_key=s3["access_key"],
            secret_key=s3["secret_key"],
            retain_s=s3["retain"],
            prefix=s3["prefix"],
            ca_file=_file(folder, s3["ca_file"]),
        )
        if s3
        else None,
        required=tuple(raw["required"]),
    )


def _lines(raw: Mapping[str, Any], folder: Path) -> Stream | None:
    if not raw:
        return None
    files = {key: _file(folder, raw[key]) for key in ("ca_file", "cert_file", "key_file")}
    return Stream(host=raw["host"], port=raw["port"], tls=raw["tls"], **files)


def _file(folder: Path, text: str | None) -> Path | None:
    return None if text is None else _path(folder, text)


def _path(folder: Path, text: str) -> Path:
    return folder / Path(text).expanduser()
