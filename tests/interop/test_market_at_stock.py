"""A stock Hyperbee reads what a network's members say together, as it grows."""

import json
from pathlib import Path

import pytest
from support_ours import OurPeer
from support_shared import WEEK_NOW, network_of, payload_of, shop_of
from support_stock import StockPeer

from edge.memory.market_bee import MarketBee, key_of
from edge.memory.network import NetworkPriceMemory
from edge.records.message import Network
from edge.records.shared import ModelInsight, RangeUpdate, TrendUpdate

pytestmark = pytest.mark.interop
TEXT_AND_JSON = ["utf-8", "json"]


async def test_a_stock_peer_follows_the_market(tmp_path: Path) -> None:
    shops = [shop_of(Network.PRIVATE, number) for number in range(5)]
    memory = NetworkPriceMemory(network_of(Network.PRIVATE, shops), currency="EUR")
    async with OurPeer(tmp_path) as ours, StockPeer() as stock:
        core = await ours.create("market")
        market = MarketBee(memory, core)
        for number, shop in enumerate(shops[:4]):
            for kind in (ModelInsight, TrendUpdate, RangeUpdate):
                payload = payload_of(kind, week=WEEK_NOW - 1, category="Käse/frisch 100%", skus=["", "A1"])
                memory.apply(shop.member.id, 1, number, payload)
        assert await market.update() == 6
        await stock.open("market", key=core.key)
        await ours.connect(stock)
        await stock.event("append", core="market", length=core.length)
        await stock.call("bee_open", bee="bee", core="market", encodings=TEXT_AND_JSON)
        found = await stock.call("bee_range", bee="bee", range={})
        category = "K\u00e4se%2Ffrisch 100%25"
        week = f"{WEEK_NOW - 1:05}"
        expected = [
            f"{kind}/{category}/{item}/{week}" for kind in ("insights", "ranges", "trends") for item in ["*", "A1"]
        ]
        assert [entry["key"] for entry in found] == expected
        price = found[1]["value"]["price"]
        assert price["mean"] == pytest.approx(-2.1)
        assert (price["shops"], price["owners"], price["noise"], price["week"]) == (4, 1, 0, WEEK_NOW - 1)
        entries = {entry.key: entry.value async for entry in market.bee.range()}
        assert {entry["key"]: entry["value"] for entry in found} == entries
        assert json.dumps(entries)

        memory.apply(shops[4].member.id, 1, 0, payload_of(TrendUpdate, week=WEEK_NOW - 1, category="Brot", skus=[""]))
        assert await market.update() == 1
        await stock.event("append", core="market", length=core.length)
        key = key_of("trends", "Brot", "", WEEK_NOW - 1)
        entry = await stock.call("bee_get", bee="bee", key=key)
        assert entry["value"]["trend"]["mean"] == pytest.approx(0.01)
