"""The views of the ledger: a snapshot and the tail give what the whole ledger gives; order of overlapping appends."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.atomic import replace_file
from edge.box import records, snapshot
from edge.box.records import DayCause, DayRecord, SettingsRecord
from edge.box.views import CODEC, Views
from edge.clock import ClockQuality, WallTime
from edge.errors import LocalError, RecordInvalid, RemoteError
from edge.memory.local import MemoryConfig
from edge.records import ledger
from edge.records.history import week_of
from edge.records.item import Item
from edge.records.ledger import ItemsRecord, ReceiptRecord, RefusedRecord
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

MONDAY = date(2026, 1, 5)
KEY = b"k" * 32
SKUS = ("a", "b", "c")


def wall(number: int) -> WallTime:
    return WallTime(1_800_000_000_000 + number, ClockQuality.FREE)


class Log:
    """Blocks, and views fed with them as they come."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.views = self.empty()

    def empty(self) -> Views:
        return Views(MemoryConfig(), currency="EUR", read_block=self.blocks.__getitem__)

    def add(self, record: object) -> None:
        own = isinstance(record, SettingsRecord | DayRecord)
        self.blocks.append(records.encode(record) if own else ledger.encode(record))  # type: ignore[arg-type]
        self.views.replay(len(self.blocks) - 1, self.blocks[-1])

    def replayed(self, views: Views | None = None) -> Views:
        views = self.empty() if views is None else views
        for index in range(views.length, len(self.blocks)):
            views.replay(index, self.blocks[index])
        return views


def receipt(log: Log, lane: str, sequence: int, *, day: int, sku: str = "", units: int = 0) -> None:
    end = not sku  # of the day
    lines = () if end else (ReceiptLine(sku, 1000 * units, 199, 199 * units),)
    kind = ReceiptKind.DAY_END if end else ReceiptKind.SALE
    made = Receipt(lane, TillPosition(1, sequence), kind, MONDAY + timedelta(days=day), 0, "EUR", lines)
    log.add(ReceiptRecord(made, wall(len(log.blocks))))


def book(log: Log, prices: dict[str, int], day: int) -> None:
    valid = MONDAY + timedelta(days=day)
    for record in log.views.shelf.book.propose(
        prices, currency="EUR", valid_from=valid, decided_through=valid - timedelta(days=1), recorded=wall(0)
    ):
        log.add(record)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sale"), st.sampled_from(["1", "2"]), st.sampled_from(SKUS), st.integers(1, 5)),
        st.tuples(st.just("end"), st.sampled_from(["1", "2"])),
        st.tuples(st.just("items"), st.sets(st.sampled_from(SKUS), min_size=1), st.integers(100, 300)),
        st.tuples(st.just("remove"), st.sampled_from(SKUS)),
        st.tuples(st.just("book"), st.dictionaries(st.sampled_from(SKUS), st.integers(1, 400), min_size=1)),
        st.tuples(st.just("modes"), st.sampled_from(["live", "off", "shadow"])),
        st.tuples(st.just("refused"), st.sampled_from(["1", "2"])),
    ),
    max_size=40,
)


def act(log: Log, steps: list[tuple[object, ...]]) -> None:
    """Write what a box would write."""
    sequences = {"1": 0, "2": 0}
    for number, (what, *rest) in enumerate(steps):
        day = number // 4
        if what in ("sale", "end", "refused"):
            lane = str(rest[0])
            sequences[lane] += 1
        match what, rest:
            case "sale", (_, str(sku), int(units)):
                receipt(log, lane, sequences[lane], day=day, sku=sku, units=units)
            case "end", _:
                receipt(log, lane, sequences[lane], day=day)
                due = log.views.days.due()
                if due is not None:
                    log.add(DayRecord(due, DayCause.TILLS, wall(0)))
            case "refused", _:
                log.add(RefusedRecord(lane, TillPosition(1, sequences[lane]), "personal_data", "CustomerID", wall(0)))
            case "items", (set(skus), int(reference)):
                found = tuple(Item(sku, sku.upper(), "juice", reference, 10_000) for sku in sorted(skus))
                log.add(ItemsRecord(found, (), "items.csv", wall(0)))
            case "remove", (str(sku),):
                log.add(ItemsRecord((), (sku,), "items.csv", wall(0)))
            case "book", (dict(prices),):
                book(log, prices, day)
            case "modes", (str(mode),):
                log.add(SettingsRecord(wall(0), {"juice": mode}))


