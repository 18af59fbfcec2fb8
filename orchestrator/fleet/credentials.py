"""Who is who in a fleet: a certificate authority of its own, and one certificate for each role that it signs.

A peer's role stands in its certificate (OU), and no message can change it. `extendedKeyUsage` keeps a client's
certificate from being taken for a server's by any TLS library.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orchestrator.errors import UsageError
from orchestrator.files import commit, create, make_directory, write_bytes
from orchestrator.user_paths import fleet_credentials

ORGANIZATION: Final = "gevulot-orchestrator fleet"
_CA_DAYS, _DAYS = 3650, 730


class Role(StrEnum):
    """What a peer may do: see docs/fleet.md."""

    SCHEDULER = "scheduler"
    WORKER = "worker"
    CLIENT = "client"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Files of one role: who signs all, our certificate and its key."""

    role: Role
    authority: Path
    certificate: Path
    key: Path


def load_credentials(role: Role, directory: Path | None = None) -> Credentials:
    """Those in a directory that `fleet init` wrote; the default is the user's. UsageError where one is missing."""
    folder = directory or fleet_credentials()
    credentials = Credentials(role=role, authority=folder / "ca.pem", certificate=folder / f"{role}.pem",
                              key=folder / f"{role}.key")  # fmt: skip
    for path in (credentials.authority, credentials.certificate, credentials.key):
        if not path.is_file():
            raise UsageError(
                f"{path}: there is no such file, and a fleet's {role} needs it",
                remedy=f"`fleet init` makes it; on another machine, copy ca.pem, {role}.pem and {role}.key from there"
                " and name their directory with --tls",
            )
    return credentials


def make_credentials(directory: Path, hosts: Sequence[str]) -> list[Path]:
    """Write what is missing of an authority and a certificate for each role; what was written.

    `hosts`: names and addresses of the scheduler, for its certificate. Keys are readable by the user alone.
    """
    make_directory(directory, 0o700)
    authority, written = _authority(directory)
    for role in Role:
        certificate, key = directory / f"{role}.pem", directory / f"{role}.key"
        if certificate.exists() and key.exists():
            continue
        private = _new_key(key)
        write_bytes(certificate, _signed(role, private, authority, hosts if role is Role.SCHEDULER else ()))
        written += [certificate, key]
    return written


@dataclass(frozen=True, kw_only=True)
class NamedCertificate:
    """What a browser's user can compare: the names and addresses that a certificate is for, and its SHA-256."""

    hosts: tuple[str, ...]
    fingerprint: str
    """As browsers show it: pairs of hexadecimal digits."""


def read_certificate(path: Path) -> NamedCertificate:
    """Of a certificate in PEM. UsageError for what is none."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except ValueError as error:
        raise UsageError(f"{path}: is no certificate", remedy="`fleet init` makes one") from error
    hosts = (*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress)))
    return NamedCertificate(hosts=hosts, fingerprint=certificate.fingerprint(hashes.SHA256()).hex(":").upper())


@dataclass(frozen=True, kw_only=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _authority(directory: Path) -> tuple[_Authority, list[Path]]:
    path, key_path = directory / "ca.pem", directory / "ca.key"
    if path.exists():
        if not key_path.exists():
            raise UsageError(f"{key_path}: it is missing, so nothing more can be signed for {path}",
                             remedy="bring it back, or begin in another directory")  # fmt: skip
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UsageError(f"{key_path}: is not a key that `fleet init` made", remedy="begin in another directory")
        return _Authority(certificate=x509.load_pem_x509_certificate(path.read_bytes()), key=key), []
    key = _new_key(key_path)
    name = _name("authority")
    built = (
        _builder(name, name, key, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_bytes(path, built.public_bytes(serialization.Encoding.PEM))
    return _Authority(certificate=built, key=key), [path, key_path]


def _signed(role: Role, key: ec.EllipticCurvePrivateKey, authority: _Authority, hosts: Sequence[str]) -> bytes:
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([] if role is Role.CLIENT else [ExtendedKeyUsageOID.SERVER_AUTH])]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = (
        _builder(_name(role), authority.certificate.subject, key, _DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=True)
        .add_extension(issuer, critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    signed: x509.Certificate = builder.sign(authority.key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> Any:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # machines' clocks differ
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(unit: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, unit),
        ]
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    data = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with create(temporary, 0o600) as sink:
        sink.write(data)
    commit(temporary, path)
    return key
