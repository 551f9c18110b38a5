"""A category as it stands before a decision: everything that estimate, optimiser, guard and observation need, aligned.

`prepare` does the week's heavy part (pantry, forecast, the optimiser's suggestions) once; what a decision then still
costs is one observation, one run of the policy and one pass of the guard. All arrays are (n,) in the order of `items`;
money is in currency units, prices that can be published in minor units.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.agent import optimiser
from edge.agent.demand import DemandModel, Outlook, Response, calibrate, next_pantry, respond
from edge.agent.estimate import CARRY, DEAL, FEATURE, LEVEL, OTHERS, PRICE, DemandPosterior
from edge.agent.forecast import ForecastRules, no_forecast, update_forecast
from edge.agent.guard import Bounds, Corridor, GuardInputs, bounds_of, corridor, ladders
from edge.agent.observation import PriceTrail, no_trail
from edge.agent.rules import GuardRules
from edge.agent.tail import TAIL_WEEKS, make_tail
from edge.records.history import CategoryHistory, week_of
from edge.records.item import Item
from edge.records.money import COST_PER_UNIT, minor_per_unit

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_MEMORY_WEEKS: Final = 26  # pantry, forecast and trail have forgotten what is older
_ELASTICITY: Final = (-8.0, -0.3)  # an own elasticity outside is an estimation error
_CARRY_MAX: Final = 1.5


@dataclass(frozen=True, slots=True)
class PlanRules:
    """What the shop's own data cannot tell and a plan needs."""

    category_elasticity: float = (
        -2.0
    )  # of the category's units in this shop: whoever leaves for another shop is not seen
    inside: float = 0.30  # share of the shoppers' purchases in the category made here, at reference prices
    traffic: float = 0.2  # how far full pantries keep shoppers out of the category, 0..1
    discount: float = 1.0  # a week, of the weeks after this one
    forecast: ForecastRules = field(default_factory=ForecastRules)


@dataclass(frozen=True, slots=True)
class Published:
    """The book in force, (n,) in the order of the items."""

    price: Int  # minor units; 0: never published
    reference: Int  # reference of its day when that price was published; 0: unknown
    days_since_change: Int  # business days

    @classmethod
    def none(cls, count: int) -> "Published":
        """A shop that has not published anything yet."""
        return cls(np.zeros(count, np.int64), np.zeros(count, np.int64), np.full(count, 10_000, np.int64))


@dataclass(frozen=True, slots=True)
class Situation:
    """See the module's description."""

    day: date
    week: int
    currency: str
    items: tuple[Item, ...]
    skus: tuple[str, ...]
    model: DemandModel
    horizon: Outlook  # (1 + TAIL_WEEKS, n)
    pantry: Float
    trail: PriceTrail
    residual: Float
    forecast: Float
    cost_base: Float
    inputs: GuardInputs
    lane: Corridor
    bounds: Bounds
    suggestion: Float  # long-run plug-in, log multiplier
    look_ahead: Float
    later: Float  # dV/dH of the weeks after this one, at the held book: what stockpiling costs them
    held: Response  # the model's answer to the held book


def align(history: CategoryHistory, skus: Sequence[str]) -> CategoryHistory:
    """`history` with exactly the columns `skus`, in that order; items without a past are unobserved."""
    if history.skus == tuple(skus):
        return history
    position = {sku: column for column, sku in enumerate(history.skus)}
    source = np.array([position.get(sku, -1) for sku in skus], dtype=np.int64)
    missing = source < 0

    def columns(name: str, blank: float) -> Float:
        values: Float = getattr(history, name)
        return np.where(missing, blank, values[:, source]) if len(history.skus) else np.full((weeks, len(skus)), blank)

    weeks = len(history.weeks)
    return CategoryHistory(
        category=history.category,
        skus=tuple(skus),
        weeks=history.weeks,
        units=columns("units", 0.0),
        price=columns("price", np.nan),
        reference=columns("reference", np.nan),
        cost=columns("cost", np.nan),
        deal=columns("deal", 0.0),
        feature=columns("feature", 0.0),
        observed=columns("observed", 0.0).astype(np.bool_),
    )


