import dataclasses
import random
from collections.abc import Sequence
from fractions import Fraction

import pytest
from support_privacy import BREAD, CAPS, LANE, LIST, MILK, NETWORK, OTHER, Disk, monday, receipt

from edge.encoding import cbor
from edge.errors import LocalError, RecordInvalid, RemoteError, StorageError
from edge.limits import RELEASE_CELLS_MAX
from edge.privacy.aggregate import Window
from edge.privacy.anonymiser import Anonymiser, ReleaseRequest, Terms
from edge.privacy.budget import Budget, BudgetLedger, Spent
from edge.privacy.identifiers import Cell, Listed, PublicList
from edge.privacy.left import accounts, left_this_shop
from edge.privacy.released import Cleared, Protected, Released, encode_payload, released
from edge.privacy.reservation import SUMS, Charge, ReleaseKey, Reservation, encode, owner_charges
from edge.privacy.rules import PrivacyRefused, PrivacyRules
from edge.records.market import MarketTrend, PriceRange
from edge.records.message import Network
from edge.records.shared import (
    UNPROTECTED,
    DayRow,
    ItemDay,
    Protection,
    RangeRow,
    RangeUpdate,
    TrendRow,
    TrendUpdate,
    Unit,
)

RULES = PrivacyRules(lag_weeks=0, receipts_min=100)
CHAIN = Terms(NETWORK, Network.CONSORTIUM, owners=1, shops=10, rules=RULES)
WINDOW = Window(2900, 4)
SHOPS = Protection(Unit.RECEIPT, 1_000_000, 0, 0.01, shops=12, owners=1)


def anonymiser(disk: Disk, terms: Terms = CHAIN, seed: int = 1, start_week: int = 2900) -> Anonymiser:
    return Anonymiser(terms, LIST, disk.ledger(), random.Random(seed).getrandbits, start_week)


def fill(found: Anonymiser, receipts: int = 2000, week: int = 2900, first: int = 0) -> None:
    """Milk at 10 % below its list price, bread at it; a receipt of each in turn."""
    for n in range(receipts):
        found.add(first + n, receipt(week + n % 4, [(MILK, 180)] if n % 2 else [(BREAD, 300)], sequence=n + 1))


def trend(shops: Protection = SHOPS, sku: str = "", category: str = "dairy", week: int = 2903) -> TrendUpdate:
    return TrendUpdate(category, week, (TrendRow(sku, MarketTrend(week, 0.01, 0.1, 1.0), 0.1, 0.1, 0.1),), shops)


async def refused(found: Anonymiser, request: ReleaseRequest) -> str:
    with pytest.raises(PrivacyRefused) as caught:
        await found.release(request)
    return caught.value.reason


async def test_a_window_is_released_once_it_is_over_with_what_the_shop_charged() -> None:
    disk = Disk()
    found = anonymiser(disk)
    fill(found)
    assert found.due(2903) == []
    (request,) = found.due(2904)
    token = await found.release(request)
    assert token.network == NETWORK
    assert token.reservation.charges == (Charge(Unit.RECEIPT, Fraction(1)),)
    by_category = {record.category: record for record in token.records}
    dairy = by_category["dairy"]
    assert isinstance(dairy, RangeUpdate)
    assert (dairy.week, dairy.weeks, dairy.currency) == (2903, 4, "EUR")
    (row,) = dairy.rows
    assert row.sku == ""
    assert row.range.min <= 180 <= row.range.max
    assert row.range.max - row.range.min < 100
    assert row.log_mean == pytest.approx(-0.105, abs=6 * dairy.protection.deviation)
    assert 0 < dairy.protection.deviation < 0.05
    assert dairy.protection.epsilon_micro == 1_000_000
    assert dict(token.receipts)[Cell("dairy")] == pytest.approx(1000, abs=400)
    assert found.due(2904) == []
    assert found.accumulator.windows == {}


