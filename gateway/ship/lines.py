"""Bytes to a place that never answers, over TLS: the connection under syslog and JSON Lines.

Neither protocol has an acknowledgement (RFC 5425 has none, nor have JSON Lines), so what can be known of a batch ends at the other side's kernel.
`send` returns when
- the certificate was verified, and the other side finished the handshake (under TLS 1.3 its ticket is awaited, a second at most),
- all bytes were written, and the other side's TCP acknowledged every one of them (tcp(7), SIOCOUTQ),
- the connection was whole after that: not closed, not reset, no TLS alert, and no answer, which only another protocol's server gives.

This does not prove that the receiver's program read, understood or stored a batch. What can be done against that is done: the batch
before is kept, and where the connection broke after it was sent, it goes again on the next connection before anything else. So a receiver
that dies with bytes unread loses nothing as long as this process lives; a receiver and this process that die in the same moment may lose
one batch, which `licet audit ship resend` brings back. Repetition is seen by the ids. `close` says goodbye by close_notify and
waits for the other side's: that one proves that everything before it was read.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import ipaddress
import logging
import select
import socket
import ssl
import struct
import termios
import time
from typing import Final

from gateway.errors import ConfigError
from gateway.settings.audit import Stream
from gateway.ship.port import TIMEOUT_S, SinkError

log = logging.getLogger("licet.ship")

CONNECT_S: Final = 5.0  # our choice, for TCP and again for the handshake
SETTLE_S: Final = 1.0  # our choice: for a server's ticket after a TLS 1.3 handshake; some servers send none
GOODBYE_S: Final = 2.0  # our choice
CHUNK_BYTES: Final = 64 << 10  # our choice: between two looks at the clock
_POLL_S_MAX: Final = 0.05
_LINGER = struct.Struct("ii")


class _BrokenError(OSError):
    """The connection is of no use any more. Says why, in our own words."""


class Lines:
    """One receiver. For one thread at a time."""

    def __init__(self, to: Stream, setting: str) -> None:
        """`setting` names it in errors. Raises ConfigError; connects to nothing."""
        self._to = to
        self._where = f"{to.host}:{to.port}"
        self._context = _context(to, setting)
        self._open: socket.socket | None = None
        self._before = b""  # the batch that was sent last: nobody knows whether it was read
        self._in_doubt = False  # the last attempt failed

    def send(self, data: bytes) -> None:
        """Raises SinkError unless all that the module says held. Without data, looks whether what was sent before is in danger."""
        if not data and self._open is None and not self._in_doubt:
            return
        deadline = time.monotonic() + TIMEOUT_S
        self._in_doubt = True
        try:
            self._look_back()
            if self._open is None:
                self._open = self._connect()
                self._write(self._open, self._before, deadline)
            self._write(self._open, data, deadline)
            _await_acknowledged(self._open, deadline)
            _check(self._open)
        except OSError as error:  # TLS errors are such, too
            self._drop()
            raise SinkError(f"{self._where} {_why(error)}") from None
        self._in_doubt = False
        if data:
            self._before = data

    def close(self) -> None:
        """Say goodbye, and see whether it is answered. Harmless twice."""
        gone, self._open = self._open, None
        if gone is None:
            return
        try:
            gone.settimeout(GOODBYE_S)
            if isinstance(gone, ssl.SSLSocket):
                gone.unwrap()  # RFC 5425, section 4.4: the receiver must answer close_notify
            else:
                gone.shutdown(socket.SHUT_WR)
                gone.recv(1)
        except OSError as error:
            log.info("%s %s at the goodbye: whether it read its last batch is not known", self._where, _why(error))
        finally:
            gone.close()

    def _look_back(self) -> None:
        """Lets go of a connection that broke since it was used."""
        if self._open is None:
            return
        try:
            _check(self._open)
        except OSError as error:
            log.info("%s %s since the last batch, which goes again", self._where, _why(error))
            self._drop()

    def _connect(self) -> socket.socket:
        plain = socket.create_connection((self._to.host, self._to.port), timeout=CONNECT_S)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(TIMEOUT_S * 1000))
            _linger(plain, int(GOODBYE_S))
            if self._context is None:
                return plain
            secure = self._context.wrap_socket(plain, server_hostname=self._to.host)
        except BaseException:
            plain.close()
            raise
        try:
            _await_accepted(secure)
        except BaseException:
            secure.close()
            raise
        return secure

    @staticmethod
    def _write(to: socket.socket, data: bytes, deadline: float) -> None:
        view, at = memoryview(data), 0
        while at < len(view):
            to.settimeout(_left(deadline))
            at += to.send(view[at : at + CHUNK_BYTES])

    def _drop(self) -> None:
        """Without a goodbye: what is still on its way goes again anyway."""
        gone, self._open = self._open, None
        if gone is not None:
            with contextlib.suppress(OSError):  # it may be dead already
                _linger(gone, 0)
            gone.close()


def _await_accepted(secure: ssl.SSLSocket) -> None:
    """Under TLS 1.3 a client has finished before the server looked at its certificate: a ticket, or an alert, comes after that. Raises OSError."""
    if secure.version() != "TLSv1.3":
        return
    end = time.monotonic() + SETTLE_S
    poll = select.poll()
    poll.register(secure, select.POLLIN)
    while secure.session is None or not secure.session.has_ticket:
        _check(secure)
        left = end - time.monotonic()
        if left <= 0:
            return
        if secure.session is None or not secure.session.has_ticket:
            poll.poll(left * 1000)


def _await_acknowledged(to: socket.socket, deadline: float) -> None:
    """Until the other side's TCP has it all. Raises OSError."""
    pause = 0.0005
    waiting = array.array("i", [0])
    while fcntl.ioctl(to.fileno(), termios.TIOCOUTQ, waiting) == 0 and waiting[0]:
        time.sleep(min(pause, _left(deadline)))  # the kernel has no event for this
        pause = min(2 * pause, _POLL_S_MAX)
        _check(to)


