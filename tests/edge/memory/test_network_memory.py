"""The network memory: content is a function of what was accepted, bounded, answers follow it, and who may ask."""

from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_shared import PAYLOADS, Shop, network_of, payload_of, shop_of

from edge.errors import LocalError, RemoteError
from edge.memory.heard import Heard
from edge.memory.network import NetworkPriceMemory
from edge.memory.network_image import freeze, thaw
from edge.memory.packed import INSIGHTS, ITEM_DAYS, RANGES, TRENDS, pack
from edge.networks.policy import NetworkPolicy
from edge.networks.roster import Revocation
from edge.records.market import PriceRange
from edge.records.message import Network
from edge.records.shared import (
    Coefficient,
    InsightRow,
    ItemDay,
    ModelInsight,
    Payload,
    PriceUpdate,
    Protection,
    RangeRow,
    RangeUpdate,
    TrendUpdate,
    Unit,
)

LIVE = NetworkPolicy(live_use=True)
SHOPS = [shop_of(Network.PRIVATE, number) for number in range(6)]
WEEK = 2930


@dataclass(frozen=True, slots=True)
class Said:
    member: bytes
    epoch: int
    sequence: int
    payload: Payload


def memory_of(shops: list[Shop] = SHOPS, *, bytes_max: int = 1 << 24, **more: object) -> NetworkPriceMemory:
    roster = network_of(Network.PRIVATE, shops, policy=LIVE, epoch=3)
    return NetworkPriceMemory(roster, currency="EUR", bytes_max=bytes_max, **more)  # type: ignore[arg-type]


def tell(memory: NetworkPriceMemory, said: Said) -> bool:
    return memory.apply(said.member, said.epoch, said.sequence, said.payload)


def insight(mean: float, week: int = WEEK, sku: str = "A1", **more: object) -> ModelInsight:
    row = InsightRow(sku, 40, (("price", Coefficient(mean, 0.3)),))
    return ModelInsight("dairy", week, (row,), **more)  # type: ignore[arg-type]


def history(random: Random) -> list[Said]:
    """Records of few categories and weeks, so that versions of one record meet, of different sizes."""
    found = []
    for number in range(random.randint(1, 40)):
        kind = random.choice(PAYLOADS)
        skus = random.sample(["A1", "B1", "C1", "D1"], random.randint(1, 4))
        if kind not in (ItemDay, PriceUpdate) and random.random() < 0.5:
            skus.append("")
        category, week = random.choice(["dairy", "bread"]), random.randint(WEEK, WEEK + 3)
        payload = payload_of(kind, week=week, category=category, skus=skus)
        if isinstance(payload, ModelInsight):
            rows = [
                replace(row, coefficients=(("price", Coefficient(random.gauss(-3, 1), random.uniform(0.1, 1))),))
                for row in payload.rows
            ]
            payload = replace(payload, rows=tuple(rows))
        member = random.choice(SHOPS[:3]).member.id
        found.append(Said(member, random.randint(1, 3), number, payload))
    return found


# --- content ---------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1 << 24, 64 * 12 * 3000, 64 * 12 * 1100]))
def test_what_is_held_does_not_depend_on_the_order(seed: int, bytes_max: int) -> None:
    """With evictions too: the two smaller memories hold some three records a shelf, or one."""
    random = Random(seed)
    said = history(random)
    digests = set()
    for _ in range(4):
        memory = memory_of(bytes_max=bytes_max)
        for each in said:
            tell(memory, each)
        digests.add(memory.digest())
        assert memory.bytes_used <= bytes_max
        random.shuffle(said)
        said = said + said[:3]  # some are told twice
    assert len(digests) == 1


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_a_shelf_that_is_too_small_ends_up_alike_whatever_came_first(seed: int) -> None:
    """Few weeks, many versions of very different sizes, room for some three: and it is the newest run that fits."""
    random = Random(seed)
    said = []
    for _ in range(12):
        skus = [f"S{at:03}" for at in range(random.choice([1, 5, 30, 60]))]
        said.append(payload_of(ModelInsight, week=WEEK + random.randint(0, 4), skus=skus))
    packed = [pack(payload, 1, number, bytes_max=1 << 20) for number, payload in enumerate(said)]
    found = set()
    for _ in range(6):
        random.shuffle(packed)
        heard = Heard(64 * 12 * 1500, lambda *_: None)  # 7,500 bytes for insights
        for record in packed:
            heard.put(b"m", record)
        found.add(tuple((record.week, record.sequence) for _, record in heard.records()))
    assert len(found) == 1
    expected, room = [], heard.room(INSIGHTS)
    for week in sorted({record.week for record in packed}, reverse=True):
        versions = [record for record in packed if record.week == week]
        room -= max(record.charge for record in versions)
        if room < 0:
            break
        expected.append((week, max(record.sequence for record in versions)))
    assert found == {tuple(reversed(expected))}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_answers_after_many_changes_are_those_of_a_fresh_memory(seed: int) -> None:
    """Asking between the records fills what is kept of answers; the end must not show it."""
    random = Random(seed)
    said = history(random)
    memory, fresh = memory_of(), memory_of()
    for each in said:
        tell(memory, each)
        if random.random() < 0.5:
            memory.insights("dairy")
            memory.trend("dairy")
            memory.ranges("bread")
    for each in sorted(said, key=lambda each: each.sequence):
        tell(fresh, each)
    for category in {each.payload.category for each in said}:
        assert memory.insights(category) == fresh.insights(category)
        for sku in {row.sku for each in said for row in each.payload.rows}:
            assert memory.trend(category, sku) == fresh.trend(category, sku)
            assert memory.ranges(category, sku) == fresh.ranges(category, sku)
    assert memory.peers() == fresh.peers()
    assert memory.freshness() == fresh.freshness()


