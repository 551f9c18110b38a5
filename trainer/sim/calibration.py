"""From elasticities that were measured to parameters of the demand model; closed forms wherever there are any.

The default category is refrigerated orange juice: own elasticities, lagged-price coefficients, margins and volumes as
estimated from public supermarket data (Montgomery, Marketing Science 16 (1997) 315, analyses the same category).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.sim.demand import DemandParams

Float = NDArray[np.float64]

INSIDE_SHARE = 0.30  # share of potential buyers who buy the category here at reference prices
CATEGORY_ELASTICITY_STATIC = 1.75  # of the category here when nothing carries over; shoppers do leave for other shops
CATEGORY_ELASTICITY_SHORT_RUN = 2.0  # with a pantry, the same week's response is stronger than the lasting one
PANTRY_DECAY = 0.38  # lag 1 carries 62 % of the measured payback
CARRY_MIN, CARRY_MAX = 0.03, 0.30  # bounds of theta = lag coefficient / own elasticity


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What was measured about one item."""

    name: str
    own_elasticity: float  # absolute value
    lag_coefficient: float  # effect of last week's log price on this week's log units
    price: float  # currency units
    margin: float  # share of the price
    weekly_units: float


# The last item's measured elasticity (0.95) is below 1, where no price is high enough; it is lifted to 1.75.
ORANGE_JUICE: tuple[ItemFacts, ...] = (
    ItemFacts("premium-a-64", 2.72, 0.20, 2.87, 0.27, 217),
    ItemFacts("premium-a-96", 1.73, 0.59, 4.68, 0.27, 78),
    ItemFacts("premium-b-64", 3.37, 0.56, 2.86, 0.32, 51),
    ItemFacts("national-a-64", 3.77, 0.71, 2.27, 0.29, 263),
    ItemFacts("national-b-64", 2.89, 0.10, 2.24, 0.24, 285),
    ItemFacts("national-b-96", 2.38, 0.27, 4.03, 0.26, 47),
    ItemFacts("national-c-64", 3.56, 0.35, 2.32, 0.24, 86),
    ItemFacts("regional-a-64", 2.76, 0.12, 2.18, 0.31, 42),
    ItemFacts("regional-b-64", 4.01, 0.24, 2.07, 0.28, 53),
    ItemFacts("own-label-64", 2.79, 0.50, 1.74, 0.30, 310),
    ItemFacts("own-label-128", 1.75, 0.38, 3.67, 0.28, 63),
)


def calibrated_carry(facts: tuple[ItemFacts, ...]) -> Float:
    """theta of each item, (n,): lag coefficient over own elasticity, bounded."""
    ratio = np.array([fact.lag_coefficient / fact.own_elasticity for fact in facts])
    return np.asarray(np.clip(ratio, CARRY_MIN, CARRY_MAX), dtype=np.float64)


def price_coefficients(own: Float, share: Float, category: Float, inside: float) -> tuple[Float, Float]:
    """(sensitivity kb (S, n), nest lam (S, 1)) that give these same-week elasticities at reference prices.

    In the nested logit ∂ln q_i/∂x_i = −kb_i [1 − s_i (1 − lam (1 − inside))] and a common price move gives
    −lam (1 − inside) Σ s_i kb_i. Both are solved together by fixed-point iteration, which contracts because
    s_i < 1. `own` (S, n) and `category` (S, 1) are absolute values, the second below the mean of the first. One item
    alone has one elasticity, not two, so at least two are needed.
    """
    if own.shape[-1] < 2:
        raise ValueError("a category of one item has no elasticity of its own beside the item's")
    outside = 1.0 - inside
    nest = np.full_like(category, 0.5 / outside)
    sensitivity = own
    for _ in range(200):
        sensitivity = own / (1.0 - share * (1.0 - nest * outside))
        nest = category / (outside * (share * sensitivity).sum(-1, keepdims=True))
    return sensitivity, nest


def level_elasticities(demand: DemandParams) -> Float:
    """Long-run elasticity of each item's units to the price LEVEL of the whole category, (S, n); negative.

    At rest H = (e^u − 1) / (1 − rho) and the remembered price equals the price, so reference effects vanish.
    """
    lasting = 1.0 / (1.0 - demand.pantry_decay)
    attraction = -demand.sensitivity * (1.0 - demand.carry * lasting)
    pantry = -demand.sensitivity * lasting
    odds = demand.nest * (demand.share * attraction).sum(-1, keepdims=True)
    odds = odds - demand.category_carry * (demand.share * demand.carry * pantry).sum(-1, keepdims=True)
    mean = (demand.share * attraction).sum(-1, keepdims=True)
    return np.asarray((1.0 - demand.inside) * odds + attraction - mean, dtype=np.float64)


def basket_value(price: Float, cost: Float, demand: DemandParams) -> Float:
    """B (S, 1) from the first-order condition that the reference price level is best in the long run.

    d/dL Σ (p e^L − c + B p) q(L) = 0 at L = 0, in closed form through `level_elasticities`. Never below 0.
    """
    elasticity = level_elasticities(demand)
    units = demand.share  # proportional to units at reference prices
    revenue = (price * units).sum(-1, keepdims=True)
    margin_response = ((price - cost) * units * elasticity).sum(-1, keepdims=True)
    price_response = (price * units * elasticity).sum(-1, keepdims=True)
    return np.asarray(np.maximum(-(revenue + margin_response) / price_response, 0.0), dtype=np.float64)