def content(views: Views) -> tuple[object, ...]:
    """Everything that views can be asked."""
    weeks = range(week_of(MONDAY), week_of(MONDAY) + 3)
    points = [views.memory.price_point(sku, week) for sku in SKUS for week in weeks]
    shelf = views.shelf
    return (
        views.length,
        views.newest_ms,
        views.intake.snapshot(),
        list(views.intake.status()),
        views.days.snapshot(),
        (shelf.items, shelf.modes, shelf.prices, shelf.book.manifest, shelf.book.before, dict(shelf.book.entries)),
        (shelf.decisions, shelf.decided_for, shelf.closed_through),
        points,
    )


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, data=st.data())
def test_snapshot_and_tail_equal_the_whole_ledger(steps: list[tuple[object, ...]], data: st.DataObject) -> None:
    log = Log()
    act(log, steps)
    whole = content(log.views)
    assert content(log.replayed()) == whole
    cut = data.draw(st.integers(0, len(log.blocks)), label="length of the snapshot")
    early = log.empty()
    for index in range(cut):
        early.replay(index, log.blocks[index])
    frozen = early.freeze(KEY).encode()
    later = log.empty()
    later.thaw(snapshot.thaw(frozen, key=KEY, length_max=len(log.blocks)))
    assert later.length == cut
    assert content(log.replayed(later)) == whole


def filled() -> Log:
    log = Log()
    log.add(ItemsRecord(tuple(Item(sku, sku, "juice", 199, 10_000) for sku in SKUS), (), "items.csv", wall(0)))
    book(log, dict.fromkeys(SKUS, 199), 0)
    for sequence in range(1, 6):
        receipt(log, "1", sequence, day=0, sku="a", units=1)
    return log


def test_appends_that_overlap_are_applied_in_either_order_and_frozen_only_when_settled() -> None:
    log = filled()
    begin = 3
    views = log.empty()
    for index in range(begin):
        views.replay(index, log.blocks[index])
    for index in (5, 6, 4):
        views.replay(index, log.blocks[index])
        assert views.length == begin
        with pytest.raises(LocalError, match="contiguous"):
            views.freeze(KEY)
    views.replay(begin, log.blocks[begin])
    assert (views.length, views.settled) == (len(log.blocks), True)
    assert content(views) == content(log.views)


def test_a_snapshot_is_taken_over_by_empty_views_alone() -> None:
    log = filled()
    thawed = snapshot.thaw(log.views.freeze(KEY).encode(), key=KEY, length_max=len(log.blocks))
    with pytest.raises(LocalError):
        log.views.thaw(thawed)


def test_a_frozen_image_is_not_reached_by_later_records() -> None:
    log = filled()
    image = log.views.freeze(KEY)
    before = image.encode()
    receipt(log, "1", 6, day=1, sku="b", units=9)
    book(log, dict.fromkeys(SKUS, 150), 2)
    log.add(ItemsRecord((), ("a",), "items.csv", wall(0)))
    assert image.encode() == before


def test_a_block_that_is_no_record_is_refused_by_name() -> None:
    for block in (b"", b"\x80", b"\x82\x18\x63\x01", b"not cbor"):
        with pytest.raises(RecordInvalid):
            CODEC.decode(block)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"\xff" + data[41:]]
)
def test_a_damaged_snapshot_is_told_from_a_good_one(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "views.snapshot"
    replace_file(path, filled().views.freeze(KEY).encode())
    assert snapshot.thaw(path.read_bytes(), key=KEY, length_max=99).length == 7
    with pytest.raises(RemoteError):
        snapshot.thaw(damage(path.read_bytes()), key=KEY, length_max=99)
    assert [found.name for found in tmp_path.iterdir()] == ["views.snapshot"]
