"""SAC on a task that everybody knows: Pendulum-v1, 5,000 steps, 3 seeds, 20 deterministic evaluation episodes each.

    python tests/benchmarks/bench_trainer.py [SEED ...]      figures per seed; about 2 CPU-minutes each

The anchor is stable-baselines3's SAC with its defaults on the same task: −187 at 5,000 steps (mean of 3 seeds, about
135 CPU-s a seed). Not worse than −220 says that the algorithm is right; it is no race.
"""

import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from trainer.sac import Actor, Array, SACConfig, Transition, View, train

EPISODES = 20
TARGET = -220.0
CONFIG = SACConfig(
    gamma=0.99,
    n_step=1,
    actor_hidden=256,
    critic_hidden=256,
    pessimism="min",
    actor_lr=1e-3,
    critic_lr=1e-3,
    temperature_lr=1e-3,
    lr_end=1.0,
    target_entropy=-1.0,
    temperature_start=1.0,
    temperature_min=1e-4,
    polyak=0.005,
    batch=256,
    replay=10_000,
    warmup_steps=100,
    warmup_scale=1.0,
    imitation_steps=0,
    anchor=0.0,
    actor_delay_steps=0,
    log_sd_start=-0.5,
    updates_per_step=1,
    steps=5_000,
)


@dataclass(slots=True)
class Pendulum:
    """Gymnasium's Pendulum-v1 as one shop of one item; torque ±2 is the action ±1."""

    seed: int
    _task: Any = field(default_factory=lambda: gymnasium.make("Pendulum-v1"))
    _started: bool = False

    def reset(self) -> View:
        observation, _ = self._task.reset(seed=None if self._started else self.seed)
        self._started = True
        return _view(observation)

    def step(self, action: Array) -> Transition:
        observation, reward, terminated, truncated, _ = self._task.step(2.0 * action[0])
        after = _view(observation)
        start = self.reset() if terminated or truncated else after
        return Transition(after, np.array([reward], np.float32), action, bool(terminated), bool(truncated), start)

    def execute(self, action: Tensor, context: Tensor) -> Tensor:  # nothing stands between
        return action

    def weights(self, context: Tensor) -> Tensor:
        return torch.ones(1, 1)

    def demonstrate(self, context: Tensor) -> Tensor | None:
        return None


def _view(observation: Any) -> View:
    row = np.asarray(observation, np.float32).reshape(1, 1, -1)
    return View(row, np.zeros((1, 1, 0), np.float32))


def returns(actor: Actor, seed: int) -> list[float]:
    """Undiscounted returns of the deterministic policy on `EPISODES` episodes."""
    task = gymnasium.make("Pendulum-v1")
    totals = []
    for episode in range(EPISODES):
        observation, _ = task.reset(seed=10_000 + 100 * seed + episode)
        total, over = 0.0, False
        while not over:
            with torch.no_grad():
                action = actor(torch.from_numpy(np.asarray(observation, np.float32)).reshape(1, 1, -1))
            observation, reward, terminated, truncated, _ = task.step(2.0 * action.numpy()[0])
            total += float(reward)
            over = bool(terminated or truncated)
        totals.append(total)
    return totals


def one_seed(seed: int) -> dict[str, float]:
    """Train and evaluate one seed."""
    torch.set_num_threads(1)
    began = time.process_time()
    *_, (_, actor) = train(Pendulum(seed), CONFIG, seed)
    totals = returns(actor, seed)
    return {
        "seed": seed,
        "mean": float(np.mean(totals)),
        "sd": float(np.std(totals)),
        "cpu_s": time.process_time() - began,
    }


def rows(seconds: float) -> list[dict[str, object]]:  # 5,000 steps are 5,000 steps
    """The row of `build/bench.json`."""
    seeds = [one_seed(seed) for seed in range(3)]
    mean = float(np.mean([seed["mean"] for seed in seeds]))
    return [
        {
            "name": "SAC on Pendulum-v1 at 5,000 steps, mean of 3 seeds",
            "unit": "return; " + ", ".join(f"seed {seed['seed']:.0f}: {seed['mean']:.0f}" for seed in seeds),
            "ours": mean,
            "reference": None,
            "reference_name": "stable-baselines3 defaults, measured earlier: -187",
            "ratio": None,
            "better": "higher",
            "target": f">= {TARGET:.0f}",
            "met": mean >= TARGET,
        }
    ]


if __name__ == "__main__":
    for wanted in [int(value) for value in sys.argv[1:]] or [0, 1, 2]:
        print(json.dumps(one_seed(wanted)), flush=True)
