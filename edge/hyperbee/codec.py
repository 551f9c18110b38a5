"""Blocks of a Hyperbee: the header in block 0, then one block for each put or delete, with the tree nodes it changed.

Protocol Buffers on the wire. Spec: hyperbee 2.27, schema.proto (`Header`, `Node`, `YoloIndex`).

    header   1 protocol "hyperbee"   2 metadata { 1 contentFeed   2 userData }
    node     1 index   2 key   3 value (absent: none)
    index    1 level, repeated { 1 seqs, packed   2 children, packed pairs of seq and offset }

A level is one node of the B-tree: its keys, each named by the block that holds it (`seq`), and its children, each named
by block and position of the level there. Children are handled as one integer, a pointer: `seq << OFFSET_BITS | offset`.

Invariants: any bytes give a value or `RemoteError`; what is decoded refers to blocks from 1 to the block itself alone;
levels are decoded one at a time, and none is larger than a node may be.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from edge.errors import RemoteError
from edge.limits import INTEGER_MAX

PROTOCOL: Final = "hyperbee"
KEYS_MIN: Final = 4  # of every node but the root
KEYS_MAX: Final = 8
OFFSET_BITS: Final = 20  # a block of 1 MiB has fewer levels
OFFSET_MASK: Final = (1 << OFFSET_BITS) - 1
USUAL_CHILD: Final = 4  # bytes of most children of most trees: three for the block, one for the offset
USUAL_POINTER_MIN: Final = 0x4000 << OFFSET_BITS  # those below take fewer for the block

_BYTES: Final = 2  # wire type of everything we know
_FIXED: Final = {1: 8, 5: 4}  # wire types of fields to skip
Span: TypeAlias = tuple[int, int]

_new_tuple: Final = tuple.__new__  # a Block without the detour through its keyword constructor
_INDEX, _KEY, _VALUE = 0x0A, 0x12, 0x1A  # field number << 3 | _BYTES
_START, _KEY_START, _VALUE_START = [[bytes((tag, size)) for size in range(0x80)] for tag in (_INDEX, _KEY, _VALUE)]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a header may say besides the protocol."""

    content_feed: bytes | None = None
    user_data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """Block 0."""

    protocol: str = PROTOCOL
    metadata: Metadata | None = None

    def encode(self) -> bytes:
        """As stock peers write it."""
        data = field(_INDEX, self.protocol.encode())
        if self.metadata is None:
            return data
        inner = b""
        if self.metadata.content_feed is not None:
            inner += field(_INDEX, self.metadata.content_feed)
        if self.metadata.user_data is not None:
            inner += field(_KEY, self.metadata.user_data)
        return data + field(_KEY, inner)

    @classmethod
    def decode(cls, data: bytes) -> "Header":
        """Raises `RemoteError` for bytes that are no header."""
        protocol, metadata = None, None
        for number, value in _fields(data, 0, len(data)):
            if number == 1:
                try:
                    protocol = data[slice(*value)].decode()
                except UnicodeDecodeError as error:
                    raise RemoteError("the header's protocol is no text") from error
            elif number == 2:
                found: dict[int, bytes] = {n: data[slice(*span)] for n, span in _fields(data, *value)}
                metadata = Metadata(found.get(1), found.get(2))
        if protocol is None:
            raise RemoteError("the header names no protocol")
        return cls(protocol, metadata)


class Block(NamedTuple):
    """A node block, its index still encoded."""

    key: bytes
    value: bytes | None
    levels: bytes


class Level(NamedTuple):
    """One tree node as it is stored: where its keys are, and pointers to its children."""

    seqs: Sequence[int]
    children: Sequence[int]


def encode_block(key: bytes, value: bytes | None, levels: Iterable[tuple[Sequence[int], Sequence[int]]]) -> bytes:
    """One put or delete (`value` None) and the levels that it carries, each as a `Level` has it."""
    return join_block(key, value, [level_body(pack(seqs), pack_children(children)) for seqs, children in levels])


