"""What is durable of a core: its log, the state that the log gives, and the derived files beside it. Synchronous.

Invariants: `oplog` and `tree` tell of the same durable records, never of more; a tree node from the derived file is
used only after it has led to a root of `tree`, or where a proof by a peer agrees with it; derived files that are not
good for that are made again from the log.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from edge.errors import BlockMissing, LocalError, SignatureError, StorageError, StorageFault
from edge.hypercore import checkpoint, flat_tree
from edge.hypercore.audit import Audit, BlockCorrupt, naming
from edge.hypercore.merkle import Node, Tree, leaf
from edge.hypercore.nodes import NodeFile
from edge.hypercore.read_ahead import ReadAhead
from edge.hypercore.records import WHOLE_BLOCKS, CoreHeader, RecordKind, Signed, encode_truncate, put_start
from edge.hypercore.recovery import follow, rebuild, recover, tree_at
from edge.hypercore.runs import Stretch
from edge.limits import SEGMENT_BYTES
from edge.storage.disk import Disk
from edge.storage.log import Record, SegmentLog
from edge.storage.plan import SegmentCorrupt

CHECKPOINT_EVERY_RECORDS: Final = 8192  # records to replay after a kill: 0.1 s of hashing


class CoreState:
    """The durable state of one core. Owns `log` from here on."""

    def __init__(self, log: SegmentLog, derived: Disk) -> None:
        """Recover what is in `log`. Raises `StorageError`; then the log is still the caller's."""
        self.log: Final = log
        self._derived = derived
        self._nodes = NodeFile(derived)
        try:
            self.oplog, self.tree = recover(log, self._nodes, derived)
        except BaseException:
            self._nodes.close()
            raise
        self._reads = ReadAhead(log)
        self._rebuilt_at = -1
        self._checkpoint_at = 0
        self._checkpoint_later()
        if self.oplog.unfinished is not None:
            self._drop_unfinished(self.oplog.unfinished)

    @classmethod
    def open(
        cls, log_disk: Disk, derived: Disk, header: CoreHeader | None, segment_bytes: int = SEGMENT_BYTES
    ) -> "CoreState":
        """Open the log and recover; with `header`, make a core of that header where there is none.

        Raises `StorageError`; a corrupt block is named where a checkpoint knows its number.
        """
        with naming(lambda sequence: checkpoint.block_of(checkpoint.load(derived), sequence)):
            log = SegmentLog.open(log_disk, create=header is not None, segment_bytes=segment_bytes)
        try:
            if header is not None and log.next_sequence == 0:
                log.stage(RecordKind.HEADER, header.encode())
                log.commit()
            return cls(log, derived)
        except BaseException:
            log.close()
            raise

    def close(self) -> None:
        """Leave a checkpoint behind, if the disk takes it, and let go of the folder."""
        self._reads.forget()
        self.save_checkpoint()
        self._nodes.close()
        self.log.close()

    @property
    def header(self) -> CoreHeader:
        """What never changes about the core."""
        if self.oplog.header is None:
            raise LocalError("a recovered core has a header")
        return self.oplog.header

    @property
    def length(self) -> int:
        """Durable length. Of a replica not all blocks need be here."""
        return self.tree.length

    # --- what became durable ------------------------------------------------------------------------------------------

    def appended(self, sequence: int, tree: Tree, born: Sequence[Node]) -> None:
        """The blocks between the tree so far and `tree` are durable, in records from `sequence` on."""
        self.oplog.appended(sequence, tree.length - self.length)
        self.tree = tree
        self._nodes.put(born)

    def put(self, indexes: Sequence[int], nodes: dict[int, Node]) -> None:
        """Blocks of peers are durable in the next records, ascending and none of them held, and so are `nodes`."""
        sequence = self.oplog.next_sequence
        stretches: list[Stretch] = []
        first = end = -1
        for offset, index in enumerate(indexes):
            if index != end:
                if end > first:
                    stretches.append((first, sequence + offset - (end - first), end))
                first = index
            end = index + 1
        if end > first:
            stretches.append((first, sequence + len(indexes) - (end - first), end))
        self.oplog.put(stretches, len(indexes))
        self._nodes.put_all(nodes)

    def apply(self, sequence: int, kind: int, payload: bytes) -> None:
        """Any other record is durable."""
        length = self.length
        self.oplog.apply(sequence, kind, payload)
        tree = follow(Record(sequence, kind, payload), self.oplog, self.tree, length, self._nodes)
        if tree is None:
            raise LocalError(f"a record of kind {kind} left the tree unknown")
        self.tree = tree
        if kind in (RecordKind.UPGRADE, RecordKind.CLEAR):
            self._reads.forget()

    def truncated(self, sequence: int, payload: bytes, tree: Tree) -> None:
        """A TRUNCATE record is durable; `tree` is what it leaves."""
        self.oplog.apply(sequence, RecordKind.TRUNCATE, payload)
        self._nodes.erase(tree.length)
        self._nodes.put(tree.roots)
        self.tree = tree
        self._reads.forget()
        self._checkpoint_at = 0  # the last one speaks of nodes that are gone

    @property
    def checkpoint_due(self) -> bool:
        """Whether enough came since the last one."""
        return self.oplog.next_sequence >= self._checkpoint_at

    def save_checkpoint(self) -> None:
        """Derived, so a failure costs only a longer start."""
        self._checkpoint_later()
        if not self._nodes.flush() or not self._nodes.complete:
            return
        with contextlib.suppress(OSError, StorageError):
            last = self.log.read(self.oplog.next_sequence - 1)
            checkpoint.save(self._derived, checkpoint.encode(self.oplog, self.tree, self.log.store_id, last))

    def _drop_unfinished(self, length: int) -> None:
        """A power cut left the beginning of an append that is to be whole or not at all. Nobody was told of it.

        The fork rises, as with every truncation: other content may come to these indexes.
        """
        payload = encode_truncate(length, self.oplog.fork + 1)
        sequence = self.log.stage(RecordKind.TRUNCATE, payload)
        try:
            self.log.commit()
        except BaseException:
            self._nodes.close()
            raise
        self.apply(sequence, RecordKind.TRUNCATE, payload)

    def _checkpoint_later(self) -> None:
        every = max(CHECKPOINT_EVERY_RECORDS, 2 * len(self.oplog.runs.firsts))  # it is as long as they are many
        self._checkpoint_at = self.oplog.next_sequence + every

    # --- reading ------------------------------------------------------------------------------------------------------

    def stored(self, index: int) -> bytes:
        """A block as peers store it, its checksum checked. Raises `IndexError`, `BlockMissing` and `BlockCorrupt`."""
        sequence = self.oplog.runs.find(index) if index >= 0 else None
        if sequence is None:
            if not 0 <= index < self.length:
                raise IndexError(f"block {index} is not in a core of {self.length} blocks")
            raise BlockMissing(index)
        try:
            record = self._reads.read(index, sequence)
        except SegmentCorrupt as error:
            raise BlockCorrupt(index, str(error)) from error
        payload = record.payload
        return payload if record.kind in WHOLE_BLOCKS else payload[put_start(payload) :]

    def stored_blocks(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Index and stored form of blocks `start` to `end` (exclusive). Raises `BlockMissing` at the first gap."""
        for index in range(max(start, 0), end):
            yield index, self.stored(index)

    def find(self, index: int) -> Node | None:
        """A tree node, unless it is not known."""
        return self._nodes.find(index)

    def get_node(self, index: int) -> Node:
        """A tree node; `StorageError` CORRUPT where it is not known."""
        return self._nodes.get(index)

    def tree_at(self, length: int) -> Tree:
        """Roots at a smaller length, each proven to lie under the present ones."""
        if length == self.length:
            return self.tree
        if not 0 <= length < self.length:
            raise LocalError(f"no length {length} in a core of {self.length} blocks")
        with contextlib.suppress(StorageError, SignatureError):
            return tree_at(length, self.tree, self._nodes)
        self.rebuild_nodes()
        return tree_at(length, self.tree, self._nodes)

    def proves(self, node: Node) -> bool:
        """Whether `node` leads to a root; the nodes on its way are made again if they are not there."""
        if not self._leads(node) and self.rebuild_nodes():
            return self._leads(node)
        return self._leads(node)

    def prove(self, index: int, stored: bytes) -> None:
        """Raise `BlockCorrupt` unless `stored` leads to the Merkle root as block `index`."""
        if not self.proves(leaf(index, stored)):
            raise BlockCorrupt(index, "it does not lead to the Merkle root")

    def owes(self, index: int | None) -> bool:
        """A tree node was missing for an answer: whether it should have been here, and has been made again.

        For held block `index` all nodes on its way are known, and in a log of our own all there are.
        """
        damaged = self.oplog.plain or (index is not None and self.oplog.runs.has(index))
        return damaged and self.rebuild_nodes()

    def heal(self, index: int) -> bool:
        """Whether what is known above tree node `index` was wrong, and has been made again from the log."""
        root = self.tree.root_over(index).index
        while index != root:
            node = self._nodes.find(index)
            if node is not None:
                return not self._leads(node) and self.rebuild_nodes()
            index = flat_tree.parent(index)
        return False

    def rebuild_nodes(self) -> bool:
        """Make the nodes again from the log; False if that was done already and nothing came since."""
        if self._rebuilt_at == self.oplog.next_sequence:
            return False
        self._rebuilt_at = self.oplog.next_sequence
        _, tree = rebuild(self.log, self._nodes, self.oplog.next_sequence)
        if tree != self.tree:
            raise StorageError("the log on disk does not give this core's tree", fault=StorageFault.CORRUPT)
        return True

    def cover(self, start: int, end: int) -> list[Node]:
        """The nodes that stand for what is held of blocks `start` to `end` (exclusive) once it is cleared.

        The largest subtrees within that are known, and the siblings on their ways to the roots: what the proofs of
        others need. Over a held block every node is known; a subtree without one is needed by nobody.
        """
        with contextlib.suppress(StorageError):
            return self._cover(start, end)
        self.rebuild_nodes()
        return self._cover(start, end)

    def audit(self, signed: Signed | None) -> Audit:
        """A reading back of everything up to now; `signed` is the newest signature."""
        return Audit(
            log=self.log,
            nodes=self._nodes,
            oplog=self.oplog,
            verifier=self.oplog.verifier,
            plain=self.oplog.plain,
            stop=self.oplog.next_sequence,
            fork=self.oplog.fork,
            tree=self.tree,
            signed=signed,
            tree_at=self.tree_at,
            prove=self.prove,
        )

    def _leads(self, node: Node) -> bool:
        try:
            return self.tree.proves(node, self._nodes.get)
        except (StorageError, SignatureError):
            return False

    def _cover(self, start: int, end: int) -> list[Node]:
        found: dict[int, Node] = {}
        above: list[int] = []
        while start < end:
            size = min(start & -start if start else 1 << 53, 1 << (end - start).bit_length() - 1)
            index = 2 * start + size - 1
            if next(self.oplog.runs.held(start, start + size), None) is not None:
                found[index] = self._nodes.get(index)
                above.append(index)
            start += size
        passed: set[int] = set(above)
        for subtree in above:
            index, root = subtree, self.tree.root_over(subtree).index
            while index != root:
                sibling = flat_tree.sibling(index)
                if sibling not in passed:
                    found[sibling] = self._nodes.get(sibling)
                index = flat_tree.parent(index)
                if index in passed:
                    break
                passed.add(index)
        return list(found.values())
