"""The messages of `hypercore/alpha` that tell who holds which blocks of a log. Pure; the rules are those of `messages`.

Spec: hypercore 11.37, `want`, `unwant`, `bitfield` and `range` in lib/messages.js.
"""

from dataclasses import dataclass
from typing import Final

from edge.encoding.compact import Reader, uint
from edge.errors import LocalError, RemoteError
from edge.limits import INTEGER_MAX

_WORD_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Want:
    """The sender wants to know which blocks of a stretch the receiver holds; with `any`, some that it holds."""

    start: int
    length: int
    any: bool = False

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return uint(self.start) + uint(self.length) + (b"\x01" if self.any else b"")


@dataclass(frozen=True, slots=True)
class Unwant:
    """Takes a `Want` back."""

    start: int
    length: int
    any: bool = False

    def encode(self) -> bytes:
        """The bytes on the wire."""
        return uint(self.start) + uint(self.length) + (b"\x01" if self.any else b"")


def decode_want(payload: bytes) -> Want:
    """The want in `payload`."""
    return Want(*_read_want(payload))


def decode_unwant(payload: bytes) -> Unwant:
    """The unwant in `payload`."""
    return Unwant(*_read_want(payload))


@dataclass(frozen=True, slots=True)
class Bitfield:
    """Which blocks the sender holds from `start` on: 32-bit words, little endian, lowest bit first."""

    start: int
    words: bytes

    def encode(self) -> bytes:
        """The bytes on the wire."""
        count, rest = divmod(len(self.words), _WORD_BYTES)
        if rest:
            raise LocalError(f"a bitfield of {len(self.words)} bytes is no whole number of words")
        return uint(self.start) + uint(count) + self.words


def decode_bitfield(payload: bytes) -> Bitfield:
    """The bitfield in `payload`."""
    reader = Reader(payload)
    start = reader.uint()
    words = reader.raw(reader.uint() * _WORD_BYTES)
    if start + 8 * len(words) > INTEGER_MAX:
        raise RemoteError("a bitfield reaches past 2^53-1", reason="range")
    return Bitfield(start, words)


@dataclass(frozen=True, slots=True)
class Range:
    """The sender holds, or with `drop` no longer holds, `length` blocks from `start` on."""

    drop: bool
    start: int
    length: int

    def encode(self) -> bytes:
        """The bytes on the wire."""
        if self.length == 1:
            return uint(self.drop | 2) + uint(self.start)
        return uint(self.drop) + uint(self.start) + uint(self.length)


def decode_range(payload: bytes) -> Range:
    """The range in `payload`."""
    reader = Reader(payload)
    flags = reader.uint()
    if flags & 2:
        return Range(bool(flags & 1), reader.uint(), 1)
    return Range(bool(flags & 1), *stretch(reader))


def stretch(reader: Reader) -> tuple[int, int]:
    """A start and a length that end within the largest integer."""
    start, length = reader.uint(), reader.uint()
    if start + length > INTEGER_MAX:
        raise RemoteError(f"{length} blocks from {start} on end past 2^53-1", reason="range")
    return start, length


def _read_want(payload: bytes) -> tuple[int, int, bool]:
    reader = Reader(payload)
    start, length = stretch(reader)
    return start, length, bool(reader.left and reader.uint() & 1)
