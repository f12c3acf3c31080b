"""`licet attest`: digests of weights, keys of serving hosts, their statements, and the TLS keys of endpoints."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from cryptography import x509

from gateway.attest.host import LIFE_S, HostServer, Statements, check_pin, pin_in
from gateway.attest.statement import host_key_jwk, load_host_key
from gateway.attest.watch import WeightsWatch
from gateway.attest.weights import WeightsError, hash_model
from gateway.errors import ConfigError
from gateway.license.binding import STATEMENT_AGE_S_MAX
from gateway.license.issuer import generate_key
from gateway.printable import printable
from gateway.routes import key_pin, shown_pin, ssl_context, verified_chain
from gateway.whole_file import new

EXIT_REFUSED = 1  # it was looked at, and does not hold
EXIT_USAGE = 2  # a file, folder or argument cannot be used
KEY_BYTES_MAX = 65_536
CONNECT_S = 10.0
ASKING_MAX = 64  # connections at once of `serve`; gateways ask once a minute

app = typer.Typer(
    name="attest",
    help="What binds an endpoint to its license: weights, host statements, TLS keys.",
    no_args_is_help=True,
    add_completion=False,
)

Weights = Annotated[Path, typer.Option("--weights", help="Folder of the model's files, or its one file.")]
Key = Annotated[Path, typer.Option("--key", help="Private key file of `keygen`.")]
Spki = Annotated[str | None, typer.Option("--spki", help="Pin of the TLS key that the endpoint answers with.")]
Cert = Annotated[
    Path | None, typer.Option("--cert", help="PEM file with the endpoint's certificate, instead of --spki.")
]
Image = Annotated[str, typer.Option("--image-digest", help="sha256:<hex> of the container image, if there is one.")]
Life = Annotated[int, typer.Option("--life-s", min=60, max=STATEMENT_AGE_S_MAX, help="How long it holds, in seconds.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def _fail(message: str) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(EXIT_USAGE)


@app.command()
def digest(
    weights: Annotated[Path, typer.Argument(help="Folder of the model's files, or its one file.")],
    as_json: AsJson = False,
) -> None:
    """Hash a model as OpenSSF Model Signing does; the digest goes into its license as `model.weights.root_digest`."""
    try:
        found = hash_model(weights)
    except (WeightsError, OSError) as error:
        raise _fail(str(error)) from error
    if as_json:
        said = {"root_digest": found.root, "manifest_digest": found.manifest, "files": found.files}
        typer.echo(json.dumps(said | {"bytes": found.bytes, "seconds": found.seconds}))
        return
    typer.echo(f"root_digest      {found.root}")
    typer.echo(f"manifest_digest  {found.manifest}  (covers the names of the files, too)")
    typer.echo(f"{found.files:,} files, {found.bytes:,} bytes, {found.seconds:.1f} s")


@app.command()
def keygen(
    out: Annotated[Path, typer.Option("--out", help="The private key file to make, e.g. host.jwk.")],
) -> None:
    """Make a serving host's key pair, and print what its license says of it (`endpoint.host_keys`)."""
    key = generate_key()
    try:
        new(out, host_key_jwk(key).encode(), durable=True, private=True)
    except FileExistsError as error:
        raise _fail(f"{out}: is there already; a key is never written over") from error
    except OSError as error:
        raise _fail(f"{out}: {error.strerror or error}") from error
    typer.echo(json.dumps({"kid": key.kid, "x": key.as_dict()["x"]}))
    typer.echo(f"private key: {out} (stays on the serving host)", err=True)


@app.command()
def sign(
    weights: Weights,
    key: Key,
    nonce: Annotated[str, typer.Option("--nonce", help="What the asking side wants to see in it.")],
    out: Annotated[Path, typer.Option("--out", help="Where the statement goes.")],
    spki: Spki = None,
    cert: Cert = None,
    image_digest: Image = "",
    life_s: Life = LIFE_S,
) -> None:
    """Hash a model and sign one statement about it. A gateway asks `serve` instead: each statement answers one nonce."""
    statements = _statements(weights, key, spki, cert, image_digest, life_s)
    try:
        envelope = statements.sign(hash_model(weights).root, nonce, int(time.time()))
        out.write_bytes(envelope)
    except (WeightsError, ConfigError, ValueError, OSError) as error:
        raise _fail(str(error)) from error
    typer.echo(f"statement for {life_s} s: {out}")


