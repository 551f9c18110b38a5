from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import ClockQuality, WallTime
from edge.encoding import cbor
from edge.errors import RecordInvalid, RemoteError
from edge.records import ledger
from edge.records.item import Item, Promotion
from edge.records.ledger import (
    BASE,
    BookRecord,
    GapRecord,
    ItemsRecord,
    Kind,
    LedgerCodec,
    LedgerRecord,
    ReceiptRecord,
    RefusedRecord,
    encode,
    items_records,
    kind_of,
)
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

CODEC = LedgerCodec(BASE)
WALL = st.builds(WallTime, st.integers(0, 2**53 - 1), st.sampled_from(list(ClockQuality)))
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
PLACE = st.builds(TillPosition, st.integers(1, 2**53 - 1), st.integers(1, 2**53 - 1))
PRICE = st.integers(1, 10**8)
LINES = st.builds(
    lambda sku, sign, quantity, unit, amount, weighed, multibuy: ReceiptLine(
        sku, sign * quantity, unit, sign * amount, weighed, multibuy
    ),
    *(NAME, st.sampled_from((1, -1)), st.integers(1, 10**8), PRICE, PRICE, st.booleans(), st.booleans()),
)


@st.composite
def receipts(draw: st.DrawFn) -> Receipt:
    kind = draw(st.sampled_from(list(ReceiptKind)))
    least = 1 if kind in (ReceiptKind.SALE, ReceiptKind.RETURN) else 0
    most = 0 if kind is ReceiptKind.DAY_END else 5
    return Receipt(
        draw(NAME),
        draw(PLACE),
        kind,
        draw(st.dates()),
        draw(st.integers(0, 2**53 - 1)),
        "EUR",
        tuple(draw(st.lists(LINES, min_size=least, max_size=most))),
        draw(st.integers(0, 2**53 - 1)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(PLACE) if kind is ReceiptKind.POST_VOID else None,
    )


PROMOTIONS = st.builds(
    lambda a, b, price, featured: Promotion(min(a, b), max(a, b), price, featured),
    *(st.dates(), st.dates(), PRICE, st.booleans()),
)


@st.composite
def items(draw: st.DrawFn) -> Item:
    limits = sorted((draw(PRICE), draw(PRICE)))
    ladder = draw(st.none() | NAME)
    return Item(
        draw(NAME),
        draw(st.text(min_size=1, max_size=50)),
        draw(NAME),
        draw(PRICE),
        draw(st.integers(0, 10**10)),
        draw(st.none() | st.just(limits[0])),
        draw(st.none() | st.just(limits[1])),
        ladder,
        None if ladder is None else draw(st.floats(1e-6, 1e8)),
        draw(st.booleans()),
        tuple(draw(st.lists(PROMOTIONS, max_size=3))),
    )


SPANS = st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), max_size=4).map(tuple)
RECORDS: st.SearchStrategy[LedgerRecord] = st.one_of(
    st.builds(ReceiptRecord, receipts(), WALL),
    st.builds(RefusedRecord, NAME, PLACE, NAME, NAME, WALL),
    st.builds(GapRecord, NAME, PRICE, PRICE, PRICE, SPANS, st.none() | PRICE, WALL),
    st.builds(ItemsRecord, st.lists(items(), max_size=3).map(tuple), st.lists(NAME, max_size=3).map(tuple), NAME, WALL),
    st.builds(
        BookRecord,
        *(PRICE, st.just("EUR"), st.dates(), st.dates(), st.integers(0, 100), st.binary(min_size=32, max_size=32)),
        *(st.just(1), st.just(3), st.lists(st.tuples(NAME, st.none() | PRICE), max_size=5).map(tuple), WALL),
    ),
)


@given(RECORDS)
def test_decode_undoes_encode(record: LedgerRecord) -> None:
    block = encode(record)
    assert CODEC.decode(block) == record
    assert encode(CODEC.decode(block)) == block
    assert kind_of(block) == block[1]


@given(RECORDS, st.data())
def test_damaged_blocks_are_refused_or_are_other_records(record: LedgerRecord, data: st.DataObject) -> None:
    block = bytearray(encode(record))
    block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = CODEC.decode(bytes(block))
    except RemoteError:
        return
    assert encode(found) == block


def test_a_receipt_of_three_lines_is_small() -> None:
    lines = tuple(ReceiptLine(f"0401234567890{n}", 2000, 199, 398) for n in range(3))
    receipt = Receipt("1", TillPosition(2**52, 700), ReceiptKind.SALE, date(2026, 11, 22), 0, "EUR", lines)
    assert len(encode(ReceiptRecord(receipt, WallTime(1_790_000_000_000, ClockQuality.FREE)))) < 128


@pytest.mark.parametrize("value", [[1], [99, 1, 2], [1, 2, 3], {"a": 1}, [True, 1], ["1", 1], [0, 1], [-1, 1]])
def test_other_cbor_is_no_record(value: object) -> None:
    with pytest.raises(RecordInvalid):
        CODEC.decode(cbor.encode(value))


def test_wrong_types_are_refused() -> None:
    receipt = Receipt("1", TillPosition(1, 1), ReceiptKind.DAY_END, date(2026, 1, 1), 0, "EUR")
    good = cbor.decode(encode(ReceiptRecord(receipt, WallTime(1, ClockQuality.FREE))))
    assert isinstance(good, list)
    for place in range(2, len(good)):
        for wrong in (True, "x", [1], 2**60, -1, None):
            if wrong == good[place] or (place == 13 and wrong is None):
                continue
            changed = [*good[:place], wrong, *good[place + 1 :]]
            try:
                found = CODEC.decode(cbor.encode(changed))
            except RemoteError:
                continue
            assert cbor.decode(encode(found)) == changed


def test_another_part_adds_its_own_kind() -> None:
    codec = LedgerCodec({**BASE, Kind.DAY: lambda block: ("day", block[-1])})
    assert codec.decode(cbor.encode([9, 1, 7])) == ("day", 7)
    with pytest.raises(RecordInvalid, match="unknown kind 9"):
        CODEC.decode(cbor.encode([9, 1, 7]))


def test_a_large_item_file_is_cut_into_records_that_fit_a_block() -> None:
    many = [Item(f"sku-{n:05d}", "x" * 100, "c" * 60, 100, 100) for n in range(20_000)]
    records = items_records(many, ("gone",), "items.csv", WallTime(1, ClockQuality.FREE))
    assert [item for record in records for item in record.upserts] == many
    assert [record.removed for record in records][:2] == [("gone",), ()]
    assert max(len(encode(record)) for record in records) < 1024 * 1024
    assert items_records([], ("gone",), "x", records[0].recorded)[0].removed == ("gone",)
    assert ledger.ITEMS_PER_RECORD == 1000
