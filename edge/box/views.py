"""All views of the ledger together: fed record by record, frozen and thawed together, never ahead of the ledger.

Receipts are applied by the till service as they become durable, everything else by the pricing cycle; each kind has one
writer, and kinds do not depend on each other's order, so two appends that overlap may be applied in either order.
`length` is the number of leading records that are contained: the only length at which a snapshot is honest.
"""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, Final

from edge.box import records
from edge.box.days import BusinessDays
from edge.box.shelf import Shelf
from edge.box.snapshot import Frozen, Thawed, freeze
from edge.errors import LocalError, RecordInvalid
from edge.memory.local import LocalPriceMemory, MemoryConfig
from edge.memory.price_memory import P2PPriceMemory
from edge.pos.intake import Intake
from edge.privacy.identifiers import Listed, PublicList
from edge.records.decision import DecisionBatch, decode_decisions
from edge.records.ledger import BASE, BookRecord, ItemsRecord, Kind, LedgerCodec, ReceiptRecord
from edge.records.receipt import Receipt

CODEC: Final = LedgerCodec(
    {
        **BASE,
        Kind.SETTINGS: records.decode_settings,
        Kind.EXPERIMENT: records.decode_experiment,
        Kind.DAY: records.decode_day,
        Kind.DECISIONS: decode_decisions,
    }
)


class Views:
    """Intake, price memory, shelf and calendar of one box. Not thread-safe; lives on the event loop."""

    def __init__(self, config: MemoryConfig, *, currency: str, read_block: Callable[[int], bytes]) -> None:
        self._read_block = read_block
        self.intake = Intake()
        self.memory = LocalPriceMemory(config, currency=currency, read_receipt=self._read_receipt)
        self.prices = P2PPriceMemory(self.memory)  # the way of every receipt: into `memory`, and on to the networks
        self.shelf = Shelf()
        self.days = BusinessDays()
        self.length = 0
        self.newest_ms = 0  # newest wall time in the log: the floor of the box's clock
        self.items_version = 0  # counts changes of the item file since the start
        self._ahead: set[int] = set()
        self._listed: tuple[int, PublicList] | None = None  # as of `items_version`

    def thaw(self, thawed: Thawed) -> None:
        """Begin from a snapshot; only before any record was applied."""
        if self.length:
            raise LocalError("a snapshot is taken over before any record is applied")
        self.intake, self.shelf, self.days = thawed.intake, thawed.shelf, thawed.days
        self.memory.restore(thawed.memory)
        self.length, self.newest_ms = thawed.length, thawed.newest_ms

    def freeze(self, key: bytes) -> Frozen:
        """An image of all views at `length`; call only when nothing is applied beyond it."""
        if self._ahead:
            raise LocalError("records beyond the contiguous length are applied; wait for the ones before them")
        memory = self.memory.freeze(ledger=key, length=self.length)
        return freeze(
            key=key,
            length=self.length,
            newest_ms=self.newest_ms,
            intake=self.intake,
            memory=memory,
            shelf=self.shelf,
            days=self.days,
        )

    @property
    def settled(self) -> bool:
        """Whether every applied record lies below `length`."""
        return not self._ahead

    def replay(self, index: int, block: bytes) -> None:
        """Apply a record read back from the ledger at start."""
        record = CODEC.decode(block)
        self.intake.apply(record)
        self.apply(index, record)

    def apply(self, index: int, record: Any) -> None:
        """Apply a durable record to every view but the intake, which its own service commits."""
        if isinstance(record, ReceiptRecord):
            self.prices.take(record.receipt, index)
            self.days.observe(record.receipt)
            self.newest_ms = max(self.newest_ms, record.received.ms)
        elif isinstance(record, ItemsRecord):
            self.items_version += 1
            self.memory.apply_items(record.upserts, self._next_day(), removed=record.removed)
            self.shelf.apply(record)
        elif isinstance(record, BookRecord):
            prices = {sku: price for sku, price in record.changes if price is not None}
            self.memory.apply_book(prices, record.valid_from)
            self.shelf.apply(record)
        elif isinstance(record, DecisionBatch):
            self.shelf.note_decisions(record.category, record.business_day, index)
        elif isinstance(record, records.DayRecord):
            self.days.close_through(record.day)
            self.shelf.apply(record)
        else:
            self.shelf.apply(record)
        self._advance(index)

    def public_list(self) -> PublicList:
        """What everybody may read at the shelf: items with their category and regular price."""
        if self._listed is None or self._listed[0] != self.items_version:
            items = self.shelf.items.values()
            listed = PublicList(self.memory.currency, [Listed(i.sku, i.category, i.reference_minor) for i in items])
            self._listed = (self.items_version, listed)
        return self._listed[1]

    def decisions(self, index: int) -> DecisionBatch:
        """The batch of decisions that is record `index`."""
        return decode_decisions(self._read_block(index))

    def _advance(self, index: int) -> None:
        self._ahead.add(index)
        while self.length in self._ahead:
            self._ahead.remove(self.length)
            self.length += 1

    def _next_day(self) -> date:
        """The business day from which an item file counts: the first one that its prices can still reach."""
        over = self.days.due() or self.days.closed_through
        if over is not None:
            return self.days.newest_after(over) + timedelta(days=1)
        return self.days.newest or date.min

    def _read_receipt(self, index: int) -> Receipt | None:
        try:
            record = CODEC.decode(self._read_block(index))
        except RecordInvalid:
            return None
        return record.receipt if isinstance(record, ReceiptRecord) else None
