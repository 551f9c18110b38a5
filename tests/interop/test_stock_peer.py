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


async def test_bees_between_stock_peers() -> None:
    async with StockPeer() as first, StockPeer() as second:
        made = await first.open("a", name_of_core="a")
        await first.call("bee_open", bee="bee", core="a")
        puts = [[b"k%03d" % number, b"v%d" % number] for number in range(50)]
        assert await first.call("bee_batch", bee="bee", puts=puts) == 51
        assert await first.call("bee_put", bee="bee", key=b"k000", value=b"again") == 52
        assert await first.call("bee_del", bee="bee", key=b"k001") == 53
        await first.call("bee_put", bee="bee", sub=["inside"], key=b"x", value=b"y")
        await second.open("a", key=made.key)
        await second.connect(await first.listen())
        await second.event("append", core="a", length=54)
        await second.call("bee_open", bee="bee", core="a")
        assert (await second.call("bee_get", bee="bee", key=b"k000"))["value"] == b"again"
        assert await second.call("bee_get", bee="bee", key=b"k001") is None
        assert (await second.call("bee_get", bee="bee", version=52, key=b"k001"))["value"] == b"v1"
        assert (await second.call("bee_get", bee="bee", sub=["inside"], key=b"x"))["value"] == b"y"
        found = await second.call("bee_range", bee="bee", range={"gte": b"k002", "lt": b"k005"})
        assert [entry["key"] for entry in found] == [b"k002", b"k003", b"k004"]
        history = await second.call("bee_history", bee="bee", reverse=True, limit=2)
        assert [(entry["type"], entry["key"]) for entry in history] == [("put", b"inside\0x"), ("del", b"k001")]
        diff = await second.call("bee_diff", bee="bee", version=53, other=51)
        assert [(pair["left"] or pair["right"])["key"] for pair in diff] == [b"k000", b"k001"]


async def test_drives_between_stock_peers(tmp_path: Path) -> None:
    files = {"a.txt": b"one", "folder/b.bin": bytes(range(256)) * 1000, "folder/deep/run": b"#!/bin/sh\n"}
    for name, content in files.items():
        (tmp_path / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / name).write_bytes(content)
    (tmp_path / "from/folder/deep/run").chmod(0o755)
    (tmp_path / "from/link").symlink_to("a.txt")
    async with StockPeer() as first, StockPeer() as second:
        made = await first.call("drive_open", drive="d")
        made = await first.call("drive_from_folder", drive="d", folder=tmp_path / "from")
        await first.call("drive_put", drive="d", path="/a.txt", content=b"two")
        await second.call("drive_open", drive="d", key=made["key"])
        await second.connect(await first.listen())
        assert (await second.call("drive_update", drive="d"))["version"] == made["version"] + 1
        await second.call("drive_download", drive="d")
        await second.call("drive_to_folder", drive="d", folder=tmp_path / "to")
        listed = {entry["path"]: entry for entry in await second.call("drive_list", drive="d")}
        assert sorted(listed) == ["/a.txt", "/folder/b.bin", "/folder/deep/run", "/link"]
        assert listed["/folder/deep/run"]["executable"]
        assert await second.call("drive_get", drive="d", path="/a.txt") == b"two"
        assert await second.call("drive_get", drive="d", path="/a.txt", version=made["version"]) == b"one"
    for name, content in {**files, "a.txt": b"two"}.items():
        assert (tmp_path / "to" / name).read_bytes() == content
    assert (tmp_path / "to/folder/deep/run").stat().st_mode & 0o100
    assert (tmp_path / "to/link").readlink() == Path("a.txt")
