"""The guard's rules stated again, one item at a time in plain Python, and random catalogues to try the guard on.

Nothing here is shared with `edge.agent.guard` but the input and result types: what the guard computes with interval
arithmetic over arrays is checked here by conditions on each published price. `breaches` lists what is broken.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge.agent.guard import GuardInputs, GuardResult, Ladders
from edge.agent.rules import GuardRules
from edge.limits import PRICE_MINOR_MAX

TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Lane:
    """One item's limits, in whole minor units."""

    hard: tuple[int, int]
    soft: tuple[int, int]
    base: int
    moved: bool


def has_ending(price: int, endings: tuple[int, ...]) -> bool:
    if not endings:
        return True
    digits = 100 if max(endings) > 9 else 10
    return price % digits in {ending % digits for ending in endings}


def nearest_with_ending(wanted: int, low: int, high: int, endings: tuple[int, ...]) -> int:
    """By looking at every price around `wanted`."""
    around = range(max(low, wanted - 100), min(high, wanted + 100) + 1)
    fitting = [price for price in around if has_ending(price, endings)]
    if not fitting:
        return wanted
    below = max((price for price in fitting if price <= wanted), default=0)
    above = min((price for price in fitting if price >= wanted), default=0)
    if not below or not above:
        return below or above
    return below if wanted * wanted <= below * above else above  # nearer in log, in exact integers


def meet(limits: tuple[int, int], low: int, high: int) -> tuple[int, int]:
    """`limits` narrowed to low..high, or the one price of `limits` nearest to it: the earlier limit is the stronger."""
    if low > limits[1]:
        return limits[1], limits[1]
    if high < limits[0]:
        return limits[0], limits[0]
    return max(limits[0], low), min(limits[1], high)


def within(centre: int, width: float) -> tuple[int, int]:
    return max(1, math.ceil(centre * math.exp(-width) - TINY)), math.floor(centre * math.exp(width) + TINY)


def lane_of(
    rules: GuardRules,
    *,
    opening: bool,
    reference: int,
    previous: int,
    before: int,
    cost: float,
    floor: int,
    ceiling: int,
) -> Lane | None:
    """The limits of one item, or None where they cannot be computed."""
    if not 1 <= reference <= PRICE_MINOR_MAX or not math.isfinite(cost) or cost < 0:
        return None
    at_least = max(1, math.ceil(cost * (1 + rules.margin_min) - TINY))
    if at_least > PRICE_MINOR_MAX:
        return None
    hard = (at_least, PRICE_MINOR_MAX)
    if ceiling >= 1:
        hard = meet(hard, 1, ceiling)
    if floor >= 1:
        hard = meet(hard, floor, PRICE_MINOR_MAX)
    hard = meet(hard, *within(reference, rules.band))
    published = 1 <= previous <= PRICE_MINOR_MAX
    moved = published and before >= 1 and before != reference
    if moved:
        anchor = round(min(max(reference * (previous / before), 1), PRICE_MINOR_MAX))
    else:
        anchor = previous if published else reference
    soft = meet(hard, *within(anchor, rules.step))
    base = min(max(anchor, soft[0]), soft[1])
    if base not in (previous, reference):
        base = nearest_with_ending(base, *soft, rules.endings)
    if published and not opening:
        soft = min(soft[0], previous), min(soft[1], previous)
        base = min(base, previous)
    return Lane(hard, soft, base, moved)