def test_a_later_place_wins_not_a_later_clock() -> None:
    memory, member = memory_of(), SHOPS[0].member.id
    assert memory.apply(member, 2, 5, insight(-2.0))
    assert not memory.apply(member, 2, 4, insight(-1.0))
    assert not memory.apply(member, 1, 9000, insight(-1.0))
    assert memory.insights("dairy")["A1"]["price"].mean == pytest.approx(-2.0)
    assert memory.apply(member, 3, 0, insight(-3.0))
    assert memory.insights("dairy")["A1"]["price"].mean == pytest.approx(-3.0)
    counts = memory.counts
    assert (counts.taken, counts.superseded, counts.repeated) == (2, 2, 0)


def test_the_oldest_weeks_go_and_a_member_crowds_out_nobody() -> None:
    memory = memory_of(bytes_max=64 * 12 * 1000)
    quiet, loud = SHOPS[0].member.id, SHOPS[1].member.id
    memory.apply(quiet, 1, 0, insight(-2.0, WEEK - 50))
    for number in range(100):
        memory.apply(loud, 1, number, insight(-3.0, WEEK + number))
    held = {(member, record.week) for member, record in memory.heard.records()}
    assert (quiet, WEEK - 50) in held
    assert {week for member, week in held if member == loud} == set(range(WEEK + 100 - len(held) + 1, WEEK + 100))
    assert memory.counts.evicted == 100 - (len(held) - 1)
    assert not memory.apply(loud, 1, 200, insight(-3.0, WEEK))  # what had to go does not come back
    assert memory.counts.forgotten == 1


def test_where_not_all_fits_every_category_keeps_some_members() -> None:
    shops = [shop_of(Network.PRIVATE, number) for number in range(40)]
    memory = memory_of(shops, bytes_max=64 * 12 * 1000)  # 5,000 bytes for insights: some six records
    names = [f"category {number:02}" for number in range(12)]
    for name in names:
        for shop in shops:
            memory.apply(shop.member.id, 1, 0, replace(insight(-2.0), category=name))
    peers = [len(memory.heard.newest[INSIGHTS, name]) for name in names]
    assert sum(peers) < len(shops) * len(names) * 0.7
    assert min(peers) > 10


