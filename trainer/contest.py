"""Policies against each other in simulated shops that nobody trained on: same shops, same weeks, same guard.

Gains are in % of the gross profit at reference prices and are gains of J (gross profit plus basket value less labels)
over holding the reference prices; gross profit alone is reported beside. Standard errors are over seeds, intervals
are normal 95 % ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.agent.rules import GuardRules
from trainer import belief, desk
from trainer.belief import KNOWS_ALL, Ignorance
from trainer.planner import plan
from trainer.policies import Policy, hold
from trainer.sim import market, shop
from trainer.sim.randomise import Pack, draw_shops

Float = NDArray[np.float64]
Z95 = 1.96
SEED_OFFSET = 1_000_000  # held-out shops: training seeds are small numbers


@dataclass(frozen=True, slots=True)
class ContestConfig:
    """How much is simulated."""

    seeds: int = 20
    shops: int = 4
    weeks: int = 52
    first_seed: int = SEED_OFFSET
    ignorance: Ignorance = KNOWS_ALL  # what the boxes believe; the planner always knows the truth
    rules: GuardRules = desk.COMPARISON_RULES


@dataclass(frozen=True, slots=True)
class Score:
    """One policy's year, per seed. All in % of the gross profit at reference prices."""

    gain: Float  # (seeds,) J over hold
    gross_profit_gain: Float  # (seeds,)
    moves: float  # labels changed per item and week
    residual_rms: float  # rms distance of what was published from the long-run plug-in's wish, log × 100


def run(
    pack: Pack,
    policies: Mapping[str, Callable[[], Policy]],
    config: ContestConfig,
    progress: Callable[[int, int], None] | None = None,
    *,
    planner: bool = True,
) -> dict[str, Score]:
    """Play every policy on every seed; the planner with the true model is added unless told not to."""
    names = list(policies)
    gains: dict[str, list[tuple[float, float, float, float]]] = {
        name: [] for name in [*names, *([PLANNER] if planner else [])]
    }
    for index in range(config.seeds):
        seed = config.first_seed + index
        base_value, base_profit, unit, _, _ = _play(pack, seed, config, hold)
        for name, rows in gains.items():
            policy = _Planner() if name == PLANNER else policies[name]()
            knows = replace(config, ignorance=KNOWS_ALL) if name == PLANNER else config
            value, profit, _, moves, distance = _play(pack, seed, knows, policy)
            rows.append((100.0 * (value - base_value) / unit, 100.0 * (profit - base_profit) / unit, moves, distance))
        if progress is not None:
            progress(index + 1, config.seeds)
    return {
        name: Score(
            gain=np.array([row[0] for row in rows]),
            gross_profit_gain=np.array([row[1] for row in rows]),
            moves=float(np.mean([row[2] for row in rows])),
            residual_rms=float(np.sqrt(np.mean([row[3] for row in rows]))),
        )
        for name, rows in gains.items()
    }


PLANNER = "planner (true model)"


class _Planner:
    """`planner.plan` as a policy; only ever given situations whose model is the truth."""

    def __call__(self, situation: desk.Situation) -> Float:
        limits = situation.bounds
        return plan(
            situation.model,
            situation.horizon,
            situation.desk.pantry,
            low=limits.low,
            high=limits.high,
            band=situation.rules.band,
            weight=limits.weight,
            cap=limits.cap,
        )


def _play(pack: Pack, seed: int, config: ContestConfig, policy: Policy) -> tuple[float, float, float, float, float]:
    """(J, gross profit, reference profit, label moves per item-week, mean square residual), summed over the shops."""
    rng = np.random.default_rng(seed)
    params = draw_shops(rng, pack, config.shops)
    model = belief.believed_model(rng, params, config.ignorance)
    state = shop.reset(rng, params)
    at = desk.new_desk(params.price.shape)
    value, profit, moves, distance = 0.0, 0.0, 0.0, 0.0
    for _ in range(config.weeks):
        shocks = market.draw_shocks(rng, params.market, params.items)
        situation = desk.prepare(
            at,
            model,
            belief.outlook(state, params),
            cost_base=belief.approved_cost(state, params),
            regular=state.market.log_reference,
            rules=config.rules,
        )
        result = situation.execute(policy(situation))
        distance += float(np.mean(np.square(100.0 * (result.log_multiplier - situation.long_run()))))
        moves += float(np.mean(result.changed))
        state, outcome, at = desk.live(state, situation, result, shocks, params)
        value += float(outcome.value.sum())
        profit += float(outcome.gross_profit.sum())
    unit = float(shop.reference_profit(params).sum()) * config.weeks
    return value, profit, unit, moves / config.weeks, distance / config.weeks


def interval(samples: Float) -> tuple[float, float, float]:
    """(mean, s.e., lower 95 % bound) over seeds."""
    error = float(samples.std(ddof=1) / np.sqrt(len(samples))) if len(samples) > 1 else float("nan")
    return float(samples.mean()), error, float(samples.mean()) - Z95 * error
