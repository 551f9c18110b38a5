"""A shop's week is a pure step; a twin lives through the same weeks; market processes have their documented spread."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from trainer.sim import market, shop
from trainer.sim.randomise import NO_CARRY_OVER, STOCKPILING, TRAINING, Pack, draw_shops
from trainer.sim.sales import draw_units


def run(pack: Pack, seed: int, *, level: float = 0.0, weeks: int = 20, shops: int = 4) -> list[shop.Outcome]:
    rng = np.random.default_rng(seed)
    params = draw_shops(rng, pack, shops)
    state = shop.reset(rng, params)
    outcomes = []
    for _ in range(weeks):
        reference = market.offer(state.market, params.market).log_reference
        state, outcome = shop.step(rng, state, reference + level, params)
        outcomes.append(outcome)
    return outcomes


def same(left: object, right: object) -> bool:
    if is_dataclass(left):
        return all(same(getattr(left, f.name), getattr(right, f.name)) for f in fields(left))
    return bool(np.array_equal(np.asarray(left), np.asarray(right)))


def test_same_seed_same_weeks() -> None:
    assert all(same(a, b) for a, b in zip(run(TRAINING, 5), run(TRAINING, 5), strict=True))
    assert not same(run(TRAINING, 5)[0].units, run(TRAINING, 6)[0].units)


def test_step_leaves_its_arguments_alone() -> None:
    rng = np.random.default_rng(0)
    params = draw_shops(rng, STOCKPILING, 3)
    state = shop.reset(rng, params)
    before = state.demand.pantry.copy()
    shop.step(rng, state, np.full_like(params.price, -0.1), params)
    np.testing.assert_array_equal(state.demand.pantry, before)
    assert state.market.week == 0


def test_prices_do_not_move_the_market() -> None:
    """What makes a twin shop a fair baseline: cost, reference, promotions and shocks are the same under any prices."""
    for dear, cheap in zip(run(TRAINING, 9, level=0.1), run(TRAINING, 9, level=-0.1), strict=True):
        assert same(dear.offer, cheap.offer)


def test_without_carry_over_a_cut_leaves_no_trace() -> None:
    rng = np.random.default_rng(2)
    params = draw_shops(rng, NO_CARRY_OVER, 3)
    start = shop.reset(rng, params)
    shocks = [market.draw_shocks(rng, params.market, params.items) for _ in range(2)]
    zero = np.zeros_like(params.price)

    def second_week(first_price: shop.Float) -> shop.Float:
        state, _ = shop.respond(start, shocks[0], first_price, params)
        return shop.respond(state, shocks[1], zero, params)[1].units

    np.testing.assert_allclose(second_week(zero - 0.1), second_week(zero))
    pantry = replace(params, demand=replace(params.demand, carry=np.full_like(params.price, 0.2)))
    state, _ = shop.respond(start, shocks[0], zero - 0.1, pantry)
    assert (shop.respond(state, shocks[1], zero, pantry)[1].units < second_week(zero)).all()


def test_demand_shocks_have_the_spread_and_the_common_part_they_claim() -> None:
    rng = np.random.default_rng(4)
    params = draw_shops(rng, NO_CARRY_OVER, 4000).market
    shocks = market.draw_shocks(rng, params, 11)
    assert shocks.fast.std() == pytest.approx(1.0, abs=0.02)
    correlation = np.corrcoef(shocks.fast[:, 0], shocks.fast[:, 1])[0, 1]
    assert correlation == pytest.approx(0.40, abs=0.04)
    state = market.start(rng, params, 11)
    for _ in range(5):
        state = market.advance(state, market.draw_shocks(rng, params, 11), params)
    assert state.slow_shock.std() == pytest.approx(0.20, abs=0.01)  # stays at its stationary spread


def test_promotions_follow_their_calendar_and_are_known_two_weeks_ahead() -> None:
    outcomes = run(STOCKPILING, 1, weeks=24)
    deal = np.stack([outcome.offer.deal[0] for outcome in outcomes])
    assert (deal[:8].sum(0) == 1).all()
    np.testing.assert_array_equal(deal[8:16], deal[:8])
    np.testing.assert_array_equal(outcomes[3].offer.deal[2], deal[5])
    promoted = outcomes[0].offer.deal[0] == 1
    gap = outcomes[0].offer.log_reference - outcomes[0].offer.log_regular
    np.testing.assert_allclose(gap[promoted], np.log(0.82))
    np.testing.assert_allclose(gap[~promoted], 0.0)


def test_references_are_reapproved_once_a_quarter_with_part_of_the_cost_change() -> None:
    outcomes = run(NO_CARRY_OVER, 2, weeks=27)
    regular = np.stack([outcome.offer.log_regular for outcome in outcomes])
    cost = np.stack([outcome.offer.log_cost for outcome in outcomes])
    changed = np.flatnonzero(np.any(np.diff(regular, axis=0) != 0, axis=(1, 2))) + 1
    np.testing.assert_array_equal(changed, [13, 26])
    np.testing.assert_allclose(regular[13], 0.6 * cost[13])


def test_value_is_profit_plus_basket_less_labels() -> None:
    rng = np.random.default_rng(3)
    params = replace(draw_shops(rng, NO_CARRY_OVER, 1), menu_cost=np.array([[2.0]]))
    price = np.zeros_like(params.price)
    price[0, :3] = 0.05
    _, outcome = shop.step(rng, shop.reset(rng, params), price, params)
    assert outcome.changes[0] == 3
    expected = ((params.price * np.exp(price) - params.cost + params.basket * params.price) * outcome.units).sum() - 6.0
    assert outcome.value[0] == pytest.approx(expected)


def test_integer_sales_have_the_mean_and_variance_they_claim() -> None:
    rng = np.random.default_rng(0)
    expected = np.full(40_000, 6.0)
    poisson, spread = draw_units(rng, expected), draw_units(rng, expected, 0.5)
    assert poisson.mean() == pytest.approx(6.0, abs=0.1)
    assert poisson.var() == pytest.approx(6.0, abs=0.3)
    assert spread.mean() == pytest.approx(6.0, abs=0.2)
    assert spread.var() == pytest.approx(6.0 + 0.5 * 36.0, rel=0.1)
    with pytest.raises(ValueError, match="negative"):
        draw_units(rng, expected, -1.0)
