"""Reading records back, each checked against its CRC, which is seeded with the CRC stored before it.

Records that are read near each other come from a window: a stretch of one file that was read at once, as soon as two
reads in a row were close together. Every record of it is checked like any other.

Uses descriptors of its own (a few, least recently used goes first), so that it may run beside a commit. A file that was
replaced while its descriptor is here stays readable, and keeps its room on the disk, until the next reading of the new
one or until others have pushed it out.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from zlib import crc32

from edge.storage import codec, plan
from edge.storage.codec import RECORD_HEAD, RECORD_HEAD_BYTES, RECORD_PREFIX, Record, decode_record
from edge.storage.disk import Disk, File
from edge.storage.recovery import Segment
from edge.storage.runs import DISCARDED, decode_run

_HANDLES_MAX = 8  # 32 MiB of log within reach without opening a file
_NEAR_BYTES = 4096  # up to here one read covers a record and the CRC before it
_CHUNK_BYTES = 256 * 1024  # read at a time by a scan
_WINDOW_BYTES = 64 * 1024  # of a window; one a log, so a few thousand logs that are read stay within 100 MB
_CLOSE_BYTES = 16 * 1024  # between two reads for which a window is worth it, and the largest record for which it is
_CRC_OFFSET = 4  # of the CRC within a record


class Replaced(Exception):
    """The file is not the one the segment stands for: it was compacted meanwhile. Look the segment up again."""


class Reader:
    """Reads within one segment at a time. Raises `SegmentCorrupt`, `RecordDiscarded`, `Replaced` and `OSError`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._handles: OrderedDict[Segment, File] = OrderedDict()
        self._window = b""
        self._window_base = 0
        self._window_segment: Segment | None = None  # also of the last read, where there is no window
        self._last = 0  # where the last read from the disk ended

    def close(self) -> None:
        """Close every descriptor."""
        self._window, self._window_segment = b"", None
        while self._handles:
            self._handles.popitem()[1].close()

    def read(self, segment: Segment, sequence: int) -> Record:
        """The record, which must lie in this segment and be durable."""
        index = sequence - segment.first_sequence
        if index and segment is self._window_segment:
            record = self._from_window(segment, index, sequence)
            if record is not None:
                return record
        return self._from_disk(segment, index, sequence)

    def _from_window(self, segment: Segment, index: int, sequence: int) -> Record | None:
        """None where the window does not hold the whole record and the CRC before it, or it is not intact."""
        window, base, offsets = self._window, self._window_base, segment.offsets
        before, position = offsets[index - 1] + _CRC_OFFSET - base, offsets[index] - base
        payload_at = position + RECORD_HEAD_BYTES
        if not 0 <= before < position or payload_at > len(window):
            return None
        length, crc, stored, kind = RECORD_HEAD.unpack_from(window, position)
        payload = window[payload_at : payload_at + length]
        if stored != sequence or len(payload) != length:
            return None
        chain = int.from_bytes(window[before : before + 4], "little")
        if crc != crc32(payload, crc32(RECORD_PREFIX.pack(length, sequence, kind), chain)):
            return None
        return Record(sequence, kind, payload)

    def _from_disk(self, segment: Segment, index: int, sequence: int) -> Record:
        """The record by itself, and the window moved to it if the last one was close by."""
        offsets = segment.offsets
        offset = offsets[index]
        bound = offsets[index + 1] if index + 1 < len(offsets) else segment.end
        file = self._handle(segment)
        close = segment is self._window_segment and abs(offset - self._last) <= _CLOSE_BYTES
        if close and index and bound - offset <= _CLOSE_BYTES:
            self._window_base = offsets[index - 1] + _CRC_OFFSET
            self._last = min(segment.end, self._window_base + _WINDOW_BYTES)
            self._window = file.pread(self._last - self._window_base, self._window_base)
            record = self._from_window(segment, index, sequence)
            if record is not None:
                return record
        else:
            self._window, self._window_segment, self._last = b"", segment, bound
        if index == 0:
            chain, data, position = segment.seed, file.pread(bound - offset, offset), 0
        else:
            before = offsets[index - 1] + _CRC_OFFSET
            start = before if 0 < offset - before <= _NEAR_BYTES else offset  # less: they share a run
            data = file.pread(bound - start, start)
            stored = data[:4] if start == before else file.pread(4, before)
            chain, position = int.from_bytes(stored, "little"), offset - start
        record = decode_record(data, position, sequence, chain)
        if record is None:
            if _is_discarded(segment, sequence):
                raise plan.RecordDiscarded(sequence)
            raise _corrupt(segment, offset, sequence)
        return record

    def scan(self, segment: Segment, start: int, stop: int) -> Iterator[Record]:
        """Records from `start` up to but not including `stop` that lie in this segment, following the chain."""
        offsets, first = segment.offsets, segment.first_sequence
        index = start - first
        count = min(len(offsets), stop - first)
        if index >= count:
            return
        chain = segment.seed if index == 0 else self._stored_crc(segment, offsets[index - 1])
        while index < count:
            base = offsets[index]
            upto = min(bisect_right(offsets, base + _CHUNK_BYTES, index), count)
            bound = offsets[upto] if upto < len(offsets) else segment.end
            data = self._handle(segment).pread(bound - base, base)
            while index < upto:
                position, sequence = offsets[index] - base, first + index
                record = decode_record(data, position, sequence, chain)
                if record is not None:
                    chain = int.from_bytes(data[position + 4 : position + 8], "little")
                    index += 1
                    yield record
                    continue
                run = decode_run(data, position)
                if run is None or not run.first <= sequence < run.end <= segment.end_sequence:
                    raise _corrupt(segment, offsets[index], sequence)
                if not _is_discarded(segment, sequence):
                    raise _corrupt(segment, offsets[index], sequence)
                chain = run.chain
                kind = bytes((run.kind,))
                for gone in range(sequence, min(run.end, first + count)):
                    index += 1
                    yield Record(gone, DISCARDED, kind)

    def verify_header(self, segment: Segment, store_id: bytes) -> None:
        """The header on the disk still says what it said."""
        file = self._handle(segment)
        header = plan.judge_header(file.pread(codec.HEADER_BYTES, 0), segment.number, file.size(), store_id)
        if header is None or (header.first_sequence, header.seed) != (segment.first_sequence, segment.seed):
            raise plan.SegmentCorrupt(
                "its header is damaged", segment=segment.number, offset=0, sequence=segment.first_sequence
            )

    def _stored_crc(self, segment: Segment, offset: int) -> int:
        return int.from_bytes(self._handle(segment).pread(4, offset + _CRC_OFFSET), "little")

    def _handle(self, segment: Segment) -> File:
        file = self._handles.get(segment)
        if file is not None:
            self._handles.move_to_end(segment)
            return file
        for other in [each for each in self._handles if each.number == segment.number]:
            self._handles.pop(other).close()
        while len(self._handles) >= _HANDLES_MAX:
            self._handles.popitem(last=False)[1].close()
        file = self._disk.open(plan.segment_name(segment.number))
        if file.size() != segment.segment_bytes:  # each rewrite makes it shorter
            file.close()
            raise Replaced
        self._handles[segment] = file
        return file


def _is_discarded(segment: Segment, sequence: int) -> bool:
    at = bisect_right(segment.runs, sequence, key=lambda span: span[0]) - 1
    return at >= 0 and sequence < segment.runs[at][1]


def _corrupt(segment: Segment, offset: int, sequence: int) -> plan.SegmentCorrupt:
    return plan.SegmentCorrupt(
        "its bytes do not match its CRC", segment=segment.number, offset=offset, sequence=sequence
    )


assert RECORD_HEAD_BYTES > _CRC_OFFSET + 4
