"""What of the sections `audit` and `telemetry` would stop a start, or leave records unsealed or unsent: found without a network, a
token or a command being asked. What the log's own keys say is looked at where they are here; nothing is made or written.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from gateway.audit.sealed import SealedError
from gateway.errors import ConfigError
from gateway.settings import Settings
from gateway.settings.audit import Otlp, Sealing, SignerSettings, Stream, Telemetry
from gateway.tlog.frames import host_id
from gateway.vault.access import VaultError
from gateway.vault.custody import holders
from gateway.vault.lost import lost_keys

OTHERS_PASS, OTHERS_READ = 0o011, 0o044  # bits of a folder's and of a file's mode: group and all


def unready(settings: Settings) -> list[str]:
    """Each problem with its field and remedy, under the name of the settings' file."""
    audit = settings.audit
    problems = [*_signer(audit.sealing.signer), *_witnesses(audit.sealing, settings.data), *_fleet(audit.sealing.fleet)]
    if not problems:
        problems += _keys(settings)
    problems += _shown(settings.data / "keys")
    problems += _lost(settings.data)
    try:
        holders(audit.custodians)
    except VaultError as error:
        problems.append(str(error))
    problems += _telemetry(settings.telemetry, settings.data)
    return [f"{settings.source}: {problem}" for problem in problems]


def _signer(signer: SignerSettings) -> Iterator[str]:
    at = "audit.signer"
    if signer.command:
        program = signer.command[0]
        if shutil.which(program) is None:
            yield f"{at}.command: {program} is no program that can be run here; install it, or give its full path"
        return
    token = signer.pkcs11
    if token is None:
        return
    if importlib.util.find_spec("pkcs11") is None:
        yield f"{at}.pkcs11: python-pkcs11 is not installed; run `pip install 'licet[pkcs11]'`"
    if not token.module.is_file():
        yield f"{at}.pkcs11.module: {token.module}: there is no such file; give the library that came with the token"
    if not token.pin_file.is_file():
        yield f"{at}.pkcs11.pin_file: {token.pin_file}: there is no such file; write the token's PIN there"


def _keys(settings: Settings) -> list[str]:
    """What the log's keys of the past say of these settings. A token is not opened."""
    from gateway.seal.process import demand_name  # not before it is needed, as all below
    from gateway.signing.keys import SIGNERS_NAME, LogKeys, demand_file, mistaken, read_signers

    signer = settings.audit.sealing.signer
    place = settings.data / "keys" / SIGNERS_NAME
    name = signer.name or host_id()
    try:
        demand_name(settings.data, name)
        if not place.is_file() and not signer.command and signer.pkcs11 is None:
            demand_file(settings.data)
        if signer.pkcs11 is not None or not place.is_file() or read_signers(settings.data).name != name:
            return []  # a start takes the name on where no statement holds another
        if signer.command and mistaken(settings.data, (base64.b64decode(signer.public),)):
            return []  # and another key where none ever signed
        LogKeys(signer, settings.data, name)
    except ConfigError as error:
        return list(error.problems)
    except OSError as error:
        return [f"{error.filename or place}: {error.strerror or error}; run this as the gateway's user"]
    return []


def _shown(folder: Path) -> Iterator[str]:
    """Secrets that others of this host may read. Both the file and its folder have to let them."""
    try:
        if folder.stat().st_mode & OTHERS_PASS:
            names = [path.name for path in sorted(folder.iterdir()) if path.stat().st_mode & OTHERS_READ]
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                yield f"{folder}: others than the gateway's user can read {names[0]}{more}; run `chmod -R go= {folder}`"
    except FileNotFoundError:
        return  # nothing was started here yet, or it went meanwhile
    except OSError as error:
        yield f"{error.filename or folder}: {error.strerror or error}; run this as the gateway's user"


def _lost(data: Path) -> list[str]:
    """Keys that something kept here depends on. A start says so too, and goes on."""
    try:
        return lost_keys(data)
    except SealedError as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename or data}: {error.strerror or error}; run this as the gateway's user"]


def _witnesses(sealing: Sealing, data: Path) -> list[str]:
    from gateway.seal.witness_client import WitnessClient
    from gateway.seal.witness_group import WitnessGroup

    nowhere = data / "run" / "witnesses"
    problems = []
    for i, one in enumerate(sealing.witnesses):
        try:
            WitnessClient(one, nowhere)
        except ConfigError as error:
            told = str(error).replace("audit.witnesses.", f"audit.witnesses[{i}].", 1)
            problems.append(f"{told}; copy what the witness tells of itself (`licet audit witness show`)")
    if sealing.witnesses and not problems:
        try:
            WitnessGroup(sealing.witnesses, sealing.required, nowhere)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _fleet(places: tuple[str, ...]) -> Iterator[str]:
    from gateway.seal.others import OtherLogs

    for i, text in enumerate(places):
        at = f"audit.fleet[{i}]"
        place = text.partition(" ")[0]
        form = "write the folder or http(s) URL of a log, and behind a space its verifier key if you have it"
        try:
            OtherLogs((text,))
            found = urlsplit(place) if "://" in place else None
        except ValueError as error:
            yield f"{at}: {error}; {form}"
            continue
        if found is None:
            if not Path(place).is_dir():
                yield f"{at}: {place}: there is no such folder; {form}"
        elif found.scheme not in ("http", "https") or not found.hostname:
            yield f"{at}: this is no http:// or https:// address; {form}"


def _telemetry(telemetry: Telemetry, data: Path) -> Iterator[str]:
    if not telemetry.any:
        return
    from gateway.ship.process import Work, sinks_of

    for name in ("otlp", "syslog", "jsonl", "s3"):
        place = getattr(telemetry, name)
        if place is None:
            continue
        files = list(_files(place, f"telemetry.{name}"))
        yield from files
        if files:
            continue
        try:
            for sink in sinks_of(Work(data.absolute(), host_id(), dataclasses.replace(Telemetry(), **{name: place}))):
                sink.close()
        except ConfigError as error:
            yield from error.problems


def _files(place: Otlp | Stream, at: str) -> Iterator[str]:
    for field in ("ca_file", "cert_file", "key_file"):
        path: Path | None = getattr(place, field, None)
        if path is not None and not path.is_file():
            yield f"{at}.{field}: {path}: there is no such file; correct the path, or put it there"
        elif path is not None and field == "ca_file":
            try:
                ssl.create_default_context(cafile=str(path))
            except (OSError, ValueError):
                yield f"{at}.ca_file: {path} holds no certificates in PEM that can be read; put some there"
