"""How many leading blocks two forks of a log share: found by comparing trees, from the new roots downwards. Pure.

    while (wanted := bisection.next_request()) is not None:  # the hash of a request at the new fork
        bisection.receive(answer.hash)
    bisection.shared

The first root of the new tree that is not ours is looked into: a path to the last of our blocks underneath brings both
children of each node on the way, so that one answer decides every step until the forks part to the left of it. After
a truncation near the end, the usual reorganisation, that is one answer; 53 at most.

Invariants: `shared` never exceeds what truly is shared, at any time: a node that we do not hold counts as different.
What is in `nodes` has been tied to the signed roots.
Spec: hypercore 11.37, `ReorgBatch` in lib/merkle-tree.js.
"""

from edge.errors import SignatureError
from edge.hypercore import flat_tree
from edge.hypercore.checking import Known
from edge.hypercore.merkle import Node, Tree, parent
from edge.hypercore.messages import BlockRef, HashProof


class Bisection:
    """Compares our tree `old`, whose inner nodes `known` gives, with the roots of a verified one `new`."""

    def __init__(self, old: Tree, known: Known, new: Tree) -> None:
        self.shared = 0
        self.nodes: list[Node] = []
        self._length = old.length
        self._roots = {root.index: root for root in old.roots}
        self._known = known
        self._differs: Node | None = None
        for root in new.roots:
            if not self._same(root):
                self._differs = root
                break

    def next_request(self) -> BlockRef | None:
        """The node to ask for, with the levels above it; None once `shared` is final."""
        node = self._differs
        if node is None or not node.index & 1 or flat_tree.left_span(node.index) >= 2 * self._length:
            return None
        last = min(2 * self._length - 2, flat_tree.right_span(node.index))
        return BlockRef(last, flat_tree.depth(node.index))

    def receive(self, proof: HashProof) -> None:
        """Take the answer to `next_request()`. Raises `SignatureError` if it is not one."""
        wanted, top = self.next_request(), self._differs
        if wanted is None or top is None or proof.index != wanted.index or len(proof.nodes) != wanted.nodes + 1:
            raise SignatureError("a path that nobody asked for", reason="proof")
        given = {node.index: node for node in proof.nodes}
        node = given.get(wanted.index)
        while node is not None and node.index != top.index:
            beside = given.get(flat_tree.sibling(node.index))
            if beside is None:
                break
            node = parent(node, beside) if node.index < beside.index else parent(beside, node)
            given[node.index] = node
        if node is None or node.index != top.index:
            raise SignatureError("a path with a node out of place", reason="proof")
        if node != top:
            raise SignatureError(f"the path does not lead to tree node {top.index}", reason="checksum")
        self.nodes += given.values()
        self._descend(top, given)

    def _descend(self, node: Node, given: dict[int, Node]) -> None:
        """Follow the difference down as far as nodes were given."""
        while node.index & 1:
            left, right = flat_tree.children(node.index)
            if left not in given:
                break
            node = given[left] if not self._same(given[left]) else given[right]
        self._differs = None if self._same(node) else node

    def _same(self, node: Node) -> bool:
        """Whether our tree has this very node; counts its blocks as shared then."""
        last = flat_tree.right_span(node.index)
        if last >= 2 * self._length or (self._roots.get(node.index) or self._known(node.index)) != node:
            return False
        self.shared = last // 2 + 1
        return True
