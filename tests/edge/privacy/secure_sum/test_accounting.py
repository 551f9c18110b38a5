"""The cost of a sum, against divergences computed from exact masses."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LocalError
from edge.privacy.secure_sum.accounting import (
    honest_min,
    rho_of_sum,
    tau,
    variance_for,
)


def masses_of_sum(variance: Fraction, members: int, reach: int) -> np.ndarray:
    one = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * float(variance)))
    one /= one.sum()
    total = np.array([1.0])
    for _ in range(members):
        total = np.convolve(total, one)
    return total


def exceeded(variance: Fraction, members: int, shift: int, rho: float) -> float:
    """The greatest D(sum || shifted sum) of order alpha over rho alpha, of orders that the masses allow."""
    masses = masses_of_sum(variance, members, math.ceil(18 * math.sqrt(variance)))
    here, there = masses[shift:], masses[:-shift]
    usable = (here > 1e-250) & (there > 1e-250)
    ratios = []
    for alpha in (1.01, 1.1, 1.5, 2.0, 4.0, 8.0, 16.0):
        logs = np.log(here[usable]) * alpha + np.log(there[usable]) * (1 - alpha)
        if logs.max() - max(logs[0], logs[-1]) > 30:  # else the tail that was cut off would count
            divergence = float(np.log(np.exp(logs - logs.max()).sum()) + logs.max()) / (alpha - 1)
            ratios.append(divergence / rho / alpha)
    assert len(ratios) >= 3
    return max(ratios)


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(3, 10), Fraction(1, 2), Fraction(1), Fraction(4)])
@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("shift", [1, 2, 3])
def test_rho_bounds_the_exact_divergence(variance: Fraction, members: int, shift: int) -> None:
    """The sum is symmetric: the other direction is the same."""
    assert exceeded(variance, members, shift, rho_of_sum(shift, variance, members, 1)) <= 1 + 1e-9


def test_the_correction_is_what_makes_it_true() -> None:
    """Two members of variance 1/4: the rho of one discrete Gaussian of twice the variance is too small."""
    assert max(exceeded(Fraction(1, 4), 2, shift, shift**2 / (4 * 0.25)) for shift in (1, 2, 3)) > 1.0001


def test_tau_vanishes_for_wide_noise_and_for_one_member() -> None:
    assert tau(Fraction(1), 1) == 0.0
    assert tau(Fraction(9), 100) < 1e-35
    assert rho_of_sum(10, Fraction(10_000), 5, 3) == pytest.approx(100 / (2 * 5 * 10_000), rel=1e-9)


def test_formula_as_published() -> None:
    variance, members, dimension, sensitivity = Fraction(1, 2), 4, 3, 2
    extra = 10 * sum(math.exp(-2 * math.pi**2 * 0.5 * k / (k + 1)) for k in (1, 2, 3))
    assert tau(variance, members) == pytest.approx(extra)
    first = sensitivity**2 / (2 * members * 0.5) + extra * dimension
    second = (sensitivity / math.sqrt(members * 0.5) + extra * math.sqrt(dimension)) ** 2 / 2
    assert rho_of_sum(sensitivity, variance, members, dimension) == pytest.approx(min(first, second))


@given(st.integers(5, 128), st.fractions(Fraction(1, 10_000), 2), st.integers(1, 2**20), st.integers(1, 100))
def test_enough_noise_for_a_third_missing_and_a_third_colluding(
    members: int, rho: Fraction, sensitivity: int, dimension: int
) -> None:
    variance = variance_for(rho, sensitivity, members, dimension)
    assert 3 * honest_min(members) >= members
    assert rho_of_sum(sensitivity, variance, honest_min(members), dimension) <= rho
    if variance > 1000:  # and not much more than the three-fold
        assert variance <= 3 * Fraction(sensitivity**2) / (2 * rho) / members * Fraction(1001, 1000) + 1


def test_edges() -> None:
    for call in (
        lambda: rho_of_sum(1, Fraction(1, 5), 5, 1),
        lambda: rho_of_sum(0, Fraction(1), 5, 1),
        lambda: variance_for(Fraction(0), 1, 5, 1),
    ):
        with pytest.raises(LocalError):
            call()
