"""The guard: from the multiplier a policy asked for to a price that may be published, whatever the policy is.

For each item `corridor` intersects the limits as intervals of integer prices, strongest first (`rules`); an interval
that misses what is left collapses it to the nearest point, which is how a stronger limit wins. The *base* is what is
published if nothing is asked: the last published price, or where the owner moved the reference the same multiplier on
the new one, put into the corridor. A policy's wish becomes a *target* in the corridor, and every further rule can only
take changes back (target → base): that makes them easy to combine and sure to end. One rule may act on the base too:
the price index is the law's, so where even the base passes the cap, items above their reference go back to it.

Invariants, checked by an independent re-statement in tests/edge/agent/support_guard.py: every price is an integer in
its corridor's hard limits; the index is at most the cap, or what cost floors and owners' floors alone force; every
rule but the cost floor treats a cut as a rise mirrored in log space, or more freely. Nothing here sees rivals.

Pure numpy, batch dims `...` first, items `n` last; prices are int64 minor units. Logs are natural.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.agent.endings import allowed, nearest, one_lower
from edge.agent.optimiser import project as project_index
from edge.agent.rules import ALARMS, GuardRules, Rule
from edge.limits import PRICE_MINOR_MAX
from edge.records.item import Item

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

_ROUNDS = 6  # of ladder and index; each takes back at least one change, what is left after them is taken back whole
_EPS = 1e-9  # log; limits are met up to this


@dataclass(frozen=True, slots=True)
class Ladders:
    """Pairs of neighbouring sizes within families of one product; (k,) positions in the category, and their sizes."""

    small: Int
    large: Int
    small_size: Float
    large_size: Float


NO_LADDERS = Ladders(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


def ladders(items: Sequence[Item]) -> Ladders:
    """The pairs of `items`, in their order. Sizes that are equal bind nothing."""
    families: dict[str, dict[float, list[int]]] = {}
    for position, item in enumerate(items):
        if item.ladder is not None and item.size is not None:
            families.setdefault(item.ladder, {}).setdefault(item.size, []).append(position)
    pairs = [
        (small, large, low, high)
        for family in families.values()
        for low, high in zip(sorted(family), sorted(family)[1:], strict=False)
        for small in family[low]
        for large in family[high]
    ]
    if not pairs:
        return NO_LADDERS
    small, large, low, high = zip(*pairs, strict=True)
    return Ladders(np.array(small, np.int64), np.array(large, np.int64), np.array(low), np.array(high))


@dataclass(frozen=True, slots=True)
class GuardInputs:
    """What the guard knows of a category today. (..., n) unless said; prices int64 minor units, 0 means none."""

    reference: Int  # approved reference price of today, promotions included
    previous: Int  # last published price
    previous_reference: Int  # the reference in force when `previous` was published
    cost: Float  # unit cost, minor units
    floor: Int  # the owner's floor
    ceiling: Int  # the owner's ceiling
    days_since_change: Int  # business days since the label last changed; large where it never did
    weight: Float  # revenue weights of the price index, any positive scale
    slots: Int  # (...) label changes left today
    at_opening: Bool  # (...) whether what is decided takes effect at an opening; rises only then
    ladders: Ladders = NO_LADDERS


@dataclass(frozen=True, slots=True)
class Corridor:
    """Where each price may lie. Int64 minor units, (..., n); `hard` limits hold for every published price."""

    cost_floor: Float
    band_low: Int
    band_high: Int
    hard_low: Int
    hard_high: Int
    low: Int  # hard limits, step and opening together: where a target may lie
    high: Int
    base: Int
    valid: Bool  # False: nothing can be computed; the last price is held
    frozen: Bool  # dwell: only the base may be published
    weight: Float  # normalised over the valid items
    cap: Float  # (...) the index cap, or what floors alone force
    flags: NDArray[np.int32]  # CONFLICT, INPUT, MOVED


@dataclass(frozen=True, slots=True)
class Bounds:
    """The corridor in logs of the reference of the day, for optimisers: low ≤ m ≤ high, Σ weight m ≤ cap."""

    low: Float
    high: Float
    hold: Float  # multiplier of the base
    weight: Float
    cap: Float  # (...)


@dataclass(frozen=True, slots=True)
class GuardResult:
    """The prices to publish. (..., n) unless said."""

    price: Int  # minor units; 0 only where an item has neither a usable reference nor a published price
    log_multiplier: Float  # log(price / reference of the day); 0 where invalid
    rules: NDArray[np.int32]  # mask of `Rule`
    changed: Bool  # differs from the last published price
    index: Float  # (...) revenue-weighted mean log(price / reference)

    @property
    def alarm(self) -> Bool:
        """Whether a person should look: unusable input, a policy out of its senses, contradicting limits."""
        return np.asarray((self.rules & int(ALARMS)) != 0)


def corridor(inputs: GuardInputs, rules: GuardRules) -> Corridor:
    """Intersect the limits in the order of precedence and put the base into what is left."""
    cost_floor = np.ceil(inputs.cost * (1.0 + rules.margin_min) - _EPS)
    valid = (
        (inputs.reference >= 1)
        & (inputs.reference <= PRICE_MINOR_MAX)
        & np.isfinite(inputs.cost)
        & (inputs.cost >= 0)
        & (cost_floor <= PRICE_MINOR_MAX)
    )
    reference = np.where(valid, inputs.reference, 1)
    published = (inputs.previous >= 1) & (inputs.previous <= PRICE_MINOR_MAX)
    one, top = np.ones_like(reference), np.full_like(reference, PRICE_MINOR_MAX)
    low = np.clip(np.where(valid, cost_floor, 1).astype(np.int64), one, top)
    high = top
    conflict = np.zeros(reference.shape, dtype=np.bool_)
    band_low, band_high = _around(reference, rules.band)
    for rule_low, rule_high in (
        (one, np.where(inputs.ceiling >= 1, inputs.ceiling, top)),
        (np.where(inputs.floor >= 1, inputs.floor, one), top),
        (band_low, band_high),
    ):
        conflict |= (rule_low > high) | (rule_high < low)
        low, high = np.clip(rule_low, low, high), np.clip(rule_high, low, high)
    hard_low, hard_high = low, high
    # The multiplier is what the owner's own moves leave alone, so a step is measured on the reference of today.
    known = published & (inputs.previous_reference >= 1)
    moved = known & (inputs.previous_reference != inputs.reference)
    carried = reference * (inputs.previous / np.where(known, inputs.previous_reference, 1))
    anchor = np.where(
        moved, np.rint(np.clip(carried, 1, PRICE_MINOR_MAX)), np.where(published, inputs.previous, reference)
    )
    anchor = anchor.astype(np.int64)
    step_low, step_high = _around(anchor, rules.step)
    low, high = np.clip(step_low, low, high), np.clip(step_high, low, high)
    base = np.clip(anchor, low, high)
    keeps = (base == inputs.previous) | (base == reference)
    base = np.where(keeps, base, nearest(base.astype(np.float64), low, high, rules.endings))
    waits = published & ~inputs.at_opening[..., None]
    low, high = (
        np.where(waits, np.minimum(low, inputs.previous), low),
        np.where(waits, np.minimum(high, inputs.previous), high),
    )
    base = np.where(waits, np.minimum(base, inputs.previous), base)
    held = np.where(
        published, inputs.previous, np.where(inputs.reference >= 1, np.minimum(inputs.reference, PRICE_MINOR_MAX), 0)
    )
    low, high, base = (np.where(valid, part, held) for part in (low, high, base))
    weight = np.where(valid & np.isfinite(inputs.weight) & (inputs.weight > 0), inputs.weight, 0.0)
    total = np.sum(weight, axis=-1, keepdims=True)
    weight = np.where(total > 0, weight, valid)
    weight = weight / np.maximum(np.sum(weight, axis=-1, keepdims=True), 1e-300)
    forced = np.sum(weight * np.maximum(np.log(np.maximum(hard_low, 1) / reference), 0.0) * valid, axis=-1)
    flags = (
        np.where(valid & conflict, int(Rule.CONFLICT), 0)
        | np.where(valid, 0, int(Rule.INPUT))
        | np.where(valid & published & (base != inputs.previous), int(Rule.MOVED), 0)
    ).astype(np.int32)
    frozen = published & ~moved & (inputs.days_since_change < rules.dwell_days) & (rules.dwell_days > 0)
    return Corridor(
        cost_floor,
        band_low,
        band_high,
        hard_low,
        hard_high,
        low,
        high,
        base,
        valid,
        frozen,
        weight,
        np.maximum(rules.index_cap, forced),
        flags,
    )


def bounds(inputs: GuardInputs, rules: GuardRules) -> Bounds:
    """The limits an optimiser or a policy should plan within; `project` enforces them in any case."""
    return bounds_of(corridor(inputs, rules), inputs.reference)


def bounds_of(lane: Corridor, reference: Int) -> Bounds:
    """`bounds` from a corridor already computed."""
    whole = np.where(lane.valid, np.maximum(reference, 1), 1)
    fixed = lane.frozen | ~lane.valid

    def logs(price: Int) -> Float:
        return np.where(lane.valid, np.log(np.maximum(price, 1) / whole), 0.0)

    hold = logs(lane.base)
    return Bounds(
        low=np.where(fixed, hold, logs(lane.low)),
        high=np.where(fixed, hold, logs(lane.high)),
        hold=hold,
        weight=lane.weight,
        cap=lane.cap,
    )


def project(
    asked: Float, inputs: GuardInputs, rules: GuardRules, *, gain: Float | None = None, lane: Corridor | None = None
) -> GuardResult:
    """Turn asked log multipliers (..., n) on the reference of the day into prices that may be published.

    `gain` (..., n): expected weekly gain of moving each item from its base to what is asked, minor units; the menu
    cost is compared with it and the day's label changes go to the largest. +inf exempts a move (a logged experiment).
    `lane`: the corridor, where the caller already has it.
    """
    if lane is None:
        lane = corridor(inputs, rules)
    reference = np.where(lane.valid, inputs.reference, 1)
    sane = np.abs(asked) <= rules.asked_max  # False for NaN
    wish = np.where(sane & lane.valid, asked, 0.0)
    flags = lane.flags | np.where(sane, 0, int(Rule.FINITE)).astype(np.int32)
    wanted = reference * np.exp(wish)
    flags |= _broken_limits(np.rint(wanted), inputs, lane)
    free = sane & lane.valid & ~lane.frozen
    target, capped, rounded = _target(wish, free, lane, reference, rules)
    flags |= np.where(capped, int(Rule.INDEX), 0) | np.where(rounded, int(Rule.ENDING), 0)
    # An item that may not move only says so where it was asked to.
    changed = (target != lane.base) & free
    stuck = lane.frozen & sane & lane.valid & (np.rint(np.clip(wanted, lane.low, lane.high)) != lane.base)
    flags |= np.where(stuck, int(Rule.DWELL), 0)
    value = lane.weight * np.abs(np.log(np.maximum(target, 1) / np.maximum(lane.base, 1)))
    if gain is not None:
        value = np.where(np.isnan(gain), -np.inf, gain)
        poor = changed & ~(value > rules.menu_cost_minor)
        flags |= np.where(poor, int(Rule.MENU_COST), 0)
        changed &= ~poor
    changed, dropped = _within_slots(changed, value, lane, inputs)
    flags |= np.where(dropped, int(Rule.SLOTS), 0)
    changed, over, crossed = _ladder_and_index(
        changed=changed, target=target, value=value, lane=lane, inputs=inputs, reference=reference
    )
    flags |= np.where(over, int(Rule.INDEX), 0) | np.where(crossed, int(Rule.LADDER), 0)
    price = np.where(changed, target, lane.base)
    price, forced = _index_of_base(price, lane, reference)
    flags |= np.where(forced, int(Rule.INDEX), 0)
    log_multiplier = np.where(lane.valid, np.log(np.maximum(price, 1) / reference), 0.0)
    return GuardResult(
        price=price,
        log_multiplier=log_multiplier,
        rules=flags.astype(np.int32),
        changed=price != inputs.previous,
        index=np.sum(lane.weight * log_multiplier, axis=-1),
    )


def hold(inputs: GuardInputs, rules: GuardRules, *, lane: Corridor | None = None) -> GuardResult:
    """The book if nothing is asked: last prices, the owner's own moves carried out, hard limits and index kept."""
    if lane is None:
        lane = corridor(inputs, rules)
    reference = np.where(lane.valid, inputs.reference, 1)
    price, forced = _index_of_base(lane.base, lane, reference)
    flags = lane.flags | np.where(forced, int(Rule.INDEX), 0)
    log_multiplier = np.where(lane.valid, np.log(np.maximum(price, 1) / reference), 0.0)
    index = np.sum(lane.weight * log_multiplier, axis=-1)
    return GuardResult(price, log_multiplier, flags.astype(np.int32), price != inputs.previous, index)