def join_block(key: bytes, value: bytes | None, bodies: Iterable[bytes]) -> bytes:
    """The same of what `level_body` has made."""
    parts: list[bytes] = []
    for body in bodies:
        size = len(body)
        parts += (_START[size], body) if size < 0x80 else (field(_INDEX, body),)
    index = b"".join(parts)
    data = field(_INDEX, index) + (_KEY_START[len(key)] + key if len(key) < 0x80 else field(_KEY, key))
    if value is None:
        return data
    return b"".join((data, _VALUE_START[len(value)], value)) if len(value) < 0x80 else data + field(_VALUE, value)


def level_body(seqs: bytes, children: bytes) -> bytes:
    """A level of what `pack` and `pack_children` have made."""
    body = _START[len(seqs)] + seqs if 0 < len(seqs) < 0x80 else field(_INDEX, seqs) if seqs else b""
    if not children:
        return body
    size = len(children)
    return b"".join((body, _KEY_START[size], children)) if size < 0x80 else body + field(_KEY, children)


def pack(numbers: Sequence[int]) -> bytes:
    """Integers back to back, as short as each can be. Raises `ValueError` for one that is negative."""
    out: list[int] = []
    for number in numbers:
        if 0x4000 <= number < 0x20_0000:  # most blocks of most trees
            out += (number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14)
        else:
            while number >= 0x80:
                out.append(number & 0x7F | 0x80)
                number >>= 7  # noqa: PLW2901 - a shift register
            out.append(number)
    return bytes(out)


def pack_children(children: Iterable[int]) -> bytes:
    """Pointers back to back, block and offset of each."""
    out: list[int] = []
    for pointer in children:
        seq, offset = pointer >> OFFSET_BITS, pointer & OFFSET_MASK
        if 0x4000 <= seq < 0x20_0000 and offset < 0x80:
            out += (seq & 0x7F | 0x80, seq >> 7 & 0x7F | 0x80, seq >> 14, offset)
        else:
            out += pack((seq, offset))
    return bytes(out)


def decode_block(data: bytes) -> Block:
    """Raises `RemoteError` for bytes that are no node block."""
    try:
        return _decode_usual(data) or _decode_unusual(data)
    except IndexError:
        return _decode_unusual(data)


def _decode_unusual(data: bytes) -> Block:
    found = dict(_fields(data, 0, len(data)))
    index, key, value = found.get(1), found.get(2), found.get(3)
    if index is None or key is None:
        raise RemoteError("a block without key or index")
    return Block(data[slice(*key)], None if value is None else data[slice(*value)], data[slice(*index)])


def decode_level(levels: bytes, offset: int, seq: int) -> Level:
    """Level `offset` of block `seq`. Raises `RemoteError` where there is none, or it cannot be a node of that block."""
    for number, span in _fields(levels, 0, len(levels)):
        if number != 1:
            continue
        if not offset:
            level = _decode_level(levels, *span)
            _check(level, seq)
            return level
        offset -= 1
    raise RemoteError(f"block {seq} has no such level", reason="tree")


def holds_own_key(levels: bytes, seq: int) -> bool:
    """Whether a block's own levels refer to its key. A block without value that does not is a delete."""
    return any(
        seq in _decode_level(levels, *span).seqs for number, span in _fields(levels, 0, len(levels)) if number == 1
    )


def field(tag: int, data: bytes | bytearray) -> bytes:
    """A field of bytes; `tag` is its number << 3 | 2."""
    size = len(data)
    if size < 0x80:
        return bytes((tag, size)) + data
    if size < 0x4000:
        return bytes((tag, size & 0x7F | 0x80, size >> 7)) + data
    return bytes((tag,)) + pack((size,)) + data


# --- within --------------------------------------------------------------------------------------------------------


