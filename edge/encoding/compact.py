"""compact-encoding: the primitives of Hypercore's wire and key material. Spec: the npm package compact-encoding 3.5.

A message has no type and no length of its own; both sides know its fields and read them in order. Integers are
unsigned, little endian and at most 2^53 - 1, because the other end keeps them in JavaScript doubles. We write the
shortest form and accept longer ones, as the stock decoder does; so an encoded message is not canonical, and what is
hashed or signed (a manifest) is always encoded again by us.

`Reader` raises `RemoteError` and nothing else, and takes no memory for a count that it has not checked against the
bytes that are left. The `encode_*` functions raise `LocalError` for what cannot be written.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from edge.errors import LocalError, RemoteError
from edge.limits import INTEGER_MAX

T = TypeVar("T")

_WIDTH: Final = {0xFD: 2, 0xFE: 4, 0xFF: 8}


def uint(value: int) -> bytes:
    """Variable integer: one byte up to 252, else a marker byte and 2, 4 or 8 bytes."""
    if 0 <= value <= 0xFC:
        return value.to_bytes(1, "little")
    if value < 0 or value > INTEGER_MAX:
        raise LocalError(f"{value} cannot be a compact integer (0..2^53-1)")
    if value <= 0xFFFF:
        return b"\xfd" + value.to_bytes(2, "little")
    if value <= 0xFFFFFFFF:
        return b"\xfe" + value.to_bytes(4, "little")
    return b"\xff" + value.to_bytes(8, "little")


def uint64(value: int) -> bytes:
    """Eight bytes, little endian; the value is bounded like every other."""
    if not 0 <= value <= INTEGER_MAX:
        raise LocalError(f"{value} cannot be a compact integer (0..2^53-1)")
    return value.to_bytes(8, "little")


def fixed(data: bytes, size: int) -> bytes:
    """`data` as it is, after checking that it has `size` bytes."""
    if len(data) != size:
        raise LocalError(f"{len(data)} bytes where {size} belong")
    return data


def buffer(data: bytes | None) -> bytes:
    """Length and bytes; None is written like an empty buffer."""
    return b"\x00" if data is None else uint(len(data)) + data


def string(text: str) -> bytes:
    """Byte length and UTF-8."""
    return buffer(text.encode())


def array(items: Iterable[bytes]) -> bytes:
    """Count and items, each already encoded."""
    encoded = list(items)
    return uint(len(encoded)) + b"".join(encoded)


class Reader:
    """Reads fields in order from one message. After a `RemoteError` the reader is of no further use."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> int:
        """Bytes not read yet. Optional fields at the end of a message are present while this is positive."""
        return len(self._data) - self._position

    def uint(self) -> int:
        """A variable integer, in any of its forms."""
        first = self.raw(1)[0]
        if first <= 0xFC:
            return first
        return self._bounded(int.from_bytes(self.raw(_WIDTH[first]), "little"))

    def uint64(self) -> int:
        """Eight bytes, little endian."""
        return self._bounded(int.from_bytes(self.raw(8), "little"))

    def raw(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        end = self._position + size
        if end > len(self._data):
            raise RemoteError(f"message ends {end - len(self._data)} bytes early")
        piece = self._data[self._position : end]
        self._position = end
        return piece

    def rest(self) -> bytes:
        """All the bytes that are left."""
        return self.raw(self.left)

    def buffer(self) -> bytes:
        """A length and so many bytes."""
        return self.raw(self.uint())

    def optional_buffer(self) -> bytes | None:
        """A buffer; an empty one stands for None."""
        return self.buffer() or None

    def string(self) -> str:
        """A byte length and UTF-8."""
        try:
            return self.buffer().decode()
        except UnicodeDecodeError as error:
            raise RemoteError(f"text is not UTF-8: {error.reason}") from error

    def array(self, read_item: Callable[["Reader"], T], *, items_max: int, item_bytes_min: int = 1) -> list[T]:
        """A count, at most `items_max`, and so many items of at least `item_bytes_min` bytes each."""
        count = self.uint()
        if count > items_max:
            raise RemoteError(f"{count} items; at most {items_max}", reason="too_large")
        if count * item_bytes_min > self.left:
            raise RemoteError(f"{count} items do not fit {self.left} bytes")
        return [read_item(self) for _ in range(count)]

    def end(self) -> None:
        """Refuse bytes that nobody read. For what is hashed or stored; wire messages may grow at the end."""
        if self.left:
            raise RemoteError(f"{self.left} bytes after the end of the message")

    @staticmethod
    def _bounded(value: int) -> int:
        if value > INTEGER_MAX:
            raise RemoteError(f"integer {value} is beyond 2^53-1", reason="range")
        return value
