from collections import Counter
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from edge.limits import DAYBOOK_DAYS_MAX
from edge.memory.daybook import DayBook
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

MONDAY = date(2026, 3, 2)
CATEGORIES = {"a": "juice", "b": "juice", "c": "tea"}


def receipt(day: date, *lines: tuple[str, int, int], sequence: int = 1) -> Receipt:
    """Lines of (SKU, price, pieces)."""
    sold = tuple(ReceiptLine(sku, 1000 * pieces, price, price * pieces) for sku, price, pieces in lines)
    return Receipt("1", TillPosition(1, sequence), ReceiptKind.SALE, day, 0, "EUR", sold)


def cells(book: DayBook, day: date) -> dict[tuple[str, str, int], tuple[int, int]]:
    return {
        (total.category, row.sku, row.price_minor): (row.units_milli, row.amount_minor)
        for total in book.totals(day, CATEGORIES, "EUR")
        for row in total.rows
    }


def test_a_day_is_summed_by_category_item_and_price() -> None:
    book = DayBook()
    book.add(0, receipt(MONDAY, ("b", 200, 1), ("a", 100, 2), ("c", 300, 1)))
    book.add(0, receipt(MONDAY, ("a", 100, 1), ("a", 90, 1)))
    assert [(total.category, len(total.rows)) for total in book.totals(MONDAY, CATEGORIES, "EUR")] == [
        ("juice", 3),
        ("tea", 1),
    ]
    assert cells(book, MONDAY) == {
        ("juice", "a", 90): (1000, 90),
        ("juice", "a", 100): (3000, 300),
        ("juice", "b", 200): (1000, 200),
        ("tea", "c", 300): (1000, 300),
    }


def test_what_is_taken_back_leaves_no_row() -> None:
    book = DayBook()
    sale = receipt(MONDAY, ("a", 100, 2))
    assert book.add(0, sale)
    assert book.cancel(1, sale, 0)
    assert (book.receipts(MONDAY), book.changes(MONDAY)) == (0, 2)
    assert list(book.totals(MONDAY, CATEGORIES, "EUR")) == []


def test_items_of_no_category_stay_here() -> None:
    book = DayBook()
    book.add(0, receipt(MONDAY, ("unlisted", 100, 2)))
    assert list(book.totals(MONDAY, CATEGORIES, "EUR")) == []


def test_a_day_that_is_out_is_never_begun_again() -> None:
    book = DayBook()
    book.add(0, receipt(MONDAY, ("a", 100, 1)))
    book.close(MONDAY)
    book.add(0, receipt(MONDAY, ("a", 100, 1)))
    assert list(book.days) == []
    book.add(0, receipt(MONDAY + timedelta(days=1), ("a", 100, 1)))
    assert list(book.days) == [MONDAY + timedelta(days=1)]


def test_days_that_never_close_are_bounded() -> None:
    book = DayBook()
    for number in range(2 * DAYBOOK_DAYS_MAX):
        book.add(0, receipt(MONDAY + timedelta(days=number), ("a", 100, 1)))
    assert len(book.days) == DAYBOOK_DAYS_MAX
    assert book.days[-1] == MONDAY + timedelta(days=2 * DAYBOOK_DAYS_MAX - 1)
    assert not book.add(0, receipt(MONDAY, ("a", 100, 1)))
    assert len(book.days) == DAYBOOK_DAYS_MAX


def test_a_day_before_all_others_is_too_old_for_a_full_book() -> None:
    book = DayBook()
    for number in range(DAYBOOK_DAYS_MAX):
        book.add(0, receipt(MONDAY + timedelta(days=number), ("a", 100, 1)))
    assert not book.cancel(1, receipt(MONDAY - timedelta(days=400), ("a", 100, 1)), 0)
    assert book.days[0] == MONDAY


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.integers(1, 3), st.sampled_from((1, -1)))))
def test_totals_are_the_sums_in_any_order(events: list[tuple[int, str, int, int]]) -> None:
    book = DayBook()
    units: Counter[tuple[int, str, int]] = Counter()
    receipts: Counter[int] = Counter()
    for day, sku, price, sign in events:
        sale = receipt(MONDAY + timedelta(days=day), (sku, price, 1))
        assert book.add(0, sale) if sign > 0 else book.cancel(1, sale, 0)
        units[day, sku, price] += sign
        receipts[day] += sign
    for day in range(4):
        assert book.receipts(MONDAY + timedelta(days=day)) == receipts[day]
        found = cells(book, MONDAY + timedelta(days=day))
        assert {
            (CATEGORIES[sku], sku, price): (1000 * n, price * n)
            for (d, sku, price), n in units.items()
            if n and d == day
        } == found
