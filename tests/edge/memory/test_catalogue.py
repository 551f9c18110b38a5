from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_memory import MONDAY, WEEK, item

from edge.memory.catalogue import Catalogue
from edge.records.item import Item, Promotion

SKUS = ("a", "b", "c")


@st.composite
def item_files(draw: st.DrawFn) -> list[tuple[date, list[Item], list[str]]]:
    """Item files on days that do not go back: changed items, and removed SKUs."""
    files = []
    day = MONDAY
    for _ in range(draw(st.integers(1, 5))):
        day += timedelta(days=draw(st.integers(0, 9)))
        items = []
        for sku in draw(st.lists(st.sampled_from(SKUS), unique=True)):
            promotions = tuple(
                Promotion(MONDAY + timedelta(days=start), MONDAY + timedelta(days=start + length), price, featured)
                for start, length, price, featured in draw(
                    st.lists(
                        st.tuples(st.integers(0, 30), st.integers(0, 9), st.integers(1, 99), st.booleans()), max_size=2
                    )
                )
            )
            items.append(item(sku, draw(st.integers(100, 300)), draw(st.integers(1, 9999)), promotions=promotions))
        files.append((day, items, draw(st.lists(st.sampled_from(SKUS), max_size=1))))
    return files


def in_force(files: Sequence[tuple[date, list[Item], list[str]]], sku: str, day: date) -> Item | None:
    """The definition: the last word of all files up to `day`."""
    found = None
    for from_day, items, removed in files:
        if from_day <= day:
            found = next((i for i in items if i.sku == sku), found)
            if sku in removed:
                found = None
    return found


@settings(deadline=None, max_examples=150)
@given(item_files(), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 500)), max_size=4), st.integers(0, 4))
def test_weekly_values_are_the_means_of_the_days(
    files: list[tuple[date, list[Item], list[str]]], books: list[tuple[int, int]], forgotten: int
) -> None:
    catalogue = Catalogue()
    for day, items, removed in files:
        catalogue.put_items(items, removed, day)
    listed = {i.sku for _, items, _ in files for i in items}
    for offset, price in books:
        catalogue.put_book({"a": price}, MONDAY + timedelta(days=offset))
    first = WEEK + forgotten
    if forgotten:
        catalogue.forget_before(first)
    assert len({v.day for v in catalogue.item_versions}) == len(catalogue.item_versions)
    skus = [sku for sku in SKUS if sku in catalogue.index]
    weekly = catalogue.weekly(np.array([catalogue.index[sku] for sku in skus], np.int64), first, WEEK + 6)
    for column, sku in enumerate(skus):
        for row in range(WEEK + 7 - first):
            days = [MONDAY + timedelta(weeks=forgotten + row, days=d) for d in range(7)]
            known = [(d, i) for d in days if (i := in_force(files, sku, d)) is not None]
            assert weekly.offered[row, column] == pytest.approx(len(known) / 7)
            if not known:
                assert np.isnan(weekly.reference[row, column])
                continue
            published = []
            for d, i in known:
                prices = [(o, n, p) for n, (o, p) in enumerate(books) if MONDAY + timedelta(days=o) <= d]
                named = prices and sku == "a" and "a" in listed
                published.append(max(prices)[2] if named else i.reference_on(d))
            assert weekly.reference[row, column] == pytest.approx(np.mean([i.reference_on(d) for d, i in known]))
            assert weekly.cost[row, column] == pytest.approx(np.mean([i.cost_e4 for _, i in known]))
            assert weekly.shelf[row, column] == pytest.approx(np.mean(published))
            deals = [p for d, i in known if (p := i.promotion_on(d)) is not None]
            assert weekly.deal[row, column] == pytest.approx(len(deals) / 7)
            assert weekly.feature[row, column] == pytest.approx(sum(p.featured for p in deals) / 7)


def test_only_what_differs_makes_a_version() -> None:
    catalogue = Catalogue()
    items = [item("a"), item("b")]
    assert catalogue.put_items(items, (), MONDAY) == 2
    assert catalogue.put_items(items, (), MONDAY + timedelta(days=1)) == 0
    assert catalogue.put_items([item("a", 201), item("b")], (), MONDAY + timedelta(days=2)) == 1
    assert len(catalogue.item_versions) == 2


def test_a_correction_of_the_past_holds_until_the_next_version_of_that_item() -> None:
    catalogue = Catalogue()
    catalogue.put_items([item("a", 100)], (), MONDAY)
    catalogue.put_items([item("b", 100)], (), MONDAY + timedelta(weeks=2))
    catalogue.put_items([item("a", 150)], (), MONDAY + timedelta(weeks=1))
    weekly = catalogue.weekly(np.array([catalogue.index["a"]]), WEEK, WEEK + 3)
    assert weekly.reference[:, 0].tolist() == [100, 150, 150, 150]
    # What is in force now is the correction, so naming the old price again is a change.
    assert catalogue.put_items([item("a", 100)], (), MONDAY + timedelta(weeks=3)) == 1


def test_more_items_than_one_chunk_of_the_grid() -> None:
    catalogue = Catalogue()
    items = [item(f"s{n:03d}", 100 + n) for n in range(300)]
    catalogue.put_items(items, (), MONDAY)
    weekly = catalogue.weekly(np.arange(300), WEEK, WEEK + 1)
    assert weekly.reference[1].tolist() == [100 + n for n in range(300)]


def test_items_beyond_the_limit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.memory.catalogue.ITEMS_MAX", 2)
    catalogue = Catalogue()
    assert catalogue.put_items([item("a"), item("b"), item("c")], (), MONDAY) == 2
    assert catalogue.members("juice") == [catalogue.index["a"], catalogue.index["b"]]
