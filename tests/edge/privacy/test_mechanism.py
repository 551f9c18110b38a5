import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_audit import chi_square_of_mass, chi_square_of_two, chi_square_tail

from edge.errors import LocalError
from edge.privacy.mechanism import (
    RandomBits,
    discrete_gaussian,
    discrete_laplace,
    epsilon_of_rho,
    gaussian_mass,
    laplace_deviation,
    laplace_mass,
    rho_of_epsilon,
    rho_of_pure,
)

DRAWS = 100_000
P_MIN = 1e-3  # seeded: a p-value below it stays below it, and means a fault
LAPLACE = (Fraction(1, 3), Fraction(1), Fraction(7, 2), Fraction(50, 3), Fraction(1000))
GAUSSIAN = (Fraction(1, 5), Fraction(1), Fraction(9, 2), Fraction(400, 3), Fraction(10_000))
Sampler = Callable[[Fraction, RandomBits], int]
Mass = Callable[[Fraction], Callable[[int], float]]

OPENDP = """
import json, sys
import opendp.prelude as dp
dp.enable_features("contrib")
scale, deviation, draws = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
domain = dp.vector_domain(dp.atom_domain(T=int))
laplace = dp.m.make_laplace(domain, dp.l1_distance(T=int), scale=scale)
gaussian = dp.m.make_gaussian(domain, dp.l2_distance(T=float), scale=deviation)
print(json.dumps([laplace([0] * draws), gaussian([0] * draws)]))
"""


def bits(seed: int) -> RandomBits:
    return random.Random(seed).getrandbits


@pytest.mark.parametrize("scale", LAPLACE, ids=str)
def test_laplace_samples_follow_the_exact_mass(scale: Fraction) -> None:
    draw = bits(1)
    samples = [discrete_laplace(scale, draw) for _ in range(DRAWS)]
    assert chi_square_of_mass(samples, laplace_mass(scale)) > P_MIN


@pytest.mark.parametrize("variance", GAUSSIAN, ids=str)
def test_gaussian_samples_follow_the_exact_mass(variance: Fraction) -> None:
    draw = bits(2)
    samples = [discrete_gaussian(variance, draw) for _ in range(DRAWS)]
    assert chi_square_of_mass(samples, gaussian_mass(variance)) > P_MIN


@pytest.mark.parametrize(
    ("sampler", "mass"), [(discrete_laplace, laplace_mass), (discrete_gaussian, gaussian_mass)], ids=["l", "g"]
)
def test_the_comparison_notices_a_parameter_that_is_five_percent_off(sampler: Sampler, mass: Mass) -> None:
    draw = bits(3)
    samples = [sampler(Fraction(21, 4), draw) for _ in range(DRAWS)]
    assert chi_square_of_mass(samples, mass(Fraction(5))) < 1e-6


