"""Histories simulated from known truth: negative-binomial-like sales with deals, a pantry and common weekly shocks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.records.history import CategoryHistory

Float = NDArray[np.float64]
DECAY = 0.38


@dataclass(frozen=True, slots=True)
class Truth:
    elasticity: Float  # (n,)
    carry: Float
    level: Float
    regular: Float


def simulate(
    seed: int, *, items: int = 11, weeks: int = 104, vary: bool = True, units: float | None = None
) -> tuple[CategoryHistory, Truth]:
    """Prices vary by ±10 % and by deals unless `vary` is False; `units`: weekly units of every item."""
    rng = np.random.default_rng(seed)
    elasticity, carry = rng.normal(-2.9, 0.75, items), rng.normal(0.36, 0.12, items)
    lift = rng.normal(0.6, 0.2, items)
    level = np.log(rng.uniform(30, 300, items) if units is None else np.full(items, units))
    regular = np.round(rng.uniform(1.5, 5.0, items), 2)
    shape = (weeks, items)
    deal = (rng.random(shape) < 0.12).astype(np.float64)
    feature = deal * (rng.random(shape) < 0.5)
    multiplier = rng.choice([-0.1, -0.05, 0.0, 0.05, 0.1], shape)
    reference = regular * np.exp(-0.18 * deal * vary)
    price = reference * np.exp(multiplier * vary)
    x = np.log(price / regular)
    weight = np.exp(level) * regular
    weight = weight / np.sum(weight)
    stock = np.zeros(shape)
    for week in range(1, weeks):
        stock[week] = DECAY * stock[week - 1] + x[week - 1]
    others = ((x @ weight)[:, None] - x * weight) / (1.0 - weight)
    number = np.arange(2600, 2600 + weeks)
    season = 0.1 * np.sin(2 * np.pi * number / 52.18)[:, None] + 0.2 * rng.normal(size=(weeks, 1))
    linear = level + elasticity * x + carry * stock + lift * feature + 0.1 * deal + 1.2 * others + season
    sold = rng.poisson(np.exp(linear + 0.3 * rng.normal(size=shape) - 0.045)).astype(np.float64)
    history = CategoryHistory(
        category="juice",
        skus=tuple(f"sku-{item}" for item in range(items)),
        weeks=number.astype(np.int64),
        units=sold,
        price=price,
        reference=reference,
        cost=np.broadcast_to(regular * 0.7, shape).copy(),
        deal=deal,
        feature=feature,
        observed=np.ones(shape, dtype=np.bool_),
    )
    return history, Truth(elasticity, carry, level, regular)