async def test_the_same_bytes_after_a_restart_that_lost_everything_but_the_ledger() -> None:
    disk = Disk()
    found = anonymiser(disk)
    fill(found)
    (request,) = found.due(2904)
    first = await found.release(request)
    again = anonymiser(disk, seed=2)
    assert again.due(2904) == []
    assert await again.release(request) == first
    assert again.releases() == [first]
    fill(again)  # the log of receipts is read again: that window takes nothing
    assert again.accumulator.windows == {}


async def test_a_release_whose_writing_fails_leaves_nothing_and_keeps_its_bytes() -> None:
    disk = Disk()
    found = anonymiser(disk)
    fill(found)
    (request,) = found.due(2904)
    await found._ledger.raise_floor(2904)
    disk.full = True
    with pytest.raises(StorageError):
        await found.release(request)
    assert found.releases() == []
    held = found._ledger.budget.held(request.key)
    disk.full = False
    token = await found.release(request)
    assert held is not None
    assert token.reservation.payload == held.payload


async def test_too_few_receipts_are_suppressed_by_their_noised_count() -> None:
    disk = Disk()
    found = anonymiser(disk, dataclasses.replace(CHAIN, rules=dataclasses.replace(RULES, receipts_min=400)))
    fill(found, receipts=20)
    token = await found.release(found.due(2904)[0])
    assert token.records == ()
    assert [cell for cell, _ in token.receipts] == [Cell("bakery"), Cell("dairy")]
    assert found._ledger.budget.spent(Unit.RECEIPT, 2900).epsilon == 1  # the look at the count is paid for


async def test_what_never_sold_is_noised_like_the_rest() -> None:
    """Which cells there are is public; else the presence of one would tell of a single receipt."""
    disk = Disk()
    token = await anonymiser(disk).release(ReleaseRequest(anonymiser(disk).key(WINDOW), 2904))
    assert [cell for cell, _ in token.receipts] == [Cell("bakery"), Cell("dairy")]


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (dataclasses.replace(CHAIN, owners=5), "owners"),
        (dataclasses.replace(CHAIN, shops=2), "shops"),
        (dataclasses.replace(CHAIN, kind=Network.PRIVATE), "network"),
        (dataclasses.replace(CHAIN, kind=Network.PUBLIC), "network"),
    ],
)
async def test_figures_of_one_shop_leave_only_where_all_have_one_owner(terms: Terms, reason: str) -> None:
    disk = Disk()
    found = anonymiser(disk, terms)
    fill(found)
    assert found.due(3000) == []
    assert await refused(found, ReleaseRequest(found.key(WINDOW), 2904)) == reason
    assert disk.blocks == []


async def test_the_lag_is_kept_and_windows_are_those_of_the_rules() -> None:
    disk = Disk()
    late = dataclasses.replace(CHAIN, rules=dataclasses.replace(RULES, lag_weeks=13))
    found = anonymiser(disk, late)
    assert found.due(2916) == []
    assert [request.key.first for request in found.due(2917)] == [2900]
    assert await refused(found, ReleaseRequest(found.key(WINDOW), 2916)) == "lag"
    for window in (Window(2901, 4), Window(2900, 1), Window(2900, 13)):
        assert await refused(found, ReleaseRequest(found.key(window), 3000)) == "window"
    foreign = ReleaseKey(OTHER, "ranges", "", 2900, 4)
    assert await refused(found, ReleaseRequest(foreign, 3000)) == "window"


async def test_windows_are_due_in_order_from_the_start_and_not_for_ever() -> None:
    found = anonymiser(Disk(), start_week=2898)
    assert [request.key.first for request in found.due(2913)] == [2900, 2904, 2908]
    oldest = found.due(4000)[0].key
    assert 4000 - 160 <= oldest.first < 4000 - 150


async def test_a_spent_budget_is_said_and_the_window_given_up() -> None:
    disk = Disk()
    ledger = disk.ledger()
    await ledger.raise_floor(2904)
    for other in (bytes(32), bytes([1]) * 32):
        await ledger.release(
            ReleaseKey(other, "ranges", "", 2903, 1), (Charge(Unit.RECEIPT, Fraction(1)),), lambda: b""
        )
    found = anonymiser(disk)
    fill(found)
    (request,) = found.due(2904)
    assert await refused(found, request) == "week_spent"
    assert found.accumulator.windows == {}
    assert found.due(2904) == []


