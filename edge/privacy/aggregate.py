"""The second layer: what receipts say is added up over fixed windows; no window overlaps another of its network.

A window is `weeks` weeks long and starts at a week number that `weeks` divides: who knows the rules knows the windows,
and no choice of a start can be used to look at the same receipts from two sides. A receipt lies in one week, so in one
window.

The unit of protection is the receipt: one record of a till, the one that cancels another included. A receipt counts in
at most `cells_max` cells, the first that it names, and once in each (`chosen`). That bound is what the noise is
measured against (`edge.privacy.histogram`). A receipt is told apart by its position in the shop's log: one that comes
again, after a restart, counts nothing. Whether a receipt counts never depends on other receipts: what is refused is
refused by its own week. (A receipt is taken back once; record and cancellation are both of that receipt.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from edge.encoding import cbor
from edge.errors import LocalError, RecordInvalid
from edge.privacy.histogram import Ladder, Sums
from edge.privacy.identifiers import Cell, Contribution, PricePaid

STATE_VERSION: Final = 1


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """`weeks` weeks from week number `first` on."""

    first: int
    weeks: int

    @property
    def end(self) -> int:
        """The first week behind it."""
        return self.first + self.weeks

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.end))


def window_of(week: int, weeks: int) -> Window:
    """The window of `weeks` weeks that `week` lies in."""
    return Window(week // weeks * weeks, weeks)


def chosen(lines: tuple[PricePaid, ...], cells_max: int) -> list[PricePaid]:
    """The lines that count: the first of each cell, of at most `cells_max` cells. Looks at this receipt alone."""
    kept: dict[Cell, PricePaid] = {}
    for line in lines:
        if len(kept) == cells_max:
            break
        kept.setdefault(line.cell, line)
    return list(kept.values())


@dataclass(slots=True)
class Counted:
    """What became of the receipts that were handed in."""

    counted: int = 0
    repeated: int = 0  # positions that had been seen
    late: int = 0  # their week was closed
    early: int = 0  # their week lies too far ahead: a till with a wrong date
    cancelled: int = 0


@dataclass(slots=True)
class Open:
    """A window that still takes receipts: its sums, and the positions of receipts that were taken back."""

    cells: dict[Cell, Sums] = field(default_factory=dict)
    taken_back: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Accumulator:
    """Exact sums by window and cell, of one network. Pure; `state` and `restore` carry it over a restart.

    It takes receipts of the weeks from `closed` on, `weeks_open` of them.
    """

    ladder: Ladder
    window_weeks: int
    cells_max: int
    weeks_open: int
    closed: int  # the first week that takes receipts; those before have been released, or never were to be
    position: int = -1  # the newest position in the log that has been looked at
    windows: dict[Window, Open] = field(default_factory=dict)
    counted: Counted = field(default_factory=Counted)

    def add(self, position: int, receipt: Contribution) -> bool:
        """Count the receipt that stands at `position` of the log; False where it changes nothing.

        Positions ascend; one that does not lie above the newest is a repetition and is passed over.
        """
        if not self._step(position):
            return False
        window = self._window_of(receipt)
        if window is None:
            return False
        self._apply(window, receipt, 1)
        self.counted.counted += 1
        return True

    def cancel(self, position: int, receipt: Contribution, original: int) -> bool:
        """Take back the receipt that was counted from position `original`, cancelled by the record at `position`.

        `receipt` must be what `add` was given then. A receipt is taken back once, however often it is cancelled.
        """
        if original >= position:
            raise LocalError(f"record {position} cancels record {original}")
        if not self._step(position):
            return False
        window = self._window_of(receipt)
        if window is None or original in window.taken_back:
            return False
        window.taken_back.add(original)
        self._apply(window, receipt, -1)
        self.counted.cancelled += 1
        return True

    def close(self, week: int) -> None:
        """Weeks before `week` have been released or given up: forget their sums, take nothing more for them."""
        self.closed = max(self.closed, week)
        for window in [window for window in self.windows if window.end <= self.closed]:
            del self.windows[window]

    def sums(self, window: Window, cell: Cell) -> Sums:
        """The exact sums of a cell; zeros where nothing was counted."""
        found = self.windows.get(window, Open()).cells.get(cell)
        return Sums([0] * self.ladder.rungs) if found is None else found

    def _step(self, position: int) -> bool:
        if position <= self.position:
            self.counted.repeated += 1
            return False
        self.position = position
        return True

    def _window_of(self, receipt: Contribution) -> Open | None:
        if receipt.week < self.closed:
            self.counted.late += 1
            return None
        if receipt.week >= self.closed + self.weeks_open:
            self.counted.early += 1
            return None
        return self.windows.setdefault(window_of(receipt.week, self.window_weeks), Open())

    def _apply(self, window: Open, receipt: Contribution, times: int) -> None:
        for line in chosen(receipt.lines, self.cells_max):
            sums = window.cells.setdefault(line.cell, Sums([0] * self.ladder.rungs))
            rung = self.ladder.rung(line.price_minor, line.list_minor)
            sums.add(rung, self.ladder.log_milli(line.price_minor, line.list_minor), times)

    def state(self) -> bytes:
        """Everything that a restart must bring back (FORMATS.md, "Privacy ledger"). Exact sums: for this disk only."""
        windows = [
            [
                window.first,
                sorted(found.taken_back),
                [
                    [cell.category, cell.sku, sums.counts, sums.log_sum, sums.square_sum]
                    for cell, sums in sorted(found.cells.items(), key=lambda entry: entry[0])
                ],
            ]
            for window, found in sorted(self.windows.items(), key=lambda entry: entry[0])
        ]
        shape = [self.window_weeks, self.cells_max, list(self.ladder.edges_e4)]
        return cbor.encode([STATE_VERSION, shape, self.position, self.closed, windows])

    def restore(self, state: bytes) -> bool:
        """Take over what `state` said; False, and nothing changes, where it was made under other rules.

        Raises `RecordInvalid` (or `RemoteError`) for bytes that `state` does not make.
        """
        match cbor.decode(state):
            case [version, shape, int(position), int(closed), list(windows)] if version == STATE_VERSION:
                pass
            case _:
                raise RecordInvalid("accumulator state: malformed", reason="malformed")
        if shape != [self.window_weeks, self.cells_max, list(self.ladder.edges_e4)]:
            return False
        found = dict(self._window(entry) for entry in windows)
        self.position, self.closed, self.windows = position, closed, found
        return True

    def _window(self, entry: Any) -> tuple[Window, Open]:
        match entry:
            case [int(first), list(taken_back), list(cells)] if all(type(at) is int for at in taken_back):
                return Window(first, self.window_weeks), Open(dict(map(self._cell, cells)), set(taken_back))
        raise RecordInvalid("accumulator state: window", reason="malformed")

    def _cell(self, entry: Any) -> tuple[Cell, Sums]:
        match entry:
            case [str(category), str(sku), list(counts), int(log_sum), int(square_sum)] if len(
                counts
            ) == self.ladder.rungs and all(type(count) is int for count in counts):
                return Cell(category, sku), Sums(counts, log_sum, square_sum)
        raise RecordInvalid("accumulator state: cell", reason="malformed")
