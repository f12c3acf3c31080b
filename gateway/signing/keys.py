"""Which keys sign a gateway's log now: the newest, and those it replaced, while they still sign beside it.

    DATA/keys/signers.json     the key's name, and of each key where it is: the first one ever used first
    DATA/log/keys              the statements by which one key hands over to the next (`gateway.tlog.keys`)

The statements decide; the settings say where a key is that they lead to. A setting that names a key of which no statement knows is
refused: who verifies could not follow. Both files are read again when they change, so a rotation needs no restart.
"""

from __future__ import annotations

import base64
import binascii
import logging
import time
from collections.abc import Callable, Container
from pathlib import Path

import msgspec

from gateway.errors import ConfigError
from gateway.settings.audit import Pkcs11, SignerSettings
from gateway.signing.command import CommandSigner
from gateway.signing.logkey import KEY_NAME, LogKey
from gateway.signing.pkcs11 import Pkcs11Signer
from gateway.tlog.heldproofs import ADOPTED_NAME
from gateway.tlog.keys import KEYS, KEYS_BYTES_MAX, KeysError, Term, key_terms
from gateway.tlog.note import ED25519, PUBLIC_BYTES, Signer, VerifierKey
from gateway.whole_file import new, put

log = logging.getLogger("licet.signing")

SIGNERS_NAME = "signers.json"
LOG_NAME = "log"


class Where(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a key is: in a file of DATA/keys, behind a command, or in a token."""

    public: str  # base64
    file: str = ""
    command: tuple[str, ...] = ()
    module: str = ""
    token: str = ""
    label: str = ""
    pin_file: str = ""

    @property
    def key(self) -> bytes:
        """The public key, 32 bytes."""
        return base64.b64decode(self.public)


class Signers(msgspec.Struct, frozen=True):
    """DATA/keys/signers.json."""

    name: str
    keys: tuple[Where, ...]


def open_signer(settings: SignerSettings, data_dir: Path) -> Signer:
    """The one key that these settings name; a file of ours is the first. Raises ConfigError, OSError. Knows nothing of rotation."""
    if settings.command:
        return CommandSigner(settings.command, _public(settings.public))
    if settings.pkcs11 is not None:
        return Pkcs11Signer(settings.pkcs11)
    demand_file(data_dir)
    return LogKey.load(data_dir)


def demand_file(data_dir: Path) -> None:
    """Raises ConfigError where the log's first key was lost: one that is made anew would sign none of the logs that are here."""
    path = data_dir / "keys" / KEY_NAME
    if path.exists():
        return
    for head in (data_dir / LOG_NAME).glob("*/checkpoint"):
        if not (head.parent / ADOPTED_NAME).exists():
            raise ConfigError(
                f"{path}: the log's key is missing, and heads were signed by it; restore it with {SIGNERS_NAME} beside it, or name the "
                "command or token that has it in audit.signer"
            )


class LogKeys:
    """The keys of one gateway's log. For one thread at a time."""

    def __init__(
        self, settings: SignerSettings, data_dir: Path, gateway_id: str, *, now_s: Callable[[], float] = time.time
    ) -> None:
        """Opens the keys that sign now. Raises ConfigError and OSError."""
        self.name = settings.name or gateway_id
        self._data_dir = data_dir
        self._now_s = now_s
        self._open: dict[bytes, Signer] = {}
        if settings.command or settings.pkcs11 is not None:
            configured = open_signer(settings, data_dir)
            self._open[configured.public] = configured
        self._seen: tuple[int, int, int] | None = None
        self._terms: dict[bytes, Term] = {}
        self._where: dict[bytes, Where] = {}
        if self._open and mistaken(data_dir, self._open):
            _signers_path(data_dir).unlink()
        if not _signers_path(data_dir).exists():
            self._first(settings)
        self._load()
        unknown = [key for key in self._open if key not in self._terms]
        if unknown:
            raise ConfigError(
                "audit.signer: these settings name a key that nothing leads to from the one that signed so far; "
                "put the old one back and run `licet audit key rotate`"
            )
        self.signers()

    def signers(self) -> tuple[Signer, ...]:
        """Newest first. All of them sign each head. Raises OSError where the newest cannot be reached, ConfigError for files that contradict.

        One of the older ones that cannot be reached is left out, and said so: what counts from now on is the newest one's word.
        """
        self._load()
        now = self._now_s()
        wanted = [key for key, term in self._terms.items() if term.until_s is None or now <= term.until_s]
        for key in [key for key in self._open if key not in wanted]:
            del self._open[key]  # its time is over: nothing here can sign with it any more
        found = [self._signer(wanted.pop())]
        for key in reversed(wanted):
            try:
                found.append(self._signer(key))
            except OSError as error:
                log.warning("a key of the log that was replaced does not sign beside the new one: %s", error)
        return tuple(found)

    @property
    def trusted(self) -> tuple[VerifierKey, ...]:
        """All keys that ever signed this log, oldest first."""
        self._load()
        return tuple(term.key for term in self._terms.values())

    @property
    def terms(self) -> tuple[Term, ...]:
        """The same with their terms."""
        self._load()
        return tuple(self._terms.values())

    def _signer(self, key: bytes) -> Signer:
        if key not in self._open:
            signer = open_where(self._where[key], self._data_dir)
            if signer.public != key:
                raise ConfigError(f"{_signers_path(self._data_dir)}: a key is not the one that signed; restore it")
            self._open[key] = signer
        return self._open[key]

    def _first(self, settings: SignerSettings) -> None:
        if keys_path(self._data_dir).exists():
            raise ConfigError(
                f"{_signers_path(self._data_dir)} is missing, and the log's keys were changed before; restore it"
            )
        signer = open_signer(settings, self._data_dir)
        try:
            write_signers(self._data_dir, Signers(self.name, (where_of(settings, signer.public),)), first=True)
        except FileExistsError:
            return  # another process was faster; what it wrote is checked like any other
        self._open[signer.public] = signer

    def _load(self) -> None:
        seen = _identity(keys_path(self._data_dir))
        if seen == self._seen and self._terms:
            return
        known = read_signers(self._data_dir)
        if known.name != self.name and not keys_path(self._data_dir).exists():  # no statement holds the name yet
            known = Signers(self.name, known.keys)
            write_signers(self._data_dir, known)
        if known.name != self.name:
            raise ConfigError(
                f"audit.signer.name: the log's keys sign under the name {known.name!r}, not {self.name!r}; "
                "a name that statements hold is for ever, give back the old one"
            )
        self._where = {where.key: where for where in known.keys}
        root = VerifierKey(self.name, ED25519, known.keys[0].key)
        try:
            terms = key_terms(read_statements(self._data_dir), (root,))
        except KeysError as error:
            raise ConfigError(f"{keys_path(self._data_dir)}: {error}; restore it") from error
        missing = [key for key in terms if key.public not in self._where]
        if missing:
            raise ConfigError(f"{_signers_path(self._data_dir)} does not tell where a key of the log is; restore it")
        self._terms = {key.public: term for key, term in terms.items()}
        self._seen = seen


def mistaken(data_dir: Path, named: Container[bytes]) -> bool:
    """Whether what is written down is a command with another public key than is named now, which never signed.

    The settings were wrong at the first start: only of a command is the public key said, and not seen.
    """
    if not _signers_path(data_dir).exists() or keys_path(data_dir).exists():
        return False
    (where, *more) = read_signers(data_dir).keys
    if more or not where.command or where.key in named:
        return False
    return not any((data_dir / LOG_NAME).glob("*/checkpoint"))


def keys_path(data_dir: Path) -> Path:
    """Where the statements are."""
    return data_dir / LOG_NAME / KEYS


def read_statements(data_dir: Path) -> bytes:
    """The statements, empty if no key was ever changed. Raises OSError."""
    try:
        with keys_path(data_dir).open("rb") as file:
            return file.read(KEYS_BYTES_MAX + 1)
    except FileNotFoundError:
        return b""


def read_signers(data_dir: Path) -> Signers:
    """Raises OSError, and ConfigError for another form."""
    path = _signers_path(data_dir)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Signers)
        sound = bool(found.keys) and all(len(where.key) == PUBLIC_BYTES for where in found.keys)
    except (msgspec.MsgspecError, binascii.Error) as error:
        raise ConfigError(f"{path} cannot be read; restore it") from error
    if not sound:
        raise ConfigError(f"{path} holds no key, or one of another length; restore it")
    return found


