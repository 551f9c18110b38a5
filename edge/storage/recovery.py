"""Opening a log: reads the folder, asks `plan.py` for verdicts and carries them out on the disk.

Invariants: running it twice changes nothing the second time; before it returns, everything it found valid is durable
and everything after it is zero, synced. Where it raises, it has changed nothing but temporary files.
"""

import contextlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from edge.storage import codec, plan
from edge.storage.codec import Header
from edge.storage.disk import Disk, File
from edge.storage.spans import Span


@dataclass(slots=True, eq=False)
class Segment:
    """What is held in memory of one segment: where each of its records starts (4 bytes a record).

    One object stands for one file: a segment that is rewritten gets another. `runs`: what of it is discarded.
    """

    number: int
    first_sequence: int
    seed: int
    segment_bytes: int
    end: int = codec.DATA_OFFSET
    offsets: "array[int]" = field(default_factory=lambda: array("I"))
    runs: tuple[Span, ...] = ()

    @property
    def end_sequence(self) -> int:
        """The sequence after the last."""
        return self.first_sequence + len(self.offsets)


@dataclass(frozen=True, slots=True)
class Recovered:
    """A log as found. `sequence` and `chain` are what the next record carries; the last segment takes it."""

    store_id: bytes
    segments: list[Segment]
    sequence: int
    chain: int
    watermark: int | None
    next_number: int
    spare_number: int | None
    repaired: bool


def recover(disk: Disk) -> Recovered | None:
    """Read, judge, repair. None: no log here. Raises `SegmentCorrupt`, `StorageError` or `OSError`."""
    names = disk.list()
    for temporary in (plan.SPARE_NAME, plan.REWRITE_NAME):
        if temporary in names:
            disk.unlink(temporary)
    numbers = sorted(number for name in names if (number := plan.segment_number(name)) is not None)
    if not numbers:
        return None
    headers = _headers(disk, numbers)
    first = headers[0] if headers else None
    if first is None or first.number != 0 or first.first_sequence != 0:
        raise plan.SegmentCorrupt("the first segment's header is damaged or missing", segment=0, offset=0, sequence=0)
    salt = codec.initial_chain(first.store_id)
    segments = [
        segment
        for header, successor in pairwise(headers)
        if (segment := _sealed(disk, header, successor, salt)) is not None
    ]
    last, tail, torn, spare_number = _last(disk, headers[-1], numbers, salt)
    for header, successor in pairwise(headers):
        _restore_footer(disk, segments, header, successor)
    return Recovered(
        store_id=first.store_id,
        segments=[*segments, last],
        sequence=tail.walk.sequence,
        chain=tail.walk.chain,
        watermark=tail.watermark if tail.clean else tail.walk.sequence,
        next_number=max(numbers) + 1,
        spare_number=spare_number,
        repaired=torn or not tail.clean,
    )


def _headers(disk: Disk, numbers: list[int]) -> list[Header]:
    """Every intact header, in the order of the segments."""
    headers: list[Header] = []
    store_id: bytes | None = None
    for number in numbers:
        with _opened(disk, number) as file:
            header = plan.judge_header(file.pread(codec.HEADER_BYTES, 0), number, file.size(), store_id)
        if header is not None:
            headers.append(header)
            store_id = header.store_id
    return headers


def _sealed(disk: Disk, header: Header, successor: Header, salt: int) -> Segment | None:
    """A segment that has a successor; None where a failed sync left it without records."""
    if header.first_sequence == successor.first_sequence and header.seed == successor.seed:
        return None
    segment = Segment(header.number, header.first_sequence, header.seed, header.segment_bytes)
    with _opened(disk, header.number) as file:
        footer = _read_footer(file, header.segment_bytes)
        if footer is not None and plan.judge_footer(footer, header, successor):
            segment.end, segment.offsets, segment.runs = footer.end, footer.offsets, footer.runs
            return segment
        data = file.pread(header.segment_bytes, 0)
    found = plan.walk_sealed(data, header, successor, salt)
    segment.end, segment.offsets, segment.runs = found.end, found.offsets, found.runs
    return segment


