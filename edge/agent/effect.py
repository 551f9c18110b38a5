"""What the published prices earned against the owner's reference prices, estimated from the shop's own sales.

For each past week the demand model says by how much an item's units at the paid price differ from its units at the
reference price, pantries that either history of prices filled included; the ratio, applied to the units really sold,
gives the week that did not happen. Uncertainty is that of the elasticities and of the carry-over, drawn from their
posterior, and of the category's elasticity, which a shop's own sales hardly tell; the interval is that of the draws.
It is an estimate with a model, not a measurement: the switchback (`experiment`) measures.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.agent.demand import DemandModel, Outlook, calibrate, expected_units, next_pantry
from edge.agent.estimate import CARRY, DEAL, FEATURE, LEVEL, PRICE, DemandPosterior
from edge.agent.situation import PlanRules
from edge.records.history import CategoryHistory

Float = NDArray[np.float64]
DRAWS: Final = 64
_ELASTICITY: Final = (-8.0, -0.3)
_CATEGORY_SD: Final = 0.4  # of the category's elasticity around the plan's
_RATIO_MAX: Final = 4.0  # units at one price over units at the other; beyond, a draw of the elasticity is absurd


@dataclass(frozen=True, slots=True)
class PriceEffect:
    """Against the owner's reference prices, over the weeks of a history, currency units; intervals are 95 %."""

    weeks: int  # with prices that differed from the references
    gross_profit: float
    gross_profit_low: float
    gross_profit_high: float
    value: float  # gross profit and what buyers bring in besides (basket value)
    value_low: float
    value_high: float


def against_reference(
    posterior: DemandPosterior, history: CategoryHistory, plan: PlanRules, rng: np.random.Generator, draws: int = DRAWS
) -> PriceEffect:
    """The estimate for `history`, whose columns are the posterior's items in their order. Unobserved cells count 0."""
    known = (
        history.observed
        & np.isfinite(history.price)
        & np.isfinite(history.reference)
        & np.isfinite(history.cost)
        & (history.price > 0)
        & (history.reference > 0)
    )
    price = np.where(known, history.price, posterior.regular)
    reference = np.where(known, history.reference, posterior.regular)
    cost = np.where(known, history.cost, 0.0)
    units = np.where(known, history.units, 0.0)
    model = _drawn(posterior, np.where(known, history.cost, np.nan), plan, rng, draws)
    lift = posterior.mean[:, FEATURE] * history.feature + posterior.mean[:, DEAL] * history.deal
    paid, own = np.zeros((draws, len(posterior.skus))), np.zeros((draws, len(posterior.skus)))  # pantries
    profit, value = np.zeros(draws), np.zeros(draws)
    for row in range(len(history.weeks)):
        zero = np.zeros_like(posterior.regular)
        outlook = Outlook(zero, np.where(np.isfinite(lift[row]), lift[row], 0.0), zero, cost[row])
        at, instead = np.log(price[row] / posterior.regular), np.log(reference[row] / posterior.regular)
        sold = np.maximum(expected_units(model, at, outlook, paid), 1e-9)
        unsold = expected_units(model, instead, outlook, own)
        ratio = np.clip(unsold / sold, 1.0 / _RATIO_MAX, _RATIO_MAX)
        gain = (price[row] - cost[row]) * units[row] - (reference[row] - cost[row]) * units[row] * ratio
        profit += np.sum(gain, axis=-1)
        brought = model.basket[..., None] * model.price * units[row] * (1.0 - ratio)
        value += np.sum(gain + brought, axis=-1)
        paid, own = next_pantry(model, at, outlook, paid), next_pantry(model, instead, outlook, own)
    low, high = np.quantile(profit, [0.025, 0.975])
    value_low, value_high = np.quantile(value, [0.025, 0.975])
    return PriceEffect(
        weeks=int(np.count_nonzero(np.any(known & (np.abs(np.log(price / reference)) > 1e-3), axis=1))),
        gross_profit=float(np.mean(profit)),
        gross_profit_low=float(low),
        gross_profit_high=float(high),
        value=float(np.mean(value)),
        value_low=float(value_low),
        value_high=float(value_high),
    )


def _drawn(
    posterior: DemandPosterior, cost: Float, plan: PlanRules, rng: np.random.Generator, draws: int
) -> DemandModel:
    """`draws` planning models, (draws, n), with elasticity and carry-over from the posterior."""
    count = len(posterior.skus)
    noise = rng.standard_normal((2, draws, count))
    own = np.clip(posterior.mean[:, PRICE] + posterior.sd(PRICE) * noise[0], *_ELASTICITY)
    carry = np.clip(posterior.mean[:, CARRY] + posterior.sd(CARRY) * noise[1], 0.0, 1.5)
    category = np.minimum(plan.category_elasticity + _CATEGORY_SD * rng.standard_normal(draws), -0.5)
    seen = np.isfinite(cost)
    newest = np.where(seen.any(axis=0), cost[::-1][np.argmax(seen[::-1], axis=0), np.arange(count)], posterior.regular)

    def each(values: Float) -> Float:
        return np.broadcast_to(values, (draws, count))

    return calibrate(
        price=each(posterior.regular),
        cost=each(newest),
        units=each(np.exp(np.clip(posterior.mean[:, LEVEL], -7.0, 20.0))),
        elasticity=own,
        theta=carry / np.abs(own),
        decay=np.full(draws, posterior.decay),
        category_elasticity=category,
        inside=np.full(draws, plan.inside),
        traffic=np.full(draws, plan.traffic),
    )
