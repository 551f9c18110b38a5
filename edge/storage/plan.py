"""What recovery decides, as pure functions from bytes to a verdict. `recovery.py` carries the verdicts out.

The rule, and why it is sound:

1. A group begins with a mark, and a group is written only after everything before it was synced. After each sync the
   log also writes the next group's mark and, now and then, the watermark beside the header; neither is synced for its
   own sake. So **any intact mark proves that every byte before it was durable**, and so does any intact later header.
2. The last segment is valid as far as the chain of CRCs holds. If an intact mark stands beyond that point, or the
   watermark is above it, or a footer says that a successor exists, then bytes that were durable are gone: corruption,
   reported with segment, offset and sequence, and nothing is changed. Otherwise the rest is the torn remains of one
   group that was never acknowledged: it is overwritten with zeros and synced before anything is appended.
3. Records between the last mark and the end may live in the page cache alone (a process died between write and sync,
   or a sync failed): they are written again, synced, and only then shown.
4. A segment ends where the next intact header says that it continues. So what a failed sync may have left behind in an
   abandoned segment is never read, and a chain that does not reach that point is corruption, not a torn tail.
5. A sealed segment may have been replaced, by one rename, with a compacted one that was complete and synced before. Its
   runs are believed for what they say of the chain; that the chain ends where the next header says is checked as ever.

Limit: damage to the very last group is taken for a torn write while its trailing mark and the watermark have not
reached the disk either (a power cut within the kernel's write-back time, about 30 s); after a clean close, never.
"""

from dataclasses import dataclass
from enum import Enum, auto

from edge.errors import StorageError, StorageFault
from edge.storage.codec import (
    COMPACTED_VERSION,
    DATA_OFFSET,
    FORMAT_VERSION,
    MARK_BYTES,
    TRAILER_BYTES,
    WATERMARK_OFFSET,
    Footer,
    Header,
    Walk,
    decode_header,
    decode_mark,
    decode_trailer,
    find_mark,
    walk,
)

NAME_SUFFIX = ".seg"
SPARE_NAME = "spare.tmp"  # being zero-filled; never a segment until it is complete, synced and renamed
REWRITE_NAME = "rewrite.tmp"  # a segment being compacted, the same


class SegmentCorrupt(StorageError):
    """Bytes that were durable have changed. Names the place; nothing was altered."""

    def __init__(self, what: str, *, segment: int, offset: int, sequence: int) -> None:
        super().__init__(
            f"segment {segment} is corrupt at byte {offset}, record {sequence}: {what}", fault=StorageFault.CORRUPT
        )
        self.segment = segment
        self.offset = offset
        self.sequence = sequence


class RecordDiscarded(StorageError):
    """The record was given up by `SegmentLog.discard`, and its bytes are gone."""

    def __init__(self, sequence: int) -> None:
        super().__init__(f"record {sequence} was discarded", fault=StorageFault.DISCARDED)
        self.sequence = sequence


class Leftover(Enum):
    """What a file after the last segment is."""

    SPARE = auto()  # zero-filled, ready to become the next segment
    TORN = auto()  # its first group, header included, never became durable: remove it


@dataclass(frozen=True, slots=True)
class Tail:
    """The last segment: what is valid, and what must be done before anything is appended.

    `clean`: nothing. Else write `data[rewrite_from:walk.end]` again, zero `dirty` (offsets from, to), and sync.
    `watermark` is the sequence that the watermark names, if it is intact.
    """

    walk: Walk
    clean: bool
    rewrite_from: int
    dirty: tuple[int, int]
    watermark: int | None


def segment_name(number: int) -> str:
    """File name of a segment; sorts by number."""
    return f"{number:08x}{NAME_SUFFIX}"


def segment_number(name: str) -> int | None:
    """Number of the segment a file name stands for, or None for any other file."""
    stem = name.removesuffix(NAME_SUFFIX)
    if len(stem) != 8 or stem == name or not set(stem) <= set("0123456789abcdef"):
        return None
    return int(stem, 16)


