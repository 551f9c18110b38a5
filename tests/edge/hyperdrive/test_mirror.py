"""Mirrors between drives and folders: what is copied, what is refused, and that the second run finds nothing to do.

What stock mirror-drive does between drives is in test_vectors.py.
"""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_drive_logs import content, logs, new_drive, replica

from edge.errors import ConfigError, RemoteError
from edge.hyperdrive.drive import Hyperdrive
from edge.hyperdrive.entry import FileValue
from edge.hyperdrive.folder import Folder
from edge.hyperdrive.mirror import Mirror
from edge.hyperdrive.paths import FILES, PARTIAL_PREFIX


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def tree(root: Path) -> dict[str, tuple[str, bytes, bool]]:
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = ("link", os.fsencode(path.readlink()), False)
        elif path.is_file():
            found[str(path.relative_to(root))] = ("file", path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found


def make(root: Path) -> None:
    (root / "folder" / "deep").mkdir(parents=True)
    (root / "empty").touch()
    (root / "folder" / "large").write_bytes(content(1, 2_500_000))
    (root / "folder" / "script").write_bytes(b"#!/bin/sh\n")
    (root / "folder" / "script").chmod(0o755)
    (root / "folder" / "deep" / "link").symlink_to("../script")
    (root / "dangling").symlink_to("not/there")
    (root / "ünï 😀").write_bytes(b"x")


async def test_folder_to_drive_to_folder(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    make(here)
    drive = new_drive()
    count = await Mirror(Folder(here), drive).done()
    assert (count.files, count.add, count.change, count.remove) == (6, 6, 0, 0)
    assert count.bytes_added == 2_500_011
    version = drive.version
    count = await Mirror(Folder(here), drive).done()
    assert (count.files, count.add, count.change, count.remove) == (6, 0, 0, 0)
    assert drive.version == version
    count = await Mirror(drive, Folder(there)).done()
    assert (count.files, count.add) == (6, 6)
    assert tree(there) == tree(here)
    # changes of every kind
    (here / "folder" / "large").write_bytes(content(2, 2_500_000))
    (here / "folder" / "script").chmod(0o644)
    (here / "empty").unlink()
    (here / "dangling").unlink()
    (here / "dangling").mkdir()
    (here / "dangling" / "now a folder").touch()
    (here / "folder" / "deep" / "link").unlink()
    (here / "folder" / "deep").rmdir()
    (here / "folder" / "deep").touch()
    dry = Mirror(Folder(here), drive, dry_run=True)
    planned = [(change.operation.value, change.key) async for change in dry]
    assert tree(there) != tree(here)
    mirror = Mirror(Folder(here), drive)
    assert [(change.operation.value, change.key) async for change in mirror] == planned
    assert planned == [
        ("remove", "/dangling"),
        ("remove", "/empty"),
        ("remove", "/folder/deep/link"),
        ("add", "/dangling/now a folder"),
        ("add", "/folder/deep"),
        ("change", "/folder/large"),
        ("change", "/folder/script"),
    ]
    assert await Mirror(drive, Folder(there), dry_run=True).done() == mirror.count.__class__(
        files=5, add=2, change=2, remove=3, bytes_added=2_500_010, bytes_removed=2_500_010
    )
    await Mirror(drive, Folder(there)).done()
    assert tree(there) == tree(here)
    assert not any(name.startswith(PARTIAL_PREFIX) for _, _, found in os.walk(there) for name in found)


async def test_a_remote_drive_is_mirrored_block_by_block(tmp_path: Path) -> None:
    db, blobs = logs()
    drive = Hyperdrive(db, blobs)
    await drive.put("/a/1", content(1, 200_000))
    await drive.put("/b", content(2, 100))
    far, _, far_blobs = replica(db, blobs)
    await Mirror(far, Folder(tmp_path), prefixes=["/a"]).done()
    assert tree(tmp_path) == {"a/1": ("file", content(1, 200_000), False)}
    assert sorted(far_blobs.blocks) == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match="cannot be written"):
        Mirror(drive, far)


async def test_what_changes_while_a_drive_is_mirrored_waits_for_the_next_time(tmp_path: Path) -> None:
    drive = new_drive()
    await drive.put("/1", b"old")
    await drive.put("/2", b"old")
    mirror = Mirror(drive, Folder(tmp_path))
    async for _ in mirror:
        await drive.put("/2", b"new")
        await drive.put("/3", b"new")
    assert {name: value[1] for name, value in tree(tmp_path).items()} == {"1": b"old", "2": b"old"}
    await Mirror(drive, Folder(tmp_path)).done()
    assert {name: value[1] for name, value in tree(tmp_path).items()} == {"1": b"old", "2": b"new", "3": b"new"}


async def test_accept_and_ignore(tmp_path: Path) -> None:
    drive = new_drive()
    for name in ("a.txt", "b.bin", "c/d.txt", "e/f.txt"):
        await drive.put(name, b"x")
    folder = Folder(tmp_path)
    await folder.put("/e/kept", b"")
    await folder.put("/gone", b"")
    await folder.put("/b.bin", b"other")
    await Mirror(drive, folder, accept=lambda key: key.endswith(".txt"), ignore=["e"]).done()
    assert {name: value[1] for name, value in tree(tmp_path).items()} == {
        "a.txt": b"x",
        "b.bin": b"other",
        "c/d.txt": b"x",
        "e/kept": b"",
    }


HOSTILE = [
    "/../escape",
    "/a/../../escape",
    "escape",
    "//escape",
    "/a//b",
    "/./a",
    "/a/",
    "/",
    "",
    "/a\\..\\b",
    "/nul\0",
    "/" + "x" * 300,
    f"/{PARTIAL_PREFIX}x",
]


async def hostile_drive(entries: dict[str, FileValue]) -> Hyperdrive:
    """A drive as only a changed peer writes it: keys that no path resolves to."""
    drive = new_drive()
    await drive.put("/good", b"good")
    for key, value in entries.items():
        await drive._bee.put(FILES + key.encode(), value.encode())
    return drive


@pytest.mark.parametrize("key", HOSTILE)
async def test_hostile_names_are_refused_before_anything_is_written(tmp_path: Path, key: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    drive = await hostile_drive({key: FileValue()})
    seen = {entry.key async for entry in drive.list("/")}
    if key not in seen:  # the range of a folder's keys does not reach it
        assert not key.startswith("/") or key == "/"
        await Mirror(drive, Folder(root)).done()
        assert names(root) == ["good"]
        return
    for dry_run in (True, False):
        with pytest.raises(RemoteError, match="drive entry"):
            await Mirror(drive, Folder(root), dry_run=dry_run).done()
    assert names(root) == []
    assert names(tmp_path) == ["root"]


@pytest.mark.parametrize(
    "entries",
    [
        {"/link": FileValue(linkname="/etc/passwd")},
        {"/link": FileValue(linkname="../outside")},
        {"/d/link": FileValue(linkname="x/../../..")},
        {"/d": FileValue(linkname="/tmp"), "/d/file": FileValue()},
        {"/d": FileValue(linkname="e"), "/d/file": FileValue()},
        {"/d": FileValue(), "/d/e/f": FileValue()},
        {"/good/x": FileValue()},
        {"/link": FileValue(linkname="")},
    ],
)
async def test_hostile_links_and_clashes_are_refused(tmp_path: Path, entries: dict[str, FileValue]) -> None:
    drive = await hostile_drive(entries)
    if entries.get("/link") == FileValue(linkname=""):
        with pytest.raises(RemoteError, match="cannot be made"):
            await Mirror(drive, Folder(tmp_path)).done()
        return
    with pytest.raises(RemoteError, match=r"drive entry|symbolic link"):
        await Mirror(drive, Folder(tmp_path)).done()
    assert names(tmp_path) == []


async def test_a_link_in_the_target_leads_nowhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (root / "d").symlink_to(outside)
    drive = new_drive()
    await drive.put("/d/precious", b"new")
    with pytest.raises(ConfigError, match="in the way"):
        await Mirror(drive, Folder(root), prune=False).done()
    await Mirror(drive, Folder(root)).done()  # pruning removes the link, not what it leads to
    assert (outside / "precious").read_text() == "precious"
    assert (root / "d" / "precious").read_bytes() == b"new"


async def test_an_interrupted_mirror_is_begun_again(tmp_path: Path) -> None:
    drive = new_drive()
    for number in range(5):
        await drive.put(f"/{number}", content(number, 100_000))
    for changes in range(4):
        mirror = Mirror(drive, Folder(tmp_path))
        iterator = aiter(mirror)
        for _ in range(changes):
            await anext(iterator, None)
        await iterator.aclose()
    await Mirror(drive, Folder(tmp_path)).done()
    assert {name: value[1] for name, value in tree(tmp_path).items()} == {str(n): content(n, 100_000) for n in range(5)}


NAMES = st.lists(st.sampled_from(["a", "b", "a-", "a0", "ä"]), min_size=1, max_size=3).map("/".join)
FILES_OF = st.dictionaries(
    NAMES, st.tuples(st.binary(max_size=3), st.booleans()) | st.sampled_from(["a", "b/a", "."]), max_size=6
)


@settings(deadline=None, max_examples=60)
@given(FILES_OF, FILES_OF)
def test_two_mirrors_in_a_row(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[str, tuple[bytes, bool] | str],
    second: dict[str, tuple[bytes, bool] | str],
) -> None:
    """Whatever a folder holds, it holds what the drive holds after a mirror, and the way back changes nothing."""

    async def run() -> None:
        root = tmp_path_factory.mktemp("mirror")
        for files in (first, second):
            drive = new_drive()
            kept = {k: v for k, v in files.items() if not any(k.startswith(other + "/") for other in files)}
            for name, value in kept.items():
                if isinstance(value, str):
                    await drive.symlink(name, value)
                else:
                    await drive.put(name, value[0], executable=value[1])
            await Mirror(drive, Folder(root)).done()
            expected = {
                name: ("link", v.encode(), False) if isinstance(v, str) else ("file", *v) for name, v in kept.items()
            }
            assert tree(root) == expected
            back = await Mirror(Folder(root), drive).done()
            assert (back.files, back.add, back.change, back.remove) == (len(kept), 0, 0, 0)

    asyncio.run(run())
