"""Measures how much a mechanism gives away, from outside: two worlds that differ in one receipt, many runs of each.

`lower_bound(a, b)` takes a number that an attacker computes from what was released, in many runs of world a and of
world b. On the first half of the runs it picks the event (the number is at least, or at most, a threshold) that tells
the worlds apart best; on the second half it bounds both probabilities of that event (Clopper & Pearson 1934, together
at 95 %). An e-differentially private mechanism has P_a <= e^e P_b + delta for every event, so

    log((P_a_low - delta) / P_b_high) <= e      with 95 % confidence.

Also here: the tails of the beta and chi-square distributions that this needs, after Numerical Recipes, 6.2 and 6.4.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Sequence

CONFIDENCE = 0.95


def lower_bound(a: Sequence[float], b: Sequence[float], delta: float = 0.0) -> float:
    """The audited lower bound on epsilon; 0 where the worlds cannot be told apart."""
    worlds = [list(a), list(b)]
    picks = [sorted(world[: len(world) // 2]) for world in worlds]
    tests = [sorted(world[len(world) // 2 :]) for world in worlds]
    event = max(_events(picks), key=lambda event: _bound(picks, event, delta, wilson))
    return max(_bound(tests, event, delta, clopper_pearson), 0.0)


Event = tuple[float, bool, bool]  # threshold; at least (or at most) it; a over b (or b over a)
Interval = Callable[[int, int], tuple[float, float]]


def _events(worlds: Sequence[Sequence[float]]) -> list[Event]:
    values = sorted([*worlds[0], *worlds[1]])
    steps = 200
    thresholds = sorted({values[min(k * len(values) // steps, len(values) - 1)] for k in range(steps + 1)})
    return [(t, least, forward) for t in thresholds for least in (True, False) for forward in (True, False)]


def _bound(worlds: Sequence[Sequence[float]], event: Event, delta: float, interval: Interval) -> float:
    """log of the least ratio of the event's probabilities in two sorted worlds that `interval` allows."""
    threshold, least, forward = event
    over, under = worlds if forward else reversed(worlds)
    bounds = []
    for world in (over, under):
        hits = len(world) - bisect_left(world, threshold) if least else bisect_right(world, threshold)
        bounds.append(interval(hits, len(world)))
    low, high = bounds[0][0] - delta, bounds[1][1]
    return math.log(low / high) if low > 0 else -math.inf


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's (1927) interval at about the same level: a quick look, only to pick an event."""
    z, share = 2.24, hits / trials
    middle = share + z * z / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    below = 1 + z * z / trials
    return max((middle - reach) / below, 0.0), min((middle + reach) / below, 1.0)


def clopper_pearson(hits: int, trials: int) -> tuple[float, float]:
    """Bounds on a probability; each may fail with half of what `CONFIDENCE` leaves, so two of them hold with it."""
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if hits == 0 else _root(lambda p: beta_cdf(p, hits, trials - hits + 1), tail)
    high = 1.0 if hits == trials else _root(lambda p: beta_cdf(p, hits + 1, trials - hits), 1 - tail)
    return low, high


def _root(rising: Callable[[float], float], goal: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < goal else (low, middle)
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Lentz's method for the continued fraction of the incomplete beta function."""
    tiny = 1e-300
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1), tiny)
    found = d
    for m in range(1, 500):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away(1 + numerator * d, tiny)
            c = _away(1 + numerator / c, tiny)
            found *= d * c
        if abs(d * c - 1) < 1e-13:
            return found
    raise AssertionError("the continued fraction did not settle")


def _away(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


def chi_square_tail(statistic: float, freedom: int) -> float:
    """P(chi-square of `freedom` degrees > statistic): the upper incomplete gamma function, by series or fraction."""
    a, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    front = math.exp(-x + a * math.log(x) - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        n = a
        while abs(term) > abs(total) * 1e-15:
            n += 1
            term *= x / n
            total += term
        return 1 - total * front
    b, c = x + 1 - a, 1e300
    d = found = 1 / b
    for i in range(1, 1000):
        b += 2
        d = 1 / _away(-i * (i - a) * d + b, 1e-300)
        c = _away(b - i * (i - a) / c, 1e-300)
        found *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return front * found


def chi_square_of_mass(samples: Sequence[int], mass: Callable[[int], float], expected_min: float = 10.0) -> float:
    """p-value of `samples` under the exact `mass`; values whose expected count is small are taken together."""
    counts = Counter(samples)
    n = len(samples)
    statistic, cells, inside, inside_seen = 0.0, 0, 0.0, 0
    value = 0
    while n * mass(value) >= expected_min:  # both distributions fall away from 0
        for signed in {value, -value}:
            expected = n * mass(signed)
            seen = counts[signed]
            statistic += (seen - expected) ** 2 / expected
            inside += expected
            inside_seen += seen
            cells += 1
        value += 1
    rest = n - inside
    if rest > expected_min:
        statistic += (n - inside_seen - rest) ** 2 / rest
        cells += 1
    return chi_square_tail(statistic, cells - 1)


def chi_square_of_two(a: Sequence[int], b: Sequence[int], expected_min: float = 10.0) -> float:
    """p-value of two samples of one size coming from one distribution."""
    assert len(a) == len(b)
    counts: dict[int, list[int]] = {}
    for which, samples in enumerate((a, b)):
        for sample in samples:
            counts.setdefault(sample, [0, 0])[which] += 1
    statistic, cells, rest = 0.0, 0, [0, 0]
    for pair in counts.values():
        if sum(pair) < 2 * expected_min:
            rest = [rest[0] + pair[0], rest[1] + pair[1]]
            continue
        statistic += (pair[0] - pair[1]) ** 2 / sum(pair)
        cells += 1
    if sum(rest):
        statistic += (rest[0] - rest[1]) ** 2 / sum(rest)
        cells += 1
    return chi_square_tail(statistic, cells - 1)
