"""The simulated study: the same weeks for every arm, no arm above full information on average, knowledge pays."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from trainer import belief
from trainer.sim import market, shop
from trainer.sim.randomise import NO_CARRY_OVER, draw_shops
from trainer.worth import simulated
from trainer.worth.simulated import ALONE, CASES, HOLD, TRUTH, SimulatedConfig

SMALL = SimulatedConfig(
    seeds=3,
    shops=2,
    weeks=9,
    peers=(1, 5),
    owners=(5,),
    epsilons=(0.5,),
    taken_apart=(5, 0.5),
    independent=(5,),
    context=5,
)


@pytest.fixture(scope="module")
def result() -> simulated.Result:
    return simulated.run(CASES["known"], SMALL)


def test_every_arm_has_every_seed_and_week(result: simulated.Result) -> None:
    assert list(result.value)[:3] == [TRUTH, HOLD, ALONE]
    assert {"1 peer", "5 peers", "5 peers, demand shocks known", "5 peers of no chain"} <= set(result.value)
    assert list(result.value) == list(result.gross_profit)
    for table in (result.value, result.gross_profit):
        for losses in table.values():
            assert losses.shape == (3, 9)
            assert np.isfinite(losses).all()
    assert result.converged > 0.99


def test_who_knows_everything_loses_nothing(result: simulated.Result) -> None:
    assert np.all(result.value[TRUTH] == 0.0)
    assert all(result.loss(name, 9).mean() > 0.0 for name in result.value if name != TRUTH)


def test_what_noise_has_drowned_is_no_peer(result: simulated.Result) -> None:
    np.testing.assert_array_equal(result.value["5 owners, ε 0.5, vector"], result.value[ALONE])


def test_peers_save_profit(result: simulated.Result) -> None:
    assert result.loss("5 peers of no chain", 9).mean() < 0.7 * result.loss(ALONE, 9).mean()


def test_the_same_seeds_give_the_same_figures(result: simulated.Result) -> None:
    again = simulated.run(CASES["known"], replace(SMALL, seeds=1))
    for name, losses in again.value.items():
        np.testing.assert_array_equal(losses[0], result.value[name][0])


def test_a_longer_study_begins_as_the_shorter_one(result: simulated.Result) -> None:
    """No arm and no week looks ahead."""
    longer = simulated.run(CASES["known"], replace(SMALL, seeds=1, weeks=11))
    for name, losses in longer.value.items():
        np.testing.assert_array_equal(losses[0, :9], result.value[name][0])


@pytest.mark.parametrize("name", ["no-memory", "pantry"])
def test_the_other_cases_run(name: str) -> None:
    found = simulated.run(CASES[name], replace(SMALL, seeds=1, weeks=2, independent=()))
    assert np.isfinite(np.stack(list(found.value.values()))).all()
    assert CASES["pantry"].pack.deal_probability == 1.0


def test_a_known_demand_shock_is_only_told_to_who_asked(result: simulated.Result) -> None:
    told, plain = result.value["5 peers, demand shocks known"], result.value["5 peers"]
    assert np.any(told != plain)
    assert np.abs(told - plain).mean() < np.abs(result.value[ALONE] - plain).mean()


def test_tiling_copies_every_array_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    params = draw_shops(rng, NO_CARRY_OVER, 2)
    state = shop.reset(rng, params)
    tiled = simulated._tiled(params, 3)

    def check(one: object, many: object) -> None:
        for part in fields(one):  # type: ignore[arg-type]
            before, after = getattr(one, part.name), getattr(many, part.name)
            if is_dataclass(before):
                check(before, after)
            elif isinstance(before, np.ndarray):
                np.testing.assert_array_equal(after, np.concatenate([before] * 3))
            else:
                assert before == after

    check(params, tiled)
    check(state, simulated._tiled(state, 3))
    check(draws := market.draw_shocks(rng, params.market, params.items), simulated._tiled(draws, 3))
    np.testing.assert_allclose(belief.true_model(tiled).kappa[2:4], belief.true_model(params).kappa)


def test_peers_of_a_chain_share_an_error_that_no_number_averages_out() -> None:
    off = {"": [], " of no chain": []}  # type: dict[str, list[float]]
    for seed in range(6):
        told = simulated._told(np.random.default_rng(seed), NO_CARRY_OVER, 400)
        own = np.maximum([fact.own_elasticity for fact in NO_CARRY_OVER.facts], 1.2)
        for kind, evidence in told.items():
            off[kind].extend(evidence.elasticity.mean(0) + own)
    chain, apart = (float(np.std(values)) for values in off.values())
    assert chain == pytest.approx(simulated.CHAIN_SD[1], rel=0.35)
    assert apart == pytest.approx(simulated.INDEPENDENT_SD[1], rel=0.35)
