"""The shelf view and the snapshot of all views: equal after a round trip, refused when damaged or foreign."""

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.box import snapshot
from edge.box.days import BusinessDays
from edge.box.records import DayCause, DayRecord, SettingsRecord
from edge.box.shelf import Published, Shelf
from edge.clock import ClockQuality, WallTime
from edge.errors import RemoteError
from edge.memory.columns import read_columns, write_columns
from edge.memory.local import LocalPriceMemory, MemoryConfig
from edge.pos.intake import Intake
from edge.records.item import Item, Promotion
from edge.records.ledger import ItemsRecord

NOW = WallTime(1_800_000_000_000, ClockQuality.FREE)
MONDAY = date(2026, 1, 5)


def item(sku: str, *, category: str = "juice", reference: int = 299) -> Item:
    promotion = Promotion(MONDAY + timedelta(days=7), MONDAY + timedelta(days=13), 249)
    return Item(sku, sku.upper(), category, reference, 15_000, promotions=(promotion,))


def publish(shelf: Shelf, prices: dict[str, int], day: date) -> None:
    for record in shelf.book.propose(
        prices, currency="EUR", valid_from=day, decided_through=day - timedelta(days=1), recorded=NOW
    ):
        shelf.apply(record)


def test_a_published_price_remembers_the_reference_of_its_day() -> None:
    shelf = Shelf()
    shelf.apply(ItemsRecord((item("a"), item("b", category="milk")), (), "items.csv", NOW))
    publish(shelf, {"a": 289, "b": 299, "gone": 5}, MONDAY)
    publish(shelf, {"a": 249, "b": 299}, MONDAY + timedelta(days=7))
    assert shelf.prices == {
        "a": Published(249, 249, (MONDAY + timedelta(days=7)).toordinal()),
        "b": Published(299, 249, MONDAY.toordinal()),  # stayed, though its owner's reference moved
    }
    assert shelf.book.number == 2
    assert list(shelf.categories()) == ["juice", "milk"]
    shelf.apply(ItemsRecord((), ("a",), "items.csv", NOW))
    assert list(shelf.categories()) == ["milk"]


def test_modes_default_to_shadow_and_follow_the_newest_settings() -> None:
    shelf = Shelf()
    assert shelf.mode("juice") == "shadow"
    shelf.apply(SettingsRecord(NOW, {"juice": "live", "": "off"}))
    assert (shelf.mode("juice"), shelf.mode("milk")) == ("live", "off")
    shelf.apply(SettingsRecord(NOW, {}))
    assert shelf.mode("juice") == "shadow"


def test_the_newest_round_of_decisions_is_found_by_category() -> None:
    shelf = Shelf()
    shelf.note_decisions("juice", MONDAY, 10)
    shelf.note_decisions("juice", MONDAY, 11)
    assert shelf.decisions == {"juice": [10, 11]}
    shelf.note_decisions("juice", MONDAY + timedelta(days=7), 90)
    assert shelf.decisions == {"juice": [90]}


ROUNDS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(1, 500), min_size=1), min_size=0, max_size=5
)


@settings(max_examples=40, deadline=None)
@given(rounds=ROUNDS)
def test_a_snapshot_restores_the_shelf_and_its_bytes(rounds: list[dict[str, int]]) -> None:
    shelf = Shelf()
    shelf.apply(ItemsRecord(tuple(item(sku) for sku in "abc"), (), "items.csv", NOW))
    shelf.apply(SettingsRecord(NOW, {"juice": "live"}))
    for number, prices in enumerate(rounds):
        publish(shelf, prices, MONDAY + timedelta(days=7 * number))
    shelf.note_decisions("juice", MONDAY, 4)
    shelf.apply(DayRecord(MONDAY, DayCause.TILLS, NOW))
    fields, columns = shelf.snapshot()
    again = Shelf.restore(*read_columns(write_columns(fields, columns)))
    assert (again.items, again.modes, again.prices) == (shelf.items, shelf.modes, shelf.prices)
    assert (again.decisions, again.decided_for, again.closed_through) == ({"juice": [4]}, shelf.decided_for, MONDAY)
    assert (again.book.manifest, again.book.before) == (shelf.book.manifest, shelf.book.before)
    assert again.book.entries == shelf.book.entries
    assert write_columns(*again.snapshot()) == write_columns(fields, columns)


def frozen(key: bytes = b"k" * 32, length: int = 3) -> bytes:
    memory = LocalPriceMemory(MemoryConfig(), currency="EUR", read_receipt=lambda _index: None)
    shelf = Shelf()
    shelf.apply(ItemsRecord((item("a"),), (), "items.csv", NOW))
    image = memory.freeze(ledger=key, length=length)
    fields, columns = shelf.snapshot()
    fields["days"] = BusinessDays(MONDAY).snapshot()
    fields["newest_ms"] = NOW.ms
    return snapshot.Frozen(key, length, Intake().snapshot(), image, fields, columns).encode()


def test_views_thaw_as_they_were_frozen() -> None:
    thawed = snapshot.thaw(frozen(), key=b"k" * 32, length_max=3)
    assert thawed.length == 3
    assert thawed.days.closed_through == MONDAY
    assert list(thawed.shelf.items) == ["a"]


@pytest.mark.parametrize(("key", "length_max", "reason"), [(b"x" * 32, 9, "foreign"), (b"k" * 32, 2, "ahead")])
def test_a_snapshot_of_another_ledger_or_its_future_is_refused(key: bytes, length_max: int, reason: str) -> None:
    with pytest.raises(RemoteError) as caught:
        snapshot.thaw(frozen(), key=key, length_max=length_max)
    assert caught.value.reason == reason


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(where: float, bit: int) -> None:
    data = bytearray(frozen())
    data[int(where * len(data))] ^= 1 << bit
    with pytest.raises(RemoteError):
        snapshot.thaw(bytes(data), key=b"k" * 32, length_max=9)


def test_columns_that_do_not_fit_together_are_refused() -> None:
    shelf = Shelf()
    publish(shelf, {"a": 100}, MONDAY)
    fields, columns = shelf.snapshot()
    with pytest.raises(RemoteError):
        Shelf.restore(fields, {**columns, "price": np.array([1, 2], np.int64)})
    with pytest.raises(RemoteError):
        Shelf.restore(fields, {**columns, "book_entries": np.array([1, 999], np.int64)})
