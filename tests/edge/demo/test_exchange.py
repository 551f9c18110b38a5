"""The judge of networks: a missing block, another feed, a block not taken in or unknown records do not pass."""

from dataclasses import replace

import pytest

from edge.demo.exchange import Copy, Shelf, compare
from edge.networks.access import FeedKind
from edge.networks.feeds import NetworkFeed

SHOPS = {1: b"a" * 32, 2: b"b" * 32, 3: b"c" * 32}
FEEDS = {
    member + kind.name.encode(): NetworkFeed(member + kind.name.encode(), member, kind, 1, None, None)
    for member in SHOPS.values()
    for kind in (FeedKind.PRICES, FeedKind.TRENDS)
}


def shelves() -> dict[int, Shelf]:
    copies = {key: Copy(7, key, 7) for key in FEEDS}
    return {store: Shelf(member, FEEDS, copies, 28, b"the same") for store, member in SHOPS.items()}


def changed(store: int, of: int, **what: object) -> dict[int, Shelf]:
    """All shelves, where `store` holds another copy of `of`'s prices."""
    found = shelves()
    key = SHOPS[of] + b"PRICES"
    copies = {**found[store].copies, key: replace(found[store].copies[key], **what)}  # type: ignore[arg-type]
    found[store] = replace(found[store], copies=copies)
    return found


def test_shops_that_hold_the_same_have_heard_each_other() -> None:
    exchange = compare(shelves())
    assert exchange.faults == []
    assert exchange.told == {1: 14, 2: 14, 3: 14}
    assert exchange.heard == {(a, b): 14 for a in SHOPS for b in SHOPS if a != b}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"blocks": 6, "taken": 6}, "6 of 7 blocks are there"),
        ({"blocks": 8}, "8 of 7 blocks are there"),
        ({"root": b"other"}, "another feed"),
        ({"taken": 6}, "6 of 7 blocks were taken in"),
        ({"taken": 8}, "8 of 7 blocks were taken in"),
    ],
)
def test_what_is_missing_or_too_much_is_named(what: dict[str, object], words: str) -> None:
    (fault,) = compare(changed(2, 1, **what)).faults
    assert fault.startswith("prices of shop 1 at shop 2: ")
    assert words in fault


def test_feeds_that_are_not_there_at_all_and_other_records_are_faults_too() -> None:
    found = shelves()
    found[3] = replace(found[3], copies={}, digest=b"nothing")
    faults = compare(found | {3: replace(found[3], copies={key: Copy(0, b"", 0) for key in FEEDS})}).faults
    assert "trends of shop 2 at shop 3: 0 of 7 blocks are there" in faults
    assert "shops do not know the same records" in faults
