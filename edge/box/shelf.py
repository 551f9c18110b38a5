"""What stands on the shelf and why: items, modes, the price book, where the latest decisions lie. A view.

Built by `apply` from the ledger's records in their order, so a rebuild gives the same shelf. Prices are integers of the
currency's minor unit. `Published.reference_minor` is the owner's reference price on the first day of the newest book:
the guard needs it to tell the owner's own moves from ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.box.records import DEFAULT_CATEGORY, DayRecord, ExperimentRecord, SettingsRecord, decode_experiment, encode
from edge.clock import ClockQuality, WallTime
from edge.errors import RecordInvalid, RemoteError
from edge.pos.book import BookManifest, Entry, PriceBook
from edge.records import ledger
from edge.records.item import Item
from edge.records.ledger import BookRecord, ItemsRecord

DEFAULT_MODE: Final = "shadow"
_NO_TIME: Final = WallTime(0, ClockQuality.FLOOR)  # equal items make equal bytes
_SEPARATOR: Final = "\n"  # no SKU or category of a record contains one: see `check_sku`, item file


@dataclass(frozen=True, slots=True)
class Published:
    """A price in force (or about to be, from `valid_from` of its book on)."""

    price_minor: int
    reference_minor: int  # the owner's, on the first day of the newest book; 0: not known
    since: int  # ordinal of the business day from which this price holds


class Shelf:
    """Items, modes, prices and decisions as of the last applied record. Not thread-safe."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.modes: dict[str, str] = {DEFAULT_CATEGORY: DEFAULT_MODE}
        self.experiment: ExperimentRecord | None = None  # the rules in force
        self.book = PriceBook()
        self.prices: dict[str, Published] = {}
        self.decisions: dict[str, list[int]] = {}  # category → ledger indexes of its newest round, in order
        self.decided_for: dict[str, int] = {}  # category → ordinal of the day its newest round holds from
        self.closed_through: date | None = None
        self._changes: list[tuple[str, int | None]] = []  # of a book whose last part has not come

    # --- the ledger --------------------------------------------------------------------------------------------------

    def apply(self, record: object) -> None:
        """Take in a record of kinds 4, 5, 6, 8 or 9; others are ignored."""
        if isinstance(record, ItemsRecord):
            for sku in record.removed:
                self.items.pop(sku, None)
            self.items.update((item.sku, item) for item in record.upserts)
        elif isinstance(record, SettingsRecord):
            self.modes = {DEFAULT_CATEGORY: DEFAULT_MODE, **record.modes}
        elif isinstance(record, ExperimentRecord):
            self.experiment = record
        elif isinstance(record, BookRecord):
            self._apply_book(record)
        elif isinstance(record, DayRecord):
            self.closed_through = record.day

    def note_decisions(self, category: str, valid_from: date, index: int) -> None:
        """A batch of decisions for `category`, in force from `valid_from`, is record `index` of the ledger."""
        day = valid_from.toordinal()
        if self.decided_for.get(category) != day:
            self.decided_for[category] = day
            self.decisions[category] = []
        self.decisions[category].append(index)

    def _apply_book(self, record: BookRecord) -> None:
        """A book counts from its last part on; one that a crash cut short is proposed again from its first part."""
        day = record.valid_from
        self._changes = [*record.changes] if record.part == 0 else [*self._changes, *record.changes]
        if not self.book.apply(record):
            return
        for sku, price in self._changes:
            if price is None:
                self.prices.pop(sku, None)
            else:
                self.prices[sku] = Published(price, 0, day.toordinal())
        self._changes = []
        # A book that only re-states the last one still answers for the day after the one that was looked at.
        day = max(day, record.decided_through + timedelta(days=1))
        for sku, published in self.prices.items():
            item = self.items.get(sku)
            reference = 0 if item is None else item.reference_on(day)
            if reference != published.reference_minor:
                self.prices[sku] = replace(published, reference_minor=reference)

    # --- asking ------------------------------------------------------------------------------------------------------

    def mode(self, category: str) -> str:
        """`off`, `shadow` or `live`."""
        return self.modes.get(category, self.modes[DEFAULT_CATEGORY])

    def categories(self) -> dict[str, list[Item]]:
        """Items by category, both sorted."""
        found: dict[str, list[Item]] = {}
        for sku in sorted(self.items):
            item = self.items[sku]
            found.setdefault(item.category, []).append(item)
        return dict(sorted(found.items()))

    def price_map(self) -> dict[str, int]:
        """Published price in minor units by SKU."""
        return {sku: published.price_minor for sku, published in self.prices.items()}

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> tuple[dict[str, object], dict[str, NDArray[Any]]]:
        """Header fields and columns for a snapshot container; see FORMATS.md, "View snapshot"."""
        fields: dict[str, object] = {
            "modes": self.modes,
            "books": [_manifest_cells(self.book.manifest), _manifest_cells(self.book.before)],
            "experiment": b"" if self.experiment is None else encode(self.experiment),
            "decisions": {name: [self.decided_for[name], *where] for name, where in self.decisions.items()},
            "closed": 0 if self.closed_through is None else self.closed_through.toordinal(),
        }
        skus = sorted(self.prices)
        rows = [self.prices[sku] for sku in skus]
        entries = sorted(self.book.entries.items())
        cells = [cell for _, changes in entries for number, price in changes for cell in (number, _or_none(price))]
        columns: dict[str, NDArray[Any]] = {
            "book_skus": _bytes(_SEPARATOR.join(sku for sku, _ in entries).encode()),
            "book_counts": np.array([len(changes) for _, changes in entries], np.uint8),
            "book_entries": np.array(cells, np.int64),
            "price_skus": _bytes(_SEPARATOR.join(skus).encode()),
            "price": np.array([row.price_minor for row in rows], np.int64),
            "price_reference": np.array([row.reference_minor for row in rows], np.int64),
            "price_since": np.array([row.since for row in rows], np.int64),
        }
        items = [self.items[sku] for sku in sorted(self.items)]
        for number, record in enumerate(ledger.items_records(items, (), "snapshot", _NO_TIME)):
            columns[f"items.{number}"] = _bytes(ledger.encode(record))
        return fields, columns

    @classmethod
    def restore(cls, fields: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> "Shelf":
        """The inverse of `snapshot`. Raises `RemoteError` where it cannot be: rebuild from the ledger then."""
        shelf = cls()
        try:
            shelf.modes = dict(fields["modes"])
            manifest, before = (_manifest(cells) for cells in fields["books"])
            shelf.book = PriceBook.restored(manifest, before, _entries(columns))
            shelf.experiment = decode_experiment(fields["experiment"]) if fields["experiment"] else None
            for name, (day, *where) in fields["decisions"].items():
                shelf.decided_for[name] = day
                shelf.decisions[name] = where
            shelf.closed_through = date.fromordinal(fields["closed"]) if fields["closed"] else None
            cells = (columns[name].tolist() for name in ("price", "price_reference", "price_since"))
            rows = [Published(*row) for row in zip(*cells, strict=True)]
            shelf.prices = dict(zip(_texts(columns["price_skus"]), rows, strict=True))
            number = 0
            while (column := columns.get(f"items.{number}")) is not None:
                shelf.apply(ledger.decode_items(column.tobytes()))
                number += 1
        except (KeyError, TypeError, ValueError, RecordInvalid) as error:
            raise RemoteError(f"view snapshot: {error!r}", reason="malformed") from None
        return shelf


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _texts(column: NDArray[Any]) -> list[str]:
    text = column.tobytes().decode()
    return text.split(_SEPARATOR) if text else []


def _or_none(price: int | None) -> int:
    return -1 if price is None else price


def _entries(columns: Mapping[str, NDArray[Any]]) -> dict[str, tuple[Entry, ...]]:
    cells = iter(columns["book_entries"].tolist())
    found: dict[str, tuple[Entry, ...]] = {}
    for sku, count in zip(_texts(columns["book_skus"]), columns["book_counts"].tolist(), strict=True):
        pairs = [(next(cells), next(cells)) for _ in range(count)]
        found[sku] = tuple((number, None if price < 0 else price) for number, price in pairs)
    return found


def _manifest_cells(manifest: BookManifest | None) -> list[object] | None:
    if manifest is None:
        return None
    days = (manifest.valid_from.toordinal(), manifest.decided_through.toordinal())
    return [manifest.number, manifest.count, manifest.digest, *days, manifest.currency, b"".join(manifest.pages)]


def _manifest(cells: list[Any] | None) -> BookManifest | None:
    if cells is None:
        return None
    number, count, digest, valid, decided, currency, pages = cells
    split = tuple(pages[at : at + 8] for at in range(0, len(pages), 8))
    return BookManifest(number, count, digest, date.fromordinal(valid), date.fromordinal(decided), currency, split)
