"""Weekly sales files into arrays; strict, because a silently skipped row is a wrong elasticity.

A CSV (`.gz` or plain) with the columns of `COLUMNS`, in any order; further columns are ignored. One row a store, week
and item. Absent store-weeks are allowed and stay unknown. Errors name the file's row and the column.
"""

import csv
import gzip
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError
from edge.records.history import CategoryHistory

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

COLUMNS: Final = ("store", "week", "sku", "units", "price_cents", "unit_cost_cents", "deal", "feature")
ROWS_MAX: Final = 20_000_000  # 10,000 stores of 20 items over two years; more belongs into shards
WEEK_MAX: Final = 10_000  # weeks are numbers of a study or since 1970; both stay far below


@dataclass(frozen=True, slots=True)
class Panel:
    """Stores that sell the same items. Weeks are consecutive; what is unknown is NaN. Money in currency units."""

    stores: tuple[str, ...]  # S
    skus: tuple[str, ...]  # n
    weeks: NDArray[np.int64]  # (w,) consecutive
    units: Float  # (w, S, n)
    price: Float  # (w, S, n)
    cost: Float  # (w, S, n)
    deal: Float  # (w, S, n)
    feature: Float  # (w, S, n)

    @property
    def observed(self) -> Bool:
        """Cells with a row in the file, (w, S, n)."""
        return np.isfinite(self.units)

    def between(self, first: int, last: int) -> "Panel":
        """Weeks `first` to `last`, both included."""
        rows = (self.weeks >= first) & (self.weeks <= last)
        return Panel(
            self.stores,
            self.skus,
            self.weeks[rows],
            *(part[rows] for part in (self.units, self.price, self.cost, self.deal, self.feature)),
        )

    def history(self, store: int) -> CategoryHistory:
        """One store's past as the box keeps it. The price paid is the reference of its week: nobody changed it."""
        part = np.s_[:, store]
        return CategoryHistory(
            category="replay",
            skus=self.skus,
            weeks=self.weeks,
            units=np.where(self.observed[part], self.units[part], 0.0),
            price=self.price[part],
            reference=self.price[part],
            cost=self.cost[part],
            deal=np.nan_to_num(self.deal[part]),
            feature=np.nan_to_num(self.feature[part]),
            observed=self.observed[part],
        )


def read(path: Path, stores: Iterable[str] | None = None) -> list[Panel]:
    """Read `path`; one panel for every set of items, largest first. `stores` keeps only these; all must occur."""
    wanted = None if stores is None else set(stores)
    rows: dict[str, dict[tuple[int, str], tuple[float, ...]]] = {}
    seen: set[str] = set()
    try:
        with _open(path) as lines:
            reader = csv.DictReader(lines)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(str(path), f"row 1: column {missing[0]!r} is missing; needed are {','.join(COLUMNS)}")
            for number, row in enumerate(reader, start=2):
                if number > ROWS_MAX:
                    raise ConfigError(str(path), f"row {number}: more than {ROWS_MAX} rows")
                store = _text(row, "store", path, number)
                seen.add(store)
                if wanted is not None and store not in wanted:
                    continue
                key = (_whole(row, "week", path, number, WEEK_MAX), _text(row, "sku", path, number))
                values = _values(row, path, number)
                cells = rows.setdefault(store, {})
                if key in cells:
                    raise ConfigError(
                        str(path), f"row {number}: store {store}, week {key[0]}, sku {key[1]} occurs twice"
                    )
                cells[key] = values
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(str(path), f"is no CSV in UTF-8: {error}") from error
    if wanted is not None and wanted - seen:
        raise ConfigError("--stores", f"not in {path}: {', '.join(sorted(wanted - seen))}")
    if not rows:
        raise ConfigError(str(path), "holds no row")
    groups: dict[tuple[str, ...], list[str]] = {}
    for store, cells in rows.items():
        groups.setdefault(tuple(sorted({sku for _, sku in cells})), []).append(store)
    panels = [_panel(tuple(sorted(names, key=_natural)), skus, rows) for skus, names in groups.items()]
    return sorted(panels, key=lambda panel: -len(panel.stores))


def _panel(
    stores: tuple[str, ...], skus: tuple[str, ...], rows: dict[str, dict[tuple[int, str], tuple[float, ...]]]
) -> Panel:
    first = min(week for store in stores for week, _ in rows[store])
    last = max(week for store in stores for week, _ in rows[store])
    columns = np.full((5, last - first + 1, len(stores), len(skus)), np.nan)
    position = {sku: index for index, sku in enumerate(skus)}
    for index, store in enumerate(stores):
        for (week, sku), values in rows[store].items():
            columns[:, week - first, index, position[sku]] = values
    units, price, cost, deal, feature = columns
    return Panel(stores, skus, np.arange(first, last + 1), units, price / 100.0, cost / 100.0, deal, feature)


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _natural(store: str) -> tuple[int, str]:
    return (int(store), "") if store.isdigit() and len(store) < 18 else (2**62, store)


_RANGES: Final = (
    ("units", 0.0, 1e9),
    ("price_cents", 1.0, 1e8),
    ("unit_cost_cents", 0.0, 1e8),
    ("deal", 0.0, 1.0),
    ("feature", 0.0, 1.0),
)


def _values(row: dict[str, str], path: Path, number: int) -> tuple[float, ...]:
    return tuple(_number(row, column, path, number, bounds) for column, *bounds in _RANGES)


def _text(row: dict[str, str], column: str, path: Path, number: int) -> str:
    value = row[column]
    if not value or len(value) > 64:
        raise ConfigError(str(path), f"row {number}: {column} {value!r} must have 1 to 64 characters")
    return value


def _number(row: dict[str, str], column: str, path: Path, number: int, bounds: Sequence[float]) -> float:
    low, high = bounds
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        raise ConfigError(str(path), f"row {number}: {column} {row[column]!r} is no number") from None
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(str(path), f"row {number}: {column} {value} is outside {low:g}..{high:g}")
    return value


def _whole(row: dict[str, str], column: str, path: Path, number: int, high: int) -> int:
    value = _number(row, column, path, number, (0.0, high))
    if value != int(value):
        raise ConfigError(str(path), f"row {number}: {column} {value} is no whole number")
    return int(value)
