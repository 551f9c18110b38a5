"""What a policy sees: versioned, named features of every item, in one code for the box and for the trainer.

A feature has a unit, a fill for "not known" and a range it is clipped to; where not knowing is a normal state, a mask
feature (`<name>_missing`, 0 or 1) follows it. Features of the category repeat in every row, so that one small policy
shared by all items can be run over the items as a batch. No feature sees another shop or a customer.

Any change of a name, a unit, an order, a fill or a range is a new `OBSERVATION_VERSION`; a policy names the version it
was trained with and is refused under any other.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.agent.demand import DemandModel, Float, Outlook, category_elasticity, own_elasticity, payback
from edge.agent.guard import Bounds

Bool = NDArray[np.bool_]
OBSERVATION_VERSION: Final = 1
DECAYS: Final = (0.5, 0.8)  # of the two exponential means of past log prices


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the observation."""

    name: str
    unit: str
    fill: float
    low: float
    high: float
    mask: bool = False  # a `<name>_missing` column follows


_SOURCES: Final = (
    # the item's own past
    Feature("last", "log price over reference of its day", 0.0, -0.5, 0.5),
    Feature("mean_fast", "log price over regular reference, mean with decay 0.5", 0.0, -1.0, 1.0),
    Feature("mean_slow", "log price over regular reference, mean with decay 0.8", 0.0, -1.0, 1.0),
    Feature("weeks_since_change", "log(1 + weeks), at most a quarter", 0.0, 0.0, 2.7),
    Feature("residual", "log units over model, last week", 0.0, -2.0, 2.0, mask=True),
    Feature("forecast", "log demand shift, coming week", 0.0, -1.0, 1.0, mask=True),
    Feature("pantry", "normal weekly sales", 0.0, -1.5, 4.0),
    # cost and the owner's references
    Feature("cost", "log cost over cost when the reference was approved", 0.0, -0.5, 0.5, mask=True),
    Feature("margin", "1 − cost / reference of the day", 0.25, -0.5, 0.9, mask=True),
    Feature("deal_now", "log reference of the day over regular reference", 0.0, -0.7, 0.2),
    Feature("deal_next", "the same in one week", 0.0, -0.7, 0.2),
    Feature("deal_after", "the same in two weeks", 0.0, -0.7, 0.2),
    Feature("feature_now", "log uplift by advertising", 0.0, 0.0, 1.5),
    # what the demand estimate believes, and how firmly
    Feature("elasticity", "own, short run", -2.9, -8.0, 0.0),
    Feature("elasticity_sd", "posterior sd", 0.8, 0.0, 3.0),
    Feature("payback", "share of a price response paid back later", 0.2, 0.0, 0.9),
    Feature("payback_sd", "posterior sd", 0.1, 0.0, 0.9),
    Feature("share", "log(items · share of the category's units)", 0.0, -5.0, 3.0),
    # what the weekly optimiser would ask for, and the corridor
    Feature("suggestion", "log multiplier, long-run plug-in", 0.0, -0.5, 0.5),
    Feature("look_ahead", "log multiplier, one-step look-ahead", 0.0, -0.5, 0.5),
    Feature("low", "log multiplier, guard's lower bound", -0.1, -0.5, 0.5),
    Feature("high", "log multiplier, guard's upper bound", 0.1, -0.5, 0.5),
    # the category: share-weighted means, the same in every row
    Feature("mean_last", "log price over reference of its day, category mean", 0.0, -0.5, 0.5),
    Feature("mean_pantry", "normal weekly sales, category mean", 0.0, -1.5, 4.0),
    Feature("mean_forecast", "log demand shift, category mean", 0.0, -1.0, 1.0),
    Feature("mean_cost", "log cost change, category mean", 0.0, -0.5, 0.5),
    Feature("mean_deal", "log reference of the day over regular, category mean", 0.0, -0.7, 0.2),
    Feature("mean_suggestion", "log multiplier, category mean", 0.0, -0.5, 0.5),
    Feature("mean_payback", "share of a price response, category mean", 0.2, 0.0, 0.9),
    Feature("category_elasticity", "all prices together, short run", -2.0, -6.0, 0.0),
    Feature("decay", "share of the pantry left after a week", 0.38, 0.0, 1.0),
    Feature("basket", "value of a unit in the rest of the basket, fraction of its price", 0.3, 0.0, 3.0),
    Feature("index_room", "log index cap less the index of the held book", 0.0, -0.2, 0.2),
    Feature("slots", "label changes left over items, at most 1", 1.0, 0.0, 1.0),
    Feature("items", "log number of items", 2.4, 0.0, 7.0),
)

FEATURES: Final[tuple[Feature, ...]] = tuple(
    column
    for source in _SOURCES
    for column in (
        (source, Feature(f"{source.name}_missing", "1 where not known", 0.0, 0.0, 1.0)) if source.mask else (source,)
    )
)
FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)
_COLUMN: Final = {name: column for column, name in enumerate(FEATURE_NAMES)}
_POOLED: Final = {
    "mean_last": "last",
    "mean_pantry": "pantry",
    "mean_forecast": "forecast",
    "mean_cost": "cost",
    "mean_deal": "deal_now",
    "mean_suggestion": "suggestion",
    "mean_payback": "payback",
}
_MASKED: Final = np.array([column for column, feature in enumerate(FEATURES) if feature.mask])
_MASKS: Final = _MASKED + 1
_FILL: Final = np.array([feature.fill for feature in FEATURES])
_LOW: Final = np.array([feature.low for feature in FEATURES])
_HIGH: Final = np.array([feature.high for feature in FEATURES])


