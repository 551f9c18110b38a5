"""The training environment: the guard is inside, the twin is a fair baseline, the seed decides everything."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edge.agent import demand
from trainer import belief
from trainer.belief import KNOWS_ALL, REALISTIC
from trainer.env import EnvironmentConfig, PricingEnvironment
from trainer.sac import View
from trainer.sim.randomise import STOCKPILING, TRAINING, draw_shops

SMALL = EnvironmentConfig(pack=STOCKPILING, shops=6, weeks=8)


def demonstrated(environment: PricingEnvironment, view: View) -> np.ndarray:
    return environment.demonstrate(torch.from_numpy(view.context)).numpy()


def test_doing_what_the_twin_does_earns_what_the_twin_earns() -> None:
    environment = PricingEnvironment(SMALL, 0)
    view = environment.reset()
    for _ in range(6):
        transition = environment.step(demonstrated(environment, view))
        # A cent of rounding on either side is all that can differ.
        assert np.abs(transition.reward).max() < 0.15
        view = transition.start


def test_a_foolish_action_costs() -> None:
    environment = PricingEnvironment(SMALL, 0)
    environment.reset()
    rng = np.random.default_rng(0)
    rewards = [environment.step(rng.uniform(-1, 1, (6, 11)).astype(np.float32)).reward.mean() for _ in range(6)]
    assert np.mean(rewards) < -0.5


def test_same_seed_same_weeks_another_seed_others() -> None:
    def observations(seed: int) -> np.ndarray:
        environment = PricingEnvironment(SMALL, seed)
        seen = [environment.reset().observation]
        for _ in range(9):  # across the end of an episode
            seen.append(environment.step(np.zeros((6, 11), np.float32)).start.observation)
        return np.concatenate(seen)

    np.testing.assert_array_equal(observations(1), observations(1))
    assert not np.array_equal(observations(1), observations(2))


def test_an_episode_is_cut_not_ended_and_fresh_shops_follow() -> None:
    environment = PricingEnvironment(SMALL, 0)
    environment.reset()
    steps = [environment.step(np.zeros((6, 11), np.float32)) for _ in range(8)]
    assert [step.truncated for step in steps] == [False] * 7 + [True]
    assert not any(step.terminated for step in steps)
    assert not np.array_equal(steps[-1].after.observation, steps[-1].start.observation)


def test_the_learners_stand_in_of_the_guard_is_close_to_the_guard() -> None:
    environment = PricingEnvironment(replace(SMALL, pack=TRAINING, shops=32), 3)
    view = environment.reset()
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(6):
        action = rng.uniform(-0.5, 0.5, (32, 11)).astype(np.float32)
        expected = environment.execute(torch.from_numpy(action), torch.from_numpy(view.context)).numpy()
        transition = environment.step(action)
        gaps.append(np.abs(transition.executed - expected) * environment.config.residual)
        view = transition.start
    assert np.mean(gaps) < 0.01  # log; the category's shift to the cap is shared a little differently


def test_prices_stay_inside_the_guard_whatever_is_asked() -> None:
    environment = PricingEnvironment(SMALL, 5)
    view = environment.reset()
    for extreme in (1.0, -1.0, 1.0):
        transition = environment.step(np.full((6, 11), extreme, np.float32))
        low, high, weight, cap, suggestion = np.moveaxis(view.context[..., :5], -1, 0)
        executed = suggestion + environment.config.residual * transition.executed
        assert (executed >= low - 1e-6).all()
        assert (executed <= high + 1e-6).all()
        assert ((weight * executed).sum(-1) <= cap[:, 0] + 1e-6).all()
        view = transition.start


def test_beliefs_are_the_truth_or_wrong_by_what_they_admit() -> None:
    params = draw_shops(np.random.default_rng(0), STOCKPILING, 200)
    truth = belief.true_model(params)
    exact = belief.believed_model(np.random.default_rng(1), params, KNOWS_ALL)
    np.testing.assert_array_equal(exact.kappa, truth.kappa)
    estimate = belief.believed_model(np.random.default_rng(1), params, replace(REALISTIC, low=1.0, high=1.0))
    error = demand.own_elasticity(estimate) - demand.own_elasticity(truth)
    assert error.std() == pytest.approx(REALISTIC.elasticity_sd, rel=0.15)
    np.testing.assert_allclose(estimate.elasticity_sd, REALISTIC.elasticity_sd)


def test_the_boxes_basket_value_is_the_simulators() -> None:
    """Two codes, one first-order condition: the box derives it from elasticities, the simulator from its own."""
    params = draw_shops(np.random.default_rng(0), STOCKPILING, 50)
    boxes = demand.basket_value(belief.true_model(params), params.cost)
    np.testing.assert_allclose(boxes, params.basket[:, 0], rtol=1e-6)
