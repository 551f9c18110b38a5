"""What is durable of a core: its log, the state that the log gives, and the derived files beside it. Synchronous.

Invariants: `oplog` and `tree` tell of the same durable records, never of more; a tree node from the derived file is
used only after it has led to a root of `tree`; derived files that are not good for that are made again from the log.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from edge.errors import LocalError, SignatureError, StorageError, StorageFault
from edge.hypercore import checkpoint
from edge.hypercore.audit import Audit, BlockCorrupt, naming
from edge.hypercore.merkle import Node, Tree, leaf
from edge.hypercore.nodes import NodeFile
from edge.hypercore.oplog import CoreHeader, RecordKind, Signed
from edge.hypercore.recovery import rebuild, recover, tree_at
from edge.storage.disk import Disk
from edge.storage.log import SegmentLog

CHECKPOINT_EVERY_BLOCKS: Final = 8192  # blocks to hash again after a kill: about 0.1 s


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
        self._checkpoint_at = self.length + CHECKPOINT_EVERY_BLOCKS

    @classmethod
    def open(cls, log_disk: Disk, derived: Disk, header: CoreHeader | None) -> "CoreState":
        """Open the log and recover; with `header`, make a core of that header where there is none.

        Raises `StorageError`; a corrupt block is named where a checkpoint knows its number.
        """
        with naming(lambda sequence: checkpoint.block_of(checkpoint.load(derived), sequence)):
            log = SegmentLog.open(log_disk, create=header is not None)
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
        """Durable blocks."""
        return self.tree.length

    # --- what became durable ------------------------------------------------------------------------------------------

    def appended(self, sequence: int, tree: Tree, born: Sequence[Node]) -> None:
        """The blocks between the tree so far and `tree` are durable, in records from `sequence` on."""
        self.oplog.appended(sequence, tree.length - self.length)
        self.tree = tree
        self._nodes.put(born)

    def truncated(self, sequence: int, payload: bytes, tree: Tree) -> None:
        """A TRUNCATE record is durable; `tree` is what it leaves."""
        self.oplog.apply(sequence, RecordKind.TRUNCATE, payload)
        self.tree = tree
        self._checkpoint_at = min(self._checkpoint_at, tree.length + CHECKPOINT_EVERY_BLOCKS)

    @property
    def checkpoint_due(self) -> bool:
        """Whether enough blocks came since the last one."""
        return self.length >= self._checkpoint_at

    def save_checkpoint(self) -> None:
        """Derived, so a failure costs only a longer start."""
        self._checkpoint_at = self.length + CHECKPOINT_EVERY_BLOCKS
        if not self._nodes.flush() or not self._nodes.complete:
            return
        with contextlib.suppress(OSError, StorageError):
            last = self.log.read(self.oplog.next_sequence - 1)
            checkpoint.save(self._derived, checkpoint.encode(self.oplog, self.tree, self.log.store_id, last))

    # --- reading ------------------------------------------------------------------------------------------------------

    def stored(self, index: int) -> bytes:
        """A block as it lies in the log, its checksum checked. Raises `IndexError` and `BlockCorrupt`."""
        if not 0 <= index < self.length:
            raise IndexError(f"block {index} is not in a core of {self.length} blocks")
        with naming(self.oplog.index_of):
            return self.log.read(self.oplog.sequence_of(index)).payload

    def stored_blocks(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Index and stored form of blocks `start` to `end` (exclusive), read ahead."""
        if not 0 <= start < end:
            return
        sequence_of = self.oplog.sequence_of
        index, wanted = start, sequence_of(start)
        with naming(self.oplog.index_of):
            for record in self.log.scan(wanted):
                if record.sequence != wanted:
                    continue  # signatures, and blocks that a truncation dropped
                yield index, record.payload
                index += 1
                if index >= end:
                    return
                wanted = sequence_of(index)

    def tree_at(self, length: int) -> Tree:
        """Roots at a smaller length, each proven to lie under the present ones."""
        if length == self.length:
            return self.tree
        if not 0 <= length < self.length:
            raise LocalError(f"no length {length} in a core of {self.length} blocks")
        with contextlib.suppress(StorageError, SignatureError):
            return tree_at(length, self.tree, self._nodes)
        self._rebuild_nodes()
        return tree_at(length, self.tree, self._nodes)

    def prove(self, index: int, stored: bytes) -> None:
        """Raise `BlockCorrupt` unless `stored` leads to the Merkle root as block `index`."""
        node = leaf(index, stored)
        with contextlib.suppress(StorageError, SignatureError):
            if self.tree.proves(node, self._nodes.get):
                return
        self._rebuild_nodes()
        if not self.tree.proves(node, self._nodes.get):
            raise BlockCorrupt(index, "it does not lead to the Merkle root")

    def audit(self, signed: Signed | None) -> Audit:
        """A reading back of everything up to now; `signed` is the newest signature."""
        return Audit(
            log=self.log,
            nodes=self._nodes,
            oplog=self.oplog,
            verifier=self.header.verifier,
            stop=self.oplog.next_sequence,
            fork=self.oplog.fork,
            tree=self.tree,
            signed=signed,
        )

    def _rebuild_nodes(self) -> None:
        _, tree = rebuild(self.log, self._nodes, self.oplog.next_sequence)
        if tree != self.tree:
            raise StorageError("the blocks on disk do not give this core's tree", fault=StorageFault.CORRUPT)
