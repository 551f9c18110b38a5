"""From what other shops say of demand to the prior of this shop's estimate. Pure.

For one coefficient of one item, peers together say: the mean over shops μ is `mean` ± `error`, and a shop lies
`between` around μ (`edge.memory.combine.Pooled`). The shipped prior says that μ lies around its own centre with
M² = category_sd² + item_sd² − between². Each is counted once, and both speak of μ, not of this shop's distance from it:

    error²  = error² + drift² · weeks since it was pooled
    kept    = M² / (M² + error²)                                     1 where peers know μ well
    mean'   = centre + kept · (mean − centre)
    sd'²    = between² + kept · error²                               at most the shipped prior's own variance

With well-known peers sd'² = between² + error². It is never below FLOOR of the shipped item sd, whatever anybody says:
own sales of standard error s take back at least 1 / (1 + (s / floor)²) of what a liar moved, had it taken over all
peers. What is left out: a coefficient of which
peers know less than the shipped prior (error² > M²), and one farther than REACH shipped sds from the shipped centre
(no honest pool lies there; the item then stays with its category).

The row of the category as a whole (SKU "") is used for a coefficient only where no item of this shop has a row of its
own, because it was made of the same sales: it moves the category's mean, and with it all items, and leaves their
distances to the shop's own data.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.agent.estimate import DemandPrior, Normal, PeerPrior
from edge.errors import RecordInvalid
from edge.memory.combine import TERM_RULES, Pooled
from edge.records.shared import TERMS, WEEK_MAX

Insights = Mapping[str, Mapping[str, Pooled]]  # SKU ("": the category) → coefficient of TERMS → what peers say

CATEGORY: Final = ""
FLOOR: Final = 1.0 / 3.0  # of the shipped item sd: 0.25 of an own elasticity, less than any two shops lie apart
REACH: Final = 3.0  # shipped sds, of category and item together: own elasticities from -5.6 to -0.2
_SHOPS_MAX: Final = 1_000_000  # as in `edge.records.shared.Protection`


@dataclass(frozen=True, slots=True)
class Told:
    """A prior from peers, and who is behind it: for the decision's reasons."""

    prior: PeerPrior
    shops: int  # behind the coefficient that the most shops stand behind
    week: int  # of the oldest one used
    coefficients: int  # items' coefficients, and those of the category


def peer_prior(
    insights: Insights, skus: Sequence[str], shipped: DemandPrior, *, pooled_in: int, week: int
) -> Told | None:
    """What `insights`, pooled in week `pooled_in`, say in week `week` of items `skus`; None where nothing is usable.

    Raises `RecordInvalid` for numbers that no pooling makes: whoever hands them over is broken, or worse.
    """
    shape = (len(skus), len(TERMS))
    mean, sd = np.full(shape, np.nan), np.full(shape, np.nan)
    category_mean, category_sd = np.full(len(TERMS), np.nan), np.full(len(TERMS), np.nan)
    used: list[Pooled] = []
    stale = max(week - pooled_in, 0)
    whole = insights.get(CATEGORY, {})
    for column, (term, normal) in enumerate(zip(TERMS, shipped.normals, strict=True)):
        drift = TERM_RULES[term].drift ** 2 * stale
        for row, sku in enumerate(skus):
            pooled = insights.get(sku, {}).get(term)
            found = None if pooled is None else _item(checked(pooled), normal, drift)
            if pooled is not None and found is not None:
                mean[row, column], sd[row, column] = found
                used.append(pooled)
        pooled = whole.get(term)
        if pooled is not None and np.all(np.isnan(mean[:, column])):
            found = _category(checked(pooled), normal, drift)
            if found is not None:
                category_mean[column], category_sd[column] = found
                used.append(pooled)
    if not used:
        return None
    alone = bool(np.all(np.isnan(category_mean)))
    return Told(
        PeerPrior(mean, sd) if alone else PeerPrior(mean, sd, category_mean, category_sd),
        shops=max(pooled.shops for pooled in used),
        week=min(pooled.week for pooled in used),
        coefficients=len(used),
    )


def checked(pooled: Pooled) -> Pooled:
    """`pooled`, if it can be one."""
    numbers = (pooled.mean, pooled.error, pooled.between, pooled.deviation)
    if not all(math.isfinite(number) for number in numbers):
        raise RecordInvalid("what peers say is not finite", reason="range")
    if pooled.error < 0 or pooled.between < 0 or pooled.deviation < 0:
        raise RecordInvalid("what peers say has a negative error", reason="range")
    if not (1 <= pooled.shops <= _SHOPS_MAX and pooled.owners >= 1 and 0 <= pooled.week <= WEEK_MAX):
        raise RecordInvalid("what peers say has nobody behind it, or is of no week", reason="range")
    return pooled


def _item(pooled: Pooled, shipped: Normal, drift: float) -> tuple[float, float] | None:
    """(mean, sd) of this shop's coefficient, or None where the shipped prior is left alone."""
    whole = shipped.category_sd**2 + shipped.item_sd**2
    between, error = pooled.between**2, pooled.error**2 + drift
    scatter = whole - between
    if error > scatter or abs(pooled.mean - shipped.mean) > REACH * math.sqrt(whole):
        return None
    kept = scatter / (scatter + error)
    mean = shipped.mean + kept * (pooled.mean - shipped.mean)
    return mean, max(math.sqrt(between + kept * error), FLOOR * shipped.item_sd)


def _category(pooled: Pooled, shipped: Normal, drift: float) -> tuple[float, float] | None:
    """(mean, sd) of what peers observe of this shop's category; the estimate weighs it against the shipped prior."""
    sd = math.sqrt(pooled.between**2 + pooled.error**2 + drift)
    if sd > REACH * shipped.category_sd or abs(pooled.mean - shipped.mean) > REACH * shipped.category_sd:
        return None
    return pooled.mean, max(sd, FLOOR * shipped.category_sd)
