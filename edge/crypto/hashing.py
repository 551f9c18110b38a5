"""BLAKE2b as the peer protocol uses it, and the 32-byte tags that keep its uses apart.

Everything is unkeyed or keyed BLAKE2b without salt or personalisation (libsodium's generichash). `hashlib` is used
rather than PyNaCl's binding, which costs fifteen times as much a call. Spec: hypercore-crypto 3.7, `namespace`.
"""

from hashlib import blake2b
from typing import Final

HASH_BYTES: Final = 32


def hash256(*parts: bytes) -> bytes:
    """BLAKE2b-256 of the parts, one after the other."""
    return blake2b(b"".join(parts), digest_size=HASH_BYTES).digest()


def keyed256(key: bytes, *parts: bytes) -> bytes:
    """BLAKE2b-256 with a key of 1 to 64 bytes."""
    return blake2b(b"".join(parts), digest_size=HASH_BYTES, key=key).digest()


def namespace(name: str, count: int) -> tuple[bytes, ...]:
    """Tags 0 to `count - 1` of `name`: hash of (hash of the name, one byte of the tag's number)."""
    base = hash256(name.encode())
    return tuple(hash256(base, bytes((number,))) for number in range(count))


# The tags of Hypercore, in the order in which the protocol numbers them (hypercore: lib/caps.js).
TREE, REPLICATE_INITIATOR, REPLICATE_RESPONDER, MANIFEST, DEFAULT_NAMESPACE, DEFAULT_ENCRYPTION = namespace(
    "hypercore", 6
)


def discovery_key(key: bytes) -> bytes:
    """What may be said in public about a core: finds those who have the key, tells nobody else what it is."""
    return keyed256(key, b"hypercore")