def breaches(
    asked: NDArray[np.float64],
    inputs: GuardInputs,
    rules: GuardRules,
    gain: NDArray[np.float64] | None,
    result: GuardResult,
) -> list[str]:
    """What a category's published prices break; arrays of one category, (n,)."""
    found: list[str] = []
    opening, slots = bool(inputs.at_opening), int(inputs.slots)
    columns = zip(
        inputs.reference.tolist(), inputs.previous.tolist(), inputs.previous_reference.tolist(), inputs.cost.tolist(),
        inputs.floor.tolist(), inputs.ceiling.tolist(), strict=True,
    )  # fmt: skip
    names = ("reference", "previous", "before", "cost", "floor", "ceiling")
    lanes = [lane_of(rules, opening=opening, **dict(zip(names, row, strict=True))) for row in columns]
    prices: list[int] = result.price.tolist()
    references: list[int] = inputs.reference.tolist()
    previous: list[int] = inputs.previous.tolist()
    weights = [
        weight if lane is not None and math.isfinite(weight) and weight > 0 else 0.0
        for weight, lane in zip(inputs.weight.tolist(), lanes, strict=True)
    ]
    if not any(weights):
        weights = [0.0 if lane is None else 1.0 for lane in lanes]
    whole = sum(weights) or 1.0
    index = base_index = forced = 0.0
    for weight, lane, price, reference in zip(weights, lanes, prices, references, strict=True):
        if lane is not None:
            index += weight / whole * math.log(price / reference) if price >= 1 else math.inf
            base_index += weight / whole * math.log(lane.base / reference)
            forced += weight / whole * max(0.0, math.log(lane.hard[0] / reference))
    cap = max(rules.index_cap, forced)
    if index > cap + 1e-8:
        found.append(f"index: {index} passes {cap}")
    base_too_high = base_index > cap  # the one case in which items may be moved without being asked
    must = changes = 0
    for i, (lane, price) in enumerate(zip(lanes, prices, strict=True)):
        name = f"item {i} at {price}"
        published = 1 <= previous[i] <= PRICE_MINOR_MAX
        if lane is None:
            fallback = previous[i] if published else (min(references[i], PRICE_MINOR_MAX) if references[i] >= 1 else 0)
            if price != fallback:
                found.append(f"input: {name}, without usable limits the last price {fallback} is held")
            continue
        must += published and lane.base != previous[i]
        changes += published and price != previous[i]
        home = min(max(references[i], lane.hard[0]), lane.hard[1])
        sent_home = base_too_high and price == min(home, price)
        if published and not opening and price > previous[i]:
            found.append(f"opening: {name}, a rise from {previous[i]} before the shop opens")
        if not (lane.hard[0] <= price <= lane.hard[1]) and not (published and not opening and price <= previous[i]):
            found.append(f"hard: {name} is outside {lane.hard}")
        if price == lane.base:
            continue
        if sent_home and price == home:
            continue
        if not lane.soft[0] <= price <= lane.soft[1]:
            found.append(f"step: {name} is outside {lane.soft}")
        if not abs(asked[i]) <= rules.asked_max:
            found.append(f"finite: {name} though asked for {asked[i]}")
        if published and not lane.moved and inputs.days_since_change[i] < rules.dwell_days:
            found.append(f"dwell: {name} after {inputs.days_since_change[i]} days")
        if gain is not None and not gain[i] > rules.menu_cost_minor:
            found.append(f"menu cost: {name} for a gain of {gain[i]}")
        if not has_ending(price, rules.endings) and price != references[i]:
            around = range(max(lane.soft[0], price - 100), min(lane.soft[1], price + 100) + 1)
            if any(has_ending(other, rules.endings) for other in around):
                found.append(f"ending: {name}, allowed {rules.endings} in {lane.soft}")
    if changes > max(slots, must) and not base_too_high:
        found.append(f"slots: {changes} labels change, {slots} are left and {must} must")
    pairs = inputs.ladders
    for small, large, low, high in zip(
        pairs.small.tolist(), pairs.large.tolist(), pairs.small_size.tolist(), pairs.large_size.tolist(), strict=True
    ):
        a, b = prices[small], prices[large]
        if a >= 1 and b >= 1 and (b < a or b * low > a * high * (1 + TINY)) and not base_too_high:
            for i in (small, large):
                lane = lanes[i]
                if lane is not None and prices[i] != lane.base:
                    found.append(f"ladder: item {i} moved to {prices[i]} across the pair {small}, {large}")
    return found


def random_rules(rng: np.random.Generator) -> GuardRules:
    endings: tuple[tuple[int, ...], ...] = ((), (9,), (5, 9), (0, 5), (99, 49), (95,))
    return GuardRules(
        band=float(rng.choice([0.0, 0.03, 0.10, 0.25])),
        step=float(rng.choice([0.0, 0.02, 0.05, 0.10, 0.4])),
        margin_min=float(rng.choice([0.0, 0.02, 0.2])),
        index_cap=float(rng.choice([0.0, 0.002, 0.005])),
        dwell_days=int(rng.choice([0, 1, 6])),
        endings=endings[int(rng.integers(len(endings)))],
        menu_cost_minor=float(rng.choice([0.0, 25.0])),
    )


