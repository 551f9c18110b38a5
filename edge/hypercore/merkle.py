"""The Merkle tree over a log's blocks: hashes, roots, growth, and paths. Pure: nodes come in and go out as values.

A tree of n blocks has one root for each one bit of n; the tree hash covers all roots with their positions and byte
sizes, so a signature over it fixes every block, every length and every byte offset. Sizes and hashes are over stored
blocks: ciphertext where the core is encrypted. Spec: hypercore-crypto 3.7 (`data`, `parent`, `tree`); RFC 7574
section 5 for the shape; the one-byte type prefixes defeat second preimages.

Invariants of `Tree`: roots are exactly `full_roots(length)`, left to right; a `Tree` never changes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final, NamedTuple

from edge.crypto.hashing import HASH_BYTES
from edge.errors import LocalError, SignatureError
from edge.hypercore import flat_tree

_TYPED_SIZE: Final = Struct("<BQ")
_ROOT: Final = Struct("<32sQQ")


class Node(NamedTuple):
    """One node: its flat-tree index, the bytes of all blocks underneath, and its hash."""

    index: int  # type: ignore[assignment]  # the field's word; hides tuple.index, which nobody needs here
    size: int
    hash: bytes


_new_tuple: Final = tuple.__new__  # a Node without the detour through its keyword constructor: appends make millions

NodeSource = Callable[[int], Node]
"""Gives the node of an index below the tree's head; raises where it cannot."""


def leaf(block_index: int, data: bytes) -> Node:
    """The leaf of a stored block."""
    digest = blake2b(_TYPED_SIZE.pack(0, len(data)) + data, digest_size=HASH_BYTES).digest()
    return Node(2 * block_index, len(data), digest)


def parent(left: Node, right: Node) -> Node:
    """The node above two siblings, given in order."""
    size = left.size + right.size
    digest = blake2b(_TYPED_SIZE.pack(1, size) + left.hash + right.hash, digest_size=HASH_BYTES).digest()
    return Node((left.index + right.index) >> 1, size, digest)


@dataclass(frozen=True, slots=True)
class Tree:
    """The roots of a log of `length` blocks."""

    length: int = 0
    roots: tuple[Node, ...] = ()

    def __post_init__(self) -> None:
        if self.length.bit_count() != len(self.roots):
            raise LocalError(f"{len(self.roots)} roots cannot stand for {self.length} blocks")

    @property
    def byte_length(self) -> int:
        """Bytes of all stored blocks."""
        return sum(root.size for root in self.roots)

    def hash(self) -> bytes:
        """The tree hash, 32 bytes: what signatures cover."""
        parts = b"".join([_ROOT.pack(root.hash, root.index, root.size) for root in self.roots])
        return blake2b(b"\x02" + parts, digest_size=HASH_BYTES).digest()

    def append(self, blocks: Iterable[bytes]) -> tuple["Tree", list[Node]]:
        """The tree with `blocks` at its end, and every node that came into being, children before parents."""
        roots = list(self.roots)
        length = self.length
        born: list[Node] = []
        add, pack = born.append, _TYPED_SIZE.pack
        for block in blocks:  # `leaf` and `parent`, without the calls
            size = len(block)
            digest = blake2b(pack(0, size) + block, digest_size=HASH_BYTES).digest()
            node = _new_tuple(Node, (2 * length, size, digest))
            length += 1
            add(node)
            carry = length  # as in binary addition: each trailing zero of the new length merges two roots
            while not carry & 1:
                at, left_size, left_hash = roots.pop()
                size += left_size
                digest = blake2b(pack(1, size) + left_hash + digest, digest_size=HASH_BYTES).digest()
                node = _new_tuple(Node, ((at + node[0]) >> 1, size, digest))
                add(node)
                carry >>= 1
            roots.append(node)
        return Tree(length, tuple(roots)), born

    def truncate(self, length: int, nodes: NodeSource) -> "Tree":
        """The tree of the first `length` blocks; `nodes` gives the roots that were merged since."""
        if not 0 <= length <= self.length:
            raise LocalError(f"cannot truncate {self.length} blocks to {length}")
        known = {root.index: root for root in self.roots}
        return Tree(length, tuple(known.get(index) or nodes(index) for index in flat_tree.full_roots(length)))

    def root_over(self, index: int) -> Node:
        """The root under which node `index` lies."""
        for root in self.roots:
            if index <= flat_tree.right_span(root.index):
                return root
        raise LocalError(f"node {index} is past the length {self.length}")

    def proves(self, node: Node, nodes: NodeSource) -> bool:
        """Whether `node` belongs to this tree: climbs to a root through `nodes`, which are not trusted."""
        root = self.root_over(node.index)
        return climb(node, path(node.index, root.index, nodes)) == root


def path(index: int, root: int, nodes: NodeSource) -> list[Node]:
    """The siblings met when climbing from node `index` to node `root`, from below upwards."""
    siblings = []
    while index != root:
        siblings.append(nodes(flat_tree.sibling(index)))
        index = flat_tree.parent(index)
    return siblings


def climb(node: Node, siblings: Sequence[Node]) -> Node:
    """The node reached from `node` through `siblings`; `SignatureError` if one is not its sibling."""
    for other in siblings:
        if other.index != flat_tree.sibling(node.index):
            raise SignatureError(f"tree node {other.index} is not beside {node.index}", reason="proof")
        node = parent(node, other) if node.index < other.index else parent(other, node)
    return node
