"""Bytes of a segment file: header, records, marks and the footer of a sealed segment. Pure; no I/O, no state.

Spec: FORMATS.md, "Segment files". All integers are little-endian, every CRC is CRC-32 (zlib, ISO-HDLC).

    0    header      64 B   magic, version, store id, segment number and size, first sequence, chain seed, CRC
    64   watermark   16 B   a mark: "every record below this sequence was durable when I was written"; zeros: none
    80   groups             each: a mark (16 B), then its records, back to back; zeros after the last one
    end  footer             sealed segments only: u32 offset of every record, then a 32 B trailer; derived, rebuilt

A compacted segment (version 2) was sealed and rewritten without what was discarded: no marks, runs (`runs.py`) among
the records, and a file just as long as that takes.

Invariants: a record's CRC is seeded with the CRC of the record before it, across segments, so a record is valid only
after exactly the history it was written after. A mark is written only after everything before it was synced.
"""

import struct
import sys
from array import array
from dataclasses import dataclass
from zlib import crc32

from edge.storage.runs import RUN_BYTES, RUN_TAG, decode_run, pack_index, unpack_index
from edge.storage.spans import Span

MAGIC = b"POMONLOG"
FORMAT_VERSION = 1
COMPACTED_VERSION = 2  # software that knows only version 1 refuses the log instead of misreading it
STORE_ID_BYTES = 16
SEGMENT_BYTES_MAX = 2**31  # the top bit of an offset says that it is a run's

HEADER_BYTES = 64
WATERMARK_OFFSET = HEADER_BYTES
MARK_BYTES = 16
DATA_OFFSET = WATERMARK_OFFSET + MARK_BYTES
RECORD_HEAD_BYTES = 17
TRAILER_BYTES = 32
INDEX_ENTRY_BYTES = 4

MARK_TAG = 0x6B72414D  # "MArk"; as a record length it would be 1.8 GB, so no record can be mistaken for a mark
_MARK_TAG_BYTES = MARK_TAG.to_bytes(4, "little")
_TRAILER_TAG = 0x7846_7453  # "StFx"