def _around(centre: Int, width: float) -> tuple[Int, Int]:
    """Integer prices within ±width (log) of `centre`; contains `centre`."""
    low = np.ceil(centre * np.exp(-width) - _EPS).astype(np.int64)
    high = np.floor(centre * np.exp(width) + _EPS).astype(np.int64)
    return np.maximum(low, 1), np.minimum(high, PRICE_MINOR_MAX)


def _broken_limits(wanted: Float, inputs: GuardInputs, lane: Corridor) -> NDArray[np.int32]:
    """Which of an item's own limits the asked price breaks."""
    in_band = (wanted >= lane.band_low) & (wanted <= lane.band_high)
    bound = np.clip(wanted, lane.hard_low, lane.hard_high)
    low, high = bound < lane.low, bound > lane.high
    waits = (inputs.previous >= 1) & ~inputs.at_opening[..., None] & (wanted > inputs.previous)
    mask = (
        np.where(wanted < lane.cost_floor, int(Rule.COST_FLOOR), 0)
        | np.where((inputs.ceiling >= 1) & (wanted > inputs.ceiling), int(Rule.CEILING), 0)
        | np.where((inputs.floor >= 1) & (wanted < inputs.floor), int(Rule.FLOOR), 0)
        | np.where(~in_band, int(Rule.BAND), 0)
        | np.where(waits, int(Rule.OPENING), 0)
        | np.where(low | (high & ~waits), int(Rule.STEP), 0)
    )
    return np.where(lane.valid, mask, 0).astype(np.int32)


