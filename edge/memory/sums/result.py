"""From the groups' sums of a window to one record. Pure: every member that read the same feeds makes the same.

The record's error is what shops differ by: numbers within ±clip lie at most `clip` from their mean (root mean square),
so the mean of n owners is within clip / sqrt(n) of that of all owners like them, whatever they are like; a median of
groups is a little worse. The noise is beside it, in `Protection.deviation`. What clipping hides is in neither: owners
further than the clip from the centre pull the mean less than they should.
"""

import math
from collections.abc import Sequence
from typing import Final

from edge.memory.sums.terms import CLIP_ITEM, CLIP_MEAN, SUM_WEEKS, Asked
from edge.privacy.secure_sum import Release, RoundRefused, Sum, combine
from edge.records.shared import Coefficient, InsightRow, ModelInsight, Protection, Unit

KNOWN_MIN: Final = 0.5  # of the weight behind a sum that must know an item, before its mean is told
_MICRO: Final = 10**6
_PICO: Final = 10**12


def insight_of(asked: Asked, sums: Sequence[Sum]) -> ModelInsight:
    """The record of one sum, from the sums of all its groups in their order.

    The unit of protection is the owner-week; where all members have one owner, of the shop, which is told as one owner
    of as many shops. Raises `RoundRefused` (`unknown`) where hardly anybody knows any of the items.
    """
    release = combine(sums, len(asked.rounds), asked.subject.quantiser)
    rows, deviation = _items(asked, release) if asked.subject.items else _mean(asked, release)
    survivors = [
        round_.members[number] for round_, each in zip(asked.rounds, sums, strict=True) for number in each.survivors
    ]
    owners = 1 if asked.one_owner else len({member.owner for member in survivors})
    protection = Protection(
        Unit.OWNER_WEEK,
        math.ceil(asked.epsilon * _MICRO),
        math.ceil(asked.delta * _PICO),
        deviation,
        len(survivors),
        owners,
    )
    return ModelInsight(asked.subject.category, asked.window.end - 1, rows, protection)


def _mean(asked: Asked, release: Release) -> tuple[tuple[InsightRow, ...], float]:
    price = Coefficient(asked.centre + release.means[0], _error(CLIP_MEAN, release, 1.0))
    return (InsightRow("", SUM_WEEKS, (("price", price),)),), release.noise_deviation


def _items(asked: Asked, release: Release) -> tuple[tuple[InsightRow, ...], float]:
    items = asked.subject.items
    rows, least = [], 1.0
    for sku, off, known in zip(items, release.means, release.means[len(items) :], strict=False):
        if known >= KNOWN_MIN:
            mean = min(max(off / known, -CLIP_ITEM), CLIP_ITEM)
            price = Coefficient(asked.centre + mean, _error(CLIP_ITEM, release, known))
            rows.append(InsightRow(sku, SUM_WEEKS, (("price", price),)))
            least = min(least, known)
    if not rows:
        raise RoundRefused("no item is known by half of the weight", reason="unknown")
    return tuple(rows), release.noise_deviation * math.sqrt(2.0) / least  # of a ratio within ±1, at its worst


def _error(clip: float, release: Release, known: float) -> float:
    """Of a mean over the owners behind `release`, of which the part `known` counts."""
    median = 1.0 if release.groups == 1 else math.sqrt(math.pi / 2.0)
    return median * clip / math.sqrt(known * float(release.weight))
