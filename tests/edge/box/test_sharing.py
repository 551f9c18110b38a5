"""Networks of boxes in one process: who hears what, over restarts; networks that are broken, refused, or only read."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support_network_boxes import until
from support_sharing import Shop, found_network, open_all, stop_all

from edge.box import publications
from edge.errors import ConfigError
from edge.networks.modes import Mode
from edge.networks.policy import NetworkPolicy
from edge.networks.settings import NetworkSettings, Stricter
from edge.privacy.rules import PrivacyRules
from edge.records.history import CategoryHistory
from edge.records.message import Network
from edge.records.shared import ModelInsight

QUARTER = 14 * 7


@asynccontextmanager
async def chain(root: Path, count: int, *, days: int = QUARTER, **policy: object) -> AsyncIterator[list[Shop]]:
    """Shops of one owner that have sold so long before they met."""
    shops = [Shop(root / f"shop-{number}" / "s", seed=number) for number in range(count)]
    for shop in shops:
        await shop.start(run=False)
        await shop.sell(days)
        await shop.stop()
    await found_network(root, shops, policy=replace(NetworkPolicy.for_new(Network.PRIVATE), **policy))  # type: ignore[arg-type]
    try:
        await open_all(shops)
        yield shops
    finally:
        await stop_all([shop for shop in shops if shop._running is not None])


def all_heard(shop: Shop, others: int) -> bool:
    """Whether the last thing that others say, the week's prices and days, is here."""
    memory = shop.sharing.shares[0].memory
    if memory is None:
        return False
    fresh = memory.freshness()
    return shop.tree["heard"] == others and {"insights", "trends", "prices", "item_day"} <= fresh.keys()


async def quiet(shops: list[Shop]) -> None:
    """Until everybody has all that everybody said."""

    def done() -> bool:
        said = {shop.state: sum(shop.own_feeds().values()) for shop in shops}
        for shop in shops:
            sync = shop.sharing.shares[0].sync
            others = sum(count for state, count in said.items() if state != shop.state)
            if sync is None or not others or sum(sync.cursor.values()) != others:
                return False
        return all(shop.check("network_chain_sharing")[0] == "ok" for shop in shops)

    for _ in range(3):
        await until(done)
        await asyncio.sleep(0.1)
    assert done()


async def test_three_boxes_hear_each_others_days_weeks_trends_and_demand(tmp_path: Path) -> None:
    async with chain(tmp_path, 3) as shops:
        for shop in shops:
            await until(lambda shop=shop: all_heard(shop, 2))  # type: ignore[misc]
        await quiet(shops)
        digests = {shop.sharing.shares[0].memory.digest() for shop in shops}  # type: ignore[union-attr]
        assert len(digests) == 1  # the same of everybody, its own words included
        assert all(shop.refused == [] for shop in shops)

        await until(lambda: (found := shops[0].sharing.context("juice")) is not None and found.peers == 2)
        context = shops[0].sharing.context("juice")
        assert context is not None
        assert (context.peers, context.owners, context.usable) == (2, 1, True)
        assert context.insights["juice-1"]["price"].mean == pytest.approx(-2.0, abs=0.7)  # what the shops' sales obey
        assert context.mask == ()
        rows = shops[0].sharing.insights()["rows"]
        assert {row[1] for row in rows} == {"insights", "trends"}
        (price,) = [row for row in rows if row[1:5] == ["insights", "juice", "juice-1", "price"]]
        assert price[9:12] == [2, 1, "none"]  # shops and owners behind it; nothing of it is noised
        await until(lambda: shops[0].sharing.mode is Mode.CONNECTED)


async def test_a_restart_tells_nothing_twice_and_a_new_day_is_told(tmp_path: Path) -> None:
    async with chain(tmp_path, 2) as shops:
        await quiet(shops)
        before = [shop.own_feeds() for shop in shops]
        for crash in (False, True):
            peers = shops[1].settings
            await shops[1].stop(crash=crash)
            shops[1].settings = peers
            await shops[1].start()
            await until(lambda: shops[1].check("network_chain_sharing")[0] == "ok")
            await quiet(shops)
            assert [shop.own_feeds() for shop in shops] == before
        await shops[1].sell(1)
        await until(lambda: sum(shops[1].own_feeds().values()) > sum(before[1].values()))
        await quiet(shops)
        assert shops[1].own_feeds()["PRICES"] == before[1]["PRICES"] + 2  # the new day of two categories, no other


async def test_a_box_without_networks_is_local_only_and_keeps_no_figures(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "s")
    await shop.start()
    await shop.sell(3)
    assert shop.sharing.mode is Mode.LOCAL_ONLY
    assert shop.sharing.context("juice") is None
    assert shop.sharing.peers() == {"mode": "local_only", "networks": []}
    assert shop.sharing.budget(26) == {"left": [], "accounts": [], "floor": 0}
    assert shop.sharing.insights()["rows"] == []
    assert shop.views.prices.accumulators == []
    assert not (shop.state / "networks").exists()
    await shop.stop()


