"""The pricing cycle on real views: what days, modes, items and a refusing disk make of the book."""

import asyncio
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from support_desk import MONDAY, Desk, shelf

from edge.agent.rules import GuardRules, Rule
from edge.box.days import BusinessDays
from edge.box.records import DayCause, DayRecord, ExperimentRecord, SettingsRecord
from edge.clock import ClockQuality, WallTime
from edge.errors import ConfigError
from edge.health.checks import HealthState
from edge.records.decision import DecisionBatch, Mode
from edge.records.item import Item
from edge.records.receipt import Receipt, ReceiptKind, TillPosition

WEEK = timedelta(days=7)
DAY = timedelta(days=1)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_before_any_sale_every_item_has_its_reference_price(desk: Desk) -> None:
    await desk.cycle.prepare()
    assert desk.views.shelf.price_map() == {item.sku: item.reference_minor for item in shelf()}
    assert desk.books == 1
    assert desk.batches() == []


async def test_a_new_item_gets_its_price_at_once_and_a_removed_one_leaves_with_the_next_book(desk: Desk) -> None:
    await desk.live(2)
    desk.items = [*shelf()[1:], Item("tea", "Tea", "tea", 399, 10_000)]
    await desk.cycle.prepare()
    assert desk.price("tea") == 399
    assert desk.price("juice-1") == 299
    await desk.close(MONDAY + 2 * DAY)
    assert "juice-1" not in desk.views.shelf.price_map()


async def test_a_new_item_does_not_bring_tomorrows_book_into_force(desk: Desk) -> None:
    await desk.live(7)
    tomorrow = desk.views.shelf.book.manifest
    assert tomorrow is not None
    assert tomorrow.valid_from == MONDAY + WEEK
    desk.items = shelf(Item("tea", "Tea", "tea", 399, 10_000))
    await desk.cycle.prepare()
    manifest = desk.views.shelf.book.manifest
    assert manifest is not None
    assert (manifest.number, manifest.valid_from) == (tomorrow.number + 1, MONDAY + WEEK)
    assert manifest.decided_through == tomorrow.decided_through


async def test_shadow_and_off_show_the_owners_prices_exactly_also_below_cost(desk: Desk) -> None:
    await desk.cycle.prepare()
    for number in range(21):
        day = MONDAY + number * DAY
        await desk.close(day)
        opening = day + DAY
        for item in shelf():
            if item.category != "juice":
                assert desk.price(item.sku) == item.reference_on(opening), (item.sku, opening)
    assert desk.price("milk-1") == 119
    assert [batch.business_day for batch in desk.batches("milk")] == [MONDAY + n * WEEK for n in (1, 2, 3)]
    assert {batch.mode for batch in desk.batches("milk")} == {Mode.SHADOW}
    assert desk.batches("bread") == []
    # What shadow would have done is recorded: the guard's floor keeps it above cost where the owner sold below.
    below = next(batch for batch in desk.batches("milk") if batch.business_day == MONDAY + WEEK)
    assert below.chosen[list(below.skus).index("milk-1")] >= 82


async def test_live_publishes_what_was_decided_and_the_day_comes_last(desk: Desk) -> None:
    await desk.live(21)
    assert [batch.business_day for batch in desk.batches("juice")] == [MONDAY + n * WEEK for n in (1, 2, 3)]
    newest = desk.batches("juice")[-1]
    assert newest.mode is Mode.LIVE
    assert {sku: desk.price(sku) for sku in newest.skus} == dict(
        zip(newest.skus, newest.published.tolist(), strict=True)
    )
    assert any((batch.published != batch.reference).any() for batch in desk.batches("juice"))  # it did price
    days = [record for record in desk.records if isinstance(record, DayRecord)]
    assert [record.day for record in days] == [MONDAY + n * DAY for n in range(21)]
    assert {record.cause for record in days} == {DayCause.TILLS}
    assert isinstance(desk.records[-1], DayRecord)


async def test_between_decisions_a_moved_reference_keeps_the_multiplier(desk: Desk) -> None:
    await desk.live(14)
    before, old = desk.price("juice-1"), 299
    decided = len(desk.batches("juice"))
    desk.items = [replace(item, reference_minor=399) if item.sku == "juice-1" else item for item in shelf()]
    await desk.close(MONDAY + 14 * DAY)
    held = desk.batches("juice")[-1]
    assert len(desk.batches("juice")) == decided + 1
    assert desk.price("juice-1") == held.published[list(held.skus).index("juice-1")]
    assert abs(np.log(desk.price("juice-1") / 399) - np.log(before / old)) < 0.03  # an ending away at most
    assert Rule.MOVED in Rule(int(held.rules[list(held.skus).index("juice-1")]))
    await desk.close(MONDAY + 15 * DAY)
    assert len(desk.batches("juice")) == decided + 1  # and it is not asked again until its week is over


