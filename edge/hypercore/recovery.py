"""From a segment log to the state of a core: by checkpoint and the tail after it, or by replaying everything."""

from edge.errors import RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore import checkpoint
from edge.hypercore.merkle import Tree
from edge.hypercore.nodes import NodeFile
from edge.hypercore.oplog import BLOCK, CoreHeader, Oplog, RecordKind, decode_truncate
from edge.storage.disk import Disk
from edge.storage.log import SegmentLog

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
    blocks: list[bytes] = []
    for record in log.scan(oplog.next_sequence):
        if stop is not None and record.sequence >= stop:
            break
        if record.kind == BLOCK and len(blocks) < _BATCH_BLOCKS:
            blocks.append(record.payload)
        else:
            tree = _grow(tree, blocks, nodes)
            blocks = [record.payload] if record.kind == BLOCK else []
        oplog.apply(record.sequence, record.kind, record.payload)
        if record.kind == RecordKind.TRUNCATE:
            tree = tree.truncate(decode_truncate(record.payload)[0], nodes.get)
    return _grow(tree, blocks, nodes)


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
    signed, header = oplog.signed, oplog.header
    if signed is None or header is None:
        return
    tree_hash = tree_at(signed.length, tree, nodes).hash()
    header.verifier.verify(signed.signature, tree_hash, signed.length, signed.fork)


def _grow(tree: Tree, blocks: list[bytes], nodes: NodeFile) -> Tree:
    if not blocks:
        return tree
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
