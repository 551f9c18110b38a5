"""Which records were given up, and which segments are worth rewriting for it. Owned by the log; works in its `work`.

What was given up is held in memory until its segment is rewritten, and nowhere else: after a reopen the caller says it
again. The segment that is appended to is looked at once it is sealed. A segment that cannot be rewritten, because its
bytes are damaged or it would not shrink, is left as it is; whoever reads it hears of the damage.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable

from edge.errors import LocalError
from edge.storage.codec import DATA_OFFSET, RECORD_HEAD_BYTES
from edge.storage.compaction import Compaction, NotSmaller
from edge.storage.disk import Disk
from edge.storage.plan import SegmentCorrupt
from edge.storage.recovery import Segment
from edge.storage.runs import RUN_BYTES
from edge.storage.spans import Span, Spans, gaps

_WORTH = 4  # a segment is rewritten once one part in so many of its payload bytes can go


class Discarding:
    """What was given up of `segments`, the log's own list, of which all but the last are sealed.

    `replace(compaction, new)` must publish the compaction and put `new` in its segment's place; one step for readers.
    """

    def __init__(
        self,
        disk: Disk,
        store_id: bytes,
        segments: list[Segment],
        replace: Callable[[Compaction, Segment], None],
    ) -> None:
        self._disk = disk
        self._store_id = store_id
        self._segments = segments
        self._replace = replace
        self._pending = Spans()
        self._candidates: dict[int, None] = {}  # first sequences of segments to look at, in that order
        self._given_up: set[int] = set()  # first sequences of those that cannot be rewritten
        self._compaction: Compaction | None = None

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to look at."""
        return self._compaction is not None or bool(self._candidates)

    def add(self, spans: Iterable[Span], durable_sequence: int) -> int:
        """Give up records; returns how many of them were not given up before."""
        checked = list(spans)
        for first, end in checked:
            if not 0 <= first <= end <= durable_sequence:
                raise LocalError(f"records {first} to {end - 1} are not all in the log (0 to {durable_sequence - 1})")
        fresh = 0
        for first, end in checked:
            place = max(self._place(first), 0)
            while place < len(self._segments) and self._segments[place].first_sequence < end:
                segment = self._segments[place]
                low, high = max(first, segment.first_sequence), min(end, segment.end_sequence)
                fresh += sum(self._pending.add(*part) for part in list(gaps(segment.runs, low, high)))
                self._look_at(segment)
                place += 1
        return fresh

    def sealed(self, segment: Segment) -> None:
        """The log goes on in another segment; this one may be rewritten from now on."""
        self._look_at(segment)

    def step(self) -> int:
        """One bounded piece; returns the bytes handed to the disk. Raises `OSError`; then it will be tried again."""
        if self._compaction is None:
            self._compaction = self._next()
            if self._compaction is None:
                return 0
        compaction = self._compaction
        before = compaction.written_bytes
        try:
            rewritten = compaction.step()
            if rewritten is not None:
                self._replace(compaction, rewritten)
        except (NotSmaller, SegmentCorrupt):
            self.stop()
            self._given_up.add(compaction.segment.first_sequence)
        except OSError:
            self.stop()
            self._candidates[compaction.segment.first_sequence] = None  # behind the others: they may need less room
            raise
        else:
            if rewritten is not None:
                self._compaction = None
                for span in rewritten.runs:
                    self._pending.remove(*span)
                self._look_at(rewritten)  # more of it may have been given up meanwhile
        return compaction.written_bytes - before

    def stop(self) -> None:
        """Drop the rewrite that is under way, if any."""
        if self._compaction is not None:
            self._compaction.abandon()
            self._compaction = None

    # --- within ------------------------------------------------------------------------------------------------------

    def _place(self, sequence: int) -> int:
        return bisect_right(self._segments, sequence, key=lambda segment: segment.first_sequence) - 1

    def _look_at(self, segment: Segment) -> None:
        first = segment.first_sequence
        if first not in self._given_up and next(self._pending.within(first, segment.end_sequence), None) is not None:
            self._candidates[first] = None

    def _next(self) -> Compaction | None:
        """The rewrite of the next segment that is worth it; None: that candidate was none."""
        if not self._candidates:
            return None
        first = next(iter(self._candidates))
        del self._candidates[first]
        place = self._place(first)
        if place == len(self._segments) - 1:
            return None  # comes back when it is sealed
        segment = self._segments[place]
        gone = list(self._pending.within(first, segment.end_sequence))
        if not _worth_it(segment, gone):
            return None
        whole = Spans()
        for span in (*segment.runs, *gone):
            whole.add(*span)
        return Compaction(self._disk, self._store_id, segment, list(whole), self._segments[place + 1].seed)


def _worth_it(segment: Segment, gone: list[Span]) -> bool:
    """Whether a quarter of the payload bytes can go, or all of them. Marks are counted too: they go as well."""
    offsets, first = segment.offsets, segment.first_sequence
    going = records = 0
    for start, stop in gone:
        bound = offsets[stop - first] if stop < segment.end_sequence else segment.end
        going += bound - offsets[start - first] - RECORD_HEAD_BYTES * (stop - start)
        records += stop - start
    discarded = sum(stop - start for start, stop in segment.runs)
    left = len(offsets) - discarded
    payloads = segment.end - DATA_OFFSET - RECORD_HEAD_BYTES * left - RUN_BYTES * len(segment.runs)
    return bool(gone) and (records == left or going * _WORTH >= payloads)