async def test_modes_follow_the_configuration_into_the_ledger_and_back(desk: Desk) -> None:
    await desk.live(1)
    assert desk.views.shelf.mode("tea") == "shadow"
    for modes in ({"": "off"}, {"juice": "live", "": "live"}, {}):
        desk.modes = modes
        desk.rise()
        await desk.cycle.prepare()
        settings = [record for record in desk.records if isinstance(record, SettingsRecord)][-1]
        assert settings.modes == {"": "shadow", **modes}
        assert desk.views.shelf.mode("tea") == modes.get("", "shadow")
        length = len(desk.log)
        desk.rise()
        await desk.cycle.prepare()
        assert len(desk.log) == length  # nothing changed: nothing written


async def test_a_refused_item_file_degrades_and_keeps_the_items(desk: Desk) -> None:
    await desk.live(1)
    desk.items = ConfigError("shop.items", "items.csv: line 3, column cost: 'abc' is not a decimal number")
    await desk.cycle.prepare()
    (found,) = [check for check in desk.health.checks if check.name == "items"]
    assert found.state is HealthState.DEGRADED
    assert "line 3, column cost" in found.reason
    assert set(desk.views.shelf.items) == {item.sku for item in shelf()}
    await desk.close(MONDAY + DAY)  # days go on
    assert desk.health.state is HealthState.DEGRADED
    desk.items = shelf()
    await desk.cycle.prepare()
    assert desk.health.tree()["state"] == "ok"


async def test_an_item_file_that_the_disk_did_not_take_is_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.box.cycle.RETRY_S", 0.0)
    desk.fail_from = 1
    await desk.cycle.prepare()
    assert desk.log == []
    await desk.until(lambda: desk.appends > 5)
    assert desk.health.tree()["state"] == "degraded"
    desk.fail_from = None
    await desk.until(lambda: desk.books == 1 and desk.health.state is HealthState.OK)
    assert desk.views.shelf.price_map() == {item.sku: item.reference_minor for item in shelf()}


async def test_a_backlog_of_days_is_decided_once_for_the_newest(desk: Desk) -> None:
    await desk.live(1)
    for number in range(1, 14):
        desk.ring(MONDAY + number * DAY)
        desk.ring(MONDAY + number * DAY, end=True)
    last = MONDAY + 13 * DAY
    await desk.until(lambda: desk.views.days.closed_through == last)
    assert [record.day for record in desk.records if isinstance(record, DayRecord)] == [MONDAY, last]
    assert [(b.category, b.business_day) for b in desk.batches()] == [("juice", last + DAY), ("milk", last + DAY)]


async def test_a_week_whose_first_opening_was_missed_begins_late(desk: Desk) -> None:
    await desk.live(7)
    for number in range(7, 15):
        desk.ring(MONDAY + number * DAY)
    desk.ring(MONDAY + 14 * DAY, end=True)  # the Monday is closed together with the week before it
    await desk.until(lambda: desk.views.days.closed_through == MONDAY + 14 * DAY)
    assert [batch.business_day for batch in desk.batches("juice")] == [MONDAY + WEEK, MONDAY + 15 * DAY]
    for number in range(15, 21):
        await desk.close(MONDAY + number * DAY)
    assert desk.batches("juice")[-1].business_day == MONDAY + 21 * DAY  # and the next one on its weekday


@pytest.mark.parametrize("quality", [ClockQuality.FREE, ClockQuality.SYNCED, ClockQuality.FLOOR])
async def test_the_clock_closes_a_day_that_tills_left_open_but_never_a_clock_at_its_floor(
    tmp_path: Path, quality: ClockQuality
) -> None:
    desk = Desk(tmp_path, clock_closes_hours=6)
    await desk.cycle.prepare()
    desk.ring(MONDAY)

    def at(hour: float) -> WallTime:
        midnight = datetime.combine(MONDAY + DAY, datetime.min.time()).astimezone()
        return WallTime(int((midnight.timestamp() + 3600 * hour) * 1000), quality)

    desk.clock.wall_time = at(5.9)
    await pause(desk)
    assert desk.views.days.closed_through is None
    desk.clock.wall_time = at(6.1)
    if quality is ClockQuality.FLOOR:
        await pause(desk)
        assert desk.views.days.closed_through is None
    else:
        await desk.until(lambda: desk.views.days.closed_through == MONDAY)
        (record,) = [record for record in desk.records if isinstance(record, DayRecord)]
        assert (record.day, record.cause) == (MONDAY, DayCause.CLOCK)


