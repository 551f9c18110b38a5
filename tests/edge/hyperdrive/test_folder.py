"""A folder with a drive's face: what it shows, how it writes, and that nothing outside it is ever touched."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError, LocalError, RemoteError, StorageError
from edge.hyperdrive.folder import Folder
from edge.hyperdrive.paths import PARTIAL_PREFIX


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("precious")
    return root


async def keys(folder: Folder, of: str = "/") -> list[str]:
    return [entry.key async for entry in folder.list(of)]


async def text(folder: Folder, path: str) -> str:
    entry = await folder.entry(path)
    assert entry is not None
    return b"".join([piece async for piece in folder.read(entry)]).decode()


async def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        Folder(tmp_path / "nothing")


async def test_put_read_delete(root: Path) -> None:
    folder = Folder(root)
    await folder.put("/a/b/c", b"one")
    await folder.put("a/x", [b"t", b"wo"], executable=True)
    assert await keys(folder) == ["/a/b/c", "/a/x"]
    assert await text(folder, "/a/b/c") == "one"
    entry = await folder.entry("/a/x")
    assert entry is not None
    assert (entry.value.executable, entry.byte_length, entry.seq) == (True, 3, None)
    assert await folder.content_length(entry) == 3
    assert (root / "a" / "x").stat().st_mode & 0o100
    await folder.put("/a/x", b"three")
    assert await text(folder, "/a/x") == "three"
    assert not (root / "a" / "x").stat().st_mode & 0o111
    await folder.delete("/a/b/c")
    await folder.delete("/a/b/c")
    await folder.delete("/nothing/here")
    assert names(root / "a") == ["x"]
    await folder.delete("/a/x")
    assert names(root) == []
    await folder.sync()
    assert await folder.entry("/a/x") is None
    for path in ("/", "..", "/a/../../b"):
        with pytest.raises(LocalError):
            await folder.put(path, b"")


@given(st.lists(st.lists(st.sampled_from(["a", "a-b", "a0", "b", "é"]), min_size=1, max_size=3), max_size=8))
def test_the_order_is_that_of_a_drive(tmp_path_factory: pytest.TempPathFactory, paths: list[list[str]]) -> None:
    root = tmp_path_factory.mktemp("order")
    made = set()
    for path in paths:
        target = root.joinpath(*path)
        if any(parent.is_file() for parent in target.parents) or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        made.add("/" + "/".join(path))
    assert asyncio.run(keys(Folder(root))) == sorted(made, key=str.encode)


async def test_only_files_and_links_are_seen(root: Path) -> None:
    (root / "empty" / "folder").mkdir(parents=True)
    os.mkfifo(root / "pipe")
    (root / "file").touch()
    (root / (PARTIAL_PREFIX + "1")).touch()
    (root / "link").symlink_to("file")
    (root / "to-folder").symlink_to("empty")
    folder = Folder(root)
    assert await keys(folder) == ["/file", "/link", "/to-folder"]
    assert await keys(folder, "/file") == []
    assert await folder.entry("/pipe") is None
    assert await folder.entry("/empty") is None
    assert await folder.entry("/link/x") is None
    link = await folder.entry("/link")
    assert link is not None
    assert link.value.linkname == "file"
    assert await folder.content_length(link) == 0
    assert [e.key async for e in folder.list("/", ignore=["/link", "/to-folder"])] == ["/file"]


async def test_a_link_into_the_root_is_stored_as_relative(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    for name, target in (("1", root / "a" / "x"), ("2", root), ("3", Path(f"{root}-not")), ("4", Path("../y"))):
        (root / "a" / "b" / name).symlink_to(target)
    (root / "5").symlink_to(root)
    found = {entry.key: entry.value.linkname async for entry in Folder(root).list()}
    assert found == {"/a/b/1": "../../a/x", "/a/b/2": "../..", "/a/b/3": f"{root}-not", "/a/b/4": "../y", "/5": "."}


async def test_names_that_no_drive_can_hold(root: Path) -> None:
    (root / "a\\b").touch()
    with pytest.raises(ConfigError, match="backslash"):
        await keys(Folder(root))
    (root / "a\\b").unlink()
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).touch()
    with pytest.raises(ConfigError, match="not UTF-8"):
        await keys(Folder(root))


async def test_nothing_is_written_or_removed_through_a_link(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (root / "out").symlink_to(outside)
    (root / "precious").symlink_to(outside / "precious")
    folder = Folder(root)
    with pytest.raises(ConfigError, match="no folder"):
        await folder.put("/out/new", b"x")
    with pytest.raises(ConfigError, match="no folder"):
        await folder.symlink("/out/new", "x")
    await folder.delete("/out/precious")
    await folder.put("/precious", b"replaces the link")
    assert (outside / "precious").read_text() == "precious"
    assert names(outside) == ["precious"]
    assert not (root / "precious").is_symlink()
    assert await folder.entry("/out/precious") is None


async def test_links_stay_inside(root: Path) -> None:
    folder = Folder(root)
    for target in ("/etc/passwd", "..", "x/../..", ""):
        with pytest.raises(RemoteError):
            await folder.symlink("/link", target)
    await folder.symlink("/a/link", "../b")
    await folder.symlink("/a/link", "c")
    assert (root / "a" / "link").readlink() == Path("c")


async def test_a_file_and_a_folder_of_the_same_name(root: Path) -> None:
    folder = Folder(root)
    await folder.put("/a", b"file")
    with pytest.raises(ConfigError, match="no folder"):
        await folder.put("/a/b", b"")
    await folder.delete("/a")
    await folder.put("/a/b", b"")
    with pytest.raises(ConfigError, match="in the way: it is a folder"):
        await folder.put("/a", b"")
    with pytest.raises(ConfigError, match="in the way: it is a folder"):
        await folder.symlink("/a", "b")
    assert names(root) == ["a"]
    (root / "empty").mkdir()
    await folder.put("/empty", b"replaces an empty folder")
    (root / "empty2").mkdir()
    await folder.symlink("/empty2", "empty")
    assert await keys(folder) == ["/a/b", "/empty", "/empty2"]


async def test_a_file_appears_when_it_is_whole(root: Path) -> None:
    folder = Folder(root)
    await folder.put("/a/file", b"old")
    seen = []

    async def pieces(*, fail: bool) -> AsyncIterator[bytes]:
        yield b"new " * 1000
        seen.append(names(root / "a"))
        seen.append([(root / "a" / "file").read_text()])
        if fail:
            raise ValueError("the source failed")
        yield b"end"

    with pytest.raises(ValueError, match="the source failed"):
        await folder.put("/a/file", pieces(fail=True))
    assert names(root / "a") == ["file"]
    await folder.put("/a/file", pieces(fail=False))
    assert seen[1] == seen[3] == ["old"]
    assert [name.startswith(PARTIAL_PREFIX) for name in seen[0]] == [True, False]
    assert await text(folder, "/a/file") == "new " * 1000 + "end"


async def test_a_cancelled_put_leaves_nothing(root: Path) -> None:
    folder = Folder(root)
    begun = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(folder.put("/file", pieces()))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert names(root) == []
    for turns in range(6):  # wherever it is cancelled
        putting = asyncio.create_task(folder.put("/file", [b"y"] * 3))
        for _ in range(turns):
            await asyncio.sleep(0)
        putting.cancel()
        await asyncio.gather(putting, return_exceptions=True)
        assert not [name for name in names(root) if name.startswith(PARTIAL_PREFIX)]


async def test_what_a_crash_left_is_swept(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    for where in (root, root / "a" / "b"):
        (where / f"{PARTIAL_PREFIX}00").touch()
        (where / "kept").touch()
    await Folder(root).prepare()
    assert names(root / "a" / "b") == ["kept"]
    assert names(root) == ["a", "kept"]


async def test_a_disk_that_refuses(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Folder(root)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.hyperdrive.folder.os.write", full)
    with pytest.raises(StorageError, match=r"No space left.*") as caught:
        await folder.put("/file", b"x")
    assert caught.value.fault == "full"
    assert names(root) == []
    monkeypatch.undo()
    entry = await folder.entry("/file")
    assert entry is None
    await folder.put("/file", b"x")
    entry = await folder.entry("/file")
    assert entry is not None
    (root / "file").unlink()
    with pytest.raises(StorageError):
        [piece async for piece in folder.read(entry)]
    os.mkfifo(root / "file")
    with pytest.raises(ConfigError, match="no file any more"):
        [piece async for piece in folder.read(entry)]
