"""A folder of this computer with the face of a drive, so that one can be mirrored into the other. Spec: localdrive 2.

    folder = Folder(Path("/srv/files"))
    async for entry in folder.list("/"): ...
    await folder.put("/a/b", content, executable=True)

Invariants
- Nothing outside the root is touched: each name on the way is opened without following links, from the root down.
- A file appears under its name when all of it is written and synced; until then it has a name of its own beside it.
- Files and links only. Sockets, devices and pipes are passed over; an empty folder is none, as in a drive.

A link is given as it is stored. One that points into the root by an absolute path (stock localdrive cuts the root off
it) becomes relative: so it means the same wherever the drive is mirrored to.

Names and their removal are durable after `sync`.
"""

import asyncio
import errno
import os
import secrets
import stat
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from edge.errors import ConfigError
from edge.hyperdrive.blobs import Pieces, pieces_of
from edge.hyperdrive.entry import BlobId, DriveEntry, FileValue, Json
from edge.hyperdrive.paths import PARTIAL_PREFIX, Ignore, check_link, file_key, folder_key, ignoring
from edge.limits import BLOB_APPEND_BLOCKS, BLOB_BLOCK_BYTES, PATH_BYTES_MAX
from edge.storage.disk import storage_error

P = ParamSpec("P")
T = TypeVar("T")
Found = list[tuple[str, DriveEntry | None]]

_PIECE_BYTES: Final = BLOB_APPEND_BLOCKS * BLOB_BLOCK_BYTES  # read or written in one go by a thread
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe put in the file's place: no wait
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_A_FOLDER: Final = (errno.ENOTDIR, errno.ELOOP)


