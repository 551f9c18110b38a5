"""Requests for decisions about a simulated category."""

from dataclasses import replace
from datetime import date

import numpy as np
from support_history import simulate

from edge.agent.decider import Request
from edge.agent.situation import Published
from edge.clock import ClockQuality, WallTime
from edge.records.decision import Mode
from edge.records.history import week_start
from edge.records.item import Item, Promotion


def request(*, items: int = 11, mode: Mode = Mode.LIVE, seed: int = 0, weeks: int = 60) -> Request:
    history, truth = simulate(seed, items=items, weeks=weeks)
    shelf = tuple(
        Item(
            sku,
            f"Juice {position}",
            "juice",
            round(100 * truth.regular[position]),
            round(7000 * truth.regular[position]),
        )
        for position, sku in enumerate(history.skus)
    )
    reference = np.array([item.reference_minor for item in shelf], dtype=np.int64)
    return Request(
        category="juice",
        items=shelf,
        history=history,
        published=Published(reference, reference, np.full(items, 7, dtype=np.int64)),
        day=week_start(int(history.weeks[-1]) + 1),
        slots=500,
        mode=mode,
        currency="EUR",
        recorded=WallTime(1_790_000_000_000, ClockQuality.FREE),
    )


def with_promotion(asked: Request, item: int, price_minor: int) -> Request:
    promotion = Promotion(asked.day, date.fromordinal(asked.day.toordinal() + 6), price_minor, featured=True)
    shelf = list(asked.items)
    shelf[item] = replace(shelf[item], promotions=(promotion,))
    return replace(asked, items=tuple(shelf))
