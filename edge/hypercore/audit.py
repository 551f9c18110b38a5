"""Reading a whole core back: every record's checksum, every block's place in the tree, every signature on disk.

Of a core that was only ever written here the replay trusts nothing derived. Roots that an old signature or a truncation
refers to are remembered when the replay passes their length, so no tree node has to be believed; the node file only
helps to name a block that differs. Of any other core - a replica, or one with cleared blocks - the blocks alone do not
give the tree, so each block that is held has to lead to a root, and the newest signature has to cover the roots.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge.errors import RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore import flat_tree
from edge.hypercore.merkle import Node, Tree, leaf, parent
from edge.hypercore.nodes import NodeFile
from edge.hypercore.oplog import Oplog
from edge.hypercore.records import WHOLE_BLOCKS, RecordKind, Signed, decode_truncate, put_start
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
    verifier: Verifier | None
    plain: bool
    stop: int
    fork: int
    tree: Tree
    signed: Signed | None
    tree_at: Callable[[int], Tree]
    prove: Callable[[int, bytes], None]

    def steps(self) -> Iterator[int]:
        """Check record by record, yielding how many are done. Raises `BlockCorrupt` or `StorageError` CORRUPT."""
        return self._replay() if self.plain else self._climb()

    def _climb(self) -> Iterator[int]:
        """Every record once for its checksum, and those of held blocks a second time for their place in the tree."""
        oplog = Oplog()
        with naming(self.oplog.index_of):
            for record in self.log.scan():
                if record.sequence >= self.stop:
                    break
                oplog.apply(record.sequence, record.kind, record.payload)
                yield record.sequence // 2
            if self.signed is not None and self.verifier is not None and self.oplog.fork == self.fork:
                tree = self.tree_at(self.signed.length)
                try:
                    self.verifier.verify_tree(self.signed.signature, tree, self.signed.fork)
                except SignatureError as error:
                    raise StorageError(f"the newest signature: {error}", fault=StorageFault.CORRUPT) from error
            proven: dict[int, Node] = {}
            for first, sequence, end in oplog.runs.placed(0, oplog.length):
                for record in itertools.islice(self.log.scan(sequence), end - first):
                    index = first + record.sequence - sequence
                    if self.oplog.fork != self.fork or self.oplog.sequence_of(index) != record.sequence:
                        continue  # given up while this went on
                    payload = record.payload
                    stored = payload if record.kind in WHOLE_BLOCKS else payload[put_start(payload) :]
                    proven = self._proven(index, stored, proven)
                    yield (self.stop + record.sequence) // 2
        yield self.stop

    def _proven(self, index: int, stored: bytes, proven: dict[int, Node]) -> dict[int, Node]:
        """Climb from a block to a root, or to a node that the block before has `proven`; returns what is proven now."""
        node = leaf(index, stored)
        passed: dict[int, Node] = {}
        root = self.tree.root_over(node.index)
        while node.index != root.index and node.index not in proven:
            other = self.nodes.find(flat_tree.sibling(node.index))
            if other is None:
                break
            passed[node.index], passed[other.index] = node, other
            node = parent(node, other) if node.index < other.index else parent(other, node)
        if node != proven.get(node.index, root):
            self.prove(index, stored)  # mends what is derived, or names the block
            return {}
        return passed | {each: known for each, known in proven.items() if each > node.index}

    def _replay(self) -> Iterator[int]:
        remembered = self._lengths_referred_to()
        oplog, tree = Oplog(), Tree()
        with naming(self.oplog.index_of):
            for record in self.log.scan():
                if record.sequence >= self.stop:
                    break
                oplog.apply(record.sequence, record.kind, record.payload)
                if record.kind in WHOLE_BLOCKS:
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
        if self.fork == 0 and self.verifier is not None and self.verifier.manifest.quorum == 1:
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
            if self.verifier is not None:
                self.verifier.verify_tree(signed.signature, tree, signed.fork)
        except SignatureError as error:
            raise self._difference(signed.length) from error

    def _difference(self, length: int) -> StorageError:
        """Records with good checksums that are not what was signed: name the first whose leaf differs."""
        for index in range(min(length, self.oplog.length)):
            with contextlib.suppress(StorageError):
                sequence = self.oplog.sequence_of(index)
                if sequence is not None and self.nodes.get(2 * index) != leaf(index, self.log.read(sequence).payload):
                    return BlockCorrupt(index, "it is not the block that was signed")
        return StorageError(
            f"the signature for {length} blocks does not hold; no single block can be named", fault=StorageFault.CORRUPT
        )
