import gzip
import itertools
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import RecordInvalid
from edge.pos.replay import Row, items_from_rows, read_rows, receipts_from_rows
from edge.pos.till import Transaction
from edge.records.receipt import ReceiptKind

HEAD = "store,week,sku,units,price_cents,unit_cost_cents,deal,feature"
DATA = Path(__file__).parents[4] / "shared" / "data" / "orange_juice.csv.gz"


def totals(plan: dict[int, list[Transaction]]) -> Counter[tuple[int, date, str]]:
    """Units by store, week's Monday and item."""
    found: Counter[tuple[int, date, str]] = Counter()
    for store, rung in plan.items():
        for transaction in rung:
            day = transaction.business_day
            for line in transaction.lines:
                assert line.quantity_milli % 1000 == 0
                assert line.amount_minor == line.quantity_milli // 1000 * line.unit_minor
                found[store, date.fromordinal(day.toordinal() - day.weekday()), line.sku] += line.quantity_milli // 1000
    return found


def check(rows: list[Row], messages_max: int, seed: int) -> None:
    plan = receipts_from_rows(rows, seed=seed, messages_max=messages_max)
    assert sum(map(len, plan.values())) <= messages_max
    assert totals(plan) == Counter({(r.store, r.first_day, r.sku): r.units for r in rows if r.units})
    for rung in plan.values():
        days = [t.business_day for t in rung]
        assert days == sorted(days)
        assert rung[-1].kind is ReceiptKind.DAY_END
        for before, after in itertools.pairwise(rung):
            assert (before.kind is ReceiptKind.DAY_END) == (before.business_day != after.business_day)
        assert all(1 <= len(t.lines) <= 5 for t in rung if t.kind is ReceiptKind.SALE)
    assert plan == receipts_from_rows(rows, seed=seed, messages_max=messages_max)


ROWS = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.sampled_from(["a", "b", "c", "d", "e", "f", "g"])),
    st.tuples(st.integers(0, 3000), st.integers(0, 900)),
    min_size=1,
    max_size=30,
).map(lambda cells: [Row(*key, units, price, 1, deal=False, feature=0.0) for key, (units, price) in cells.items()])


@given(ROWS, st.integers(200, 3000), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_quantities_sum_exactly_and_messages_stay_in_bounds(rows: list[Row], messages_max: int, seed: int) -> None:
    check(rows, messages_max, seed)


def test_a_bound_that_cannot_hold_the_weeks_is_refused() -> None:
    rows = [Row(1, week, "a", 1, 100, 1, deal=False, feature=0.0) for week in range(10)]
    check(rows, 20, 1)
    with pytest.raises(RecordInvalid, match="20 messages at least"):
        receipts_from_rows(rows, seed=1, messages_max=19)
    assert receipts_from_rows([], seed=1) == {}


def test_week_one_is_the_week_of_14_september_1989() -> None:
    (row,) = read_rows([HEAD, "2,1,a,1,199,100.5,0,0"])
    assert row.first_day == date(1989, 9, 11)
    assert (row.price_minor, row.cost_e4, row.deal) == (199, 10050, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2,1,a,1.5,199,1,0,0", "line 2, column units: 1.5 is not a whole number"),
        ("2,1,a,-1,199,1,0,0", "line 2, column units: -1 is outside"),
        ("2,1,a,1,x,1,0,0", "line 2, column price_cents: 'x' is not a number"),
        ("2,1,a,1,1,nan,0,0", "column unit_cost_cents: nan is outside"),
        ("2,1,a/b,1,1,1,0,0", "line 2, column sku"),
        ("2,1,a,1", "line 2: 4 cells under 8 columns"),
        ("2,1,a,1,1,1,0,0\n2,1,a,1,1,1,0,0", "line 3: store 2, week 1, a comes twice"),
    ],
)
def test_errors_name_line_and_column(line: str, message: str) -> None:
    with pytest.raises(RecordInvalid, match=message):
        read_rows(f"{HEAD}\n{line}".splitlines())
    with pytest.raises(RecordInvalid, match="column feature is missing"):
        read_rows(["store,week,sku,units,price_cents,unit_cost_cents,deal"])


def test_items_of_sales() -> None:
    lines = [HEAD, "2,1,a,5,200,100,0,0", "2,2,a,9,150,101,1,0.7", "2,3,b,1,90,50,1,0"]
    a, b = items_from_rows(read_rows(lines), "juice")
    assert (a.reference_minor, a.cost_e4, a.reference_on(date(1989, 9, 20))) == (200, 10100, 150)
    assert a.promotions[0].featured
    assert b.reference_minor == 90


@pytest.mark.skipif(not DATA.exists(), reason="the real sales are not beside the repository")
def test_real_sales_of_all_stores_fit_thirty_thousand_messages() -> None:
    with gzip.open(DATA, "rt") as file:
        rows = read_rows(file)
    plan = receipts_from_rows(rows, seed=1)
    assert sum(map(len, plan.values())) <= 30_000
    assert totals(plan) == Counter({(r.store, r.first_day, r.sku): r.units for r in rows if r.units})