def test_of_a_record_larger_than_its_shelf_the_first_rows_are_kept() -> None:
    payload = payload_of(ModelInsight, skus=["", *(f"S{number:03}" for number in range(100))])
    whole = pack(payload, 1, 0, bytes_max=1 << 20)
    cut = pack(payload, 1, 0, bytes_max=whole.charge // 2)
    assert whole.rows[: len(cut.rows)] == cut.rows
    assert cut.rows[0] == ""
    assert cut.charge <= whole.charge // 2
    assert len(cut.numbers) == len(cut.rows)
    assert len(pack(payload, 1, 0, bytes_max=1).rows) == 1


def test_what_is_charged_is_about_what_is_taken() -> None:
    """Measured here, so that the bound in bytes stays one when the classes change."""
    import tracemalloc  # noqa: PLC0415 - slows everything down once it is started

    heard = Heard(1 << 40, lambda *_: None)
    rows = [""] + [f"40123456{number:05}" for number in range(10)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2000):
            category = f"category {number % 20}"
            payload = payload_of(ModelInsight, week=WEEK + number // 20, category=category, skus=list(rows))
            heard.put(b"m" * 32, pack(payload, 1, number, bytes_max=1 << 30))
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.7 < heard.bytes_used / taken < 1.4


# --- answers ---------------------------------------------------------------------------------------------------------


def test_insights_pool_members_by_item_and_term_and_leave_ourselves_out() -> None:
    own = SHOPS[0].member.id
    memory = memory_of(own=own)
    memory.apply(own, 1, 0, insight(-9.0))
    for number, shop in enumerate(SHOPS[1:]):
        memory.apply(shop.member.id, 1, 0, insight(-2.0 - number / 10))
    found = memory.insights("dairy")
    assert set(found) == {"A1"}
    assert set(found["A1"]) == {"price"}
    assert found["A1"]["price"].mean == pytest.approx(-2.2)
    assert found["A1"]["price"].shops == 5
    assert memory.insights("dairy", with_own=True)["A1"]["price"].shops == 6
    assert memory.insights("bread") == {}
    assert own not in {peer.member for peer in memory.peers()}


def test_only_a_members_newest_week_counts() -> None:
    memory, member = memory_of(), SHOPS[1].member.id
    memory.apply(member, 1, 1, insight(-2.0, WEEK + 1))
    memory.apply(member, 1, 2, insight(-4.0, WEEK))
    assert memory.insights("dairy")["A1"]["price"].mean == pytest.approx(-2.0)


def test_noise_and_age_are_carried_along() -> None:
    memory = memory_of()
    noisy = Protection(Unit.RECEIPT, 1_000_000, 0, 0.5)
    memory.apply(SHOPS[1].member.id, 1, 0, insight(-2.0, protection=noisy))
    found = memory.insights("dairy")["A1"]["price"]
    assert found.deviation == pytest.approx(0.5)
    assert found.week == WEEK
    assert memory.insights("dairy", now=WEEK + 52)["A1"]["price"].error > found.error
    assert memory.insights("dairy", now=WEEK + 200) == {}


def test_trends_and_ranges() -> None:
    memory = memory_of()
    for number, shop in enumerate(SHOPS):
        memory.apply(shop.member.id, 1, 0, payload_of(TrendUpdate, week=WEEK, skus=["", "A1"]))
        span = RangeRow("", PriceRange(100 + number, 200 + number), -0.02, 0.1)
        currency = "USD" if number == 5 else "EUR"
        memory.apply(shop.member.id, 1, 0, RangeUpdate("dairy", WEEK, 4, currency, (span,)))
    trend = memory.trend("dairy")
    assert trend is not None
    assert trend.trend.mean == pytest.approx(0.01)
    assert trend.season.mean == pytest.approx(0.0953, abs=1e-3)
    assert memory.trend("dairy", "A1") == trend
    assert memory.trend("dairy", "B1") is None
    spans = memory.ranges("dairy")
    assert spans is not None
    assert (spans.min, spans.max, spans.log_mean.shops) == (102, 202, 5)
    assert memory.ranges("bread") is None
    assert memory.freshness() == {RANGES: WEEK, TRENDS: WEEK}
    assert memory.categories(TRENDS) == ("dairy",)
    assert memory.skus(TRENDS, "dairy") == ("", "A1")


def test_a_sum_of_several_owners_is_news_once() -> None:
    shops = [shop_of(Network.CONSORTIUM, number, owner=f"owner {number}") for number in range(6)]
    memory = NetworkPriceMemory(network_of(Network.CONSORTIUM, shops), currency="EUR")
    together = Protection(Unit.OWNER_WEEK, 1_000_000, 0, 0.1, shops=12, owners=6)
    for shop in shops:
        memory.apply(shop.member.id, 1, 0, insight(-2.0, protection=together))
    found = memory.insights("dairy", live=False)["A1"]["price"]
    assert (found.shops, found.owners) == (12, 6)
    assert found.error > 0.3


# --- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owners", "policy", "answered"),
    [
        (["acme"] * 6, LIVE, True),
        (["acme"] * 6, NetworkPolicy(), False),
        ([f"owner {n}" for n in range(6)], NetworkPolicy(), False),
        ([f"owner {n}" for n in range(6)], LIVE, False),
        (["acme"] * 5 + ["other"], LIVE, False),
    ],
)
def test_prices_hear_of_others_only_where_one_owner_allows_it(
    owners: list[str], policy: NetworkPolicy, answered: bool
) -> None:
    shops = [shop_of(Network.CONSORTIUM, n, owner=owner) for n, owner in enumerate(owners)]
    memory = NetworkPriceMemory(network_of(Network.CONSORTIUM, shops, policy=policy), currency="EUR")
    for shop in shops:
        memory.apply(shop.member.id, 1, 0, insight(-2.0))
        memory.apply(shop.member.id, 1, 0, payload_of(TrendUpdate, week=WEEK, skus=[""]))
        memory.apply(shop.member.id, 1, 0, payload_of(RangeUpdate, week=WEEK, skus=[""]))
    assert bool(memory.insights("dairy")) is answered
    assert (memory.trend("dairy") is not None) is answered
    assert (memory.ranges("dairy") is not None) is answered
    assert memory.insights("dairy", live=False)
    assert memory.trend("dairy", live=False)
    assert memory.ranges("dairy", live=False)


# --- rosters ---------------------------------------------------------------------------------------------------------


def test_what_a_roster_no_longer_counts_goes_and_the_rest_must_be_told_again() -> None:
    memory = memory_of()
    bad = SHOPS[0]
    for shop in SHOPS:
        memory.apply(shop.member.id, 3, 4, insight(-2.0))
        memory.apply(shop.member.id, 3, 9, insight(-8.0))
    assert not vars(memory)["incomplete"]
    closed = Revocation(bad.member, 3, dict.fromkeys(bad.member.signers, 5), "stolen")
    memory.set_roster(network_of(Network.PRIVATE, SHOPS, policy=LIVE, epoch=4, revoked=[closed]))
    assert memory.insights("dairy")["A1"]["price"].shops == 5
    assert memory.incomplete  # what block 9 had replaced, block 4, still counts
    assert not memory.apply(bad.member.id, 3, 9, insight(-8.0))
    assert not memory.apply(b"x" * 32, 3, 0, insight(-8.0))
    memory.clear()
    assert memory.digest() == memory_of().digest()
    assert memory.apply(bad.member.id, 3, 4, insight(-2.0))
    assert not vars(memory)["incomplete"]


def test_room_is_divided_anew_where_a_network_has_grown() -> None:
    memory = memory_of(bytes_max=64 * 12 * 3000)
    for number in range(15):
        memory.apply(SHOPS[0].member.id, 1, number, insight(-2.0, WEEK + number))
    before = memory.bytes_used
    many = [shop_of(Network.PRIVATE, number) for number in range(100)]
    memory.set_roster(network_of(Network.PRIVATE, many, policy=LIVE, epoch=3))
    assert 0 < memory.bytes_used < before
    assert not vars(memory)["incomplete"]  # a prefix of what was there: nothing else would have been kept
    memory.set_roster(network_of(Network.PRIVATE, SHOPS, policy=LIVE, epoch=3))
    assert memory.incomplete


def test_a_memory_is_of_one_network() -> None:
    with pytest.raises(LocalError, match="one network"):
        memory_of().set_roster(network_of(Network.PUBLIC, []))


# --- between two runs ------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40), st.sampled_from([1 << 24, 64 * 12 * 1100]))
def test_an_image_holds_everything_and_goes_on_alike(seed: int, cut: int, bytes_max: int) -> None:
    said = history(Random(seed))
    memory, again = memory_of(bytes_max=bytes_max), memory_of(bytes_max=bytes_max)
    for each in said[:cut]:
        tell(memory, each)
    cursor = {each.member: each.sequence for each in said}
    image = freeze(memory, cursor, b"marks").encode()
    assert thaw(image, again) == (cursor, b"marks")
    assert freeze(again, cursor, b"marks").encode() == image
    for each in said[cut:]:
        tell(memory, each)
        tell(again, each)
    assert again.digest() == memory.digest()
    assert again.week == memory.week
    assert again.insights("dairy") == memory.insights("dairy")


def test_a_foreign_or_damaged_image_is_refused() -> None:
    memory = memory_of()
    memory.apply(SHOPS[0].member.id, 1, 0, payload_of(ItemDay, week=WEEK))
    image = freeze(memory, {b"f" * 32: 7}, b"").encode()
    with pytest.raises(RemoteError, match="hash"):
        thaw(image[:-1] + b"\x00", memory_of())
    other = NetworkPriceMemory(network_of(Network.PRIVATE, SHOPS), currency="USD")
    with pytest.raises(RemoteError, match="another network"):
        thaw(image, other)
    again = memory_of()
    thaw(image, again)
    assert {record.kind for _, record in again.heard.records()} == {ITEM_DAYS}
    assert INSIGHTS not in again.freshness()
