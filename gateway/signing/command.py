"""A key that a command signs with: the client of a key management service, or whatever the operator has.

The command is given the message on its standard input and answers on its standard output with the 64 bytes of the signature, as they
are or in base64. It is trusted with nothing else: its public key is configured, and each signature is verified against it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence

from gateway.signing.fault import SignerError
from gateway.tlog.note import PUBLIC_BYTES, SIGNATURE_BYTES, NoteError, verify_ed25519

TIMEOUT_S = 20.0  # our choice: a slow service and one retry of its own
MESSAGE_BYTES_MAX = 4096  # PIPE_BUF (Linux, pipe(7)): a pipe takes so many bytes at once, whoever reads it
_OUTPUT_BYTES_MAX = 1024  # base64 and white space; whatever writes more is no signer


class CommandSigner:
    """A `Signer`. Starts the command for each signature; safe to call from several threads at once."""

    def __init__(self, command: Sequence[str], public: bytes, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises ValueError for an empty command or a key of another length."""
        if not command or len(public) != PUBLIC_BYTES:
            raise ValueError(f"a signing command has a program and a public key of {PUBLIC_BYTES} bytes")
        self._command = tuple(command)
        self._public = public
        self._timeout_s = timeout_s

    @property
    def public(self) -> bytes:
        """32 bytes."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """64 bytes. Raises SignerError: no start, no end in time, another exit code than 0, or an answer that is no signature of this key."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise _fault(f"it is given at most {MESSAGE_BYTES_MAX:,} bytes")
        signature = _signature(self._run(message))
        try:
            verify_ed25519(self._public, signature, message)
        except NoteError as error:
            raise SignerError(
                "audit.signer.public: the command signs with another key; give the public key of the one that signs"
            ) from error
        return signature

    def _run(self, message: bytes) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        # A session of its own, so that whatever the command starts ends with it. Its standard error is not read: it may tell secrets.
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own command, without a shell
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SignerError(
                f"audit.signer.command: {self._command[0]} cannot be started: {why}; give the full path of a program "
                "that may be run here"
            ) from error
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it may know the answer without reading: the check will tell
                process.stdin.write(message)
                process.stdin.close()
            answer = _read(process.stdout.fileno(), deadline)
            status = process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired as error:
            raise _fault(f"it did not end within {self._timeout_s:g} s") from error
        finally:
            _end(process)
        if status != 0:
            raise _fault(
                f"it ended with status {status} (`licet audit key sign` refuses heads that contradict what it signed, as those of a data "
                "folder put back from a copy do, and a change of keys that its user did not allow by --allow-change)"
            )
        return answer


def _read(handle: int, deadline: float) -> bytes:
    """All that comes until the pipe is closed. Raises SignerError for too much, or too late."""
    found = b""
    with selectors.DefaultSelector() as selector:
        selector.register(handle, selectors.EVENT_READ)
        while selector.select(max(deadline - time.monotonic(), 0)):
            part = os.read(handle, _OUTPUT_BYTES_MAX + 1)
            if not part:
                return found
            found += part
            if len(found) > _OUTPUT_BYTES_MAX:
                raise _fault("it wrote more than a signature")
    raise _fault("it did not answer in time")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing behind: the command's whole session is killed if it still runs, and its pipes are closed."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # of a message that was not taken
                pipe.close()


def _signature(answer: bytes) -> bytes:
    if len(answer) == SIGNATURE_BYTES:
        return answer
    try:
        raw = base64.b64decode(b"".join(answer.split()), validate=True)
    except binascii.Error as error:
        raise _fault("its answer is neither 64 bytes nor base64") from error
    if len(raw) != SIGNATURE_BYTES:
        raise _fault(f"it answered with {len(raw)} bytes, and an Ed25519 signature has {SIGNATURE_BYTES}")
    return raw


def _fault(what: str) -> SignerError:
    return SignerError(f"audit.signer.command: {what}; run it by hand, with the head of a log on its standard input")
