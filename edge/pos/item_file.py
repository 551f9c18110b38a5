"""The item file: a CSV table (UTF-8, first line names the columns, any order) → `Item`s, exactly and with good errors.

    sku              GTIN-14 or the retailer's own key                                    required
    name, category   text                                                                 required
    reference_price  approved regular price in currency units, e.g. 1.99                  required
    cost             acquisition cost in currency units, to 1/10,000, e.g. 1.2345         required
    floor, ceiling   the owner's own price limits, currency units                         empty: none
    ladder, size     a family of sizes of one product, and this one's size                empty: none
    weighed          1, yes or true: sold by the kilogram                                 empty: no
    promotions       START..END@PRICE[*], several separated by ';', days included, * advertised
                     e.g. 2026-11-23..2026-11-29@1.49*;2026-12-21..2026-12-24@1.79

Prices are converted to minor units without rounding: one that has more decimals than the currency is refused. Errors
name the line and the column.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from edge.errors import RecordInvalid
from edge.limits import ITEMS_MAX
from edge.records.item import Item, Promotion
from edge.records.money import COST_PER_UNIT, minor_per_unit

_REQUIRED: Final = ("sku", "name", "category", "reference_price", "cost")
COLUMNS: Final = (*_REQUIRED, "floor", "ceiling", "ladder", "size", "weighed", "promotions")
_YES: Final = frozenset(("1", "yes", "true", "y"))
_NO: Final = frozenset(("", "0", "no", "false", "n"))
_PROMOTIONS_MAX: Final = 104  # two years of weekly ones


@dataclass(frozen=True, slots=True)
class ItemChanges:
    """What an item file changes: items added or different, and keys that it no longer lists."""

    upserts: tuple[Item, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.upserts or self.removed)


def parse_items(text: str, currency: str) -> list[Item]:
    """The items of a file's `text`, in its order. Raises `RecordInvalid` naming line and column."""
    per_unit = minor_per_unit(currency)
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        places = _places(header)
        items: list[Item] = []
        seen: dict[str, int] = {}
        for cells in reader:
            if not cells or not any(cells):
                continue
            line = reader.line_num
            if len(cells) != len(header):
                raise RecordInvalid(f"line {line}: {len(cells)} cells under {len(header)} columns", reason="malformed")
            item = _item(cells, places, per_unit, line)
            if item.sku in seen:
                raise RecordInvalid(f"line {line}, column sku: {item.sku} is on line {seen[item.sku]} already")
            seen[item.sku] = line
            items.append(item)
            if len(items) > ITEMS_MAX:
                raise RecordInvalid(f"line {line}: more than {ITEMS_MAX} items", reason="too_large")
    except csv.Error as error:
        raise RecordInvalid(f"line {reader.line_num}: {error}", reason="malformed") from None
    return items


def changes(current: Mapping[str, Item], wanted: Iterable[Item]) -> ItemChanges:
    """What turns `current` into exactly the `wanted` items."""
    kept = {item.sku: item for item in wanted}
    upserts = tuple(item for item in kept.values() if current.get(item.sku) != item)
    return ItemChanges(upserts, tuple(sorted(current.keys() - kept.keys())))


def _places(header: list[str]) -> dict[str, int]:
    for name in header:
        if name not in COLUMNS:
            raise RecordInvalid(f"line 1: unknown column {name!r:.40}; known: {', '.join(COLUMNS)}", reason="malformed")
        if header.count(name) > 1:
            raise RecordInvalid(f"line 1: column {name} comes twice", reason="malformed")
    for name in _REQUIRED:
        if name not in header:
            raise RecordInvalid(f"line 1: column {name} is missing", reason="malformed")
    return {name: place for place, name in enumerate(header)}


