"""The ledger as tables: sales, prices and decisions, a row at a time, with fixed columns. Pure; for `pomona export`.

Rows come in the order of the ledger. A post-void is a row of its own, whose `voids_sequence` names what it cancels:
what a till said stays visible. Money is in minor units of the row's currency, costs in currency units as recorded.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from edge.box.views import CODEC
from edge.records.decision import DecisionBatch
from edge.records.ledger import BookRecord, ReceiptRecord

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A kind of export: its columns, and what a record of the ledger adds to it."""

    columns: tuple[tuple[str, str], ...]  # name, and int | float | text | bool; any cell may be None
    rows: Callable[[int, Any], Iterator[Row]]


def _sales(index: int, record: Any) -> Iterator[Row]:
    if not isinstance(record, ReceiptRecord):
        return
    receipt = record.receipt
    head = (
        index,
        receipt.lane,
        receipt.position.epoch,
        receipt.position.sequence,
        receipt.kind.value,
        receipt.business_day.isoformat(),
        receipt.currency,
        receipt.tax_included,
        receipt.training,
        None if receipt.voids is None else receipt.voids.sequence,
        receipt.book,
    )
    for number, line in enumerate(receipt.lines, start=1):
        yield (*head, number, line.sku, line.quantity_milli, line.unit_minor, line.amount_minor)
    if not receipt.lines and receipt.voids is not None:
        yield (*head, 0, None, None, None, None)


def _prices(index: int, record: Any) -> Iterator[Row]:
    if isinstance(record, BookRecord):
        days = (record.valid_from.isoformat(), record.decided_through.isoformat())
        for sku, price in record.changes:
            yield (index, record.number, *days, sku, price, record.currency)


def _decisions(index: int, record: Any) -> Iterator[Row]:
    if isinstance(record, DecisionBatch):
        for d in record:
            place = (index, d.business_day.isoformat(), d.category, d.sku, d.mode.value, d.source.value, d.arm.value)
            prices = (d.published_minor, d.chosen_minor, d.previous_minor, d.reference_minor, d.currency, d.cost)
            expected = (d.units_change, d.units_change_sd, d.profit_change, d.profit_change_sd)
            heard = (None, None, None) if d.peers is None else (d.peers.shops, d.peers.week, d.peers.coefficients)
            yield (*place, *prices, d.rules, d.asked, d.suggestion, *expected, d.random_step, d.propensity, *heard)


def _columns(**kinds: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, kind) for kind, names in kinds.items() for name in names.split())


TABLES: Final[dict[str, Table]] = {
    "sales": Table(
        (
            *_columns(int="record"),
            *_columns(text="lane"),
            *_columns(int="epoch sequence"),
            *_columns(text="kind business_day currency"),
            *_columns(bool="tax_included training"),
            *_columns(int="voids_sequence book line"),
            *_columns(text="sku"),
            *_columns(int="quantity_milli unit_minor amount_minor"),
        ),
        _sales,
    ),
    "prices": Table(
        (
            *_columns(int="record book"),
            *_columns(text="valid_from decided_through sku"),
            *_columns(int="price_minor"),
            *_columns(text="currency"),
        ),
        _prices,
    ),
    "decisions": Table(
        (
            *_columns(int="record"),
            *_columns(text="business_day category sku mode source arm"),
            *_columns(int="published_minor chosen_minor previous_minor reference_minor"),
            *_columns(text="currency", float="cost", int="rules"),
            *_columns(float="asked suggestion units_change units_change_sd profit_change profit_change_sd"),
            *_columns(float="random_step propensity"),
            *_columns(int="peers_shops peers_week peers_coefficients"),  # empty where no other shop was heard
        ),
        _decisions,
    ),
}


def rows(table: Table, blocks: Iterable[tuple[int, bytes]]) -> Iterator[Row]:
    """The rows that the ledger's `blocks` (index, block) add to `table`."""
    for index, block in blocks:
        yield from table.rows(index, CODEC.decode(block))
