"""One network of a box: a port that is taken, a roster that comes late, feeds that cannot be written, daily chores."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from support_network_boxes import bring_roster, until
from support_sharing import Shop, found_network, open_all, stop_all

from edge.box import share as module
from edge.errors import StorageError, StorageFault
from edge.hypercore.corestore import Corestore
from edge.memory.outbox import NodeOutbox
from edge.networks.folder import NetworkFolder
from edge.networks.node import NetworkNode
from edge.networks.settings import NetworkSettings, Stricter


async def test_a_port_that_is_taken_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    shop = Shop(tmp_path / "s")
    await found_network(tmp_path, [shop])
    shop.settings = {"chain": NetworkSettings(listen=f"127.0.0.1:{port}")}
    await shop.start()
    await shop.sell(2)
    await until(lambda: shop.check("network_chain_port")[0] == "degraded")
    assert f"cannot listen on 127.0.0.1:{port}" in shop.check("network_chain_port")[1]
    await until(lambda: sum(shop.own_feeds().values()) > 0)  # what is due is kept for whoever comes
    taken.close()
    await taken.wait_closed()
    await until(lambda: shop.tree["listening"] == port and shop.check("network_chain_port")[0] == "ok")
    await shop.stop()


async def test_a_roster_that_comes_late_begins_everything(tmp_path: Path) -> None:
    shops = [Shop(tmp_path / "one" / "s"), Shop(tmp_path / "two" / "s", seed=1)]
    await found_network(tmp_path, shops)
    folder = NetworkFolder.open(shops[1].state, "chain")
    kept = {path: path.read_bytes() for path in (shops[1].state / "networks" / "chain" / "store").glob("*-key")}
    for path in sorted((shops[1].state / "networks" / "chain").rglob("*"), reverse=True):
        if path not in kept and path.name not in ("network.json", "roster-root", "store"):
            path.unlink() if path.is_file() else path.rmdir()
    (shops[1].state / "networks" / "chain" / "epochs").mkdir()
    assert folder.accepted() is None
    try:
        await shops[1].start()
        await shops[1].sell(2)
        assert shops[1].tree["version"] == 0
        assert shops[1].sharing.context("juice") is None
        await shops[1].stop()
        await bring_roster_again(tmp_path, shops[1])
        await open_all(shops)
        await shops[0].sell(2)
        await until(lambda: shops[1].tree["heard"] == shops[0].tree["heard"] == 1)
    finally:
        await stop_all([shop for shop in shops if shop._running is not None])


async def bring_roster_again(root: Path, shop: Shop) -> None:
    """Bring the roster once more."""
    office, member = NetworkFolder.open(root / "office", "chain"), NetworkFolder.open(shop.state, "chain")
    async with await Corestore.open(office.store_directory) as store:
        source = SimpleNamespace(folder=office, running=SimpleNamespace(store=store))
        box = SimpleNamespace(folder=member, store_directory=member.store_directory)
        await bring_roster(source, box)  # type: ignore[arg-type]


async def test_feeds_that_cannot_be_written_are_told_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = NodeOutbox.append, [True]

    async def append(self: NodeOutbox, dues: object) -> object:
        if full[0]:
            raise StorageError("no space", fault=StorageFault.FULL)
        return await real(self, dues)  # type: ignore[arg-type]

    monkeypatch.setattr(NodeOutbox, "append", append)
    shop = Shop(tmp_path / "s")
    await found_network(tmp_path, [shop])
    await shop.start()
    await shop.sell(1)
    await until(lambda: shop.check("network_chain_sharing")[0] == "degraded")
    full[0] = False
    await shop.sell(1)
    await until(lambda: shop.own_feeds()["PRICES"] == 4)  # two categories of two days
    await until(lambda: shop.check("network_chain_sharing")[0] == "ok")
    await shop.stop()


@pytest.mark.parametrize("trouble", [StorageError("broken", fault=StorageFault.CORRUPT), OSError("no route")])
async def test_a_node_in_trouble_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    runs = 0

    async def run(_self: NetworkNode) -> None:
        nonlocal runs
        runs += 1
        raise trouble

    monkeypatch.setattr(NetworkNode, "run", run)
    shop = Shop(tmp_path / "s")
    await found_network(tmp_path, [shop])
    await shop.start()
    await until(lambda: runs > 2)
    assert shop.check("network_chain_port")[0] == "degraded"
    assert str(trouble) in shop.check("network_chain_port")[1]
    await shop.sell(1)
    await until(lambda: sum(shop.own_feeds().values()) > 0)
    await shop.stop()


async def test_the_days_chores_survive_wishes_that_cannot_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_DAY_S", 0.0)
    monkeypatch.setattr(module, "ROSTER_LOOK_S", 0.01)
    shop = Shop(tmp_path / "s")
    await found_network(tmp_path, [shop])
    shop.settings = {"chain": NetworkSettings(stricter=Stricter(keep_weeks=500))}
    await shop.start()
    await until(lambda: "closed epochs are not cleared" in caplog.text)
    assert shop._running is not None
    assert not shop._running.done()
    assert "networks.chain.stricter.keep_weeks" in shop.check("network_chain_policy")[1]
    await shop.stop()
