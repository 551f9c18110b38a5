"""Stock peers among themselves: what the other interop tests stand on, and a check of the driver."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support_stock import StockError, StockPeer, Version, generated, series

from edge.crypto.keys import KeyPair

pytestmark = pytest.mark.interop


async def test_both_languages_make_the_same_blocks() -> None:
    async with StockPeer() as peer:
        await peer.open("a", name_of_core="a")
        await peer.append("a", count=40, seed=3, size=90, vary=True)
        for index in range(40):
            assert await peer.call("get", core="a", index=index) == generated(3, index, 90, vary=True)
        assert len({len(block) for block in series(3, 0, 40, 90, vary=True)}) > 20


@pytest.mark.parametrize(("writer", "reader"), [("current", "current"), ("current", "oldest"), ("oldest", "current")])
async def test_two_stock_peers(writer: Version, reader: Version) -> None:
    async with StockPeer(writer) as first, StockPeer(reader) as second:
        made = await first.open("a", name_of_core="a")
        made = await first.append("a", count=100, seed=1)
        await second.open("a", key=made.key)
        await second.connect(await first.listen())
        await first.event("connected")
        await second.event("append", core="a", length=100)
        await second.call("downloaded", download=await second.call("download", core="a", end=100))
        assert await second.call("check", core="a", seed=1) == {"right": 100, "wrong": None, "why": None}
        assert (await second.info("a")).tree_hash == made.tree_hash
        await second.call("disconnect")
        await first.event("disconnected")


async def test_compat_encrypted_and_several_signers() -> None:
    async with StockPeer() as first, StockPeer() as second:
        port = await first.listen()
        cores: dict[str, dict[str, Any]] = {
            "compat": {"seed": b"\1" * 32, "compat": True},
            "encrypted": {"seed": b"\2" * 32, "encryption_key": b"\3" * 32},
            "signers": {"signers": [b"\4" * 32, b"\5" * 32, b"\6" * 32], "quorum": 2},
        }
        for name, options in cores.items():
            await first.open(name, **options)
            await first.append(name, count=10, seed=5, batch=5)
        await second.connect(port)
        for name, options in cores.items():
            made = await first.info(name)
            assert (made.length, made.writable) == (10, name != "signers")
            secret = {key: value for key, value in options.items() if key == "encryption_key"}
            await second.open(name, key=made.key, **secret)
            await second.call("downloaded", download=await second.call("download", core=name, end=10))
            assert (await second.call("check", core=name, seed=5))["right"] == 10
            assert (await second.info(name)).tree_hash == made.tree_hash
        assert (await first.info("compat")).key == KeyPair.from_seed(b"\1" * 32).public_key


async def test_failures_are_named(tmp_path: Path) -> None:
    async with StockPeer(store=tmp_path / "store") as peer:
        with pytest.raises(StockError, match="no core is called"):
            await peer.info("nothing")
        with pytest.raises(StockError, match="no such operation"):
            await peer.call("jump")
        await peer.open("a", key=b"\7" * 32)
        with pytest.raises(StockError, match="no answer in"):
            await peer.call("get", core="a", index=0, timeout_s=0.2)
        peer.kill()
        with pytest.raises(StockError, match="ended"):
            await peer.call("info", core="a")
    with pytest.raises(StockError, match="not running"):
        await peer.call("info", core="a")


async def test_a_cancelled_block_leaves_no_process(tmp_path: Path) -> None:
    peer = StockPeer(store=tmp_path / "store")

    async def use() -> None:
        async with peer:
            await asyncio.sleep(60)

    task = asyncio.create_task(use())
    while not peer._running:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not peer._running
