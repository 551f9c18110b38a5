"""A tree that grows by nodes instead of blocks: which nodes lead from one length to another. Pure.

Whoever shows a longer tree sends `steps(start, target)`: the siblings on the right that complete the last roots, then
new roots. `Growth` takes them in that order and computes what they merge into; a node in a wrong place is an error.
Spec: hypercore 11.37, `upgradeProof` and `verifyUpgrade` in lib/merkle-tree.js.
"""

from collections.abc import Callable, Iterator

from edge.errors import SignatureError
from edge.hypercore import flat_tree
from edge.hypercore.merkle import Node, Tree, parent
from edge.limits import INTEGER_MAX

Take = Callable[[int], Node]
"""Hands over the node of this index; raises `SignatureError` where the proof has another one there, or none."""


def steps(start: int, target: int) -> Iterator[int]:
    """The nodes that a tree of `start` blocks needs to become one of `target` blocks, in order."""
    last = 2 * start - 2  # the last leaf that is there already
    for root in flat_tree.full_roots(target):
        if flat_tree.right_span(root) <= last:
            continue
        if start and flat_tree.left_span(root) <= last:
            index = last
            while index != root:
                beside = flat_tree.sibling(index)
                if beside > last:
                    yield beside
                index = flat_tree.parent(index)
        else:
            yield root


class Growth:
    """Roots that grow. `born` lists every node that was given or computed, children before parents."""

    __slots__ = ("born", "roots")

    def __init__(self, tree: Tree) -> None:
        self.roots = list(tree.roots)
        self.born: list[Node] = []

    @property
    def length(self) -> int:
        """Blocks under the roots so far."""
        return flat_tree.right_span(self.roots[-1].index) // 2 + 1 if self.roots else 0

    def tree(self) -> Tree:
        """The tree that the roots are now."""
        return Tree(self.length, tuple(self.roots))

    def append(self, node: Node) -> None:
        """Put `node` to the right of the last root and merge what completes; the place must have been checked."""
        roots, born = self.roots, self.born
        born.append(node)
        while roots and roots[-1].index == flat_tree.sibling(node.index):
            node = parent(roots.pop(), node)
            born.append(node)
        roots.append(node)

    def reach(self, target: int, take: Take) -> None:
        """Grow to `target` blocks."""
        for index in steps(self.length, target):
            self.append(take(index))

    def extend(self, node: Node) -> None:
        """Let `node` say itself how far it reaches; it must begin where the last root ends and be no higher."""
        following = flat_tree.sibling(self.roots[-1].index)  # to the right: of two siblings none is left a root
        if flat_tree.left_span(node.index) != flat_tree.left_span(following) or node.index > following:
            raise SignatureError(f"tree node {node.index} does not follow the roots", reason="proof")
        if flat_tree.right_span(node.index) > INTEGER_MAX:
            raise SignatureError(f"tree node {node.index} reaches past 2^53-1", reason="proof")
        self.append(node)
