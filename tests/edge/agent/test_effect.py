"""The estimated effect against reference prices: zero at the references, right in sign, size and doubt."""

from dataclasses import replace

import numpy as np
import pytest

from edge.agent.effect import against_reference
from edge.agent.estimate import DemandPrior, estimate
from edge.agent.situation import PlanRules
from edge.records.history import CategoryHistory

PLAN = PlanRules()


def history(multiplier: float, *, weeks: int = 80, seed: int = 3, elasticity: float = -3.0) -> CategoryHistory:
    """Four items with real price variation for a year; then prices `multiplier` over the reference."""
    rng = np.random.default_rng(seed)
    n = 4
    regular = np.array([2.0, 3.0, 2.5, 4.0])
    x = rng.choice([0.0, -0.15, 0.1], (weeks, n), p=[0.6, 0.2, 0.2])
    reference = regular * np.exp(x)
    price = reference.copy()
    price[-20:] = reference[-20:] * np.exp(multiplier)
    paid = np.log(price / regular)
    others = (paid.sum(axis=1, keepdims=True) - paid) / (n - 1)
    units = rng.poisson(120.0 * np.exp(elasticity * paid + 1.0 * others + 0.1 * rng.standard_normal((weeks, n))))
    blank = np.zeros((weeks, n))
    return CategoryHistory(
        category="juice",
        skus=tuple("abcd"),
        weeks=np.arange(weeks),
        units=units.astype(np.float64),
        price=price,
        reference=reference,
        cost=np.broadcast_to(0.7 * regular, (weeks, n)).copy(),
        deal=blank,
        feature=blank,
        observed=np.ones((weeks, n), np.bool_),
    )


def effect_of(past: CategoryHistory) -> tuple[float, float, float, int]:
    posterior = estimate(past, DemandPrior())
    found = against_reference(posterior, past, PLAN, np.random.default_rng(0))
    return found.gross_profit, found.gross_profit_low, found.gross_profit_high, found.weeks


def test_reference_prices_have_no_effect_and_no_doubt() -> None:
    mean, low, high, weeks = effect_of(history(0.0))
    assert (mean, low, high) == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    assert weeks == 0


def test_a_cut_below_a_thin_margin_loses_and_the_interval_holds_the_truth() -> None:
    cut = history(-0.10)
    mean, low, high, weeks = effect_of(cut)
    assert weeks == 20
    assert low < mean < high
    # The truth under the generating model: what the same weeks would have brought at the reference, all items moving.
    before = cut.units[-20:] * np.exp(-(-3.0 + 1.0) * -0.10)
    truth = float(
        np.sum((cut.price[-20:] - cut.cost[-20:]) * cut.units[-20:])
        - np.sum((cut.reference[-20:] - cut.cost[-20:]) * before)
    )
    assert truth < 0
    assert mean < 0
    assert low <= truth <= high


def test_a_cell_that_says_nothing_changes_nothing() -> None:
    past = history(0.05)
    posterior = estimate(past, DemandPrior())
    blind = past.observed.copy()
    blind[-20:] = False
    rng = np.random.default_rng(0)
    assert against_reference(posterior, replace(past, observed=blind), PLAN, rng).gross_profit == pytest.approx(0.0)


def test_the_same_generator_gives_the_same_answer() -> None:
    past = history(0.05)
    posterior = estimate(past, DemandPrior())
    first = against_reference(posterior, past, PLAN, np.random.default_rng(5))
    assert first == against_reference(posterior, past, PLAN, np.random.default_rng(5))