def _check(to: socket.socket) -> None:
    """Raises OSError where the other side closed, broke off or said anything."""
    to.settimeout(0)
    try:
        said = to.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return
    if said:
        raise _BrokenError("answers, which this protocol does not know; is another service at that port?")
    raise _BrokenError("closed the connection")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _linger(of: socket.socket, seconds: int) -> None:
    of.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(1, seconds))


def _why(error: OSError) -> str:
    """In a few words, none of them the other side's."""
    if isinstance(error, _BrokenError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has no certificate that is trusted here: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"broke off TLS: {error.reason or type(error).__name__}"
    if isinstance(error, TimeoutError):
        return f"did not take it in {TIMEOUT_S:.0f} s"
    return f"cannot be reached: {error.strerror or type(error).__name__}"


def _context(to: Stream, setting: str) -> ssl.SSLContext | None:
    """How to speak TLS; None: not at all. Raises ConfigError."""
    if not to.host or not 0 < to.port < 65_536:
        raise ConfigError(f"{setting}: give host, and port from 1 to 65535")
    if not to.tls:
        if not _loopback(to.host):
            raise ConfigError(f"{setting}.tls: records leave this host only over TLS; false is for a forwarder on it, at 127.0.0.1")  # fmt: skip
        return None
    if to.key_file is not None and to.cert_file is None:
        raise ConfigError(f"{setting}.cert_file: missing; a key alone is no client certificate")
    try:
        context = ssl.create_default_context(cafile=str(to.ca_file) if to.ca_file is not None else None)
    except (OSError, ValueError):
        raise ConfigError(f"{setting}.ca_file: {to.ca_file} holds no certificates in PEM that can be read") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9662: TLS 1.2 at least
    if to.cert_file is not None:
        try:
            context.load_cert_chain(to.cert_file, to.key_file, password="")  # or OpenSSL would ask at the terminal
        except (OSError, ValueError):
            raise ConfigError(f"{setting}.cert_file: {to.cert_file} and its key cannot be read; give PEM, the key without a passphrase") from None  # fmt: skip
    return context


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
