"""Who wants to hear about which blocks, and bitfields as stretches. Pure. Spec: hypercore 11.37, lib/wants.js.

A peer that asks with `want` hears at once what we hold of the stretch, and afterwards of every block that comes or
goes there. What we cannot remember of its wants we treat as wanting everything: that only costs messages.
"""

import re
from collections.abc import Iterator
from typing import Final

from edge.errors import RemoteError
from edge.hypercore.messages import Bitfield, Unwant, Want
from edge.hypercore.replicator.stretches import Span
from edge.limits import BITFIELD_BITS_MAX, BITFIELD_BYTES_MAX, INTEGER_MAX, WANT_BLOCKS, WANTS_MAX

_WORD_BITS: Final = 32
_RUNS: Final = re.compile("1+").finditer


class RemoteWants:
    """What one peer wants to hear about in one core."""

    __slots__ = ("everything", "spans")

    def __init__(self) -> None:
        self.everything = False
        self.spans: set[Span] = set()

    def add(self, want: Want) -> None:
        """Remember a want. Raises `RemoteError` for one longer than the protocol has."""
        if want.length > WANT_BLOCKS and not want.any:
            raise RemoteError(f"a want of {want.length} blocks", reason="want")
        if len(self.spans) < WANTS_MAX:
            self.spans.add((want.start, want.start + want.length))
        else:
            self.everything = True

    def remove(self, unwant: Unwant) -> None:
        """Forget one; it need not be there."""
        self.spans.discard((unwant.start, unwant.start + unwant.length))

    def touch(self, start: int, end: int) -> bool:
        """Whether any block of `start` to `end` is wanted."""
        return self.everything or any(low < end and start < high for low, high in self.spans)


def bitfields(held: Iterator[Span], start: int) -> Iterator[Bitfield]:
    """The ascending stretches `held`, none before `start`, as messages; pages of which nothing is held are left out."""
    base, bits = start - start % _WORD_BITS, 0
    for low, high in held:
        while low < high:
            page_end = base - base % BITFIELD_BITS_MAX + BITFIELD_BITS_MAX
            if low >= page_end:
                if bits:
                    yield _bitfield(base, bits)
                base, bits = low - low % BITFIELD_BITS_MAX, 0
                continue
            stop = min(high, page_end)
            bits |= ((1 << stop - low) - 1) << low - base
            low = stop  # noqa: PLW2901 - what is left of the stretch
    if bits:
        yield _bitfield(base, bits)


def spans(bitfield: Bitfield) -> Iterator[tuple[int, int, bool]]:
    """The stretches of a peer's bitfield, ascending and without a gap: start, end, and whether they are held.

    A stretch that is held may be cut where a page ends.
    """
    size = len(bitfield.words)
    if size > BITFIELD_BYTES_MAX:
        raise RemoteError(f"a bitfield of {size} bytes", reason="too_large")
    if bitfield.start % _WORD_BITS:
        raise RemoteError(f"a bitfield begins at {bitfield.start}", reason="bitfield")
    if bitfield.start + 8 * size > INTEGER_MAX:
        raise RemoteError("a bitfield reaches past 2^53-1", reason="range")
    at, end = bitfield.start, bitfield.start + 8 * size
    for page in range(0, size, BITFIELD_BITS_MAX // 8):
        words = bitfield.words[page : page + BITFIELD_BITS_MAX // 8]
        position = bitfield.start + 8 * page
        # As text, lowest bit first: to look for runs in it costs a tenth of arithmetic on numbers of so many bits.
        text = format(int.from_bytes(words, "little"), f"0{8 * len(words)}b")[::-1]
        for run in _RUNS(text):
            low, high = position + run.start(), position + run.end()
            if low > at:
                yield at, low, False
            yield low, high, True
            at = high
    if at < end:
        yield at, end, False


def _bitfield(start: int, bits: int) -> Bitfield:
    words = -(-bits.bit_length() // _WORD_BITS)
    return Bitfield(start, bits.to_bytes(4 * words, "little"))
