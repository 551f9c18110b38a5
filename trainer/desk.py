"""A shop's pricing desk in arrays: what the box knows, what it is about to ask, what the guard made of it.

The training environment, the simulator's evaluation and the replay of real weeks all price through here, and here only
through `edge.agent`: the observation, the optimisers and the guard are the box's own. Batch of shops first, items last.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.agent import demand, forecast, guard, observation, optimiser
from edge.agent.rules import GuardRules
from trainer.sim import market, shop

Float = NDArray[np.float64]
Int = NDArray[np.int64]

MINOR = 100  # minor units of a currency unit
DAYS_PER_WEEK = 7
# Every policy is compared through the same guard: band ±10 %, the index cap, the whole band in one weekly step. Endings
# and the menu cost are left out: they are tastes of a shop, and rounding would hide differences between policies.
COMPARISON_RULES = GuardRules(step=0.20, endings=(), menu_cost_minor=0.0)


@dataclass(frozen=True, slots=True)
class Desk:
    """What the box carries from week to week. (B, n) unless said."""

    trail: observation.PriceTrail
    pantry: Float  # in the box's model, normal weekly sales
    forecast: forecast.Forecast
    residual: Float  # last week's log residual; NaN before the first
    price: Int  # last published, minor units; 0 before the first
    reference: Int  # the reference of the day it was published against
    days_since_change: Int


@dataclass(frozen=True, slots=True)
class Situation:
    """A week to be priced."""

    desk: Desk
    model: demand.DemandModel  # what the box believes about demand
    horizon: demand.Outlook  # (≥ 3, B, n), this week first
    cost_base: Float  # cost when the reference was approved
    regular: Float  # log(reference of the day without its promotion / model.price)
    inputs: guard.GuardInputs
    lane: guard.Corridor
    bounds: guard.Bounds
    rules: GuardRules

    def long_run(self) -> Float:
        """The long-run plug-in's log multipliers."""
        limits = self.bounds
        return optimiser.long_run(
            self.model, self.horizon.week(0), limits.low, limits.high, weight=limits.weight, cap=limits.cap
        )

    def short_run(self) -> Float:
        """The short-run plug-in's: the pantry is neither planned for nor looked at."""
        limits = self.bounds
        return optimiser.short_run(
            self.model, self.horizon.week(0), limits.low, limits.high, weight=limits.weight, cap=limits.cap
        )

    def look_ahead(self) -> Float:
        """The one-step look-ahead's, with its tail of weeks under the static book."""
        limits = self.bounds
        return optimiser.look_ahead(
            self.model, self.horizon, self.desk.pantry, limits.low, limits.high, weight=limits.weight, cap=limits.cap
        )

    def observe(self, suggestion: Float, look_ahead: Float) -> NDArray[np.float32]:
        """The observation (B, n, F) that a policy sees."""
        return observation.build(
            observation.ObservationInputs(
                model=self.model,
                trail=self.desk.trail,
                residual=self.desk.residual,
                forecast=self.desk.forecast.shift,
                pantry=self.desk.pantry,
                cost_base=self.cost_base,
                horizon=self.horizon,
                bounds=self.bounds,
                suggestion=suggestion,
                look_ahead=look_ahead,
                slots=self.inputs.slots.astype(np.float64),
            )
        )

    def execute(self, asked: Float) -> guard.GuardResult:
        """What the guard publishes of `asked` (B, n)."""
        return guard.project(asked, self.inputs, self.rules, lane=self.lane)


def new_desk(shape: tuple[int, int]) -> Desk:
    """A desk that has never priced: prices stood at their references."""
    return Desk(
        trail=observation.no_trail(shape),
        pantry=np.zeros(shape),
        forecast=forecast.no_forecast(shape),
        residual=np.full(shape, np.nan),
        price=np.zeros(shape, np.int64),
        reference=np.zeros(shape, np.int64),
        days_since_change=np.full(shape, 10 * DAYS_PER_WEEK),
    )


def prepare(
    desk: Desk,
    model: demand.DemandModel,
    horizon: demand.Outlook,
    *,
    cost_base: Float,
    regular: Float,
    rules: GuardRules,
) -> Situation:
    """Look at the week `horizon` begins with. `horizon.shift` is filled with the desk's own forecast, fading."""
    fade = forecast.ForecastRules().persistence ** np.arange(len(horizon.reference))
    horizon = replace(horizon, shift=fade[:, None, None] * desk.forecast.shift)
    now = horizon.week(0)
    reference = np.rint(MINOR * model.price * np.exp(now.reference)).astype(np.int64)
    first = desk.price == 0
    shops, items = reference.shape
    none = np.zeros((shops, items), np.int64)
    inputs = guard.GuardInputs(
        reference=reference,
        previous=np.where(first, reference, desk.price),
        previous_reference=np.where(first, reference, desk.reference),
        cost=MINOR * now.cost,
        floor=none,
        ceiling=none,
        days_since_change=desk.days_since_change,
        weight=optimiser.revenue_weight(model, now),
        slots=np.full(shops, min(rules.changes_per_day, items), np.int64),
        at_opening=np.ones(shops, np.bool_),
    )
    lane = guard.corridor(inputs, rules)
    return Situation(desk, model, horizon, cost_base, regular, inputs, lane, guard.bounds_of(lane, reference), rules)


def close_week(situation: Situation, result: guard.GuardResult, sold: Float, *, observed: Float | None = None) -> Desk:
    """The desk after the week: `sold` units (B, n) at the executed prices; `observed` 0 where a cell says nothing."""
    desk, model, now = situation.desk, situation.model, situation.horizon.week(0)
    x = now.reference + result.log_multiplier
    unshifted = replace(now, shift=np.zeros_like(now.shift))
    residual = forecast.log_residual(sold, demand.expected_units(model, x, unshifted, desk.pantry))
    seen = np.isfinite(residual) if observed is None else (np.isfinite(residual) & (observed > 0))
    moved = result.price != situation.inputs.previous
    return Desk(
        trail=desk.trail.week(x, result.log_multiplier),
        pantry=demand.next_pantry(model, x, now, desk.pantry),
        forecast=forecast.update_forecast(desk.forecast, residual, seen, model.share, forecast.ForecastRules()),
        residual=np.where(seen, residual, np.nan),
        price=result.price,
        reference=situation.inputs.reference,
        days_since_change=np.where(moved, DAYS_PER_WEEK, desk.days_since_change + DAYS_PER_WEEK),
    )


def live(
    state: shop.ShopState,
    situation: Situation,
    result: guard.GuardResult,
    shocks: market.Shocks,
    params: shop.ShopParams,
) -> tuple[shop.ShopState, shop.Outcome, Desk]:
    """The week at the published prices: the shop's next state, its outcome and the desk that has seen the sales."""
    log_price = np.log(result.price / (MINOR * params.price))
    state, outcome = shop.respond(state, shocks, log_price, params)
    return state, outcome, close_week(situation, result, outcome.units)
