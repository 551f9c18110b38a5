"""One decision about one category: observation → policy → guard, with what to do when any of it fails.

The chain is SAC → weekly optimiser (look-ahead) → hold. Whatever goes wrong in a stage (an exception, an answer that is
not finite, inputs unlike any in training, the time budget) is noted in the batch and the next stage decides, within the
same call: `decide` always answers, and every price that it chose went through the guard.

A category is in one of three modes: off (prices follow the owner's references), shadow (the chain decides and is
recorded, the book stays) and live. In the control weeks of a running switchback a live category publishes the
reference book.

Nothing here does I/O: what was decided is a `DecisionBatch`, which the caller makes durable before it is published.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from edge.agent import guard, observation, optimiser
from edge.agent.demand import expected_units
from edge.agent.estimate import DemandPosterior, DemandPrior, PeerPrior, estimate
from edge.agent.experiment import Assignment, ExperimentRules, assign, ladder_steps
from edge.agent.metrics import DecisionMetrics
from edge.agent.rules import GuardRules, Rule
from edge.agent.sac_agent import SACAgent
from edge.agent.situation import PlanRules, Published, Situation, align, guard_inputs, prepare
from edge.clock import WallTime
from edge.records.decision import FAILURE_CHARS_MAX, FAILURES_MAX, Arm, DecisionBatch, Mode, PeersHeard, Source
from edge.records.history import CategoryHistory, week_of
from edge.records.item import Item
from edge.records.money import minor_per_unit

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DeciderRules:
    """Settings of the chain."""

    guard: GuardRules = field(default_factory=GuardRules)
    plan: PlanRules = field(default_factory=PlanRules)
    prior: DemandPrior = field(default_factory=DemandPrior)
    experiment: ExperimentRules = field(default_factory=ExperimentRules)
    drift_max: float = (
        0.30  # share of feature values outside the training's p1..p99 above which the policy is not asked
    )
    budget_s: float = 20.0  # for one category; what is late is replaced by the next stage


@dataclass(frozen=True, slots=True)
class Request:
    """A category to be decided. `published` in the order of `items`."""

    category: str
    items: tuple[Item, ...]
    history: CategoryHistory
    published: Published
    day: date  # the business day on which the prices come into force
    slots: int  # label changes left that day
    mode: Mode
    currency: str
    recorded: WallTime
    at_opening: bool = True
    posterior: DemandPosterior | None = None  # the week's estimate in the order of `items`; None: made here
    peers: PeerPrior | None = None  # what other shops know, in the order of `items`; `posterior` was made with it
    heard: PeersHeard | None = None  # who they are: for the record of the decision


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a stage asks the guard for."""

    source: Source
    asked: Float
    exempt: NDArray[np.bool_]  # moves that need not be worth a label: experiments
    step: Float
    propensity: Float


