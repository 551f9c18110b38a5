"""What a Hyperbee gives to its readers, and how keys, values and bounds become bytes. Pure.

Keys of a sub-tree are its prefix (every name and separator on the way) and the key itself; `Form` adds and removes the
prefix, so that all else sees whole keys. Bounds without an end stop at the prefix.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from edge.errors import LocalError
from edge.hyperbee.codec import Block
from edge.hyperbee.encodings import BINARY, Encoding


class Entry(NamedTuple):
    """A key's value, and the block that says so."""

    seq: int
    key: Any
    value: Any


class Change(NamedTuple):
    """One block of the history: a put or, with `deleted`, a delete."""

    seq: int
    key: Any
    value: Any
    deleted: bool


class Difference(NamedTuple):
    """A key whose entry is another one, or is there at one side alone."""

    left: Entry | None
    right: Entry | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a range begins and ends, in bytes; None: nowhere."""

    lower: bytes | None = None
    lower_open: bool = False  # whether `lower` itself is outside
    upper: bytes | None = None
    upper_open: bool = False

    def hold(self, key: bytes) -> bool:
        """Whether `key` is within."""
        if self.lower is not None and (key < self.lower or (self.lower_open and key == self.lower)):
            return False
        return not self.ended(key)

    def ended(self, key: bytes) -> bool:
        """Whether `key` is behind the end."""
        return self.upper is not None and (key > self.upper or (self.upper_open and key == self.upper))


_new_tuple: Final = tuple.__new__  # an Entry without the detour through its keyword constructor: scans make millions


class Form:
    """Prefix and encodings of one view of a tree."""

    __slots__ = ("_end", "_plain", "key_encoding", "prefix", "value_encoding")

    def __init__(self, prefix: bytes, key_encoding: Encoding, value_encoding: Encoding) -> None:
        self.prefix = prefix
        self.key_encoding = key_encoding
        self.value_encoding = value_encoding
        self._end = successor(prefix)
        self._plain = not prefix and key_encoding is BINARY and value_encoding is BINARY

    def key(self, key: Any) -> bytes:
        """The whole key."""
        return self.prefix + self.key_encoding.encode(key)

    def value(self, value: Any) -> bytes | None:
        """A value's bytes; None is no value."""
        return None if value is None else self.value_encoding.encode(value)

    def holds(self, key: bytes) -> bool:
        """Whether a whole key is one of this view's."""
        return key.startswith(self.prefix)

    def entry(self, seq: int, block: Block) -> Entry:
        """What block `seq` says."""
        key, value, _ = block
        if self._plain:
            return _new_tuple(Entry, (seq, key, value))
        key = self.key_encoding.decode(key[len(self.prefix) :])
        return _new_tuple(Entry, (seq, key, None if value is None else self.value_encoding.decode(value)))

    def bounds(self, gt: Any, gte: Any, lt: Any, lte: Any) -> Bounds:
        """The range in bytes. Raises `LocalError` for two beginnings or two ends."""
        if (gt is not None and gte is not None) or (lt is not None and lte is not None):
            raise LocalError("a range has one beginning and one end: not both gt and gte, nor both lt and lte")
        lower, upper = (gte if gt is None else gt), (lte if lt is None else lt)
        return Bounds(
            self.key(lower) if lower is not None else self.prefix or None,
            gt is not None,
            self.key(upper) if upper is not None else self._end,
            lt is not None or (upper is None and self._end is not None),
        )


def successor(prefix: bytes) -> bytes | None:
    """The smallest key behind all that begin with `prefix`; None: there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


Cas = Callable[[Entry, Entry], bool]
"""Compare and swap: given the entry that is there and the one that would follow it, whether to write."""
