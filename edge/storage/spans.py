"""Sets of sequences, kept as spans: half-open, ascending, apart from each other. Pure; 16 bytes a span."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

Span = tuple[int, int]  # first, and the one after the last


class Spans:
    """A set of numbers that is mostly made of long stretches; spans that touch become one."""

    __slots__ = ("_ends", "_firsts")

    def __init__(self) -> None:
        self._firsts = array("Q")
        self._ends = array("Q")

    def __len__(self) -> int:
        """How many spans."""
        return len(self._firsts)

    def __iter__(self) -> Iterator[Span]:
        """The spans, ascending."""
        return zip(self._firsts, self._ends, strict=True)

    def add(self, first: int, end: int) -> int:
        """Put `first` to `end - 1` in and return how many of them were not in yet."""
        if first >= end:
            return 0
        low, high = bisect_left(self._ends, first), bisect_right(self._firsts, end)
        fresh = end - first - sum(stop - start for start, stop in self.within(first, end))
        if low < high:
            first, end = min(first, self._firsts[low]), max(end, self._ends[high - 1])
        self._firsts[low:high] = array("Q", (first,))
        self._ends[low:high] = array("Q", (end,))
        return fresh

    def remove(self, first: int, end: int) -> None:
        """Take `first` to `end - 1` out."""
        low, high = bisect_right(self._ends, first), bisect_left(self._firsts, end)
        if first >= end or low >= high:
            return
        left = [(self._firsts[low], first)] if self._firsts[low] < first else []
        right = [(end, self._ends[high - 1])] if self._ends[high - 1] > end else []
        self._firsts[low:high] = array("Q", (start for start, _ in left + right))
        self._ends[low:high] = array("Q", (stop for _, stop in left + right))

    def within(self, first: int, end: int) -> Iterator[Span]:
        """The parts of the set that lie between `first` and `end`."""
        for index in range(bisect_right(self._ends, first), bisect_left(self._firsts, end)):
            yield max(first, self._firsts[index]), min(end, self._ends[index])


def gaps(spans: Sequence[Span], first: int, end: int) -> Iterator[Span]:
    """What of `first` to `end - 1` is in none of `spans`, which are ascending."""
    for start, stop in spans[bisect_right(spans, first, key=_end) :]:
        if start >= end:
            break
        if first < start:
            yield first, start
        first = stop
    if first < end:
        yield first, end


def _end(span: Span) -> int:
    return span[1]