class Decider:
    """Decides categories. Holds the policy and the settings; keeps nothing from one decision to the next."""

    def __init__(
        self,
        rules: DeciderRules,
        policy: SACAgent | None,
        *,
        monotonic: Callable[[], float],
        metrics: DecisionMetrics | None = None,
    ) -> None:
        self._rules = rules
        self._policy = policy
        self._monotonic = monotonic
        self._metrics = metrics

    def decide(self, request: Request, rng: np.random.Generator) -> DecisionBatch:
        """The batch of `request`. Whatever data, model or policy do, it answers."""
        late = self._monotonic() + self._rules.budget_s
        inputs = guard_inputs(
            request.items, request.published, request.day, request.currency,
            slots=request.slots, at_opening=request.at_opening,
        )  # fmt: skip
        failures: list[str] = []
        situation = None
        if request.mode is not Mode.OFF:
            try:
                situation = self._situation(request, inputs)
            except Exception as error:  # noqa: BLE001  # any failure of the estimate ends in held prices, and is recorded
                failures.append(_failure("estimate", error))
        return self.conclude(request, inputs, situation, rng, late=late, failures=failures)

    def conclude(
        self,
        request: Request,
        inputs: guard.GuardInputs,
        situation: Situation | None,
        rng: np.random.Generator,
        *,
        late: float = math.inf,
        failures: list[str] | None = None,
    ) -> DecisionBatch:
        """The decision itself, from a prepared situation (None: hold)."""
        failures = [] if failures is None else failures
        place = assign(self._rules.experiment, request.category, week_of(request.day))
        if request.mode is not Mode.LIVE:
            place = Assignment(Arm.NONE, 1.0, 0, False)
        count = len(request.items)
        seen = np.zeros((count, 0), dtype=np.float32)
        lane = situation.lane if situation is not None else guard.corridor(inputs, self._rules.guard)
        inputs = situation.inputs if situation is not None else inputs
        held = guard.hold(inputs, self._rules.guard, lane=lane)
        wish, chosen, effect = None, held, _no_effect(count)
        if situation is not None:
            try:
                seen = _observe(situation, request.slots)
                wish = self._wish(
                    request.mode, situation, seen=seen, place=place, rng=rng, late=late, failures=failures
                )
                chosen, slope = self._guarded(situation, wish, lane)
                effect = _effect(situation, chosen.log_multiplier, slope)
            except Exception as error:  # noqa: BLE001  # nothing that a model does may stop a book from being published
                failures.append(_failure("decision", error))
                wish, chosen, effect = None, held, _no_effect(count)
        published = chosen if request.mode is Mode.LIVE else _owners_book(held, inputs)
        batch = _batch(
            request,
            place=place,
            policy=self._policy,
            situation=situation,
            wish=wish,
            seen=seen,
            effect=effect,
            chosen=chosen,
            published=published,
            inputs=inputs,
            failures=failures,
        )
        if self._metrics is not None:
            self._metrics.count(batch)
        return batch

    def _situation(self, request: Request, inputs: guard.GuardInputs) -> Situation:
        skus = tuple(item.sku for item in request.items)
        history = align(request.history, skus)
        posterior = request.posterior
        if posterior is None or posterior.skus != skus:
            posterior = estimate(history, self._rules.prior, peers=request.peers)
        return prepare(
            request.items,
            history,
            posterior,
            inputs,
            day=request.day,
            currency=request.currency,
            guard=self._rules.guard,
            plan=self._rules.plan,
        )

    def _wish(
        self,
        mode: Mode,
        situation: Situation,
        *,
        seen: NDArray[np.float32],
        place: Assignment,
        rng: np.random.Generator,
        late: float,
        failures: list[str],
    ) -> _Wish:
        count = len(situation.items)
        zero, certain, nobody = np.zeros(count), np.ones(count), np.zeros(count, dtype=np.bool_)
        if place.arm is Arm.CONTROL:
            return _Wish(Source.CONTROL, zero, ~nobody, zero, certain)
        source, asked = Source.SAC, self._ask(seen, late, failures)
        if asked is None:
            source, asked = Source.OPTIMISER, situation.look_ahead
            if not bool(np.all(np.isfinite(asked))):
                failures.append("optimiser: an answer is not finite")
                return _Wish(Source.HOLD, situation.bounds.hold, nobody, zero, certain)
        step, propensity = zero, certain
        if mode is Mode.LIVE and self._rules.experiment.step_probability > 0:
            step, propensity = ladder_steps(self._rules.experiment, count, rng)
        return _Wish(source, asked + step, step != 0.0, step, propensity)

    def _ask(self, seen: NDArray[np.float32], late: float, failures: list[str]) -> Float | None:
        """The policy's answer, or None with the reason noted."""
        if self._policy is None:
            failures.append("sac: no policy is loaded")
            return None
        try:
            if not self._policy.fits(len(seen)):
                failures.append(f"sac: not trained on categories of {len(seen)} items")
                return None
            drift = self._policy.drift(seen)
            if drift > self._rules.drift_max:
                failures.append(f"sac: {drift:.0%} of what it sees lies outside its training")
                return None
            asked = self._policy.ask(seen)
        except Exception as error:  # noqa: BLE001  # the runtime's exceptions have no common base; the optimiser goes on
            failures.append(_failure("sac", error))
            return None
        if not bool(np.all(np.isfinite(asked))):
            failures.append("sac: an answer is not finite")
            return None
        if self._monotonic() > late:
            failures.append("sac: the time budget was used up")
            return None
        return asked

    def _guarded(self, situation: Situation, wish: _Wish, lane: guard.Corridor) -> tuple[guard.GuardResult, Float]:
        """(what the guard lets pass, dJ/dm on the way to what was asked)."""
        limits = situation.bounds
        inside = np.clip(wish.asked, limits.low, limits.high)
        middle = 0.5 * (limits.hold + inside)
        now = situation.horizon.week(0)
        slope = optimiser.gradient_near(situation.model, now, middle, situation.pantry, situation.later)
        if wish.source is Source.HOLD:
            return guard.hold(situation.inputs, self._rules.guard, lane=lane), slope
        gain = (inside - limits.hold) * slope * minor_per_unit(situation.currency)
        gain = np.where(wish.exempt, np.inf, gain)
        return guard.project(wish.asked, situation.inputs, self._rules.guard, gain=gain, lane=lane), slope


