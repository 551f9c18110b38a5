"""What differs between two versions of a tree, in order of keys. Pure: after a `Missing` the same step can be repeated.

Two walks side by side; what both sides store at the same place is skipped unread, so the cost follows the difference.
Invariants: each side's keys ascend and no side is deeper than TREE_DEPTH_MAX, whatever their writer did, or the walk
ends with a `RemoteError`.
"""

from bisect import bisect_left, bisect_right

from edge.errors import RemoteError
from edge.hyperbee.codec import Block
from edge.hyperbee.entries import Bounds
from edge.hyperbee.node import Node, Pointer
from edge.hyperbee.reader import Reader
from edge.limits import TREE_DEPTH_MAX

Found = tuple[int, Block]


class _Side:
    """One version's walk. `at` of a frame: children have even numbers, the keys between them odd ones."""

    def __init__(self, reader: Reader, root: Node | None, bounds: Bounds) -> None:
        self._reader = reader
        self._bounds = bounds
        self._stack: list[tuple[Node, int]] = []
        self._last: bytes | None = None
        self._root = root

    def start(self) -> None:
        """Go to where the bounds begin."""
        node, stack = self._root, []
        lower, is_open = self._bounds.lower, self._bounds.lower_open
        while node is not None:
            index = 0
            if lower is not None:
                index = (bisect_right if is_open else bisect_left)(node.keys, lower)
            stack.append((node, 2 * index + 1))
            if not node.children:
                break
            if lower is None:  # nothing to find: the first child may turn out to be the same at both sides
                stack[-1] = (node, 0)
                break
            if len(stack) >= TREE_DEPTH_MAX:
                raise RemoteError("a tree deeper than any that is sound", reason="tree")
            node = self._reader.child(node.children[index])
        self._stack = stack

    def peek(self) -> tuple[bool, int, bytes | None] | None:
        """What comes next: whether it is a key, its place, and the key, or for a child the key behind it."""
        stack = self._stack
        while stack:
            node, at = stack[-1]
            if at & 1:
                if at >> 1 < len(node.keys):
                    key = node.keys[at >> 1]
                    if self._last is not None and key <= self._last:
                        raise RemoteError("the keys of a tree are not in order", reason="tree")
                    if self._bounds.ended(key):
                        stack.clear()
                        return None
                    return True, node.seqs[at >> 1], key
            elif node.children:
                return False, node.children[at >> 1], self._behind()
            stack.pop()
        return None

    def skip(self) -> None:
        """Leave what comes next."""
        node, at = self._stack[-1]
        if at & 1:
            self._last = node.keys[at >> 1]
        self._stack[-1] = (node, at + (1 if node.children else 2))

    def descend(self) -> None:
        """Go into the child that comes next."""
        if len(self._stack) >= TREE_DEPTH_MAX:
            raise RemoteError("a tree deeper than any that is sound", reason="tree")
        node, at = self._stack[-1]
        child = self._reader.child(node.children[at >> 1])
        self._stack[-1] = (node, at + 1)
        self._stack.append((child, 0 if child.children else 1))

    def take(self, seq: int) -> Found:
        """The key that comes next, with its block."""
        found = seq, self._reader.block(seq)
        self.skip()
        return found

    def _behind(self) -> bytes | None:
        """The first key behind the child that comes next; None: there is none."""
        for node, at in reversed(self._stack):
            if at >> 1 < len(node.keys):
                return node.keys[at >> 1]
        return None


class Diff:
    """The entries that `left` and `right` do not share."""

    def __init__(self, reader: Reader, left: Pointer | None, right: Pointer | None, bounds: Bounds) -> None:
        self._reader = reader
        self._roots = left, right
        self._bounds = bounds
        self._sides: tuple[_Side, _Side] | None = None

    def next(self) -> tuple[Found | None, Found | None] | None:
        """The next key with its two blocks; None: the end. Raises `Missing`, `RemoteError`."""
        left, right = self._sides or self._begin()
        while True:
            a, b = left.peek(), right.peek()
            if a is None or b is None:
                return self._alone(left, right)
            if a[:2] == b[:2]:
                left.skip()
                right.skip()
            elif a[0] and b[0]:
                assert a[2] is not None
                assert b[2] is not None
                if a[2] == b[2]:
                    block = self._reader.block(b[1])  # loaded before the left side moves on
                    found = left.take(a[1])
                    right.skip()
                    return found, (b[1], block)
                if a[2] < b[2]:
                    return left.take(a[1]), None
                return None, right.take(b[1])
            elif a[0]:
                right.descend()
            elif b[0] or _ends_first(a[2], b[2]):
                left.descend()
            else:
                right.descend()

    # --- within ------------------------------------------------------------------------------------------------------

    def _begin(self) -> tuple[_Side, _Side]:
        sides = []
        for pointer in self._roots:
            root = None if pointer is None else self._reader.node(pointer)
            side = _Side(self._reader, root, self._bounds)
            side.start()
            sides.append(side)
        self._sides = sides[0], sides[1]
        return self._sides

    def _alone(self, left: _Side, right: _Side) -> tuple[Found | None, Found | None] | None:
        """What is left at one side once the other has ended."""
        for side in (left, right):
            while (item := side.peek()) is not None:
                if item[0]:
                    found = side.take(item[1])
                    return (found, None) if side is left else (None, found)
                side.descend()
        return None


def _ends_first(a: bytes | None, b: bytes | None) -> bool:
    """Of two children at the same point, descend into the larger: whether that is the left one."""
    if b is None:
        return a is None
    return a is None or a >= b
