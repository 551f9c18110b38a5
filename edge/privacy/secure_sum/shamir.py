"""Shamir's secret sharing over the field of 2^255 - 19 elements: any t of n shares give the secret, t - 1 say nothing.

Source: Shamir, "How to Share a Secret" (1979). A secret is the constant term of a random polynomial of degree t - 1;
the share of the holder with number i is its value at i + 1. Secrets and shares are field elements, 32 bytes
little-endian in canonical form. Drawing secrets as field elements keeps every one of them equally likely, whatever
t - 1 shares are known; what needs other bytes (an X25519 key, a cipher's key) is hashed from the secret.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from edge.errors import LocalError, RemoteError
from edge.privacy.mechanism import RandomBits

PRIME: Final = 2**255 - 19
ELEMENT_BYTES: Final = 32


def random_element(random_bits: RandomBits) -> int:
    """A uniform field element, by rejection."""
    while (value := random_bits(255)) >= PRIME:
        pass
    return value


def split(secret: int, threshold: int, holders: Sequence[int], random_bits: RandomBits) -> list[int]:
    """Shares of `secret` for the holders with these numbers (0 and up), of which any `threshold` are enough."""
    if not 0 <= secret < PRIME or not 1 <= threshold <= len(holders):
        raise LocalError(f"cannot share among {len(holders)} with threshold {threshold}")
    polynomial = [secret, *(random_element(random_bits) for _ in range(threshold - 1))]
    return [_evaluate(polynomial, holder + 1) for holder in holders]


def combine(shares: Mapping[int, int]) -> int:
    """The secret behind shares by holder's number: exactly as many as the threshold, or more that agree."""
    weights = weights_at(0, list(shares))
    return sum(weight * share for weight, share in zip(weights, shares.values(), strict=True)) % PRIME


def weights_at(point: int, holders: Sequence[int]) -> list[int]:
    """Lagrange's weights: the polynomial through the holders' shares at `point` is their weighted sum."""
    places = [holder + 1 for holder in holders]
    weights = []
    for place in places:
        above = below = 1
        for other in places:
            if other != place:
                above = above * (point - other) % PRIME
                below = below * (place - other) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return weights


def to_bytes(element: int) -> bytes:
    """32 bytes, little-endian."""
    return element.to_bytes(ELEMENT_BYTES, "little")


def from_bytes(data: bytes) -> int:
    """Inverse of `to_bytes`; raises `RemoteError` for another length or a value outside the field."""
    element = int.from_bytes(data, "little")
    if len(data) != ELEMENT_BYTES or element >= PRIME:
        raise RemoteError("a share is no field element", reason="share")
    return element


def _evaluate(polynomial: Sequence[int], place: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * place + coefficient) % PRIME
    return value
