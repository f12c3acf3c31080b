"""A key in a token that speaks PKCS#11 (version 3.0, Ed25519 by CKM_EDDSA), by `python-pkcs11`, which the extra `pkcs11` installs.

The library is loaded when a token is used, not before. What it raises is told by its kind alone: its texts may hold what was typed.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Any

from gateway.settings.audit import Pkcs11
from gateway.signing.fault import SignerError
from gateway.tlog.note import PUBLIC_BYTES, SIGNATURE_BYTES, NoteError, verify_ed25519

PIN_BYTES_MAX = 256  # our choice; PKCS#11 leaves it to the token
_AT = "audit.signer.pkcs11"
_OCTET_STRING = bytes(
    (0x04, PUBLIC_BYTES)
)  # DER: CKA_EC_POINT is an OCTET STRING by version 2.40, the bare point in some tokens


class Pkcs11Signer:
    """A `Signer`. One session, used by one thread at a time; opened again once if the token lost it."""

    def __init__(self, settings: Pkcs11) -> None:
        """Raises SignerError: no library, token, PIN or key."""
        self._settings = settings
        self._lock = threading.Lock()
        self._session: Any = None
        self._key: Any = None
        self._public = b""
        self._refused_pin = b""  # SHA-256 of the PIN that the token refused last
        with self._lock:
            self._open()

    @property
    def public(self) -> bytes:
        """32 bytes."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """64 bytes. Raises SignerError where the token does not sign, or signs with another key."""
        with self._lock:
            try:
                signature = self._sign(message)
            except OSError:
                self._open_again()  # a token that was taken out and put back has forgotten its sessions
                signature = self._sign(message)
        try:
            verify_ed25519(self._public, signature, message)
        except NoteError as error:
            raise SignerError(f"{_AT}: the token's signature does not verify; see to the token") from error
        return signature

    def close(self) -> None:
        """Log out. Harmless twice."""
        import pkcs11

        session, self._session, self._key = self._session, None, None
        if session is not None:
            try:
                session.close()
            except pkcs11.PKCS11Error as error:
                raise _told(error) from error

    def _sign(self, message: bytes) -> bytes:
        import pkcs11

        if self._key is None:
            raise SignerError(f"{_AT}: the token has no session; see to the token")
        try:
            signature = bytes(self._key.sign(message, mechanism=pkcs11.Mechanism.EDDSA))
        except pkcs11.PKCS11Error as error:
            self._session = self._key = None
            raise _told(error) from error
        if len(signature) != SIGNATURE_BYTES:
            raise SignerError(
                f"{_AT}.label: the token answered with {len(signature)} bytes; name an Ed25519 key, whose signatures have "
                f"{SIGNATURE_BYTES}"
            )
        return signature

    def _open_again(self) -> None:
        """Where the library itself lost the token it is begun anew, as a restart would; other keys of it open their sessions again."""
        import pkcs11

        try:
            self._open()
        except SignerError as error:
            if self._refused_pin or not isinstance(error.__cause__, pkcs11.PKCS11Error):
                raise
            try:
                pkcs11.lib(str(self._settings.module)).reinitialize()
            except pkcs11.PKCS11Error:
                raise error from error.__cause__
            self._open()

    def _open(self) -> None:
        try:
            import pkcs11
        except ImportError as error:
            raise SignerError(f"{_AT}: python-pkcs11 is not installed; run `pip install 'licet[pkcs11]'`") from error
        wanted = self._settings
        try:
            with wanted.pin_file.open("rb") as file:
                pin = file.read(PIN_BYTES_MAX + 1).strip()
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SignerError(f"{_AT}.pin_file: {wanted.pin_file}: {why}; write the token's PIN there") from error
        if not pin or len(pin) > PIN_BYTES_MAX:
            raise SignerError(
                f"{_AT}.pin_file: {wanted.pin_file}: a PIN has 1 to {PIN_BYTES_MAX} bytes; write the token's there"
            )
        asked = hashlib.sha256(pin).digest()
        if asked == self._refused_pin:
            raise SignerError(
                f"{_AT}.pin_file: {wanted.pin_file}: the token refused this PIN, and it is not tried again, or the token would lock it; "
                "write the right one there"
            )
        self._refused_pin = b""
        try:
            token = pkcs11.lib(str(wanted.module)).get_token(token_label=wanted.token)
            try:
                session = token.open(user_pin=pin.decode("utf-8"))
            except pkcs11.UserAlreadyLoggedIn:  # PKCS#11: a login is the process', and holds for all its sessions
                session = token.open()
            named: dict[str, Any] = {"key_type": pkcs11.KeyType.EC_EDWARDS, "label": wanted.label}
            key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, **named)
            point = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, **named)[pkcs11.Attribute.EC_POINT]
        except (pkcs11.PinIncorrect, pkcs11.PinLocked) as error:
            self._refused_pin = asked
            raise _told(error) from error
        except pkcs11.PKCS11Error as error:
            raise _told(error) from error
        except (RuntimeError, UnicodeDecodeError) as error:  # RuntimeError: the library cannot be loaded
            raise SignerError(
                f"{_AT}.module: {wanted.module}: the token cannot be used ({type(error).__name__}); give the library that came "
                "with it"
            ) from None
        public = bytes(point).removeprefix(_OCTET_STRING) if len(point) > PUBLIC_BYTES else bytes(point)
        if len(public) != PUBLIC_BYTES or self._public not in (b"", public):
            raise SignerError(f"{_AT}.label: the token's key of this label is no Ed25519 key, or another than before")
        self._session, self._key, self._public = session, key, public


def _told(error: Exception) -> SignerError:
    return SignerError(f"{_AT}: the token does not do it: {type(error).__name__}; see to its token, label and pin_file")
