from datetime import date
from typing import Any

import pytest

from edge.errors import RecordInvalid
from edge.limits import LABEL_CHARS_MAX, PRICE_MINOR_MAX
from edge.records.item import Item, Promotion, check_sku

GOOD: dict[str, Any] = {
    "sku": "04006381333931",
    "name": "Juice",
    "category": "juice",
    "reference_minor": 199,
    "cost_e4": 9_900,
}
JUNE = [date(2026, 6, day) for day in range(1, 31)]


@pytest.mark.parametrize("sku", ["04006381333931", "a", "A-1_b.c", "x" * LABEL_CHARS_MAX])
def test_keys_of_retailers(sku: str) -> None:
    assert check_sku(sku) == sku


@pytest.mark.parametrize("sku", ["", "-a", "a/b", "a b", "a+", "#", "ä", "a\n", "x" * (LABEL_CHARS_MAX + 1)])
def test_keys_that_a_topic_or_file_cannot_hold(sku: str) -> None:
    with pytest.raises(RecordInvalid):
        check_sku(sku)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"category": ""},
        {"category": "x" * (LABEL_CHARS_MAX + 1)},
        {"reference_minor": 0},
        {"reference_minor": PRICE_MINOR_MAX + 1},
        {"cost_e4": -1},
        {"floor_minor": 0},
        {"floor_minor": 200, "ceiling_minor": 199},
        {"ladder": "cola"},
        {"size": 1.5},
        {"ladder": "cola", "size": 0.0},
        {"ladder": "cola", "size": float("nan")},
    ],
)
def test_what_an_owner_cannot_mean_is_refused(wrong: dict[str, Any]) -> None:
    Item(**GOOD)
    with pytest.raises(RecordInvalid):
        Item(**GOOD | wrong)


def test_a_promotion_is_the_reference_on_its_days_and_the_first_listed_wins() -> None:
    item = Item(**GOOD, promotions=(Promotion(JUNE[3], JUNE[5], 150), Promotion(JUNE[5], JUNE[8], 140)))
    assert [item.reference_on(day) for day in JUNE[2:10]] == [199, 150, 150, 150, 140, 140, 140, 199]
    assert item.promotion_on(JUNE[0]) is None


def test_a_promotion_ends_after_it_starts_and_has_a_price() -> None:
    with pytest.raises(RecordInvalid):
        Promotion(JUNE[1], JUNE[0], 100)
    with pytest.raises(RecordInvalid):
        Promotion(JUNE[0], JUNE[0], 0)
