"""The blocks of the ledger, the box's one local log: what each kind holds and its one encoding.

A block is a canonical CBOR array `[kind, version, body...]` (FORMATS.md, "Ledger"). Kinds, and who reads them:

    1 receipt    a till's transaction                      2 refused   a till's message that cannot be one
    3 gap        a till opened a new epoch                 4 items     changes of the item file
    5 settings   modes and settings that changed           6 book      a published price book
    7 decisions  a batch of price decisions                8 experiment  assignments of an experiment
    9 day        a business day was closed

The codecs of kinds 1 to 4 and 6 are here. A part that owns another kind adds its codec when it builds a `LedgerCodec`,
so that nothing here has to know it:

    codec = LedgerCodec({**BASE, Kind.DECISIONS: decode_decisions})
    record = codec.decode(block)

Invariants: `encode_x(decode_x(block)) == block` for every block that decodes; unknown kinds and versions, wrong types
and wrong lengths raise `RecordInvalid`. Days are proleptic Gregorian ordinals (1 = 1 January of the year 1).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import Any, Final

import cbor2

from edge.clock import QUALITIES, WallTime
from edge.encoding import cbor
from edge.errors import RecordInvalid
from edge.limits import INTEGER_MAX, ITEMS_MAX, LABEL_CHARS_MAX
from edge.records.item import Item, Promotion, check_sku
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

ITEMS_PER_RECORD: Final = 1000  # a record of 1,000 items is some 100 kB: far below a block, quick to read
PRICES_PER_RECORD: Final = 5000
MISSING_RANGES_MAX: Final = 1024  # ranges of missing sequences that one gap record lists; more are summed in its last


class Kind(IntEnum):
    """First element of a block."""

    RECEIPT = 1
    REFUSED = 2
    GAP = 3
    ITEMS = 4
    SETTINGS = 5
    BOOK = 6
    DECISIONS = 7
    EXPERIMENT = 8
    DAY = 9


@dataclass(frozen=True, slots=True)
class ReceiptRecord:
    """A receipt as it entered the log. `received` is the box's clock, for people; order is the log's own."""

    receipt: Receipt
    received: WallTime


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A message with a readable position that could not be a receipt. Its content is not kept: it may be personal."""

    lane: str
    position: TillPosition
    reason: str  # short stable word, as in the metric
    field: str  # the offending key; "" where the whole message is meant
    received: WallTime


@dataclass(frozen=True, slots=True)
class GapRecord:
    """A lane opened a new epoch: what was missing of the one before at that moment.

    `through` is the last sequence of the old epoch up to which nothing was missing, `missing` the holes known beyond it
    (first and last sequence, both included). `last` is the old epoch's last sequence if the till still knew it; None
    means that receipts behind the last one seen may be lost as well.
    """

    lane: str
    old_epoch: int
    new_epoch: int
    through: int
    missing: tuple[tuple[int, int], ...]
    last: int | None
    received: WallTime


@dataclass(frozen=True, slots=True)
class ItemsRecord:
    """Items set (added or changed) and removed, by an item file or a person."""

    upserts: tuple[Item, ...]
    removed: tuple[str, ...]
    source: str  # e.g. the item file's name
    recorded: WallTime


@dataclass(frozen=True, slots=True)
class BookRecord:
    """A price book that the box publishes: changes against the book before, `None` for an item no longer sold.

    A large book is split over consecutive records `part` 0 to `parts` − 1 with equal heads; it is in force once the
    last part is in the log. `decided_through` is the last business day that the decision has looked at.
    """

    number: int
    currency: str
    valid_from: date
    decided_through: date
    count: int
    digest: bytes  # 32 bytes over the whole book, see edge.pos.book
    part: int
    parts: int
    changes: tuple[tuple[str, int | None], ...]
    recorded: WallTime

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.parts or len(self.digest) != 32 or not 0 <= self.count <= ITEMS_MAX:
            raise RecordInvalid(f"book {self.number}: part {self.part} of {self.parts}, {self.count} items")
        if not 1 <= self.number <= INTEGER_MAX:
            raise RecordInvalid(f"book number {self.number} is outside 1..2^53-1")


