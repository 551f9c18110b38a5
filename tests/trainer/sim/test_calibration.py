"""The simulator's shops have the elasticities, payback and basket value that they were calibrated to."""

from dataclasses import replace

import numpy as np
import pytest

from trainer.sim import demand
from trainer.sim.calibration import ORANGE_JUICE, basket_value, price_coefficients
from trainer.sim.demand import DemandParams, DemandState
from trainer.sim.randomise import NO_CARRY_OVER, STOCKPILING, TRAINING, draw_shops
from trainer.sim.shop import ShopParams

STEP = 1e-5


def units_at(log_price: demand.Float, params: DemandParams, state: DemandState | None = None) -> demand.Float:
    quiet = np.zeros_like(params.share)
    season = np.ones_like(params.nest)
    return demand.expected_units(
        log_price, state or demand.rest(params), params, feature=quiet, shock=quiet, season=season
    )


def shops(pack_seed: int = 3, count: int = 5, exact: bool = True) -> ShopParams:
    pack = replace(STOCKPILING, elasticity_sd=0.0, share_sd=0.0) if exact else STOCKPILING
    return draw_shops(np.random.default_rng(pack_seed), pack, count)


def test_own_elasticities_are_those_of_the_table() -> None:
    params = shops().demand
    for item, fact in enumerate(ORANGE_JUICE):
        moved = np.zeros_like(params.share)
        moved[:, item] = STEP
        response = np.log(units_at(moved, params) / units_at(-moved, params))[:, item] / (2 * STEP)
        np.testing.assert_allclose(response, -fact.own_elasticity, rtol=1e-5)


def test_category_elasticity_is_the_one_asked_for() -> None:
    params = shops(exact=False).demand
    moved = np.full_like(params.share, STEP)
    total_up, total_down = units_at(moved, params).sum(-1), units_at(-moved, params).sum(-1)
    np.testing.assert_allclose(np.log(total_up / total_down) / (2 * STEP), -2.0, rtol=1e-5)


def test_units_at_reference_are_the_tables_and_inside_share_is_thirty_percent() -> None:
    params = draw_shops(np.random.default_rng(0), replace(NO_CARRY_OVER, share_sd=0.0, volume=(1.0, 1.0)), 2).demand
    np.testing.assert_allclose(units_at(np.zeros_like(params.share), params)[0], [f.weekly_units for f in ORANGE_JUICE])
    np.testing.assert_allclose(params.inside, 0.30)


def test_about_a_fifth_of_a_price_response_is_paid_back() -> None:
    params = shops(count=1).demand
    gained, lost = 0.0, 0.0
    for item in range(len(ORANGE_JUICE)):
        cut = np.zeros_like(params.share)
        cut[:, item] = -0.01
        quiet = np.zeros_like(cut)
        base = units_at(quiet, params)[0, item]
        gained += units_at(cut, params)[0, item] - base
        state = demand.next_state(cut, quiet, demand.rest(params), params)
        for _ in range(12):
            lost += base - units_at(quiet, params, state)[0, item]
            state = demand.next_state(quiet, quiet, state, params)
    assert 0.15 < lost / gained < 0.27


def test_basket_value_makes_the_reference_level_best_in_the_long_run() -> None:
    params = draw_shops(np.random.default_rng(8), replace(TRAINING, basket_error=(1.0, 1.0)), 20)
    quiet = np.zeros_like(params.price)

    def level_value(level: float) -> demand.Float:
        log_price = np.full_like(params.price, level)
        state = demand.rest(params.demand)
        for _ in range(300):  # until pantry and remembered price are at rest
            state = demand.next_state(log_price, quiet, state, params.demand)
        units = units_at(log_price, params.demand, state)
        margin = params.price * np.exp(level) - params.cost + params.basket * params.price
        return np.asarray((margin * units).sum(-1), dtype=np.float64)

    slope = (level_value(1e-4) - level_value(-1e-4)) / 2e-4 / level_value(0.0)
    # The remembered price has a kink at rest only off rest; at rest the derivative exists and must vanish.
    np.testing.assert_allclose(slope[params.basket[:, 0] > 0], 0.0, atol=1e-5)
    assert (params.basket > 0).mean() > 0.9


def test_basket_value_is_in_the_documented_range() -> None:
    static = draw_shops(np.random.default_rng(1), NO_CARRY_OVER, 50).basket
    pantry = draw_shops(np.random.default_rng(1), STOCKPILING, 50).basket
    assert 0.25 < static.mean() < 0.45
    assert static.mean() < pantry.mean() < 0.65


def test_basket_value_is_never_negative() -> None:
    params = shops(count=1)
    assert basket_value(params.price, np.zeros_like(params.cost), params.demand) == pytest.approx(0.0)


def test_one_item_has_no_category_elasticity_of_its_own() -> None:
    with pytest.raises(ValueError, match="one item"):
        price_coefficients(np.array([[2.0]]), np.array([[1.0]]), np.array([[1.5]]), 0.3)
