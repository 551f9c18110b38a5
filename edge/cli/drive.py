"""`pomona drive`: a folder of files in two feeds, kept in step with a folder on the disk. Every version stays."""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge.cli import loop
from edge.cli.cores import Intermixed, check_writable, cores_of, count, feed_options, peer_options
from edge.cli.lines import Input, one_line
from edge.cli.progress import Progress
from edge.errors import ConfigError, LocalError, RemoteError
from edge.limits import SYMLINKS_FOLLOWED_MAX

if TYPE_CHECKING:
    from edge.hyperdrive.drive import Hyperdrive
    from edge.hyperdrive.entry import DriveEntry
    from edge.hyperdrive.view import DriveView

_READ_BYTES: Final = 1 << 20
_STANDARD: Final = "-"  # standard input or output
_EXAMPLES: Final = """\
examples:
  pomona drive put --store ./feeds docs /today.txt today.txt    makes the drive where there is none; prints the version
  pomona drive ls --store ./feeds docs --recursive --long
  pomona drive get --store ./feeds docs /today.txt > today.txt
  pomona drive mirror --store ./feeds docs --from ./site --prune
  pomona drive mirror --store ./copy KEY --to ./site --connect 192.0.2.7:4977
`pomona feed list` shows the key that others need to read a drive.
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `drive` and its actions."""
    parser = commands.add_parser(
        "drive",
        help="folders of files in two feeds: put, get, ls, rm, mirror, diff",
        description="Folders of files in Hypercores, block for block those of stock Hyperdrive 13.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=Intermixed)

    put = _action(actions, "put", "write a file", _put)
    put.description = (
        "Writes one file and prints the new version once it is on the disk. A name that is new makes a drive; nothing "
        "more is printed then."
    )
    put.add_argument("path", metavar="PATH", help="in the drive")
    put.add_argument("file", metavar="FILE", nargs="?", default=_STANDARD, help="default: standard input")
    put.add_argument("--executable", action="store_true", help="as a FILE that is executable already is")

    get = _reading(actions, "get", "print a file, or write it to the disk", _get)
    get.add_argument("path", metavar="PATH", help="in the drive; links are followed")
    get.add_argument("file", metavar="FILE", nargs="?", default=_STANDARD, help="default: standard output")

    listing = _reading(actions, "ls", "list files and folders", _ls)
    listing.add_argument("path", metavar="FOLDER", nargs="?", default="/", help="in the drive (default: all)")
    listing.add_argument("--recursive", action="store_true", help="files in folders below it too")
    listing.add_argument("--long", action="store_true", help="with sizes, links and what can be executed")

    remove = _action(actions, "rm", "remove a file from the newest version", _rm)
    remove.add_argument("path", metavar="PATH")

    mirror = _reading(
        actions, "mirror", "make a drive hold what a folder holds, or a folder what a drive holds", _mirror
    )
    ends = mirror.add_mutually_exclusive_group(required=True)
    ends.add_argument("--from", dest="source", type=Path, metavar="FOLDER", help="this folder into the drive")
    ends.add_argument("--to", dest="target", type=Path, metavar="FOLDER", help="the drive into this folder")
    mirror.add_argument(
        "path", metavar="PATH", nargs="?", default="/", help="only this file, or what is in this folder"
    )
    mirror.add_argument("--prune", action="store_true", help="remove what the source has not")
    mirror.add_argument("--dry-run", action="store_true", help="only say what would be done")
    mirror.add_argument("--at-once", action="store_true", help="with --from: the drive changes once, at the end")

    diff = _reading(actions, "diff", "print the paths that are otherwise between two versions", _diff, at=False)
    diff.add_argument("old", type=count, metavar="VERSION")
    diff.add_argument("new", type=count, metavar="VERSION2", nargs="?", help="default: the newest")


def _action(
    actions: "argparse._SubParsersAction[Intermixed]",
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], Coroutine[None, None, int]],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    feed_options(parser)
    parser.set_defaults(run=lambda options: loop.run(run(options)), usage=parser.error)
    return parser


def _reading(
    actions: "argparse._SubParsersAction[Intermixed]",
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], Coroutine[None, None, int]],
    *,
    at: bool = True,
) -> argparse.ArgumentParser:
    parser = _action(actions, name, text, run)
    peer_options(parser)
    if at:
        parser.add_argument("--at", type=count, metavar="VERSION", help="as it was at that version")
    return parser


# --- one file --------------------------------------------------------------------------------------------------------


