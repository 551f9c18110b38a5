"""The policies that are compared: each turns a `Situation` into asked log multipliers; the guard has the last word.

The optimisers are `edge.agent`'s own. What only an evaluation needs (a policy that is told the truth) is built by the
evaluation itself.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.agent import optimiser
from edge.agent.bandit import thompson
from edge.agent.model_file import PolicyRefused
from edge.agent.sac_agent import SACAgent
from edge.errors import ConfigError
from trainer.desk import Situation

Float = NDArray[np.float64]
Policy = Callable[[Situation], Float]


def hold(situation: Situation) -> Float:
    """The reference price of the day."""
    return np.zeros_like(situation.bounds.hold)


def cost_plus(situation: Situation) -> Float:
    """Cost plus the margin of the approved regular reference, whatever the week's promotion; the guard bounds it."""
    now = situation.horizon.week(0)
    return np.asarray(np.log(now.cost / situation.cost_base) + situation.regular - now.reference)


def short_run(situation: Situation) -> Float:
    """The weekly optimum with short-run elasticities."""
    return situation.short_run()


def long_run(situation: Situation) -> Float:
    """The weekly optimum with long-run elasticities."""
    return situation.long_run()


def look_ahead(situation: Situation) -> Float:
    """This week's optimum, with what it does to five weeks of the static book after it."""
    return situation.look_ahead()


class Static:
    """The best book to keep for ever, found in the first week and never changed."""

    def __init__(self) -> None:
        self._book: Float | None = None

    def __call__(self, situation: Situation) -> Float:
        """The book's multipliers."""
        if self._book is None:
            limits, band = situation.bounds, situation.rules.band
            wide = np.full_like(limits.low, band)
            self._book = optimiser.static_book(
                situation.model, situation.cost_base, -wide, wide, weight=limits.weight, cap=limits.cap
            )
        return self._book


class Thompson:
    """The bandit: one draw of each elasticity a week, the best rung of the ladder if it were true."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, situation: Situation) -> Float:
        """The rungs."""
        limits = situation.bounds
        return thompson(situation.model, situation.horizon.week(0), limits.low, limits.high, self._rng)


class Sac:
    """An exported policy, loaded, checked and run exactly as the box does."""

    def __init__(self, agent: SACAgent) -> None:
        self._agent = agent

    def __call__(self, situation: Situation) -> Float:
        """Asked log multipliers."""
        suggestion = situation.long_run()
        seen = situation.observe(suggestion, situation.look_ahead())
        return self._agent.ask(seen.reshape(-1, seen.shape[-1])).reshape(suggestion.shape)


def load(path: Path) -> SACAgent:
    """The policy in `path`; `ConfigError` says why the box would refuse it."""
    try:
        return SACAgent(path.read_bytes())
    except OSError as error:
        raise ConfigError("--policy", f"{path} cannot be read: {error.strerror}") from error
    except PolicyRefused as error:
        raise ConfigError("--policy", f"{path}: {error}") from error


BASELINES = ("hold", "cost-plus", "static", "bandit", "short-run plug-in", "long-run plug-in", "look-ahead")


def lineup(agent: SACAgent | None, seed: int) -> dict[str, Callable[[], Policy]]:
    """Makers of all policies by the name they are reported under, in the order of the table."""
    makers: dict[str, Callable[[], Policy]] = {
        "hold": lambda: hold,
        "cost-plus": lambda: cost_plus,
        "static": Static,
        "bandit": lambda: Thompson(seed),
        "short-run plug-in": lambda: short_run,
        "long-run plug-in": lambda: long_run,
        "look-ahead": lambda: look_ahead,
    }
    assert tuple(makers) == BASELINES
    if agent is not None:
        makers["SAC"] = lambda: Sac(agent)
    return makers
