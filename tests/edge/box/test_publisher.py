"""What is tellable to one's own company: days and weeks that are over, whole, cleared for one network."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from support_sharing import CLOCK, ITEMS, MONDAY, Shop

from edge.box.figures import Figures
from edge.box.publisher import WEEKS_AGAIN, PrivatePublisher
from edge.memory.daybook import DayBook
from edge.privacy.released import Cleared
from edge.records import ledger as records
from edge.records.history import week_of, week_start
from edge.records.receipt import ReceiptLine
from edge.records.shared import ItemDay, ModelInsight, PriceUpdate, TrendUpdate, week_behind

NETWORK = b"n" * 32
WEEK = week_of(MONDAY)


async def publisher_of(shop: Shop) -> tuple[PrivatePublisher, DayBook]:
    figures = Figures(shop.ledger, shop.views)
    figures.want_days()
    await figures.catch_up()
    return PrivatePublisher(NETWORK, shop.views, figures.daybook), figures.daybook


def days_of(publisher: PrivatePublisher) -> dict[object, int]:
    """Amounts told of each day."""
    found: dict[object, int] = {}
    for due in publisher.due(0):
        (payload,) = due.payloads
        if isinstance(payload, ItemDay):
            found[payload.day] = found.get(payload.day, 0) + sum(row.amount_minor for row in payload.rows)
    return found


async def test_nothing_is_tellable_before_a_day_is_over(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "s")
    await shop.start(run=False)
    publisher, _ = await publisher_of(shop)
    await publisher.prepare()
    assert list(publisher.due(WEEK)) == []
    await shop.ring(ReceiptLine("juice-1", 1000, 299, 299))
    await publisher.prepare()
    assert list(publisher.due(WEEK)) == []
    await shop.close_day()
    await publisher.prepare()
    assert days_of(publisher) == {MONDAY: 299}
    await shop.stop()


async def test_weeks_are_told_once_they_are_over_and_for_some_weeks(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "s")
    await shop.start(run=False)
    publisher, _ = await publisher_of(shop)
    await shop.sell(6)
    await publisher.prepare()
    assert not any(isinstance(due.payloads[0], PriceUpdate) for due in publisher.due(WEEK))
    await shop.sell(1 + 7 * 13)
    await publisher.prepare()
    dues = list(publisher.due(WEEK))
    for due in dues:
        assert isinstance(due.token, Cleared)
        assert (due.token.network, (due.token.payload,)) == (NETWORK, due.payloads)
    told = {(type(due.payloads[0]), week_behind(due.payloads[0])) for due in dues}
    last = range(WEEK + 13 - WEEKS_AGAIN + 1, WEEK + 14)
    assert {week for kind, week in told if kind is PriceUpdate} == set(last)
    assert {week for kind, week in told if kind is TrendUpdate} == set(last)
    assert (ModelInsight, WEEK + 13) in told
    await shop.stop()


async def test_a_late_receipt_and_a_post_void_are_told_as_a_correction(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "s")
    await shop.start(run=False)
    publisher, _ = await publisher_of(shop)
    first = await shop.ring(ReceiptLine("juice-1", 1000, 299, 299))
    await shop.ring(ReceiptLine("juice-1", 1000, 299, 299))
    await shop.close_day()
    await publisher.prepare()
    assert days_of(publisher) == {MONDAY: 598}
    kept = list(publisher.due(WEEK))
    await publisher.prepare()
    assert all(one is other for one, other in zip(kept, publisher.due(WEEK), strict=True))  # not made again
    await shop.ring(voids=first)
    await publisher.prepare()
    assert days_of(publisher) == {MONDAY: 299}
    await shop.stop()


async def test_half_a_day_is_never_told(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "s")
    await shop.start(run=False)
    await shop.sell(3)
    late = await shop.ring(ReceiptLine("milk-1", 1000, 119, 119), day=MONDAY)
    await shop.close_day()
    publisher, book = await publisher_of(shop)
    assert book.receipts(MONDAY) == 1  # of two: what came before is not read again
    await publisher.prepare()
    assert days_of(publisher).keys() == {MONDAY + timedelta(days=2)}
    await shop.ring(voids=1, day=shop.day)  # of a receipt that the book never saw
    await shop.ring(voids=late, day=shop.day)
    await publisher.prepare()
    assert MONDAY not in days_of(publisher)
    await shop.stop()


async def test_days_are_forgotten_once_their_weeks_speak_for_them(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "s")
    await shop.start(run=False)
    publisher, book = await publisher_of(shop)
    await shop.sell(28)
    await publisher.prepare()
    assert min(book.days) == min(days_of(publisher)) == week_start(WEEK + 1)  # type: ignore[type-var]
    await shop.sell(1)
    await publisher.prepare()
    assert min(book.days) == week_start(WEEK + 2)
    await shop.stop()


async def test_an_item_that_left_the_list_silences_no_other(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "s")
    await shop.start(run=False)
    publisher, _ = await publisher_of(shop)
    await shop.sell(13)
    moved = replace(ITEMS[1], category="milk")
    for record in records.items_records([moved], ["juice-1"], "item file", CLOCK.wall()):
        await shop.log(records.encode(record))
    await shop.sell(1)
    await publisher.prepare()
    skus = {row.sku for due in publisher.due(WEEK) for payload in due.payloads for row in payload.rows}
    assert skus == {"juice-2", "milk-1"}
    categories = {payload.category for due in publisher.due(WEEK) for payload in due.payloads}
    assert categories == {"milk"}
    await shop.stop()