def _decode_usual(data: bytes) -> Block | None:
    """A block as every known writer makes it, its key not long; None or `IndexError`: look closer."""
    size, index = data[1], 2
    if size >= 0x80:
        high = data[2]
        if high >= 0x80:
            return None
        size, index = size - 0x80 + (high << 7), 3
    at = index + size
    key, size = at + 2, data[at + 1]
    if data[0] != _INDEX or data[at] != _KEY or size >= 0x80:
        return None
    end = key + size
    if end == len(data):
        return _new_tuple(Block, (data[key:], None, data[index:at]))
    size, value = data[end + 1], end + 2
    if size >= 0x80:
        high = data[value]
        if high >= 0x80:
            return None
        size, value = size - 0x80 + (high << 7), value + 1
    if data[end] != _VALUE or value + size != len(data):
        return None
    return _new_tuple(Block, (data[key:end], data[value:], data[index:at]))


def _decode_level(data: bytes, start: int, end: int) -> Level:
    seqs: list[int] = []
    pairs: list[int] = []
    for number, (first, stop) in _fields(data, start, end):
        if number == 1:
            _unpack(data, first, stop, seqs, KEYS_MAX)
        elif number == 2:
            _unpack(data, first, stop, pairs, 2 * KEYS_MAX + 2)
    if not pairs:
        return _new_tuple(Level, (seqs, pairs))
    if len(pairs) & 1:
        raise RemoteError("a child without its offset", reason="tree")
    offsets = pairs[1::2]
    if max(offsets) > OFFSET_MASK:
        raise RemoteError("a child at an offset that no block has", reason="tree")
    return _new_tuple(
        Level, (seqs, [at << OFFSET_BITS | offset for at, offset in zip(pairs[::2], offsets, strict=True)])
    )


def _unpack(data: bytes, at: int, stop: int, items: list[int], items_max: int) -> None:
    """Append the integers between `at` and `stop`, which follow each other."""
    while at < stop:
        value = data[at]
        at += 1
        if value >= 0x80:
            if at + 1 < stop and (middle := data[at]) >= 0x80 and (high := data[at + 1]) < 0x80:  # most blocks' numbers
                value = value & 0x7F | (middle & 0x7F) << 7 | high << 14
                at += 2
            else:
                value, at = _varint(data, at - 1, stop)
        items.append(value)
        if len(items) > items_max:
            raise RemoteError("more keys or children than a node may have", reason="tree")


def _check(level: Level, seq: int) -> None:
    seqs, children = level
    if children and len(children) != len(seqs) + 1:
        raise RemoteError(f"a node with {len(seqs)} keys and {len(children)} children", reason="tree")
    if seqs and (max(seqs) > seq or min(seqs) < 1):
        raise RemoteError(f"block {seq} refers to a key outside of blocks 1 to {seq}", reason="tree")
    if children and (max(children) >> OFFSET_BITS > seq or min(children) >> OFFSET_BITS < 1):
        raise RemoteError(f"block {seq} refers to a child outside of blocks 1 to {seq}", reason="tree")


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, Span]]:
    """Number and span of every field of bytes; others are skipped."""
    while position < end:
        tag = data[position]
        position += 1
        if tag >= 0x80:
            tag, position = _varint(data, position - 1, end)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            if position < end and (size := data[position]) < 0x80:
                position += 1
            else:
                size, position = _varint(data, position, end)
            start, position = position, position + size
            if position > end:
                raise RemoteError("a field is longer than what holds it")
            yield number, (start, position)
        elif number in (1, 2, 3):
            raise RemoteError(f"field {number} is not one of bytes")
        elif kind == 0:
            _, position = _varint(data, position, end)
        elif kind in _FIXED:
            position += _FIXED[kind]
            if position > end:
                raise RemoteError("a field is longer than what holds it")
        else:
            raise RemoteError(f"unknown wire type {kind}")


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > INTEGER_MAX:
                break
            return value, position
        shift += 7
        if shift > 63:
            break
    raise RemoteError("an integer is cut off or too large")
