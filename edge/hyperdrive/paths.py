"""Paths of a drive, as the stock peers resolve them, and what of them may become a name on a disk.

A drive's keys are absolute paths with single slashes and no `.` or `..`: "/a/b". Whatever a caller gives is resolved to
that first; a `..` above the root is an error, never the root. Spec: unix-path-resolve 1.0 and `std` in hyperdrive 13.3.

Keys that come from a peer need not look like that: nothing checks them on their way. `check_key` says so before such a
key is used as a name in a folder, and `check_link` keeps a symbolic link from leading out of that folder:

- a link is relative, and its `..` come first, so they climb through the link's own folders only;
- these are real folders, because no entry may lie under another one (`Names`).
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from edge.errors import LocalError, RemoteError
from edge.limits import DRIVE_FILES_MAX, PATH_BYTES_MAX, PATH_PART_BYTES_MAX

Ignore = Callable[[str], bool]

FILES: Final = b"files\0"  # the part of the database that holds the entries (a sub of Hyperbee)
PARTIAL_PREFIX: Final = ".pomona-partial-"  # files that are being written; no entry may be called like that
_SEPARATOR: Final = re.compile(r"[/\\]")


def _parts(path: str) -> tuple[bool, list[str]]:
    """Whether `path` is absolute, and its names. A drive letter or a URL's beginning is dropped, as stock peers do."""
    names = _SEPARATOR.split(path)
    if len(names) > 1 and names[0].endswith(":"):
        if len(names[0]) == 2 or names[0] == "file:":
            return True, names[1:]
        return True, names[3:]
    return path.startswith(("/", "\\")), names


def resolve(base: str, path: str = "") -> str:
    """`path` as seen from the absolute `base`. Raises `LocalError` where there is no such path."""
    absolute, names = _parts(path)
    if not absolute:
        base_absolute, base_names = _parts(base)
        if not base_absolute:
            raise LocalError(f"neither {base!r} nor {path!r} is an absolute path")
        names = base_names + names
    resolved: list[str] = []
    for name in names:
        if name in ("", "."):
            continue
        if name != "..":
            resolved.append(name)
        elif resolved:
            resolved.pop()
        else:
            raise LocalError(f"{path!r} has too many '..'")
    key = "/" + "/".join(resolved)
    _encoded(key)
    return key


def file_key(path: str) -> str:
    """The key of a file. Raises `LocalError` for the root and for what cannot be a path."""
    key = resolve("/", path)
    if key == "/":
        raise LocalError(f"{path!r} is the root, not a file")
    return key


def folder_key(path: str) -> str:
    """The key of a folder; the root's is empty, so that a slash behind it begins the keys of its files."""
    key = resolve("/", path)
    return "" if key == "/" else key


def encode_key(key: str) -> bytes:
    """The key of a file's entry in the database."""
    return FILES + _encoded(key)


def decode_key(data: bytes) -> str:
    """The path in a key of the database. Raises `RemoteError` where it is none."""
    if not data.startswith(FILES):
        raise RemoteError(f"key {data[:64]!r} is not one of a file")
    if len(data) > len(FILES) + PATH_BYTES_MAX:
        raise RemoteError(f"a path of {len(data) - len(FILES)} bytes; at most {PATH_BYTES_MAX}", reason="too_large")
    try:
        return data[len(FILES) :].decode()
    except UnicodeDecodeError as error:
        raise RemoteError(f"path {data[:64]!r} is not UTF-8") from error


def folder_range(folder: str, after: str = "/") -> tuple[bytes, bytes]:
    """The keys of everything in `folder` lie between these two; `after` skips what was seen (see `child_after`)."""
    return FILES + _encoded(folder + after), FILES + _encoded(folder) + b"0"  # "0" comes right behind "/"


def ignoring(paths: Iterable[str] | Ignore) -> Ignore:
    """Whether a key is one of `paths` or lies under one of them."""
    if callable(paths):
        return paths
    keys = [resolve("/", path) for path in paths]

    def ignored(key: str) -> bool:
        return any(key == ignore or key.startswith(ignore + "/") for ignore in keys)

    return ignored


def check_key(key: str) -> str:
    """`key`, from a peer, if it can be a file in a folder. Raises `RemoteError` naming it."""
    names = key.split("/")
    if names[0] or len(names) < 2 or any(name in ("", ".", "..") for name in names[1:]):
        raise RemoteError(f"drive entry {key!r} is no path inside a folder", reason="path")
    if "\0" in key or "\\" in key or any(len(_utf8(name, key)) > PATH_PART_BYTES_MAX for name in names):
        raise RemoteError(f"drive entry {key!r} cannot be the name of a file", reason="path")
    if any(name.startswith(PARTIAL_PREFIX) for name in names):
        raise RemoteError(f"drive entry {key!r} has a name that is reserved for unfinished files", reason="path")
    return key


def check_link(key: str, target: str) -> str:
    """`target` of the link `key`, from a peer, if it stays inside the folder. Raises `RemoteError` naming both."""
    names = target.split("/")
    climbs = next((count for count, name in enumerate(names) if name != ".."), len(names))
    said = f"symbolic link {key!r} to {target!r}"
    if not target or "\0" in target or len(_utf8(target, key)) > PATH_BYTES_MAX:
        raise RemoteError(f"{said} cannot be made", reason="link")
    if target.startswith("/"):
        raise RemoteError(f"{said} is absolute", reason="link")
    if ".." in names[climbs:] or climbs > key.count("/") - 1:
        raise RemoteError(f"{said} leads out of the folder", reason="link")
    return target


class Names:
    """The names of one folder to be made: an entry that is a file cannot hold others. Bounded in number."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, key: str) -> None:
        """Count an entry in. Raises `RemoteError` for a name that is file and folder, and for too many."""
        self._files.add(check_key(key))
        if len(self._files) > DRIVE_FILES_MAX:
            raise RemoteError(f"more than {DRIVE_FILES_MAX} files in a drive", reason="too_large")
        if key in self._folders:
            raise RemoteError(f"drive entry {key!r} is a file and a folder", reason="path")
        folder = key.rpartition("/")[0]
        while folder and folder not in self._folders:
            if folder in self._files:
                raise RemoteError(f"drive entry {folder!r} is a file and a folder", reason="path")
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]


def _encoded(key: str) -> bytes:
    try:
        data = key.encode()
    except UnicodeEncodeError as error:
        raise LocalError(f"{key!r} is no text") from error
    if len(data) > PATH_BYTES_MAX:
        raise LocalError(f"a path of {len(data)} bytes; at most {PATH_BYTES_MAX}")
    return data


def _utf8(name: str, key: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError as error:  # a JSON text may hold half of a surrogate pair
        raise RemoteError(f"drive entry {key!r} is no text", reason="path") from error