def _owners_book(held: guard.GuardResult, inputs: guard.GuardInputs) -> guard.GuardResult:
    """Reference prices as they are: outside live mode not even a price below cost is touched, it is the owner's."""
    return replace(held, price=np.where(inputs.reference >= 1, inputs.reference, held.price))


def _observe(situation: Situation, slots: int) -> NDArray[np.float32]:
    return observation.build(
        observation.ObservationInputs(
            model=situation.model,
            trail=situation.trail,
            residual=situation.residual,
            forecast=situation.forecast,
            pantry=situation.pantry,
            cost_base=situation.cost_base,
            horizon=situation.horizon,
            bounds=situation.bounds,
            suggestion=situation.suggestion,
            look_ahead=situation.look_ahead,
            slots=np.asarray(float(slots)),
        )
    )


@dataclass(frozen=True, slots=True)
class _Effect:
    """Expected a week against the held book, (n,)."""

    units_hold: Float
    units_change: Float
    units_change_sd: Float
    profit_change: Float  # J: gross profit and basket value of the week and its tail, currency units
    profit_change_sd: Float


def _no_effect(count: int) -> _Effect:
    return _Effect(*(np.zeros(count) for _ in range(5)))


def _effect(situation: Situation, chosen: Float, slope: Float) -> _Effect:
    """Expected effect of moving from the held book to `chosen` log multipliers; sd: delta method, own elasticities."""
    now, model, at, hold = situation.horizon.week(0), situation.model, situation.held, situation.bounds.hold
    after = expected_units(model, now.reference + chosen, now, situation.pantry)
    gain = (chosen - hold) * slope
    reach = np.abs(chosen - hold) * model.elasticity_sd * 0.5 * (at.units + after)
    net = at.unit_value - (at.pull * at.mean_value)[..., None]  # a unit lost here is partly sold as its neighbour
    return _Effect(at.units, after - at.units, reach, gain, reach * np.abs(net))


def _batch(
    request: Request,
    *,
    place: Assignment,
    policy: SACAgent | None,
    situation: Situation | None,
    wish: _Wish | None,
    seen: NDArray[np.float32],
    effect: _Effect,
    chosen: guard.GuardResult,
    published: guard.GuardResult,
    inputs: guard.GuardInputs,
    failures: list[str],
) -> DecisionBatch:
    count = len(request.items)
    zero = np.zeros(count)
    by_policy = wish is not None and wish.source is Source.SAC and policy is not None

    def single(values: Float) -> NDArray[np.float32]:
        """float32, and 0 where a number is not one or too large for it: a record holds numbers."""
        with np.errstate(over="ignore"):
            column = values.astype(np.float32)
        finite = np.isfinite(column)
        return column if bool(np.all(finite)) else np.where(finite, column, np.float32(0.0))

    def whole(values: Int) -> NDArray[np.int32]:
        return np.clip(values, 0, 100_000_000).astype(np.int32)

    asked = np.full(count, np.nan) if wish is None else np.clip(wish.asked, -1e30, 1e30)
    return DecisionBatch(
        category=request.category,
        business_day=request.day,
        week=week_of(request.day),
        mode=request.mode,
        source=Source.HOLD if wish is None else wish.source,
        arm=place.arm,
        arm_propensity=place.propensity,
        wash_out=place.wash_out,
        model=policy.facts.name if by_policy and policy is not None else "",
        model_sha256=policy.facts.sha256 if by_policy and policy is not None else b"",
        observation_version=observation.OBSERVATION_VERSION,
        failures=tuple(text[:FAILURE_CHARS_MAX] for text in failures[:FAILURES_MAX]),
        currency=request.currency,
        recorded=request.recorded,
        skus=tuple(item.sku for item in request.items) if situation is None else situation.skus,
        published=whole(published.price),
        chosen=whole(chosen.price),
        previous=whole(inputs.previous),
        reference=whole(inputs.reference),
        rules=(chosen.rules | (published.rules & int(Rule.INPUT | Rule.CONFLICT))).astype(np.int32),
        asked=asked.astype(np.float32),
        suggestion=single(zero if situation is None else situation.look_ahead),
        cost=single(inputs.cost / minor_per_unit(request.currency)),
        units_hold=single(effect.units_hold),
        units_change=single(effect.units_change),
        units_change_sd=single(effect.units_change_sd),
        profit_change=single(effect.profit_change),
        profit_change_sd=single(effect.profit_change_sd),
        random_step=single(zero if wish is None else wish.step),
        propensity=single(np.ones(count) if wish is None else wish.propensity),
        observation=seen,
        peers=None if situation is None else request.heard,
    )


def _failure(stage: str, error: Exception) -> str:
    return f"{stage}: {type(error).__name__}: {error}"
