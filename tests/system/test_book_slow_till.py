"""A till on a slow line ends with the right book, although its broker drops what it cannot queue. On both brokers."""

import asyncio
import random
from datetime import date, timedelta
from pathlib import Path

import pytest
from support_line import SlowLine
from support_shop import Box, Shop, sale, until

from edge.clock import ClockQuality, WallTime
from edge.pos.book import PriceBook
from edge.pos.till import SpoolingTill

pytestmark = pytest.mark.system
MONDAY = date(2026, 11, 23)
WALL = WallTime(1_790_000_000_000, ClockQuality.FREE)


def publish(box: Box, prices: dict[str, int], day: date) -> None:
    """A new book, as if its records were durable already."""
    for record in box.book.propose(
        prices, currency="EUR", valid_from=day, decided_through=day - timedelta(days=1), recorded=WALL
    ):
        box.book.apply(record)
    box.service.book_changed()


def catalogue(count: int, rng: random.Random) -> dict[str, int]:
    return {f"{rng.randrange(10**13):014d}": rng.randrange(50, 5000) for _ in range(count)}


def right(till: SpoolingTill, book: PriceBook, day: date) -> bool:
    return till.book.complete and till.book.prices_on(day) == book.prices


async def one_slow_till(shop: Shop, count: int, bytes_s: int, seed: int) -> SpoolingTill:
    """Publish `count` items, let a till in by a slow line, change some, and check both books there."""
    rng = random.Random(seed)
    prices = catalogue(count, rng)
    async with shop.brokered(), Box(shop).running() as box:
        publish(box, prices, MONDAY)
        await until(lambda: box.service.publisher.published == 1, 60)
        async with SlowLine(shop.config.port, bytes_s).running() as line:
            till = shop.till("2", port=line.port)
            async with till.running():
                await until(lambda: right(till, box.book, MONDAY), 150)
                # Rung on the slow line with the book's number, and the next book, most of it while the till is busy.
                for sku in rng.sample(sorted(prices), count // 20):
                    prices[sku] += 10
                removed = sorted(prices)[0]
                del prices[removed]
                publish(box, prices, MONDAY + timedelta(days=7))
                await until(lambda: till.book.manifest is not None and till.book.manifest.number == 2, 60)
                assert right(till, box.book, MONDAY + timedelta(days=7))
                assert till.price(removed, MONDAY + timedelta(days=6)) is not None  # until its day the old one holds
                assert till.price(removed, MONDAY + timedelta(days=7)) is None
                await till.ring(sale(sku=sorted(prices)[1]))
                await till.drained()
                return till


async def test_a_slow_till_gets_the_whole_book(shop: Shop) -> None:
    if shop.kind == "mosquitto":
        # A queue as short as this one drops nearly everything, as mosquitto's own does with 20,000 items.
        conf = shop.data / "mosquitto.conf"
        conf.write_text(
            conf.read_text()
            .replace("max_queued_messages 2000", "max_queued_messages 100")
            .replace("max_inflight_messages 512", "max_inflight_messages 20")
        )
    till = await one_slow_till(shop, 1500, 400_000, seed=3)
    if shop.kind == "mosquitto":
        assert till.book.fetched > 500  # so it was not the wildcard that brought them


async def test_a_till_that_is_away_catches_up_and_one_that_stays_follows(shop: Shop) -> None:
    prices = catalogue(300, random.Random(4))
    async with shop.brokered(), Box(shop).running() as box:
        seen: list[tuple[int, date]] = []
        till = shop.till("1")
        till.book._on_book = lambda manifest: seen.append((manifest.number, manifest.decided_through))
        publish(box, prices, MONDAY)
        async with till.running():
            await until(lambda: right(till, box.book, MONDAY))
            publish(box, prices, MONDAY + timedelta(days=7))  # nothing changed: the same book, decided a week later
            await until(lambda: len(seen) == 2)
            assert [number for number, _ in seen] == [1, 1]
            assert seen[1][1] == MONDAY + timedelta(days=6)
            prices[sorted(prices)[0]] += 1
            publish(box, prices, MONDAY + timedelta(days=14))
            await until(lambda: right(till, box.book, MONDAY + timedelta(days=14)))
        for week in (3, 4, 5):
            prices[sorted(prices)[week]] += 1
            publish(box, prices, MONDAY + timedelta(days=7 * week))
        await until(lambda: box.service.publisher.published == 5)
        again = shop.till("1")
        async with again.running():
            await until(lambda: right(again, box.book, MONDAY + timedelta(days=35)))


async def test_a_broker_that_lost_its_memory_is_given_the_book_again(shop: Shop) -> None:
    prices = catalogue(200, random.Random(5))
    async with Box(shop).running(wait=False) as box:
        publish(box, prices, MONDAY)
        async with shop.brokered():
            await until(lambda: box.service.publisher.published == 1)
        (shop.data / "mosquitto.db").unlink(missing_ok=True)
        async with shop.brokered(), shop.till().running() as till:
            await until(lambda: right(till, box.book, MONDAY))


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_twenty_of_twenty_slow_tills_with_20000_items(shop: Shop, tmp_path: Path) -> None:
    if shop.kind == "embedded":
        pytest.skip("20,000 items are for a real broker")
    done = 0
    for number in range(20):
        place = tmp_path / str(number)
        place.mkdir()
        await one_slow_till(Shop(place, shop.kind), 20_000, 1_000_000, seed=number)
        done += 1
        await asyncio.sleep(0)
    print(f"{done} of 20 slow tills ended with the right book of 20,000 items")
    assert done == 20