@pytest.mark.parametrize("damage", ["network.json", "store/primary-key", "roster-root"])
async def test_a_network_that_cannot_be_opened_is_left_out(tmp_path: Path, damage: str) -> None:
    shop = Shop(tmp_path / "s")
    await found_network(tmp_path, [shop])
    (shop.state / "networks" / "chain" / damage).write_text("{")
    shop.settings = {"chain": NetworkSettings()}
    await shop.start()
    await shop.sell(2)
    state, reason = shop.check("network_chain")
    assert state == "degraded"
    assert reason.startswith("left out: ")
    assert shop.sharing.peers()["networks"] == []
    assert shop.views.memory.day_totals(shop.day.replace(day=6)).receipts == 1
    await shop.stop()


async def test_a_section_of_an_unknown_network_is_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "s")
    await found_network(tmp_path, [shop])
    shop.settings = {"chian": NetworkSettings()}
    with pytest.raises(ConfigError, match=r"networks\.chian: .*known: chain"):
        await shop.start()
    shop.settings = {}
    await shop.start()  # nothing was left open
    await shop.stop()


async def test_looser_wishes_stop_sharing_and_nothing_else(tmp_path: Path) -> None:
    async with chain(tmp_path, 2, shops_min=2, privacy=PrivacyRules(shops_min=3)) as shops:
        await quiet(shops)
        said = shops[1].own_feeds()
        await shops[1].stop()
        (settings,) = shops[1].settings.values()
        shops[1].settings = {"chain": replace(settings, stricter=Stricter(shops_min=1, live_use=False))}
        await shops[1].start()
        await shops[1].sell(1)
        await shops[0].sell(1)
        await until(lambda: shops[1].tree["heard"] == 1)
        state, reason = shops[1].check("network_chain_policy")
        assert state == "degraded"
        assert reason.startswith("nothing is shared: networks.chain.stricter.shops_min: may only be raised")
        await until(lambda: sum(shops[0].own_feeds().values()) > 0 and shops[1].tree["behind"] == 0)
        assert shops[1].own_feeds() == said
        found = shops[1].sharing.context("juice")
        assert found is not None
        assert not found.usable  # the wish that is stricter counts all the same


async def test_a_box_that_does_not_share_reads(tmp_path: Path) -> None:
    async with chain(tmp_path, 2) as shops:
        await quiet(shops)
        await shops[1].stop()
        (settings,) = shops[1].settings.values()
        shops[1].settings = {"chain": replace(settings, share=False)}
        await shops[1].start()
        await shops[0].sell(1)
        await until(lambda: all_heard(shops[1], 1))
        await shops[1].sell(1)
        await asyncio.sleep(0.3)
        assert shops[1].own_feeds() == {}
        assert shops[1].views.prices.accumulators == []


async def test_insights_come_in_pages_that_join_without_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with chain(tmp_path, 2) as shops:
        await quiet(shops)
        sharing = shops[0].sharing
        whole = sharing.insights()
        assert whole["after"] is None
        monkeypatch.setattr("edge.box.sharing.INSIGHT_ROWS_MIN", 1)
        page, pages = sharing.insights(), 1
        rows = list(page["rows"])
        while page["after"] is not None:
            page, pages = sharing.insights(page["after"]), pages + 1
            rows += page["rows"]
        assert rows == whole["rows"]
        assert pages == len({(row[0], row[1], row[2]) for row in rows}) == 4


async def test_an_estimate_that_takes_long_does_not_hold_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a thread estimates, the loop goes on: it takes many turns before the first estimate ends."""
    turns: list[int] = []
    count = 0

    def slow(history: CategoryHistory) -> ModelInsight | None:
        before = count
        deadline = time.monotonic() + 10
        while count < before + 20 and time.monotonic() < deadline:
            time.sleep(0.001)
        turns.append(count - before)
        return None

    monkeypatch.setattr("edge.box.publisher.insight", slow)
    shop = Shop(tmp_path / "s")
    await found_network(tmp_path, [shop])
    await shop.start()
    await shop.sell(14)
    while len(turns) < 4:
        await asyncio.sleep(0)
        count += 1
    assert min(turns) >= 20
    await shop.stop()


async def test_an_estimate_that_fails_takes_nothing_else_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_history: CategoryHistory) -> ModelInsight | None:
        raise ArithmeticError("singular")

    monkeypatch.setattr(publications, "evidence", breaks)
    async with chain(tmp_path, 2) as shops:
        await until(lambda: shops[0].own_feeds().get("PRICES", 0) > 0)
        await quiet(shops)
        feeds = shops[0].own_feeds()
        assert feeds["INSIGHTS"] == 0
        assert min(feeds["TRENDS"], feeds["PRICES"]) > 0
