"""What was heard from members, within bytes: a shelf for each member and kind, the newest weeks of it.

Invariants
- What is held depends on the set of records that were put in, not on the order: of the versions of a record (same
  category and period) the one at the latest place holds; a shelf holds the longest run of its newest weeks that fits.
- A record counts for as many bytes as the largest of its versions. What once had to go is below the shelf's horizon,
  and nothing below it comes back: without the two, what is held would depend on what came first.
- A shelf's room follows from how many members there are, not from what others say: nobody can crowd others out.
- Of one week, other categories go first at other members (by a hash): where there are so many members that not all
  fits, each category keeps a sample of them, which says nearly as much as all of them.

So what goes first is what is oldest in business time, not what was asked for last: questions change nothing.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final

from edge.encoding import cbor
from edge.memory.packed import FORMS, INSIGHTS, ITEM_DAYS, PRICES, RANGES, TRENDS, Packed

ShelfKey = tuple[bytes, str]  # member, kind
Priority = tuple[int, int, int, str]  # week, lot, period, category: the lowest goes first
_SHARES: Final = {INSIGHTS: 5, TRENDS: 2, RANGES: 2, PRICES: 1, ITEM_DAYS: 2}  # twelfths of a member's room, by kind
_MEMBERS_LEAST: Final = 64  # members that there is room for at least: a small network's share does not grow for ever


@dataclass(slots=True)
class Shelf:
    """What one member said of one kind."""

    order: list[Priority] = field(default_factory=list)  # ascending: what goes first comes first
    records: dict[tuple[str, int], Packed] = field(default_factory=dict)  # by category and period
    horizon: Priority | None = None  # nothing up to it is taken
    bytes: int = 0


@dataclass(slots=True)
class HeardCounts:
    """What happened to records since the start; for metrics."""

    taken: int = 0
    superseded: int = 0  # a later version was there
    repeated: int = 0  # the same place again
    forgotten: int = 0  # below the horizon of their shelf
    evicted: int = 0


class Heard:
    """The shelves. `on_change(kind, category, before, after)`: another record is a member's newest one now."""

    def __init__(self, bytes_max: int, on_change: Callable[[str, str, Packed | None, Packed | None], None]) -> None:
        self.bytes_max = bytes_max
        self.counts = HeardCounts()
        self.shelves: dict[ShelfKey, Shelf] = {}
        self.newest: dict[tuple[str, str], dict[bytes, Packed]] = {}  # by kind and category, then member
        self.members = _MEMBERS_LEAST  # that the room is divided among
        self._on_change = on_change

    @property
    def bytes_used(self) -> int:
        """Bytes charged for what is held."""
        return sum(shelf.bytes for shelf in self.shelves.values())

    def room(self, kind: str) -> int:
        """Bytes that one member's records of `kind` may take."""
        return self.bytes_max // self.members * _SHARES[kind] // sum(_SHARES.values())

    def divide(self, members: int) -> bool:
        """Make room for so many members, in steps of doubling; True where more would be held had it been so before."""
        before, self.members = self.members, max(_MEMBERS_LEAST, 1 << (members - 1).bit_length())
        other = False
        for key, shelf in self.shelves.items() if self.members != before else ():
            other |= shelf.horizon is not None if self.members < before else self._cut(key, shelf)
            self._fit(key, shelf)
        return other

    def put(self, member: bytes, record: Packed) -> bool:
        """Take a record in; False where what is held stays as it is."""
        key = (member, record.kind)
        shelf = self.shelves.get(key)
        if shelf is None:
            shelf = self.shelves[key] = Shelf()
        priority = priority_of(member, record)
        if shelf.horizon is not None and priority <= shelf.horizon:
            self.counts.forgotten += 1
            return False
        slot = (record.category, record.period)
        old = shelf.records.get(slot)
        if old is None:
            insort(shelf.order, priority)
            self.counts.taken += 1
        elif old.place < record.place:
            self.counts.taken += 1
            record = replace(record, charge=max(old.charge, record.charge))
        else:
            self.counts.repeated += old.place == record.place
            self.counts.superseded += old.place != record.place
            if record.charge <= old.charge:
                return False
            record = replace(old, charge=record.charge)
        shelf.records[slot] = record
        shelf.bytes += record.charge - (0 if old is None else old.charge)
        self._renew(member, record)
        self._fit(key, shelf)
        return (old is None or old.place != record.place) and slot in shelf.records

    def drop(self, unwanted: Callable[[bytes, Packed], bool]) -> int:
        """Let go of records that should never have counted; how many. What they had replaced does not come back."""
        dropped = 0
        for key, shelf in list(self.shelves.items()):
            for slot, record in list(shelf.records.items()):
                if unwanted(key[0], record):
                    dropped += 1
                    self._remove(key, shelf, slot)
            if not shelf.records and shelf.horizon is None:
                del self.shelves[key]
        return dropped

    def clear(self) -> None:
        """Forget everything, horizons too: it will be told again."""
        self.drop(lambda _member, _record: True)
        self.shelves.clear()

    def records(self) -> Iterator[tuple[bytes, Packed]]:
        """Everything that is held, in an order that follows from it alone."""
        for (member, _), shelf in sorted(self.shelves.items()):
            for _, record in sorted(shelf.records.items()):
                yield member, record

    def digest(self) -> bytes:
        """32 bytes that are equal where what is held is."""
        state = blake2b(digest_size=32)
        for member, record in self.records():
            state.update(cbor.encode([member, *cells_of(record)]))
        return state.digest()

    def load(self, key: ShelfKey, horizon: Priority | None, records: Iterable[Packed]) -> None:
        """Put a shelf of a snapshot back."""
        shelf = self.shelves[key] = Shelf(horizon=horizon)
        for record in records:
            shelf.records[record.category, record.period] = record
            shelf.bytes += record.charge
            self._renew(key[0], record)
        shelf.order = sorted(priority_of(key[0], record) for record in shelf.records.values())
        self._fit(key, shelf)

    def _renew(self, member: bytes, record: Packed) -> None:
        newest = self.newest.setdefault((record.kind, record.category), {})
        old = newest.get(member)
        if old is None or (old.period, old.place) < (record.period, record.place):
            newest[member] = record
            self._on_change(record.kind, record.category, old, record)
        elif old.period == record.period:  # its charge alone
            newest[member] = record

    def _cut(self, key: ShelfKey, shelf: Shelf) -> bool:
        """Whether a record here is so large that only its first rows would have been kept."""
        return any(record.charge > self.room(key[1]) for record in shelf.records.values())

    def _fit(self, key: ShelfKey, shelf: Shelf) -> None:
        room = self.room(key[1])
        while shelf.bytes > room and shelf.order:
            _, _, period, category = shelf.horizon = shelf.order[0]
            self.counts.evicted += 1
            self._remove(key, shelf, (category, period))

    def _remove(self, key: ShelfKey, shelf: Shelf, slot: tuple[str, int]) -> None:
        member, kind = key
        record = shelf.records.pop(slot)
        shelf.bytes -= record.charge
        del shelf.order[bisect_left(shelf.order, priority_of(member, record))]
        newest = self.newest[kind, record.category]
        if newest[member].period == record.period:
            left = [each for each in shelf.records.values() if each.category == record.category]
            if left:
                newest[member] = max(left, key=lambda each: each.period)
            else:
                del newest[member]
                if not newest:
                    del self.newest[kind, record.category]
            self._on_change(kind, record.category, record, newest.get(member))


def priority_of(member: bytes, record: Packed) -> Priority:
    """Where a member's record stands when there is no room."""
    lot = int.from_bytes(blake2b(member + record.category.encode(), digest_size=4).digest(), "big")
    return record.week, lot, record.period, record.category


def cells_of(record: Packed) -> list[object]:
    """A record as CBOR values; its charge, which may differ with what went before, left out."""
    return [getattr(record, name) for name in _CELLS]


def record_of(cells: list[object], charge: int) -> Packed:
    """The record of these values, which `cells_of` made."""
    return Packed(**dict(zip(_CELLS, cells, strict=True)), charge=charge)  # type: ignore[arg-type]


_CELLS: Final = tuple(name for name in Packed.__dataclass_fields__ if name != "charge")
assert set(_SHARES) == set(FORMS)
