"""Who may sign a core: the manifest, and the key derived from it.

A core's key is the hash of its manifest, so whoever knows the key can check the manifest, and with it every signature
(`verifier.py`). Versions 1 to 3 share one layout, version 0 has an older one.
Spec: hypercore 11.37, lib/verifier.js and `manifest` in lib/messages.js.
"""

from dataclasses import dataclass
from typing import Final

from edge.crypto.hashing import DEFAULT_NAMESPACE, HASH_BYTES, MANIFEST, hash256
from edge.crypto.keys import PUBLIC_KEY_BYTES
from edge.encoding.compact import Reader, array, buffer, fixed, uint
from edge.errors import LocalError, RemoteError
from edge.limits import INTEGER_MAX, LINKED_CORES_MAX, MANIFEST_USER_DATA_BYTES_MAX, SIGNERS_MAX

VERSION_MAX: Final = 3
_ALLOW_PATCH, _PROLOGUE, _LINKED, _USER_DATA = 1, 2, 4, 8
_SIGNER_BYTES: Final = 1 + HASH_BYTES + PUBLIC_KEY_BYTES
_V0_STATIC, _V0_SINGLE, _V0_MULTI = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Signer:
    """One who may sign."""

    public_key: bytes
    namespace: bytes = DEFAULT_NAMESPACE

    def __post_init__(self) -> None:
        fixed(self.public_key, PUBLIC_KEY_BYTES)
        fixed(self.namespace, HASH_BYTES)

    def encode(self) -> bytes:
        """The signer in a manifest; the first byte is the scheme, Ed25519."""
        return b"\x00" + self.namespace + self.public_key


@dataclass(frozen=True, slots=True)
class Prologue:
    """A fixed beginning: its tree hash and length need no signature."""

    hash: bytes
    length: int

    def __post_init__(self) -> None:
        fixed(self.hash, HASH_BYTES)
        if not 0 <= self.length <= INTEGER_MAX:
            raise LocalError(f"a prologue cannot have {self.length} blocks")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Who signs and how many must. Raises `LocalError` where no stock peer would accept it."""

    signers: tuple[Signer, ...]
    quorum: int
    version: int = 1
    allow_patch: bool = False
    prologue: Prologue | None = None
    linked: tuple[bytes, ...] = ()
    user_data: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.version <= VERSION_MAX:
            raise LocalError(f"manifest version {self.version} is unknown")
        if len(self.signers) > SIGNERS_MAX:
            raise LocalError(f"{len(self.signers)} signers; at most {SIGNERS_MAX}")
        if not 0 <= self.quorum <= len(self.signers):
            raise LocalError(f"a quorum of {self.quorum} out of {len(self.signers)} signers")
        if self.version < 2 and (self.linked or self.user_data is not None):
            raise LocalError("linked cores and user data need manifest version 2")
        if len(self.linked) > LINKED_CORES_MAX or any(len(key) != HASH_BYTES for key in self.linked):
            raise LocalError(f"linked cores are at most {LINKED_CORES_MAX} keys of {HASH_BYTES} bytes")
        if self.user_data is not None and not 0 < len(self.user_data) <= MANIFEST_USER_DATA_BYTES_MAX:
            raise LocalError(f"user data has 1 to {MANIFEST_USER_DATA_BYTES_MAX} bytes")
        if self.version == 0 and self.prologue and (self.signers or self.quorum or self.prologue.length):
            raise LocalError("a prologue of manifest version 0 has no length and no signers")

    @classmethod
    def single(cls, public_key: bytes) -> "Manifest":
        """What stock peers give a core with one writer."""
        return cls(signers=(Signer(public_key),), quorum=1)

    @classmethod
    def multi(cls, public_keys: tuple[bytes, ...], quorum: int | None = None) -> "Manifest":
        """Several signers; by default more than half of them must sign."""
        if not public_keys:
            raise LocalError("a manifest without signers can never be signed")
        return cls(signers=tuple(map(Signer, public_keys)), quorum=quorum or len(public_keys) // 2 + 1)

    def encode(self) -> bytes:
        """The bytes that the key is derived from."""
        if self.version == 0:
            return self._encode_v0()
        flags = _ALLOW_PATCH if self.allow_patch else 0
        flags |= _PROLOGUE if self.prologue else 0
        flags |= _LINKED if self.linked else 0
        flags |= _USER_DATA if self.user_data else 0
        return b"".join(
            (
                uint(self.version),
                uint(flags),
                b"\x00",  # BLAKE2b, the only hash
                uint(self.quorum),
                array(signer.encode() for signer in self.signers),
                self.prologue.hash + uint(self.prologue.length) if self.prologue else b"",
                array(self.linked) if self.linked else b"",
                buffer(self.user_data) if self.user_data else b"",
            )
        )

    def _encode_v0(self) -> bytes:
        if self.prologue:
            return bytes((0, 0, _V0_STATIC)) + self.prologue.hash
        if self.quorum == 1 and len(self.signers) == 1 and not self.allow_patch:
            return bytes((0, 0, _V0_SINGLE)) + self.signers[0].encode()
        signers = array(signer.encode() for signer in self.signers)
        return bytes((0, 0, _V0_MULTI, _ALLOW_PATCH if self.allow_patch else 0)) + uint(self.quorum) + signers

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """The manifest in `data`; `RemoteError` if malformed, too large or not encoded as we would encode it."""
        try:
            manifest = _read(Reader(data))
        except LocalError as error:  # a rule of the constructor, broken by what was read
            raise RemoteError(f"manifest: {error}") from error
        if manifest.encode() != data:
            raise RemoteError("manifest: not in its own shortest encoding")
        return manifest

    def key(self) -> bytes:
        """The core's key."""
        return hash256(MANIFEST, self.encode())

    def signer_index(self, public_key: bytes) -> int | None:
        """Which signer has `public_key`; None if nobody has."""
        return next((i for i, signer in enumerate(self.signers) if signer.public_key == public_key), None)


