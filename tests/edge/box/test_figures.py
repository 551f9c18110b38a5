"""Figures over crashes: every receipt counted once, every post-void taken back once, whatever was saved when."""

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_sharing import ITEMS, MONDAY, Shop

from edge.box.figures import FILE_NAME, Figures
from edge.memory.daybook import DayBook
from edge.privacy.aggregate import Window
from edge.privacy.anonymiser import Anonymiser, Terms
from edge.privacy.budget import BudgetLedger, caps_of
from edge.privacy.identifiers import Cell
from edge.privacy.rules import PrivacyRules
from edge.records.history import week_of
from edge.records.message import Network
from edge.records.receipt import ReceiptLine

RULES = PrivacyRules(window_weeks=1, lag_weeks=0, shops_min=1, receipt_cells_max=4)
WEEK = week_of(MONDAY)
PRICE = {item.sku: item.reference_minor for item in ITEMS}


class Till(Shop):
    """A shop whose figures are fed by hand, without a network."""

    anonymiser: Anonymiser
    figures: Figures

    async def open(self, *, rules: PrivacyRules = RULES, days: bool = True) -> None:
        await self.start(run=False)
        self.figures = Figures(self.ledger, self.views)
        if days:
            self.figures.want_days()
        self.join(rules)
        await self.figures.catch_up()

    def join(self, rules: PrivacyRules, *, fresh: bool = False) -> None:
        async def append(_block: bytes) -> None:
            pass

        terms = Terms(b"n" * 32, Network.CONSORTIUM, 1, 3, rules)
        ledger = BudgetLedger.opened(caps_of([rules]), (), append)
        self.anonymiser = Anonymiser(terms, self.views.public_list(), ledger, lambda _bits: 0, WEEK)
        self.figures.add(self.anonymiser, self.state, fresh=fresh)

    def counted(self) -> int:
        """Receipts in the sums of the first week."""
        return sum(self.anonymiser.accumulator.sums(Window(WEEK, 1), Cell("juice")).counts)

    async def sell_juice(self, **more: object) -> int:
        return await self.ring(ReceiptLine("juice-1", 1000, PRICE["juice-1"], PRICE["juice-1"]), **more)  # type: ignore[arg-type]


async def test_what_came_after_the_save_is_counted_once(tmp_path: Path) -> None:
    till = Till(tmp_path / "s")
    await till.open()
    for _ in range(3):
        await till.sell_juice()
    await till.figures.save()
    for _ in range(2):
        await till.sell_juice()
    assert till.counted() == 5
    await till.stop(crash=True)
    for _ in range(2):  # and again
        await till.open()
        assert till.counted() == 5
        assert till.figures.daybook.receipts(MONDAY) == 5
        await till.stop(crash=True)


async def test_a_post_void_across_the_save_takes_back_once(tmp_path: Path) -> None:
    till = Till(tmp_path / "s")
    await till.open()
    first, _ = await till.sell_juice(), await till.sell_juice()
    await till.figures.save()
    await till.ring(voids=first)
    await till.ring(voids=first)  # the till says it twice
    late = await till.sell_juice()
    await till.ring(voids=late)
    await till.stop(crash=True)
    await till.open()
    assert till.counted() == 1
    await till.figures.save()
    await till.stop(crash=True)
    await till.open()
    assert till.counted() == till.figures.daybook.receipts(MONDAY) == 1
    await till.stop()


async def test_what_was_cancelled_before_it_was_read_again_is_not_taken_back_later(tmp_path: Path) -> None:
    """Neither counted nor taken back in the first reading, so not taken back in the second."""
    till = Till(tmp_path / "s")
    await till.open()
    first, _ = await till.sell_juice(), await till.sell_juice()
    await till.ring(voids=first)
    for _ in range(3):
        await till.stop(crash=True)
        await till.open()
        assert till.counted() == 1
    await till.stop()


async def test_a_damaged_file_begins_again_with_the_next_receipt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    till = Till(tmp_path / "s")
    await till.open()
    await till.sell_juice()
    await till.stop(crash=True)
    (till.state / FILE_NAME).write_bytes(b"nothing")
    await till.open()
    assert till.counted() == 0
    assert "sums for the network begin again" in caplog.text
    await till.sell_juice()
    assert till.counted() == 1
    await till.stop()


async def test_other_rules_begin_again_and_are_fed_alone(tmp_path: Path) -> None:
    till = Till(tmp_path / "s")
    await till.open()
    await till.sell_juice()
    before = till.anonymiser
    till.join(replace(RULES, ladder_rungs=8), fresh=True)
    await till.figures.catch_up()
    await till.sell_juice()
    assert till.counted() == 1
    assert sum(before.accumulator.sums(Window(WEEK, 1), Cell("juice")).counts) == 1
    await till.stop()


async def test_a_day_book_that_began_in_the_middle_knows_what_it_lacks(tmp_path: Path) -> None:
    """Four closed days: the first is not read again at a start, and neither are receipts rung ahead of its end."""
    till = Till(tmp_path / "s")
    await till.open()
    for number in range(5):
        await till.sell_juice()
        await till.sell_juice(day=till.day + timedelta(days=1))  # another lane is a day ahead
        if number < 4:
            await till.close_day()
    await till.stop(crash=True)
    await till.open()
    book, memory = till.figures.daybook, till.views.memory
    days = [MONDAY + timedelta(days=number) for number in range(6)]
    whole = [book.receipts(day) == memory.day_totals(day).receipts > 0 for day in days]
    assert whole == [False, False, False, True, True, True]
    assert book.receipts(days[2]) == 1  # of two
    await till.stop()


async def test_who_joins_while_sales_go_on_misses_none(tmp_path: Path) -> None:
    till = Till(tmp_path / "s")
    await till.start(run=False)
    till.figures = Figures(till.ledger, till.views)
    for _ in range(300):
        await till.sell_juice()
    till.figures.want_days()
    joining = asyncio.create_task(till.figures.catch_up())
    for _ in range(100):
        await till.sell_juice()
    await joining
    await till.sell_juice()
    assert till.figures.daybook.receipts(MONDAY) == till.views.memory.day_totals(MONDAY).receipts == 401
    await till.stop()


Step = tuple[str, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("sale"), st.integers(0, 8)),  # day
        st.tuples(st.just("void"), st.integers(1, 12)),  # of which receipt, known or not
        st.tuples(st.sampled_from(("save", "crash", "stop")), st.just(0)),
    ),
    max_size=24,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_sums_are_those_of_a_model_that_never_crashed(given_steps: list[Step]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            till = Till(Path(folder) / "s")
            await till.open()
            sold: dict[int, int] = {}  # day by number of the receipt
            for what, number in given_steps:
                if what == "sale":
                    sold[await till.sell_juice(day=MONDAY + timedelta(days=number))] = number
                elif what == "void" and number <= till._sequence:
                    await till.ring(voids=number)
                    sold.pop(number, None)
                elif what == "save":
                    await till.figures.save()
                elif what in ("crash", "stop"):
                    if what == "stop":
                        await till.figures.save()
                    await till.stop(crash=True)
                    await till.open()
            weeks = Counter(WEEK + day // 7 for day in sold.values())
            days = Counter(sold.values())
            for week in (WEEK, WEEK + 1):
                assert sum(till.anonymiser.accumulator.sums(Window(week, 1), Cell("juice")).counts) == weeks[week]
            book: DayBook = till.figures.daybook
            for day in range(9):
                assert book.receipts(MONDAY + timedelta(days=day)) == days[day]
            await till.stop()

    asyncio.run(run())
