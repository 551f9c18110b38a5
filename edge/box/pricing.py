"""From the views to the agent and back: requests made of what the box holds, decided elsewhere, turned into prices.

A `Request` is a frozen copy, so deciding may run in a worker thread while receipts go on. Categories larger than
`CATEGORY_ITEMS_MAX` are decided in parts, in the order of their SKUs.
"""

import importlib.resources
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.agent.decider import Decider, DeciderRules, Request
from edge.agent.effect import PriceEffect, against_reference
from edge.agent.estimate import DemandPrior, backtest, estimate
from edge.agent.experiment import ExperimentRules
from edge.agent.metrics import DecisionMetrics
from edge.agent.p2p_agent import Market, P2PSACAgent
from edge.agent.sac_agent import SACAgent
from edge.agent.situation import Published, align, guard_inputs
from edge.box.shelf import Shelf
from edge.clock import WallTime
from edge.config import PricingConfig
from edge.crypto.keys import new_secret, read_secret, write_secret
from edge.errors import ConfigError, PomonaError
from edge.health.checks import OK, Finding, HealthState
from edge.limits import CATEGORY_ITEMS_MAX
from edge.memory.local import LocalPriceMemory
from edge.records.decision import DecisionBatch, Mode
from edge.records.history import week_of
from edge.records.item import Item

logger = logging.getLogger(__name__)
SHIPPED: Final = "pomona.onnx"  # in edge/agent/policy
_SEED_FILE: Final = "experiment-seed"
_NEVER: Final = 10_000  # business days since a label changed that never did
_REVENUE_WEEKS: Final = 8  # of sales whose revenue weighs the price index between decisions
_BACKTEST_WEEKS: Final = 26  # of sales before a forecast error means anything


class Pricer:
    """The pricing agent as the box uses it: policy, settings and randomness, but no state between decisions."""

    def __init__(
        self,
        config: PricingConfig,
        *,
        state: Path,
        currency: str,
        metrics: DecisionMetrics | None = None,
        market: Market | None = None,
    ) -> None:
        """Loads the policy. One that is refused leaves the weekly optimiser in charge, and `state` says so.

        `market` answers what the networks know of a category (`NetworkState.get_context`), in the thread that decides.
        """
        self._config = config
        self._currency = currency
        self._metrics = metrics
        self._trouble = ""
        self.policy = self._load()
        self.rules = DeciderRules(guard=config.guard, experiment=experiment_rules(config, state))
        self._decider = Decider(self.rules, self.policy, monotonic=time.monotonic, metrics=metrics)
        self.effects: dict[str, PriceEffect] = {}  # by category: what its published prices earned, estimated
        self._rng = np.random.default_rng()  # seeded by the system; what it draws is logged with its probability
        self._decide: Callable[[Request], DecisionBatch] = self._alone
        if market is not None:
            agent = P2PSACAgent(self._alone, market, shipped=self.rules.prior, rng=self._rng, metrics=metrics)
            self._decide = agent.get_action

    def _load(self) -> SACAgent | None:
        name = self._config.policy
        if name == "none":
            return None
        try:
            return SACAgent(Path(name).read_bytes() if name else shipped_policy())
        except OSError as error:
            self._trouble = f"{name or SHIPPED}: {error.strerror}"
        except PomonaError as error:
            self._trouble = str(error)
        return None

    def state(self) -> Finding:
        """A health finding about the policy."""
        return (HealthState.DEGRADED, f"the weekly optimiser decides: {self._trouble}") if self._trouble else OK

    def requests(
        self,
        memory: LocalPriceMemory,
        shelf: Shelf,
        category: str,
        items: Sequence[Item],
        opening: date,
        *,
        slots: int,
        recorded: WallTime,
    ) -> Iterator[Request]:
        """What to decide for `category` from `opening` on, in parts."""
        history = memory.history(category, self._config.history_weeks, last_week=week_of(opening) - 1)
        for start in range(0, len(items), CATEGORY_ITEMS_MAX):
            part = tuple(items[start : start + CATEGORY_ITEMS_MAX])
            yield Request(
                category=category,
                items=part,
                history=history,
                published=published(shelf, part, opening),
                day=opening,
                slots=slots,
                mode=Mode(shelf.mode(category)),
                currency=self._currency,
                recorded=recorded,
            )

    def decide(self, request: Request) -> DecisionBatch:
        """The batch of a request; never fails for what data or policy do. Runs in a worker thread."""
        batch = self._decide(request)
        if self._metrics is not None and int(np.count_nonzero(request.history.observed.any(axis=1))) >= _BACKTEST_WEEKS:
            self._metrics.forecast(request.category, backtest(request.history, DemandPrior()))
        return batch

    def _alone(self, request: Request) -> DecisionBatch:
        """The batch of a request as it stands, peers' prior included where it has one."""
        return self._decider.decide(self._estimated(request), self._rng)

    def _estimated(self, request: Request) -> Request:
        """The request with the week's estimate, which then also tells what past prices earned."""
        history = align(request.history, tuple(item.sku for item in request.items))
        try:
            posterior = estimate(history, self.rules.prior, peers=request.peers)
            self.effects[request.category] = against_reference(posterior, history, self.rules.plan, self._rng)
        except Exception as error:  # noqa: BLE001 - the decider meets the same failure, records it, and holds prices
            logger.warning("estimate of %s: %s", request.category, error)
            return request
        return replace(request, history=history, posterior=posterior)

    def hold(self, request: Request) -> DecisionBatch:
        """Keep the multipliers where they are, through the guard: between decisions, when a reference moved."""
        inputs = guard_inputs(
            request.items, request.published, request.day, request.currency, slots=request.slots, at_opening=True
        )
        return self._decider.conclude(request, replace(inputs, weight=_revenue(request)), None, self._rng)


