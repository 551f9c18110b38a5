"""The first layer: identifiers are removed, by a list of what may stay.

Two doors, nothing else leads out of the shop:

- `contribution` takes of a receipt its business week, and of each line that was sold the price beside the public list
  price, by category or by item. Lane, till, position, clock, currency, quantity and amount stay behind.
- `clear` lets a payload pass whose type and every field stand on `ALLOWED`, and whose categories and items stand on
  the public list: no text of a till, a lane, a receipt or a customer has a field to hide in. A new field of a record is
  refused here until somebody puts it on the list.

The shop itself appears only as the feed that the payload will stand in. "Public" is what hangs at the shelf: names of
categories and items, and the regular (list) price; `PublicList` holds just that.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Final, TypeVar

from edge.errors import LocalError
from edge.privacy.rules import PrivacyRefused
from edge.records.history import week_of
from edge.records.market import MarketTrend, PricePoint, PriceRange
from edge.records.receipt import Receipt
from edge.records.shared import (
    Coefficient,
    DayRow,
    InsightRow,
    ItemDay,
    ModelInsight,
    Payload,
    PriceRow,
    PriceUpdate,
    Protection,
    RangeRow,
    RangeUpdate,
    TrendRow,
    TrendUpdate,
)

P = TypeVar("P", bound=Payload)
CATEGORY_SKU: Final = ""  # in place of a SKU: the category as a whole

ALLOWED: Final[Mapping[type, frozenset[str]]] = {
    ItemDay: frozenset({"day", "category", "currency", "rows"}),
    DayRow: frozenset({"sku", "price_minor", "units_milli", "amount_minor"}),
    PriceUpdate: frozenset({"category", "week", "currency", "rows"}),
    PriceRow: frozenset({"sku", "point", "reference_minor", "units_milli"}),
    PricePoint: frozenset({"timestamp", "price_range", "success_metric", "confidence"}),
    PriceRange: frozenset({"min", "max"}),
    RangeUpdate: frozenset({"category", "week", "weeks", "currency", "rows", "protection"}),
    RangeRow: frozenset({"sku", "range", "log_mean", "log_spread"}),
    TrendUpdate: frozenset({"category", "week", "rows", "protection"}),
    TrendRow: frozenset({"sku", "trend", "trend_error", "volatility_error", "season_error"}),
    MarketTrend: frozenset({"period", "trend", "volatility", "seasonality"}),
    ModelInsight: frozenset({"category", "week", "rows", "protection"}),
    InsightRow: frozenset({"sku", "weeks", "coefficients"}),
    Coefficient: frozenset({"mean", "error"}),
    Protection: frozenset({"unit", "epsilon_micro", "delta_pico", "deviation", "shops", "owners"}),
}


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What a figure is about: an item of a category, or the category itself (SKU "")."""

    category: str
    sku: str = CATEGORY_SKU


@dataclass(frozen=True, slots=True)
class Listed:
    """An item as everybody may read it at the shelf."""

    sku: str
    category: str
    list_minor: int  # the regular price; not a promotion's


class PublicList:
    """The shop's public list: which items there are, in which category, at which regular price. Immutable."""

    def __init__(self, currency: str, items: Iterable[Listed]) -> None:
        self.currency = currency
        self.items: Mapping[str, Listed] = {item.sku: item for item in items}
        if any(item.list_minor <= 0 for item in self.items.values()):
            raise LocalError("a list price is positive")
        by_category: dict[str, list[int]] = {}
        for item in self.items.values():
            by_category.setdefault(item.category, []).append(item.list_minor)
        # Of a category: the middle list price, so that its ratios can be shown in money.
        self.categories: Mapping[str, int] = {
            category: sorted(prices)[len(prices) // 2] for category, prices in by_category.items()
        }

    def cells(self, item_level: bool) -> dict[Cell, int]:
        """Every cell that a release speaks of, with its public list price: given by the list, never by what sold."""
        found = {Cell(category): price for category, price in self.categories.items()}
        if item_level:
            found.update((Cell(item.category, item.sku), item.list_minor) for item in self.items.values())
        return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class PricePaid:
    """One line without anything that points to who or where: a cell, the shelf price and the public list price."""

    cell: Cell
    price_minor: int
    list_minor: int


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one receipt may say: its business week and the prices in it, in the receipt's order."""

    week: int
    lines: tuple[PricePaid, ...]


def contribution(receipt: Receipt, listed: PublicList, item_level: bool) -> Contribution | None:
    """What is left of `receipt`; None where it says nothing (nothing sold, nothing listed, another currency).

    Returned lines and lines without a price are left out. With `item_level` a line speaks of its item and its category.
    """
    if not receipt.counts or receipt.currency != listed.currency:
        return None
    lines: list[PricePaid] = []
    for line in receipt.lines:
        item = listed.items.get(line.sku)
        if item is None or line.quantity_milli <= 0 or line.unit_minor <= 0:
            continue
        if item_level:
            lines.append(PricePaid(Cell(item.category, item.sku), line.unit_minor, item.list_minor))
        lines.append(PricePaid(Cell(item.category), line.unit_minor, item.list_minor))
    return Contribution(week_of(receipt.business_day), tuple(lines)) if lines else None


def clear(payload: P, listed: PublicList, item_level: bool) -> P:
    """`payload` as it may pass: with categories alone where `item_level` is false.

    Raises `PrivacyRefused`: `identifier` for a type or field that is not on the list, `unlisted` for a category or an
    item that the public list does not know, `item` where only items would have been left to say.
    """
    if not isinstance(payload, Payload):
        raise PrivacyRefused(f"{type(payload).__name__} is nothing to send", reason="identifier")
    _check(payload, type(payload).__name__)
    if payload.category not in listed.categories:
        raise PrivacyRefused(f"category {payload.category[:20]!r} is not on the public list", reason="unlisted")
    for row in payload.rows:
        item = listed.items.get(row.sku)
        if row.sku and (item is None or item.category != payload.category):
            raise PrivacyRefused(f"item {row.sku[:20]!r} is not on the public list", reason="unlisted")
    if item_level:
        return payload
    rows = tuple(row for row in payload.rows if row.sku == CATEGORY_SKU)
    if not rows:
        raise PrivacyRefused(f"{type(payload).__name__} names items, and only categories may pass", reason="item")
    return dataclasses.replace(payload, rows=rows)  # type: ignore[arg-type]  # rows of its own type


def _check(value: object, where: str) -> None:
    """Walk every field; a value is a listed record, a tuple of such, or a plain number, text or day."""
    if isinstance(value, tuple):
        for member in value:
            _check(member, where)
        return
    if dataclasses.is_dataclass(value):
        allowed = ALLOWED.get(type(value))
        if allowed is None:
            raise PrivacyRefused(f"{where}: {type(value).__name__} may not leave the shop", reason="identifier")
        for field in dataclasses.fields(value):
            if field.name not in allowed:
                raise PrivacyRefused(f"{where}.{field.name} may not leave the shop", reason="identifier")
            _check(getattr(value, field.name), f"{where}.{field.name}")
        return
    if not isinstance(value, Enum) and type(value) not in (int, float, str, date):
        raise PrivacyRefused(f"{where} holds a {type(value).__name__}", reason="identifier")
