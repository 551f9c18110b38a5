"""Exact integer noise: the discrete Laplace and the discrete Gaussian distribution, by integer arithmetic alone.

Source: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020), algorithms 1 to 3.

    discrete Laplace, scale b       P(x) = (e^(1/b) - 1) / (e^(1/b) + 1) * e^(-|x| / b)
    discrete Gaussian, variance s2  P(x) = e^(-x^2 / 2 s2) / sum over y of e^(-y^2 / 2 s2)

Added to an integer query of L1 sensitivity D, Laplace noise of scale b is (D/b)-differentially private; Gaussian noise
of variance s2 on a query of L2 sensitivity D is (D^2 / 2 s2)-concentrated (zCDP). No float stands in the way of a
sample: naive floating-point noise tells the value it hides by its low bits (Mironov 2012).

Randomness is an argument: `random_bits(k)` answers k independent bits as an integer. Production hands in
`secrets.randbits`; a seeded generator in production would give every secret away.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from edge.errors import LocalError

RandomBits = Callable[[int], int]
_ORDERS_TRIED: Final = 200
_MASS_CUT: Final = 40.0  # standard deviations beyond which a mass is below the smallest double


def discrete_laplace(scale: Fraction, random_bits: RandomBits) -> int:
    """One sample of the discrete Laplace distribution of scale `scale` (> 0): noise for sensitivity `scale * epsilon`.

    Raises `LocalError` for a scale that is not positive.
    """
    if scale <= 0:
        raise LocalError(f"Laplace noise of scale {scale}")
    return _laplace(scale.numerator, scale.denominator, random_bits)


def discrete_gaussian(variance: Fraction, random_bits: RandomBits) -> int:
    """One sample of the discrete Gaussian of parameter sigma^2 = `variance` (> 0); its variance is at most that.

    Raises `LocalError` for a variance that is not positive.
    """
    if variance <= 0:
        raise LocalError(f"Gaussian noise of variance {variance}")
    num, den = variance.numerator, variance.denominator
    t = math.isqrt(num // den) + 1  # floor(sigma) + 1: the Laplace scale that accepts best
    # Accept y with probability exp(-(|y| - s2/t)^2 / 2 s2) = exp(-(|y| t den - num)^2 / (2 t^2 num den)).
    below = 2 * t * t * num * den
    while True:
        y = _laplace(t, 1, random_bits)
        if _bernoulli_exp((abs(y) * t * den - num) ** 2, below, random_bits):
            return y


def _laplace(t: int, s: int, random_bits: RandomBits) -> int:
    """Algorithm 2: scale t/s. A geometric variable by whole multiples of t and a remainder, divided by s, signed."""
    while True:
        u = _below(t, random_bits)
        if not _bernoulli_exp(u, t, random_bits):
            continue
        v = 0
        while _bernoulli_exp(1, 1, random_bits):
            v += 1
        y = (u + t * v) // s
        if random_bits(1):
            if y == 0:
                continue  # zero would be drawn twice as often: once as +0, once as -0
            return -y
        return y


def _bernoulli_exp(num: int, den: int, random_bits: RandomBits) -> bool:
    """Algorithm 1: true with probability exp(-num/den), num >= 0, den > 0."""
    while num > den:
        if not _bernoulli_exp(1, 1, random_bits):
            return False
        num -= den
    k = 1
    while _below(den * k, random_bits) < num:
        k += 1
    return k % 2 == 1


def _below(bound: int, random_bits: RandomBits) -> int:
    """Uniform on 0..bound-1, by rejection."""
    bits = (bound - 1).bit_length()
    if bits == 0:
        return 0
    while (value := random_bits(bits)) >= bound:
        pass
    return value


# --- masses, for tests and for what noise costs ----------------------------------------------------------------------


def laplace_mass(scale: Fraction) -> Callable[[int], float]:
    """x -> P(sample = x) of `discrete_laplace`, from its closed form; correct to about 1e-15 relative."""
    b = float(scale)
    return lambda value: math.tanh(0.5 / b) * math.exp(-abs(value) / b)


def gaussian_mass(variance: Fraction) -> Callable[[int], float]:
    """x -> P(sample = x) of `discrete_gaussian`; the normalising sum is taken term by term, from the smallest up."""
    s2 = float(variance)
    reach = math.ceil(_MASS_CUT * math.sqrt(s2)) + 1
    total = 1.0 + 2.0 * math.fsum(math.exp(-y * y / (2.0 * s2)) for y in range(reach, 0, -1))
    return lambda value: math.exp(-value * value / (2.0 * s2)) / total


def laplace_deviation(scale: Fraction) -> float:
    """Standard deviation of `discrete_laplace`: sqrt(2 q) / (1 - q) with q = exp(-1 / scale)."""
    q = math.exp(-1.0 / float(scale))
    return math.sqrt(2.0 * q) / -math.expm1(-1.0 / float(scale))


# --- between the two currencies --------------------------------------------------------------------------------------


def rho_of_pure(epsilon: Fraction) -> Fraction:
    """The rho that pure `epsilon`-DP implies: epsilon^2 / 2 (Bun & Steinke 2016, proposition 1.4)."""
    return epsilon * epsilon / 2


def epsilon_of_rho(rho: Fraction, delta: Fraction) -> float:
    """The smallest epsilon found for which rho-zCDP implies (epsilon, delta)-DP; rounded up.

    epsilon = rho a + ln(1 / (a delta)) / (a - 1) + ln(1 - 1 / a), at the best order a > 1 (Canonne, Kamath, Steinke
    2020, corollary 13; every order is a valid bound). Never above the better known rho + 2 sqrt(rho ln(1/delta)) (Bun &
    Steinke 2016, proposition 1.3). Raises `LocalError` out of range.
    """
    if rho < 0 or not 0 < delta < 1:
        raise LocalError(f"rho {rho}, delta {delta}")
    if rho == 0:
        return 0.0
    low, high = -20.0, 60.0  # ln(a - 1)
    for _ in range(_ORDERS_TRIED):  # convex near its minimum; a poorer order costs tightness, never validity
        one, other = low + (high - low) / 3.0, high - (high - low) / 3.0
        if _epsilon_at(rho, delta, one) <= _epsilon_at(rho, delta, other):
            high = other
        else:
            low = one
    return max(0.0, _epsilon_at(rho, delta, (low + high) / 2.0)) * (1.0 + 1e-12)  # above a dozen roundings of 1e-16


def rho_of_epsilon(epsilon: Fraction, delta: Fraction) -> Fraction:
    """The largest rho (to 1e-9) whose `epsilon_of_rho` is at most `epsilon`."""
    if epsilon < 0 or not 0 < delta < 1:
        raise LocalError(f"epsilon {epsilon}, delta {delta}")
    low, high = 0, 1
    while epsilon_of_rho(Fraction(high, 10**9), delta) <= epsilon:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if epsilon_of_rho(Fraction(middle, 10**9), delta) <= epsilon:
            low = middle
        else:
            high = middle
    return Fraction(low, 10**9)


def _epsilon_at(rho: Fraction, delta: Fraction, log_order: float) -> float:
    excess = math.exp(log_order)  # a - 1
    order = 1.0 + excess
    last = math.log1p(-1.0 / order) if excess > 1.0 else log_order - math.log(order)  # whichever does not cancel
    return float(rho) * order + (_log_inverse(delta) - math.log(order)) / excess + last


def _log_inverse(delta: Fraction) -> float:
    return math.log(delta.denominator) - math.log(delta.numerator)
