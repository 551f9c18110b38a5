"""Records read one after another come from a scan, which reads the disk in large pieces; others one by one.

Several readers may go through a log at once, each at its own place: a peer that downloads, an export, an audit.
"""

from collections.abc import Iterator
from typing import Final

from edge.storage.log import Record, SegmentLog
from edge.storage.plan import SegmentCorrupt

_PLACES_MAX: Final = 8  # readers remembered; each holds 256 KiB of the log
_SKIPPED_MAX: Final = 4  # records between two blocks that are worth reading over: signatures


class ReadAhead:
    """Reads the records of blocks, and remembers who may want the next one."""

    def __init__(self, log: SegmentLog) -> None:
        self._log = log
        self._places: dict[int, Iterator[Record] | None] = {}  # by the block that may be wanted next

    def read(self, index: int, sequence: int) -> Record:
        """Record `sequence`, of block `index`. Raises `IndexError` and `StorageError`."""
        places = self._places
        record: Record | None = None
        scan: Iterator[Record] | None = None
        if index in places:
            scan = places.pop(index)
            if scan is None:
                scan = self._log.scan(sequence)
            record = self._next(scan, sequence)
        if record is None:
            scan, record = None, self._log.read(sequence)
        places[index + 1] = scan
        if len(places) > _PLACES_MAX:
            del places[next(iter(places))]
        return record

    def forget(self) -> None:
        """Blocks lie elsewhere from now on."""
        self._places.clear()

    @staticmethod
    def _next(scan: Iterator[Record], sequence: int) -> Record | None:
        """The record, if the scan comes to it soon."""
        try:
            for _ in range(_SKIPPED_MAX):
                record = next(scan, None)
                if record is None or record.sequence > sequence:
                    return None
                if record.sequence == sequence:
                    return record
        except SegmentCorrupt:
            return None  # reading it alone says what is wrong, if it still is
        return None