async def test_a_clock_set_back_makes_nothing_due_and_nothing_new() -> None:
    disk = Disk()
    found = anonymiser(disk)
    fill(found)
    first = await found.release(found.due(2904)[0])
    assert found.due(2000) == []
    assert found.due(0) == []
    fill(found, first=10_000)  # the same weeks once more, as new receipts
    assert await found.release(ReleaseRequest(found.key(WINDOW), 0)) == first
    assert len(found.releases()) == 1


async def test_items_are_named_only_where_the_rules_say_so() -> None:
    for item_level in (False, True):
        rules = dataclasses.replace(RULES, item_level=item_level)
        found = anonymiser(Disk(), dataclasses.replace(CHAIN, rules=rules))
        fill(found, receipts=4000)
        token = await found.release(found.due(2904)[0])
        assert (MILK.encode() in token.reservation.payload) == item_level
        skus = {row.sku for record in token.records for row in record.rows}
        assert skus == ({"", MILK, BREAD} if item_level else {""})


async def test_nothing_of_a_till_is_in_a_release_or_in_the_ledger() -> None:
    disk = Disk()
    found = anonymiser(disk)
    fill(found)
    await found.release(found.due(2904)[0])
    everything = b"".join(disk.blocks) + found.accumulator.state()
    for canary in (LANE.encode(), (1_790_000_000_123).to_bytes(8, "big"), b"lane"):
        assert canary not in everything


async def test_too_many_cells_are_refused() -> None:
    many = [Listed(f"i{n:05}", "all", 100) for n in range(RELEASE_CELLS_MAX)]
    rules = dataclasses.replace(RULES, item_level=True)
    terms = dataclasses.replace(CHAIN, rules=rules)
    found = Anonymiser(terms, PublicList("EUR", many), Disk().ledger(), random.Random(1).getrandbits, 2900)
    assert await refused(found, found.due(2904)[0]) == "cells"


async def test_the_largest_release_fits_its_limit() -> None:
    many = [Listed(f"{n:014}", "a category with a long name of forty chars", 100) for n in range(RELEASE_CELLS_MAX - 1)]
    rules = dataclasses.replace(RULES, item_level=True, receipts_min=1, ladder_rungs=2)
    terms = dataclasses.replace(CHAIN, rules=rules)
    found = Anonymiser(terms, PublicList("EUR", many), Disk().ledger(), random.Random(1).getrandbits, 2900)
    token = await found.release(found.due(2904)[0])
    assert len(token.receipts) == RELEASE_CELLS_MAX


async def test_a_changed_roster_is_followed_and_another_network_is_not() -> None:
    found = anonymiser(Disk())
    found.set_terms(dataclasses.replace(CHAIN, owners=7))
    assert found.due(3000) == []
    found.set_terms(CHAIN)
    found.set_list(PublicList("EUR", [Listed(MILK, "dairy", 250)]))
    fill(found)
    token = await found.release(found.due(2904)[0])
    assert [cell for cell, _ in token.receipts] == [Cell("dairy")]
    for other in (
        dataclasses.replace(CHAIN, network=OTHER),
        dataclasses.replace(CHAIN, kind=Network.PUBLIC),
        dataclasses.replace(CHAIN, rules=dataclasses.replace(RULES, window_weeks=13)),
    ):
        with pytest.raises(LocalError):
            found.set_terms(other)


# --- private ----------------------------------------------------------------------------------------------------------


def test_a_private_network_takes_raw_records_without_identifiers() -> None:
    private = dataclasses.replace(CHAIN, kind=Network.PRIVATE)
    day = ItemDay(monday(2900), "dairy", "EUR", (DayRow(MILK, 180, 1000, 180),))
    cleared = anonymiser(Disk(), private).clear(day)
    assert (cleared.network, cleared.payload) == (NETWORK, day)
    with pytest.raises(PrivacyRefused) as caught:
        anonymiser(Disk(), CHAIN).clear(day)
    assert caught.value.reason == "network"


# --- tokens -----------------------------------------------------------------------------------------------------------