async def pause(desk: Desk) -> None:
    """Let the cycle look once at everything and come to rest."""
    task = asyncio.create_task(desk.cycle.run())
    for _ in range(20):
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("slots", [200, 2])
async def test_a_crash_at_any_step_ends_where_no_crash_would_have(tmp_path: Path, slots: int) -> None:
    """Every append of the round that closes a week fails once, and the process dies there."""
    guard = GuardRules(menu_cost_minor=0.0, changes_per_day=slots)
    modes = {"juice": "live", "milk": "live"}
    items = shelf()[:3] + [replace(item, promotions=()) for item in shelf()[3:5]]

    sunday = MONDAY + 13 * DAY
    first = Desk(tmp_path, modes=modes, items=items, guard=guard)
    await first.live(13)
    first.ring(sunday)
    first.ring(sunday, end=True)

    async def again() -> Desk:
        desk = Desk(tmp_path, modes=modes, items=items, guard=guard)
        desk.log = list(first.log)
        desk.rise()
        await desk.cycle.prepare()
        return desk

    whole = await again()
    begun = whole.appends
    await whole.closed(sunday)
    steps = whole.appends - begun
    assert steps >= 4  # two batches, the book, the day
    for step in range(1, steps + 1):
        desk = await again()
        desk.fail_from = desk.appends + step
        await desk.refused()
        desk.fail_from = None
        desk.rise()
        await desk.cycle.prepare()
        await desk.closed(sunday)
        assert desk.log == whole.log, f"after a crash at step {step} of {steps}"
        assert desk.views.shelf.prices == whole.views.shelf.prices
        if slots == 2:
            changed = [
                int((b.published != b.previous).sum()) for b in desk.batches() if b.business_day == date(2026, 1, 19)
            ]
            assert sum(changed) <= slots


async def test_what_is_decided_after_an_opening_waits_for_the_next_one(desk: Desk) -> None:
    await desk.live(6)
    desk.ring(MONDAY + 6 * DAY)  # Sunday is never ended ...
    desk.ring(MONDAY + 7 * DAY)  # ... and over only when Monday has begun: it is too late for Monday's prices
    await desk.closed(MONDAY + 6 * DAY)
    manifest = desk.views.shelf.book.manifest
    assert manifest is not None
    assert manifest.decided_through == MONDAY + 6 * DAY
    assert all(batch.business_day > MONDAY + 7 * DAY for batch in desk.batches("juice"))
    assert all(published.since != (MONDAY + 7 * DAY).toordinal() for published in desk.views.shelf.prices.values())


async def test_a_shop_that_rests_on_sunday_gets_mondays_prices_on_saturday_evening(desk: Desk) -> None:
    await desk.cycle.prepare()
    for number in range(5 * 7):
        if (MONDAY + number * DAY).weekday() != 6:
            await desk.close(MONDAY + number * DAY)
    assert desk.batches("juice")[-1].business_day == MONDAY + 5 * WEEK
    manifest = desk.views.shelf.book.manifest
    assert manifest is not None
    assert manifest.decided_through == MONDAY + 33 * DAY  # Saturday


def test_a_till_far_ahead_of_the_others_does_not_postpone_prices() -> None:
    days = BusinessDays(MONDAY)
    for lane, ahead in (("1", 1), ("2", 2), ("3", 60)):
        days.observe(
            Receipt(lane, TillPosition(1, 1), ReceiptKind.DAY_END, MONDAY + ahead * DAY, wall_ms=0, currency="EUR")
        )
    assert days.newest_after(MONDAY) == MONDAY + 2 * DAY
    assert days.newest_after(MONDAY + 5 * DAY) == MONDAY + 5 * DAY


async def test_the_experiments_rules_are_logged_once_before_they_govern(desk: Desk) -> None:
    await desk.live(8)
    found = [at for at, record in enumerate(desk.records) if isinstance(record, ExperimentRecord)]
    assert len(found) == 1
    assert found[0] < min(at for at, record in enumerate(desk.records) if isinstance(record, DecisionBatch))
    desk.rise()
    await desk.cycle.prepare()
    assert sum(isinstance(record, ExperimentRecord) for record in desk.records) == 1
