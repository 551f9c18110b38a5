"""What a window releases: the median, coordinate by coordinate, of the groups' means.

One lying member can set its group's mean to anything (masks hide what it adds). With three groups the median then lies
between the two honest groups' means, or equals one of them: it stays within their range. With one group, below fifteen
owners, nothing holds a liar but the clip: the release can be put anywhere in ±clip.

The groups' sums are public as well, so each must be a lawful release by itself: `Round.check_survivors` was asked
before anything was revealed. What is computed here from sums already
noised and charged costs no further budget.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from edge.errors import LocalError
from edge.privacy.secure_sum.quantise import Quantiser
from edge.privacy.secure_sum.rounds import RoundRefused
from edge.privacy.secure_sum.tally import Sum


@dataclass(frozen=True, slots=True)
class Release:
    """Means over owners, and the standard deviation of their noise (one number for all coordinates)."""

    means: tuple[float, ...]
    noise_deviation: float  # of the median of equal groups' noise about its centre, before clipping
    groups: int
    weight: Fraction  # owners behind it, those with missing shops in part


def combine(sums: Sequence[Sum], planned: int, quantiser: Quantiser) -> Release:
    """The release of a window whose plan had `planned` groups, from the sums of those that came to an end.

    Raises `RoundRefused` (`groups`) where a plan of several groups has fewer than three left: two cannot outvote one.
    """
    if not 1 <= len(sums) <= planned:
        raise LocalError(f"{len(sums)} sums of {planned} groups")
    if planned > 1 and len(sums) < 3:
        raise RoundRefused(f"{len(sums)} of {planned} groups came to an end", reason="groups")
    means = [quantiser.mean(each.values, each.weight) for each in sums]
    step = quantiser.clip_norm / quantiser.steps
    deviations = [step * math.sqrt(each.noise_variance) / float(each.weight) for each in sums]
    return Release(
        tuple(median(column) for column in zip(*means, strict=True)),
        _of_median(deviations),
        len(sums),
        sum((each.weight for each in sums), Fraction(0)),
    )


def _of_median(deviations: Sequence[float]) -> float:
    """Standard deviation of the median of normal variables about one centre, as if all had their root mean square.

    Exact for one, and for three (sqrt(1 - sqrt(3) / pi) = 0.670); pi / 2k of the variance from five on, which is 7 %
    too much deviation for five.
    """
    scale = math.sqrt(sum(each * each for each in deviations) / len(deviations))
    factors = {1: 1.0, 3: 0.67018}
    return scale * factors.get(len(deviations), math.sqrt(math.pi / 2 / len(deviations)))