def _read_footer(file: File, segment_bytes: int) -> codec.Footer | None:
    start = segment_bytes - codec.TRAILER_BYTES
    count = codec.decode_trailer(file.pread(codec.TRAILER_BYTES, start))
    if count is None or codec.footer_bytes(count) > segment_bytes:
        return None
    size = codec.footer_bytes(count)
    return codec.decode_footer(file.pread(size, segment_bytes - size))


def _last(disk: Disk, header: Header, numbers: list[int], salt: int) -> tuple[Segment, plan.Tail, bool, int | None]:
    """Judge the last segment and what lies after it, then repair both; nothing is written before all is judged.

    Returns the segment, the verdict, whether torn files were removed, and the number of a spare that is ready.
    """
    with _opened(disk, header.number) as file:
        data = file.pread(header.segment_bytes, 0)
        tail = plan.judge_tail(data, header, salt)
        found = tail.walk
        spares, torn = _leftovers(disk, header, [n for n in numbers if n > header.number], salt, found.sequence)
        if not tail.clean:
            _repair(file, data, tail, header.number, salt)
    for number in [*torn, *spares[1:]]:
        disk.unlink(plan.segment_name(number))
    disk.sync_directory()  # a process may have died between naming a segment and syncing its name
    segment = Segment(header.number, header.first_sequence, header.seed, header.segment_bytes, found.end, found.offsets)
    return segment, tail, bool(torn), spares[0] if spares else None


def _leftovers(disk: Disk, last: Header, numbers: list[int], salt: int, sequence: int) -> tuple[list[int], list[int]]:
    """Files after the last segment: (ready spares, torn ones)."""
    spares: list[int] = []
    torn: list[int] = []
    for number in numbers:
        with _opened(disk, number) as file:
            size = file.size()
            verdict = plan.judge_leftover(file.pread(size, 0), number, salt, sequence)
        usable = verdict is plan.Leftover.SPARE and size == last.segment_bytes
        (spares if usable else torn).append(number)
    return spares, torn


def _repair(file: File, data: bytes, tail: plan.Tail, number: int, salt: int) -> None:
    """Make what is valid durable and the rest zero; only when both are synced say so with a mark and the watermark."""
    end, sequence = tail.walk.end, tail.walk.sequence
    if tail.rewrite_from < end:
        file.pwrite(data[tail.rewrite_from : end], tail.rewrite_from)
    low, high = tail.dirty
    if low < high:
        file.pwrite(bytes(high - low), low)
    file.datasync()
    file.pwrite(codec.encode_mark(sequence, number, end, salt), end)
    file.pwrite(codec.encode_mark(sequence, number, codec.WATERMARK_OFFSET, salt), codec.WATERMARK_OFFSET)
    file.datasync()


def _restore_footer(disk: Disk, segments: list[Segment], header: Header, successor: Header) -> None:
    """Write a sealed segment's footer again where it is missing; derived, so a failure is no failure."""
    segment = next((each for each in segments if each.number == header.number), None)
    if segment is None:
        return
    with contextlib.suppress(OSError), _opened(disk, header.number) as file:
        if plan.judge_footer(_read_footer(file, header.segment_bytes), header, successor):
            return
        write_footer(file, segment, successor.seed)
        file.datasync()


def write_footer(file: File, segment: Segment, chain: int) -> None:
    """Footer of a sealed segment whose last record has CRC `chain`; skipped where a failed group left no room."""
    data = codec.encode_footer(codec.Footer(segment.first_sequence, segment.end, chain, segment.offsets, segment.runs))
    start = segment.segment_bytes - len(data)
    if segment.end <= start:
        file.pwrite(data, start)


@contextlib.contextmanager
def _opened(disk: Disk, number: int) -> Iterator[File]:
    file = disk.open(plan.segment_name(number))
    try:
        yield file
    finally:
        file.close()
