"""What a sum costs: rho of the summed discrete Gaussians.

The sum of independent discrete Gaussians is not one. Kairouz, Liu and Steinke (2021), theorem 1 and proposition 14: let
h members each add a discrete Gaussian of parameter s² (s >= 1/2) to each of d coordinates, and let one unit move the
sum by D in L2 norm. Then the release is rho-zCDP with

    rho = min( D² / 2hs² + tau d,  (D / sqrt(h) s + tau sqrt(d))² / 2 )
    tau = 10 * sum over k = 1 .. h - 1 of exp(-2 pi² s² k / (k + 1))

h counts the noise that nobody knows: honest survivors, ceil(n / 3) at least (`rounds`). tau vanishes for s above 2 or
3 steps; our members add thousands.

The ledger charges rho to the owner-week; rho adds up over releases. (epsilon, delta) is for people, and follows from it
(`edge.privacy.mechanism.epsilon_of_rho`).
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
