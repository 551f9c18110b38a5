"""A set of block indexes as stretches: what a peer holds, what is wanted. Costs one entry a stretch, however long.

`edges` lists where membership changes, ascending: first, end, first, end, ... so an index is in the set exactly if an
odd number of edges lie at or before it. Adding and removing are two bisections and one slice.

Invariants: edges are strictly ascending and of even number; there are at most `edges_max`, if that was given.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice

Span = tuple[int, int]
"""First index, and the index behind the last."""


class Stretches:
    """A set of non-negative integers that mostly come in runs."""

    __slots__ = ("edges", "edges_max")

    def __init__(self, spans: Iterable[Span] = (), *, edges_max: int | None = None) -> None:
        self.edges: list[int] = []
        self.edges_max = edges_max
        for start, end in spans:
            self.add(start, end)

    def __bool__(self) -> bool:
        return bool(self.edges)

    def __contains__(self, index: int) -> bool:
        return bool(bisect_right(self.edges, index) & 1)

    def __iter__(self) -> Iterator[Span]:
        edges = self.edges
        return zip(islice(edges, 0, None, 2), islice(edges, 1, None, 2), strict=True)

    def add(self, start: int, end: int) -> bool:
        """Put `start` to `end` (exclusive) in. False if that would be one stretch too many: nothing is changed."""
        if start >= end:
            return True
        edges = self.edges
        low, high = bisect_left(edges, start), bisect_right(edges, end)
        if low == high and not low & 1 and self.edges_max is not None and len(edges) >= self.edges_max:
            return False
        born = []
        if not low & 1:
            born.append(start)
        if not high & 1:
            born.append(end)
        edges[low:high] = born
        return True

    def remove(self, start: int, end: int) -> None:
        """Take `start` to `end` (exclusive) out. Where that would be one stretch too many, it takes more: to the end of
        the stretch that would be split, because what is missing here is only asked later.
        """
        edges = self.edges
        if start >= end or not edges:
            return
        low, high = bisect_left(edges, start), bisect_right(edges, end)
        if low == high and low & 1 and self.edges_max is not None and len(edges) >= self.edges_max:
            edges[low] = start
            return
        born = []
        if low & 1:
            born.append(start)
        if high & 1:
            born.append(end)
        edges[low:high] = born

    def replace(self, start: int, end: int, spans: Iterable[Span]) -> None:
        """Make `spans`, ascending and within `start` to `end`, all that is in there: one slice, however many they are.

        Where they would be too many, the last ones are left out, and not even looked at.
        """
        if start >= end:
            return
        edges = self.edges
        low, high = bisect_left(edges, start), bisect_right(edges, end)
        kept = len(edges) - (high - low) + 2  # and the two edges that cutting a stretch may need
        if self.edges_max is not None and kept > self.edges_max and low == high and low & 1:
            self.remove(start, end)
            return
        born: list[int] = []
        for first, stop in spans:
            if born and born[-1] == first:
                born[-1] = stop
            elif self.edges_max is not None and kept + len(born) + 2 > self.edges_max:
                break
            else:
                born += first, stop
        if low & 1:  # a stretch reaches in from before: it ends at `start`, or goes on
            born[:1] = [] if born[:1] == [start] else [start, *born[:1]]
        if high & 1:
            born[-1:] = [] if born[-1:] == [end] else [*born[-1:], end]
        edges[low:high] = born

    def covers(self, start: int, end: int) -> bool:
        """Whether all of `start` to `end` is in."""
        at = bisect_right(self.edges, start)
        return start >= end or (bool(at & 1) and self.edges[at] >= end)

    def first(self) -> int | None:
        """The smallest index."""
        return self.edges[0] if self.edges else None

    def within(self, start: int, end: int) -> Iterator[Span]:
        """The parts that lie within `start` to `end`, ascending. The set must not change meanwhile."""
        edges = self.edges
        at = bisect_right(edges, start) & ~1
        while at < len(edges) and edges[at] < end:
            low, high = max(edges[at], start), min(edges[at + 1], end)
            if low < high:
                yield low, high
            at += 2

    def gaps(self, start: int, end: int) -> Iterator[Span]:
        """The parts of `start` to `end` that are not in, ascending."""
        for low, high in self.within(start, end):
            if start < low:
                yield start, low
            start = high
        if start < end:
            yield start, end


def overlap(one: Stretches, other: Stretches, start: int, end: int) -> Iterator[Span]:
    """What is in both, within `start` to `end`, ascending: passes over what only one holds by bisection."""
    ours, theirs = one.edges, other.edges
    while start < end:
        a = bisect_right(ours, start)
        if not a & 1:
            if a >= len(ours):
                return
            start = ours[a]
            a += 1
        b = bisect_right(theirs, start)
        if not b & 1:
            if b >= len(theirs):
                return
            start = theirs[b]
            continue
        if start >= end:
            return
        stop = min(ours[a], theirs[b], end)
        yield start, stop
        start = stop
