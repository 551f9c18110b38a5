"""A disk in memory that knows what a power cut may leave behind.

Model: a file's unsynced writes are kept apart from its durable bytes, cut at 512-byte sectors. A power cut keeps
`prefix`: the first k sectors, in order of writing; `reordered`: of each sector any version; `torn`: as reordered, and
some sectors hold a mix of old and new bytes, or garbage wherever the two differ. A file that grew keeps any length up
to the new one, filled with zeros or garbage. Directory operations since the last sync survive as any prefix.
`killed` is the death of the process alone: the page cache stays, its dirty pages are still to be written.

A failed sync does what Linux does: some sectors reached the device, all pages are clean, and nobody knows which.
Not modelled, because no log that packs records survives it: a sector that loses bytes which a write did not change.
"""

import errno
from collections.abc import Callable, Iterator
from enum import StrEnum
from random import Random

from edge.errors import StorageError, StorageFault

SECTOR = 512


class Cut(StrEnum):
    """How the process ended."""

    PREFIX = "prefix"
    REORDERED = "reordered"
    TORN = "torn"
    KILLED = "killed"


class Inode:
    """Bytes of one file: durable, as the page cache shows them, and the writes in between."""

    __slots__ = ("durable", "pending", "volatile")

    def __init__(self, durable: bytes = b"", volatile: bytes | bytearray | None = None) -> None:
        self.durable = durable
        self.volatile: bytes | bytearray = durable if volatile is None else volatile
        self.pending: list[tuple[int, bytes]] = []

    def write(self, data: bytes, offset: int) -> None:
        if isinstance(self.volatile, bytes):
            self.volatile = bytearray(self.volatile)
        put(self.volatile, data, offset)
        self.pending.append((offset, data))

    def sync(self) -> None:
        if self.pending:
            content = bytearray(self.durable)
            for offset, data in self.pending:
                put(content, data, offset)
            self.durable = bytes(content)
            self.pending.clear()

    def sectors(self) -> list[tuple[int, bytes]]:
        """Pending writes, each cut where it crosses a sector."""
        pieces: list[tuple[int, bytes]] = []
        for offset, data in self.pending:
            start = 0
            while start < len(data):
                size = min(SECTOR - (offset + start) % SECTOR, len(data) - start)
                pieces.append((offset + start, data[start : start + size]))
                start += size
        return pieces

    def after(self, rng: Random, cut: Cut) -> bytes:
        """What the device may hold after a power cut now."""
        pieces = self.sectors()
        if not pieces:
            return self.durable
        content = bytearray(self.durable)
        grown = max(offset + len(data) for offset, data in pieces)
        if grown > len(content):
            size = rng.choice((len(content), grown, rng.randint(len(content), grown)))
            extra = size - len(content)
            content += rng.randbytes(extra) if rng.random() < 0.5 else bytes(extra)
        if cut is Cut.PREFIX:
            for offset, data in pieces[: rng.randint(0, len(pieces))]:
                put(content, data, offset)
            return bytes(content)
        versions: dict[int, list[tuple[int, bytes]]] = {}
        for offset, data in pieces:
            versions.setdefault(offset // SECTOR, []).append((offset, data))
        kept = rng.random()  # from nearly nothing to nearly everything reached the device
        for each in versions.values():
            reached = sum(rng.random() < kept for _ in each)
            for offset, data in each[:reached]:
                put(content, data, offset)
            if cut is Cut.TORN and reached < len(each) and rng.random() < 0.5:
                tear(content, each[reached][1], each[reached][0], rng)
        return bytes(content)


def put(content: bytearray, data: bytes, offset: int) -> None:
    """Write into a bytearray that grows with zeros."""
    if offset > len(content):
        content += bytes(offset - len(content))
    content[offset : offset + len(data)] = data


def tear(content: bytearray, data: bytes, offset: int, rng: Random) -> None:
    """A sector write that was cut off: its head or tail is new, or what would have changed is garbage."""
    if offset + len(data) > len(content):
        put(content, bytes(offset + len(data) - len(content)), len(content))
    split = rng.randint(0, len(data))
    kind = rng.randrange(3)
    if kind == 0:
        content[offset : offset + split] = data[:split]
    elif kind == 1:
        content[offset + split : offset + len(data)] = data[split:]
    else:
        old = content[offset : offset + len(data)]
        noise = rng.randbytes(len(data))
        content[offset : offset + len(data)] = bytes(
            a if a == b else c for a, b, c in zip(old, data, noise, strict=True)
        )


class CrashFile:
    """`disk.File` on an inode."""

    __slots__ = ("_disk", "_inode", "_open")

    def __init__(self, disk: "CrashDisk", inode: Inode) -> None:
        self._disk = disk
        self._inode = inode
        self._open = True

    def pread(self, size: int, offset: int) -> bytes:
        assert self._open
        return bytes(self._inode.volatile[offset : offset + size])

    def pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        assert self._open
        content = bytes(data)
        if error := self._disk.fails("pwrite"):
            self._inode.write(content[: self._disk.rng.randint(0, len(content))], offset)
            self._disk.changed()
            raise error
        self._disk.spend(len(self._inode.volatile), offset + len(content))
        self._inode.write(content, offset)
        self._disk.changed()

    def truncate(self, size: int) -> None:
        """A derived file is cut: what a power cut then leaves of it is anything, zeros here."""
        assert self._open
        if error := self._disk.fails("truncate"):
            raise error
        inode = self._inode
        inode.write(bytes(max(len(inode.volatile) - size, 0)), size)
        inode.volatile = bytearray(inode.volatile[:size])
        self._disk.changed()

    def datasync(self) -> None:
        assert self._open
        inode = self._inode
        self._disk.boundary()
        if error := self._disk.fails("datasync"):
            inode.durable = inode.after(self._disk.rng, Cut.REORDERED)
            inode.pending.clear()
            self._disk.boundary()
            raise error
        inode.sync()
        self._disk.boundary()

    def size(self) -> int:
        return len(self._inode.volatile)

    def close(self) -> None:
        self._open = False


class CrashDisk:
    """`disk.Disk`. `hook` runs at every boundary; `faults` may fail an operation; `room` bounds the bytes of files."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.durable_names: dict[str, Inode] = {}
        self.live: dict[str, Inode] = {}
        self.pending_names: list[tuple[str, Inode | None, str | None]] = []  # name, inode it gets, name that vanishes
        self.hook: Callable[[], None] | None = None
        self.faults: Callable[[str], OSError | None] | None = None
        self.room: int | None = None
        self.changes = 0
        self.locked = False

    # --- Disk --------------------------------------------------------------------------------------------------------

    def describe(self) -> str:
        return "the simulated disk"

    def lock(self) -> None:
        if self.locked:
            raise StorageError("in use", fault=StorageFault.LOCKED)
        self.locked = True

    def unlock(self) -> None:
        self.locked = False

    def list(self) -> list[str]:
        return sorted(self.live)

    def open(self, name: str, *, create: bool = False) -> CrashFile:
        if create:
            if error := self.fails("create"):
                raise error
            self._rename(name, Inode(), None)
        if name not in self.live:
            raise FileNotFoundError(errno.ENOENT, "no such file", name)
        return CrashFile(self, self.live[name])

    def rename(self, old: str, new: str) -> None:
        if error := self.fails("rename"):
            raise error
        self._rename(new, self.live[old], old)

    def unlink(self, name: str) -> None:
        if error := self.fails("unlink"):
            raise error
        self._rename(name, None, name)

    def sync_directory(self) -> None:
        self.boundary()
        if error := self.fails("sync_directory"):
            raise error
        self.durable_names = dict(self.live)
        self.pending_names.clear()
        self.boundary()

    # --- the world around it -----------------------------------------------------------------------------------------

    def after(self, cut: Cut, rng: Random) -> "CrashDisk":
        """A disk as the next start may find it."""
        found = CrashDisk(rng)
        if cut is Cut.KILLED:
            copies: dict[int, Inode] = {}
            for inode in [*self.durable_names.values(), *self.live.values(), *self._pending_inodes()]:
                if id(inode) not in copies:
                    copy = copies[id(inode)] = Inode(inode.durable, bytes(inode.volatile))
                    copy.pending = list(inode.pending)
            found.durable_names = {name: copies[id(inode)] for name, inode in self.durable_names.items()}
            found.live = {name: copies[id(inode)] for name, inode in self.live.items()}
            found.pending_names = [
                (name, None if inode is None else copies[id(inode)], gone) for name, inode, gone in self.pending_names
            ]
            return found
        names = self.durable_names
        if self.pending_names:
            names = dict(names)
            for name, target, gone in self.pending_names[: rng.randint(0, len(self.pending_names))]:
                apply(names, name, target, gone)
        found.live = {name: Inode(inode.after(rng, cut)) for name, inode in names.items()}
        found.durable_names = dict(found.live)
        return found

    def boundary(self) -> None:
        if self.hook is not None:
            self.hook()

    def changed(self) -> None:
        self.changes += 1
        self.boundary()

    def fails(self, operation: str) -> OSError | None:
        return self.faults(operation) if self.faults is not None else None

    def spend(self, size: int, new_size: int) -> None:
        """Meet the end of the disk when a file grows beyond `room` bytes in all."""
        if self.room is not None and new_size > size:
            used = sum(len(inode.volatile) for inode in self.live.values())
            if used + new_size - size > self.room:
                raise OSError(errno.ENOSPC, "no space left")

    @property
    def settled(self) -> bool:
        """Whether a power cut now would change nothing that is not temporary."""
        return all(
            not inode.pending and bytes(inode.volatile) == inode.durable and self.durable_names.get(name) is inode
            for name, inode in self.live.items()
            if name.endswith(".seg")
        )

    def _rename(self, name: str, inode: Inode | None, gone: str | None) -> None:
        apply(self.live, name, inode, gone)
        self.pending_names.append((name, inode, gone))
        self.changed()

    def _pending_inodes(self) -> Iterator[Inode]:
        return (inode for _, inode, _ in self.pending_names if inode is not None)


def apply(names: dict[str, Inode], name: str, inode: Inode | None, gone: str | None) -> None:
    """One directory operation: `gone` vanishes, `name` becomes `inode`."""
    if gone is not None:
        names.pop(gone, None)
    if inode is not None:
        names[name] = inode
