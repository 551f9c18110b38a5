"""The tree nodes of one core in a file that is derived: node i stands at byte 40 i, and nothing is ever synced.

A node is its size (8 bytes, little endian) and its hash (32); zeros are no node. All of it can be computed again from
the log, so a missing, torn or rotten file costs a rebuild and nothing else; for the same reason nobody trusts what
`find` answers before it has led to a root that is known. New nodes gather in memory and go out in a few contiguous
writes.

Invariant, but for damage: who finds a node finds the siblings on its way to a root of the tree.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

from edge.errors import StorageError, StorageFault
from edge.hypercore import flat_tree
from edge.hypercore.merkle import Node, parent
from edge.limits import TREE_BUFFER_NODES_MAX
from edge.storage.disk import Disk, File, storage_error

NAME: Final = "tree"
_NODE: Final = Struct("<Q32s")
_NODE_BYTES: Final = _NODE.size
_PAGE_NODES: Final = 128  # read at once: the siblings of a block, and of its neighbours, lie close together
_PAGES_MAX: Final = 16  # kept; 80 KiB a core
_FLUSH_NODES: Final = 2048
_NO_HASH: Final = bytes(32)


class NodeFile:
    """Nodes by index. One thread."""

    def __init__(self, disk: Disk, *, fresh: bool = False) -> None:
        """Open the file, or make it; `fresh` empties it. Raises `StorageError`."""
        self._disk = disk
        self._unwritten: dict[int, Node] = {}
        self._pages: dict[int, bytes] = {}  # of the file as it is; none outlives a write
        self._retry_at = _FLUSH_NODES
        self.complete = True  # False once nodes had to be forgotten: the file must not be believed again
        try:
            self._file: File = disk.open(NAME, create=fresh or NAME not in disk.list())
        except OSError as error:
            raise storage_error(error, f"opening {disk.describe()}/{NAME}") from error

    def put(self, nodes: Iterable[Node]) -> None:
        """Remember nodes, replacing those of the same index. Never fails: the file is not worth an append."""
        self.put_all({node.index: node for node in nodes})

    def put_all(self, nodes: dict[int, Node]) -> None:
        """The same with nodes by index."""
        unwritten = self._unwritten
        unwritten.update(nodes)
        if len(unwritten) < self._retry_at:
            return
        if self.flush():
            return
        self._retry_at = len(unwritten) + _FLUSH_NODES
        if len(unwritten) > TREE_BUFFER_NODES_MAX:
            self.complete = False
            unwritten.clear()

    def find(self, index: int) -> Node | None:
        """The node; None where there is none. Raises `StorageError` where the disk cannot be read."""
        node = self._unwritten.get(index)
        if node is not None:
            return node
        number = index // _PAGE_NODES
        page = self._pages.get(number)
        if page is None:
            page = self._read_page(number)
        at = index % _PAGE_NODES * _NODE_BYTES
        if at + _NODE_BYTES > len(page):
            return None
        size, digest = _NODE.unpack_from(page, at)
        return None if digest == _NO_HASH else Node(index, size, digest)

    def _read_page(self, number: int) -> bytes:
        try:
            page = self._file.pread(_PAGE_NODES * _NODE_BYTES, number * _PAGE_NODES * _NODE_BYTES)
        except OSError as error:
            raise storage_error(error, f"reading {self._disk.describe()}/{NAME}") from error
        pages = self._pages
        if len(pages) >= _PAGES_MAX:
            del pages[next(iter(pages))]
        pages[number] = page
        return page

    def get(self, index: int) -> Node:
        """The node; `StorageError` CORRUPT where the file has none."""
        node = self.find(index)
        if node is None:
            raise StorageError(f"{self._disk.describe()}/{NAME}: node {index} is missing", fault=StorageFault.CORRUPT)
        return node

    def settle(self, nodes: Iterable[Node]) -> None:
        """Put nodes that are true, and with them every parent that can be computed from two of them now."""
        given = list(nodes)
        self.put(given)
        born: list[Node] = []
        for node in given:
            current = node
            while True:
                above = flat_tree.parent(current.index)
                if self.find(above) is not None:
                    break  # and so is everything above it that can be computed
                other = self.find(flat_tree.sibling(current.index))
                if other is None:
                    break
                current = parent(current, other) if current.index < other.index else parent(other, current)
                born.append(current)
                self._unwritten[current.index] = current
        self.put(born)

    def erase(self, length: int) -> None:
        """Find no node any more that lies over a block from `length` on. Never fails: see `complete`."""
        first = 2 * length
        over = []  # nodes to the left of `first` that reach over it: one at most at each height
        index = first
        self._pages.clear()
        try:
            size = self._file.size()
            while flat_tree.left_span(index) > 0:
                index = flat_tree.parent(index)
                if index < first:
                    over.append(index)
            for index in [*over, *[index for index in self._unwritten if flat_tree.right_span(index) >= first]]:
                self._unwritten.pop(index, None)
            for index in over:
                if index * _NODE_BYTES < size:
                    self._file.pwrite(bytes(_NODE_BYTES), index * _NODE_BYTES)
            if first * _NODE_BYTES < size:
                self._file.truncate(first * _NODE_BYTES)  # zeros would fill the holes of a long log with few blocks
        except OSError:
            self.complete = False  # what is found may be of another history: it will not lead to a root

    def flush(self) -> bool:
        """Write what is only in memory; False if the disk refused, and then it stays in memory."""
        unwritten, pack = self._unwritten, _NODE.pack
        run: list[bytes] = []
        start = end = -1
        self._pages.clear()
        try:
            for index in sorted(unwritten):
                if index != end:
                    if run:
                        self._file.pwrite(b"".join(run), start * _NODE_BYTES)
                    start, run = index, []
                _, size, digest = unwritten[index]
                run.append(pack(size, digest))
                end = index + 1
            if run:
                self._file.pwrite(b"".join(run), start * _NODE_BYTES)
        except OSError:
            return False
        self._unwritten.clear()
        self._retry_at = _FLUSH_NODES
        return True

    def clear(self) -> None:
        """Start again with an empty file. Raises `StorageError`."""
        self._unwritten.clear()
        self._pages.clear()
        self._file.close()
        try:
            self._file = self._disk.open(NAME, create=True)
        except OSError as error:
            raise storage_error(error, f"creating {self._disk.describe()}/{NAME}") from error
        self.complete = True

    def close(self) -> None:
        """Write what is left, if the disk takes it, and close."""
        self.flush()
        self._file.close()
