from datetime import date
from typing import Any

import pytest

from edge.errors import RecordInvalid
from edge.limits import INTEGER_MAX, RECEIPT_LINES_MAX
from edge.records.receipt import QUANTITY_MILLI_MAX, Receipt, ReceiptKind, ReceiptLine, TillPosition

LINE = ReceiptLine("a", 1000, 199, 199)
GOOD: dict[str, Any] = {
    "lane": "1",
    "position": TillPosition(1, 2),
    "kind": ReceiptKind.SALE,
    "business_day": date(2026, 6, 1),
    "wall_ms": 0,
    "currency": "EUR",
    "lines": (LINE,),
}


def test_order_is_by_epoch_then_sequence() -> None:
    assert TillPosition(1, 9) < TillPosition(2, 1) < TillPosition(2, 2)


@pytest.mark.parametrize(("epoch", "sequence"), [(0, 1), (1, 0), (INTEGER_MAX + 1, 1), (1, INTEGER_MAX + 1)])
def test_positions_start_at_one_and_fit_a_double(epoch: int, sequence: int) -> None:
    with pytest.raises(RecordInvalid):
        TillPosition(epoch, sequence)


@pytest.mark.parametrize(
    "wrong",
    [
        ("a b", 1000, 199, 199),
        ("a", 0, 199, 0),
        ("a", QUANTITY_MILLI_MAX + 1, 199, 199),
        ("a", 1000, -1, 199),
        ("a", 1000, 199, -199),
        ("a", -1000, 199, 199),
    ],
)
def test_lines_out_of_range_are_refused(wrong: tuple[str, int, int, int]) -> None:
    with pytest.raises(RecordInvalid):
        ReceiptLine(*wrong)


def test_a_gift_line_and_a_returned_line_are_lines() -> None:
    assert ReceiptLine("a", 1000, 199, 0).amount_minor == 0
    assert ReceiptLine("a", -1500, 199, -299, weighed=True).quantity_milli == -1500


@pytest.mark.parametrize(
    "wrong",
    [
        {"lane": ""},
        {"currency": "eur"},
        {"currency": "EURO"},
        {"lines": ()},
        {"lines": (LINE,) * (RECEIPT_LINES_MAX + 1)},
        {"book": -1},
        {"wall_ms": -1},
        {"voids": TillPosition(1, 1)},
        {"kind": ReceiptKind.POST_VOID},
        {"kind": ReceiptKind.DAY_END},
    ],
)
def test_receipts_that_contradict_themselves_are_refused(wrong: dict[str, Any]) -> None:
    Receipt(**GOOD)
    with pytest.raises(RecordInvalid):
        Receipt(**GOOD | wrong)


@pytest.mark.parametrize("kind", list(ReceiptKind))
def test_only_sales_and_returns_count_and_never_in_training(kind: ReceiptKind) -> None:
    more: dict[str, Any] = {"kind": kind}
    if kind is ReceiptKind.POST_VOID:
        more["voids"] = TillPosition(1, 1)
    if kind is ReceiptKind.DAY_END:
        more["lines"] = ()
    assert Receipt(**GOOD | more).counts is (kind in (ReceiptKind.SALE, ReceiptKind.RETURN))
    assert not Receipt(**GOOD | more, training=True).counts