def guard_inputs(
    items: Sequence[Item], published: Published, day: date, currency: str, *, slots: int, at_opening: bool = True
) -> GuardInputs:
    """What the guard needs and no estimate can spoil; the index weights are reference prices until sales are known."""
    per_unit = minor_per_unit(currency)
    reference = np.array(
        [item.reference_on(day) if item.promotions else item.reference_minor for item in items], np.int64
    )
    return GuardInputs(
        reference=reference,
        previous=published.price,
        previous_reference=published.reference,
        cost=np.array([item.cost_e4 for item in items], np.float64) * (per_unit / COST_PER_UNIT),
        floor=np.array([item.floor_minor or 0 for item in items], np.int64),
        ceiling=np.array([item.ceiling_minor or 0 for item in items], np.int64),
        days_since_change=published.days_since_change,
        weight=reference.astype(np.float64),
        slots=np.asarray(slots, dtype=np.int64),
        at_opening=np.asarray(at_opening, dtype=np.bool_),
        ladders=ladders(items),
    )


def prepare(
    items: Sequence[Item],
    history: CategoryHistory,
    posterior: DemandPosterior,
    inputs: GuardInputs,
    *,
    day: date,
    currency: str,
    guard: GuardRules,
    plan: PlanRules,
) -> Situation:
    """`history` and `posterior` in the order of `items` (`align`); `inputs` from `guard_inputs`."""
    per_unit = minor_per_unit(currency)
    week = week_of(day)
    regular = np.array([item.reference_minor for item in items], np.float64) / per_unit
    cost = inputs.cost / per_unit
    model = model_of(posterior, regular, cost, plan)
    pantry, trail, residual, shift = _past(model, history, posterior, inputs, plan.forecast)
    horizon = _horizon(items, day, posterior=posterior, cost=cost, shift=shift, persistence=plan.forecast.persistence)
    inputs = replace(inputs, weight=optimiser.revenue_weight(model, horizon.week(0)))
    lane = corridor(inputs, guard)
    limits = bounds_of(lane, inputs.reference)
    suggestion = optimiser.long_run(
        model, horizon.week(0), limits.low, limits.high, weight=limits.weight, cap=limits.cap
    )
    quiet = np.max(np.abs(horizon.reference[0])) + np.max(np.abs(horizon.feature[0])) == 0.0
    book = (
        suggestion
        if quiet
        else optimiser.static_book(model, cost, limits.low, limits.high, weight=limits.weight, cap=limits.cap)
    )
    look = optimiser.look_ahead(
        model,
        horizon,
        pantry,
        limits.low,
        limits.high,
        book=book,
        discount=plan.discount,
        weight=limits.weight,
        cap=limits.cap,
    )
    now = horizon.week(0)
    tail = make_tail(model, horizon.weeks_after(1), book, plan.discount)
    return Situation(
        day=day,
        week=week,
        currency=currency,
        items=tuple(items),
        skus=history.skus,
        model=model,
        horizon=horizon,
        pantry=pantry,
        trail=trail,
        residual=residual,
        forecast=shift,
        cost_base=_cost_base(history, cost),
        inputs=inputs,
        lane=lane,
        bounds=limits,
        suggestion=suggestion,
        look_ahead=look,
        later=optimiser.tail_slope(model, now, limits.hold, pantry, tail),
        held=respond(model, now.reference + limits.hold, now, pantry),
    )


def model_of(posterior: DemandPosterior, regular: Float, cost: Float, plan: PlanRules) -> DemandModel:
    """The planning model at today's regular reference prices `regular` (n,), currency units."""
    own = np.clip(posterior.mean[:, PRICE], *_ELASTICITY)
    carry = np.clip(posterior.mean[:, CARRY], 0.0, _CARRY_MAX)
    moved = np.log(regular / posterior.regular)  # the owner's reference may have changed since the estimate
    others = np.sum(posterior.share * moved) - posterior.share * moved
    level = posterior.mean[:, LEVEL] + own * moved + posterior.mean[:, OTHERS] * others
    return calibrate(
        price=regular,
        cost=cost,
        units=np.exp(np.clip(level, -7.0, 20.0)),
        elasticity=own,
        theta=carry / np.abs(own),
        decay=np.asarray(posterior.decay),
        category_elasticity=np.asarray(plan.category_elasticity),
        inside=np.asarray(plan.inside),
        traffic=np.asarray(plan.traffic),
        elasticity_sd=posterior.sd(PRICE),
        carry_sd=posterior.sd(CARRY) / np.abs(own),
        residual_sd=np.sqrt(np.log1p(posterior.dispersion)),
    )


