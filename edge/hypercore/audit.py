"""Reading a whole core back: every record's checksum, every block's place in the tree, every signature on disk.

The replay here trusts nothing derived. Roots that an old signature or a truncation refers to are remembered when the
replay passes their length, so no tree node has to be believed; the node file only helps to name a block that differs.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge.errors import RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore.merkle import Tree, leaf
from edge.hypercore.nodes import NodeFile
from edge.hypercore.oplog import BLOCK, Oplog, RecordKind, Signed, decode_truncate
from edge.hypercore.verifier import Verifier
from edge.storage.log import SegmentLog
from edge.storage.plan import SegmentCorrupt


class BlockCorrupt(StorageError):
    """A block on disk is not what was appended."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(f"block {index} is corrupt: {why}", fault=StorageFault.CORRUPT)
        self.index = index


@contextlib.contextmanager
def naming(index_of: Callable[[int], int | None]) -> Iterator[None]:
    """Turn a corrupt record of the log into a corrupt block where `index_of` its sequence says that it holds one."""
    try:
        yield
    except SegmentCorrupt as error:
        index = index_of(error.sequence)
        if index is None:
            raise
        raise BlockCorrupt(index, str(error)) from error


@dataclass(frozen=True, slots=True)
class Audit:
    """What is read back, and the state that the records below `stop` must give."""

    log: SegmentLog
    nodes: NodeFile
    oplog: Oplog  # the live one: only asked where blocks lie
    verifier: Verifier
    stop: int
    fork: int
    tree: Tree
    signed: Signed | None

    def steps(self) -> Iterator[int]:
        """Check record by record, yielding how many are done. Raises `BlockCorrupt` or `StorageError` CORRUPT."""
        remembered = self._lengths_referred_to()
        oplog, tree = Oplog(), Tree()
        with naming(self.oplog.index_of):
            for record in self.log.scan():
                if record.sequence >= self.stop:
                    break
                oplog.apply(record.sequence, record.kind, record.payload)
                if record.kind == BLOCK:
                    tree, _ = tree.append((record.payload,))
                    if tree.length in remembered:
                        remembered[tree.length] = tree
                elif record.kind == RecordKind.TRUNCATE:
                    tree = remembered[oplog.length]
                elif record.kind == RecordKind.SIGNATURE and oplog.signed is not None:
                    length = oplog.signed.length
                    self._check(oplog.signed, tree if length == tree.length else remembered.get(length, tree))
                yield record.sequence + 1
        if self.signed is not None and self.signed.length == tree.length:
            self._check(self.signed, tree)
        if tree != self.tree:
            raise self._difference(tree.length)

    def _lengths_referred_to(self) -> dict[int, Tree]:
        """Lengths whose roots are needed after they have grown into others; none in a plain core of one signer."""
        remembered = {0: Tree()}
        if self.fork == 0 and self.verifier.manifest.quorum == 1:
            return remembered
        with contextlib.suppress(SegmentCorrupt, RemoteError):  # found again, and named, on the way
            for record in self.log.scan():
                if record.sequence >= self.stop:
                    break
                if record.kind == RecordKind.TRUNCATE:
                    remembered[decode_truncate(record.payload)[0]] = Tree()
                elif record.kind == RecordKind.SIGNATURE:
                    remembered[Signed.decode(record.payload).length] = Tree()
        return remembered

    def _check(self, signed: Signed, tree: Tree) -> None:
        try:
            self.verifier.verify(signed.signature, tree.hash(), signed.length, signed.fork)
        except SignatureError as error:
            raise self._difference(signed.length) from error

    def _difference(self, length: int) -> StorageError:
        """Records with good checksums that are not what was signed: name the first whose leaf differs."""
        for index in range(min(length, self.oplog.length)):
            with contextlib.suppress(StorageError):
                if self.nodes.get(2 * index) != leaf(index, self.log.read(self.oplog.sequence_of(index)).payload):
                    return BlockCorrupt(index, "it is not the block that was signed")
        return StorageError(
            f"the signature for {length} blocks does not hold; no single block can be named", fault=StorageFault.CORRUPT
        )
