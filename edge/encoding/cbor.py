"""Strict, canonical, bounded CBOR: the only form in which a record enters the log.

One value has exactly one encoding (RFC 8949, section 4.2.1 "Core Deterministic Encoding"), so a record can be compared,
hashed and signed by its bytes. On top of the RFC this profile refuses everything that a record does not need:

- tags (a decimal of eight bytes can cost a minute of CPU), indefinite lengths, undefined and other simple values;
- NaN and infinities; finite floats are allowed, in the shortest of the three widths that holds them exactly;
- integers outside the signed 64-bit range; map keys other than text or unsigned integers, or both kinds in one map;
- trailing bytes, nesting deeper than `CBOR_DEPTH_MAX`, more than `CBOR_ITEMS_MAX` items, long texts.

`_check` walks the heads only and runs before `cbor2` sees a byte, so that nothing is ever allocated for, or computed
from, bytes that break a rule; `cbor2` then builds the value. `decode` raises `RemoteError` and nothing else, and
`encode(decode(data)) == data` for every `data` it accepts.
"""

import struct
from typing import Final

import cbor2

from edge.errors import LocalError, RemoteError
from edge.limits import BLOCK_BYTES_MAX, CBOR_DEPTH_MAX, CBOR_ITEMS_MAX, CBOR_TEXT_BYTES_MAX

_ARGUMENT_FLOOR: Final = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}  # smallest argument that needs so many bytes
_INT64_MAX: Final = 2**63 - 1
_MAJOR_TEXT: Final = 3
_MAJOR_MAP: Final = 5
_MAJOR_TAG: Final = 6


def _short_sizes() -> bytes:
    """Bytes taken by a leaf whose first byte says it all; 0 where more has to be looked at."""
    sizes = bytearray(256)
    for argument in range(24):
        sizes[0x00 + argument] = sizes[0x20 + argument] = 1  # integers -24..23
        sizes[0x40 + argument] = sizes[0x60 + argument] = 1 + argument  # byte and text strings shorter than 24
    sizes[0xF4] = sizes[0xF5] = sizes[0xF6] = 1  # false, true, null
    return bytes(sizes)


_SHORT: Final = _short_sizes()
# First byte of a longer integer → bytes it takes, and the least and greatest argument that may follow it.
_WIDE_INTEGERS: Final = {
    sign + 24 + power: (1 + (1 << power), floor.to_bytes(1 << power, "big"), ceiling.to_bytes(1 << power, "big"))
    for sign in (0x00, 0x20)
    for power, floor, ceiling in (
        (0, 24, 0xFF),
        (1, 1 << 8, 0xFFFF),
        (2, 1 << 16, 0xFFFFFFFF),
        (3, 1 << 32, _INT64_MAX),
    )
}


def encode(value: object) -> bytes:
    """Canonical bytes of `value`: None, bool, int, finite float, str, bytes, list, tuple, dict.

    Raises `LocalError` for any other type and for what breaks the profile: a record of ours is wrong, not the input.
    """
    try:
        data = cbor2.dumps(value, canonical=True)
        _check(data, CBOR_ITEMS_MAX)
    except (cbor2.CBOREncodeError, RemoteError, RecursionError, UnicodeEncodeError) as error:
        raise LocalError(f"cannot be a record: {error}") from error
    return data


def decode(data: bytes, *, bytes_max: int = BLOCK_BYTES_MAX) -> object:
    """The value of canonical `data`; arrays become lists. Raises `RemoteError` for anything else."""
    if len(data) > bytes_max:
        raise RemoteError(f"CBOR of {len(data)} bytes; at most {bytes_max}", reason="too_large")
    _check(data, CBOR_ITEMS_MAX)
    try:
        value: object = cbor2.loads(data)
    except (cbor2.CBORDecodeError, UnicodeDecodeError) as error:  # text that is not UTF-8: the one rule left to cbor2
        raise RemoteError(f"CBOR: {error}") from error
    return value


def _check(data: bytes, items_max: int) -> None:
    """Refuse `data` unless it is one item of the profile and nothing else. Text is not checked to be UTF-8 here."""
    try:
        end = _walk(data, items_max)
    except IndexError:
        end = len(data) + 1
    if end > len(data):
        raise RemoteError("CBOR: ends inside an item")
    if end < len(data):
        raise RemoteError(f"CBOR: {len(data) - end} bytes after the end")


