"""A private certificate authority with an intermediate, and endpoints that it certified: real certificates, made anew."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    """A key pair."""
    return ec.generate_private_key(ec.SECP256R1())


def pin_of(key: Key) -> bytes:
    """The pin of a key, worked out here on its own."""
    return hashlib.sha256(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def shown(pin: bytes) -> str:
    """A pin as a license writes it."""
    return base64.b64encode(pin).decode()


@dataclass
class Pki:
    """Root -> intermediate -> endpoints named 127.0.0.1. `folder` gets `ca.pem` and a PEM file for each endpoint."""

    folder: Path
    root: Key = field(default_factory=new_key)
    between: Key = field(default_factory=new_key)
    made: int = 0

    @cached_property
    def ca_file(self) -> Path:
        """The root's certificate."""
        path = self.folder / "ca.pem"
        path.write_bytes(_authority("Root", "Root", self.root, self.root).public_bytes(Encoding.PEM))
        return path

    @cached_property
    def intermediate(self) -> bytes:
        """The intermediate's certificate, PEM."""
        return _authority("Between", "Root", self.between, self.root).public_bytes(Encoding.PEM)

    def pem(self, key: Key, *, further: bytes = b"") -> Path:
        """Key and chain of an endpoint with that key; `further` certificates are sent along."""
        leaf = (
            _certificate("model", "Between", key)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.between.public_key()), critical=False
            )
            .sign(self.between, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.made += 1
        path = self.folder / f"endpoint-{self.made}.pem"
        path.write_bytes(private + leaf.public_bytes(Encoding.PEM) + self.intermediate + further)
        return path

    def server(self, key: Key, *, further: bytes = b"") -> ssl.SSLContext:
        """What an endpoint with that key serves with.

        TLS 1.2, in which the endpoint is the last to finish the handshake: a client that leaves right after it has been
        accepted, and the endpoint can tell that nothing came.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.pem(key, further=further))
        return context


def _certificate(subject: str, issuer: str, key: Key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )


def _authority(subject: str, issuer: str, key: Key, signer: Key) -> x509.Certificate:
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _certificate(subject, issuer, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


def self_signed(key: Key, subject: str = "Other") -> bytes:
    """A certificate that nobody vouches for, PEM."""
    return _authority(subject, subject, key, key).public_bytes(Encoding.PEM)
