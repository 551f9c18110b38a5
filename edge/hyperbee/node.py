"""Nodes of the B-tree, and how they change: insert, split, remove, borrow, merge. Pure: nodes are loaded by a callable.

`Node` is a stored node with its keys; it never changes. `Branch` is a node that a batch may change, and `Child` its
place: a child list holds plain pointers until somebody descends. Which nodes are written anew, in which block and in
which order, follows hyperbee 2.27 (index.js, `TreeNode`, `rebalance`, `Batch.toBlocks`) to the byte, so flags and
places here stand for theirs one by one.

Invariants of a sound tree: keys ascend; every node but the root has KEYS_MIN to KEYS_MAX keys; a node has no children,
or one more than keys.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TypeAlias

from edge.errors import LocalError, RemoteError
from edge.hyperbee.codec import (
    KEYS_MAX,
    KEYS_MIN,
    OFFSET_BITS,
    OFFSET_MASK,
    USUAL_CHILD,
    USUAL_POINTER_MIN,
    Level,
    level_body,
    pack,
    pack_children,
)
from edge.limits import TREE_DEPTH_MAX

Pointer: TypeAlias = int

_NODE_COST = 350  # the object, its keys and numbers, its entry in the cache
_SLOT = 8
KEY_COST = 40  # of a key, besides its bytes
_NUMBER_COST = 40  # with its place in a list


class Node:
    """A stored node: keys, the blocks that hold them, pointers to its children. `unread`: bits of keys not read yet.

    `cost`: bytes of memory, about. Numbers read from a block are kept in arrays, a quarter of a list's memory; those of
    a node that was just written in tuples, as are its keys: quicker to write again, and nothing for the collector.
    `packed`, `wire`: `seqs` and `children` as a block has them, of inner nodes that were just written, as most that
    are will be again. `wire` is there if each child takes USUAL_CHILD bytes of it.
    """

    __slots__ = ("children", "cost", "keys", "packed", "seqs", "unread", "wire")

    def __init__(
        self, seqs: Sequence[int], keys: "list[bytes] | tuple[bytes, ...]", children: Sequence[Pointer], cost: int
    ) -> None:
        self.seqs = seqs
        self.keys = keys
        self.children = children
        self.cost = cost
        self.unread = 0
        self.packed: bytes | None = None
        self.wire: bytes | None = None

    @classmethod
    def stored(cls, level: Level) -> "Node":
        """As it is in a block: its keys are in others, to be read."""
        seqs, children = level
        count = len(seqs)
        cost = _NODE_COST + 96 + (_SLOT + 8) * count + (80 + 8 * len(children) if children else 0)
        keys = [b""] * count if count else ()  # a list until all are read
        node = cls(array("Q", seqs), keys, array("Q", children) if children else (), cost)
        node.unread = (1 << count) - 1
        return node


Load = Callable[[Pointer], Node]
"""Gives a stored node, or raises `Missing` before anything has changed."""


class Branch:
    """A node in a batch's hands. `changed`: to be written with the next block. `pending`: this batch has placed it.

    `origin`: where it was stored before; `before`: what was stored there, as long as it has the same children, though
    some of them may have other places now: `moved` has the indexes of those that were adopted. Keys and `seqs` are
    those of `before` until `own` is called, as whoever changes them must.
    """

    __slots__ = ("before", "changed", "children", "keys", "moved", "origin", "pending", "seqs")

    def __init__(
        self,
        seqs: Sequence[int],
        keys: "list[bytes] | tuple[bytes, ...]",
        children: "list[Pointer | Child]",
        origin: Pointer | None = None,
        before: Node | None = None,
    ) -> None:
        self.seqs = seqs
        self.keys = keys
        self.children = children
        self.origin = origin
        self.before = before
        self.moved: tuple[int, ...] = ()
        self.changed = False
        self.pending = False

    @classmethod
    def fresh(cls, seqs: list[int], keys: list[bytes], children: "list[Pointer | Child]") -> "Branch":
        """A node that is stored nowhere yet."""
        branch = cls(seqs, keys, children)
        branch.changed = True
        return branch

    @classmethod
    def of(cls, node: Node, origin: Pointer) -> "Branch":
        """A stored node, to be changed."""
        children = node.children
        return cls(node.seqs, node.keys, list(children) if children else [], origin, node)

    def own(self) -> tuple[list[int], list[bytes]]:
        """`seqs` and keys as lists of our own."""
        seqs, keys = self.seqs, self.keys
        if seqs.__class__ is not list:
            seqs = self.seqs = list(seqs)
        if keys.__class__ is not list:
            keys = self.keys = list(keys)
        return seqs, keys

    def child(self, index: int, load: Load) -> "Branch":
        """The child at `index`, from now on in our hands too."""
        child = self.children[index]
        return (child if isinstance(child, Child) else self.adopt(index, load)).branch

    def adopt(self, index: int, load: Load) -> "Child":
        """Load the child at `index`, of which only the pointer is here."""
        pointer = self.children[index]
        assert isinstance(pointer, int)
        node = load(pointer)
        below = node.children
        branch = Branch(node.seqs, node.keys, list(below) if below else [], pointer, node)
        child = self.children[index] = Child(pointer >> OFFSET_BITS, pointer & OFFSET_MASK, branch)
        self.moved += (index,)
        return child

    def insert(self, seq: int, key: bytes, right: "Branch | None" = None) -> bool:
        """Add a new key, with the node that is to the right of it; returns whether the node must be split now."""
        seqs, keys = self.own()
        index = bisect_left(keys, key)
        keys.insert(index, key)
        seqs.insert(index, seq)
        if right is not None:
            self.children.insert(index + 1, Child(0, 0, right))
        self.before = None
        self.changed = True
        return len(keys) > KEYS_MAX

    def replace(self, index: int, seq: int, key: bytes) -> None:
        """Let the key at `index` be found in block `seq`."""
        seqs, keys = self.own()
        seqs[index] = seq
        keys[index] = key
        self.changed = True

    def split(self) -> "tuple[int, bytes, Branch]":
        """Keep the lower half; returns the median, and the upper half as a node."""
        seqs, keys = self.own()
        half = len(keys) >> 1
        right = Branch.fresh(seqs[-half:], keys[-half:], self.children[-half - 1 :] if self.children else [])
        del seqs[-half:], keys[-half:]
        if self.children:
            del self.children[-half - 1 :]
        self.before = None
        self.changed = True
        return seqs.pop(), keys.pop(), right

    def remove(self, index: int) -> None:
        """Drop the key at `index`, and the child to the right of it."""
        seqs, keys = self.own()
        del seqs[index], keys[index]
        self.before = None
        if self.children:
            child = self.children.pop(index + 1)
            if isinstance(child, Child):
                child.seq = 0  # no block writes it any more
        self.changed = True

    def merge(self, right: "Branch", seq: int, key: bytes) -> None:
        """Take the key between this node and its right neighbour, and all that the neighbour has."""
        seqs, keys = self.own()
        seqs += [seq, *right.seqs]
        keys += [key, *right.keys]
        self.children += right.children
        self.before = None
        self.changed = True

    def give(self, at: int) -> "tuple[int, bytes, Pointer | Child | None]":
        """Take away the first (`at` 0) or the last (-1) key and child, for a neighbour."""
        seqs, keys = self.own()
        self.before = None
        self.changed = True
        return seqs.pop(at), keys.pop(at), self.children.pop(at) if self.children else None

    def take(self, at: int, seq: int, key: bytes, child: "Pointer | Child | None") -> None:
        """Add a first key and child (`at` 0), or last ones."""
        seqs, keys = self.own()
        self.before = None
        seqs.insert(at, seq)
        keys.insert(at, key)
        if child is not None:
            self.children.insert(at and at + 1, child)

    def written(self) -> tuple[bytes, Node]:
        """As it will be in a block, and as it can be kept once it is."""
        seqs, before = self.seqs, self.before
        if not self.children:
            packed = pack(seqs)
            return level_body(packed, b""), self._kept(())
        if before is None:
            pointers: tuple[Pointer, ...] = tuple(
                [
                    child.seq << OFFSET_BITS | child.offset if isinstance(child, Child) else child
                    for child in self.children
                ]
            )
            wire = pack_children(pointers)
        else:
            pointers, wire = self._patched(before)
        if before is None or seqs is not before.seqs or before.packed is None:
            packed, node = pack(seqs), self._kept(pointers)
            node.cost += 2 * 33 + len(packed) + len(wire)
        else:  # most nodes above the leaves: nothing but the places of children is new
            packed, node = before.packed, Node(seqs, before.keys, pointers, before.cost)
        node.packed = packed
        if len(wire) == USUAL_CHILD * len(pointers) and min(pointers) >= USUAL_POINTER_MIN:  # none is shorter or longer
            node.wire = wire
        return level_body(packed, wire), node

    def _patched(self, before: Node) -> tuple[tuple[Pointer, ...], bytes]:
        """Where the children are stored, most of them where they were; the same as a block has it."""
        pointers, children = list(before.children), self.children
        wire = None if before.wire is None else bytearray(before.wire)
        for index in self.moved:
            child = children[index]
            assert isinstance(child, Child)
            seq, offset = child.seq, child.offset
            pointers[index] = seq << OFFSET_BITS | offset
            if wire is not None:
                if 0x4000 <= seq < 0x20_0000 and offset < 0x80:
                    at = USUAL_CHILD * index
                    wire[at] = seq & 0x7F | 0x80
                    wire[at + 1] = seq >> 7 & 0x7F | 0x80
                    wire[at + 2] = seq >> 14
                    wire[at + 3] = offset
                else:
                    wire = None
        return tuple(pointers), pack_children(pointers) if wire is None else bytes(wire)

    def _kept(self, pointers: Sequence[Pointer]) -> Node:
        keys = self.keys
        cost = _NODE_COST + 72 + len(b"".join(keys)) + (KEY_COST + _SLOT + _NUMBER_COST) * len(keys)
        if pointers:
            cost += 72 + _NUMBER_COST * len(pointers)
        return Node(tuple(self.seqs), tuple(keys), pointers, cost)


class Child:
    """Where a parent keeps a node that was loaded: block and offset of its level, as of the last block that has it."""

    __slots__ = ("branch", "offset", "seq")

    def __init__(self, seq: int, offset: int, branch: Branch) -> None:
        self.seq = seq
        self.offset = offset
        self.branch = branch


def place(child: Child, levels: list[Child], seq: int) -> None:
    """Give this node and the changed nodes underneath their places in block `seq`, parents first."""
    child.seq = seq
    child.offset = len(levels)
    levels.append(child)
    branch = child.branch
    branch.changed = False
    branch.pending = True
    for below in branch.children:
        if isinstance(below, Child) and below.branch.changed:
            place(below, levels, seq)


def place_path(path: list[Child], seq: int) -> None:
    """What `place` does where only the nodes of `path`, each the child of the one before, have changed."""
    for offset, child in enumerate(path):
        child.seq = seq
        child.offset = offset
        branch = child.branch
        branch.changed = False
        branch.pending = True


def compact(levels: list[Child], seq: int) -> None:
    """Of a block that is not the last of its batch, keep only the levels that no later block has written again."""
    levels[0].seq = 0  # every later block has a root of its own
    index = 0
    while index < len(levels):
        child = levels[index]
        if child.seq == seq:
            child.offset = index
            index += 1
            continue
        last = levels.pop()
        if index < len(levels):
            levels[index] = last


def grow(stack: list[Branch], node: Branch) -> Branch:
    """Split `node`, which has a key too many, and so on upwards; returns the root. `stack`: the nodes above it."""
    root = stack[0] if stack else node
    while True:
        seq, key, right = node.split()
        if not stack:
            return Branch.fresh([seq], [key], [Child(0, 0, node), Child(0, 0, right)])
        node = stack.pop()
        if not node.insert(seq, key, right):
            return root


def take_key(stack: list[Branch], index: int, load: Load) -> None:
    """Remove the key at `index` of the last node of `stack`; from an inner node, put a leaf's nearest key there.

    Whatever `rebalance` will need is loaded first: a `Missing` leaves the tree as it was.
    """
    node = stack[-1]
    if not node.children:
        _load_neighbours(stack, load)
        node.remove(index)
    else:
        left, right = [node.child(index, load)], [node.child(index + 1, load)]
        for path, at in ((left, -1), (right, 0)):
            while path[-1].children:
                if len(path) >= TREE_DEPTH_MAX:
                    raise RemoteError("a tree deeper than any that is sound", reason="tree")
                path.append(path[-1].child(at, load))
        from_right = len(left[-1].keys) < len(right[-1].keys)
        path = right if from_right else left
        _load_neighbours([*stack, *path], load)
        stack += path
        at = 0 if from_right else -1
        seq, key, _ = path[-1].give(at)
        node.replace(index, seq, key)
    for changed in stack:
        changed.changed = True


def rebalance(stack: list[Branch], load: Load) -> Branch:
    """Give the nodes of `stack`, leaf last, enough keys again after `take_key`; returns the root."""
    root = stack[0]
    while len(stack) > 1:
        node = stack.pop()
        parent = stack[-1]
        if len(node.keys) >= KEYS_MIN:
            return root
        index = _position(parent, node)
        left = parent.child(index - 1, load) if index else None
        right = parent.child(index + 1, load) if index < len(parent.children) - 1 else None
        if left is not None and len(left.keys) > KEYS_MIN:
            seq, key, child = left.give(-1)
            node.take(0, parent.seqs[index - 1], parent.keys[index - 1], child)
            parent.replace(index - 1, seq, key)
            return root
        if right is not None and len(right.keys) > KEYS_MIN:
            seq, key, child = right.give(0)
            node.take(len(node.keys), parent.seqs[index], parent.keys[index], child)
            parent.replace(index, seq, key)
            return root
        if left is not None:
            index -= 1
            right = node
        else:
            left = node
        if right is None:
            raise LocalError("a node without neighbours below the root")
        left.merge(right, parent.seqs[index], parent.keys[index])
        parent.remove(index)
    return root.child(0, load) if not root.keys and root.children else root


def _load_neighbours(stack: list[Branch], load: Load) -> None:
    """Load what `rebalance` will look at once the last node of `stack` has lost a key."""
    for depth in range(len(stack) - 1, 0, -1):
        node, parent = stack[depth], stack[depth - 1]
        if len(node.keys) > KEYS_MIN:
            return
        index = _position(parent, node)
        spare = False
        if index:
            spare = len(parent.child(index - 1, load).keys) > KEYS_MIN
        if index < len(parent.children) - 1:
            spare = len(parent.child(index + 1, load).keys) > KEYS_MIN or spare
        if spare:
            return


def _position(parent: Branch, node: Branch) -> int:
    for index, child in enumerate(parent.children):
        if isinstance(child, Child) and child.branch is node:
            return index
    raise LocalError("a node that its parent does not know")