def _target(wish: Float, free: Bool, lane: Corridor, reference: Int, rules: GuardRules) -> tuple[Int, Bool, Bool]:
    """(target price, lowered for the index, moved to an ending), each (..., n)."""
    hold = np.log(np.maximum(lane.base, 1) / reference)
    low = np.where(free, np.log(np.maximum(lane.low, 1) / reference), hold)
    high = np.where(free, np.log(np.maximum(lane.high, 1) / reference), hold)
    inside = np.clip(wish, low, high)
    log_target = project_index(inside, low, high, lane.weight, lane.cap)
    capped = free & (log_target < inside - _EPS)
    exact = np.maximum(np.clip(reference * np.exp(log_target), lane.low, lane.high), 1.0)
    target = np.where(free, nearest(exact, lane.low, lane.high, rules.endings, own=reference), lane.base)
    # Rounding to an ending can lift the index again: then the dearest roundings go one ending down.
    excess = np.sum(lane.weight * np.log(np.maximum(target, 1) / reference) * lane.valid, axis=-1) - lane.cap
    if bool(np.any(excess > _EPS)):
        lower = np.where(free & (target > exact), one_lower(target, lane.low, rules.endings), target)
        saved = lane.weight * np.log(np.maximum(target, 1) / np.maximum(lower, 1))
        take = _fewest(saved, -saved, excess)
        target = np.where(take, lower, target)
        capped = capped | take
    rounded = free & (target != np.rint(exact))
    return target, capped, rounded


