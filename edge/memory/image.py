"""The whole content of the price memory as one immutable value, and its bytes.

Equal content gives equal bytes, whatever the order in which it arrived: SKUs are renumbered by name and those that no
row mentions are left out, lanes are sorted, pages are sorted already. The bytes are the snapshot that a restart begins
from; a damaged or foreign one is refused, and the memory is rebuilt from the ledger. Layout: FORMATS.md, "Price memory
snapshot"; container: `columns`.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.encoding import cbor
from edge.errors import RemoteError
from edge.memory.arrivals import Arrivals, LaneEpoch, Positions, SequenceRanges
from edge.memory.catalogue import UNLISTED, BookVersion, Catalogue, ItemVersion
from edge.memory.columns import read_columns, write_columns
from edge.memory.pages import Int, WeekPage, pack
from edge.memory.sales import SalesTable

_LISTS_PER_LANE = 5  # first and last of the ranges, voided, sequences and ledger indexes


@dataclass(frozen=True, slots=True)
class MemoryImage:
    """What `LocalPriceMemory.freeze` took: copies of what changes, references to what does not."""

    ledger: bytes  # names the ledger (its key), so that a snapshot is never used on another one
    length: int  # records of it that are contained
    horizon: int
    skus: tuple[str, ...]
    categories: tuple[str, ...]
    category_of: tuple[int, ...]
    lanes: tuple[tuple[LaneEpoch, tuple[Int, ...]], ...]  # per lane and epoch _LISTS_PER_LANE lists
    pages: tuple[tuple[int, WeekPage], ...]
    items: tuple[ItemVersion, ...]
    books: tuple[BookVersion, ...]
    days: tuple[tuple[int, ...], ...]  # date ordinal, receipts, lines, units_milli, amount_minor

    @classmethod
    def take(
        cls,
        arrivals: Arrivals,
        catalogue: Catalogue,
        sales: SalesTable,
        days: Mapping[int, list[int]],
        *,
        ledger: bytes,
        length: int,
    ) -> "MemoryImage":
        """An image of these parts; unmerged changes of `sales` must have been merged."""
        return cls(
            ledger=ledger,
            length=length,
            horizon=sales.horizon,
            skus=tuple(catalogue.skus),
            categories=tuple(catalogue.categories),
            category_of=tuple(catalogue.category_of),
            lanes=tuple((key, _lane_lists(arrivals, key)) for key in sorted(arrivals.seen.keys() | arrivals.voided)),
            pages=tuple((week, page) for week in sales.weeks if (page := sales.page(week)) is not None),
            items=tuple(catalogue.item_versions),
            books=tuple(catalogue.book_versions),
            days=tuple((day, *totals) for day, totals in sorted(days.items())),
        )

    def encode(self) -> bytes:
        """Canonical bytes; may take a second for a full memory on a small box, so do it off the loop."""
        rank, skus = self._numbering()
        names = sorted(set(self.categories))
        category_rank = {name: number for number, name in enumerate(names)}
        of = dict(zip(self.skus, self.category_of, strict=True))
        category_of = [UNLISTED if of[sku] == UNLISTED else category_rank[self.categories[of[sku]]] for sku in skus]
        lanes = sorted({lane for (lane, _), _ in self.lanes})
        table = [(lanes.index(lane), epoch, *map(len, lists)) for (lane, epoch), lists in self.lanes]
        columns: dict[str, NDArray[Any]] = {
            "skus": _blob(skus),
            "categories": _blob(names),
            "category_of": pack(np.array(category_of, np.int64)),
            "lanes": _blob(lanes),
            "lane_table": pack(np.array(table, np.int64).reshape(-1)),
            "arrivals": _joined([part for _, lists in self.lanes for part in lists]),
            "days": pack(np.array(self.days, np.int64).reshape(-1)),
        }
        pages = [(week, page.renumbered(rank)) for week, page in self.pages]
        for week, page in pages:
            for name in ("item", "price", "units", "amount", "lines"):
                columns[f"page {week} {name}"] = getattr(page, name)
        for number, version in enumerate(self.items):
            order = np.argsort(rank[version.item], kind="stable")
            promotions = version.promotions.astype(np.int64)
            promotions[:, 0] = rank[promotions[:, 0]]
            columns[f"items {number} item"] = rank[version.item][order].astype("<u2")
            columns[f"items {number} reference"] = version.reference[order]
            columns[f"items {number} cost"] = version.cost[order]
            grouped = promotions[np.argsort(promotions[:, 0], kind="stable")]
            columns[f"items {number} promotions"] = pack(grouped.reshape(-1))
        for number, book in enumerate(self.books):
            order = np.argsort(rank[book.item], kind="stable")
            columns[f"book {number} item"] = rank[book.item][order].astype("<u2")
            columns[f"book {number} price"] = book.price[order]
        fields: dict[str, object] = {
            "ledger": self.ledger,
            "length": self.length,
            "horizon": self.horizon,
            "weeks": [week for week, _ in pages],
            "items": [version.day for version in self.items],
            "books": [book.day for book in self.books],
        }
        return write_columns(fields, columns)

    @classmethod
    def decode(cls, data: bytes) -> "MemoryImage":
        """The image of these bytes. Raises `RemoteError` if they are damaged, foreign or of another version."""
        fields, columns = read_columns(data)
        try:
            return cls._from(fields, columns)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise RemoteError(f"snapshot: {error!r}") from error

    @classmethod
    def _from(cls, fields: dict[str, Any], columns: dict[str, NDArray[Any]]) -> "MemoryImage":
        arrivals = columns["arrivals"].astype(np.int64)
        names = _list(columns["lanes"])
        lanes = []
        at = 0
        for lane, epoch, *sizes in columns["lane_table"].reshape(-1, 2 + _LISTS_PER_LANE).tolist():
            ends = list(accumulate(sizes, initial=at))
            lanes.append(((str(names[lane]), epoch), tuple(arrivals[a:b] for a, b in pairwise(ends))))
            at = ends[-1]
        pages = tuple(
            (week, WeekPage(*(columns[f"page {week} {c}"] for c in ("item", "price", "units", "amount", "lines"))))
            for week in fields["weeks"]
        )
        items = tuple(
            ItemVersion(
                day,
                columns[f"items {number} item"],
                columns[f"items {number} reference"],
                columns[f"items {number} cost"],
                columns[f"items {number} promotions"].reshape(-1, 5),
            )
            for number, day in enumerate(fields["items"])
        )
        books = tuple(
            BookVersion(day, columns[f"book {number} item"], columns[f"book {number} price"])
            for number, day in enumerate(fields["books"])
        )
        return cls(
            ledger=fields["ledger"],
            length=fields["length"],
            horizon=fields["horizon"],
            skus=tuple(_list(columns["skus"])),
            categories=tuple(_list(columns["categories"])),
            category_of=tuple(columns["category_of"].tolist()),
            lanes=tuple(lanes),
            pages=pages,
            items=items,
            books=books,
            days=tuple(tuple(row) for row in columns["days"].reshape(-1, 5).tolist()),
        )

    def fill(self, arrivals: Arrivals, catalogue: Catalogue, sales: SalesTable, days: dict[int, list[int]]) -> None:
        """Put the content into the empty parts of a memory."""
        for key, (first, last, voided, sequences, indexes) in self.lanes:
            if len(first):
                ranges = arrivals.seen[key] = SequenceRanges()
                ranges.first, ranges.last = first.tolist(), last.tolist()
            if len(voided):
                arrivals.voided[key] = set(voided.tolist())
                arrivals.voids += len(voided)
            if len(sequences):
                positions = arrivals.positions[key] = Positions()
                positions.sequences = array("q", sequences.tobytes())
                positions.indexes = array("q", indexes.tobytes())
                arrivals.held += len(sequences)
        catalogue.restore(list(self.skus), list(self.categories), list(self.category_of))
        catalogue.restore_versions(list(self.items), list(self.books))
        sales.horizon = self.horizon
        for week, page in self.pages:
            sales.put_page(week, page)
        days.update({day: totals for day, *totals in self.days})

    def _numbering(self) -> tuple[Int, list[str]]:
        """New number by old number (-1: mentioned nowhere), and the names by new number."""
        used = np.zeros(len(self.skus), np.bool_)
        for column in (*(p.item for _, p in self.pages), *(v.item for v in self.items), *(b.item for b in self.books)):
            used[column] = True
        order: list[int] = sorted(np.flatnonzero(used).tolist(), key=self.skus.__getitem__)
        rank = np.full(len(self.skus), -1, np.int64)
        rank[order] = np.arange(len(order))
        return rank, [self.skus[old] for old in order]


def _lane_lists(arrivals: Arrivals, key: LaneEpoch) -> tuple[Int, ...]:
    ranges = arrivals.seen.get(key)
    positions = arrivals.positions.get(key)
    voided = sorted(arrivals.voided.get(key, ()))
    lists: tuple[Any, ...] = (
        [] if ranges is None else ranges.first,
        [] if ranges is None else ranges.last,
        voided,
        [] if positions is None else positions.sequences,
        [] if positions is None else positions.indexes,
    )
    return tuple(np.array(part, np.int64) for part in lists)


def _joined(parts: list[Int]) -> NDArray[Any]:
    return np.concatenate([*parts, np.zeros(0, np.int64)]).astype("<i8")


def _blob(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(cbor.encode(value), np.uint8)


def _list(column: NDArray[np.uint8]) -> list[Any]:
    value = cbor.decode(column.tobytes())
    if not isinstance(value, list):
        raise TypeError("a list was expected")
    return value
