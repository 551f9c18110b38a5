"""Mask vectors: they cancel, they pack, and they are what FORMATS.md says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult

from edge.crypto.hashing import hash256
from edge.crypto.stream import xor
from edge.errors import LocalError, RemoteError
from edge.privacy.secure_sum import masks

WIDTHS = st.sampled_from([8, 16, 24, 32, 40, 48, 56])


@given(st.data(), WIDTHS)
def test_vectors_pack_and_unpack(data: st.DataObject, bits: int) -> None:
    half = 2 ** (bits - 1)
    values = data.draw(st.lists(st.integers(-half, half - 1), min_size=1, max_size=20))
    packed = masks.pack(masks.to_vector(values), bits)
    assert len(packed) == len(values) * bits // 8
    assert packed == b"".join((value % 2**bits).to_bytes(bits // 8, "little") for value in values)
    assert masks.to_integers(masks.unpack(packed, bits), bits) == tuple(values)


@given(WIDTHS, st.integers(1, 50), st.integers(0, 127), st.integers(0, 127))
def test_pair_masks_cancel(bits: int, dimension: int, one: int, other: int) -> None:
    secrets = [bytes([7]) * 32, bytes([9]) * 32]
    keys = [masks.public_key(secret) for secret in secrets]
    size = dimension, bits
    if one == other:
        with pytest.raises(LocalError):
            masks.pair_mask(secrets[0], keys[1], b"context", (one, other), size)
        return
    first = masks.pair_mask(secrets[0], keys[1], b"context", (one, other), size)
    second = masks.pair_mask(secrets[1], keys[0], b"context", (other, one), size)
    assert not (first + second).any()
    assert masks.pack(first, bits) != masks.pack(second, bits) or dimension * bits < 64


def test_masks_are_made_as_the_formats_say() -> None:
    seed, secret = bytes(range(32)), masks.secret_key(bytes(32))
    assert secret == hash256(b"pomona/secure-sum/scalar/1", bytes(32))
    stream = xor(bytes(15), bytes(24), hash256(b"pomona/secure-sum/self/1", seed))
    assert masks.pack(masks.self_mask(seed, 5, 24), 24) == stream
    theirs = masks.public_key(bytes([3]) * 32)
    shared = crypto_scalarmult(secret, theirs)
    stream = xor(bytes(15), bytes(24), hash256(b"pomona/secure-sum/pair/1", shared, b"round", bytes((2, 5))))
    assert masks.pack(masks.pair_mask(secret, theirs, b"round", (2, 5), (5, 24)), 24) == stream
    assert masks.commitment(seed) == hash256(b"pomona/secure-sum/commitment/1", seed)


def test_keys_of_low_order_are_refused() -> None:
    """Every x of order 1, 2, 4 or 8 on the curve or its twist, and non-canonical forms (RFC 7748, section 6.1)."""
    prime = 2**255 - 19
    eights = (
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
    for point in (0, 1, prime - 1, prime, prime + 1, *eights):
        with pytest.raises(RemoteError):
            masks.check_public_key(point.to_bytes(32, "little"))
    with pytest.raises(RemoteError):
        masks.check_public_key(bytes(31))
    rng = random.Random(1)
    for _ in range(20):
        key = masks.public_key(rng.randbytes(32))
        assert masks.check_public_key(key) == key
