"""The market as a tree: its keys, only what changed, one batch a round, and nothing that few owners stand behind."""

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from support_bee_log import MemoryLog
from support_shared import categories, network_of, payload_of, shop_of

from edge.errors import LocalError, StorageError, StorageFault
from edge.memory.market_bee import MarketBee, key_of
from edge.memory.network import NetworkPriceMemory
from edge.records.message import Network
from edge.records.shared import (
    Coefficient,
    InsightRow,
    ItemDay,
    ModelInsight,
    Protection,
    RangeUpdate,
    TrendUpdate,
    Unit,
)

WEEK = 2930
SHOPS = [shop_of(Network.PRIVATE, number) for number in range(6)]


def private() -> NetworkPriceMemory:
    return NetworkPriceMemory(network_of(Network.PRIVATE, SHOPS), currency="EUR", own=SHOPS[0].member.id)


def insight(means: dict[str, float], week: int = WEEK, **more: object) -> ModelInsight:
    rows = [InsightRow(sku, 40, (("price", Coefficient(mean, 0.3)),)) for sku, mean in sorted(means.items())]
    return ModelInsight("dairy", week, tuple(rows), **more)  # type: ignore[arg-type]


async def entries(market: MarketBee) -> dict[str, dict[str, object]]:
    return {entry.key: entry.value async for entry in market.bee.range()}


@given(categories, categories)
def test_keys_of_different_categories_differ_and_have_four_parts(one: str, other: str) -> None:
    first, second = key_of("trends", one, "", WEEK), key_of("trends", other, "", WEEK)
    assert (first == second) == (one == other)
    kind, category, item, period = first.split("/")
    assert (kind, item, period) == ("trends", "*", "02930")
    assert category.replace("%2F", "/").replace("%25", "%") == one


def test_periods_have_five_digits() -> None:
    with pytest.raises(LocalError):
        key_of("trends", "dairy", "", 100_000)


async def test_it_says_what_the_memory_says_ourselves_included() -> None:
    memory, log = private(), MemoryLog()
    market = MarketBee(memory, log)
    for number, shop in enumerate(SHOPS):
        for kind in (TrendUpdate, RangeUpdate, ItemDay):
            memory.apply(shop.member.id, 1, 0, payload_of(kind, week=WEEK))
        memory.apply(shop.member.id, 1, 0, insight({"A1": -2.0 - number / 10}))
    assert await market.update() == 5
    found = await entries(market)
    assert set(found) == {
        "insights/dairy/A1/02930",
        "trends/dairy/4012345678901/02930",
        "trends/dairy/4012345678918/02930",
        "ranges/dairy/4012345678901/02930",
        "ranges/dairy/4012345678918/02930",
    }
    pooled = memory.insights("dairy", live=False, with_own=True)["A1"]["price"]
    told = found["insights/dairy/A1/02930"]["price"]
    assert isinstance(told, dict)
    assert told["mean"] == pytest.approx(pooled.mean, rel=1e-5)
    assert told["error"] == pytest.approx(pooled.error, rel=1e-5)
    assert (told["shops"], told["owners"], told["noise"], told["week"]) == (6, 1, 0, WEEK)
    assert found["ranges/dairy/4012345678901/02930"]["min"] == 150
    assert found["ranges/dairy/4012345678901/02930"]["currency"] == "EUR"


async def test_only_what_changed_is_written_in_one_batch() -> None:
    memory, log = private(), MemoryLog()
    market = MarketBee(memory, log)
    memory.apply(SHOPS[1].member.id, 1, 0, insight({"A1": -2.0, "B1": -3.0}))
    memory.apply(SHOPS[2].member.id, 1, 0, payload_of(TrendUpdate, week=WEEK))
    await market.update()
    appends = log.appends
    assert await market.update() == 0
    memory.apply(SHOPS[2].member.id, 1, 0, insight({"B1": -4.0}))
    assert await market.update() == 1
    memory.apply(SHOPS[2].member.id, 1, 1, insight({"B1": -4.0}))  # the same again
    assert await market.update() == 0
    assert log.appends == appends + 1


async def test_weeks_before_stay_as_they_were() -> None:
    memory = private()
    market = MarketBee(memory, MemoryLog())
    memory.apply(SHOPS[1].member.id, 1, 0, insight({"A1": -2.0}))
    await market.update()
    before = await entries(market)
    memory.apply(SHOPS[1].member.id, 1, 1, insight({"A1": -5.0}, WEEK + 1))
    await market.update()
    after = await entries(market)
    assert set(after) == {"insights/dairy/A1/02930", "insights/dairy/A1/02931"}
    assert after["insights/dairy/A1/02930"] == before["insights/dairy/A1/02930"]


async def test_a_new_start_writes_nothing_that_is_there() -> None:
    memory, log = private(), MemoryLog()
    for seed in range(20):
        random = Random(seed)
        means = {f"S{number}": random.gauss(-3, 1) for number in random.sample(range(9), 3)}
        memory.apply(random.choice(SHOPS).member.id, 1, seed, insight(means))
    assert await MarketBee(memory, log).update() > 0
    length = log.length
    assert await MarketBee(memory, log).update() == 0
    assert log.length == length


async def test_after_a_disk_that_failed_the_next_round_brings_it() -> None:
    class Failing(MemoryLog):
        fails = True

        async def append(self, blocks: Iterable[bytes], /, *, urgent: bool = False, whole: bool = False) -> int:
            if self.fails:
                raise StorageError("full", fault=StorageFault.FULL)
            return await super().append(blocks, urgent=urgent, whole=whole)

    memory, log = private(), Failing()
    market = MarketBee(memory, log)
    memory.apply(SHOPS[1].member.id, 1, 0, insight({"A1": -2.0}))
    with pytest.raises(StorageError):
        await market.update()
    log.fails = False
    assert await market.update() == 1


@pytest.mark.parametrize(("owners", "told"), [(4, 0), (5, 1)])
async def test_between_owners_enough_of_them_stand_behind_what_is_told(owners: int, told: int) -> None:
    shops = [shop_of(Network.CONSORTIUM, number, owner=f"owner {number}") for number in range(6)]
    memory = NetworkPriceMemory(network_of(Network.CONSORTIUM, shops), currency="EUR")
    market = MarketBee(memory, MemoryLog())
    protection = Protection(Unit.OWNER_WEEK, 1_000_000, 0, 0.1)
    for shop in shops[:owners]:
        memory.apply(shop.member.id, 1, 0, insight({"": -2.0}, protection=protection))
    assert await market.update() == told
    assert len(await entries(market)) == told