async def _put(options: argparse.Namespace) -> int:
    path = _path(options.path)
    content, executable, size = _standard_input(), options.executable, None
    if options.file != _STANDARD:
        file = Path(options.file)
        try:
            status = file.stat()
        except OSError as error:
            raise ConfigError(options.file, f"cannot be read: {error.strerror}") from error
        content, executable, size = _file(file), executable or bool(status.st_mode & 0o100), status.st_size
    written = 0

    async def counted() -> AsyncGenerator[bytes, None]:
        nonlocal written
        async with contextlib.aclosing(content):
            async for piece in content:
                yield piece
                written += len(piece)
                progress.update(written, size, written)

    async with _drive(options, write=True) as drive:
        with Progress("writing", unit="bytes") as progress:
            await drive.put(path, counted(), executable=executable)
        _say(options, str(drive.version), path=path, bytes=written, version=drive.version)
    return 0


async def _standard_input() -> AsyncGenerator[bytes, None]:
    source = Input(sys.stdin.fileno())
    while piece := await source.read():
        yield piece


async def _file(path: Path) -> AsyncGenerator[bytes, None]:
    try:
        with path.open("rb", buffering=0) as file:
            while piece := await asyncio.to_thread(file.read, _READ_BYTES):
                yield piece
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error


async def _get(options: argparse.Namespace) -> int:
    path = _path(options.path)
    async with _drive(options) as drive:
        view = await _at_version(drive, options.at, "--at")
        entry = await _file_at(view, path)
        if entry is None:
            raise ConfigError(options.path, "no such file in the drive")
        async with contextlib.aclosing(_shown_reading(view, entry, options.file)) as content:
            if options.file != _STANDARD:
                await _write(Path(options.file), content, executable=entry.value.executable)
            else:
                async for piece in content:
                    sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
    return 0


async def _file_at(view: "DriveView", path: str) -> "DriveEntry | None":
    """The file of that path. Links mean what they mean once they are mirrored to a folder."""
    from edge.hyperdrive.paths import file_key, resolve  # noqa: PLC0415 - as above

    entry = await view.entry(path)
    for _ in range(SYMLINKS_FOLLOWED_MAX):
        if entry is None or entry.value.linkname is None:
            return entry
        try:
            path = file_key(resolve(entry.key.rpartition("/")[0] or "/", entry.value.linkname))
        except LocalError as error:
            raise RemoteError(f"{entry.key!r} is a link out of the drive", reason="link") from error
        entry = await view.entry(path)
    raise RemoteError(f"{path!r}: too many links, one after the other", reason="link")


async def _shown_reading(view: "DriveView", entry: "DriveEntry", to: str) -> AsyncGenerator[bytes, None]:
    total, done = await _size(view, entry), 0
    with Progress("reading", unit="bytes") as progress:
        async with contextlib.aclosing(view.read(entry)) as content:
            async for piece in content:
                yield piece
                done += len(piece)
                if to != _STANDARD or not sys.stdout.isatty():
                    progress.update(done, total, done)


async def _write(path: Path, content: AsyncGenerator[bytes, None], *, executable: bool) -> None:
    """Into a file that appears whole; into what is no file, such as a pipe, as it comes."""
    from edge.hyperdrive.folder import Folder  # noqa: PLC0415 - help and usage errors need none of this

    path = path.resolve()
    if path.is_dir():
        raise ConfigError(str(path), "is a folder")
    if not path.exists() or path.is_file():
        folder = Folder(path.parent)
        await folder.put(_path("/" + path.name), content, executable=executable)
        await folder.sync()
        return
    try:
        with path.open("wb", buffering=0) as file:
            async for piece in content:
                await asyncio.to_thread(file.write, piece)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}") from error


async def _rm(options: argparse.Namespace) -> int:
    path = _path(options.path)
    async with _drive(options, write=True, make=False) as drive:
        if not await drive.delete(path):
            raise ConfigError(options.path, "no such file in the drive")
        _say(options, str(drive.version), path=path, version=drive.version)
    return 0


# --- folders ---------------------------------------------------------------------------------------------------------


async def _ls(options: argparse.Namespace) -> int:
    from edge.hyperdrive.paths import folder_key  # noqa: PLC0415 - as above

    folder = _checked(folder_key, options.path)
    found = False
    async with _drive(options) as drive:
        view = await _at_version(drive, options.at, "--at")
        async with contextlib.aclosing(view.list(folder or "/", recursive=options.recursive)) as entries:
            async for entry in entries:
                found = True
                name, below, _ = entry.key[len(folder) + 1 :].partition("/")
                if below and not options.recursive:
                    _say_folder(options, f"{folder}/{name}")
                else:
                    await _say_entry(options, view, entry)
        if folder and not found:
            alone = await view.entry(folder)
            if alone is None:
                raise ConfigError(options.path, "no such folder in the drive")
            await _say_entry(options, view, alone)
    return 0