LedgerRecord = ReceiptRecord | RefusedRecord | GapRecord | ItemsRecord | BookRecord
Decoder = Callable[[bytes], Any]

_RECEIPT_KINDS: Final = (
    ReceiptKind.SALE,
    ReceiptKind.RETURN,
    ReceiptKind.VOID,
    ReceiptKind.POST_VOID,
    ReceiptKind.DAY_END,
)
_RECEIPT_CODE: Final = {kind: code for code, kind in enumerate(_RECEIPT_KINDS)}
_QUALITY_CODE: Final = {quality: code for code, quality in enumerate(QUALITIES)}
_TAX_INCLUDED, _TRAINING = 1, 2
_WEIGHED, _MULTIBUY = 1, 2


def kind_of(block: bytes) -> int:
    """The kind of a block, from its first bytes alone; raises `RecordInvalid` where it has none."""
    head = block[0] if block else 0
    at = 1 if 0x82 <= head <= 0x97 else 2 if head == 0x98 else 3 if head == 0x99 else 0
    if at == 0 or len(block) <= at or not 0 < block[at] < 24:
        raise RecordInvalid("block is not a ledger record", reason="unknown_kind")
    return block[at]


class LedgerCodec:
    """Decodes blocks by kind. Built once from `BASE` and the decoders of other parts."""

    def __init__(self, decoders: Mapping[int, Decoder]) -> None:
        self._decoders = dict(decoders)

    def decode(self, block: bytes) -> Any:
        """The record in `block`: of the type that its kind's owner documents. Raises `RecordInvalid`."""
        decoder = self._decoders.get(kind_of(block))
        if decoder is None:
            raise RecordInvalid(f"ledger record of unknown kind {kind_of(block)}", reason="unknown_kind")
        return decoder(block)


def encode(record: LedgerRecord) -> bytes:
    """The block of a record of kinds 1 to 4 and 6."""
    if isinstance(record, ReceiptRecord):
        return encode_receipt(record)
    if isinstance(record, RefusedRecord):
        body: list[object] = [record.lane, *_place(record.position), record.reason, record.field]
        return cbor.encode([Kind.REFUSED.value, 1, *body, *_wall(record.received)])
    if isinstance(record, GapRecord):
        missing = [edge for span in record.missing for edge in span]
        body = [record.lane, record.old_epoch, record.new_epoch, record.through, missing, record.last]
        return cbor.encode([Kind.GAP.value, 1, *body, *_wall(record.received)])
    if isinstance(record, ItemsRecord):
        items = [_item_body(item) for item in record.upserts]
        body = [items, list(record.removed), record.source]
        return cbor.encode([Kind.ITEMS.value, 1, *body, *_wall(record.recorded)])
    changes = [cell for change in record.changes for cell in change]
    days = [record.valid_from.toordinal(), record.decided_through.toordinal()]
    body = [record.number, record.currency, *days, record.count, record.digest, record.part, record.parts, changes]
    return cbor.encode([Kind.BOOK.value, 1, *body, *_wall(record.recorded)])


def encode_receipt(record: ReceiptRecord) -> bytes:
    """The block of a receipt: about 20 bytes and 25 a line."""
    receipt = record.receipt
    lines: list[object] = []
    for line in receipt.lines:
        flags = line.weighed * _WEIGHED + line.multibuy * _MULTIBUY
        lines += (line.sku, line.quantity_milli, line.unit_minor, line.amount_minor, flags)
    body = [
        Kind.RECEIPT.value,
        1,
        receipt.lane,
        receipt.position.epoch,
        receipt.position.sequence,
        _RECEIPT_CODE[receipt.kind],
        receipt.business_day.toordinal(),
        receipt.wall_ms,
        receipt.currency,
        receipt.tax_included * _TAX_INCLUDED + receipt.training * _TRAINING,
        receipt.book,
        None if receipt.voids is None else [receipt.voids.epoch, receipt.voids.sequence],
        lines,
        record.received.ms,
        _QUALITY_CODE[record.received.quality],
    ]
    # Text, integers and null in arrays have one encoding in cbor2 as it is, and `Receipt` has checked their ranges: the
    # full check of `cbor.encode` would cost as much as all of the rest of a receipt's way into the log.
    return cbor2.dumps(body)


