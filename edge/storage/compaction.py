"""Rewriting one sealed segment without the payloads that nobody needs, in small steps.

The new file is complete, synced and read back before it takes the old one's name, so a power cut leaves one or the
other. What is kept is checked against the chain while it is copied, and its bytes do not change. The chain cannot be
followed through what is left out: there a run (`runs.py`) carries on the CRC that was stored.
"""

import contextlib
import errno
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from zlib import crc32

from edge.storage import codec, plan
from edge.storage.codec import DATA_OFFSET, MARK_BYTES, RECORD_HEAD, RECORD_HEAD_BYTES, Header
from edge.storage.disk import Disk, File
from edge.storage.recovery import Segment
from edge.storage.runs import RUN_BYTES, Run, decode_run, encode_run
from edge.storage.spans import Span

STEP_BYTES = 256 * 1024  # read and written at a time, as in `spare.py`


class NotSmaller(Exception):
    """The segment would not shrink; leave it as it is."""


class Compaction:
    """One segment being rewritten. Raises `OSError`, `SegmentCorrupt`, `NotSmaller`; after an error `abandon` it.

    `gone`: the spans to leave out, ascending. `chain`: the CRC of the segment's last record, by its successor's header.
    """

    def __init__(self, disk: Disk, store_id: bytes, segment: Segment, gone: Sequence[Span], chain: int) -> None:
        self._disk = disk
        self._store_id = store_id
        self.segment = segment
        self.gone = gone
        self._chain_end = chain
        self.written_bytes = 0
        self._source: File | None = None
        self._target: File | None = None
        self._created = False
        self._index = 0  # of the next record to look at
        self._chain = segment.seed
        self._span = 0  # of `gone`: the first that does not end before that record
        self._run: Run | None = None  # not written yet, because it may go on
        self._out = bytearray()
        self._out_offset = DATA_OFFSET
        self._offsets = array("I")
        self._spans: list[Span] = []

    def step(self) -> Segment | None:
        """Do one bounded piece; returns what the new file holds once it is complete and durable, but not named yet."""
        if self._source is None or self._target is None:
            self._source = self._disk.open(plan.segment_name(self.segment.number))
            self._created = True
            self._target = self._disk.open(plan.REWRITE_NAME, create=True)
        if self._index < len(self.segment.offsets):
            self._copy(self._source)
            self._write(self._target)
            return None
        return self._finish(self._target)

    def publish(self, swap: Callable[[], None]) -> None:
        """Give the new file, once complete, its name; `swap` must then do the same in memory."""
        self._close()
        self._disk.rename(plan.REWRITE_NAME, plan.segment_name(self.segment.number))
        self._created = False
        swap()
        with contextlib.suppress(OSError):  # either file will do at the next start; the name is synced again there
            self._disk.sync_directory()

    def abandon(self) -> None:
        """Give the space back. Harmless when there is nothing to give."""
        with contextlib.suppress(OSError):
            self._close()
        if self._created:
            self._created = False
            with contextlib.suppress(OSError):
                self._disk.unlink(plan.REWRITE_NAME)

    # --- within ------------------------------------------------------------------------------------------------------

    def _copy(self, source: File) -> None:
        """Take records worth `STEP_BYTES`, at least one."""
        segment = self.segment
        offsets, first = segment.offsets, segment.first_sequence
        base = offsets[self._index]
        upto = bisect_right(offsets, base + STEP_BYTES, self._index)  # the records of a run share an offset
        bound = offsets[upto] if upto < len(offsets) else segment.end
        data = source.pread(bound - base, base)
        while self._index < upto:
            sequence, position = first + self._index, offsets[self._index] - base
            while self._span < len(self.gone) and self.gone[self._span][1] <= sequence:
                self._span += 1
            if self._span < len(self.gone) and self.gone[self._span][0] <= sequence:
                run = self._leave_out(data, position, sequence)
                self._index += run.count
                self._chain = run.chain
            else:
                self._keep(data, position, sequence)
                self._index += 1

    def _keep(self, data: bytes, position: int, sequence: int) -> None:
        if position + RECORD_HEAD_BYTES > len(data):
            raise self._corrupt(sequence)
        length, crc, stored, _ = RECORD_HEAD.unpack_from(data, position)
        end = position + RECORD_HEAD_BYTES + length
        if stored != sequence or end > len(data):
            raise self._corrupt(sequence)
        if crc != crc32(data[position + 8 : end], crc32(data[position : position + 4], self._chain)):
            raise self._corrupt(sequence)
        self._end_run()
        self._offsets.append(self._out_offset + len(self._out))
        self._out += data[position:end]
        self._chain = crc

    def _leave_out(self, data: bytes, position: int, sequence: int) -> Run:
        """The run that stands for the record, or was there already, joined to the one before it where they fit."""
        run = self._run_at(data, position, sequence)
        last = self._run
        if last is not None and last.kind == run.kind and last.end == run.first:
            self._run = Run(last.first, last.count + run.count, run.kind, run.chain)
        else:
            self._end_run()
            self._run = run
        return run

    def _run_at(self, data: bytes, position: int, sequence: int) -> Run:
        runs = self.segment.runs
        at = bisect_right(runs, sequence, key=lambda span: span[0]) - 1
        if at >= 0 and sequence < runs[at][1]:
            run = decode_run(data, position)
            if run is None or (run.first, run.end) != runs[at]:
                raise self._corrupt(sequence)
            return run
        if position + RECORD_HEAD_BYTES > len(data):
            raise self._corrupt(sequence)
        _, crc, stored, kind = RECORD_HEAD.unpack_from(data, position)
        if stored != sequence:
            raise self._corrupt(sequence)
        return Run(sequence, 1, kind, crc)

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._offsets.extend(array("I", [self._out_offset + len(self._out)]) * run.count)
            self._spans.append((run.first, run.end))
            self._out += encode_run(run)

    def _write(self, target: File) -> None:
        if self._out:
            target.pwrite(self._out, self._out_offset)
            target.datasync()
            self._out_offset += len(self._out)
            self.written_bytes += len(self._out)
            self._out = bytearray()

    def _finish(self, target: File) -> Segment:
        old = self.segment
        self._end_run()
        end = self._out_offset + len(self._out)
        footer = codec.Footer(old.first_sequence, end, self._chain_end, self._offsets, tuple(self._spans))
        self._out += codec.encode_footer(footer)
        size = self._out_offset + len(self._out)
        if self._chain != self._chain_end:
            raise self._corrupt(old.end_sequence)
        if size >= old.segment_bytes:
            raise NotSmaller
        header = Header(self._store_id, old.number, size, old.first_sequence, old.seed, version=codec.COMPACTED_VERSION)
        target.pwrite(codec.encode_header(header) + bytes(MARK_BYTES), 0)
        target.pwrite(self._out, self._out_offset)
        target.datasync()
        self.written_bytes += len(self._out) + DATA_OFFSET
        data = target.pread(size + 1, 0)
        found = codec.walk(data, header, 0, stop_sequence=old.end_sequence)
        expected = codec.Walk(self._offsets, end, None, old.end_sequence, self._chain_end, footer.runs)
        if len(data) != size or found != expected or codec.decode_header(data) != header:
            raise OSError(errno.EIO, "what was written does not read back")
        return Segment(old.number, old.first_sequence, old.seed, size, end, self._offsets, footer.runs)

    def _close(self) -> None:
        for file in (self._source, self._target):
            if file is not None:
                file.close()
        self._source = self._target = None

    def _corrupt(self, sequence: int) -> plan.SegmentCorrupt:
        offset = self.segment.offsets[min(sequence - self.segment.first_sequence, len(self.segment.offsets) - 1)]
        return plan.SegmentCorrupt(
            "its bytes do not match its CRC", segment=self.segment.number, offset=offset, sequence=sequence
        )


assert RUN_BYTES >= RECORD_HEAD_BYTES  # a walk reads a whole record head wherever a run stands
