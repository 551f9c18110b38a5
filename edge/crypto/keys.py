"""Ed25519 key pairs, and the files that secrets live in.

A secret file is created with mode 0600 before its first byte is written, appears under its name only when complete
and durable, and is never overwritten: a lost key means a lost feed, so replacing one is never what is meant. Reading
one refuses a file that other users may read. Secrets are kept out of `repr`.
"""

import os
import secrets
import stat
from dataclasses import dataclass, field
from hashlib import sha512
from pathlib import Path
from typing import Final

from nacl.bindings import (
    crypto_box_seal,
    crypto_box_seal_open,
    crypto_box_SEALBYTES,
    crypto_scalarmult_ed25519,
    crypto_sign,
    crypto_sign_ed25519_pk_to_curve25519,
    crypto_sign_ed25519_sk_to_curve25519,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError, CryptoError
from nacl.exceptions import RuntimeError as LibsodiumError

from edge.atomic import sync_directory
from edge.errors import ConfigError, LocalError, SignatureError, StorageError, StorageFault

SEED_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
SEAL_BYTES: Final = crypto_box_SEALBYTES  # that a sealed secret is longer than what it holds


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An Ed25519 signing key pair. Signing is deterministic: same key and message, same 64 bytes."""

    public_key: bytes
    _secret_key: bytes = field(repr=False)  # libsodium's form: seed and public key, 64 bytes

    @classmethod
    def from_seed(cls, seed: bytes) -> "KeyPair":
        """The key pair of a 32-byte seed."""
        if len(seed) != SEED_BYTES:
            raise LocalError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        public_key, secret_key = crypto_sign_seed_keypair(seed)
        return cls(public_key, secret_key)

    @classmethod
    def generate(cls) -> "KeyPair":
        """A new key pair from the system's secure generator."""
        return cls.from_seed(new_secret())

    def sign(self, message: bytes) -> bytes:
        """The detached signature of `message`, 64 bytes."""
        return bytes(crypto_sign(message, self._secret_key)[:SIGNATURE_BYTES])

    def agree(self, remote_public_key: bytes) -> bytes:
        """The 32-byte secret shared with the owner of `remote_public_key`: Diffie-Hellman on the signing curve.

        Both sides' keys are Ed25519 points; nothing is mapped to X25519 (npm: noise-curve-ed). Raises `SignatureError`
        for bytes that are no point of the main subgroup: an off-curve, non-canonical or low-order key gives the same
        secret whoever holds the other half.
        """
        if len(remote_public_key) != PUBLIC_KEY_BYTES:
            raise SignatureError(
                f"a public key has {PUBLIC_KEY_BYTES} bytes, not {len(remote_public_key)}", reason="key"
            )
        scalar = sha512(self._secret_key[:SEED_BYTES]).digest()[:32]  # clamped by libsodium, as for signing
        try:
            return crypto_scalarmult_ed25519(scalar, remote_public_key)
        except LibsodiumError:
            raise SignatureError("a public key is no point of the curve's main subgroup", reason="key") from None

    def unseal(self, sealed: bytes) -> bytes:
        """What somebody `seal`ed to this key pair. Raises `SignatureError` if it was sealed to another, or changed."""
        ours = crypto_sign_ed25519_pk_to_curve25519(self.public_key)
        try:
            return crypto_box_seal_open(sealed, ours, crypto_sign_ed25519_sk_to_curve25519(self._secret_key))
        except (CryptoError, ValueError, TypeError):
            raise SignatureError("what was sealed is not for this key, or was changed", reason="sealed") from None


def signature_valid(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is `public_key`'s over `message`. Wrong lengths are simply not valid."""
    if len(signature) != SIGNATURE_BYTES or len(public_key) != PUBLIC_KEY_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def seal(message: bytes, public_key: bytes) -> bytes:
    """`message` so that only the holder of the Ed25519 key `public_key` can open it (libsodium's sealed box).

    Sealing the same message twice gives different bytes, and says nothing of who sealed it. Raises `SignatureError` for
    bytes that are no point of the curve.
    """
    try:
        return crypto_box_seal(message, crypto_sign_ed25519_pk_to_curve25519(public_key))
    except (CryptoError, ValueError, TypeError):
        raise SignatureError("a public key is no point of the curve's main subgroup", reason="key") from None


def new_secret() -> bytes:
    """32 bytes from the system's secure generator: a seed, a primary key, an encryption key."""
    return secrets.token_bytes(SEED_BYTES)


def write_secret(path: Path, secret: bytes) -> None:
    """Create `path` with `secret` in hexadecimal, mode 0600, durable when this returns.

    Raises `StorageError`; READ_ONLY if the file exists already.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secret.hex().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, a link never replaces what is there
        finally:
            os.unlink(temporary)  # noqa: PTH108 - beside os.link, and Path.unlink says no more
        sync_directory(path.parent)
    except FileExistsError as error:
        raise StorageError(f"{path} exists; a key is never overwritten", fault=StorageFault.READ_ONLY) from error
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}", fault=StorageFault.IO) from error


def read_secret(path: Path) -> bytes | None:
    """The 32 bytes of a file that `write_secret` made; None where there is no file.

    Raises `ConfigError` for a file that others may read or that is not 64 hexadecimal digits, `StorageError` if it
    cannot be read.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(2 * SEED_BYTES + 2)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}", fault=StorageFault.IO) from error
    if not stat.S_ISREG(mode) or stat.S_IMODE(mode) & 0o077:
        raise ConfigError(str(path), f"mode {stat.S_IMODE(mode):04o} lets others read a secret (chmod 600)")
    return parse_key(content.decode("ascii", "replace").removesuffix("\n"), what=str(path))


def parse_key(text: str, *, what: str) -> bytes:
    """32 bytes from 64 hexadecimal digits; `ConfigError` naming `what` otherwise."""
    if len(text) != 2 * SEED_BYTES or not all(digit in "0123456789abcdefABCDEF" for digit in text):
        raise ConfigError(what, f"a key is {2 * SEED_BYTES} hexadecimal digits")
    return bytes.fromhex(text)