def _read(reader: Reader) -> Manifest:
    version = reader.uint()
    if version > VERSION_MAX:
        raise RemoteError(f"manifest version {version} is unknown", reason="version")
    flags = reader.uint() if version else 0
    if flags & ~(_ALLOW_PATCH | _PROLOGUE | _LINKED | _USER_DATA):
        raise RemoteError(f"manifest flags {flags:#x} are unknown", reason="version")
    if reader.uint() != 0:
        raise RemoteError("manifest: unknown hash", reason="version")
    if version == 0:
        return _read_v0(reader)
    quorum = reader.uint()
    signers = _read_signers(reader)
    return Manifest(
        version=version,
        allow_patch=bool(flags & _ALLOW_PATCH),
        quorum=quorum,
        signers=signers,
        prologue=Prologue(reader.raw(HASH_BYTES), reader.uint()) if flags & _PROLOGUE else None,
        linked=tuple(
            reader.array(lambda r: r.raw(HASH_BYTES), items_max=LINKED_CORES_MAX, item_bytes_min=HASH_BYTES)
            if flags & _LINKED
            else ()
        ),
        user_data=reader.buffer() if flags & _USER_DATA else None,
    )


def _read_v0(reader: Reader) -> Manifest:
    kind = reader.uint()
    if kind == _V0_STATIC:
        return Manifest(version=0, quorum=0, signers=(), prologue=Prologue(reader.raw(HASH_BYTES), 0))
    if kind == _V0_SINGLE:
        return Manifest(version=0, quorum=1, signers=(_read_signer(reader),))
    if kind != _V0_MULTI:
        raise RemoteError(f"manifest: unknown kind {kind}", reason="version")
    flags = reader.uint()
    if flags & ~_ALLOW_PATCH:
        raise RemoteError(f"manifest flags {flags:#x} are unknown", reason="version")
    return Manifest(version=0, allow_patch=bool(flags), quorum=reader.uint(), signers=_read_signers(reader))


def _read_signers(reader: Reader) -> tuple[Signer, ...]:
    return tuple(reader.array(_read_signer, items_max=SIGNERS_MAX, item_bytes_min=_SIGNER_BYTES))


def _read_signer(reader: Reader) -> Signer:
    if reader.uint() != 0:
        raise RemoteError("manifest: unknown signature scheme", reason="version")
    namespace = reader.raw(HASH_BYTES)
    return Signer(reader.raw(PUBLIC_KEY_BYTES), namespace)
