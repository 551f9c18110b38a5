"""Shamir's sharing: any t shares give the secret, and t - 1 fit every secret."""

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LocalError, RemoteError
from edge.privacy.secure_sum.shamir import PRIME, combine, from_bytes, random_element, split, to_bytes, weights_at

ELEMENTS = st.integers(0, PRIME - 1)


@given(ELEMENTS, st.integers(1, 12), st.integers(0, 8), st.randoms(use_true_random=False))
def test_any_threshold_of_the_shares_gives_the_secret(
    secret: int, threshold: int, spare: int, rng: random.Random
) -> None:
    holders = sorted(rng.sample(range(128), threshold + spare))
    shares = dict(zip(holders, split(secret, threshold, holders, rng.getrandbits), strict=True))
    some = rng.sample(holders, threshold)
    assert combine({holder: shares[holder] for holder in some}) == secret
    assert combine(shares) == secret


def test_every_choice_of_three_of_five() -> None:
    shares = split(123, 3, range(5), random.Random(1).getrandbits)
    for some in combinations(range(5), 3):
        assert combine({holder: shares[holder] for holder in some}) == 123
    for two in combinations(range(5), 2):
        assert combine({holder: shares[holder] for holder in two}) != 123


def test_one_share_too_few_is_uniform() -> None:
    """Over all polynomials, in a field small enough to count: here the shares' low bits over many draws."""
    rng = random.Random(2)
    for secret in (0, PRIME - 1):
        counts = [0] * 8
        for _ in range(4000):
            counts[split(secret, 2, [0, 1], rng.getrandbits)[1] * 8 // PRIME] += 1
        assert max(abs(count - 500) for count in counts) < 110  # five standard deviations


@given(ELEMENTS)
def test_elements_have_one_form(element: int) -> None:
    assert from_bytes(to_bytes(element)) == element
    assert len(to_bytes(element)) == 32


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(33), PRIME.to_bytes(32, "little"), b"\xff" * 32])
def test_other_bytes_are_no_element(data: bytes) -> None:
    with pytest.raises(RemoteError):
        from_bytes(data)


def test_drawing_rejects_what_is_outside_the_field() -> None:
    draws = iter([2**255 - 1, PRIME, PRIME - 1])
    assert random_element(lambda bits: next(draws)) == PRIME - 1


def test_weights_interpolate() -> None:
    polynomial = [7, 5, 3]
    values = [sum(c * (holder + 1) ** power for power, c in enumerate(polynomial)) for holder in (0, 4, 9)]
    for point in (0, 3, 77):
        weights = weights_at(point, [0, 4, 9])
        expected = sum(c * point**power for power, c in enumerate(polynomial))
        assert sum(w * value for w, value in zip(weights, values, strict=True)) % PRIME == expected


def test_nonsense_is_our_bug() -> None:
    for secret, threshold, holders in ((-1, 1, [0]), (PRIME, 1, [0]), (1, 0, [0]), (1, 3, [0, 1])):
        with pytest.raises(LocalError):
            split(secret, threshold, holders, random.getrandbits)
