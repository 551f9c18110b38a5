"""The exchange of one shop with one network: in, out, over restarts."""

import asyncio
from dataclasses import replace

import pytest
from support_exchange import Feed, ListOutbox, ListPublisher, Town, arrivals_of
from support_shared import NOW, WEEK_NOW, payload_of

from edge.clock import ClockQuality, WallTime
from edge.errors import StorageError, StorageFault
from edge.limits import ACCEPT_STEP
from edge.memory.sync import TIMES_WRONG_MAX, SyncManager, Taken
from edge.networks.access import FeedKind
from edge.networks.following import Arrival
from edge.records.message import decode
from edge.records.shared import ItemDay, ModelInsight, PriceUpdate, TrendUpdate

DAY_MS = 86_400_000


def town_that_talked(shops: int = 4, weeks: int = 3) -> Town:
    town = Town(shops)
    for number in range(shops):
        for back in range(weeks, 0, -1):
            for kind in (TrendUpdate, ModelInsight, PriceUpdate, ItemDay):
                town.say(number, payload_of(kind, week=WEEK_NOW - back))
    return town


async def drain(manager: SyncManager) -> int:
    total = 0
    while count := await manager.pull():
        total += count
    return total


def everything(town: Town, besides: int) -> list[Arrival]:
    own = town.shops[besides].member.id
    network_id = town.roster.network_id
    return [each for (member, _), feed in town.feeds.items() if member != own for each in arrivals_of(network_id, feed)]


# --- in --------------------------------------------------------------------------------------------------------------


async def test_everything_is_taken_in_once() -> None:
    town = town_that_talked()
    manager = town.manager(0)
    assert await drain(manager) == 3 * 3 * 4
    memory = manager.memory
    assert memory.counts.taken == 3 * 3 * 4
    assert {peer.records for peer in memory.peers()} == {12}
    digest = memory.digest()
    assert await manager.accept(everything(town, 0)) == Taken()
    assert memory.digest() == digest
    assert memory.counts.repeated == 0


async def test_a_refused_block_is_passed_and_the_rest_of_its_feed_goes_on() -> None:
    town = Town(2)
    for back in (3, 2, 1):
        feed = town.say(1, payload_of(TrendUpdate, week=WEEK_NOW - back))
    signature = decode(feed.blocks[1]).signature
    feed.blocks[1] = feed.blocks[1].replace(signature, bytes(64))
    manager = town.manager(0)
    taken = await manager.accept(arrivals_of(town.roster.network_id, feed))
    assert taken == Taken(accepted=2, refused=1)
    assert manager.cursor == {feed.key: 3}
    assert manager.validator.strikes(town.shops[1].member.id) == 1


async def test_what_stands_behind_a_gap_waits() -> None:
    town = town_that_talked(2)
    arrivals = everything(town, 0)
    manager = town.manager(0)
    assert (await manager.accept(arrivals[1:3])).accepted == 0
    assert (await manager.accept(arrivals)).accepted == len(arrivals)


async def test_a_refusal_that_may_pass_holds_its_feed_and_no_other() -> None:
    town = Town(3)
    wall = NOW
    feed = town.say(1, payload_of(TrendUpdate, week=WEEK_NOW - 1))
    late = replace(NOW, ms=NOW.ms + 20 * DAY_MS)
    town.say(1, payload_of(TrendUpdate, week=WEEK_NOW), timestamp=late)
    town.say(1, payload_of(TrendUpdate, week=WEEK_NOW, category="bread"))
    town.say(2, payload_of(TrendUpdate, week=WEEK_NOW - 1))
    manager = town.manager(0, surroundings=lambda: replace(town.surroundings(), wall=wall))
    await drain(manager)
    assert manager.held == {feed.key: "timestamp"}
    assert manager.cursor[feed.key] == 1
    assert len(manager.memory.peers()) == 2
    assert await drain(manager) == 0  # nothing is read again for nothing
    manager.retry()
    await drain(manager)
    assert manager.cursor[feed.key] == 1
    wall = late
    manager.retry()
    await drain(manager)
    assert manager.cursor[feed.key] == 3
    assert manager.held == {}