class Folder:
    """Files under `root`, which must exist."""

    supports_metadata: Final = False

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ConfigError(str(root), "there is no such folder")
        self.root: Final = root.resolve()
        self._touched: set[str] = set()

    # --- reading -----------------------------------------------------------------------------------------------------

    async def list(self, folder: str = "/", *, ignore: Iterable[str] | Ignore = ()) -> AsyncGenerator[DriveEntry, None]:
        """Every file and link below `folder`, in the order of a drive's keys."""
        ignored, top = ignoring(ignore), folder_key(folder)
        within = [(top, iter(await _at_work(self._scan, top)))]
        while within:
            key, left = within[-1]
            name, entry = next(left, (None, None))
            if name is None:
                within.pop()
                continue
            child = f"{key}/{name.rstrip('/')}"
            if ignored(child):
                continue
            if entry is not None:
                yield entry
            else:
                within.append((child, iter(await _at_work(self._scan, child))))

    async def entry(self, path: str) -> DriveEntry | None:
        """The file or link of that path; None where there is none."""
        return await _at_work(self._entry, file_key(path))

    async def read(self, entry: DriveEntry) -> AsyncGenerator[bytes, None]:
        """Content of a file, in pieces."""
        file = await _at_work(self._open, entry.key)
        try:
            while piece := await _at_work(os.read, file, _PIECE_BYTES):
                yield piece
        except OSError as error:
            raise storage_error(error, f"reading {self._said(entry.key)}") from error
        finally:
            os.close(file)

    async def content_length(self, entry: DriveEntry) -> int:
        """Bytes of the file's content."""
        return entry.byte_length

    # --- writing -----------------------------------------------------------------------------------------------------

    async def put(self, path: str, content: Pieces, *, executable: bool = False, metadata: Json = None) -> None:
        """Write a file; it replaces what was there, whole. A folder keeps no `metadata`."""
        del metadata
        key = file_key(path)
        partial = await _at_work(_Partial, self, key, executable)
        try:
            held: list[bytes] = []
            async for piece in pieces_of(content):
                held.append(piece)
                if sum(map(len, held)) >= _PIECE_BYTES:
                    await _at_work(partial.write, b"".join(held))
                    held = []
            await _at_work(partial.write, b"".join(held))
            await _at_work(partial.finish)
        finally:
            partial.close()

    async def symlink(self, path: str, target: str, *, metadata: Json = None) -> None:
        """Make a symbolic link, which must stay inside the root (`RemoteError`), in place of what was there."""
        del metadata
        key = file_key(path)
        await _at_work(self._link, key, check_link(key, target))

    async def delete(self, path: str) -> None:
        """Remove a file or link, and the folders that are empty then."""
        await _at_work(self._delete, file_key(path))

    async def prepare(self) -> None:
        """Remove what earlier writing left unfinished. Nobody else may be writing into the folder."""
        await _at_work(self._sweep)

    async def sync(self) -> None:
        """Make names and removals durable."""
        touched, self._touched = self._touched, set()
        await _at_work(self._sync, touched)

    # --- at work in a thread -----------------------------------------------------------------------------------------

    def _said(self, key: str) -> str:
        return f"{self.root}{key}"

    @contextmanager
    def _within(self, key: str, *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder `key`; `FileNotFoundError` or `NotADirectoryError` if there is none."""
        descriptor = os.open(self.root, _FOLDER)
        try:
            walked = ""
            for name in key.split("/")[1:]:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=descriptor)
                        self._touched.add(walked)
                walked += "/" + name
                try:
                    inner = os.open(name, _FOLDER, dir_fd=descriptor)
                except OSError as error:
                    if error.errno not in _NOT_A_FOLDER:
                        raise
                    if create:
                        raise ConfigError(self._said(walked), "in the way: it is no folder") from error
                    raise NotADirectoryError(error.errno, error.strerror) from error
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)

    def _scan(self, key: str) -> Found:
        """(name, entry) of files and links, and (name with a slash, None) of folders, ordered by name."""
        found: Found = []
        try:
            with self._within(key) as folder, os.scandir(folder) as children:
                for child in children:
                    if child.name.startswith(PARTIAL_PREFIX):
                        continue
                    if child.is_dir(follow_symlinks=False):
                        self._check_name(key, child.name)
                        found.append((child.name + "/", None))
                    elif (entry := self._describe(f"{key}/{child.name}", folder)) is not None:
                        self._check_name(key, child.name)
                        found.append((child.name, entry))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise storage_error(error, f"reading {self._said(key)}") from error
        return sorted(found, key=lambda item: item[0].encode())

    def _check_name(self, key: str, name: str) -> None:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{self.root}{key}/{name!r}", "the name is not UTF-8, as a drive's must be") from error
        if len(f"{key}/{name}".encode()) > PATH_BYTES_MAX:
            raise ConfigError(f"{self.root}{key}/{name}", f"a drive's paths have at most {PATH_BYTES_MAX} bytes")
        if "\\" in name:
            raise ConfigError(f"{self.root}{key}/{name}", "a drive takes the backslash for a folder's end")

    def _entry(self, key: str) -> DriveEntry | None:
        try:
            with self._within(key.rpartition("/")[0]) as folder:
                return self._describe(key, folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(error, f"looking at {self._said(key)}") from error

    def _describe(self, key: str, folder: int) -> DriveEntry | None:
        name = key.rpartition("/")[2]
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return DriveEntry(key, FileValue(linkname=self._stored(key, os.readlink(name, dir_fd=folder))))
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        blocks = -(-status.st_size // BLOB_BLOCK_BYTES)
        blob = BlobId(block_offset=0, byte_offset=0, block_length=blocks, byte_length=status.st_size)
        return DriveEntry(key, FileValue(executable=bool(status.st_mode & stat.S_IXUSR), blob=blob))

    def _stored(self, key: str, target: str) -> str:
        root = str(self.root)
        if target != root and not target.startswith(root + "/"):
            return target
        here, there = key.split("/")[1:-1], [name for name in target[len(root) :].split("/") if name]
        return "/".join([".."] * len(here) + there) or "."

    def _open(self, key: str) -> int:
        try:
            with self._within(key.rpartition("/")[0]) as folder:
                file = os.open(key.rpartition("/")[2], _READ, dir_fd=folder)
        except OSError as error:
            raise storage_error(error, f"reading {self._said(key)}") from error
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
        raise ConfigError(self._said(key), "it is no file any more")

    def _link(self, key: str, target: str) -> None:
        folder_of, _, name = key.rpartition("/")
        try:
            with self._within(folder_of, create=True) as folder:
                temporary = _partial_name()
                os.symlink(target, temporary, dir_fd=folder)
                self._rename(temporary, name, folder, key)
        except OSError as error:
            raise storage_error(error, f"linking {self._said(key)}") from error

    def _rename(self, temporary: str, name: str, folder: int, key: str) -> None:
        """Give what is finished its name; an empty folder gives way, as it does not exist in a drive."""
        try:
            try:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except (IsADirectoryError, NotADirectoryError):
                os.rmdir(name, dir_fd=folder)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise ConfigError(self._said(key), "in the way: it is a folder") from error
            raise
        self._touched.add(key.rpartition("/")[0])

    def _delete(self, key: str) -> None:
        folder_of, _, name = key.rpartition("/")
        try:
            with self._within(folder_of) as folder:
                os.unlink(name, dir_fd=folder)
            self._touched.add(folder_of)
            while folder_of:
                outer, _, name = folder_of.rpartition("/")
                with self._within(outer) as folder:
                    os.rmdir(name, dir_fd=folder)
                self._touched.add(outer)
                folder_of = outer
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise storage_error(error, f"removing {self._said(key)}") from error

    def _sweep(self) -> None:
        waiting = [""]
        while waiting:
            key = waiting.pop()
            try:
                with self._within(key) as folder, os.scandir(folder) as children:
                    for child in list(children):
                        if child.is_dir(follow_symlinks=False):
                            waiting.append(f"{key}/{child.name}")
                        elif child.name.startswith(PARTIAL_PREFIX):
                            os.unlink(child.name, dir_fd=folder)
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed meanwhile
            except OSError as error:
                raise storage_error(error, f"clearing up {self._said(key)}") from error

    def _sync(self, touched: set[str]) -> None:
        for key in touched:
            try:
                with self._within(key) as folder:
                    os.fsync(folder)
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone again; the folder around it is in the set too
            except OSError as error:
                raise storage_error(error, f"syncing {self._said(key)}") from error


class _Partial:
    """A file that is being written beside its place."""

    def __init__(self, folder: Folder, key: str, executable: bool) -> None:
        self._owner, self._key = folder, key
        self._temporary: str | None = _partial_name()
        folder_of = key.rpartition("/")[0]
        try:
            with folder._within(folder_of, create=True) as descriptor:
                self._folder = os.dup(descriptor)
            try:
                mode = 0o777 if executable else 0o666  # and what the process masks
                self._file = os.open(self._temporary, _WRITE, mode, dir_fd=self._folder)
            except OSError:
                os.close(self._folder)
                raise
        except OSError as error:
            raise storage_error(error, f"writing {folder._said(key)}") from error

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise storage_error(error, f"writing {self._owner._said(self._key)}") from error

    def finish(self) -> None:
        try:
            os.fsync(self._file)
            assert self._temporary is not None
            temporary, self._temporary = self._temporary, None
            self._owner._rename(temporary, self._key.rpartition("/")[2], self._folder, self._key)
        except OSError as error:
            raise storage_error(error, f"writing {self._owner._said(self._key)}") from error

    def close(self) -> None:
        os.close(self._file)
        if self._temporary is not None:  # given up
            with suppress(OSError):
                os.unlink(self._temporary, dir_fd=self._folder)
        os.close(self._folder)


def _partial_name() -> str:
    return PARTIAL_PREFIX + secrets.token_hex(8)


async def _at_work(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """In a thread. A caller that is cancelled waits for the end, as what the thread uses is about to be closed."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        made: object = None if work.exception() is not None else work.result()
        if isinstance(made, _Partial):
            made.close()
        raise
