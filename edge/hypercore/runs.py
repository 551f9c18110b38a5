"""Which blocks a core holds, and in which record each lies: stretches of consecutive blocks in consecutive records.

A stretch is one entry of three integer arrays: its first block, the record of that block, and the block behind its
last. A block is held exactly if a stretch covers it, so presence and place can never disagree. A core that was written
or downloaded in order is one stretch, whatever its length; blocks that came in a random order merge as the holes close
only where their records also follow each other, so what arrives together should be recorded in order.

Invariants: stretches are ascending, never empty, and do not overlap.
"""

from array import array as int_array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Stretch = tuple[int, int, int]
"""First block, its record, and the block behind the last."""

_FEW = 8  # stretches that are inserted one by one; more are merged into new arrays in one pass


def _integers() -> "int_array[int]":
    return int_array("Q")


@dataclass(slots=True)
class Runs:
    """Stretches of held blocks."""

    firsts: "int_array[int]" = field(default_factory=_integers)
    sequences: "int_array[int]" = field(default_factory=_integers)
    ends: "int_array[int]" = field(default_factory=_integers)
    contiguous: int = field(default=0, init=False)  # blocks held from 0 on without a hole

    def __post_init__(self) -> None:
        self._extend_contiguous()

    def find(self, index: int) -> int | None:
        """The record that holds block `index`; None if it is not held."""
        at = bisect_right(self.firsts, index) - 1
        if at < 0 or index >= self.ends[at]:
            return None
        return self.sequences[at] + index - self.firsts[at]

    def has(self, index: int) -> bool:
        """Whether block `index` is held."""
        if index < self.contiguous:
            return index >= 0
        at = bisect_right(self.firsts, index) - 1
        return at >= 0 and index < self.ends[at]

    def index_of(self, sequence: int) -> int | None:
        """The block that record `sequence` holds, or None. Looks at every stretch: for messages about damage only."""
        for first, start, end in zip(self.firsts, self.sequences, self.ends, strict=True):
            if start <= sequence < start + end - first:
                return first + sequence - start
        return None

    def held(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """First and end of each gapless stretch of held blocks within `start` to `end` (exclusive), ascending."""
        since = upto = -1
        for first, _, last in self.placed(start, end):
            if first == upto:
                upto = last
                continue
            if upto > since:
                yield since, upto
            since, upto = first, last
        if upto > since:
            yield since, upto

    def placed(self, start: int, end: int) -> Iterator[Stretch]:
        """The parts of stretches that lie within `start` to `end` (exclusive), ascending."""
        at = max(bisect_right(self.firsts, start) - 1, 0)
        while at < len(self.firsts) and self.firsts[at] < end:
            first, sequence, last = self.firsts[at], self.sequences[at], self.ends[at]
            at += 1
            low, high = max(first, start), min(last, end)
            if low < high:
                yield low, sequence + low - first, high

    def add(self, first: int, sequence: int, count: int) -> None:
        """Blocks from `first` on lie in records from `sequence` on; replaces what was known of them."""
        end = first + count
        if self.ends and first < self.ends[-1] and any(True for _ in self.placed(first, end)):
            self.drop(first, end)
        self._insert(first, sequence, end)
        if first <= self.contiguous:
            self._extend_contiguous()

    def add_all(self, stretches: Sequence[Stretch]) -> None:
        """Add ascending stretches, none of whose blocks is held yet."""
        if len(stretches) <= _FEW or not self.firsts or stretches[0][0] >= self.ends[-1]:
            for first, sequence, end in stretches:
                self._insert(first, sequence, end)
        else:
            self._merge(stretches)
        if stretches and stretches[0][0] <= self.contiguous:
            self._extend_contiguous()

    def drop(self, start: int, end: int) -> list[tuple[int, int]]:
        """Hold blocks `start` to `end` (exclusive) no more; returns the records given up: first and end of each run."""
        gone = list(self.placed(start, end))
        if not gone:
            return []
        low = bisect_right(self.firsts, start) - 1
        if low < 0 or self.ends[low] <= start:
            low += 1
        high = bisect_left(self.firsts, end)
        kept: list[Stretch] = []
        if self.firsts[low] < start:
            kept.append((self.firsts[low], self.sequences[low], start))
        if self.ends[high - 1] > end:
            kept.append((end, self.sequences[high - 1] + end - self.firsts[high - 1], self.ends[high - 1]))
        self.firsts[low:high] = int_array("Q", [each[0] for each in kept])
        self.sequences[low:high] = int_array("Q", [each[1] for each in kept])
        self.ends[low:high] = int_array("Q", [each[2] for each in kept])
        self.contiguous = min(self.contiguous, gone[0][0])
        return [(sequence, sequence + last - first) for first, sequence, last in gone]

    def truncate(self, length: int) -> None:
        """Hold nothing from block `length` on."""
        if self.ends and self.ends[-1] > length:
            self.drop(length, self.ends[-1])

    def _insert(self, first: int, sequence: int, end: int) -> None:
        at = bisect_right(self.firsts, first)
        joins_left = (
            at > 0 and self.ends[at - 1] == first and self.sequences[at - 1] + first - self.firsts[at - 1] == sequence
        )
        joins_right = at < len(self.firsts) and self.firsts[at] == end and self.sequences[at] == sequence + end - first
        if joins_left and joins_right:
            self.ends[at - 1] = self.ends[at]
            del self.firsts[at], self.sequences[at], self.ends[at]
        elif joins_left:
            self.ends[at - 1] = end
        elif joins_right:
            self.firsts[at], self.sequences[at] = first, sequence
        else:
            self.firsts.insert(at, first)
            self.sequences.insert(at, sequence)
            self.ends.insert(at, end)

    def _merge(self, stretches: Sequence[Stretch]) -> None:
        """Insert many at once, copying what lies between them in whole slices."""
        old = self.firsts, self.sequences, self.ends
        self.firsts, self.sequences, self.ends = _integers(), _integers(), _integers()
        done = 0
        for first, sequence, end in stretches:
            upto = bisect_left(old[0], first, done)
            self._copy(old, done, upto)
            done = upto
            self._insert(first, sequence, end)
        self._copy(old, done, len(old[0]))

    def _copy(self, old: "tuple[int_array[int], int_array[int], int_array[int]]", start: int, end: int) -> None:
        if start >= end:
            return
        self._insert(old[0][start], old[1][start], old[2][start])  # it may continue what was inserted last
        self.firsts.extend(old[0][start + 1 : end])
        self.sequences.extend(old[1][start + 1 : end])
        self.ends.extend(old[2][start + 1 : end])

    def _extend_contiguous(self) -> None:
        upto = self.contiguous
        at = max(bisect_right(self.firsts, upto) - 1, 0)
        while at < len(self.firsts) and self.firsts[at] <= upto:
            upto = max(upto, self.ends[at])
            at += 1
        self.contiguous = upto