async def test_a_clock_that_is_wrong_for_ever_does_not_hold_its_feed_for_ever() -> None:
    town = Town(2)
    feed = town.say(1, payload_of(TrendUpdate), timestamp=WallTime(NOW.ms + 4000 * DAY_MS, ClockQuality.SYNCED))
    town.say(1, payload_of(TrendUpdate, category="bread"))
    manager = town.manager(0)
    for _ in range(TIMES_WRONG_MAX):
        await drain(manager)
        assert manager.cursor.get(feed.key, 0) == 0
        manager.retry()
    await drain(manager)
    assert manager.cursor[feed.key] == 2
    assert manager.memory.categories("trends") == ("bread",)


async def test_blocks_of_sums_are_handed_on() -> None:
    town = Town(2)
    sums = Feed(town.shops[1], FeedKind.SUMS)
    arrival = Arrival(town.roster.network_id, sums.shop.member.id, FeedKind.SUMS, 1, b"s" * 32, 0, b"no message")
    heard: list[Arrival] = []
    manager = town.manager(0, hear_sum=heard.append)
    assert await manager.accept([arrival]) == Taken(passed=1)
    assert heard == [arrival]
    assert manager.cursor == {b"s" * 32: 1}


async def test_others_get_their_turn_while_a_batch_is_taken_in() -> None:
    town = town_that_talked(shops=6)
    manager, turns = town.manager(0), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    taken = await manager.accept(everything(town, 0))
    task.cancel()
    assert taken.accepted == 60
    assert turns >= 60 // ACCEPT_STEP


async def test_what_has_changed_is_told_once_a_round() -> None:
    town, rounds = town_that_talked(), 0

    async def after() -> None:
        nonlocal rounds
        rounds += 1

    manager = town.manager(0, after=after)
    await drain(manager)
    assert rounds == 1
    await manager.accept(everything(town, 0))
    assert rounds == 1