async def test_tokens_come_from_the_ledger_and_the_first_layer_alone() -> None:
    disk = Disk()
    ledger = disk.ledger()
    key = ReleaseKey(NETWORK, "ranges", "", 2900, 4)
    reservation = Reservation(key, (Charge(Unit.RECEIPT, Fraction(1)),), b"")
    with pytest.raises(LocalError):
        Released(reservation, (), (), object())
    with pytest.raises(LocalError):
        Cleared(NETWORK, trend(), object())
    assert released(ledger, key) is None
    await ledger.raise_floor(2904)
    await ledger.release(key, reservation.charges, lambda: encode_payload([trend()], [(Cell("dairy"), 5)]))
    token = released(ledger, key)
    assert token is not None
    assert (token.records, token.receipts) == ((trend(),), ((Cell("dairy"), 5),))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        cbor.encode([2, [], []]),
        cbor.encode([1, [], [["dairy", 5]]]),
        cbor.encode(
            [1, [{"kind": "item_day", "category": "x", "day": 1, "currency": "EUR", "rows": [["a", 1, 1, 1]]}], []]
        ),
    ],
    ids=["empty", "version", "count", "raw"],
)
def test_a_ledger_with_other_bytes_gives_no_token(payload: bytes) -> None:
    disk = Disk()
    key = ReleaseKey(NETWORK, "ranges", "", 2900, 4)
    disk.blocks.append(encode(Reservation(key, (Charge(Unit.RECEIPT, Fraction(1)),), payload)))
    with pytest.raises(RemoteError):
        released(disk.ledger(), key)


# --- derived ----------------------------------------------------------------------------------------------------------


async def test_a_trend_is_made_from_what_was_released_at_no_further_cost() -> None:
    disk = Disk()
    found = anonymiser(disk)
    fill(found)
    token = await found.release(found.due(2904)[0])
    seen: list[object] = []

    def make(records: Sequence[Protected], receipts: Sequence[tuple[Cell, int]]) -> TrendUpdate:
        seen.extend((records, receipts))
        return trend()

    made = await found.derive(TrendUpdate, "dairy", WINDOW, own=[token], heard=[trend()], make=make)
    assert seen == [[*token.records, trend()], list(token.receipts)]
    assert made.records == (trend(),)
    assert made.reservation.sources == (token.reservation.key,)
    assert found._ledger.budget.spent(Unit.RECEIPT, 2900) == Spent(Fraction(1))
    again = await found.derive(TrendUpdate, "dairy", WINDOW, own=[token], heard=[], make=lambda *_: trend(week=1))
    assert again == made


async def derived(
    terms: Terms, made: Protected, heard: Sequence[Protected] = (trend(),), floor: int = 2904 + 13
) -> Released:
    disk = Disk()
    found = anonymiser(disk, terms)
    await found._ledger.raise_floor(2904 if terms.owners == 1 else floor)
    try:
        return await found.derive(type(made), made.category, WINDOW, own=[], heard=heard, make=lambda *_: made)
    finally:
        assert len(disk.blocks) <= 2


PUBLIC = dataclasses.replace(CHAIN, kind=Network.PUBLIC)


@pytest.mark.parametrize(
    ("terms", "made", "heard", "reason"),
    [
        (dataclasses.replace(CHAIN, kind=Network.PRIVATE), trend(), [trend()], "network"),
        (
            PUBLIC,
            RangeUpdate("dairy", 2903, 4, "EUR", (RangeRow("", PriceRange(1, 2), 0, 0),), SHOPS),
            [trend()],
            "network",
        ),
        (PUBLIC, trend(dataclasses.replace(SHOPS, shops=1)), [trend()], "single"),
        (PUBLIC, trend(dataclasses.replace(SHOPS, shops=2)), [trend()], "single"),
        (PUBLIC, trend(), [trend(UNPROTECTED)], "source"),
        (PUBLIC, trend(UNPROTECTED), [trend()], "source"),
        (PUBLIC, trend(sku=MILK), [trend()], "item"),
        (PUBLIC, trend(category="canary"), [trend()], "unlisted"),
    ],
)
async def test_what_may_not_be_derived(terms: Terms, made: Protected, heard: list[Protected], reason: str) -> None:
    with pytest.raises(PrivacyRefused) as caught:
        await derived(terms, made, heard)
    assert caught.value.reason == reason