def _within_slots(changed: Bool, value: Float, lane: Corridor, inputs: GuardInputs) -> tuple[Bool, Bool]:
    """(changes kept, changes dropped): the owner's own moves take their label changes first, then the best ones."""
    taken = np.sum((lane.base != inputs.previous) & lane.valid & (inputs.previous >= 1), axis=-1)
    left = np.maximum(inputs.slots - taken, 0)
    # A change of an item whose label moves anyway costs no further slot.
    needs = changed & (lane.base == inputs.previous)
    if not bool(np.any(np.sum(needs, axis=-1) > left)):
        return changed, np.zeros_like(changed)
    order = np.argsort(np.where(needs, -value, np.inf), axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(order.shape[-1]), order.shape), axis=-1)
    dropped = needs & (rank >= left[..., None])
    return changed & ~dropped, dropped


def _ladder_and_index(
    *, changed: Bool, target: Int, value: Float, lane: Corridor, inputs: GuardInputs, reference: Int
) -> tuple[Bool, Bool, Bool]:
    """(changes kept, taken back for the index, taken back for a ladder)."""
    over, crossed = np.zeros_like(changed), np.zeros_like(changed)
    rise = np.log(np.maximum(target, 1) / np.maximum(lane.base, 1)) * lane.weight
    start = np.log(np.maximum(lane.base, 1) / reference) * lane.valid * lane.weight
    for _ in range(_ROUNDS):
        crossing = _crossing(np.where(changed, target, lane.base), changed, inputs.ladders)
        crossed |= crossing
        changed = changed & ~crossing
        excess = np.sum(start + np.where(changed, rise, 0.0), axis=-1) - lane.cap
        saved = np.where(changed & (rise > 0), rise, 0.0)
        back = _fewest(saved, value / np.maximum(saved, 1e-12), excess)
        over |= back
        changed = changed & ~back
        if not bool(np.any(crossing | back)):
            return changed, over, crossed
    # Still taking turns: hold the whole category rather than argue on.
    crossing = _crossing(np.where(changed, target, lane.base), changed, inputs.ladders)
    excess = np.sum(start + np.where(changed, rise, 0.0), axis=-1) - lane.cap
    unsettled = (np.any(crossing, axis=-1) | (excess > _EPS))[..., None] & changed
    return changed & ~unsettled, over | unsettled, crossed


