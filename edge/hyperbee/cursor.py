"""A walk through the keys of a range, in order. Pure: after a `Missing` the same step can be taken again.

Invariants: every key is greater (in reverse: smaller) than the one before it, and the walk is never deeper than
TREE_DEPTH_MAX, whatever the tree's writer did: so every walk ends.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, Protocol

from edge.errors import RemoteError
from edge.hyperbee.codec import Block
from edge.hyperbee.entries import Bounds
from edge.hyperbee.node import Branch, Child, Node, Pointer
from edge.hyperbee.reader import Missing
from edge.limits import TREE_DEPTH_MAX


class Source(Protocol):
    """Where a walk gets nodes and blocks from: a reader, or a batch that has newer ones."""

    def child(self, pointer: Pointer, /) -> Node:
        """A stored node below the root; or `Missing`."""
        ...

    def block(self, seq: int, /) -> Block:
        """A block; or `Missing`."""
        ...


class Frame:
    """A node on the way. `at`: what comes next; children have even numbers, the keys between them odd ones."""

    __slots__ = ("at", "node")

    def __init__(self, node: Node | Branch, at: int) -> None:
        self.node = node
        self.at = at


class Cursor:
    """The entries of `bounds`, in ascending order or in `reverse`, at most `limit`."""

    def __init__(
        self,
        source: Source,
        root: Node | Branch | None,
        bounds: Bounds,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> None:
        self._source = source
        self._bounds = bounds
        self._reverse: Final = reverse
        self._left = limit
        self._stack: list[Frame] = []
        self._last: bytes | None = None
        self._root = root
        self._seeking = root is not None

    def run(self) -> list[tuple[int, Block]]:
        """The next entries, as many as one node has; none: the end. Raises `Missing`, `RemoteError`."""
        if self._seeking:
            self._seek()
        while self._stack and self._left != 0:
            frame = self._stack[-1]
            node, at = frame.node, frame.at
            inner = bool(node.children)
            if inner and not at & 1:
                self._descend(frame)
            elif not 0 <= at >> 1 < len(node.keys) or at < 0:
                self._stack.pop()
            elif found := self._emit(frame, inner=inner):
                return found
        return []

    # --- within ------------------------------------------------------------------------------------------------------

    def _seek(self) -> None:
        """Find the way to the first entry; all nodes on it, or `Missing` and nothing has changed."""
        stack: list[Frame] = []
        node, bounds, reverse = self._root, self._bounds, self._reverse
        assert node is not None
        while True:
            keys = node.keys
            index, first = (len(keys), -1) if reverse else (0, 0)  # `first`: from `index` to the first key inside
            end, is_open = (bounds.upper, bounds.upper_open) if reverse else (bounds.lower, bounds.lower_open)
            if end is not None:
                index = (bisect_left if is_open == reverse else bisect_right)(keys, end)
            stack.append(Frame(node, 2 * (index + first) + 1))
            met = not is_open and 0 <= index + first < len(keys) and keys[index + first] == end
            if met or not node.children:
                break
            self._check_depth(len(stack))
            node = self._child(node, index)
        self._stack = stack
        self._seeking = False

    def _descend(self, frame: Frame) -> None:
        self._check_depth(len(self._stack))
        index = frame.at >> 1
        child = self._child(frame.node, index)
        _unmark(frame.node, index)
        count = len(child.keys)
        if self._reverse:
            frame.at -= 1
            self._stack.append(Frame(child, 2 * count if child.children else 2 * count - 1))
        else:
            frame.at += 1
            self._stack.append(Frame(child, 0 if child.children else 1))

    def _emit(self, frame: Frame, *, inner: bool) -> list[tuple[int, Block]]:
        """The key at `frame`, or what a leaf has from there on."""
        node, bounds, reverse, last = frame.node, self._bounds, self._reverse, self._last
        keys, seqs, block = node.keys, node.seqs, self._source.block
        if frame.at == 1 and not inner and self._whole(keys):
            try:
                found = [(seq, block(seq)) for seq in seqs]
            except Missing:
                pass  # up to there
            else:
                self._last = keys[-1]
                frame.at = 2 * len(keys) + 1
                return found
        count, step = (1, 1) if inner else (len(keys), 2)  # a leaf has no children between its keys
        if reverse:
            step = -step
        found = []
        if self._left is not None:
            count = min(count, self._left)
        at = frame.at
        while count and 0 < at <= 2 * len(keys) - 1:
            key = keys[at >> 1]
            if last is not None and (key >= last if reverse else key <= last):
                raise RemoteError("the keys of a tree are not in order", reason="tree")
            if not bounds.hold(key) if reverse else bounds.ended(key):
                self._left = 0
                break
            seq = seqs[at >> 1]
            try:
                found.append((seq, block(seq)))
            except Missing:
                if not found:
                    raise
                break
            last = key
            at += step
            count -= 1
        frame.at = at
        self._last = last
        if self._left:
            self._left -= len(found)
        return found

    def _whole(self, keys: Sequence[bytes]) -> bool:
        """Whether all of a leaf comes next, as most of a long range does: its keys ascend, so its ends tell."""
        if self._reverse or self._left is not None or not keys:
            return False
        last = self._last
        return (last is None or last < keys[0]) and not self._bounds.ended(keys[-1])

    def _child(self, node: Node | Branch, index: int) -> Node | Branch:
        child = node.children[index]
        return child.branch if isinstance(child, Child) else self._source.child(child)

    def _check_depth(self, depth: int) -> None:
        if depth >= TREE_DEPTH_MAX:
            raise RemoteError("a tree deeper than any that is sound", reason="tree")


def _unmark(node: Node | Branch, index: int) -> None:
    """Forget that a refused put marked this child, as stock peers do when they pass by a node not placed yet.

    It matters to the bytes of the batch alone: the child is not written again without need.
    """
    if isinstance(node, Branch) and not node.pending:
        child = node.children[index]
        if isinstance(child, Child):
            child.branch.changed = False