def test_samples_agree_with_those_of_opendp() -> None:
    scale, deviation = Fraction(25, 2), 10
    arguments = [str(float(scale)), str(deviation), str(DRAWS)]
    run = subprocess.run([sys.executable, "-c", OPENDP, *arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    laplace, gaussian = json.loads(run.stdout)
    draw = bits(4)
    assert len(laplace) == DRAWS
    # OpenDP draws from the system's generator: one run in a million may fall below this.
    assert chi_square_of_two(laplace, [discrete_laplace(scale, draw) for _ in range(DRAWS)]) > 1e-6
    assert chi_square_of_two(gaussian, [discrete_gaussian(Fraction(deviation**2), draw) for _ in range(DRAWS)]) > 1e-6
    assert chi_square_of_two(laplace, gaussian) < 1e-6


@given(st.fractions(Fraction(1, 20), Fraction(60)))
def test_masses_are_symmetric_fall_and_sum_to_one(parameter: Fraction) -> None:
    reach = math.ceil(25 * max(float(parameter), 1))
    for mass in (laplace_mass(parameter), gaussian_mass(parameter)):
        assert mass(3) == mass(-3) <= mass(2)
        assert math.fsum(map(mass, range(-reach, reach + 1))) == pytest.approx(1.0, abs=1e-9)


@given(st.fractions(Fraction(1, 20), Fraction(1000)), st.integers(-50, 50))
def test_neighbouring_laplace_masses_differ_by_exactly_one_scale(scale: Fraction, x: int) -> None:
    """The guarantee itself: a step of one in the answer changes no probability by more than e^(1/scale)."""
    mass = laplace_mass(scale)
    if min(mass(x), mass(x + 1)) > 1e-290:  # below it a float has few digits left
        assert abs(math.log(mass(x) / mass(x + 1))) == pytest.approx(1 / float(scale), rel=1e-6)


@pytest.mark.parametrize("scale", LAPLACE, ids=str)
def test_the_deviation_is_that_of_the_mass(scale: Fraction) -> None:
    reach = math.ceil(45 * max(float(scale), 1))
    mass = laplace_mass(scale)
    variance = math.fsum(x * x * mass(x) for x in range(-reach, reach + 1))
    assert laplace_deviation(scale) == pytest.approx(math.sqrt(variance), rel=1e-9)


@given(st.integers(0, 2**64))
def test_parameters_beyond_any_float_are_exact_work_too(seed: int) -> None:
    draw = bits(seed)
    huge = discrete_laplace(Fraction(10**400, 3), draw)
    assert isinstance(huge, int)
    assert isinstance(discrete_gaussian(Fraction(10**700, 7), draw), int)
    assert discrete_laplace(Fraction(1, 10**400), draw) == 0


@given(st.integers(0, 2**64), st.fractions(Fraction(1, 50), Fraction(5000)))
def test_the_same_bits_give_the_same_sample(seed: int, parameter: Fraction) -> None:
    for sampler in (discrete_laplace, discrete_gaussian):
        assert sampler(parameter, bits(seed)) == sampler(parameter, bits(seed))


@pytest.mark.parametrize("parameter", [Fraction(0), Fraction(-1)])
def test_no_noise_is_refused(parameter: Fraction) -> None:
    with pytest.raises(LocalError):
        discrete_laplace(parameter, bits(0))
    with pytest.raises(LocalError):
        discrete_gaussian(parameter, bits(0))


def test_conversions_between_rho_and_epsilon() -> None:
    delta = Fraction(1, 10**6)
    # the order where the derivative, rho - (ln(1/delta) - ln a) / (a - 1)^2, is 0, by hand: a = 5.907009
    assert epsilon_of_rho(Fraction(1, 2), delta) == pytest.approx(5.2215344, abs=1e-6)
    assert epsilon_of_rho(Fraction(0), delta) == 0
    assert rho_of_pure(Fraction(1, 2)) == Fraction(1, 8)
    with pytest.raises(LocalError):
        epsilon_of_rho(Fraction(1), Fraction(0))
    with pytest.raises(LocalError):
        rho_of_epsilon(Fraction(-1), delta)


@given(st.floats(1e-6, 20), st.sampled_from([1e-12, 1e-9, 1e-5, 1e-2]))
def test_epsilon_is_tighter_than_the_simple_bound_and_not_below_the_gaussian(rho: float, delta: float) -> None:
    found = epsilon_of_rho(Fraction(rho), Fraction(delta))
    assert found <= (rho + 2 * math.sqrt(rho * math.log(1 / delta))) * (1 + 1e-9)  # Bun & Steinke 2016, prop. 1.3
    if found > 0:  # a Gaussian of this rho is rho-zCDP: its exact delta at this epsilon cannot be larger
        sigma = 1 / math.sqrt(2 * rho)
        tail = [0.5 * math.erfc((sign * 0.5 / sigma + found * sigma) / math.sqrt(2)) for sign in (-1, 1)]
        assert tail[0] - math.exp(min(found, 700)) * tail[1] <= delta * (1 + 1e-6)


@settings(max_examples=50)
@given(st.fractions(Fraction(1, 1000), Fraction(20)), st.integers(5, 18))
def test_rho_of_epsilon_is_the_largest_that_fits(epsilon: Fraction, exponent: int) -> None:
    delta = Fraction(1, 10**exponent)
    rho = rho_of_epsilon(epsilon, delta)
    assert epsilon_of_rho(rho, delta) <= epsilon
    assert epsilon_of_rho(rho + Fraction(2, 10**9), delta) > epsilon * (1 - Fraction(1, 10**9))


def test_the_chi_square_tail_is_that_of_the_tables() -> None:
    assert chi_square_tail(3.841459, 1) == pytest.approx(0.05, abs=1e-6)
    assert chi_square_tail(18.307038, 10) == pytest.approx(0.05, abs=1e-6)
    assert chi_square_tail(135.806723, 100) == pytest.approx(0.01, abs=1e-6)
    assert chi_square_tail(70.064895, 100) == pytest.approx(0.99, abs=1e-6)
