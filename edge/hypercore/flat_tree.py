"""The numbering of a binary tree's nodes in one line of integers (bin-numbers). Pure arithmetic.

Block n is leaf 2n; parents stand between their children, so a tree that grows to the right never renumbers. Depth is
the number of trailing one bits; (depth, offset) names the offset-th node from the left at a height.
Spec: RFC 7574, section 4.2 "Bin Numbers"; npm package flat-tree.
"""

from collections.abc import Iterator


def depth(index: int) -> int:
    """Height above the leaves: 0 for a leaf."""
    return (~index & (index + 1)).bit_length() - 1


def offset(index: int) -> int:
    """How many nodes of the same height stand to the left."""
    return (index + 1) >> (depth(index) + 1)


def node(depth: int, offset: int) -> int:
    """The index of the `offset`-th node at `depth`."""
    return ((offset << 1) + 1 << depth) - 1


def parent(index: int) -> int:
    """The node above."""
    height = depth(index)
    return node(height + 1, offset(index) >> 1)


def sibling(index: int) -> int:
    """The other child of the same parent."""
    return node(depth(index), offset(index) ^ 1)


def children(index: int) -> tuple[int, int]:
    """Left and right child of an inner node."""
    half = 1 << depth(index) - 1
    return index - half, index + half


def left_span(index: int) -> int:
    """The leftmost leaf underneath."""
    return index + 1 - (1 << depth(index))


def right_span(index: int) -> int:
    """The rightmost leaf underneath."""
    return index - 1 + (1 << depth(index))


def contains(root: int, index: int) -> bool:
    """Whether `index` is `root` or lies underneath."""
    return left_span(root) <= index <= right_span(root)


def full_roots(length: int) -> Iterator[int]:
    """Roots of the complete trees over blocks 0 to `length - 1`, left to right: one for each one bit of `length`."""
    first = 0
    for bit in range(length.bit_length() - 1, -1, -1):
        if length >> bit & 1:
            yield 2 * first + (1 << bit) - 1
            first += 1 << bit
