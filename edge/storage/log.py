"""The durable log: numbered records in zero-filled segment files, one sync per group.

Formats: FORMATS.md, "Segment files"; what recovery decides and why: `plan.py`.

    log = SegmentLog.open(OsDisk(folder, create=True), create=True)
    first = log.stage(1, b"...")      # memory only
    log.commit()                      # written and synced; from here on it may be acknowledged
    log.read(first)
    log.discard([(first, first + 1)]) # its room is given back in later calls of `work`

Invariants: a sequence below `durable_sequence` never changes content, whatever fails; nothing staged is readable; after
a failed write or sync the segment is never written again, and the next commit continues in a new one; only what was
discarded is ever given up.

Threads: one thread calls `stage`, `commit`, `discard`, `work` and `close`. One other may call `read`, `scan` and
`verify` at the same time: a commit publishes a group's offsets before `durable_sequence` rises, readers have their own
descriptors, and a compacted segment takes the old one's place in one step (`_replacing`): whoever opens a file and
finds that it is not the one of the segment object in hand looks the segment up again.
"""

import contextlib
import os
import struct
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Self
from zlib import crc32

from edge.errors import ConfigError, LocalError, StorageError, StorageFault
from edge.limits import GROUP_BYTES_MAX, GROUP_RECORDS_MAX, RECORD_BYTES_MAX, SEGMENT_BYTES, WATERMARK_BYTES
from edge.storage import codec, plan
from edge.storage.codec import DATA_OFFSET, MARK_BYTES, RECORD_HEAD, RECORD_HEAD_BYTES, RECORD_PREFIX, Header, Record
from edge.storage.compaction import Compaction
from edge.storage.discarding import Discarding
from edge.storage.disk import Disk, File, storage_error
from edge.storage.plan import RecordDiscarded, SegmentCorrupt
from edge.storage.reader import Reader, Replaced
from edge.storage.recovery import Recovered, Segment, recover, write_footer
from edge.storage.runs import DISCARDED
from edge.storage.spans import Span
from edge.storage.spare import Spare

RECORD_COST = codec.RECORD_HEAD_BYTES + codec.INDEX_ENTRY_BYTES

__all__ = ["DISCARDED", "RECORD_COST", "Record", "RecordDiscarded", "SegmentLog"]