def write_signers(data_dir: Path, signers: Signers, *, first: bool = False) -> None:
    """Durable. `first`: only if there is none; raises FileExistsError. Raises OSError."""
    data = msgspec.json.format(msgspec.json.encode(signers)) + b"\n"
    (new if first else put)(_signers_path(data_dir), data, durable=True, private=True)


def where_of(settings: SignerSettings, public: bytes, file: str = KEY_NAME) -> Where:
    """Where the key is that these settings name."""
    encoded = base64.b64encode(public).decode()
    if settings.command:
        return Where(encoded, command=settings.command)
    token = settings.pkcs11
    if token is None:
        return Where(encoded, file=file)
    return Where(encoded, module=str(token.module), token=token.token, label=token.label, pin_file=str(token.pin_file))


def open_where(where: Where, data_dir: Path) -> Signer:
    """Raises ConfigError, OSError."""
    if where.command:
        return CommandSigner(where.command, where.key)
    if where.module:
        return Pkcs11Signer(Pkcs11(Path(where.module), where.token, where.label, Path(where.pin_file)))
    if not (data_dir / "keys" / where.file).is_file():  # or a new one would be made
        raise ConfigError(f"{data_dir / 'keys' / where.file}: the log's key is missing; restore it")
    return LogKey.load(data_dir, where.file)


def _signers_path(data_dir: Path) -> Path:
    return data_dir / "keys" / SIGNERS_NAME


def _public(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != PUBLIC_BYTES:
        raise ConfigError(f"audit.signer.public: give the command's Ed25519 public key, base64 of {PUBLIC_BYTES} bytes")
    return raw


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return found.st_ino, found.st_size, found.st_mtime_ns
