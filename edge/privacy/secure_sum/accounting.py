"""What a sum costs: rho of the summed discrete Gaussians, and (epsilon, delta) from rho.

The sum of independent discrete Gaussians is not one. Kairouz, Liu and Steinke (2021), theorem 1 and proposition 14: let
h members each add a discrete Gaussian of parameter s² (s >= 1/2) to each of d coordinates, and let one unit move the
sum by D in L2 norm. Then the release is rho-zCDP with

    rho = min( D² / 2hs² + tau d,  (D / sqrt(h) s + tau sqrt(d))² / 2 )
    tau = 10 * sum over k = 1 .. h - 1 of exp(-2 pi² s² k / (k + 1))

h counts the noise that nobody knows: honest survivors, ceil(n / 3) at least (`rounds`). tau vanishes for s above 2 or
3 steps; our members add thousands.

The ledger charges rho to the owner-week; rho adds up over releases. (epsilon, delta) is for people: Canonne, Kamath and
Steinke (2020), corollary 13, as a minimum over orders alpha, of which every one is a valid bound. It is tighter than
`mechanism.epsilon_of_rho`, which both hold.
"""

import math
from fractions import Fraction
from typing import Final

from edge.errors import LocalError
from edge.privacy.secure_sum.rounds import member_variance

VARIANCE_MIN: Final = Fraction(1, 4)  # proposition 14 asks for s >= 1/2
_ROUNDINGS: Final = 1.0 + 1e-12  # of floats, upwards


def tau(variance: Fraction, members: int) -> float:
    """How far `members` summed discrete Gaussians of this variance are from one: 0 for one of them."""
    base = -2.0 * math.pi**2 * float(variance)
    return 10.0 * math.fsum(math.exp(base * k / (k + 1)) for k in range(1, members))


def rho_of_sum(sensitivity: int, variance: Fraction, honest: int, dimension: int) -> float:
    """rho of a sum in which `honest` members each add a discrete Gaussian of `variance` (steps²) to each coordinate.

    Rounded up. Raises `LocalError` outside the theorem's range.
    """
    if variance < VARIANCE_MIN or honest < 1 or dimension < 1 or sensitivity < 1:
        raise LocalError(f"no bound for {honest} members of variance {variance} in {dimension} dimensions")
    extra = tau(variance, honest)
    ratio = sensitivity / math.sqrt(float(honest * variance))
    first = ratio * ratio / 2.0 + extra * dimension
    second = (ratio + extra * math.sqrt(dimension)) ** 2 / 2.0
    return min(first, second) * _ROUNDINGS


def honest_min(members: int) -> int:
    """Members whose noise counts in a group: those of at least t = ceil(2n/3) survivors that do not collude."""
    return -(-2 * members // 3) - (-(-members // 3) - 1)


def variance_for(rho: Fraction, sensitivity: int, members: int, dimension: int) -> Fraction:
    """The variance (steps², whole) of each member's noise so that a group's sum costs at most `rho`."""
    if rho <= 0:
        raise LocalError(f"no noise is enough for rho {rho}")
    exact = member_variance(Fraction(sensitivity**2) / (2 * rho), members)
    variance = Fraction(max(1, math.ceil(exact)))
    honest = honest_min(members)
    while rho_of_sum(sensitivity, variance, honest, dimension) > rho:
        variance += max(1, variance // 10**9)
    return variance


def epsilon_of_rho(rho: float, delta: float) -> float:
    """The smallest epsilon found for which rho-zCDP implies (epsilon, delta)-DP; rounded up.

    epsilon = rho alpha + ln(1 / (alpha delta)) / (alpha - 1) + ln(1 - 1 / alpha), over alpha > 1.
    """
    if rho < 0 or not 0 < delta < 1:
        raise LocalError(f"rho {rho}, delta {delta}")
    if rho == 0:
        return 0.0
    low, high = -20.0, 60.0  # ln(alpha - 1)
    for _ in range(200):  # convex near its minimum; a poorer alpha costs tightness, never validity
        one, other = low + (high - low) / 3.0, high - (high - low) / 3.0
        if _epsilon_at(rho, delta, one) <= _epsilon_at(rho, delta, other):
            high = other
        else:
            low = one
    return max(0.0, _epsilon_at(rho, delta, (low + high) / 2.0)) * _ROUNDINGS


def rho_of_epsilon(epsilon: float, delta: float) -> Fraction:
    """The largest rho (to 1e-9) whose `epsilon_of_rho` is at most `epsilon`."""
    if epsilon <= 0:
        raise LocalError(f"epsilon {epsilon}")
    low, high = 0, 1
    while epsilon_of_rho(high / 1e9, delta) <= epsilon:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if epsilon_of_rho(middle / 1e9, delta) <= epsilon:
            low = middle
        else:
            high = middle
    return Fraction(low, 10**9)


def _epsilon_at(rho: float, delta: float, log_order: float) -> float:
    excess = math.exp(log_order)  # alpha - 1
    alpha = 1.0 + excess
    return rho * alpha - math.log(alpha * delta) / excess + log_order - math.log(alpha)
