"""The third layer's release: a noisy histogram over a ladder of prices, and a clipped mean and spread, all integers.

A price counts by its ratio to the public list price. The ladder's rungs are spaced evenly in the logarithm between the
lowest and the highest ratio, and stand before any receipt is seen. What is summed for a cell (a category or an item):

    counts[k]    receipts whose price stood on rung k
    log_sum      of round(1000 log ratio), clipped to +-c
    square_sum   of the square of the same, so at most c^2 each

Everything is rounded and clipped *before* it is summed, and noise is added to the integer sums; nothing of a sum is
rounded before the noise. Let one receipt count in at most m cells, once in each. Adding or removing a receipt then
changes the counts of all cells together by at most m, the log sums by m c, the square sums by m c^2 (L1). With the
shares s of epsilon (`SHARES`), discrete Laplace noise of scale m / (s1 e), m c / (s2 e) and m c^2 / (s3 e) makes the
release of *all* cells together e-differentially private for the receipt (Dwork & Roth 2014, theorem 3.6, on integers).

What is read off afterwards (`figures`) looks at noised numbers alone and costs nothing more: post-processing.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from edge.errors import LocalError
from edge.privacy.mechanism import RandomBits, discrete_laplace, laplace_deviation

E4: Final = 10_000  # a ratio of 1
MILLI: Final = 1000  # one log unit
SHARES: Final = (Fraction(2, 5), Fraction(2, 5), Fraction(1, 5))  # of epsilon: counts, log sum, square sum


class Ladder:
    """Rungs between `100 - percent` and `100 + percent` per cent of the list price. Data-independent; immutable."""

    def __init__(self, percent: int, rungs: int) -> None:
        low, high = (100 - percent) * 100, (100 + percent) * 100
        step = math.log(high / low) / rungs
        inner = (round(low * math.exp(step * k)) for k in range(1, rungs))
        self.edges_e4: tuple[int, ...] = (low, *inner, high)  # rungs + 1, of the ratio, in 1/10,000
        self.rungs = rungs
        self.clip_milli = round(-math.log(low / E4) * MILLI)  # c; the lower end is the further one
        if any(a >= b for a, b in zip(self.edges_e4, self.edges_e4[1:], strict=False)):
            raise LocalError(f"a ladder of {percent} % cannot have {rungs} rungs")

    def rung(self, price_minor: int, list_minor: int) -> int:
        """The rung of a price, 0 to rungs - 1; what lies beyond the ladder stands on its last rung."""
        ratio_e4 = price_minor * E4 // list_minor
        return min(max(bisect_right(self.edges_e4, ratio_e4) - 1, 0), self.rungs - 1)

    def log_milli(self, price_minor: int, list_minor: int) -> int:
        """log(price / list price) in thousandths, rounded, then clipped to +-`clip_milli`; a whole number."""
        exact = round(math.log(price_minor / list_minor) * MILLI)
        return min(max(exact, -self.clip_milli), self.clip_milli)


@dataclass(frozen=True, slots=True)
class Scales:
    """The scales of the noise of one release."""

    counts: Fraction
    log_sum: Fraction
    square_sum: Fraction


def scales(epsilon: Fraction, cells_max: int, clip_milli: int) -> Scales:
    """The scales that make a release of all cells `epsilon`-private where a receipt counts in at most `cells_max`."""
    if epsilon <= 0 or cells_max < 1:
        raise LocalError(f"epsilon {epsilon} with {cells_max} cells a receipt")
    count, log, square = (Fraction(cells_max) / (share * epsilon) for share in SHARES)
    return Scales(count, log * clip_milli, square * clip_milli**2)


@dataclass(slots=True)
class Sums:
    """The exact sums of one cell. Never leaves the box, and is never written but to its own disk."""

    counts: list[int]
    log_sum: int = 0
    square_sum: int = 0

    def add(self, rung: int, log_milli: int, times: int) -> None:
        """Count one receipt's price; `times` is 1, or -1 to take it back."""
        self.counts[rung] += times
        self.log_sum += times * log_milli
        self.square_sum += times * log_milli * log_milli


@dataclass(frozen=True, slots=True)
class Noised:
    """The sums of one cell after the noise. Any of them may be negative."""

    counts: tuple[int, ...]
    log_sum: int
    square_sum: int


def add_noise(sums: Sums, scale: Scales, random_bits: RandomBits) -> Noised:
    """Fresh exact noise on every sum of a cell. Called once a cell and release, whether it has receipts or not."""
    counts = tuple(count + discrete_laplace(scale.counts, random_bits) for count in sums.counts)
    log_sum = sums.log_sum + discrete_laplace(scale.log_sum, random_bits)
    return Noised(counts, log_sum, sums.square_sum + discrete_laplace(scale.square_sum, random_bits))


@dataclass(frozen=True, slots=True)
class Figures:
    """What is said of a cell. Ratios to the list price in 1/10,000, logs in thousandths."""

    low_e4: int  # edges of the ladder that hold the central mass
    high_e4: int
    log_mean_milli: int
    log_spread_milli: int
    deviation_milli: int  # standard deviation of the noise in `log_mean_milli`, rounded up


def total(noised: Noised) -> int:
    """The noised number of receipts; not below 0."""
    return max(sum(noised.counts), 0)


def figures(noised: Noised, ladder: Ladder, scale: Scales, receipts_min: int, central_percent: int) -> Figures | None:
    """Range, mean and spread from noised sums alone; None (suppressed) below `receipts_min` noised receipts."""
    receipts = total(noised)
    if receipts < max(receipts_min, 1):
        return None
    low, high = central(noised.counts, central_percent)
    clip = ladder.clip_milli
    mean = min(max(noised.log_sum / receipts, -clip), clip)
    square = min(max(noised.square_sum / receipts, 0.0), clip * clip)
    spread = math.sqrt(max(square - mean * mean, 0.0))
    deviation = laplace_deviation(scale.log_sum) / receipts
    edges = ladder.edges_e4
    return Figures(edges[low], edges[high + 1], round(mean), round(spread), math.ceil(deviation))


def central(counts: Sequence[int], percent: int) -> tuple[int, int]:
    """First and last rung of the central `percent` of the mass of noised counts.

    Noised counts are first made a histogram again: the nearest one (least squares) without negative counts and with
    the same total, by taking one amount off every rung and cutting at 0 (Duchi et al. 2008). A plain cut at 0 would
    leave mass on every empty rung, and the range would always be the whole ladder.
    """
    mass = nearest_histogram(counts)
    tail = sum(mass) * (100 - percent) / 200
    low, high = 0, len(mass) - 1
    below = mass[0]
    while low < high and below <= tail:
        low += 1
        below += mass[low]
    above = mass[high]
    while high > low and above <= tail:
        high -= 1
        above += mass[high]
    return low, high


def nearest_histogram(counts: Sequence[int]) -> list[float]:
    """The nearest point to `counts` without negative parts and with the same sum; zeros where that is not positive."""
    goal = sum(counts)
    if goal <= 0:
        return [0.0] * len(counts)
    running, shift = 0, 0.0
    for position, count in enumerate(sorted(counts, reverse=True), start=1):
        running += count
        candidate = (running - goal) / position
        if count - candidate > 0:
            shift = candidate
    return [max(count - shift, 0.0) for count in counts]
