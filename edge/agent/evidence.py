"""What a shop tells its networks about demand: the estimate of its own data, and nothing that others said. Pure.

A posterior under the shipped prior would count that prior once a shop, and one under peers' prior would send back to
them what they said, as if it were news: they would believe themselves more every week (an echo). So each item is
fitted apart, under a prior WIDE times the shipped sds, and that prior is then taken out again. With posterior
N(m, s²) and prior N(p, w²), what the data alone say is N(m°, e²):

    1 / e² = 1 / s² − 1 / w²        m° = e² (m / s² − p / w²)

The wide prior only keeps Newton's method steady where items never varied. `evidence` takes no other argument than own
sales and the shipped prior's centre, so peers' words cannot enter.

Left out: items with fewer than WEEKS_MIN weeks of usable sales, or whose own log price varied by less than
VARIATION_MIN (sd over those weeks), with all their coefficients; of the others, coefficients whose error is above
ERROR_MAX shipped sds, which would tell a reader less than the prior that it already has. The rule looks at errors and
regressors only, never at the answer, so that it selects no answer.

The row of the category (SKU "") is the mean of the items' coefficients, each weighted by 1 / (item_sd² + e²); its error
is of estimation alone: Σ w² e² / (Σ w)² for its square; for `others` (Σ w e)² / (Σ w)², because the items of a category
are measured against nearly the same price index, and err together.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.agent.estimate import DemandPosterior, DemandPrior, Normal, design, estimate
from edge.records.history import CategoryHistory
from edge.records.shared import TERMS, Coefficient, InsightRow, ModelInsight

Float = NDArray[np.float64]

WIDE: Final = 6.0  # times the shipped sd of an item: 5.4 of an own elasticity
WEEKS_MIN: Final = 13  # of an item's sales: a quarter
VARIATION_MIN: Final = 0.02  # log; prices that moved less are known worse than they are recorded
ERROR_MAX: Final = 2.0  # shipped sds: a fifth of the shipped prior's weight
_COEFFICIENT_MAX: Final = 20.0  # of `Coefficient`
_SMALLEST: Final = 1e-3  # of an error: a fit that claims less is wrong about itself


def evidence(history: CategoryHistory, shipped: DemandPrior | None = None) -> ModelInsight | None:
    """What `history` says of its category after its last week, or None where it says nothing.

    Rows ascending by SKU, the category's first; deterministic: the same history gives the same bytes.
    """
    prior = DemandPrior() if shipped is None else shipped
    posterior = estimate(history, apart(prior))
    if not posterior.converged or not bool(np.all(np.isfinite(posterior.covariance))):
        return None
    mean, error = own(posterior, prior)
    mean = np.where(tellable(history, prior)[:, None], mean, np.nan)
    rows = []
    for item in sorted(range(len(history.skus)), key=lambda item: history.skus[item]):
        known = _coefficients(mean[item], error[item])
        if known:
            rows.append(InsightRow(history.skus[item], int(posterior.weeks_used[item]), known))
    if not rows:
        return None
    whole = _coefficients(*category(mean, error, prior))
    if whole and rows[0].sku:
        rows.insert(0, InsightRow("", max(row.weeks for row in rows), whole))
    return ModelInsight(history.category, int(history.weeks[-1]), tuple(rows))


def apart(prior: DemandPrior) -> DemandPrior:
    """`prior` with the same centres and almost no opinion, and without a category that ties items together."""
    price, carry, feature, deal, others = (
        Normal(normal.mean, _pinned(normal), WIDE * _whole(normal)) for normal in prior.normals
    )
    return replace(prior, price=price, carry=carry, feature=feature, deal=deal, others=others)


def own(posterior: DemandPosterior, shipped: DemandPrior) -> tuple[Float, Float]:
    """(mean, error) of TERMS, (n, 5), with the wide prior taken out; NaN where the data say next to nothing."""
    normals = shipped.normals
    centre = np.array([normal.mean for normal in normals])
    width = np.array([np.hypot(_pinned(normal), WIDE * _whole(normal)) for normal in normals])
    sd = np.stack([posterior.sd(term) for term in range(1, len(TERMS) + 1)], axis=-1)
    precision = sd**-2 - width**-2
    known = precision > 0
    error = np.where(known, np.where(known, precision, 1.0) ** -0.5, np.nan)
    limit = ERROR_MAX * np.array([_whole(normal) for normal in normals])
    with np.errstate(invalid="ignore"):
        known = known & (error <= limit)
    mean = error**2 * (posterior.mean[:, 1:] / sd**2 - centre / width**2)
    return np.where(known, mean, np.nan), np.where(known, np.maximum(error, _SMALLEST), np.nan)


def tellable(history: CategoryHistory, prior: DemandPrior) -> NDArray[np.bool_]:
    """(n,) items with enough weeks and enough movement of their own price to speak of."""
    data = design(history, prior.decay)
    weeks = np.sum(data.used, axis=0)
    count = np.maximum(weeks, 1)
    centre = np.sum(np.where(data.used, data.x, 0.0), axis=0) / count
    spread = np.sqrt(np.sum(np.where(data.used, (data.x - centre) ** 2, 0.0), axis=0) / count)
    return np.asarray((weeks >= WEEKS_MIN) & (spread >= VARIATION_MIN))


def category(mean: Float, error: Float, shipped: DemandPrior) -> tuple[Float, Float]:
    """(mean, error) of the category's coefficients, (5,) each; NaN where no item says anything."""
    item = np.array([normal.item_sd for normal in shipped.normals])
    known = np.isfinite(mean)
    weight = np.where(known, 1.0 / (item**2 + np.where(known, error, 1.0) ** 2), 0.0)
    total = np.sum(weight, axis=0)
    some = total > 0
    total = np.where(some, total, 1.0)
    pooled = np.sum(weight * np.where(known, mean, 0.0), axis=0) / total
    part = weight * np.where(known, error, 0.0)
    together = np.arange(len(TERMS)) == TERMS.index("others")
    spread = np.where(together, np.sum(part, axis=0), np.sqrt(np.sum(part**2, axis=0))) / total
    return np.where(some, pooled, np.nan), np.where(some, spread, np.nan)


def _coefficients(mean: Float, error: Float) -> tuple[tuple[str, Coefficient], ...]:
    return tuple(
        (term, Coefficient(float(mean[at]), float(error[at])))
        for at, term in enumerate(TERMS)
        if np.isfinite(mean[at]) and abs(mean[at]) <= _COEFFICIENT_MAX
    )


def _whole(normal: Normal) -> float:
    return float(np.hypot(normal.category_sd, normal.item_sd))


def _pinned(normal: Normal) -> float:
    return 1e-3 * normal.category_sd
