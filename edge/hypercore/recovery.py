"""From a segment log to the state of a core: by checkpoint and the tail after it, or by replaying everything.

Replaying hashes the blocks that were appended here, and takes from the other records the tree nodes that were proven
before they were written; every parent of two known nodes follows from them (`NodeFile.settle`). Blocks whose room was
freed leave a gap in what can be hashed, until the CLEAR record comes that says what stood there.
"""

from edge.errors import RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore import checkpoint, flat_tree
from edge.hypercore.merkle import Node, Tree, leaf
from edge.hypercore.nodes import NodeFile
from edge.hypercore.oplog import Oplog
from edge.hypercore.records import (
    PUT,
    WHOLE_BLOCKS,
    CoreHeader,
    RecordKind,
    Upgrade,
    decode_clear,
    decode_nodes,
    put_index,
    put_nodes,
    put_start,
)
from edge.storage.disk import Disk
from edge.storage.log import Record, SegmentLog
from edge.storage.runs import DISCARDED

_BATCH_BLOCKS = 512


def recover(log: SegmentLog, nodes: NodeFile, derived: Disk) -> tuple[Oplog, Tree]:
    """State and roots of the core in `log`, and its tree nodes in `nodes`. Raises `StorageError` CORRUPT."""
    header = _read_header(log)
    data = checkpoint.load(derived)
    if data is not None:
        try:
            oplog, tree = checkpoint.decode(data, header, log.store_id, log.read)
            _check_roots(tree, nodes)
            tree = replay(log, oplog, tree, nodes)
            check_signed(oplog, tree, nodes)
        except (RemoteError, StorageError):
            pass  # whatever is wrong, the log decides
        else:
            return oplog, tree
    return rebuild(log, nodes)


def rebuild(log: SegmentLog, nodes: NodeFile, stop: int | None = None) -> tuple[Oplog, Tree]:
    """The same from the log alone, every block hashed again; up to record `stop`. Raises `StorageError` CORRUPT."""
    nodes.clear()
    oplog = Oplog()
    tree = replay(log, oplog, Tree(), nodes, stop)
    try:
        check_signed(oplog, tree, nodes)
    except SignatureError as error:
        raise StorageError(f"the log does not carry its own signature: {error}", fault=StorageFault.CORRUPT) from error
    return oplog, tree


def replay(log: SegmentLog, oplog: Oplog, tree: Tree, nodes: NodeFile, stop: int | None = None) -> Tree:
    """Take the log's records from `oplog.next_sequence` on into `oplog` and `nodes`; returns the roots after them."""
    known: Tree | None = tree  # None: a root is not known yet
    blocks: list[bytes] = []
    for record in log.scan(oplog.next_sequence):
        if stop is not None and record.sequence >= stop:
            break
        if record.kind in WHOLE_BLOCKS and len(blocks) < _BATCH_BLOCKS:
            blocks.append(record.payload)
        else:
            known = _grow(known, oplog.length, blocks, nodes)
            blocks = [record.payload] if record.kind in WHOLE_BLOCKS else []
        length = oplog.length
        oplog.apply(record.sequence, record.kind, record.payload)
        if record.kind not in WHOLE_BLOCKS:
            known = follow(record, oplog, known, length, nodes)
    known = _grow(known, oplog.length, blocks, nodes) or roots(oplog.length, nodes)
    if known is None:
        raise StorageError("the log does not say what its cleared blocks hash to", fault=StorageFault.CORRUPT)
    return known


def roots(length: int, nodes: NodeFile) -> Tree | None:
    """The tree of `length` blocks as the nodes have it; None where one of its roots is not known."""
    found: list[Node] = []
    for index in flat_tree.full_roots(length):
        node = nodes.find(index)
        if node is None:
            return None
        found.append(node)
    return Tree(length, tuple(found))


def tree_at(length: int, tree: Tree, nodes: NodeFile) -> Tree:
    """The tree as it was at `length`, each of its roots proven to lie under `tree`.

    Raises `StorageError` CORRUPT or `SignatureError` where the derived nodes are not good for it.
    """
    earlier = tree.truncate(length, nodes.get)
    for root in earlier.roots:
        if root not in tree.roots and not tree.proves(root, nodes.get):
            raise SignatureError(f"tree node {root.index} does not lead to the root", reason="proof")
    return earlier


def check_signed(oplog: Oplog, tree: Tree, nodes: NodeFile) -> None:
    """The newest signature in the log holds. Raises `SignatureError`, or `StorageError` for bad nodes."""
    signed, verifier = oplog.signed, oplog.verifier
    if signed is None or verifier is None:
        return
    verifier.verify_tree(signed.signature, tree_at(signed.length, tree, nodes), signed.fork)


def follow(record: Record, oplog: Oplog, tree: Tree | None, length: int, nodes: NodeFile) -> Tree | None:
    """What a record that `oplog` has just taken does to the tree; `length` is from before it."""
    kind, payload = record.kind, record.payload
    if kind == PUT:
        index = put_index(payload)
        nodes.settle([*put_nodes(payload), leaf(index, payload[put_start(payload) :])])
    elif kind == RecordKind.TRUNCATE:
        tree = None if tree is None else _truncated(tree, oplog.length, nodes)
        nodes.erase(oplog.length)
        if tree is not None:
            nodes.put(tree.roots)
    elif kind == RecordKind.UPGRADE:
        upgrade = Upgrade.decode(payload)
        if upgrade.shared < length:
            nodes.erase(upgrade.shared)
        nodes.settle([*upgrade.tree.roots, *upgrade.nodes])
        return upgrade.tree
    elif kind == RecordKind.NODES:
        nodes.settle(decode_nodes(payload))
    elif kind == RecordKind.CLEAR:
        nodes.settle(decode_clear(payload)[2])
    elif kind == DISCARDED and oplog.length > length:
        return None
    return tree or roots(oplog.length, nodes)


def _truncated(tree: Tree, length: int, nodes: NodeFile) -> Tree | None:
    known = {root.index: root for root in tree.roots}
    found = [known.get(index) or nodes.find(index) for index in flat_tree.full_roots(length)]
    kept = tuple([node for node in found if node is not None])
    return Tree(length, kept) if len(kept) == len(found) else None


def _grow(tree: Tree | None, length: int, blocks: list[bytes], nodes: NodeFile) -> Tree | None:
    """Hash `blocks`, the last ones below `length`."""
    if not blocks:
        return tree
    if tree is None:
        start = length - len(blocks)
        nodes.settle([leaf(start + offset, block) for offset, block in enumerate(blocks)])
        return roots(length, nodes)
    tree, born = tree.append(blocks)
    nodes.put(born)
    return tree


def _read_header(log: SegmentLog) -> CoreHeader:
    try:
        record = log.read(0)
        if record.kind != RecordKind.HEADER:
            raise RemoteError("it does not start with a core's header")
        return CoreHeader.decode(record.payload)
    except (IndexError, RemoteError) as error:
        raise StorageError(f"this log is no core: {error}", fault=StorageFault.CORRUPT) from error


def _check_roots(tree: Tree, nodes: NodeFile) -> None:
    """The node file was written at least as far as the checkpoint."""
    for root in tree.roots:
        if nodes.get(root.index) != root:
            raise StorageError("the tree file is behind the checkpoint", fault=StorageFault.CORRUPT)