def random_inputs(rng: np.random.Generator, shape: tuple[int, int]) -> GuardInputs:
    """Catalogues of `shape` (shops, items): thin and negative margins, contradicting limits, unusable numbers."""
    reference = np.rint(np.exp(rng.uniform(np.log(3), np.log(60_000), shape))).astype(np.int64)
    margin = np.where(rng.random(shape) < 0.07, rng.uniform(-0.3, 0.10, shape), rng.uniform(0.10, 0.6, shape))
    cost = reference * (1 - margin)
    before = np.where(
        rng.random(shape) < 0.8, reference, np.rint(reference * rng.uniform(0.7, 1.3, shape)).astype(np.int64)
    )
    before = np.maximum(before, 1)
    drift = np.where(rng.random(shape) < 0.9, rng.uniform(-0.12, 0.12, shape), rng.uniform(-1, 1, shape))
    previous = np.maximum(np.rint(before * np.exp(drift * (rng.random(shape) < 0.7))).astype(np.int64), 1)
    previous = np.where(rng.random(shape) < 0.05, 0, previous)
    floor = np.where(rng.random(shape) < 0.1, np.rint(reference * rng.uniform(0.6, 1.2, shape)), 0).astype(np.int64)
    ceiling = np.where(rng.random(shape) < 0.1, np.rint(reference * rng.uniform(0.8, 1.3, shape)), 0).astype(np.int64)
    ceiling = np.where((ceiling > 0) & (floor > ceiling) & (rng.random(shape) < 0.9), floor, ceiling)
    bad = rng.random(shape) < 0.01
    cost = np.where(bad, rng.choice([np.nan, np.inf, -np.inf, -1.0, 1e30, 1e9], shape), cost)
    reference = np.where(rng.random(shape) < 0.003, rng.choice([0, -5, PRICE_MINOR_MAX + 1], shape), reference)
    weight = np.where(
        rng.random(shape) < 0.02, rng.choice([0.0, np.nan, np.inf, -1.0], shape), rng.gamma(1.0, 1.0, shape)
    )
    items = shape[1]
    count = items // 3
    small = rng.permutation(items)[:count]
    large = np.array([(s + 1) % items for s in small], dtype=np.int64)
    small_size = rng.uniform(1, 4, count)
    return GuardInputs(
        reference=reference,
        previous=previous,
        previous_reference=before,
        cost=cost,
        floor=floor,
        ceiling=ceiling,
        days_since_change=rng.integers(0, 14, shape),
        weight=weight,
        slots=rng.integers(0, items + 3, shape[0]),
        at_opening=rng.random(shape[0]) < 0.85,
        ladders=Ladders(small.astype(np.int64), large, small_size, small_size * rng.uniform(1.01, 3, count)),
    )


def random_asks(rng: np.random.Generator, shape: tuple[int, int], turn: int) -> NDArray[np.float64]:
    """Sane, wild, saturated, alternating and non-finite multipliers."""
    kind = rng.random(shape)
    asked = np.where(kind < 0.45, rng.normal(0, 0.08, shape), rng.uniform(-0.4, 0.4, shape))
    asked = np.where((kind > 0.75) & (kind < 0.85), (-1.0) ** turn * 0.1, asked)
    wild = rng.choice([np.nan, np.inf, -np.inf, 1e30, -1e30, 1e308, 5.0, -5.0, 1.0, -1.0, 0.0, -0.0], shape)
    return np.where(kind > 0.9, wild, asked)


def random_gains(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    if rng.random() < 0.3:
        return None
    gain = rng.normal(60, 120, shape)
    return np.where(rng.random(shape) < 0.03, rng.choice([np.nan, np.inf, -np.inf], shape), gain)


def shop(inputs: GuardInputs, result: GuardResult, index: int) -> tuple[GuardInputs, GuardResult]:
    """Shop `index` of a batch."""
    names = [name for name in GuardInputs.__dataclass_fields__ if name != "ladders"]
    one = replace(inputs, **{name: getattr(inputs, name)[index] for name in names})
    fields = (getattr(result, name)[index] for name in GuardResult.__dataclass_fields__)
    return one, GuardResult(*fields)


def days(inputs: GuardInputs, result: GuardResult, rng: np.random.Generator) -> GuardInputs:
    """The next turn: what was published is the last price, some references move, cost drifts."""
    shape = inputs.reference.shape
    moves = (rng.random(shape) < 0.15) & (inputs.reference >= 1)
    reference = np.where(
        moves,
        np.maximum(np.rint(inputs.reference * rng.uniform(0.75, 1.3, shape)).astype(np.int64), 1),
        inputs.reference,
    )
    return replace(
        inputs,
        reference=reference,
        previous=result.price,
        previous_reference=np.maximum(inputs.reference, 0),
        cost=inputs.cost * np.exp(rng.normal(0, 0.03, shape)),
        days_since_change=np.where(result.changed, 0, inputs.days_since_change + int(rng.integers(1, 8))),
        slots=rng.integers(0, shape[1] + 3, shape[0]),
        at_opening=np.asarray(rng.random(shape[0]) < 0.85),
    )


Try = tuple[NDArray[np.float64], GuardInputs, GuardRules, NDArray[np.float64] | None]


def tries(rng: np.random.Generator, shape: tuple[int, int], turns: int) -> Iterator[tuple[Try, list[GuardResult]]]:
    """Turns of random shops under one set of rules; the caller puts the guard's result into the list it is given."""
    rules, inputs = random_rules(rng), random_inputs(rng, shape)
    for turn in range(turns):
        box: list[GuardResult] = []
        yield (random_asks(rng, shape, turn), inputs, rules, random_gains(rng, shape)), box
        inputs = days(inputs, box[0], rng)
