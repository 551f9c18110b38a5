"""Proofs for others: the nodes that tie what was asked for to a root that the asker knows. Pure.

A block or node below the asker's length comes with its siblings up to the node that the request names. What lies in
new territory comes with siblings up to the node that the upgrade would have sent in its place; so nothing is sent
twice, and the asker's computed node fills the gap. A seek likewise replaces the sibling that it lies under.
The nodes, their lists and their order are exactly those of stock peers, who accept no others.
Spec: hypercore 11.37, `generateProof` in lib/merkle-tree.js.
"""

from collections.abc import Callable
from typing import Final

from edge.errors import BlockMissing, RemoteError
from edge.hypercore import flat_tree
from edge.hypercore.growth import steps
from edge.hypercore.manifest import Manifest
from edge.hypercore.merkle import Node, NodeSource, Tree
from edge.hypercore.messages import BlockProof, Data, HashProof, Request, SeekProof, SeekRef, UpgradeProof, UpgradeRef

_NOWHERE: Final = -1  # the index of no node


def prove(
    request: Request,
    *,
    tree: Tree,
    fork: int,
    signature: bytes,
    nodes: NodeSource,
    block: Callable[[int], bytes],
    manifest: Manifest | None,
) -> Data:
    """The answer to `request` from the signed state `tree`.

    `nodes` raises `BlockMissing` for a node that is not held (a sparse log). Raises `RemoteError` with reason
    `invalid_request` for what no tree of this length can answer.
    """
    return _Proof(request, tree, nodes, manifest).data(fork, signature, block)