_HEADER = struct.Struct("<8sI16sIIQI12x")
_CRC = struct.Struct("<I")
_MARK = struct.Struct("<IIQ")
_MARK_PLACE = struct.Struct("<QII")
_TRAILER = struct.Struct("<IIQIII")
RECORD_HEAD = struct.Struct("<IIQB")  # payload length, CRC, sequence, kind
RECORD_PREFIX = struct.Struct("<IQB")  # the same without the CRC: what the CRC covers before the payload


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the log. `kind` is 0 to 255 and means nothing to the storage.

    A scan gives kind `runs.DISCARDED` to a record that is gone; its payload is one byte, the kind it had.
    """

    sequence: int
    kind: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """Head of a segment. `seed` is the CRC of record `first_sequence - 1`, or `initial_chain` of the store."""

    store_id: bytes
    number: int
    segment_bytes: int
    first_sequence: int
    seed: int
    version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Footer:
    """Index of a sealed segment: where each record starts, where the records end, and the CRC of the last one.

    `runs`: the sequences that runs stand for; each of them has its run's offset.
    """

    first_sequence: int
    end: int
    chain: int
    offsets: "array[int]"
    runs: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Walk:
    """What a walk along the chain found: the records that are valid one after another from the start.

    `end` is where the next group's mark belongs; `marked` the offset of the last mark passed (None: none); `sequence`
    and `chain` are what the next record must carry and be seeded with.
    """

    offsets: "array[int]"
    end: int
    marked: int | None
    sequence: int
    chain: int
    runs: tuple[Span, ...] = ()


def initial_chain(store_id: bytes) -> int:
    """Chain seed of a store's first record; it also salts the marks, so another log's bytes never pass for ours."""
    return crc32(store_id)


def encode_header(header: Header) -> bytes:
    """64 bytes."""
    body = _HEADER.pack(
        MAGIC,
        header.version,
        header.store_id,
        header.number,
        header.segment_bytes,
        header.first_sequence,
        header.seed,
    )
    return body + _CRC.pack(crc32(body))


def decode_header(data: bytes) -> Header | None:
    """The header at the start of `data`, or None where there is none that is intact."""
    if len(data) < HEADER_BYTES or data[:8] != MAGIC:
        return None
    body = data[: HEADER_BYTES - 4]
    if crc32(body) != _CRC.unpack_from(data, HEADER_BYTES - 4)[0]:
        return None
    _, version, store_id, number, segment_bytes, first_sequence, seed = _HEADER.unpack(body)
    return Header(store_id, number, segment_bytes, first_sequence, seed, version)


def encode_mark(sequence: int, number: int, offset: int, salt: int) -> bytes:
    """A mark for `offset` of segment `number`; its CRC binds the place, so a copied mark is never valid elsewhere."""
    return _MARK.pack(MARK_TAG, crc32(_MARK_PLACE.pack(sequence, number, offset), salt), sequence)


def decode_mark(data: bytes, number: int, offset: int, salt: int) -> int | None:
    """Sequence of the mark at `offset` of `data` (a segment's bytes from 0), or None where no intact mark stands."""
    if offset + MARK_BYTES > len(data):
        return None
    tag, crc, sequence = _MARK.unpack_from(data, offset)
    if tag != MARK_TAG or crc != crc32(_MARK_PLACE.pack(sequence, number, offset), salt):
        return None
    return int(sequence)


def find_mark(data: bytes, start: int, number: int, salt: int) -> int | None:
    """Offset of the first intact mark at or after `start`, wherever it stands, or None."""
    offset = data.find(_MARK_TAG_BYTES, start)
    while offset >= 0:
        if decode_mark(data, number, offset, salt) is not None:
            return offset
        offset = data.find(_MARK_TAG_BYTES, offset + 1)
    return None


def record_crc(sequence: int, kind: int, payload: bytes, chain: int) -> int:
    """CRC over length, sequence, kind and payload, seeded with the CRC of the record before."""
    return crc32(payload, crc32(RECORD_PREFIX.pack(len(payload), sequence, kind), chain))


def encode_record(record: Record, chain: int) -> tuple[bytes, int]:
    """A record's bytes and the chain value after it. The hot path in `log.py` does the same without the objects."""
    crc = record_crc(record.sequence, record.kind, record.payload, chain)
    head = RECORD_HEAD.pack(len(record.payload), crc, record.sequence, record.kind)
    return head + record.payload, crc


def decode_record(data: bytes, position: int, sequence: int, chain: int) -> Record | None:
    """The record at `position`, if it is intact, has this sequence, and follows the record whose CRC is `chain`."""
    if position + RECORD_HEAD_BYTES > len(data):
        return None
    length, crc, stored, kind = RECORD_HEAD.unpack_from(data, position)
    payload = data[position + RECORD_HEAD_BYTES : position + RECORD_HEAD_BYTES + length]
    if stored != sequence or len(payload) != length or crc != record_crc(sequence, kind, payload, chain):
        return None
    return Record(sequence, kind, payload)


def walk(data: bytes, header: Header, salt: int, *, stop_sequence: int | None = None) -> Walk:
    """Follow the chain from the start of a segment until something is not valid, or `stop_sequence` is reached."""
    offsets = array("I")
    add = offsets.append
    unpack = RECORD_HEAD.unpack_from
    view = memoryview(data)
    limit = len(data)
    position, sequence, chain = DATA_OFFSET, header.first_sequence, header.seed
    marked: int | None = None
    runs: list[Span] = []
    while position + RECORD_HEAD_BYTES <= limit and sequence != stop_sequence:
        length, crc, stored, _ = unpack(data, position)
        if length == RUN_TAG and header.version == COMPACTED_VERSION:
            run = decode_run(data, position)
            if run is None or run.first != sequence or stop_sequence is None or run.end > stop_sequence:
                break
            offsets.extend(array("I", [position]) * run.count)
            runs.append((run.first, run.end))
            position, sequence, chain = position + RUN_BYTES, run.end, run.chain
            continue
        if length == MARK_TAG:
            if decode_mark(data, header.number, position, salt) != sequence:
                break
            marked = position
            position += MARK_BYTES
            continue
        end = position + RECORD_HEAD_BYTES + length
        if stored != sequence or end > limit:
            break
        if crc != crc32(view[position + 8 : end], crc32(view[position : position + 4], chain)):
            break
        add(position)
        position, sequence, chain = end, sequence + 1, crc
    if marked is not None and marked + MARK_BYTES == position:
        position = marked  # a mark with nothing after it is where the next group begins
    return Walk(offsets, position, marked, sequence, chain, tuple(runs))


def footer_bytes(words: int) -> int:
    """Room at the end of a segment that the footer of so many records takes, each run counted twice."""
    return TRAILER_BYTES + INDEX_ENTRY_BYTES * words


def encode_footer(footer: Footer) -> bytes:
    """Offsets and trailer, to be written so that they end with the segment file."""
    words = pack_index(footer.offsets, footer.first_sequence, footer.runs)
    index = _little_endian(words).tobytes()
    body = _TRAILER.pack(_TRAILER_TAG, len(words), footer.first_sequence, footer.end, footer.chain, crc32(index))
    return index + body + _CRC.pack(crc32(body))


def decode_trailer(trailer: bytes) -> int | None:
    """Number of words in the index before an intact 32-byte trailer, or None."""
    if len(trailer) != TRAILER_BYTES or _CRC.unpack_from(trailer, TRAILER_BYTES - 4)[0] != crc32(trailer[:-4]):
        return None
    tag, count, *_ = _TRAILER.unpack_from(trailer)
    return int(count) if tag == _TRAILER_TAG else None


def decode_footer(data: bytes) -> Footer | None:
    """The footer that `data` is (offsets and trailer, nothing else), or None where it is not intact."""
    count = decode_trailer(data[-TRAILER_BYTES:])
    if count is None or len(data) != footer_bytes(count):
        return None
    _, _, first_sequence, end, chain, index_crc = _TRAILER.unpack_from(data, len(data) - TRAILER_BYTES)
    index = data[:-TRAILER_BYTES]
    if crc32(index) != index_crc:
        return None
    unpacked = unpack_index(_little_endian(array("I", index)), first_sequence)
    return None if unpacked is None else Footer(first_sequence, end, chain, *unpacked)


def _little_endian(offsets: "array[int]") -> "array[int]":
    if sys.byteorder == "little":
        return offsets
    swapped = array("I", offsets)
    swapped.byteswap()
    return swapped
