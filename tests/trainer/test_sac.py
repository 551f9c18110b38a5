"""SAC against problems whose answer is known in closed form, and its own promises: same seed, same policy."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.sac import Actor, Array, Replay, SACConfig, Transition, View, train

QUICK = SACConfig(
    gamma=0.0,
    actor_hidden=32,
    critic_hidden=32,
    actor_lr=3e-3,
    critic_lr=6e-3,
    lr_end=0.02,
    target_entropy=-2.0,
    temperature_start=0.1,
    warmup_steps=4,
    warmup_scale=1.0,
    actor_delay_steps=0,
    anchor=0.0,
    log_sd_start=-1.0,
    updates_per_step=6,
    steps=200,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(slots=True)
class OneStep:
    """A bandit: a context is drawn, an action pays `reward(context, action)`, nothing follows."""

    reward: Callable[[Array, Array], Array]
    shops: int = 128
    items: int = 1
    features: int = 1
    seed: int = 0
    _rng: np.random.Generator = None  # type: ignore[assignment]
    _view: View = None  # type: ignore[assignment]

    def reset(self) -> View:
        self._rng = np.random.default_rng(self.seed)
        return self._draw()

    def _draw(self) -> View:
        shape = (self.shops, self.items)
        observation = self._rng.uniform(-1, 1, (*shape, self.features)).astype(np.float32)
        self._view = View(observation, np.zeros((*shape, 0), np.float32))
        return self._view

    def step(self, action: Array) -> Transition:
        before = self._view
        reward = self.reward(before.observation, action).astype(np.float32)
        after = self._draw()
        return Transition(after, reward, action, terminated=True, truncated=False, start=after)

    def execute(self, action: Tensor, context: Tensor) -> Tensor:
        return action

    def weights(self, context: Tensor) -> Tensor:
        return torch.full((1, 1), 1.0 / context.shape[1])

    def demonstrate(self, context: Tensor) -> Tensor | None:
        return None


def learn(environment: OneStep, config: SACConfig, seed: int = 0) -> Actor:
    *_, (_, actor) = train(environment, config, seed)
    return actor


def greedy(actor: Actor, observation: Array) -> Array:
    with torch.no_grad():
        return np.asarray(actor(torch.from_numpy(np.ascontiguousarray(observation))).numpy())


def test_one_step_quadratic_optimum_within_one_percent_of_range() -> None:
    """Reward −10 (a − 0.6 x)²: the best action is known for every context x."""
    actor = learn(OneStep(lambda x, a: -10.0 * np.square(a - 0.6 * x[..., 0]).sum(-1)), QUICK)
    x = np.linspace(-0.9, 0.9, 37, dtype=np.float32).reshape(-1, 1, 1)
    error = np.abs(greedy(actor, x)[:, 0] - 0.6 * x[:, 0, 0])
    assert error.mean() < 0.01 * 2.0


def test_constant_elasticity_monopolist_charges_one_and_a_half_times_cost() -> None:
    """Units p^−3 at cost 1: the best price is e/(e+1) = 1.5 (Lerner). Actions are log prices over [1.05, 2.2]."""
    low, high = np.log(1.05), np.log(2.2)

    def price(action: Array) -> Array:
        return np.asarray(np.exp(low + (high - low) * 0.5 * (action + 1.0)), dtype=np.float32)

    def profit(_: Array, action: Array) -> Array:
        return np.asarray(((price(action) - 1.0) * price(action) ** -3.0).sum(-1) * 60.0, dtype=np.float32)

    actor = learn(OneStep(profit), QUICK)
    asked = price(greedy(actor, np.zeros((1, 1, 1), np.float32)))[0, 0]
    assert asked == pytest.approx(1.5, rel=0.02)


def test_items_share_one_actor_and_their_order_does_not_matter() -> None:
    actor = learn(
        OneStep(lambda x, a: -10.0 * np.square(a - 0.6 * x[..., 0]).mean(-1), items=3, features=2),
        replace(QUICK, steps=60),
    )
    x = np.random.default_rng(0).uniform(-1, 1, (5, 3, 2)).astype(np.float32)
    np.testing.assert_allclose(greedy(actor, x[:, ::-1]), greedy(actor, x)[:, ::-1], atol=1e-6)
    assert np.abs(greedy(actor, x) - 0.6 * x[..., 0]).mean() < 0.1


@dataclass(slots=True)
class Payback:
    """Two weeks: what is taken in the first (a) is paid back 1.5-fold in the second unless the discount hides it.

    Reward 0 + a in week one, −1.5 a in week two. A bandit takes all it can (a → 1); who looks ahead takes nothing.
    """

    shops: int = 64
    _phase: int = 0
    _taken: Array = None  # type: ignore[assignment]

    def _view(self) -> View:
        observation = np.zeros((self.shops, 1, 2), np.float32)
        observation[..., 0] = self._phase
        observation[:, 0, 1] = self._taken * self._phase
        return View(observation, np.zeros((self.shops, 1, 0), np.float32))

    def reset(self) -> View:
        self._phase, self._taken = 0, np.zeros(self.shops, np.float32)
        return self._view()

    def step(self, action: Array) -> Transition:
        if self._phase == 0:
            self._phase, self._taken = 1, action[:, 0]
            view = self._view()
            return Transition(view, 2.0 * action[:, 0], action, terminated=False, truncated=False, start=view)
        reward = -3.0 * self._taken
        after = self._view()
        return Transition(after, reward, action, terminated=True, truncated=False, start=self.reset())

    def execute(self, action: Tensor, context: Tensor) -> Tensor:
        return action

    def weights(self, context: Tensor) -> Tensor:
        return torch.full((1, 1), 1.0 / context.shape[1])

    def demonstrate(self, context: Tensor) -> Tensor | None:
        return None


@pytest.mark.parametrize(("gamma", "n_step", "sign"), [(0.0, 4, 1), (0.9, 1, -1), (0.9, 4, -1)])
def test_discount_zero_is_a_bandit_and_a_discount_sees_the_payback(gamma: float, n_step: int, sign: int) -> None:
    config = replace(QUICK, gamma=gamma, n_step=n_step, polyak=0.05, steps=70)
    *_, (_, actor) = train(Payback(), config, seed=1)
    assert sign * float(greedy(actor, np.zeros((1, 1, 2), np.float32))[0, 0]) > 0.7


def test_same_seed_same_policy_and_another_seed_another() -> None:
    def weights(seed: int) -> Array:
        actor = learn(OneStep(lambda x, a: -np.square(a).sum(-1)), replace(QUICK, steps=8), seed)
        return np.concatenate([p.detach().numpy().ravel() for p in actor.parameters()])

    np.testing.assert_array_equal(weights(3), weights(3))
    assert not np.array_equal(weights(3), weights(4))


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    learn(OneStep(lambda x, a: -np.square(a).sum(-1)), replace(QUICK, steps=5))
    assert torch.equal(torch.rand(3), expected)


def view_of(value: float) -> View:
    return View(np.full((2, 1, 1), value, np.float32), np.zeros((2, 1, 0), np.float32))


def fill(replay: Replay, rewards: list[float], *, terminated: bool) -> None:
    for t, reward in enumerate(rewards):
        last = t == len(rewards) - 1
        transition = Transition(
            view_of(t + 1),
            np.full(2, reward, np.float32),
            np.zeros((2, 1), np.float32),
            terminated=terminated and last,
            truncated=last and not terminated,
            start=view_of(0),
        )
        replay.add(view_of(t), np.zeros((2, 1), np.float32), transition)


@pytest.mark.parametrize("terminated", [True, False])
def test_n_step_sums_stop_at_the_end_of_the_episode(terminated: bool) -> None:
    replay = Replay(100, 3, 0.5)
    fill(replay, [1.0, 2.0, 4.0, 8.0], terminated=terminated)
    assert len(replay) == 8
    batch = replay.sample(np.random.default_rng(0), 200)
    table = {
        round(o): (r, d, a)
        for o, r, d, a in zip(
            batch.observation[:, 0, 0].tolist(),
            batch.reward.tolist(),
            batch.discount.tolist(),
            batch.after_observation[:, 0, 0].tolist(),
            strict=True,
        )
    }
    keep = 0.0 if terminated else 1.0
    assert table == {
        0: (1 + 1 + 1, 0.125, 3.0),
        1: (2 + 2 + 2, 0.125 * keep, 4.0),
        2: (4 + 4, 0.25 * keep, 4.0),
        3: (8, 0.5 * keep, 4.0),
    }


def test_replay_forgets_the_oldest() -> None:
    replay = Replay(4, 1, 0.9)
    fill(replay, [0.0, 1.0, 2.0, 3.0, 4.0], terminated=False)
    assert len(replay) == 4
    assert set(replay.sample(np.random.default_rng(0), 100).reward.tolist()) == {3.0, 4.0}


def test_missing_and_infinite_features_give_a_finite_action() -> None:
    actor = Actor(3, 8)
    observation = torch.tensor([[float("nan"), float("inf"), 0.0], [float("-inf"), 1e30, float("nan")]])
    action = actor(observation)
    assert torch.isfinite(action).all()
    assert (action.abs() <= 1).all()