class SegmentLog:
    """One log in one folder. Made by `open`. Synchronous; `committer.GroupCommitter` is its asyncio shell."""

    def __init__(self, disk: Disk, found: Recovered) -> None:
        self._disk = disk
        self.store_id = found.store_id
        self.repaired = found.repaired  # whether opening had to zero a torn tail or write records again
        self.next_sequence = found.sequence
        self.durable_sequence = found.sequence
        self.written_bytes = 0  # handed to the disk since opening, zero-filling included
        self._salt = codec.initial_chain(found.store_id)
        self._segments = found.segments
        self._firsts = [segment.first_sequence for segment in found.segments]
        self._active: Segment | None = found.segments[-1]
        self._segment_bytes = self._active.segment_bytes
        self._writer: File | None = None
        self._next_number = found.next_number
        self._spare: Spare | None = None
        if found.spare_number is not None:
            self._spare = Spare(disk, found.spare_number, self._segment_bytes, ready=True)
        self._again_at = 0  # value of written_bytes before which what failed in `work` is not tried again
        self._sealed_unsynced: list[File] = []
        self._reader = Reader(disk)
        self._replacing = threading.Lock()
        self._discarding = Discarding(disk, found.store_id, self._segments, self._replace)
        self._closed = False
        self._chain = self._durable_chain = found.chain
        self._watermark_end = self._active.end
        self._slot_sequence = found.watermark  # as a close leaves it
        self._buffer = bytearray(MARK_BYTES)
        self._offsets: array[int] = array("I")  # of the staged records, within the buffer
        self._left = self._group_room()

    # --- opening and closing -----------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls, disk: Disk, *, create: bool, store_id: bytes | None = None, segment_bytes: int = SEGMENT_BYTES
    ) -> Self:
        """Take the folder's lock, recover, and be ready to append.

        `create`: make a log where there is none (an existing one is opened); id: `store_id`, 16 bytes, or random.
        Raises `StorageError` LOCKED, CORRUPT, FULL, IO or READ_ONLY; `ConfigError` where there is no log to open.
        """
        try:
            disk.lock()
            try:
                found = recover(disk)
                if found is None:
                    if not create:
                        raise ConfigError("store", f"no log in {disk.describe()}")
                    found = _create(disk, store_id or os.urandom(codec.STORE_ID_BYTES), segment_bytes)
                elif store_id is not None and found.store_id != store_id:
                    raise StorageError(f"{disk.describe()}: it holds another log", fault=StorageFault.CORRUPT)
            except BaseException:
                disk.unlock()
                raise
        except OSError as error:
            raise storage_error(error, f"opening {disk.describe()}") from error
        return cls(disk, found)

    def close(self) -> None:
        """Drop what is staged, leave the watermark, let go of the folder. Again: does nothing."""
        if self._closed:
            return
        self._closed, self._left = True, 0
        with contextlib.suppress(OSError):  # the records are durable; this only narrows what a later check can tell
            self._leave_watermark()
        with contextlib.suppress(OSError):
            self._sync_sealed()
        if self._spare is not None and not self._spare.ready:
            self._spare.discard()
        self._discarding.stop()
        if self._writer is not None:
            self._writer.close()
        self._reader.close()
        self._disk.unlock()

    # --- appending ---------------------------------------------------------------------------------------------------

    def stage(self, kind: int, payload: bytes) -> int:
        """Put one record into the next group and return its sequence. Memory only; `room` says what still fits."""
        length = len(payload)
        buffer = self._buffer
        sequence = self.next_sequence
        left = self._left - length - RECORD_COST
        if left < 0 or length > RECORD_BYTES_MAX or sequence - self.durable_sequence >= GROUP_RECORDS_MAX:
            raise LocalError(f"a record of {length} bytes does not fit the group; commit first, or it is too long")
        chain = crc32(payload, crc32(RECORD_PREFIX.pack(length, sequence, kind), self._chain))
        self._offsets.append(len(buffer))
        buffer += RECORD_HEAD.pack(length, chain, sequence, kind)
        buffer += payload
        self._left, self._chain, self.next_sequence = left, chain, sequence + 1
        return sequence

    def stage_all(self, records: Sequence[tuple[int, bytes]]) -> int:
        """Stage (kind, payload) records at once, all or none; returns the first one's sequence. The fast way in."""
        first = sequence = self.next_sequence
        lengths = [len(payload) for _, payload in records]
        left = self._left - sum(lengths) - RECORD_COST * len(records)
        count = len(self._offsets)
        if left < 0 or count + len(records) > GROUP_RECORDS_MAX or max(lengths, default=0) > RECORD_BYTES_MAX:
            raise LocalError(f"{len(records)} records do not fit the group; commit first, or one is too long")
        prefix, head, add_offset = RECORD_PREFIX.pack, RECORD_HEAD.pack, self._offsets.append
        chain, offset = self._chain, len(self._buffer)
        parts: list[bytes] = []
        add = parts.append
        try:
            for (kind, payload), length in zip(records, lengths, strict=True):
                chain = crc32(payload, crc32(prefix(length, sequence, kind), chain))
                add(head(length, chain, sequence, kind))
                add(payload)
                add_offset(offset)
                offset += RECORD_HEAD_BYTES + length
                sequence += 1
        except struct.error as error:
            del self._offsets[count:]
            raise LocalError(f"record kind: {error}") from error
        self._buffer += b"".join(parts)
        self._left, self._chain, self.next_sequence = left, chain, sequence
        return first

    @property
    def room(self) -> int:
        """Payload bytes that one more record of the group being staged may have; negative: none fits, commit first."""
        if len(self._offsets) >= GROUP_RECORDS_MAX or self._closed:
            return -1
        return min(self._left - RECORD_COST, RECORD_BYTES_MAX)

    def commit(self) -> int:
        """Write what is staged with one sync and return `durable_sequence`.

        On failure raises `StorageError` and the whole group is dropped: nothing of it may be acknowledged, and its
        sequences will be given to other records.
        """
        if not self._offsets:
            return self.durable_sequence
        if self._closed:
            raise LocalError("the log is closed")
        try:
            sealed = self._write_group()
        except OSError as error:
            self._drop_staged()
            raise storage_error(error, f"writing to {self._disk.describe()}") from error
        self._publish_group()
        self._after_commit(sealed)
        return self.durable_sequence

    def discard(self, spans: Iterable[Span]) -> int:
        """Give up the payloads of records [first, end), which a durable record says are not needed any more.

        Their sequences stay taken; `read` raises `RecordDiscarded` and `scan` says `DISCARDED` once their segment was
        rewritten, which `work` does once a quarter of its payload bytes can go; until then they read as before. Only
        sealed segments are rewritten, so the newest records wait. That they were given up is kept in memory alone: say
        it again after opening. Returns how many records were not given up before. Raises `LocalError` for records that
        are not durable.
        """
        if self._closed:
            raise LocalError("the log is closed")
        self._again_at = 0
        return self._discarding.add(spans, self.durable_sequence)

    def work(self) -> bool:
        """One bounded step of what is not urgent: sync a sealed segment's footer, prepare the next segment, compact.

        Returns whether more waits. Failures cost nothing here: a footer is derived, the others are tried again later.
        """
        if self._closed:
            return False
        try:
            if self._sealed_unsynced:
                self._sync_sealed()
            elif self._wants_spare():
                self._prepare()
            elif self._wants_room():
                self.written_bytes += self._discarding.step()
        except OSError:
            self._again_at = self.written_bytes + self._segment_bytes // 16
            if self._spare is not None:
                self._spare.discard()
        return self.has_work

    @property
    def has_work(self) -> bool:
        """Whether `work` has something to do."""
        if self._closed:
            return False
        return bool(self._sealed_unsynced) or self._wants_spare() or self._wants_room()

    @property
    def group_bytes(self) -> int:
        """What one group may hold, counted as the payloads plus `RECORD_COST` for each record."""
        return self._group_room()

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, sequence: int) -> Record:
        """One durable record, its CRC checked.

        Raises `IndexError` out of range, `RecordDiscarded`, and `SegmentCorrupt` naming the place.
        """
        if not 0 <= sequence < self.durable_sequence:
            raise IndexError(f"record {sequence} is not in the log (0 to {self.durable_sequence - 1})")
        segment = self._segments[bisect_right(self._firsts, sequence) - 1]
        try:
            return self._reader.read(segment, sequence)
        except Replaced:
            self._expect_replaced(segment)
            return self.read(sequence)
        except OSError as error:
            raise self._reading(error) from error

    def scan(self, start: int = 0) -> Iterator[Record]:
        """Every record that was durable when the scan began, from `start` on, checked along the chain.

        What is gone is there too, with the kind `DISCARDED` and one byte for the kind that it had.
        """
        stop = self.durable_sequence
        if start < 0:
            raise IndexError(f"record {start} is not in the log")
        sequence = start
        while sequence < stop:
            segment = self._segments[bisect_right(self._firsts, sequence) - 1]
            try:
                for record in self._reader.scan(segment, sequence, stop):
                    sequence = record.sequence + 1
                    yield record
            except Replaced:
                self._expect_replaced(segment)
            except OSError as error:
                raise self._reading(error) from error

    def verify(self) -> int:
        """Read everything back: headers, chain, records. Returns the count; raises at the first bad byte."""
        stop = self.durable_sequence
        place = 0
        while place < len(self._segments):
            segment = self._segments[place]
            try:
                self._reader.verify_header(segment, self.store_id)
                place += 1
            except Replaced:
                self._expect_replaced(segment)
            except OSError as error:
                raise self._reading(error) from error
        return sum(1 for record in self.scan() if record.sequence < stop)

    @property
    def storage_bytes(self) -> int:
        """Bytes of the segment files, the spare included."""
        ready = self._spare is not None and self._spare.ready
        return sum(segment.segment_bytes for segment in list(self._segments)) + ready * self._segment_bytes

    # --- within ------------------------------------------------------------------------------------------------------

    def _group_room(self) -> int:
        """Bytes of records and their index entries that an empty segment takes as one group."""
        return min(GROUP_BYTES_MAX, self._segment_bytes - DATA_OFFSET - 2 * MARK_BYTES - codec.footer_bytes(0))

    def _clear_group(self) -> None:
        del self._buffer[MARK_BYTES:]
        del self._offsets[:]
        self._left = self._group_room()

    def _fits(self, segment: Segment) -> bool:
        records = len(segment.offsets) + len(self._offsets)
        return segment.end + len(self._buffer) + MARK_BYTES + codec.footer_bytes(records) <= segment.segment_bytes

    def _write_group(self) -> tuple[Segment, File] | None:
        """Write and sync the staged group. Returns the segment that this sealed, with its writer, if any."""
        sealed: tuple[Segment, File] | None = None
        active, head = self._active, b""
        if active is None or not self._fits(active):
            spare = self._finished_spare()  # may fail: then nothing has changed
            if active is not None:
                sealed = (active, self._open_writer(active))
            # From here on the old segment must never be appended to: the header of the new one may reach the disk,
            # and it says that the old one ends here.
            active, self._writer, self._spare = self._begin(spare), None, None
            self._active = active
            head = self._header(active)
        try:
            writer = self._open_writer(active)
            self._buffer[:MARK_BYTES] = codec.encode_mark(self.durable_sequence, active.number, active.end, self._salt)
            if head:
                writer.pwrite(head + self._buffer, 0)
            else:
                writer.pwrite(self._buffer, active.end)
            self.written_bytes += len(head) + len(self._buffer)
            writer.datasync()
        except OSError:
            self._abandon()
            if sealed is not None:
                sealed[1].close()
            raise
        if head:
            self._segments.append(active)
            self._firsts.append(active.first_sequence)
        return sealed

    def _publish_group(self) -> None:
        active = self._active
        assert active is not None
        base = active.end
        active.offsets.extend([base + offset for offset in self._offsets])
        active.end = base + len(self._buffer)
        self._durable_chain = self._chain
        self.durable_sequence = self.next_sequence
        self._clear_group()

    def _after_commit(self, sealed: tuple[Segment, File] | None) -> None:
        """Leave proof that this group became durable. Not synced: it rides with the next group, or the write-back."""
        active, writer = self._active, self._writer
        assert active is not None
        assert writer is not None
        try:
            writer.pwrite(codec.encode_mark(self.durable_sequence, active.number, active.end, self._salt), active.end)
            if active.end - self._watermark_end >= WATERMARK_BYTES:
                self._write_watermark(active, writer)
        except OSError:
            self._abandon()  # what was promised is durable; the next group goes elsewhere
        if sealed is not None:
            segment, file = sealed
            with contextlib.suppress(OSError):
                write_footer(file, segment, active.seed)
                self.written_bytes += codec.footer_bytes(len(segment.offsets))
            self._sealed_unsynced.append(file)
            self._discarding.sealed(segment)

    def _drop_staged(self) -> None:
        self.next_sequence = self.durable_sequence
        self._chain = self._durable_chain
        self._clear_group()

    def _abandon(self) -> None:
        """Never write to this segment again: after a failed sync nobody knows what it holds past the last good one."""
        if self._writer is not None:
            self._writer.close()
        self._active = self._writer = None

    def _open_writer(self, active: Segment) -> File:
        if self._writer is None:
            self._writer = self._disk.open(plan.segment_name(active.number))
        return self._writer

    def _begin(self, spare: Spare) -> Segment:
        self._watermark_end = DATA_OFFSET
        return Segment(spare.number, self.durable_sequence, self._durable_chain, self._segment_bytes)

    def _header(self, segment: Segment) -> bytes:
        """Header and an empty watermark."""
        header = Header(self.store_id, segment.number, segment.segment_bytes, segment.first_sequence, segment.seed)
        return codec.encode_header(header) + bytes(MARK_BYTES)

    def _wants_spare(self) -> bool:
        """Only once a quarter of the active segment is used: a small log stays one file."""
        if self._spare is not None and self._spare.ready:
            return False
        if self.written_bytes < self._again_at:
            return False
        return self._active is None or self._active.end * 4 > self._segment_bytes

    def _wants_room(self) -> bool:
        return self._discarding.has_work and self.written_bytes >= self._again_at

    def _new_spare(self) -> Spare:
        if self._spare is None:
            self._spare = Spare(self._disk, self._next_number, self._segment_bytes)
        self._next_number = max(self._next_number, self._spare.number + 1)
        return self._spare

    def _prepare(self) -> None:
        self._new_spare().step()
        self.written_bytes += min(self._segment_bytes, 256 * 1024)

    def _finished_spare(self) -> Spare:
        spare = self._new_spare()
        if not spare.ready:
            try:
                spare.finish()
            except OSError:
                spare.discard()
                raise
            self.written_bytes += self._segment_bytes
        return spare

    def _write_watermark(self, active: Segment, writer: File) -> None:
        mark = codec.encode_mark(self.durable_sequence, active.number, codec.WATERMARK_OFFSET, self._salt)
        writer.pwrite(mark, codec.WATERMARK_OFFSET)
        self._watermark_end = active.end

    def _leave_watermark(self) -> None:
        if self._active is not None and self._slot_sequence != self.durable_sequence:
            writer = self._open_writer(self._active)
            self._write_watermark(self._active, writer)
            writer.datasync()

    def _sync_sealed(self) -> None:
        while self._sealed_unsynced:
            file = self._sealed_unsynced.pop()
            try:
                file.datasync()
            finally:
                file.close()

    def _replace(self, compaction: Compaction, segment: Segment) -> None:
        place = bisect_right(self._firsts, segment.first_sequence) - 1
        with self._replacing:
            compaction.publish(lambda: self._segments.__setitem__(place, segment))

    def _expect_replaced(self, segment: Segment) -> None:
        """Wait until a replacement that is under way is through. Raises `SegmentCorrupt` where there was none."""
        with self._replacing:
            if any(each is segment for each in self._segments):
                raise SegmentCorrupt(
                    f"the file is not {segment.segment_bytes} bytes long",
                    segment=segment.number,
                    offset=0,
                    sequence=segment.first_sequence,
                )

    def _reading(self, error: OSError) -> StorageError:
        return storage_error(error, f"reading {self._disk.describe()}")


def _create(disk: Disk, store_id: bytes, segment_bytes: int) -> Recovered:
    """A log with no records: its first segment appears with its header already in it, or not at all."""
    if len(store_id) != codec.STORE_ID_BYTES:
        raise LocalError(f"a store id is {codec.STORE_ID_BYTES} bytes, not {len(store_id)}")
    if segment_bytes >= codec.SEGMENT_BYTES_MAX:
        raise LocalError(f"a segment of {segment_bytes} bytes is too long")
    seed = codec.initial_chain(store_id)
    mark = codec.encode_mark(0, 0, codec.WATERMARK_OFFSET, seed)
    head = codec.encode_header(Header(store_id, 0, segment_bytes, 0, seed)) + mark
    head += codec.encode_mark(0, 0, DATA_OFFSET, seed)
    spare = Spare(disk, 0, segment_bytes)
    try:
        spare.finish(head)
    except OSError:
        spare.discard()
        raise
    return Recovered(store_id, [Segment(0, 0, seed, segment_bytes)], 0, seed, 0, 1, None, repaired=False)
