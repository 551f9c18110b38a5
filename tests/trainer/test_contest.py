"""Simulated contests: what theory says must come out, comes out; the planner that knows the truth is not beaten."""

from collections.abc import Callable

import numpy as np
import pytest

from trainer import evaluate, policies
from trainer.contest import PLANNER, ContestConfig, Score, run
from trainer.sim.randomise import NO_CARRY_OVER, STOCKPILING

CONFIG = ContestConfig(seeds=2, shops=3, weeks=20, first_seed=77)


def makers(*names: str) -> dict[str, Callable[[], policies.Policy]]:
    return {name: make for name, make in policies.lineup(None, 0).items() if name in names}


@pytest.fixture(scope="module")
def stockpiling() -> dict[str, Score]:
    return run(STOCKPILING, makers("hold", "short-run plug-in", "long-run plug-in", "look-ahead"), CONFIG)


def test_hold_gains_nothing_and_the_plug_ins_gain(stockpiling: dict[str, Score]) -> None:
    np.testing.assert_array_equal(stockpiling["hold"].gain, 0.0)
    assert stockpiling["long-run plug-in"].gain.mean() > 3.0


def test_stockpiling_rewards_the_long_run_and_then_looking_ahead(stockpiling: dict[str, Score]) -> None:
    order = [stockpiling[name].gain.mean() for name in ("short-run plug-in", "long-run plug-in", "look-ahead")]
    assert order[0] + 1.0 < order[1] < order[2]


def test_nobody_beats_the_planner_that_knows_the_truth(stockpiling: dict[str, Score]) -> None:
    assert stockpiling[PLANNER].gain.mean() > stockpiling["long-run plug-in"].gain.mean()
    assert evaluate.contest_json("stockpiling", CONFIG, stockpiling)["above_planner"] == []


def test_without_carry_over_there_is_nothing_to_plan_for() -> None:
    config = ContestConfig(seeds=1, shops=3, weeks=12, first_seed=5)
    scores = run(NO_CARRY_OVER, makers("short-run plug-in", "long-run plug-in", "look-ahead"), config)
    base = scores["short-run plug-in"].gain
    for name in ("long-run plug-in", "look-ahead", PLANNER):
        np.testing.assert_allclose(scores[name].gain, base, atol=0.05)


def test_same_seed_same_scores() -> None:
    first, second = (
        run(STOCKPILING, makers("look-ahead"), ContestConfig(seeds=1, shops=2, weeks=6), planner=False)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first["look-ahead"].gain, second["look-ahead"].gain)


def test_a_policy_above_the_planner_is_reported(stockpiling: dict[str, Score]) -> None:
    leak = dict(stockpiling)
    leak["leaky"] = Score(leak[PLANNER].gain + 2.0, leak[PLANNER].gain, 0.0, 0.0)
    leak["long-run plug-in"] = stockpiling["long-run plug-in"]
    answer = evaluate.contest_json("stockpiling", CONFIG, leak)
    assert answer["above_planner"] == ["leaky"]
    assert "leaky" in evaluate.contest_table(answer).splitlines()[-1]
