"""What peers may be told of a core, and the answers to their requests. Synchronous; speaks of durable state alone."""

from edge.errors import BlockMissing, RemoteError
from edge.hypercore import flat_tree
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.messages import BlockProof, Data, Request
from edge.hypercore.proving import prove
from edge.hypercore.signing import Signing
from edge.hypercore.state import CoreState

Shown = tuple[int, int, Tree, bytes]
"""Fork, length, tree and signature of a state that others may be told."""


class Serving:
    """Answers from one core."""

    def __init__(self, state: CoreState, signing: Signing) -> None:
        self._state = state
        self._signing = signing
        self._shown: Shown | None = None

    @property
    def shown(self) -> Shown | None:
        """The newest state that has a signature; None too for a core that is frozen."""
        return self._shown or self._show()

    def changed(self) -> None:
        """Something has become durable."""
        self._shown = None

    def prove(self, request: Request) -> Data:
        """The answer to a request, from what is shown.

        Raises `BlockMissing` for what is not here, `RemoteError` for what no log like this can answer.
        """
        shown = self._shown or self._show()
        _, _, block, node, seek, upgrade, manifest, _ = request
        if shown is None and manifest and (block or node or seek or upgrade) is None:
            shown = self._state.oplog.fork, 0, Tree(0, ()), b""  # who signs is known before anything is
        if shown is None:
            raise RemoteError("nothing is shown of this core", reason="invalid_request")
        if block is not None and node is None and seek is None and upgrade is None and not manifest:
            answer = self._block(request, shown)
            if answer is not None:
                return answer
        try:
            return self._prove(request, shown)
        except BlockMissing:
            if not self._state.owes(block.index if block is not None and upgrade is None else None):
                raise
        return self._prove(request, shown)

    def _show(self) -> Shown | None:
        signed, oplog = self._signing.signed, self._state.oplog
        if signed is not None and oplog.conflict is None:
            self._shown = signed.fork, signed.length, self._state.tree_at(signed.length), signed.signature
        return self._shown

    def _block(self, request: Request, shown: Shown) -> Data | None:
        """The answer to a request for one block and nothing else, written out flat; None leaves it to `_prove`."""
        assert request.block is not None
        index, levels = request.block
        end = 2 * shown[1]
        find = self._state.find
        at = 2 * index
        bit = 1  # 2^height of `at`
        beside: list[Node] = []
        for _ in range(levels):
            node = find(at ^ 2 * bit)
            at = at & ~(2 * bit) | bit
            bit *= 2
            if node is None or at + bit > end:
                return None
            beside.append(node)
        if at >= end:
            return None
        return Data(request.id, shown[0], BlockProof(index, self._state.stored(index), tuple(beside)))

    def _prove(self, request: Request, shown: Shown) -> Data:
        fork, _, tree, signature = shown
        verifier = self._state.oplog.verifier
        manifest = None if verifier is None or verifier.compat else verifier.manifest
        return prove(
            request,
            tree=tree,
            fork=fork,
            signature=signature,
            nodes=self._node,
            block=self._state.stored,
            manifest=manifest,
        )

    def _node(self, index: int) -> Node:
        node = self._state.find(index)
        if node is None:
            raise BlockMissing(flat_tree.left_span(index) // 2)
        return node