RIVALS = dataclasses.replace(PUBLIC, owners=7)  # rules of members who asked for nothing stricter than nothing
RIVALS = dataclasses.replace(RIVALS, rules=dataclasses.replace(RIVALS.rules, owners_min=1, lag_weeks=0))
SUM = Protection(Unit.OWNER_WEEK, 1_000_000, 1, 0.1, shops=12, owners=5)


async def test_rivals_see_only_what_was_made_of_sums_of_five_owners() -> None:
    assert (await derived(RIVALS, trend(SUM))).records == (trend(SUM),)
    for protection in (SHOPS, dataclasses.replace(SUM, owners=4), dataclasses.replace(SHOPS, owners=7)):
        with pytest.raises(PrivacyRefused) as caught:
            await derived(RIVALS, trend(protection))
        assert caught.value.reason == "owners"


async def test_rivals_see_nothing_younger_than_ninety_days() -> None:
    with pytest.raises(PrivacyRefused) as caught:
        await derived(RIVALS, trend(SUM), floor=2904 + 12)
    assert caught.value.reason == "lag"


async def test_a_public_trend_of_many_shops_passes() -> None:
    token = await derived(PUBLIC, trend())
    assert token.records == (trend(),)
    assert token.reservation.heard == 1
    with pytest.raises(RecordInvalid):
        await derived(PUBLIC, trend(), heard=[])  # made from nothing
    with pytest.raises(LocalError):
        await derived(PUBLIC, trend(week=2904))


# --- what left the shop -----------------------------------------------------------------------------------------------


async def test_what_left_is_told_in_plain_words() -> None:
    disk = Disk()
    found = anonymiser(disk)
    fill(found)
    token = await found.release(found.due(2904)[0])
    await found.derive(TrendUpdate, "dairy", WINDOW, own=[token], heard=[], make=lambda *_: trend())
    ledger = BudgetLedger(found._ledger.budget, disk.append)
    await ledger.release(
        ReleaseKey(OTHER, "sums", "dairy", 2900, 4),
        (Charge(Unit.OWNER_WEEK, rho=Fraction(1, 8)),),
        lambda: b"masked",
    )
    delta = Fraction(1, 10**9)
    lines = [one.words("north", delta) for one in left_this_shop(ledger.budget)]
    size = len(token.reservation.payload)
    assert lines[0] == (
        f"price ranges of all categories, 2025-08-04 to 2025-08-31, to north: {size} bytes; "
        "epsilon 1 for any receipt of each of these weeks"
    )
    assert monday(2900).isoformat() == "2025-08-04"
    assert "trends of dairy" in lines[1]
    assert lines[1].endswith("made from 1 earlier releases, at no further cost")
    assert "rho 0.125 (epsilon 3.06 at delta 1e-09) for this owner" in lines[2]
    shown = accounts(ledger.budget, 2899, 6)
    assert [(one.unit, one.week) for one in shown] == [
        *((Unit.RECEIPT, week) for week in range(2900, 2904)),
        *((Unit.OWNER_WEEK, week) for week in range(2900, 2904)),
    ]
    assert shown[3].year.epsilon == 4
    assert shown[0].cap == CAPS.week
    assert left_this_shop(Budget(CAPS)) == []


async def test_parts_of_sums_are_no_releases_to_send_again() -> None:
    disk = Disk()
    found = anonymiser(disk)
    await found._ledger.raise_floor(2904)
    masked = cbor.encode([4, 1, bytes(32), bytes(32), b"masked"])
    key = ReleaseKey(NETWORK, SUMS, "dairy", 2900, 4)
    await found._ledger.release(key, owner_charges(Fraction(1, 8)), lambda: masked)
    assert found.releases() == []
    (left,) = left_this_shop(found._ledger.budget)
    assert left.words("the co-op", Fraction(1, 10**9)).startswith("a masked part of a sum of dairy, ")
