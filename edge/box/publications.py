"""What a shop has to say of a day or a week that is over, as payloads for its own company's other shops.

A day: what was sold of each item at each price. A week, once its last day has closed: trends, what own sales say of
demand, and each item's price point. Everything is a function of the box's views; nothing here decides who gets it.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

import numpy as np

from edge.agent.evidence import evidence
from edge.agent.market_analyzer import MarketAnalyzer
from edge.box.shelf import Shelf
from edge.limits import HISTORY_WEEKS_MAX, SHARED_ROWS_MAX
from edge.memory.local import LocalPriceMemory
from edge.records.history import CategoryHistory, week_start
from edge.records.money import minor_per_unit
from edge.records.receipt import MILLI_PER_UNIT
from edge.records.shared import ModelInsight, PriceRow, PriceUpdate, TrendUpdate

logger = logging.getLogger(__name__)
WEEK_DAYS: Final = 7
_STEP: Final = 32  # items asked for between two turns of the loop: some milliseconds of a small box


def categories_of(shelf: Shelf) -> dict[str, str]:
    """SKU → category, of the items on the shelf."""
    return {sku: item.category for sku, item in shelf.items.items()}


def history_of(memory: LocalPriceMemory, category: str, week: int, weeks: int = HISTORY_WEEKS_MAX) -> CategoryHistory:
    """The category's past up to `week`: a copy, so that a worker thread may read it."""
    return memory.history(category, weeks, last_week=week)


async def price_updates(memory: LocalPriceMemory, category: str, week: int) -> list[PriceUpdate]:
    """The price points of the items that sold in `week`; none where nothing did. Runs where the memory lives."""
    history = memory.history(category, 1, last_week=week)
    unit = minor_per_unit(memory.currency)
    rows = []
    for at, sku in enumerate(history.skus):
        if at % _STEP == 0:
            await asyncio.sleep(0)
        point = memory.price_point(sku, week)
        if point is not None:
            reference = history.reference[0, at]
            known = 0 if np.isnan(reference) else round(float(reference) * unit)
            rows.append(PriceRow(sku, point, known, round(float(history.units[0, at]) * MILLI_PER_UNIT)))
    return [PriceUpdate(category, week, memory.currency, part) for part in _parts(rows)]


def trend_update(history: CategoryHistory) -> TrendUpdate | None:
    """Trends of a category and its items at the history's last week; None where too little was seen.

    Milliseconds an item: for a worker thread.
    """
    analyzer = MarketAnalyzer()
    analyzer.take_history(history)
    week = int(history.weeks[-1])
    rows = analyzer.rows(history.category, week)
    return TrendUpdate(history.category, week, rows) if rows else None


def insight(history: CategoryHistory) -> ModelInsight | None:
    """What own sales say of the category's demand; None where they say nothing, or no estimate can be made.

    Tens of milliseconds: for a worker thread.
    """
    try:
        return evidence(history)
    except Exception as error:  # noqa: BLE001 - as the pricer: an estimate that fails must not end what goes on around it
        logger.warning("%s has nothing to tell of its demand: %s", history.category, error)
        return None


def week_is_over(week: int, closed_through: int) -> bool:
    """Whether all business days of `week` are closed; `closed_through` is a date's ordinal."""
    return (week_start(week) + timedelta(days=WEEK_DAYS - 1)).toordinal() <= closed_through


def _parts(rows: Sequence[PriceRow]) -> Iterator[tuple[PriceRow, ...]]:
    for start in range(0, len(rows), SHARED_ROWS_MAX):
        yield tuple(rows[start : start + SHARED_ROWS_MAX])
