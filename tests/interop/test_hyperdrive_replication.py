"""Drives over TCP: a stock drive read, watched, mirrored and downloaded in part by us, and ours by a stock peer."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from support_drive_logs import content
from support_ours import OurPeer
from support_stock import StockPeer, Version

from edge.crypto.keys import KeyPair
from edge.errors import BlockMissing
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.manifest import Manifest
from edge.hyperdrive.content import content_manifest
from edge.hyperdrive.drive import Hyperdrive
from edge.hyperdrive.folder import Folder
from edge.hyperdrive.mirror import Mirror

pytestmark = pytest.mark.interop

SIZES = [0, 1, 100, 65_535, 65_536, 65_537, 131_072, 1_000_000, 1_048_576, 1_048_577, 20 * 1024 * 1024]
VERSIONS: list[Version] = ["current", "oldest"]


@pytest.fixture(params=VERSIONS)
async def stock(request: pytest.FixtureRequest) -> AsyncIterator[StockPeer]:
    async with StockPeer(request.param, timeout_s=60) as peer:
        yield peer


@pytest.fixture
async def ours(_ends_its_tasks: None, tmp_path: Path) -> AsyncIterator[OurPeer]:
    async with OurPeer(tmp_path / "ours") as peer:
        yield peer


def make_files(root: Path) -> None:
    """30 files, from nothing to 20 MB, and a link."""
    for number in range(30):
        path = root / ("docs", "data/raw", "bin")[number % 3] / f"{number:02}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(number, SIZES[number] if number < len(SIZES) else number * 1017))
        path.chmod(0o755 if number % 3 == 2 else 0o644)
    (root / "docs" / "link").symlink_to("../data/raw/01.dat")


def tree(root: Path) -> dict[str, tuple[str, bytes, bool]]:
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = ("link", os.fsencode(path.readlink()), False)
        elif path.is_file():
            found[str(path.relative_to(root))] = ("file", path.read_bytes(), bool(path.stat().st_mode & 0o100))
    return found


def folder(path: Path) -> Path:
    path.mkdir()
    return path


async def follow(ours: OurPeer, key: bytes) -> Hyperdrive:
    """A reader's drive: the second core is opened once the first says which it is."""

    async def open_blobs(blobs_key: bytes) -> Hypercore:
        return await ours.follow("blobs", blobs_key)

    return Hyperdrive(await ours.follow("db", key), open_blobs=open_blobs)


async def create(ours: OurPeer) -> Hyperdrive:
    pair = KeyPair.generate()
    db = await ours.create("db", pair)
    manifest = content_manifest(Manifest.single(pair.public_key), db.key)
    return Hyperdrive(db, await ours.create("blobs", pair, manifest=manifest))


@pytest.mark.parametrize("dial", [True, False])
async def test_a_stock_drive_mirrored_by_us(stock: StockPeer, ours: OurPeer, tmp_path: Path, dial: bool) -> None:
    source, target = folder(tmp_path / "source"), folder(tmp_path / "target")
    make_files(source)
    await stock.call("drive_open", drive="d")
    info = await stock.call("drive_from_folder", drive="d", folder=source)
    drive = await follow(ours, info["key"])
    await ours.meet(stock, dial=dial)
    await ours.until("db", info["version"])
    count = await Mirror(drive, Folder(target)).done()
    size = sum(len(data) for kind, data, _ in tree(source).values() if kind == "file")
    assert (count.files, count.add, count.bytes_added) == (31, 31, size)
    assert tree(target) == tree(source)
    assert drive.content_key == info["content_key"]
    assert ours.cores["blobs"].length == info["blobs_length"]


async def test_what_is_read_of_a_stock_drive_is_what_is_fetched(stock: StockPeer, ours: OurPeer) -> None:
    await stock.call("drive_open", drive="d")
    for number in range(4):
        info = await stock.call(
            "drive_put", drive="d", path=f"/{number % 2}/{number}", content=content(number, 300_000)
        )
    drive = await follow(ours, info["key"])
    await ours.meet(stock, dial=True)
    await ours.until("db", info["version"])
    pieces = [piece async for piece in drive.read("/1/3", start=200_000, length=10)]
    assert b"".join(pieces) == content(3, 300_000)[200_000:200_010]
    blobs = ours.cores["blobs"]
    assert sum(end - start for start, end in blobs.held(0, blobs.length)) < 5
    with pytest.raises(BlockMissing):
        await drive.get("/0/0", wait=False)
    await drive.download("/0")
    assert await drive.has("/0")
    assert not await drive.has("/1/1")
    await ours.disconnect()
    assert await drive.get("/0/2") == content(2, 300_000)
    assert await drive.clear("/0/2")
    assert not await drive.has("/0/2")
    await ours.meet(stock, dial=True)
    assert await drive.get("/0/2") == content(2, 300_000)


async def test_a_stock_drive_watched(stock: StockPeer, ours: OurPeer) -> None:
    await stock.call("drive_open", drive="d")
    info = await stock.call("drive_put", drive="d", path="/a/old", content=b"old")
    drive = await follow(ours, info["key"])
    await ours.meet(stock, dial=True)
    await ours.until("db", info["version"])

    async def first_change() -> tuple[list[str], list[str]]:
        async with aclosing(drive.watch("/a")) as changes:
            async for now, before in changes:
                return [e.key async for e in now.list("/a")], [e.key async for e in before.list("/a")]
        raise AssertionError("the watch ended")

    watching = asyncio.create_task(first_change())
    await stock.call("drive_put", drive="d", path="/b", content=b"elsewhere")
    await stock.call("drive_put", drive="d", path="/a/new", content=b"new")
    async with asyncio.timeout(30):
        assert await watching == (["/a/new", "/a/old"], ["/a/old"])
        assert await drive.get("/a/new") == b"new"


@pytest.mark.parametrize("dial", [True, False])
async def test_our_drive_read_by_a_stock_peer(stock: StockPeer, ours: OurPeer, tmp_path: Path, dial: bool) -> None:
    source, target = folder(tmp_path / "source"), folder(tmp_path / "target")
    make_files(source)
    drive = await create(ours)
    await Mirror(Folder(source), drive).done()
    await drive.put("/extra", b"gone soon", metadata={"of": "Python"})
    version = drive.version
    await drive.delete("/extra")
    await stock.call("drive_open", drive="d", key=drive.key)
    await ours.meet(stock, dial=dial)
    info = await stock.call("drive_update", drive="d")
    assert (info["version"], info["writable"]) == (drive.version, False)
    await stock.call("drive_download", drive="d", timeout_s=100)
    await stock.call("drive_to_folder", drive="d", folder=target)
    assert tree(target) == tree(source)
    listed = await stock.call("drive_list", drive="d", version=version)
    assert [e["path"] for e in listed] == [e.key async for e in drive.checkout(version).list()]
    extra = next(e for e in listed if e["path"] == "/extra")
    assert extra["metadata"] == {"of": "Python"}
    assert await stock.call("drive_get", drive="d", path="/extra", version=version) == b"gone soon"
    assert await stock.call("drive_get", drive="d", path="/extra") is None
    changes = await stock.call("drive_diff", drive="d", version=version)
    assert [(c["left"], c["right"]["path"]) for c in changes] == [(None, "/extra")]
    await drive.put("/later", content(7, 200_000))
    async with asyncio.timeout(30):
        while (await stock.call("drive_info", drive="d"))["version"] != drive.version:
            await asyncio.sleep(0.01)
    assert await stock.call("drive_get", drive="d", path="/later") == content(7, 200_000)