def judge_header(data: bytes, number: int, size: int, store_id: bytes | None) -> Header | None:
    """The header of a file that is named as segment `number`; None: never in use, or torn. Refuses foreign files."""
    header = decode_header(data)
    if header is None:
        return None
    if header.version not in (FORMAT_VERSION, COMPACTED_VERSION):
        raise StorageError(
            f"segment {number} has format {header.version};"
            f" this version reads {FORMAT_VERSION} and {COMPACTED_VERSION}",
            fault=StorageFault.READ_ONLY,
        )
    foreign = header.number != number or (store_id is not None and header.store_id != store_id)
    if foreign or size != header.segment_bytes:
        what = "it belongs to another log or place" if foreign else f"the file is {size} bytes long"
        raise SegmentCorrupt(what, segment=number, offset=0, sequence=header.first_sequence)
    return header


def judge_tail(data: bytes, header: Header, salt: int) -> Tail:
    """Verdict on the last segment (all of its bytes). Raises `SegmentCorrupt` where durable records are gone."""
    found = walk(data, header, salt)
    place = {"segment": header.number, "offset": found.end, "sequence": found.sequence}
    marked_end = decode_mark(data, header.number, found.end, salt) == found.sequence
    after = found.end + MARK_BYTES if marked_end else found.end
    later = find_mark(data, after, header.number, salt)
    if later is not None:
        raise SegmentCorrupt(f"a later group starts at byte {later}", **place)
    watermark = decode_mark(data, header.number, WATERMARK_OFFSET, salt)
    if watermark is not None and watermark > found.sequence:
        raise SegmentCorrupt(f"records below {watermark} were durable", **place)
    if header.version == COMPACTED_VERSION or decode_trailer(data[-TRAILER_BYTES:]) is not None:
        raise SegmentCorrupt("it was sealed, but the segment after it is gone", **place)
    dirty = _dirty(data, after)
    # The mark that opens a segment is written together with the header, so it proves nothing about either.
    proven = marked_end and (found.end > DATA_OFFSET or watermark is not None)
    clean = proven and dirty[0] == dirty[1]
    rewrite_from = found.marked if found.marked is not None and found.marked > DATA_OFFSET else 0
    return Tail(found, clean, rewrite_from, dirty if clean else _dirty(data, found.end), watermark)


def judge_leftover(data: bytes, number: int, salt: int, sequence: int) -> Leftover:
    """Verdict on a file after the last intact header. `sequence` is the next one, for the message."""
    if not any_set(data):
        return Leftover.SPARE
    mark = find_mark(data, DATA_OFFSET + MARK_BYTES, number, salt)  # the one at DATA_OFFSET proves nothing, see above
    if mark is None and decode_mark(data, number, WATERMARK_OFFSET, salt) is None:
        return Leftover.TORN
    raise SegmentCorrupt("its header is damaged", segment=number, offset=0, sequence=sequence)


def judge_footer(footer: Footer | None, header: Header, successor: Header) -> bool:
    """Whether a sealed segment's footer says exactly what the two headers around its records say."""
    return (
        footer is not None
        and footer.first_sequence == header.first_sequence
        and footer.first_sequence + len(footer.offsets) == successor.first_sequence
        and footer.chain == successor.seed
    )


def walk_sealed(data: bytes, header: Header, successor: Header, salt: int) -> Walk:
    """Index a sealed segment from its records. Raises `SegmentCorrupt` unless the chain meets its successor."""
    found = walk(data, header, salt, stop_sequence=successor.first_sequence)
    if found.sequence != successor.first_sequence or found.chain != successor.seed:
        raise SegmentCorrupt(
            f"the chain does not reach segment {successor.number}, which continues at record"
            f" {successor.first_sequence}",
            segment=header.number,
            offset=found.end,
            sequence=found.sequence,
        )
    return found


def any_set(data: bytes) -> bool:
    """Whether any byte is not zero; memcmp speed."""
    return data != bytes(len(data))


def _dirty(data: bytes, start: int) -> tuple[int, int]:
    """The smallest range at or after `start` that holds every byte that is not zero."""
    tail = data[start:]
    if not any_set(tail):
        return start, start
    first = len(tail) - len(tail.lstrip(b"\0"))
    return start + first, start + len(tail.rstrip(b"\0"))
