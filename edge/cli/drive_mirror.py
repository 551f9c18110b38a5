"""`pomona drive mirror`: one run between a folder and a drive, with progress and what it came to."""

import argparse
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

from edge.cli.lines import one_line
from edge.cli.progress import Progress
from edge.errors import ConfigError
from edge.hyperdrive.blobs import Pieces, pieces_of
from edge.hyperdrive.drive import Hyperdrive
from edge.hyperdrive.entry import DriveEntry, Json
from edge.hyperdrive.folder import Folder
from edge.hyperdrive.mirror import Mirror, Operation
from edge.hyperdrive.view import DriveView

_MEGABYTE: Final = 1_000_000


class _Watched(Folder):
    """A folder that tells how many bytes go in or out."""

    def __init__(self, root: Path, moved: Callable[[int], None]) -> None:
        super().__init__(root)
        self._moved = moved

    async def read(self, entry: DriveEntry) -> AsyncGenerator[bytes, None]:
        """Content of a file."""
        async with aclosing(super().read(entry)) as content:
            async for piece in content:
                self._moved(len(piece))
                yield piece

    async def put(self, path: str, content: Pieces, *, executable: bool = False, metadata: Json = None) -> None:
        """Write a file."""

        async def counted() -> AsyncGenerator[bytes, None]:
            async for piece in pieces_of(content):
                self._moved(len(piece))
                yield piece

        async with aclosing(counted()) as pieces:
            await super().put(path, pieces, executable=executable, metadata=metadata)


class _Meter:
    """What the progress line says."""

    def __init__(self, progress: Progress, total: int | None) -> None:
        self._progress, self._total = progress, total
        self.files = self.bytes = 0

    def moved(self, size: int) -> None:
        """So many bytes more."""
        self.bytes += size
        self._progress.update(self.files, self._total, self.bytes)

    def begun(self) -> None:
        """Another file has its turn."""
        self._progress.update(self.files, self._total, self.bytes)
        self.files += 1


async def into_drive(options: argparse.Namespace, drive: Hyperdrive, path: str) -> None:
    """`--from`: a folder into the drive."""
    with Progress("mirroring", unit="files") as progress:
        meter = _Meter(progress, await _count(Folder(options.source), path))
        folder = _Watched(options.source, meter.moved)
        mirror = Mirror(
            folder,
            drive,
            prefixes=(path,),
            dry_run=options.dry_run,
            prune=options.prune,
            include_equal=True,
            batch=options.at_once,
        )
        await _run(options, mirror, meter)
    _summary(options, mirror, drive.version)


async def into_folder(options: argparse.Namespace, view: DriveView, path: str) -> None:
    """`--to`: the drive into a folder, which is made where there is none."""
    async with AsyncExitStack() as stack:
        target: Path = options.target
        if options.dry_run and not target.exists():
            target = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pomona-")))
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(str(target), f"cannot be made: {error.strerror}") from error
        with Progress("mirroring", unit="files") as progress:
            meter = _Meter(progress, await _count(view, path))
            mirror = Mirror(
                view,
                _Watched(target, meter.moved),
                prefixes=(path,),
                dry_run=options.dry_run,
                prune=options.prune,
                include_equal=True,
            )
            await _run(options, mirror, meter)
    _summary(options, mirror, view.version)


async def _count(source: DriveView | Folder, path: str) -> int | None:
    """Files in all, where somebody watches the progress."""
    if not sys.stderr.isatty():
        return None
    async with aclosing(source.list(path)) as entries:
        return sum([1 async for _ in entries])


async def _run(options: argparse.Namespace, mirror: Mirror, meter: _Meter) -> None:
    async with aclosing(aiter(mirror)) as changes:
        async for change in changes:
            if change.operation is not Operation.REMOVE:
                meter.begun()
            if change.operation is Operation.EQUAL:
                continue
            if options.json:
                said = {"operation": change.operation, "path": change.key, "bytes": change.bytes_added}
                print(json.dumps(said), flush=True)
            elif options.dry_run:
                print(f"{change.operation:6} {one_line(change.key)}")


def _summary(options: argparse.Namespace, mirror: Mirror, version: int) -> None:
    count = mirror.count
    if options.json:
        said = {"files": count.files, "added": count.add, "changed": count.change, "removed": count.remove}
        said |= {"bytes_added": count.bytes_added, "bytes_removed": count.bytes_removed, "version": version}
        print(json.dumps({**said, "dry_run": options.dry_run}))
        return
    size = f"{count.bytes_added / _MEGABYTE:.1f} MB"
    print(f"added {count.add}, changed {count.change}, removed {count.remove}, {size}")