def _crossing(price: Int, changed: Bool, pairs: Ladders) -> Bool:
    """Changed items in a pair of sizes that is out of order."""
    marked = np.zeros_like(changed)
    if len(pairs.small) == 0:
        return marked
    small, large = price[..., pairs.small], price[..., pairs.large]
    unordered = (small > 0) & (large > 0)
    unordered &= (large < small) | (large * pairs.small_size > small * pairs.large_size * (1.0 + _EPS))
    for pair in np.flatnonzero(np.any(unordered.reshape(-1, len(pairs.small)), axis=0)):
        for item in (pairs.small[pair], pairs.large[pair]):
            marked[..., item] |= unordered[..., pair]
    return marked & changed


def _index_of_base(price: Int, lane: Corridor, reference: Int) -> tuple[Int, Bool]:
    """Where what is left still passes the cap (weights or a reference moved), return items to their reference."""
    contribution = lane.weight * np.log(np.maximum(price, 1) / reference) * lane.valid
    excess = np.sum(contribution, axis=-1) - lane.cap
    if not bool(np.any(excess > _EPS)):
        return price, np.zeros(price.shape, dtype=np.bool_)
    home = np.minimum(np.clip(reference, lane.hard_low, lane.hard_high), price)
    saved = np.where(lane.valid, lane.weight * np.log(np.maximum(price, 1) / np.maximum(home, 1)), 0.0)
    back = _fewest(saved, -saved, excess)
    return np.where(back, home, price), back


def _fewest(saved: Float, order_by: Float, excess: Float) -> Bool:
    """Items, smallest `order_by` first, whose `saved` (≥ 0) together cover a positive `excess` (...)."""
    if not bool(np.any(excess > _EPS)):
        return np.zeros(saved.shape, dtype=np.bool_)
    excess = np.where(excess > _EPS, excess, 0.0)
    usable = saved > 0
    order = np.argsort(np.where(usable, order_by, np.inf), axis=-1, kind="stable")
    sorted_saved = np.take_along_axis(np.where(usable, saved, 0.0), order, axis=-1)
    before = np.cumsum(sorted_saved, axis=-1) - sorted_saved
    needed = np.zeros(saved.shape, dtype=np.bool_)
    np.put_along_axis(needed, order, before < excess[..., None], axis=-1)
    return needed & usable


__all__ = [
    "NO_LADDERS",
    "Bounds",
    "Corridor",
    "GuardInputs",
    "GuardResult",
    "GuardRules",
    "Ladders",
    "Rule",
    "allowed",
    "bounds",
    "bounds_of",
    "corridor",
    "hold",
    "ladders",
    "project",
]
