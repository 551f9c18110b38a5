"""Masks: vectors modulo 2^bits that look random to whoever lacks their key, and cancel in the sum.

    self mask of u        stream(H("self", seed of u))
    pair mask of u and v  stream(H("pair", X25519(mask keys of u and v), round, low, high)), added by the lower number,
                          subtracted by the higher

The stream is XSalsa20 with a zero nonce: each key serves once. `bits` is a multiple of 8, so that bytes of the stream
are uniform modulo 2^bits. Vectors are numpy `uint64`, reduced modulo 2^bits only when packed: 2^bits divides 2^64.
Source: Bonawitz et al., "Practical Secure Aggregation" (2017), section 4.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import RuntimeError as LibsodiumError

from edge.crypto.hashing import hash256
from edge.crypto.stream import NONCE_BYTES, xor
from edge.errors import LocalError, RemoteError

Vector = np.ndarray[tuple[int], np.dtype[np.uint64]]
KEY_BYTES: Final = 32
WORD_BYTES: Final = 8

_SELF: Final = b"pomona/secure-sum/self/1"
_PAIR: Final = b"pomona/secure-sum/pair/1"
_SCALAR: Final = b"pomona/secure-sum/scalar/1"
_COMMITMENT: Final = b"pomona/secure-sum/commitment/1"
_PROBE: Final = b"\x08" + bytes(31)  # any scalar shows a point of low order: all are multiples of the cofactor


def secret_key(seed: bytes) -> bytes:
    """The X25519 secret key that belongs to a shared seed."""
    return hash256(_SCALAR, seed)


def public_key(secret: bytes) -> bytes:
    """The X25519 public key of a secret key."""
    return crypto_scalarmult_base(secret)


def check_public_key(key: bytes) -> bytes:
    """The key itself, if an agreement with it can be secret; `RemoteError` for a point of low order."""
    try:
        crypto_scalarmult(_PROBE, key)
    except (LibsodiumError, TypeError, ValueError):
        raise RemoteError("a public key has low order or the wrong length", reason="key") from None
    return key


def commitment(seed: bytes) -> bytes:
    """What fixes a self mask's seed without telling it; seeds have 255 bits of entropy."""
    return hash256(_COMMITMENT, seed)


def self_mask(seed: bytes, dimension: int, bits: int) -> Vector:
    """The self mask of the member that drew `seed`."""
    return _stream(hash256(_SELF, seed), dimension, bits)


def pair_mask(secret: bytes, theirs: bytes, context: bytes, pair: tuple[int, int], size: tuple[int, int]) -> Vector:
    """What the first of `pair` adds for the second, who adds its negative.

    `secret`: the X25519 key of the first; `context`: the round's digest; `size`: dimension and bits.
    """
    ours, other = pair
    if ours == other:
        raise LocalError("a member has no mask with itself")
    low, high = min(ours, other), max(ours, other)
    shared = crypto_scalarmult(secret, theirs)
    stream = _stream(hash256(_PAIR, shared, context, bytes((low, high))), *size)
    return stream if ours == low else -stream


def to_vector(values: Sequence[int]) -> Vector:
    """Integers of either sign as a vector modulo 2^64."""
    return np.array([value % 2**64 for value in values], dtype=np.uint64)


def to_integers(vector: Vector, bits: int) -> tuple[int, ...]:
    """The representatives nearest to zero: -2^(bits-1) to 2^(bits-1) - 1."""
    half, modulus = 2 ** (bits - 1), 2**bits
    return tuple((value + half) % modulus - half for value in vector.tolist())


def pack(vector: Vector, bits: int) -> bytes:
    """`bits / 8` bytes a value, little-endian."""
    return vector.astype("<u8").view(np.uint8).reshape(-1, WORD_BYTES)[:, : bits // 8].tobytes()


def unpack(data: bytes, bits: int) -> Vector:
    """Inverse of `pack`; the length was checked before."""
    width = bits // 8
    words = np.zeros((len(data) // width, WORD_BYTES), dtype=np.uint8)
    words[:, :width] = np.frombuffer(data, dtype=np.uint8).reshape(-1, width)
    return words.view("<u8").reshape(-1).astype(np.uint64)


def _stream(key: bytes, dimension: int, bits: int) -> Vector:
    return unpack(xor(bytes(dimension * bits // 8), bytes(NONCE_BYTES), key), bits)