@app.command()
def serve(
    weights: Weights,
    key: Key,
    spki: Spki = None,
    cert: Cert = None,
    image_digest: Image = "",
    life_s: Life = LIFE_S,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8089,
    tls_cert: Annotated[Path | None, typer.Option(help="Serve over TLS with this chain (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM), unless the chain's file has it.")] = None,
) -> None:
    """Answer gateways with fresh statements. Start it together with the model server: it vouches for what is there now."""
    import uvicorn

    statements = _statements(weights, key, spki, cert, image_digest, life_s)
    server = uvicorn.Server(
        uvicorn.Config(
            HostServer(WeightsWatch(weights), statements),
            host=host,
            port=port,
            log_level="info",
            access_log=False,
            server_header=False,
            limit_concurrency=ASKING_MAX,
            ssl_certfile=tls_cert,
            ssl_keyfile=tls_key,
        )
    )
    try:
        server.run()
    except (OSError, ValueError) as error:  # the TLS files
        raise _fail(f"--tls-cert: {error}") from error
    except KeyboardInterrupt:
        return  # uvicorn raises the signal again once everything is closed
    if not server.started:
        raise _fail(f"cannot listen on {host} port {port}")


@app.command()
def pin(
    url: Annotated[str, typer.Argument(help="https://host[:port] of the endpoint.")],
    ca_file: Annotated[Path | None, typer.Option("--ca-file", help="PEM; instead of the system's authorities.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the pins of an endpoint's TLS keys, for `endpoint.spki_pins` of its license: its own first, then its authorities'.

    They are what this machine sees now: compare them with what the endpoint's operator says.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or 443
    except ValueError as error:
        raise _fail(f"{url}: {error}") from error
    if parts.scheme != "https" or not host:
        raise _fail(f"{url}: not an https address; only TLS endpoints have keys to pin")
    try:
        context = ssl_context(str(ca_file)) if ca_file is not None else ssl.create_default_context()
        assert context is not None
        with (
            socket.create_connection((host, port), timeout=CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as tls,
        ):
            chain = verified_chain(tls)
    except ConfigError as error:
        raise _fail(str(error)) from error
    except ssl.SSLError as error:
        typer.echo(f"{host}:{port} does not verify: {_tls_fault(error)}", err=True)
        raise typer.Exit(EXIT_REFUSED) from error
    except OSError as error:
        raise _fail(f"{host}:{port}: {error.strerror or error}") from error
    found = [(shown_pin(one), certificate) for certificate in chain if (one := key_pin(certificate)) is not None]
    if as_json:
        typer.echo(json.dumps([{"pin": text, "subject": _subject(certificate)} for text, certificate in found]))
        return
    for text, certificate in found:
        typer.echo(f"{text}  {_subject(certificate)}")


def _statements(
    weights: Path, key: Path, spki: str | None, cert: Path | None, image_digest: str, life_s: int
) -> Statements:
    """How to sign, held against what is given. Exits with EXIT_USAGE."""
    if (spki is None) == (cert is None):
        raise _fail("give either --spki or --cert: a statement is about the TLS key that the endpoint answers with")
    if image_digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", image_digest):
        raise _fail("--image-digest: write sha256: and 64 hex digits")
    try:
        with key.open("rb") as file:
            private = load_host_key(file.read(KEY_BYTES_MAX), source=str(key))
        given = check_pin(spki) if spki is not None else ""
        if cert is not None:
            pin_in(cert)
    except ConfigError as error:
        raise _fail(str(error)) from error
    except OSError as error:
        raise _fail(f"{key}: {error.strerror or error}") from error
    name = Path(os.path.realpath(weights)).name
    return Statements(private, name, lambda: pin_in(cert) if cert is not None else given, life_s, image_digest)


def _subject(certificate: x509.Certificate) -> str:
    # A certificate's names are anyone's text: nothing of it may steer a terminal.
    text = certificate.subject.rfc4514_string() or "(no subject)"
    return printable(text)[:200]


def _tls_fault(error: ssl.SSLError) -> str:
    return error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else (error.reason or "TLS failed")