def _revenue(request: Request) -> NDArray[np.float64]:
    """Weights of the price index where there is no estimate: what each item brought in lately, or its reference."""
    history = align(request.history, tuple(item.sku for item in request.items))
    recent = slice(-_REVENUE_WEEKS, None)
    paid = np.where(history.observed & np.isfinite(history.price), history.units * history.price, 0.0)[recent]
    revenue = np.sum(paid, axis=0)
    references = np.array([item.reference_on(request.day) for item in request.items], np.float64)
    return revenue if float(np.sum(revenue)) > 0 else references


def published(shelf: Shelf, items: Sequence[Item], opening: date) -> Published:
    """The book in force, in the order of `items`."""
    rows = [shelf.prices.get(item.sku) for item in items]
    day = opening.toordinal()
    return Published(
        price=np.array([0 if row is None else row.price_minor for row in rows], np.int64),
        reference=np.array([0 if row is None else row.reference_minor for row in rows], np.int64),
        days_since_change=np.array([_NEVER if row is None else min(day - row.since, _NEVER) for row in rows], np.int64),
    )


def reference_moved(shelf: Shelf, items: Sequence[Item], opening: date) -> bool:
    """Whether any item's reference price on `opening` differs from the one its price was published under."""
    for item in items:
        row = shelf.prices.get(item.sku)
        if row is None or item.reference_on(opening) != row.reference_minor:
            return True
    return False


def experiment_rules(config: PricingConfig, state: Path) -> ExperimentRules:
    """The experiments' settings, with the seed that is drawn once and kept in the state folder."""
    rules = replace(ExperimentRules(), step_probability=config.step_probability, step_log=config.step_log)
    if not config.switchback:
        return rules
    path = state / _SEED_FILE
    seed = read_secret(path)
    if seed is None:
        seed = new_secret()
        write_secret(path, seed)
    return replace(rules, switchback=True, seed=seed.hex())


def shipped_policy() -> bytes:
    """The ONNX file that ships with the box. Raises `ConfigError` where this installation has none."""
    file = importlib.resources.files("edge.agent").joinpath("policy", SHIPPED)
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise ConfigError("pricing.policy", f"this installation has no {SHIPPED}") from None


def next_day(day: date) -> date:
    """The day after."""
    return day + timedelta(days=1)
