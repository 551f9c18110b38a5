"""The cost of a sum, against divergences computed from exact masses."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LocalError
from edge.privacy import mechanism
from edge.privacy.secure_sum.accounting import (
    epsilon_of_rho,
    honest_min,
    rho_of_epsilon,
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


@given(st.floats(1e-6, 20), st.sampled_from([1e-12, 1e-9, 1e-5, 1e-2]))
def test_epsilon_is_tighter_than_the_simple_bound_and_not_below_the_gaussian(rho: float, delta: float) -> None:
    found = epsilon_of_rho(rho, delta)
    assert found <= mechanism.epsilon_of_rho(Fraction(rho), Fraction(delta)) * (1 + 1e-9)
    if found > 0:  # a Gaussian of this rho is rho-zCDP: its exact delta at this epsilon cannot be larger
        sigma = 1 / math.sqrt(2 * rho)
        tail = [0.5 * math.erfc((sign * 0.5 / sigma + found * sigma) / math.sqrt(2)) for sign in (-1, 1)]
        assert tail[0] - math.exp(min(found, 700)) * tail[1] <= delta * (1 + 1e-6)


@given(st.floats(0.01, 10), st.sampled_from([1e-9, 1e-5]))
def test_rho_of_epsilon_is_the_inverse(epsilon: float, delta: float) -> None:
    rho = rho_of_epsilon(epsilon, delta)
    assert epsilon_of_rho(float(rho), delta) <= epsilon
    assert epsilon_of_rho(float(rho + Fraction(2, 10**9)), delta) > epsilon * (1 - 1e-9)


def test_edges() -> None:
    assert epsilon_of_rho(0.0, 1e-5) == 0.0
    for call in (
        lambda: rho_of_sum(1, Fraction(1, 5), 5, 1),
        lambda: rho_of_sum(0, Fraction(1), 5, 1),
        lambda: epsilon_of_rho(-1.0, 1e-5),
        lambda: epsilon_of_rho(1.0, 0.0),
        lambda: rho_of_epsilon(0.0, 1e-5),
        lambda: variance_for(Fraction(0), 1, 5, 1),
    ):
        with pytest.raises(LocalError):
            call()