def decode_receipt(block: bytes) -> ReceiptRecord:
    """Inverse of `encode_receipt`."""
    body = _body(block, Kind.RECEIPT, 13)
    lane, epoch, sequence, code, day, wall_ms, currency, flags, book, voids, cells, ms, quality = body
    _check_types((lane, currency), str)
    _check_types((epoch, sequence, code, day, wall_ms, flags, book), int)
    if voids is not None:
        _check_types(_list(voids, 2), int)
    _list(cells)
    if len(cells) % 5 or not 0 <= code < len(_RECEIPT_KINDS) or not 0 <= flags < 4:
        raise RecordInvalid("receipt record: lines, kind or flags")
    lines = []
    for at in range(0, len(cells), 5):
        sku, quantity, unit, amount, line_flags = cells[at : at + 5]
        _check_types((sku,), str)
        _check_types((quantity, unit, amount, line_flags), int)
        if not 0 <= line_flags < 4:
            raise RecordInvalid("receipt record: line flags")
        lines.append(
            ReceiptLine(sku, quantity, unit, amount, bool(line_flags & _WEIGHED), bool(line_flags & _MULTIBUY))
        )
    receipt = Receipt(
        lane=lane,
        position=TillPosition(epoch, sequence),
        kind=_RECEIPT_KINDS[code],
        business_day=_day(day),
        wall_ms=wall_ms,
        currency=currency,
        lines=tuple(lines),
        book=book,
        tax_included=bool(flags & _TAX_INCLUDED),
        training=bool(flags & _TRAINING),
        voids=None if voids is None else TillPosition(*voids),
    )
    return ReceiptRecord(receipt, _wall_time(ms, quality))


def decode_refused(block: bytes) -> RefusedRecord:
    """The refusal in a block of kind 2."""
    lane, epoch, sequence, reason, field, ms, quality = _body(block, Kind.REFUSED, 7)
    _check_types((lane, reason, field), str)
    _check_types((epoch, sequence), int)
    return RefusedRecord(lane, TillPosition(epoch, sequence), reason, field, _wall_time(ms, quality))


def decode_gap(block: bytes) -> GapRecord:
    """The gap in a block of kind 3."""
    lane, old, new, through, missing, last, ms, quality = _body(block, Kind.GAP, 8)
    _check_types((lane,), str)
    _check_types((old, new, through), int)
    _check_types(_list(missing), int)
    if len(missing) % 2 or not (last is None or type(last) is int):
        raise RecordInvalid("gap record: missing or last")
    spans = tuple(zip(missing[::2], missing[1::2], strict=True))
    return GapRecord(lane, old, new, through, spans, last, _wall_time(ms, quality))


def decode_items(block: bytes) -> ItemsRecord:
    """The item changes in a block of kind 4."""
    items, removed, source, ms, quality = _body(block, Kind.ITEMS, 5)
    _check_types(_list(removed), str)
    _check_types((source,), str)
    upserts = tuple(_item(_list(cells, 11)) for cells in _list(items))
    return ItemsRecord(upserts, tuple(check_sku(sku) for sku in removed), source, _wall_time(ms, quality))