async def test_it_runs_until_cancelled_and_wakes_for_news_and_for_a_retry() -> None:
    town = Town(2)
    wall = NOW
    manager = town.manager(0, surroundings=lambda: replace(town.surroundings(), wall=wall))
    reader = manager._reader
    task = asyncio.create_task(manager.run())

    async def until(count: int) -> None:
        async with asyncio.timeout(5):
            while manager.memory.counts.taken < count:
                await asyncio.sleep(0.001)

    await asyncio.sleep(0.01)
    town.say(1, payload_of(TrendUpdate, week=WEEK_NOW - 1))
    reader.news.set()  # type: ignore[attr-defined]
    await until(1)
    late = replace(NOW, ms=NOW.ms + 20 * DAY_MS)
    town.say(1, payload_of(TrendUpdate, week=WEEK_NOW), timestamp=late)
    reader.news.set()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        while not manager.held:
            await asyncio.sleep(0.001)
    wall = late
    manager.retry()
    await until(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- restarts --------------------------------------------------------------------------------------------------------


async def test_a_snapshot_goes_on_where_it_was_and_an_old_one_reads_again() -> None:
    town = town_that_talked()
    manager = town.manager(0)
    await manager.accept(everything(town, 0)[:10])
    old = manager.snapshot().encode()
    await drain(manager)
    new = manager.snapshot().encode()
    for image, left in ((new, 0), (old, 26)):
        again = town.manager(0)
        assert await again.start(image)
        assert await drain(again) == left
        assert again.memory.digest() == manager.memory.digest()
        assert again.cursor == manager.cursor
        assert again.snapshot().encode() == new
        assert not again.validator.refusals


@pytest.mark.parametrize("image", [None, b"", b"nonsense", b"POMONAPM" + bytes(100)])
async def test_without_a_usable_snapshot_the_feeds_are_read_from_their_beginning(image: bytes | None) -> None:
    town = town_that_talked()
    manager = town.manager(0)
    assert not await manager.start(image)
    assert await drain(manager) == 36


async def test_a_snapshot_whose_end_is_broken_leaves_nothing_behind() -> None:
    """The memory can be filled before the validator's state turns out to be of another network."""
    town, other = town_that_talked(), Town(4)
    manager = town.manager(0)
    await drain(manager)
    other_state = replace(manager.snapshot(), validator=b"\x00").encode()
    again = other.manager(0)
    assert not await again.start(other_state)
    assert again.memory.digest() == other.manager(0).memory.digest()
    assert again.cursor == {}


async def test_a_memory_that_is_incomplete_is_filled_again_and_bans_stay() -> None:
    town = town_that_talked()
    outbox = ListOutbox(town, 0)
    manager = town.manager(0, outbox=outbox)
    await manager.start()
    await drain(manager)
    digest = manager.memory.digest()
    manager.validator._standing.banned.add(town.shops[3].member.id)
    manager.memory.incomplete = True
    await drain(manager)
    assert manager.memory.digest() != digest
    manager.validator.pardon(town.shops[3].member.id)
    manager.memory.incomplete = True
    await drain(manager)
    assert manager.memory.digest() == digest
    assert not manager.memory.incomplete


# --- out -------------------------------------------------------------------------------------------------------------


async def test_what_is_due_is_told_once_critical_first() -> None:
    town = Town(2)
    outbox, publisher = ListOutbox(town, 0), ListPublisher()
    manager = town.manager(0, outbox=outbox, publisher=publisher)
    await manager.start()
    assert await manager.sync(WEEK_NOW) == 0
    publisher.payloads = [payload_of(kind, week=WEEK_NOW - 1) for kind in (ItemDay, PriceUpdate, TrendUpdate)]
    assert await manager.sync(WEEK_NOW) == 3
    assert [type(due.payloads[0]) for due in publisher.heard] == [TrendUpdate, PriceUpdate, ItemDay]
    assert await manager.sync(WEEK_NOW) == 0
    assert outbox.appends == [1, 1, 1]
    assert manager.counts.told == {"trend": 1, "week": 1, "day": 1}


async def test_a_restart_tells_nothing_twice_and_remembers_its_own_words() -> None:
    town = Town(2)
    outbox, publisher = ListOutbox(town, 0), ListPublisher()
    publisher.payloads = [payload_of(kind, week=WEEK_NOW - 1) for kind in (ItemDay, TrendUpdate, ModelInsight)]
    manager = town.manager(0, outbox=outbox, publisher=publisher)
    await manager.sync(WEEK_NOW)  # `start` is not needed for it
    again = town.manager(0, outbox=outbox, publisher=publisher)
    await again.start()
    assert await again.sync(WEEK_NOW) == 0
    assert again.memory.digest() == manager.memory.digest()
    assert again.memory.insights("dairy") == {}
    assert set(again.memory.insights("dairy", with_own=True)) == {"4012345678901", "4012345678918"}
    other = town.manager(1)
    await drain(other)
    assert other.memory.digest() == manager.memory.digest()


@pytest.mark.parametrize("written", [0, 1, 2, 3])
async def test_a_disk_that_fails_in_the_middle_loses_nothing_and_repeats_nothing(written: int) -> None:
    town = Town(2)
    outbox, publisher = ListOutbox(town, 0), ListPublisher()
    names = ["bread", "dairy", "fruit"]
    publisher.payloads = [payload_of(TrendUpdate, week=WEEK_NOW - 1, category=name) for name in names]
    manager = town.manager(0, outbox=outbox, publisher=publisher)
    outbox.failing = written
    assert await manager.sync(WEEK_NOW) == 0
    assert manager.counts.failures == 1
    assert await manager.sync(WEEK_NOW) == 3 - written
    assert sorted(each.category for each in outbox.said()) == names
    assert await manager.sync(WEEK_NOW) == 0


async def test_a_disk_that_cannot_be_read_at_the_start_is_tried_again() -> None:
    town = Town(2)

    class Unreadable(ListOutbox):
        broken = True

        async def tail(self, limit: int) -> list:  # type: ignore[type-arg]
            if self.broken:
                raise StorageError("cannot be read", fault=StorageFault.IO)
            return await super().tail(limit)

    outbox, publisher = Unreadable(town, 0), ListPublisher([payload_of(TrendUpdate, week=WEEK_NOW - 1)])
    town.say(0, publisher.payloads[0])
    manager = town.manager(0, outbox=outbox, publisher=publisher)
    assert await manager.sync(WEEK_NOW) == 0
    outbox.broken = False
    assert await manager.sync(WEEK_NOW) == 0
    assert len(outbox.said()) == 1