@dataclass(frozen=True, slots=True)
class PriceTrail:
    """Exponential means of an item's past log prices x = log(price / regular reference), (..., n)."""

    last: Float  # log price over the reference of its day, last week
    fast: Float  # decay 0.5
    slow: Float  # decay 0.8
    weeks_since_change: Float  # weeks in which the multiplier stayed

    def week(self, x: Float, multiplier: Float) -> "PriceTrail":
        """The trail after a week at log prices `x` and log multipliers `multiplier` (NaN: not known)."""
        known = np.isfinite(x) & np.isfinite(multiplier)
        fast, slow = DECAYS
        stayed = np.abs(multiplier - self.last) < 1e-9
        return PriceTrail(
            np.where(known, multiplier, self.last),
            np.where(known, fast * self.fast + (1.0 - fast) * x, self.fast),
            np.where(known, slow * self.slow + (1.0 - slow) * x, self.slow),
            np.where(known & ~stayed, 0.0, self.weeks_since_change + 1.0),
        )


def no_trail(shape: tuple[int, ...]) -> PriceTrail:
    """The trail of items that always stood at their reference price."""
    return PriceTrail(*(np.zeros(shape) for _ in range(4)))


@dataclass(frozen=True, slots=True)
class ObservationInputs:
    """Everything a feature is made of. (..., n) unless said; NaN: not known."""

    model: DemandModel
    trail: PriceTrail
    residual: Float  # last week's log residual
    forecast: Float  # log demand shift of the coming week
    pantry: Float
    cost_base: Float  # unit cost when the reference price was approved, currency units
    horizon: Outlook  # (≥ 3, ..., n): this week and the two after it
    bounds: Bounds
    suggestion: Float  # optimiser.long_run
    look_ahead: Float  # optimiser.look_ahead
    slots: Float  # (...) label changes left


def build(inputs: ObservationInputs) -> NDArray[np.float32]:
    """The observation, float32 (..., n, len(FEATURES)): finite, within every feature's range."""
    model, horizon, trail = inputs.model, inputs.horizon, inputs.trail
    now = horizon.week(0)
    items = model.items
    price = model.price * np.exp(now.reference)
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not known becomes NaN here and a fill below
        cost = np.log(now.cost / inputs.cost_base)
        margin = 1.0 - now.cost / price
        share = np.log(items * model.share)
        remaining = (1.0 - model.decay)[..., None]
        payback_sd = model.carry_sd / remaining
    back = payback(model)
    columns: dict[str, Float] = {
        "last": trail.last,
        "mean_fast": trail.fast,
        "mean_slow": trail.slow,
        "weeks_since_change": np.log1p(np.minimum(trail.weeks_since_change, 13.0)),
        "residual": inputs.residual,
        "forecast": inputs.forecast,
        "pantry": inputs.pantry,
        "cost": cost,
        "margin": margin,
        "deal_now": now.reference,
        "deal_next": horizon.reference[1],
        "deal_after": horizon.reference[2],
        "feature_now": now.feature,
        "elasticity": own_elasticity(model),
        "elasticity_sd": model.elasticity_sd,
        "payback": back,
        "payback_sd": payback_sd,
        "share": share,
        "suggestion": inputs.suggestion,
        "look_ahead": inputs.look_ahead,
        "low": inputs.bounds.low,
        "high": inputs.bounds.high,
        "category_elasticity": category_elasticity(model)[..., None],
        "decay": model.decay[..., None],
        "basket": model.basket[..., None],
        "index_room": (inputs.bounds.cap - np.sum(inputs.bounds.weight * inputs.bounds.hold, axis=-1))[..., None],
        "slots": np.minimum(inputs.slots / items, 1.0)[..., None],
        "items": np.log(np.asarray(float(items)))[None],
    }
    shape = np.broadcast_shapes(model.price.shape, now.cost.shape, trail.last.shape)
    pooled = _pooled([columns[name] for name in _POOLED.values()], model.share, shape)
    columns |= dict(zip(_POOLED, pooled, strict=True))
    # Feature by feature in memory, which is how it is filled; the rows that a policy reads are made once, at the end.
    table = np.empty((len(FEATURES), *shape))
    for name, values in columns.items():
        table[_COLUMN[name]] = values
    table[_MASKS] = 0.0
    known = np.isfinite(table)
    table[_MASKS] = ~known[_MASKED]
    fill, low, high = (edge.reshape((-1,) + (1,) * len(shape)) for edge in (_FILL, _LOW, _HIGH))
    np.copyto(table, fill, where=~known)
    np.clip(table, low, high, out=table)
    return np.moveaxis(table, 0, -1).astype(np.float32, order="C")


def _pooled(values: list[Float], share: Float, shape: tuple[int, ...]) -> Float:
    """Share-weighted means of what is known, (len(values), ..., 1); NaN where nothing is."""
    stack = np.empty((len(values), *shape))
    for row, value in enumerate(values):
        stack[row] = value
    known = np.isfinite(stack)
    mass = known * share
    total = np.sum(mass, axis=-1, keepdims=True)
    mean = np.sum(mass * np.where(known, stack, 0.0), axis=-1, keepdims=True)
    return np.where(total > 0, mean / np.where(total > 0, total, 1.0), np.nan)


__all__ = [
    "FEATURES",
    "FEATURE_NAMES",
    "OBSERVATION_VERSION",
    "Feature",
    "ObservationInputs",
    "PriceTrail",
    "build",
    "no_trail",
]