def decode_book(block: bytes) -> BookRecord:
    """The part of a price book in a block of kind 6."""
    number, currency, start, through, count, digest, part, parts, cells, ms, quality = _body(block, Kind.BOOK, 11)
    _check_types((number, start, through, count, part, parts), int)
    _check_types((currency,), str)
    _check_types((digest,), bytes)
    if len(_list(cells)) % 2:
        raise RecordInvalid("book record: changes")
    _check_types(cells[::2], str)
    _check_types((price for price in cells[1::2] if price is not None), int)
    changes = tuple(zip(cells[::2], cells[1::2], strict=True))
    head = (number, currency, _day(start), _day(through), count, digest, part, parts)
    return BookRecord(*head, changes, _wall_time(ms, quality))


BASE: Final[Mapping[int, Decoder]] = {
    Kind.RECEIPT: decode_receipt,
    Kind.REFUSED: decode_refused,
    Kind.GAP: decode_gap,
    Kind.ITEMS: decode_items,
    Kind.BOOK: decode_book,
}


def items_records(
    upserts: Sequence[Item], removed: Sequence[str], source: str, recorded: WallTime
) -> list[ItemsRecord]:
    """The change in records of at most `ITEMS_PER_RECORD` items; removals ride in the first."""
    chunks = [tuple(upserts[at : at + ITEMS_PER_RECORD]) for at in range(0, len(upserts), ITEMS_PER_RECORD)] or [()]
    source = source[:LABEL_CHARS_MAX]
    return [ItemsRecord(chunk, tuple(removed) if i == 0 else (), source, recorded) for i, chunk in enumerate(chunks)]


def _body(block: bytes, kind: Kind, length: int) -> list[Any]:
    value = cbor.decode(block)
    if type(value) is not list or len(value) != length + 2 or value[0] != kind or value[1] != 1:
        raise RecordInvalid(f"not a ledger record of kind {kind.name.lower()}, version 1", reason="unknown_kind")
    return value[2:]


def _list(value: Any, length: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise RecordInvalid("ledger record: a list is missing or has the wrong length")
    return value


def _check_types(values: Any, wanted: type) -> None:
    for value in values:
        if type(value) is not wanted:  # not isinstance: True is not an integer here
            raise RecordInvalid(f"ledger record: {type(value).__name__} in place of {wanted.__name__}")


def _place(position: TillPosition) -> tuple[int, int]:
    return position.epoch, position.sequence


def _wall(wall: WallTime) -> tuple[int, int]:
    return wall.ms, _QUALITY_CODE[wall.quality]


def _wall_time(ms: Any, quality: Any) -> WallTime:
    if type(ms) is not int or type(quality) is not int or not 0 <= quality < len(QUALITIES) or ms < 0:
        raise RecordInvalid("ledger record: wall time")
    return WallTime(ms, QUALITIES[quality])


def _day(ordinal: Any) -> date:
    if type(ordinal) is not int or not 1 <= ordinal <= date.max.toordinal():
        raise RecordInvalid("ledger record: day")
    return date.fromordinal(ordinal)


def _item_body(item: Item) -> list[object]:
    promotions = [[p.start.toordinal(), p.end.toordinal(), p.price_minor, p.featured] for p in item.promotions]
    return [
        item.sku,
        item.name,
        item.category,
        item.reference_minor,
        item.cost_e4,
        item.floor_minor,
        item.ceiling_minor,
        item.ladder,
        None if item.size is None else float(item.size),
        item.weighed,
        promotions,
    ]


def _item(cells: list[Any]) -> Item:
    sku, name, category, reference, cost, floor, ceiling, ladder, size, weighed, promotions = cells
    _check_types((sku, name, category), str)
    _check_types((reference, cost), int)
    _check_types((value for value in (floor, ceiling) if value is not None), int)
    _check_types((value for value in (size,) if value is not None), float)
    _check_types((value for value in (ladder,) if value is not None), str)
    _check_types((weighed,), bool)
    dated = []
    for entry in _list(promotions):
        start, end, price, featured = _list(entry, 4)
        _check_types((price,), int)
        _check_types((featured,), bool)
        dated.append(Promotion(_day(start), _day(end), price, featured))
    return Item(sku, name, category, reference, cost, floor, ceiling, ladder, size, weighed, tuple(dated))
