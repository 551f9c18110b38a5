"""Windows that leave for a consortium: when due, paid once, the same bytes after a restart; none between owners."""

from dataclasses import replace
from pathlib import Path

from support_network_boxes import until
from support_sharing import MONDAY, Shop, found_network, open_all, stop_all

from edge.networks.policy import NetworkPolicy
from edge.networks.settings import NetworkSettings
from edge.privacy.rules import PrivacyRules
from edge.records.history import week_of
from edge.records.message import Network, decode
from edge.records.shared import RangeUpdate

WEEK = week_of(MONDAY)
RULES = PrivacyRules(window_weeks=1, lag_weeks=1, shops_min=2, receipts_min=20, epsilon_milli=2000)
POLICY = NetworkPolicy(owners_min=1, lag_weeks=1, live_use=True, privacy=RULES)


def said(shop: Shop) -> list[bytes]:
    """The blocks of the feed of ranges, as they stand."""
    node = shop.sharing.shares[0].node
    assert node is not None
    return [bytes(own.core.get(index)) for own in node._own.values() for index in range(own.core.length)]


async def members(root: Path, policy: NetworkPolicy = POLICY, owners: tuple[str, ...] = ()) -> list[Shop]:
    shops = [Shop(root / f"shop-{number}" / "s", seed=number) for number in range(2)]
    await found_network(root, shops, Network.CONSORTIUM, policy=policy, owners=owners)
    await open_all(shops)
    return shops


async def test_a_window_is_released_when_due_charged_once_and_the_same_after_a_restart(tmp_path: Path) -> None:
    shops = await members(tmp_path)
    one, other = shops
    try:
        await one.sell(7, receipts=30)  # the week in which it joined does not count
        await one.sell(7, receipts=30)
        assert one.sharing.budget(26)["left"] == []
        assert said(one) == []
        await one.sell(7, receipts=30)  # the window is a week old then
        await until(lambda: bool(said(one)))
        blocks = said(one)
        records = [decode(block).payload for block in blocks]
        assert {(type(record), record.week) for record in records} == {(RangeUpdate, WEEK + 1)}  # type: ignore[union-attr]
        assert {row.sku for record in records for row in record.rows} == {""}  # no items, unless the policy says so
        budget = one.sharing.budget(26)
        (line,) = budget["left"]
        assert line.startswith("price ranges of all categories, 2026-01-12 to 2026-01-18, to chain: ")
        assert "epsilon 2 for any receipt" in line
        (account,) = budget["accounts"]
        assert (account["week"], account["epsilon"], account["epsilon_cap"]) == (WEEK + 1, 2.0, 2.0)
        for crash in (True, False):
            await one.stop(crash=crash)
            await one.start()
            await until(lambda: one.check("network_chain_sharing")[0] == "ok")
            assert said(one) == blocks
            assert one.sharing.budget(26) == budget
        await until(lambda: other.tree["heard"] == 1)
        memory = other.sharing.shares[0].memory
        assert memory is not None
        assert set(memory.categories("ranges")) == {record.category for record in records}
    finally:
        await stop_all(shops)


async def test_a_shop_that_had_never_sold_joins_when_it_does(tmp_path: Path) -> None:
    shops = await members(tmp_path)
    one = shops[0]
    try:
        assert one.views.prices.accumulators == []
        await one.sell(1)
        await until(lambda: len(one.views.prices.accumulators) == 1)
    finally:
        await stop_all(shops)


async def test_between_owners_nothing_of_one_shop_leaves(tmp_path: Path) -> None:
    shops = await members(tmp_path, NetworkPolicy(privacy=replace(PrivacyRules(), window_weeks=1)), ("acme", "other"))
    one = shops[0]
    try:
        await one.sell(7 * 17, receipts=1)
        await until(lambda: one.check("network_chain_sharing")[0] == "ok")
        assert said(one) == []
        assert one.sharing.budget(52)["left"] == []
    finally:
        await stop_all(shops)


async def test_in_a_public_network_a_box_says_nothing_of_its_own(tmp_path: Path) -> None:
    shops = [Shop(tmp_path / f"shop-{number}" / "s", seed=number) for number in range(2)]
    await found_network(tmp_path, shops, Network.PUBLIC, open_=True)
    await open_all(shops)
    try:
        await shops[0].sell(28)
        await until(lambda: shops[0].check("network_chain_sharing")[0] == "ok" and bool(shops[0].tree["peers"]))
        assert said(shops[0]) == []
        assert shops[0].tree["kind"] == "public"
        found = shops[0].sharing.context("juice")
        assert found is None or not found.usable
        shops[0].settings = {"chain": NetworkSettings(share=False)}
    finally:
        await stop_all(shops)
