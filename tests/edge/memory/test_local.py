import random
import tracemalloc
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_memory import MONDAY, WEEK, fed, item, line, memory_over, model_rows, post_void, receipt, rows_of

from edge.errors import LocalError
from edge.limits import HISTORY_WEEKS_MAX
from edge.memory import DayTotals, LocalPriceMemory, MemoryConfig, MemoryImage
from edge.memory import local as local_module
from edge.memory import sales as sales_module
from edge.records.history import week_of
from edge.records.item import Item, Promotion
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

SKUS = ("apple", "bread", "cola")
KINDS = (ReceiptKind.SALE,) * 6 + (ReceiptKind.RETURN, ReceiptKind.VOID, ReceiptKind.DAY_END)


@st.composite
def histories(draw: st.DrawFn) -> list[Receipt]:
    """Receipts of two lanes with dense positions; post-voids name earlier, later and absent ones of their lane."""
    receipts = []
    for lane in ("1", "2"):
        for sequence in range(1, draw(st.integers(0, 12)) + 1):
            kind = draw(st.sampled_from((*KINDS, ReceiptKind.POST_VOID, ReceiptKind.POST_VOID)))
            sign = -1 if kind is ReceiptKind.RETURN else 1
            lines: tuple[ReceiptLine, ...] = ()
            if kind not in (ReceiptKind.POST_VOID, ReceiptKind.DAY_END):
                lines = tuple(
                    ReceiptLine(sku, sign * units, price, sign * (units * price // 1000 - discount))
                    for sku, units, price, discount in draw(
                        st.lists(
                            st.tuples(
                                st.sampled_from(SKUS),
                                st.sampled_from((1000, 2000, 1234)),
                                st.sampled_from((199, 249, 70_000)),
                                st.sampled_from((0, 0, 17)),
                            ),
                            min_size=1,
                            max_size=3,
                        )
                    )
                )
            receipts.append(
                receipt(
                    sequence,
                    *lines,
                    lane=lane,
                    epoch=draw(st.sampled_from((1, 1, 2))),
                    kind=kind,
                    day=MONDAY + timedelta(days=draw(st.integers(0, 40))),
                    voids=TillPosition(1, draw(st.integers(1, 14))) if kind is ReceiptKind.POST_VOID else None,
                    training=draw(st.integers(0, 9)) == 0,
                )
            )
    return receipts


def feed(memory: LocalPriceMemory, ledger: list[Receipt], order: list[int]) -> None:
    for index in order:
        memory.apply_receipt(ledger[index], index)


@settings(max_examples=150, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.integers(1, 50))
def test_any_order_with_duplicates_and_a_restart_gives_what_the_definition_says(
    ledger: list[Receipt], rng: random.Random, changes_max: int
) -> None:
    in_order = memory_over(ledger)
    in_order.apply_items([item("apple"), item("cola")], MONDAY)
    feed(in_order, ledger, list(range(len(ledger))))
    assert rows_of(in_order) == model_rows(ledger)

    shuffled = list(range(len(ledger))) + rng.sample(range(len(ledger)), len(ledger) // 2)  # some arrive again
    rng.shuffle(shuffled)
    cut, listed = sorted((rng.randint(0, len(shuffled)), rng.randint(0, len(shuffled))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sales_module, "CHANGES_MAX", changes_max)  # merges fall anywhere
        first = memory_over(ledger)
        feed(first, ledger, shuffled[:cut])
        second = memory_over(ledger)
        second.restore(MemoryImage.decode(first.snapshot()))
        feed(second, ledger, shuffled[cut:listed])
        second.apply_items([item("apple"), item("cola")], MONDAY)
        feed(second, ledger, shuffled[listed:])
    assert rows_of(second) == model_rows(ledger)
    assert second.snapshot() == in_order.snapshot()
    assert second.snapshot() == second.snapshot()


@settings(max_examples=100, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_forgetting_old_weeks_does_not_depend_on_the_order_of_arrival(
    ledger: list[Receipt], rng: random.Random
) -> None:
    config = MemoryConfig(weeks_max=2)
    order = list(range(len(ledger)))
    snapshots = []
    for _ in range(3):
        memory = memory_over(ledger, config)
        memory.apply_items([item("apple")], MONDAY)
        feed(memory, ledger, order)
        memory.apply_items([item("apple", 300)], MONDAY + timedelta(days=10))
        snapshots.append(memory.snapshot())
        rng.shuffle(order)
    weeks = sorted({week_of(r.business_day) for r in ledger if r.counts})
    assert memory.weeks == weeks[-2:]
    assert rows_of(memory) == {key: row for key, row in model_rows(ledger).items() if key[0] in weeks[-2:]}
    assert len(set(snapshots)) == 1


@given(histories(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_whoever_listens_is_told_what_counts_and_what_is_taken_out(ledger: list[Receipt], rng: random.Random) -> None:
    told: dict[int, int] = {}

    def counted(index: int, said: Receipt, original: int | None) -> None:
        assert said is ledger[index if original is None else original]
        at = index if original is None else original
        told[at] = told.get(at, 0) + (1 if original is None else -1)
        if original is not None:
            assert ledger[index].kind is ReceiptKind.POST_VOID

    memory = LocalPriceMemory(MemoryConfig(), currency="EUR", read_receipt=ledger.__getitem__, on_counted=counted)
    order = list(range(len(ledger)))
    rng.shuffle(order)
    feed(memory, ledger, order * 2)
    rows: dict[tuple[int, str, int], int] = {}
    for at, times in told.items():
        assert times in (0, 1)
        for sold in ledger[at].lines if times else ():
            key = (week_of(ledger[at].business_day), sold.sku, sold.unit_minor)
            rows[key] = rows.get(key, 0) + sold.quantity_milli
    assert {key: units for key, units in rows.items() if units} == {
        key: row[0] for key, row in model_rows(ledger).items() if row[0]
    }


@given(histories())
@settings(max_examples=60, deadline=None)
def test_day_totals_are_the_sums_of_what_counts(ledger: list[Receipt]) -> None:
    memory = fed(*ledger)
    rows = [memory.day_totals(MONDAY + timedelta(days=d)) for d in range(41)]
    expected = model_rows(ledger)
    assert sum(r.units_milli for r in rows) == sum(row[0] for row in expected.values())
    assert sum(r.amount_minor for r in rows) == sum(row[1] for row in expected.values())


def test_a_post_void_subtracts_by_reading_the_ledger_again() -> None:
    sale = receipt(1, line("apple", 2, 199), line("bread", 1, 300))
    memory = fed(sale, receipt(2, line("apple", 1, 199)), post_void(3, 1))
    assert rows_of(memory) == {(WEEK, "apple", 199): (1000, 199, 1)}
    assert memory.day_totals(MONDAY) == DayTotals(receipts=1, lines=1, units_milli=1000, amount_minor=199)
    assert memory.counts.cancelled == 1


def test_a_second_post_void_of_the_same_receipt_takes_nothing_more() -> None:
    memory = fed(receipt(1, line("apple", 2, 199)), receipt(2, line("apple", 1, 199)), post_void(3, 1), post_void(4, 1))
    assert rows_of(memory) == {(WEEK, "apple", 199): (1000, 199, 1)}


def test_a_post_void_cannot_name_the_future() -> None:
    memory = fed(post_void(1, 2), receipt(2, line("apple", 1, 199)))
    assert rows_of(memory) == {(WEEK, "apple", 199): (1000, 199, 1)}
    assert memory.counts.unresolved == 1


def test_a_post_void_whose_receipt_cannot_be_read_is_counted_and_changes_nothing() -> None:
    memory = LocalPriceMemory(MemoryConfig(), currency="EUR", read_receipt=lambda _: None)
    memory.apply_receipt(receipt(1, line("apple", 1, 199)), 0)
    memory.apply_receipt(post_void(2, 1), 1)
    assert memory.counts.unresolved == 1
    assert rows_of(memory) == {(WEEK, "apple", 199): (1000, 199, 1)}


def test_a_ledger_that_answers_with_another_receipt_is_our_own_mistake() -> None:
    other = receipt(7, line("apple", 1, 199))
    memory = LocalPriceMemory(MemoryConfig(), currency="EUR", read_receipt=lambda _: other)
    memory.apply_receipt(receipt(1, line("apple", 1, 199)), 0)
    with pytest.raises(LocalError, match="not receipt"):
        memory.apply_receipt(post_void(2, 1), 1)


def test_another_currency_counts_nothing() -> None:
    memory = fed(receipt(1, line("apple", 1, 199), currency="USD"))
    assert rows_of(memory) == {}
    assert memory.counts.currency == 1


@pytest.mark.parametrize(
    ("shelf_included", "receipt_included", "paid", "kept"),
    [(True, False, 1000, 1190), (False, True, 1190, 1000), (True, True, 1190, 1190), (False, False, 1000, 1000)],
)
def test_amounts_are_kept_with_tax_as_on_the_shelf(
    shelf_included: bool, receipt_included: bool, paid: int, kept: int
) -> None:
    config = MemoryConfig(shelf_tax_included=shelf_included, tax_permille=190)
    sale = receipt(1, line("apple", 10, 119, paid), tax_included=receipt_included)
    back = receipt(2, line("apple", -10, 119, -paid), kind=ReceiptKind.RETURN, tax_included=receipt_included)
    assert rows_of(fed(sale, config=config)) == {(WEEK, "apple", 119): (10_000, kept, 1)}
    assert rows_of(fed(sale, back, config=config)) == {}


def test_a_price_point_gives_the_range_and_compares_the_margin_with_the_weeks_before() -> None:
    receipts = []
    for week in range(4):  # cost 1.00; margins 10 × (2 − 1) = 10 a week, then 30
        pieces, price = (10, 200) if week < 3 else (30, 200)
        receipts.append(receipt(week + 1, line("apple", pieces, price), day=MONDAY + timedelta(weeks=week)))
    receipts.append(receipt(5, line("apple", 1, 150), day=MONDAY + timedelta(weeks=3)))
    memory = fed(*receipts)
    memory.apply_items([item("apple", 200, 10_000)], MONDAY)
    point = memory.price_point("apple", WEEK + 3)
    assert point is not None
    assert (point.price_range.min, point.price_range.max) == (150, 200)
    assert point.success_metric == pytest.approx((30.5 - 10) / (30.5 + 10))
    effective = 1 / (1 / 2 + 1 / 3)  # 2 lines against 3
    assert point.confidence == pytest.approx(effective / (effective + 20))
    assert datetime.fromtimestamp(point.timestamp / 1000, UTC) == datetime(2026, 6, 22, tzinfo=UTC)
    first = memory.price_point("apple", WEEK)
    assert first is not None
    assert (first.success_metric, first.confidence) == (0.0, 0.0)  # nothing to compare with
    assert memory.price_point("apple", WEEK + 4) is None
    assert memory.price_point("pear", WEEK) is None
    assert memory.price_points("apple", WEEK, WEEK + 4)[3:] == (point, None)
    assert memory.price_points("pear", WEEK, WEEK + 1) == (None, None)


def test_an_unknown_cost_leaves_the_success_unknown() -> None:
    memory = fed(*(receipt(w + 1, line("apple", 5, 200), day=MONDAY + timedelta(weeks=w)) for w in range(3)))
    point = memory.price_point("apple", WEEK + 2)
    assert point is not None
    assert (point.success_metric, point.confidence) == (0.0, 0.0)


def test_a_price_at_which_everything_came_back_is_not_in_the_range() -> None:
    sale, dear = receipt(1, line("apple", 1, 200)), receipt(2, line("apple", 1, 900))
    back = receipt(3, line("apple", -1, 900), kind=ReceiptKind.RETURN)
    point = fed(sale, dear, back).price_point("apple", WEEK)
    assert point is not None
    assert (point.price_range.min, point.price_range.max) == (200, 200)


def test_frequent_questions_are_answered_from_the_cache_until_their_item_changes() -> None:
    memory = fed(receipt(1, line("apple", 1, 200), line("bread", 1, 300)))
    first = memory.price_point("apple", WEEK)
    assert memory.price_point("apple", WEEK) is first
    assert (memory.cache.hits, memory.cache.misses) == (1, 1)
    memory.apply_receipt(receipt(2, line("bread", 1, 310)), 1)
    assert memory.price_point("apple", WEEK) is first
    memory.apply_receipt(receipt(3, line("apple", 1, 210)), 2)
    second = memory.price_point("apple", WEEK)
    assert second is not None
    assert second.price_range.max == 210
    memory.apply_items([item("apple")], MONDAY)
    misses = memory.cache.misses
    memory.price_point("apple", WEEK)
    assert memory.cache.misses == misses + 1


def history_memory() -> LocalPriceMemory:
    """Ten weeks, two items: cola sells 20 a week but nothing in week 5; apple 2 a week but nothing in week 4."""
    receipts, sequence = [], 0
    for week in range(10):
        day = MONDAY + timedelta(weeks=week)
        for sku, pieces, price, quiet in (("cola", 20, 100, 5), ("apple", 2, 250, 4)):
            if week not in (quiet, 8):  # week 8: closed
                sequence += 1
                receipts.append(receipt(sequence, line(sku, pieces, price), day=day))
    memory = fed(*receipts)
    deal = Promotion(MONDAY + timedelta(weeks=2), MONDAY + timedelta(weeks=2, days=6), 80, featured=True)
    half = Promotion(MONDAY + timedelta(weeks=3), MONDAY + timedelta(weeks=3, days=3), 90)
    cola: Item = item("cola", 100, 4000, promotions=(deal, half))
    memory.apply_items([cola, item("apple", 250, 9000), item("salt", 50, 1000, "spice")], MONDAY)
    return memory


def test_history_of_a_category() -> None:
    memory = history_memory()
    history = memory.history("juice", 12, last_week=WEEK + 9)
    assert history.skus == ("apple", "cola")
    assert history.weeks.tolist() == list(range(WEEK - 2, WEEK + 10))
    units = history.units[2:]
    assert units[:, 1].tolist() == [20, 20, 20, 20, 20, 0, 20, 20, 0, 20]
    assert units[:, 0].tolist() == [2, 2, 2, 2, 0, 2, 2, 2, 0, 2]
    observed = history.observed[2:]
    assert observed[:, 0].tolist() == [True] * 8 + [False, True]  # a slow seller's zero is a zero; week 8 was closed
    assert observed[:, 1].tolist() == [True] * 5 + [False] + [True] * 2 + [False, True]  # cola was out of stock
    assert not history.observed[:2].any()  # before the item file
    assert np.isnan(history.reference[:2]).all()
    assert history.reference[2:7, 1].tolist() == pytest.approx([1.0, 1.0, 0.8, (4 * 0.9 + 3 * 1.0) / 7, 1.0])
    assert history.deal[2:7, 1].tolist() == pytest.approx([0, 0, 1, 4 / 7, 0])
    assert history.feature[2:7, 1].tolist() == pytest.approx([0, 0, 1, 0, 0])
    assert history.cost[2:, 1].tolist() == pytest.approx([0.4] * 10)
    assert history.price[2, 1] == pytest.approx(1.0)
    assert history.price[6, 0] == pytest.approx(2.5)  # nothing sold: the shelf price


def test_history_shows_the_published_price_where_nothing_sold_and_the_price_paid_where_something_did() -> None:
    memory = history_memory()
    memory.apply_book({"apple": 260, "unknown": 5}, MONDAY + timedelta(weeks=4))
    history = memory.history("juice", 10, last_week=WEEK + 9)
    assert history.price[4, 0] == pytest.approx(2.6)
    assert history.price[5, 0] == pytest.approx(2.5)
    assert history.reference[4, 0] == pytest.approx(2.5)


def test_removed_items_leave_the_category_and_unknown_categories_are_empty() -> None:
    memory = history_memory()
    memory.apply_items([], MONDAY + timedelta(weeks=6), removed=["cola"])
    assert memory.history("juice", 3, last_week=WEEK + 9).skus == ("apple",)
    nothing = memory.history("tools", 3, last_week=WEEK)
    assert nothing.skus == ()
    assert nothing.units.shape == (3, 0)
    assert memory.category_trend("tools", WEEK) is None


def test_moving_an_item_to_another_category_takes_its_past_along() -> None:
    memory = history_memory()
    memory.apply_items([item("apple", 250, 9000, "fruit")], MONDAY + timedelta(weeks=6))
    assert memory.history("juice", 2).skus == ("cola",)
    assert memory.history("fruit", 10, last_week=WEEK + 9).units[:, 0].sum() == 16


def test_before_any_item_file_an_item_is_on_sale_from_its_first_to_its_last_sale() -> None:
    days = [MONDAY + timedelta(weeks=w) for w in range(8)]
    receipts = [receipt(w + 1, line("bread", 1, 100), day=day) for w, day in enumerate(days)]
    receipts += [receipt(11 + w, line("apple", 9 + w, 100), day=days[w]) for w in (2, 3, 5, 6)]
    memory = fed(*receipts)
    assert memory.trend("bread", WEEK + 7) is not None
    found = memory.trend("apple", WEEK + 6)  # 4 weeks with sales and one zero between them
    assert found is not None
    assert memory.trend("apple", WEEK + 4) is None
    assert memory.trend("pear", WEEK) is None


def test_category_trend_follows_the_sum_of_its_items() -> None:
    receipts = [
        receipt(2 * w + k, line(sku, 100 + (1 if k else -1) * w, 100), day=MONDAY + timedelta(weeks=w))
        for w in range(20)
        for k, sku in ((0, "apple"), (1, "cola"))
        if (2 * w + k) > 0
    ]
    memory = fed(*receipts)
    memory.apply_items([item("apple"), item("cola")], MONDAY)
    flat = memory.category_trend("juice", WEEK + 19)
    up, down = memory.trend("cola", WEEK + 19), memory.trend("apple", WEEK + 19)
    assert flat is not None
    assert up is not None
    assert down is not None
    assert abs(flat.trend) < 1e-6 < up.trend
    assert down.trend < -1e-6


@pytest.mark.parametrize("weeks", [0, -1, 10_000])
def test_a_history_of_no_or_too_many_weeks_is_our_own_mistake(weeks: int) -> None:
    with pytest.raises(LocalError):
        fed(receipt(1, line("apple", 1, 100))).history("juice", weeks)


def test_a_period_beyond_the_calendar_is_refused_before_it_is_computed() -> None:
    memory = fed(receipt(1, line("apple", 1, 100)))
    for period in (-(10**9), 10**9):
        with pytest.raises(LocalError, match="calendar"):
            memory.price_point("apple", period)
        with pytest.raises(LocalError, match="calendar"):
            memory.trend("apple", period)


def test_a_till_in_the_year_9999_costs_one_old_week_and_not_the_memory() -> None:
    config = MemoryConfig(weeks_max=3)
    receipts = [receipt(w + 1, line("apple", 1, 100), day=MONDAY + timedelta(weeks=w)) for w in range(3)]
    memory = fed(*receipts, receipt(9, line("apple", 1, 100), day=date(9999, 12, 31)), config=config)
    assert memory.weeks == [WEEK + 1, WEEK + 2, week_of(date(9999, 12, 31))]
    assert memory.price_point("apple", WEEK + 2) is not None


def test_beyond_its_bytes_it_forgets_whole_weeks_oldest_first_and_stays_within_them() -> None:
    config = MemoryConfig(bytes_max=1 << 20)
    memory = memory_over([], config)
    sequence = 0
    for week in range(60):
        day = MONDAY + timedelta(weeks=week)
        for start in range(0, 1500, 100):
            sequence += 1
            lines = tuple(line(f"item-{n}", 1, 100 + week) for n in range(start, start + 100))
            memory.apply_receipt(receipt(sequence, *lines, day=day), sequence)
    memory.sales.merge()
    memory._stay_in_bounds()
    assert memory.bytes_used <= config.bytes_max
    assert memory.counts.evicted_weeks == 60 - len(memory.weeks) > 0
    assert memory.weeks == list(range(WEEK + 60 - len(memory.weeks), WEEK + 60))
    assert memory.price_point("item-7", WEEK + 59) is not None
    forgotten = memory.counts.forgotten
    memory.apply_receipt(receipt(sequence + 1, line("item-1", 1, 100)), sequence + 1)
    assert memory.counts.forgotten == forgotten + 1


def test_bytes_are_counted_about_right() -> None:
    """The watched figure must not be less than half of what the interpreter really allocated."""
    items = [item(f"{n:014d}", 100 + n % 50) for n in range(5000)]
    weeks = [
        receipt(
            5 * w + k + 1, *(line(i.sku, 1, i.reference_minor) for i in items[k::50]), day=MONDAY + timedelta(weeks=w)
        )
        for w in range(20)
        for k in range(5)
    ]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        memory = memory_over(weeks)
        memory.apply_items(items, MONDAY)
        for index, one in enumerate(weeks):
            memory.apply_receipt(one, index)
        memory.sales.merge()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.5 * held < memory.bytes_used < 3 * held


def test_skus_that_no_item_file_names_are_bounded() -> None:
    memory = memory_over([])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.memory.catalogue.MEMORY_UNLISTED_MAX", 2)
        memory.apply_receipt(receipt(1, line("a", 1, 100), line("b", 1, 100), line("c", 1, 100)), 0)
        assert memory.counts.unlisted_lines == 1
        memory.apply_items([item("b")], MONDAY)  # now listed: room for another
        memory.apply_receipt(receipt(2, line("c", 1, 100)), 1)
    assert {key[1] for key in rows_of(memory)} == {"a", "b", "c"}
    assert memory.day_totals(MONDAY).lines == 4


def test_only_an_empty_memory_takes_a_snapshot_over() -> None:
    memory = fed(receipt(1, line("apple", 1, 100)))
    with pytest.raises(LocalError):
        memory.restore(MemoryImage.decode(memory.snapshot()))


@pytest.mark.parametrize(
    "wrong",
    [{"bytes_max": 10}, {"weeks_max": 1}, {"weeks_max": 10_000}, {"cache_answers": 0}, {"tax_permille": -1}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        replace(MemoryConfig(), **wrong)  # type: ignore[arg-type]


def test_constants_agree() -> None:
    assert local_module._TREND_WEEKS <= HISTORY_WEEKS_MAX