class _Proof:
    """One answer in the making: the lists that the message will have; None where it has none."""

    def __init__(self, request: Request, tree: Tree, nodes: NodeSource, manifest: Manifest | None) -> None:
        self.request = request
        self.tree = tree
        self.manifest = manifest
        self.upgrade = self._upgrade(request.upgrade)
        self._roots = {root.index: root for root in tree.roots}
        self._nodes = nodes
        self._item: list[Node] | None = None  # of the block or hash
        self._sought: list[Node] | None = None
        self._grown: list[Node] = []
        self._additional: list[Node] = []

    def data(self, fork: int, signature: bytes, block: Callable[[int], bytes]) -> Data:
        request, upgrade = self.request, self.upgrade
        if request.block or request.hash or request.seek or upgrade:
            self._collect()
        ref, node, seek = request.block, request.hash, request.seek
        item = () if self._item is None else tuple(self._item)
        if (ref or node) and self._item is None:
            raise _invalid("the item is not in the part of the tree that was asked for")
        return Data(
            request.id,
            fork,
            BlockProof(ref.index, block(ref.index), item) if ref else None,
            HashProof(node.index, item) if node and not ref else None,
            SeekProof(seek.bytes, tuple(self._sought)) if seek and self._sought is not None else None,
            UpgradeProof(upgrade.start, upgrade.length, tuple(self._grown), tuple(self._additional), signature)
            if upgrade
            else None,
            self.manifest if request.manifest else None,
        )

    def _upgrade(self, wanted: UpgradeRef | None) -> UpgradeRef | None:
        """What to show: a prologue goes out as a whole, because there is no signature for a part of it."""
        prologue = self.manifest.prologue if self.manifest else None
        if wanted and prologue and wanted.start < prologue.length:
            return UpgradeRef(0, prologue.length)
        return wanted

    def _collect(self) -> None:
        request, upgrade, tree = self.request, self.upgrade, self.tree
        start = upgrade.start if upgrade else 0
        target = start + upgrade.length if upgrade else tree.length
        if not start < target <= tree.length:
            raise _invalid(f"blocks {start} to {target} of {tree.length}")
        item, seek = request.block or request.hash, request.seek
        index = item.index if item else _NOWHERE
        if request.block:
            index *= 2
        if item and flat_tree.right_span(index) >= 2 * target:
            raise _invalid(f"tree node {index} is past the length {target}")
        below = item and (not upgrade or flat_tree.right_span(index) < 2 * start)
        if seek and item and not below:
            raise _invalid("a seek and an item in one upgrade")
        replaced = _NOWHERE  # the node in new territory that the item or the seek stands for
        if item and below:
            self._below(index, item.nodes, target, seek)
        elif upgrade and seek:
            replaced = self._sought_from_start(target, seek)
        elif upgrade and item:
            replaced = index
        elif not upgrade:
            raise _invalid("a seek needs an upgrade or a node to look under")
        if upgrade:
            self._show_upgrade(start, target, index, replaced)

    def _below(self, index: int, levels: int, target: int, seek: SeekRef | None) -> None:
        """An item that the asker's own tree covers: siblings from it up to the node that the asker knows."""
        top = index
        for _ in range(levels):  # ends by itself: after 53 steps no tree is wide enough
            top = flat_tree.parent(top)
            if flat_tree.right_span(top) >= 2 * target:
                raise _invalid(f"{levels} levels above tree node {index} are out of the tree")
        sought = self._sought_under(top, seek) if seek else _NOWHERE
        self._item_path(index, top, sought)

    def _item_path(self, index: int, top: int, sought: int) -> None:
        path = self._item = []
        if not self.request.block:
            path.append(self._node(index))
        while index != top:
            beside = flat_tree.sibling(index)
            if sought not in (_NOWHERE, beside) and flat_tree.contains(beside, sought):
                self._seek_path(sought, beside)
            else:
                path.append(self._node(beside))
            index = flat_tree.parent(index)

    def _seek_path(self, index: int, top: int) -> None:
        path = self._sought = [self._node(index)]
        while index != top:
            path.append(self._node(flat_tree.sibling(index)))
            index = flat_tree.parent(index)

    def _show_upgrade(self, start: int, target: int, index: int, replaced: int) -> None:
        for step in steps(start, target):
            if replaced == _NOWHERE or not flat_tree.contains(step, replaced):
                self._grown.append(self._node(step))
            elif index != _NOWHERE:
                self._item_path(index, step, _NOWHERE)
            else:
                self._seek_path(replaced, step)
        self._additional += map(self._node, steps(target, self.tree.length))

    # --- byte offsets -------------------------------------------------------------------------------------------

    def _sought_under(self, top: int, seek: SeekRef) -> int:
        """The node at the offset, which must lie under node `top`."""
        start = self._byte_offset(top) - seek.padding * flat_tree.left_span(top) // 2
        if start == seek.bytes:
            return top
        within = seek.bytes - start
        if within < 0 or within >= self._size(top, seek.padding):
            raise _invalid(f"byte {seek.bytes} is not under tree node {top}")
        return self._descend(top, within, seek.padding)

    def _sought_from_start(self, target: int, seek: SeekRef) -> int:
        """The node at the offset in a tree of `target` blocks; nowhere if the tree ends before it."""
        left = seek.bytes
        for root in flat_tree.full_roots(target):
            size = self._size(root, seek.padding)
            if left == size:
                return root
            if left < size:
                return self._descend(root, left, seek.padding)
            left -= size
        return _NOWHERE

    def _descend(self, index: int, left: int, padding: int) -> int:
        """The node `left` bytes into node `index`, as deep as nodes are held; an edge between two ends the search."""
        while left and index & 1:
            low, high = flat_tree.children(index)
            try:
                size = self._size(low, padding)
            except BlockMissing:
                return index
            if left == size:
                return low
            if left < size:
                index = low
            else:
                left -= size
                index = high
        return index

    def _byte_offset(self, index: int) -> int:
        """Bytes before node `index`."""
        first = flat_tree.left_span(index)
        total = 0
        for root in self.tree.roots:
            if first > flat_tree.right_span(root.index):
                total += root.size
                continue
            at = root.index
            while flat_tree.left_span(at) != first:
                low, high = flat_tree.children(at)
                if flat_tree.contains(low, first):
                    at = low
                else:
                    total += self._node(low).size
                    at = high
            break
        return total

    def _size(self, index: int, padding: int) -> int:
        return self._node(index).size - (padding << flat_tree.depth(index))

    def _node(self, index: int) -> Node:
        return self._roots.get(index) or self._nodes(index)


def _invalid(why: str) -> RemoteError:
    return RemoteError(f"no proof: {why}", reason="invalid_request")
