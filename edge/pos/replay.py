"""Recorded weekly sales → receipts of one to five lines, seeded. Pure.

Input is a CSV table with the columns `store, week, sku, units, price_cents, unit_cost_cents, deal, feature`: one row a
store, week and item. Week `w` becomes the seven business days from Monday 11 September 1989 + 7 (w − 1) days on
(week 1 of the Dominick's study, whose numbers such files use, began in that week).

Invariants: the quantities of the receipts of a row sum to its `units` exactly, at the row's price; no more than
`messages_max` messages in all, day ends included; equal input and seed give equal receipts.
"""

import csv
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Final

from edge.errors import RecordInvalid
from edge.limits import COST_E4_MAX, PRICE_MINOR_MAX
from edge.pos.till import Transaction
from edge.records.history import week_of, week_start
from edge.records.item import Item, Promotion, check_sku
from edge.records.receipt import MILLI_PER_UNIT, QUANTITY_MILLI_MAX, ReceiptKind, ReceiptLine

COLUMNS: Final = ("store", "week", "sku", "units", "price_cents", "unit_cost_cents", "deal", "feature")
ORIGIN_WEEK: Final = week_of(date(1989, 9, 14)) - 1  # number of week 0 of the file
LINES_MAX: Final = 5
MESSAGES_MAX: Final = 30_000
_DAYS: Final = 7
_WEEK_MAX: Final = 100_000
_UNITS_PER_LINE: Final = 1.5  # how a basket looks where the number of messages allows it
_LINES_PER_RECEIPT: Final = 2.5


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file."""

    store: int
    week: int  # of the file's own count
    sku: str
    units: int
    price_minor: int
    cost_e4: int
    deal: bool
    feature: float  # share of the week in which it was advertised

    @property
    def first_day(self) -> date:
        """The Monday on which the row's week begins."""
        return week_start(ORIGIN_WEEK + self.week)


def read_rows(lines: Iterable[str]) -> list[Row]:
    """The rows of a file's `lines`. Raises `RecordInvalid` naming line and column."""
    reader = csv.reader(lines, strict=True)
    rows: list[Row] = []
    try:
        header = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise RecordInvalid(f"line 1: column {missing[0]} is missing", reason="malformed")
        places = [header.index(name) for name in COLUMNS]
        seen: set[tuple[int, int, str]] = set()
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise RecordInvalid(f"line {reader.line_num}: {len(cells)} cells under {len(header)} columns")
            row = _row([cells[place] for place in places], reader.line_num)
            if (row.store, row.week, row.sku) in seen:
                raise RecordInvalid(
                    f"line {reader.line_num}: store {row.store}, week {row.week}, {row.sku} comes twice"
                )
            seen.add((row.store, row.week, row.sku))
            rows.append(row)
    except csv.Error as error:
        raise RecordInvalid(f"line {reader.line_num}: {error}", reason="malformed") from None
    return rows


def receipts_from_rows(
    rows: Sequence[Row], *, seed: int, messages_max: int = MESSAGES_MAX
) -> dict[int, list[Transaction]]:
    """Per store, what its one till rings, in order of time: receipts, and a day end after each business day.

    Where there are too many weeks for seven day ends each, a week has fewer business days; where units are too many for
    small baskets, lines carry more of them. Raises `RecordInvalid` if `messages_max` cannot hold even that.
    """
    weeks: dict[tuple[int, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.store, row.week, row.sku)):
        weeks.setdefault((row.store, row.week), []).append(row)
    days, counts = _budget(list(weeks.values()), messages_max)
    found: dict[int, list[Transaction]] = {}
    for (key, group), count in zip(weeks.items(), counts, strict=True):
        rng = random.Random(f"{seed}/{key[0]}/{key[1]}")  # a store's week is the same whatever else is replayed
        found.setdefault(key[0], []).extend(_week(group, count, days, rng))
    return found


def items_from_rows(rows: Sequence[Row], category: str) -> list[Item]:
    """The items that such sales belong to: regular price of the last week off deal, last cost, deals as promotions."""
    latest: dict[str, Row] = {}
    regular: dict[str, Row] = {}
    promotions: dict[str, dict[date, Promotion]] = {}
    for row in sorted(rows, key=lambda row: row.week):
        if not row.price_minor:
            continue
        latest[row.sku] = row
        if row.deal:
            monday = row.first_day
            end = monday + timedelta(days=_DAYS - 1)
            promotion = Promotion(monday, end, row.price_minor, featured=row.feature >= 0.5)
            promotions.setdefault(row.sku, {})[monday] = promotion
        else:
            regular[row.sku] = row
    return [
        Item(
            sku,
            sku,
            category,
            regular.get(sku, row).price_minor,
            row.cost_e4,
            promotions=tuple(promotions.get(sku, {}).values()),
        )
        for sku, row in sorted(latest.items())
    ]


