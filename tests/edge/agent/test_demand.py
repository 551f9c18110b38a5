"""The planning model: its elasticities, its derivatives, its pantry and the level of prices it calls optimal."""

from collections.abc import Callable

import numpy as np
import pytest
from support_category import COST, PRICE, juice

from edge.agent.demand import (
    Float,
    Outlook,
    basket_value,
    category_elasticity,
    expected_units,
    gross_profit,
    long_run_model,
    next_pantry,
    own_elasticity,
    pantry_gradient,
    payback,
    price_gradient,
    profit,
    respond,
    steady_outlook,
)
from edge.errors import LocalError

MODEL = juice()
NORMAL = steady_outlook(MODEL, COST)
ZERO = np.zeros(11)


def _slope(of: Callable[[Float], Float], at: Float, step: float = 1e-6) -> Float:
    """Central differences of a scalar function of (n,)."""
    return np.array([(of(at + step * row) - of(at - step * row)) / (2 * step) for row in np.eye(len(at))])


def test_elasticities_are_those_it_was_calibrated_to() -> None:
    units = expected_units(MODEL, ZERO, NORMAL)
    for item in range(11):
        moved = ZERO.copy()
        moved[item] = 1e-6
        slope = (np.log(expected_units(MODEL, moved, NORMAL)[item]) - np.log(units[item])) / 1e-6
        assert slope == pytest.approx(own_elasticity(MODEL)[item], abs=1e-4)
    level = np.log(np.sum(expected_units(MODEL, ZERO + 1e-6, NORMAL)) / np.sum(units)) / 1e-6
    assert level == pytest.approx(-2.0, abs=1e-4)
    assert category_elasticity(MODEL) == pytest.approx(-2.0)


def test_long_run_elasticity_is_what_a_steady_state_of_the_pantry_shows() -> None:
    """Hold a price until the pantry settles; to a percent, as the long-run model spreads `traffic` over all items."""
    x = ZERO.copy()
    x[3] = -1e-4
    pantry = ZERO
    for _ in range(60):
        pantry = next_pantry(MODEL, x, NORMAL, pantry)
    settled = np.log(expected_units(MODEL, x, NORMAL, pantry)[3] / expected_units(MODEL, ZERO, NORMAL)[3]) / x[3]
    assert settled == pytest.approx(own_elasticity(long_run_model(MODEL))[3], rel=1e-2)
    assert abs(settled) < abs(own_elasticity(MODEL)[3])
    assert np.all((payback(MODEL) > 0) & (payback(MODEL) < 0.6))


def test_the_reference_level_is_long_run_optimal() -> None:
    def steady_profit(level: float) -> float:
        pantry = ZERO
        for _ in range(60):
            pantry = next_pantry(MODEL, ZERO + level, NORMAL, pantry)
        return float(profit(MODEL, ZERO + level, NORMAL, pantry))

    levels = np.linspace(-0.06, 0.06, 25)
    best = levels[np.argmax([steady_profit(level) for level in levels])]
    assert abs(best) <= 0.0051
    assert 0.2 < float(MODEL.basket) < 0.6
    without = juice(basket=0.0)
    raised = profit(without, ZERO + 0.1, NORMAL) - profit(without, ZERO, NORMAL)
    assert raised > 0  # without basket value every optimiser would run to the ceiling


def test_basket_value_is_never_negative() -> None:
    assert float(basket_value(juice(category=-9.0, basket=0.0), COST * 0.5)) == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_the_derivatives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, pantry = rng.uniform(-0.15, 0.15, 11), rng.uniform(-0.5, 2.0, 11)
    week = Outlook(rng.uniform(-0.2, 0, 11), rng.uniform(0, 0.5, 11), rng.normal(0, 0.3, 11), COST)
    at = respond(MODEL, x, week, pantry)
    np.testing.assert_allclose(
        price_gradient(MODEL, at), _slope(lambda v: profit(MODEL, v, week, pantry), x), rtol=1e-5, atol=1e-4
    )
    np.testing.assert_allclose(
        pantry_gradient(MODEL, at), _slope(lambda v: profit(MODEL, x, week, v), pantry), rtol=1e-5, atol=1e-4
    )


def test_profit_is_gross_profit_and_basket_value() -> None:
    units = expected_units(MODEL, ZERO, NORMAL)
    basket = float(MODEL.basket) * np.sum(PRICE * units)
    assert profit(MODEL, ZERO, NORMAL) == pytest.approx(gross_profit(MODEL, ZERO, NORMAL) + basket)


def test_the_pantry_fills_on_deals_decays_and_costs_later_sales() -> None:
    deal = Outlook(np.full(11, -0.18), np.full(11, 0.5), ZERO, COST)
    full = next_pantry(MODEL, deal.reference, deal, ZERO)
    assert np.all(full > 0.5)
    assert np.all(expected_units(MODEL, ZERO, NORMAL, full) < expected_units(MODEL, ZERO, NORMAL))
    np.testing.assert_allclose(next_pantry(MODEL, ZERO, NORMAL, full), float(MODEL.decay) * full)


def test_batches_and_single_shops_agree() -> None:
    batch = juice(shape=(3,))
    x = np.random.default_rng(0).uniform(-0.1, 0.1, (3, 11))
    together = profit(batch, x, steady_outlook(batch, COST))
    alone = [float(profit(MODEL, row, NORMAL)) for row in x]
    np.testing.assert_allclose(together, alone)


def test_a_category_without_units_is_our_own_mistake() -> None:
    with pytest.raises(LocalError):
        juice(units=0.0)
