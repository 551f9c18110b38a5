"""The certificates of the tills' TLS listener: an authority of the shop's own and the broker's certificate under it.

`cryptography` is loaded by this module alone, and this module by the command `pomona tills certificates` alone: the
service itself never pays for it. Keys are P-256, written with mode 0600. Validity starts a day in the past and at the
earliest on the build date, because a box may wake without the right time.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.atomic import replace_file
from edge.clock import BUILD_WALL_MS
from edge.errors import ConfigError

AUTHORITY_DAYS: Final = 3650 * 2
SERVER_DAYS: Final = 825  # what TLS libraries commonly accept for a server
_NAME: Final = "Pomona shop authority"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of what was written, and the SHA-256 fingerprint of the authority, for pinning on the tills."""

    authority: Path
    certificate: Path
    key: Path
    fingerprint: str


def issue(directory: Path, names: Sequence[str], *, now_ms: int) -> Certificates:
    """Issue a server certificate for `names` (IP addresses and DNS names), making the authority if there is none.

    Files: `ca.pem`, `ca.key`, `server.pem`, `server.key`. Raises `ConfigError` where there is no name, or a bad one.
    """
    subjects = [_subject(name) for name in names]
    if not subjects:
        raise ConfigError("names", "at least one IP address or DNS name that tills use for the box")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    start = datetime.fromtimestamp(max(now_ms, BUILD_WALL_MS) / 1000, UTC) - timedelta(days=1)
    authority, authority_key = _authority(directory, start)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=SERVER_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    replace_file(directory / "server.key", _pem_key(key), 0o600)
    replace_file(directory / "server.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    digest = authority.fingerprint(hashes.SHA256()).hex()
    shown = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2)).upper()
    return Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key", shown)


def _authority(directory: Path, start: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_path, key_path = directory / "ca.pem", directory / "ca.key"
    if certificate_path.exists() and key_path.exists():
        try:
            certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise ConfigError(str(directory), f"the authority cannot be read: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(str(key_path), "is not the key of ca.pem")
        return certificate, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    replace_file(key_path, _pem_key(key), 0o600)
    replace_file(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate, key


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not name or len(name) > 253 or not all(part and part.replace("-", "").isalnum() for part in name.split(".")):
        raise ConfigError("names", f"{name!r} is neither an IP address nor a DNS name")
    return x509.DNSName(name)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