def _budget(weeks: Sequence[Sequence[Row]], messages_max: int) -> tuple[int, list[int]]:
    """Business days of a week, and receipts of each store-week."""
    least = [-(-sum(row.units > 0 for row in week) // LINES_MAX) for week in weeks]
    room = messages_max - sum(least)
    if weeks and room < len(weeks):
        raise RecordInvalid(
            f"{len(weeks)} store-weeks need {sum(least) + len(weeks)} messages at least; {messages_max} are allowed",
            reason="too_large",
        )
    days = min(_DAYS, room // len(weeks)) if weeks else _DAYS
    if days < _DAYS:
        days = max(1, days // 2)  # half of what is left for baskets
    room -= days * len(weeks)
    units = [sum(row.units for row in week) for week in weeks]
    wanted = [max(low, round(u / _UNITS_PER_LINE / _LINES_PER_RECEIPT)) for low, u in zip(least, units, strict=True)]
    extra = sum(wanted) - sum(least)
    if extra > room:
        wanted = [low + (want - low) * room // extra for low, want in zip(least, wanted, strict=True)]
    return days, wanted


def _week(rows: Sequence[Row], count: int, days: int, rng: random.Random) -> list[Transaction]:
    """The receipts of one store-week, `count` of them, and its day ends."""
    monday = rows[0].first_day
    lines = _lines([row for row in rows if row.units], count, rng)
    rng.shuffle(lines)
    count = min(count, len(lines))
    baskets: list[list[ReceiptLine]] = [[line] for line in lines[:count]]
    open_baskets = list(range(count)) if LINES_MAX > 1 else []
    for line in lines[count:]:
        place = rng.randrange(len(open_baskets))
        basket = baskets[open_baskets[place]]
        basket.append(line)
        if len(basket) == LINES_MAX:
            open_baskets[place] = open_baskets[-1]
            open_baskets.pop()
    by_day: list[list[list[ReceiptLine]]] = [[] for _ in range(days)]
    for basket in baskets:
        by_day[rng.randrange(days)].append(basket)
    rung: list[Transaction] = []
    for number, day_baskets in enumerate(by_day):
        # The last business day of a week is its Sunday, whatever the number of days.
        day = monday + timedelta(days=_DAYS - days + number)
        rung += [Transaction(ReceiptKind.SALE, day, tuple(basket), wall_ms=_noon_ms(day)) for basket in day_baskets]
        rung.append(Transaction(ReceiptKind.DAY_END, day, wall_ms=_noon_ms(day)))
    return rung


def _lines(rows: Sequence[Row], receipts: int, rng: random.Random) -> list[ReceiptLine]:
    """Cut each row into lines, as many in all as the receipts can hold and its units allow."""
    total = sum(row.units for row in rows)
    target = min(
        receipts * LINES_MAX,
        max(len(rows), receipts, round(min(total / _UNITS_PER_LINE, receipts * _LINES_PER_RECEIPT))),
    )
    spare = target - len(rows)
    lines: list[ReceiptLine] = []
    for row in rows:
        share = 1 + (spare * row.units // total if total else 0)
        pieces = max(min(row.units, share), -(-row.units * MILLI_PER_UNIT // QUANTITY_MILLI_MAX))
        lines += [_line(row, units) for units in _cut(row.units, pieces, rng)]
    return lines


def _line(row: Row, units: int) -> ReceiptLine:
    return ReceiptLine(row.sku, units * MILLI_PER_UNIT, row.price_minor, units * row.price_minor)


def _cut(units: int, pieces: int, rng: random.Random) -> list[int]:
    """`units` in `pieces` parts of at least 1, uneven, summing exactly."""
    base, left = divmod(units, pieces)
    parts = [base + (number < left) for number in range(pieces)]
    for _ in range(pieces // 2):  # move a little between two parts: baskets are not all alike
        giver, taker = rng.randrange(pieces), rng.randrange(pieces)
        moved = rng.randint(0, min(parts[giver] - 1, 2))
        parts[giver] -= moved
        parts[taker] += moved
    return parts


def _noon_ms(day: date) -> int:
    """Noon UTC of `day` in ms since the Unix epoch; the till's clock of a replay stands there (0 before 1970)."""
    return max(0, (day.toordinal() - date(1970, 1, 1).toordinal()) * 86_400_000 + 43_200_000)


def _row(cells: Sequence[str], line: int) -> Row:
    store, week, sku, units, price, cost, deal, feature = (cell.strip() for cell in cells)
    try:
        check_sku(sku)
    except RecordInvalid as error:
        raise RecordInvalid(f"line {line}, column sku: {error}") from None
    share = _number(feature, "feature", line, 0, 1)
    return Row(
        store=_whole(store, "store", line, 0, 9_999_999_999),
        week=_whole(week, "week", line, 0, _WEEK_MAX),
        sku=sku,
        units=_whole(units, "units", line, 0, 10_000_000),
        price_minor=_whole(price, "price_cents", line, 0, PRICE_MINOR_MAX),
        cost_e4=int(
            (_number(cost, "unit_cost_cents", line, 0, COST_E4_MAX // 100) * 100).to_integral_value(ROUND_HALF_EVEN)
        ),
        deal=_number(deal, "deal", line, 0, 1) >= Decimal("0.5"),
        feature=float(share),
    )


def _number(text: str, column: str, line: int, low: int, high: int) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise RecordInvalid(f"line {line}, column {column}: {text!r:.20} is not a number") from None
    if not value.is_finite() or not low <= value <= high:
        raise RecordInvalid(f"line {line}, column {column}: {text:.20} is outside {low}..{high}")
    return value


def _whole(text: str, column: str, line: int, low: int, high: int) -> int:
    value = _number(text, column, line, low, high)
    if value != value.to_integral_value():
        raise RecordInvalid(f"line {line}, column {column}: {text:.20} is not a whole number")
    return int(value)