def _item(cells: list[str], places: Mapping[str, int], per_unit: int, line: int) -> Item:
    def cell(name: str) -> str:
        return cells[places[name]].strip() if name in places else ""

    def exact(name: str, scale: int, *, required: bool = False) -> int | None:
        value = cell(name)
        if not value and not required:
            return None
        try:
            return _scaled(value, scale)
        except RecordInvalid as error:
            raise RecordInvalid(f"line {line}, column {name}: {error}") from None

    weighed = cell("weighed").lower()
    if weighed not in _YES and weighed not in _NO:
        raise RecordInvalid(f"line {line}, column weighed: {weighed!r:.20} is neither yes nor no")
    size = cell("size")
    try:
        try:
            measure = float(size) if size else None
        except ValueError:
            raise RecordInvalid(f"line {line}, column size: {size!r:.20} is not a number") from None
        return Item(
            sku=cell("sku"),
            name=cell("name"),
            category=cell("category"),
            reference_minor=exact("reference_price", per_unit, required=True) or 0,
            cost_e4=exact("cost", COST_PER_UNIT, required=True) or 0,
            floor_minor=exact("floor", per_unit),
            ceiling_minor=exact("ceiling", per_unit),
            ladder=cell("ladder") or None,
            size=measure,
            weighed=weighed in _YES,
            promotions=_promotions(cell("promotions"), per_unit, line),
        )
    except RecordInvalid as error:
        if str(error).startswith("line "):
            raise
        raise RecordInvalid(f"line {line}: {error}") from None


def _promotions(text: str, per_unit: int, line: int) -> tuple[Promotion, ...]:
    if not text:
        return ()
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if len(parts) > _PROMOTIONS_MAX:
        raise RecordInvalid(f"line {line}, column promotions: more than {_PROMOTIONS_MAX}")
    found = []
    for part in parts:
        try:
            days, price = part.removesuffix("*").split("@")
            start, end = days.split("..")
            found.append(
                Promotion(
                    date.fromisoformat(start.strip()),
                    date.fromisoformat(end.strip()),
                    _scaled(price.strip(), per_unit),
                    featured=part.endswith("*"),
                )
            )
        except (ValueError, RecordInvalid) as error:
            raise RecordInvalid(
                f"line {line}, column promotions: {part!r:.40} is not START..END@PRICE[*] ({error})"
            ) from None
    return tuple(found)


def _scaled(text: str, scale: int) -> int:
    """Decimal `text` times `scale`, exactly."""
    try:
        value = Decimal(text) * scale
    except ArithmeticError:
        raise RecordInvalid(f"{text!r:.20} is not a decimal number") from None
    if not value.is_finite() or value != value.to_integral_value():
        raise RecordInvalid(f"{text} has more decimals than 1/{scale} of a currency unit")
    if not -(10**15) < value < 10**15:
        raise RecordInvalid(f"{text} is out of range")
    return int(value)


def format_items(items: Iterable[Item], currency: str) -> str:
    """An item file's text: `parse_items(format_items(items, c), c)` gives the same items."""
    per_unit = minor_per_unit(currency)

    def price(minor: int | None) -> str:
        return "" if minor is None else _decimal(minor, per_unit)

    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for item in items:
        promotions = (f"{p.start}..{p.end}@{price(p.price_minor)}{'*' if p.featured else ''}" for p in item.promotions)
        writer.writerow(
            {
                "sku": item.sku,
                "name": item.name,
                "category": item.category,
                "reference_price": price(item.reference_minor),
                "cost": _decimal(item.cost_e4, COST_PER_UNIT),
                "floor": price(item.floor_minor),
                "ceiling": price(item.ceiling_minor),
                "ladder": item.ladder or "",
                "size": "" if item.size is None else repr(item.size),
                "weighed": "yes" if item.weighed else "",
                "promotions": ";".join(promotions),
            }
        )
    return out.getvalue()


def _decimal(amount: int, scale: int) -> str:
    """`amount` / `scale` as a decimal text, exactly; `scale` is a power of ten."""
    digits = len(str(scale)) - 1
    return str(Decimal(amount).scaleb(-digits))