def _say_folder(options: argparse.Namespace, path: str) -> None:
    _say(options, f"{'':17}{one_line(path)}/" if options.long else f"{one_line(path)}/", path=path, type="folder")


async def _say_entry(options: argparse.Namespace, view: "DriveView", entry: "DriveEntry") -> None:
    value, text = entry.value, one_line(entry.key)
    if not options.long and not options.json:
        print(text)
        return
    size = await _size(view, entry)
    link = "" if value.linkname is None else f" -> {one_line(value.linkname)}"
    said: dict[str, Any] = {
        "path": entry.key,
        "type": "file" if value.linkname is None else "link",
        "size": size,
        "seq": entry.seq,
    }
    said |= {"executable": value.executable, "link": value.linkname, "metadata": value.metadata}
    _say(options, f"{size:14,} {'x' if value.executable else ' '} {text}{link}", **said)


async def _size(view: "DriveView", entry: "DriveEntry") -> int:
    """Bytes of content; only where stock peers deduplicated it must it be looked at for that."""
    mapped = entry.value.blob is not None and entry.value.blob.block_map
    return await view.content_length(entry) if mapped else entry.byte_length


async def _diff(options: argparse.Namespace) -> int:
    async with _drive(options) as drive:
        await _at_version(drive, options.old, "VERSION")
        new = await _at_version(drive, options.new, "VERSION2")
        async with contextlib.aclosing(new.diff(options.old)) as changes:
            async for change in changes:
                sign, word = ("~", "changed") if change.left and change.right else ("-", "removed")
                sign, word = ("+", "added") if change.right is None else (sign, word)
                _say(options, f"{sign} {one_line(change.key)}", path=change.key, change=word)
    return 0


async def _mirror(options: argparse.Namespace) -> int:
    from edge.cli.drive_mirror import into_drive, into_folder  # noqa: PLC0415 - as above
    from edge.hyperdrive.paths import folder_key  # noqa: PLC0415 - as above

    path = _checked(folder_key, options.path) or "/"
    if options.source is not None:
        if options.connect or options.at is not None:
            options.usage("--connect and --at go with --to")
        if not options.source.is_dir():
            raise ConfigError(str(options.source), "there is no such folder")
        async with _drive(options, write=True) as drive:
            await into_drive(options, drive, path)
        return 0
    if options.at_once:
        options.usage("--at-once goes with --from")
    async with _drive(options) as drive:
        await into_folder(options, await _at_version(drive, options.at, "--at"), path)
    return 0


# --- all -------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _drive(options: argparse.Namespace, *, write: bool = False, make: bool = True) -> AsyncIterator["Hyperdrive"]:
    """The drive that the options name; to write with `write`, which makes it where there is none with `make`."""
    from edge.hyperbee.bee import Hyperbee  # noqa: PLC0415 - as above
    from edge.hyperdrive.drive import Hyperdrive  # noqa: PLC0415 - as above

    async with cores_of(options, write=write) as cores:
        db = await cores.log(options.feed, create=write and make)
        try:
            await Hyperbee(db).header()
        except RemoteError as error:
            raise ConfigError(options.feed, f"is no Hyperdrive: {error}") from error
        if not write:
            yield Hyperdrive(db, open_blobs=partial(cores.companion, db))
            return
        check_writable(db, options.feed)
        blobs = await cores.own_blobs(db)
        if blobs is None:
            raise ConfigError(options.feed, "its content is in a core that is not beside it; it can only be read here")
        yield Hyperdrive(db, blobs)


async def _at_version(drive: "Hyperdrive", version: int | None, what: str) -> "DriveView":
    if version is None:
        return drive.checkout(drive.version)
    if version > drive.version:
        raise ConfigError(what, f"the newest version is {drive.version}")
    view = drive.checkout(version)
    try:
        await view.exists("/-")  # reads the root
    except RemoteError as error:
        raise ConfigError(what, f"{version} is no version: it lies within a batch ({error})") from error
    return view


def _path(text: str) -> str:
    from edge.hyperdrive.paths import file_key  # noqa: PLC0415 - as above

    return _checked(file_key, text)


def _checked(key: Callable[[str], str], text: str) -> str:
    """The key of a path that somebody typed."""
    try:
        return key(text)
    except LocalError as error:
        raise ConfigError(text or "''", str(error)) from error


def _say(options: argparse.Namespace, text: str, **values: Any) -> None:
    print(json.dumps(values) if options.json else text)
