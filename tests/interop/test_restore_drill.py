"""The restore drill: a writer comes back from an old copy. Peers are stock and ours, online and offline.

Whatever happens, no index of a feed is signed twice with different content, no peer freezes, and sales that any peer
has are not lost. docs/restored-backup.md says what stock writers do in the same places.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support_linked_stores import linked
from support_stock import StockPeer

from edge.crypto.keys import KeyPair
from edge.errors import StorageError, StorageFault
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hyperswarm.connection import connect

pytestmark = pytest.mark.interop

COPIED, SIGNED = 60, 100  # blocks when the copy was made, and when the disk was lost
TIMEOUT_S = 30.0


def sales(start: int, end: int) -> list[bytes]:
    return [b"sale %d" % number for number in range(start, end)]


async def downloaded(core: Hypercore, length: int) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while core.length < length:
            await core.changed(core.length, core.fork)
        await core.download(0, length).done


@asynccontextmanager
async def stock_linked(shop: Corestore, stock: StockPeer) -> AsyncIterator[None]:
    connection = await connect("127.0.0.1", await stock.listen(), key_pair=KeyPair.generate())
    shop.replicate(connection)
    try:
        yield
    finally:
        connection.close()
        await connection.wait_closed()


async def stock_holds(stock: StockPeer, name: str, length: int) -> None:
    await stock.call("downloaded", download=await stock.call("download", core=name, end=length))
    await stock.until(name, length=length, contiguous=length)


def put_back(backup: Path, folder: Path) -> None:
    """Write the backup into the files that are there: what an image of the whole card does. No inode changes."""
    for path in sorted(folder.rglob("*"), reverse=True):
        there = backup / path.relative_to(folder)
        if path.is_file() and not there.exists():
            path.unlink()
    for path in sorted(backup.rglob("*")):
        target = folder / path.relative_to(backup)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            with target.open("r+b" if target.exists() else "wb") as file:
                file.write(path.read_bytes())
                file.truncate()


class Drill:
    """A shop that sold 100 and was put back to 60, a stock peer and one of ours that hold all 100."""

    def __init__(self, folder: Path, stock: StockPeer) -> None:
        self.folder, self.stock = folder, stock
        self.key = b""

    async def prepare(self) -> None:
        shop = await Corestore.open(self.folder / "shop")
        core = await shop.get("sales")
        self.key = core.key
        await core.append(sales(0, COPIED), urgent=True)
        await shop.close()
        shutil.copytree(self.folder / "shop", self.folder / "backup")
        async with await Corestore.open(self.folder / "shop") as shop:
            core = await shop.get("sales")
            await core.append(sales(COPIED, SIGNED), urgent=True)
            async with await Corestore.open(self.folder / "peer") as peer, linked(shop, peer):
                await downloaded(await peer.get(key=self.key), SIGNED)
            await self.stock.open("sales", key=self.key)
            async with stock_linked(shop, self.stock):
                await stock_holds(self.stock, "sales", SIGNED)
        await self.check_peers()

    async def check_peers(self) -> None:
        """Neither peer has frozen or lost anything of the old feed."""
        state = await self.stock.info("sales")
        assert (state.length, state.fork) == (SIGNED, 0)
        assert await self.stock.call("get", core="sales", index=SIGNED - 1) == sales(SIGNED - 1, SIGNED)[0]
        async with await Corestore.open(self.folder / "peer") as peer:
            core = await peer.get(key=self.key, create=False)
            assert core.frozen is None
            assert list(core.blocks(0, SIGNED)) == sales(0, SIGNED)

    async def continue_in_successor(self, shop: Corestore, sold: list[bytes], online: str) -> None:
        """Whatever the shop sells from now on reaches both peers under a new key, and the old sales come back."""
        old, new = await shop.get(key=self.key), await shop.get("sales")
        assert new.key != self.key
        await self.stock.open("successor", key=new.key)
        if online == "stock":
            async with stock_linked(shop, self.stock):
                await downloaded(old, SIGNED)
                await stock_holds(self.stock, "successor", len(sold))
                assert await self.stock.call("get", core="successor", index=0) == sold[0]
        else:
            async with await Corestore.open(self.folder / "peer") as peer, linked(shop, peer):
                await downloaded(old, SIGNED)
                copy = await peer.get(key=new.key)
                await downloaded(copy, len(sold))
                assert list(copy.blocks()) == sold
        assert list(old.blocks()) == sales(0, SIGNED)
        assert old.frozen is None


@pytest.fixture
async def drill(tmp_path: Path) -> AsyncIterator[Drill]:
    async with StockPeer() as stock:
        drill = Drill(tmp_path, stock)
        await drill.prepare()
        yield drill


async def refused(core: Hypercore) -> None:
    with pytest.raises(StorageError) as caught:
        await core.append([b"other content"], urgent=True)
    assert caught.value.fault is StorageFault.READ_ONLY
    assert not core.writable


@pytest.mark.parametrize("online", ["stock", "ours"])
async def test_a_copy_in_another_place_sells_on_offline_and_fetches_back_later(drill: Drill, online: str) -> None:
    """Offline at first: the copy is known as one, so what is sold goes into the successor at once."""
    async with await Corestore.open(drill.folder / "backup") as shop:
        assert shop.held("sales")
        await refused(await shop.get("sales"))
        successor = await shop.succeed("sales")
        sold = [b"offline %d" % number for number in range(10)]
        assert await successor.append(sold, urgent=True) == 10
        await drill.continue_in_successor(shop, sold, online)
    await drill.check_peers()


@pytest.mark.parametrize("online", ["stock", "ours"])
async def test_an_image_of_the_card_is_noticed_when_a_peer_knows_more(drill: Drill, online: str) -> None:
    """Nothing on the disk tells; the first peer does, and the feed is closed before anything is signed."""
    shutil.copytree(drill.folder / "backup", drill.folder / "image")
    put_back(drill.folder / "image", drill.folder / "shop")
    async with await Corestore.open(drill.folder / "shop") as shop:
        assert not shop.held("sales")
        core = await shop.get("sales")
        assert (core.length, core.writable) == (COPIED, True)
        if online == "stock":
            async with stock_linked(shop, drill.stock):
                await downloaded(core, SIGNED)
        else:
            async with await Corestore.open(drill.folder / "peer") as peer, linked(shop, peer):
                await downloaded(core, SIGNED)
        await refused(core)
        assert list(core.blocks()) == sales(0, SIGNED)
        successor = await shop.succeed("sales")
        assert await successor.append([b"sold on"], urgent=True) == 1
        await drill.continue_in_successor(shop, [b"sold on"], online)
    async with await Corestore.open(drill.folder / "shop") as shop:  # and it is still so after a restart
        await refused(await shop.get(key=drill.key))
    await drill.check_peers()


async def test_a_behind_writer_whose_process_dies_stays_behind(drill: Drill) -> None:
    """The longer signature is taken, and nothing else happens before the power goes."""
    put_back(drill.folder / "backup", drill.folder / "shop")
    shop = await Corestore.open(drill.folder / "shop")
    core = await shop.get("sales")
    async with stock_linked(shop, drill.stock), asyncio.timeout(TIMEOUT_S):
        while core.writable:
            await asyncio.sleep(0.01)
    shutil.copytree(drill.folder / "shop", drill.folder / "cut")  # as a power cut would leave it
    await shop.close()
    shutil.rmtree(drill.folder / "shop")
    os.rename(drill.folder / "cut", drill.folder / "shop")  # noqa: PTH104 - the same folder name, other inodes
    async with await Corestore.open(drill.folder / "shop") as shop:
        core = await shop.get(key=drill.key)
        assert core.length >= COPIED
        await refused(core)
    await drill.check_peers()
