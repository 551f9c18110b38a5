"""Shops of one network for tests: the same items everywhere, elasticities that differ a little from shop to shop."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from support_history import Truth, simulate

from edge.memory.combine import TERM_RULES, Pooled, Values, combine
from edge.records.history import CategoryHistory
from edge.records.shared import TERMS, Coefficient, ModelInsight

Float = NDArray[np.float64]
ITEMS = 6
LAST_WEEK = 2600 + 103  # of a history of 104 weeks


def network(seed: int, shops: int, *, between: float = 0.3, weeks: int = 104) -> list[tuple[CategoryHistory, Truth]]:
    """Shops whose own elasticities lie `between` around one mean an item; units are drawn anew for it."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(-2.9, 0.75, ITEMS)
    found = []
    for shop in range(shops):
        history, truth = simulate(1000 * seed + shop, items=ITEMS, weeks=weeks)
        wanted = centre + between * rng.standard_normal(ITEMS)
        x = np.log(history.price / truth.regular)
        lift = np.exp((wanted - truth.elasticity) * x)
        found.append((replace(history, units=rng.poisson(history.units * lift).astype(np.float64)), truth))
        found[-1] = (found[-1][0], replace(truth, elasticity=wanted))
    return found


def pool(insights: Sequence[ModelInsight], *, week: int = LAST_WEEK) -> Mapping[str, Mapping[str, Pooled]]:
    """What the insights of shops of one owner say together, by SKU and coefficient."""
    skus = sorted({row.sku for insight in insights for row in insight.rows})
    found: dict[str, dict[str, Pooled]] = {}
    for sku in skus:
        for term in TERMS:
            said = [
                (known, insight.week)
                for insight in insights
                for row in insight.rows
                if row.sku == sku
                for name, known in row.coefficients
                if name == term
            ]
            if said:
                found.setdefault(sku, {})[term] = combine(_values(said), TERM_RULES[term], week=week)
    return found


def _values(said: Sequence[tuple[Coefficient, int]]) -> Values:
    one = np.ones(len(said), dtype=np.int64)
    return Values(
        mean=np.array([known.mean for known, _ in said]),
        error=np.array([known.error for known, _ in said]),
        deviation=np.zeros(len(said)),
        owner=np.zeros(len(said), dtype=np.int64),
        week=np.array([week for _, week in said], dtype=np.int64),
        shops=one,
        owners=one,
    )
