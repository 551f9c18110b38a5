import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_privacy import BREAD, LIST, MILK, monday, receipt

from edge.encoding import cbor
from edge.errors import LocalError
from edge.privacy import identifiers
from edge.privacy.identifiers import ALLOWED, Cell, Contribution, Listed, PricePaid, PublicList, clear, contribution
from edge.privacy.rules import PrivacyRefused
from edge.records.market import PriceRange
from edge.records.receipt import Receipt, ReceiptKind
from edge.records.shared import DayRow, ItemDay, Payload, RangeRow, RangeUpdate
from edge.records.shared_codec import to_value


def ranges(*skus: str, category: str = "dairy") -> RangeUpdate:
    rows = tuple(RangeRow(sku, PriceRange(100, 300), 0.0, 0.1) for sku in sorted(skus))
    return RangeUpdate(category, 2900, 4, "EUR", rows)


def test_a_receipt_is_reduced_to_its_week_and_prices_by_category() -> None:
    found = contribution(receipt(2900, [(MILK, 190), (BREAD, 310), (MILK, 200)]), LIST, item_level=False)
    dairy, bakery = Cell("dairy"), Cell("bakery")
    lines = (PricePaid(dairy, 190, 200), PricePaid(bakery, 310, 300), PricePaid(dairy, 200, 200))
    assert found == Contribution(2900, lines)


def test_with_items_a_line_speaks_of_its_item_and_its_category() -> None:
    found = contribution(receipt(2900, [(MILK, 190)]), LIST, item_level=True)
    assert found is not None
    assert [line.cell for line in found.lines] == [Cell("dairy", MILK), Cell("dairy")]


@given(
    st.lists(st.tuples(st.sampled_from([MILK, BREAD, "unlisted"]), st.integers(0, 10**6)), min_size=1, max_size=20),
    st.integers(0, 5000),
    st.booleans(),
)
def test_nothing_of_lane_position_or_clock_is_left(lines: list[tuple[str, int]], week: int, item_level: bool) -> None:
    first = receipt(week, lines, sequence=1)
    other = dataclasses.replace(receipt(week, lines, sequence=2), lane="9", wall_ms=5, book=3)
    found = contribution(first, LIST, item_level)
    assert found == contribution(other, LIST, item_level)
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    "silent",
    [
        receipt(2900, [(MILK, 190)], kind=ReceiptKind.RETURN),
        receipt(2900, [(MILK, 190)], kind=ReceiptKind.VOID),
        dataclasses.replace(receipt(2900, [(MILK, 190)]), training=True),
        dataclasses.replace(receipt(2900, [(MILK, 190)]), currency="USD"),
        receipt(2900, [("unlisted", 190)]),
        receipt(2900, [(MILK, 0)]),
    ],
    ids=["return", "void", "training", "currency", "unlisted", "free"],
)
def test_receipts_that_sold_nothing_listed_say_nothing(silent: Receipt) -> None:
    assert contribution(silent, LIST, item_level=True) is None


def test_the_cells_of_a_release_come_from_the_list_with_their_list_prices() -> None:
    listed = PublicList("EUR", [Listed("a", "x", 100), Listed("b", "x", 900), Listed("c", "x", 200)])
    assert listed.cells(item_level=False) == {Cell("x"): 200}
    assert list(listed.cells(item_level=True)) == [Cell("x"), Cell("x", "a"), Cell("x", "b"), Cell("x", "c")]
    with pytest.raises(LocalError):
        PublicList("EUR", [Listed("a", "x", 0)])


def test_items_give_way_to_their_category() -> None:
    assert clear(ranges("", MILK), LIST, item_level=True) == ranges("", MILK)
    assert clear(ranges("", MILK), LIST, item_level=False) == ranges("")
    with pytest.raises(PrivacyRefused) as caught:
        clear(ranges(MILK), LIST, item_level=False)
    assert caught.value.reason == "item"


@pytest.mark.parametrize(
    "payload",
    [
        ranges("", category="Mrs Smith, loyalty 4711"),
        ranges("", "4711"),
        ranges("", BREAD),
        ItemDay(monday(2900), "dairy", "EUR", (DayRow("lane-canary-7", 100, 1000, 100),)),
    ],
    ids=["category", "item", "item of another category", "raw"],
)
def test_text_that_is_not_on_the_public_list_does_not_pass(payload: Payload) -> None:
    with pytest.raises(PrivacyRefused) as caught:
        clear(payload, LIST, item_level=True)
    assert caught.value.reason == "unlisted"


@dataclass(frozen=True, slots=True)
class WithLane(RangeUpdate):
    lane: str = "canary"


@dataclass(frozen=True, slots=True)
class RowWithCashier(RangeRow):
    cashier: str = "canary"


@pytest.mark.parametrize(
    "payload",
    [
        WithLane("dairy", 2900, 4, "EUR", ranges("").rows),
        RangeUpdate("dairy", 2900, 4, "EUR", (RowWithCashier("", PriceRange(1, 2), 0.0, 0.0),)),
        receipt(2900, [(MILK, 190)]),
        {"category": "dairy"},
        ("dairy", b"canary"),
        PriceRange(1, 2),
    ],
    ids=["subclass", "row", "receipt", "dict", "bytes", "part"],
)
def test_what_is_not_on_the_allow_list_does_not_pass(payload: Any) -> None:
    with pytest.raises(PrivacyRefused) as caught:
        clear(payload, LIST, item_level=True)
    assert caught.value.reason == "identifier"


def test_a_field_that_somebody_adds_is_refused_until_it_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    shorter = {**ALLOWED, RangeRow: ALLOWED[RangeRow] - {"log_spread"}}
    monkeypatch.setattr(identifiers, "ALLOWED", shorter)
    with pytest.raises(PrivacyRefused) as caught:
        clear(ranges(""), LIST, item_level=True)
    assert caught.value.reason == "identifier"


def test_the_allow_list_is_what_the_records_have_today() -> None:
    for kind, allowed in ALLOWED.items():
        assert allowed == {field.name for field in dataclasses.fields(kind)}, kind
    assert not {"lane", "till", "position", "wall_ms", "customer", "cashier", "book"} & set().union(*ALLOWED.values())


def test_bytes_of_what_passed_hold_no_canary() -> None:
    passed = clear(ranges("", MILK), LIST, item_level=False)
    data = cbor.encode(to_value(passed))
    assert MILK.encode() not in data
    assert b"dairy" in data
