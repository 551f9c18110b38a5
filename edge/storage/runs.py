"""What is left of discarded records: runs, which stand for them in compacted segments. Pure; no I/O, no state.

Spec: FORMATS.md, "Compacted segments". A run stands for consecutive records of one kind whose payloads were given up.
It keeps their sequences, their kind and the CRC of the last one, which seeds the next record's as before.

    0   u32  RUN_TAG             longer than any record, so no record can be taken for a run
    4   u32  CRC of the run's last record, where a record has its own
    8   u64  first sequence      where a record has its own
    16  u8   kind that the records had
    17  u32  how many they are
    21  u32  CRC of the 21 bytes before

In a segment's index a run takes two words: its offset with the top bit set, and its count.
"""

import re
import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from edge.storage.spans import Span

DISCARDED: Final = 256  # the kind of a record that is gone; no record on disk can have it
RUN_TAG: Final = 0x6E75_5244  # "DRun"
RUN_BYTES: Final = 25

_RUN = struct.Struct("<IIQBI")
_CRC = struct.Struct("<I")
_RUN_BIT: Final = 0x8000_0000
_TOP_BIT_SET: Final = re.compile(rb"[\x80-\xff]")


@dataclass(frozen=True, slots=True)
class Run:
    """Discarded records `first` to `first + count - 1`. `chain` is the CRC of the last one."""

    first: int
    count: int
    kind: int
    chain: int

    @property
    def end(self) -> int:
        """The sequence after the last."""
        return self.first + self.count


def encode_run(run: Run) -> bytes:
    """25 bytes."""
    body = _RUN.pack(RUN_TAG, run.chain, run.first, run.kind, run.count)
    return body + _CRC.pack(crc32(body))


def decode_run(data: bytes, position: int) -> Run | None:
    """The run at `position`, or None where no intact one stands."""
    body = data[position : position + _RUN.size]
    if position + RUN_BYTES > len(data) or _CRC.unpack_from(data, position + _RUN.size)[0] != crc32(body):
        return None
    tag, chain, first, kind, count = _RUN.unpack(body)
    return Run(first, count, kind, chain) if tag == RUN_TAG and count else None


def pack_index(offsets: "array[int]", first_sequence: int, spans: Sequence[Span]) -> "array[int]":
    """The words of a segment's index: one for each record, two for each run (`spans`, ascending)."""
    if not spans:
        return offsets
    words = array("I")
    index = 0
    for first, end in spans:
        start, stop = first - first_sequence, end - first_sequence
        words += offsets[index:start]
        words.append(offsets[start] | _RUN_BIT)
        words.append(end - first)
        index = stop
    return words + offsets[index:]


def unpack_index(words: "array[int]", first_sequence: int) -> tuple["array[int]", tuple[Span, ...]] | None:
    """Offset of every record (those of a run have the run's) and the spans of the runs; None: no index."""
    top = 3 if sys.byteorder == "little" else 0
    runs = [found.start() for found in _TOP_BIT_SET.finditer(words.tobytes()[top::4])]
    if not runs:
        return words, ()
    offsets = array("I")
    spans: list[Span] = []
    index = 0
    for at in runs:
        if at < index or at + 1 >= len(words):
            return None
        offsets += words[index:at]
        first = first_sequence + len(offsets)
        offsets += array("I", [words[at] & ~_RUN_BIT]) * words[at + 1]
        spans.append((first, first + words[at + 1]))
        index = at + 2
    return offsets + words[index:], tuple(spans)