def _past(
    model: DemandModel, history: CategoryHistory, posterior: DemandPosterior, inputs: GuardInputs, rules: ForecastRules
) -> tuple[Float, PriceTrail, Float, Float]:
    """(pantry, trail, last residual, forecast shift) after the newest weeks of the history."""
    count = model.items
    pantry, trail, filtered = np.zeros(count), no_trail((count,)), no_forecast((count,))
    lift = posterior.mean[:, FEATURE] * history.feature + posterior.mean[:, DEAL] * history.deal
    first = max(0, len(history.weeks) - _MEMORY_WEEKS)
    aligned = posterior.residual.shape == history.units.shape
    residual = np.full(count, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = np.log(history.price / model.price)
        multiplier = np.log(history.price / history.reference)
    for row in range(first, len(history.weeks)):
        known = np.where(np.isfinite(x[row]), x[row], 0.0)
        zero = np.zeros(count)
        pantry = next_pantry(
            model, known, Outlook(zero, np.where(np.isfinite(lift[row]), lift[row], 0.0), zero, zero), pantry
        )
        trail = trail.week(x[row], multiplier[row])
        if aligned:
            residual = posterior.residual[row]
            filtered = update_forecast(filtered, residual, history.observed[row], model.share, rules)
    known_book = (inputs.previous >= 1) & (inputs.previous_reference >= 1)
    exact = np.log(np.maximum(inputs.previous, 1) / np.maximum(inputs.previous_reference, 1))
    return pantry, replace(trail, last=np.where(known_book, exact, trail.last)), residual, filtered.shift


def _horizon(
    items: Sequence[Item],
    day: date,
    *,
    posterior: DemandPosterior,
    cost: Float,
    shift: Float,
    persistence: float,
) -> Outlook:
    """This week and the tail: the owner's promotion calendar, season and trend, a fading forecast, today's costs."""
    weeks, count = 1 + TAIL_WEEKS, len(items)
    reference, feature = np.zeros((weeks, count)), np.zeros((weeks, count))
    for column, item in enumerate(items):
        if not item.promotions:
            continue
        for ahead in range(weeks):
            promotion = item.promotion_on(day + timedelta(days=7 * ahead))
            if promotion is not None:
                reference[ahead, column] = np.log(promotion.price_minor / item.reference_minor)
                feature[ahead, column] = posterior.mean[column, DEAL] + (
                    posterior.mean[column, FEATURE] if promotion.featured else 0.0
                )
    week = week_of(day)
    season = np.array([posterior.season_log(week + ahead) for ahead in range(weeks)])
    fade = persistence ** np.arange(weeks)
    total = season[:, None] + fade[:, None] * shift
    return Outlook(reference, feature, total, np.broadcast_to(cost, (weeks, count)))


def _cost_base(history: CategoryHistory, cost: Float) -> Float:
    """Unit cost when today's regular reference came into force, as far as the history knows; else today's cost."""
    usable = np.isfinite(history.reference) & (history.deal <= 0)
    newest = np.where(np.any(usable, axis=0), _last(history.reference, usable), np.nan)
    with np.errstate(invalid="ignore"):
        other = usable & (np.abs(history.reference - newest) > 1e-9)
    rows = np.arange(len(history.weeks))[:, None]
    since = rows > np.max(np.where(other, rows, -1), axis=0, initial=-1)
    known = since & np.isfinite(history.cost) & (history.cost > 0)
    first = history.cost[np.argmax(known, axis=0), np.arange(len(cost))]
    return np.where(np.any(known, axis=0), first, cost)


def _last(values: Float, usable: NDArray[np.bool_]) -> Float:
    return np.asarray(values[::-1][np.argmax(usable[::-1], axis=0), np.arange(values.shape[1])])
