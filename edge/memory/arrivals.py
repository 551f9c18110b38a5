"""Which receipts have been counted, which are cancelled, and where the recent ones lie in the ledger.

Receipts come in any order, late and more than once; a post-void may come before the receipt that it cancels. So the
memory needs to know, per lane and boot epoch: the sequences seen (a few ranges, because sequences are dense), the
sequences that a post-void named (few), and the ledger index of the newest receipts, so that a cancelled one can be
read again from the log and subtracted, instead of being kept in memory.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

import numpy as np

from edge.limits import MEMORY_POSITIONS_MAX, MEMORY_VOIDS_MAX
from edge.records.receipt import TillPosition

LaneEpoch = tuple[str, int]
RANGE_BYTES: Final = 80  # two integers in two lists
VOID_BYTES: Final = 100  # an integer in a set
LANE_BYTES: Final = 600  # the dictionaries' entries and the objects of one lane and epoch


class SequenceRanges:
    """A set of integers kept as disjoint, non-touching ranges: two ascending lists of first and last."""

    __slots__ = ("first", "last")

    def __init__(self) -> None:
        self.first: list[int] = []
        self.last: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.first, number) - 1
        return at >= 0 and number <= self.last[at]

    def add(self, number: int) -> bool:
        """Put `number` in; False if it was there."""
        first, last = self.first, self.last
        if last and number == last[-1] + 1:  # the usual case: the next one
            last[-1] = number
            return True
        at = bisect_right(first, number)  # ranges before `at` start at or below the number
        if at and number <= last[at - 1]:
            return False
        joins_before = at > 0 and last[at - 1] == number - 1
        joins_after = at < len(first) and first[at] == number + 1
        if joins_before and joins_after:
            last[at - 1] = last.pop(at)
            first.pop(at)
        elif joins_before:
            last[at - 1] = number
        elif joins_after:
            first[at] = number
        else:
            first.insert(at, number)
            last.insert(at, number)
        return True


class Positions:
    """Ledger index by sequence of one lane and epoch, ascending by sequence: 16 bytes a receipt."""

    __slots__ = ("indexes", "sequences")

    def __init__(self) -> None:
        self.sequences = array("q")
        self.indexes = array("q")

    def put(self, sequence: int, index: int) -> None:
        """Remember that the receipt `sequence` is record `index` of the ledger."""
        if not self.sequences or sequence > self.sequences[-1]:
            self.sequences.append(sequence)
            self.indexes.append(index)
        else:
            at = bisect_left(self.sequences, sequence)
            self.sequences.insert(at, sequence)
            self.indexes.insert(at, index)

    def get(self, sequence: int) -> int | None:
        """Ledger index of `sequence`, if it is remembered."""
        at = bisect_left(self.sequences, sequence)
        found = at < len(self.sequences) and self.sequences[at] == sequence
        return self.indexes[at] if found else None

    def drop_before(self, index: int) -> None:
        """Forget what lies before ledger index `index`."""
        kept = [at for at, value in enumerate(self.indexes) if value >= index]
        self.sequences = array("q", (self.sequences[at] for at in kept))
        self.indexes = array("q", (self.indexes[at] for at in kept))


class Arrivals:
    """What has arrived, over all lanes and epochs.

    `seen` and `voided` are exact for ever, except that at most MEMORY_VOIDS_MAX cancellations are held. Ledger indexes
    are held for the newest MEMORY_POSITIONS_MAX receipts.
    """

    def __init__(self) -> None:
        self.seen: dict[LaneEpoch, SequenceRanges] = {}
        self.voided: dict[LaneEpoch, set[int]] = {}
        self.positions: dict[LaneEpoch, Positions] = {}
        self.voids = 0  # in all sets of `voided`
        self.held = 0  # in all `positions`

    @property
    def nbytes(self) -> int:
        """Bytes held, by the constants above."""
        ranges = sum(len(r.first) for r in self.seen.values())
        return LANE_BYTES * len(self.seen) + RANGE_BYTES * ranges + VOID_BYTES * self.voids + 16 * self.held

    def note(self, lane: str, position: TillPosition, ledger_index: int, *, readable: bool) -> bool:
        """Note a receipt; False if it was noted before. `readable`: a post-void may want to read it again."""
        key = (lane, position.epoch)
        seen = self.seen.get(key)
        if seen is None:
            seen = self.seen[key] = SequenceRanges()
        if not seen.add(position.sequence):
            return False
        if readable:
            places = self.positions.get(key)
            if places is None:
                places = self.positions[key] = Positions()
            places.put(position.sequence, ledger_index)
            self.held += 1
            if self.held > MEMORY_POSITIONS_MAX:
                self._trim()
        return True

    def is_voided(self, lane: str, position: TillPosition) -> bool:
        """Whether a post-void named this receipt."""
        voided = self.voided.get((lane, position.epoch))
        return voided is not None and position.sequence in voided

    def void(self, lane: str, position: TillPosition) -> bool:
        """Note a cancellation; False if it is not the first of that receipt, or no room is left for it."""
        voided = self.voided.setdefault((lane, position.epoch), set())
        if position.sequence in voided or self.voids >= MEMORY_VOIDS_MAX:
            return False
        voided.add(position.sequence)
        self.voids += 1
        return True

    def was_seen(self, lane: str, position: TillPosition) -> bool:
        """Whether the receipt at this position has been noted."""
        seen = self.seen.get((lane, position.epoch))
        return seen is not None and position.sequence in seen

    def ledger_index(self, lane: str, position: TillPosition) -> int | None:
        """Where a noted, readable receipt lies in the ledger, while that is remembered."""
        places = self.positions.get((lane, position.epoch))
        return None if places is None else places.get(position.sequence)

    def _trim(self) -> None:
        """Forget the oldest quarter, so that this costs little per receipt."""
        everything = np.concatenate([np.frombuffer(p.indexes, np.int64) for p in self.positions.values()])
        keep = MEMORY_POSITIONS_MAX * 3 // 4
        oldest_kept = int(np.partition(everything, len(everything) - keep)[len(everything) - keep])
        for key in list(self.positions):
            self.positions[key].drop_before(oldest_kept)
            if not self.positions[key].sequences:
                del self.positions[key]
        self.held = sum(len(p.sequences) for p in self.positions.values())