def _walk(data: bytes, items_max: int) -> int:
    """Offset behind the first item. Raises `IndexError` or answers past the end where `data` is cut short.

    A loop over heads with a stack of (members left, last key of a map or None): quick where every receipt passes,
    and no input can exhaust the interpreter's stack.
    """
    short, wide = _SHORT, _WIDE_INTEGERS
    stack: list[tuple[int, bytes | None]] = []
    position, left, items = 0, 1, 1
    key: bytes | None = None  # the encoded key before; b"" at a map's start; None: not in a map
    while True:
        if key is None:
            while left:  # nearly all items of a record are short strings and integers in an array
                head = data[position]
                size = short[head]
                if not size:
                    if head not in wide:
                        break
                    size, low, high = wide[head]
                    if not low <= data[position + 1 : position + size] <= high:
                        break  # wrong or cut short: the slow path says which
                position += size
                left -= 1
        if left == 0:
            if not stack:
                return position
            left, key = stack.pop()
            continue
        left -= 1
        if key is not None:
            start = position
            position = _key_end(data, start)
            key, previous = data[start:position], key
            if key <= previous:
                raise RemoteError(f"CBOR: key at byte {start} is repeated or out of order")
            if previous and (key[0] >= 0x60) != (previous[0] >= 0x60):
                raise RemoteError(f"CBOR: keys of two kinds in one map at byte {start}")
        head = data[position]
        size = short[head]
        if size:
            position += size
            continue
        major = head >> 5
        if major == 7:
            position = _float_end(data, position)
            continue
        argument, position = _argument(data, position)
        if major < 2:
            if argument > _INT64_MAX:
                raise RemoteError("CBOR: integer beyond 64 bits", reason="range")
        elif major < 4:
            if argument > CBOR_TEXT_BYTES_MAX and major == _MAJOR_TEXT:
                raise RemoteError(f"CBOR: text of {argument} bytes", reason="too_large")
            position += argument
        elif major == _MAJOR_TAG:
            raise RemoteError(f"CBOR: tag {argument} at byte {position}", reason="tag")
        else:
            members = argument * 2 if major == _MAJOR_MAP else argument
            items += members
            if items > items_max:
                raise RemoteError(f"CBOR: more than {items_max} items", reason="too_large")
            if members > len(data) - position:  # a member takes a byte at least
                raise RemoteError("CBOR: ends inside an item")
            if len(stack) >= CBOR_DEPTH_MAX:
                raise RemoteError(f"CBOR: nested deeper than {CBOR_DEPTH_MAX}", reason="too_large")
            stack.append((left, key))
            left, key = argument, b"" if major == _MAJOR_MAP else None


def _argument(data: bytes, position: int) -> tuple[int, int]:
    """The argument of the head at `position` and the offset behind the head."""
    info = data[position] & 31
    position += 1
    if info < 24:
        return info, position
    if info > 27:
        raise RemoteError(f"CBOR: indefinite or reserved length at byte {position - 1}")
    width = 1 << (info - 24)
    argument = int.from_bytes(data[position : position + width], "big")
    if position + width > len(data):
        raise IndexError
    if argument < _ARGUMENT_FLOOR[width]:
        raise RemoteError(f"CBOR: head at byte {position - 1} is longer than needed")
    return argument, position + width


def _key_end(data: bytes, position: int) -> int:
    head = data[position]
    if not (head < 0x20 or 0x60 <= head < 0x80):
        raise RemoteError(f"CBOR: key at byte {position} is neither text nor an unsigned integer")
    if _SHORT[head]:
        return position + _SHORT[head]
    argument, position = _argument(data, position)
    if head < 0x20:
        if argument > _INT64_MAX:
            raise RemoteError("CBOR: integer beyond 64 bits", reason="range")
        return position
    if argument > CBOR_TEXT_BYTES_MAX:
        raise RemoteError(f"CBOR: text of {argument} bytes", reason="too_large")
    return position + argument


def _float_end(data: bytes, position: int) -> int:
    """Offset behind the float at `position`, which must be finite and in its shortest form."""
    head = data[position]
    if not 0xF9 <= head <= 0xFB:
        raise RemoteError(f"CBOR: simple value 0x{head:02x} at byte {position}")
    width = 2 << (head - 0xF9)
    end = position + 1 + width
    if end > len(data):
        raise IndexError
    value: float = struct.unpack({2: ">e", 4: ">f", 8: ">d"}[width], data[position + 1 : end])[0]
    if value - value != 0.0:  # NaN and the infinities
        raise RemoteError(f"CBOR: float at byte {position} is not finite", reason="range")
    if width > 2 and _fits(value, width // 2):
        raise RemoteError(f"CBOR: float at byte {position} is longer than needed")
    return end


def _fits(value: float, width: int) -> bool:
    """Whether `width` bytes hold `value` exactly."""
    form = ">e" if width == 2 else ">f"
    try:
        packed = struct.pack(form, value)
    except OverflowError:
        return False
    return bool(struct.unpack(form, packed)[0] == value)
