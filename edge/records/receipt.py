"""A receipt as the box stores it: what a till rang, in integers, without any word about who bought or who served.

Quantities are thousandths (1,000 = one piece, or one kilogram of a weighed item). Money is in the currency's minor
unit. A line's `amount_minor` is what the customer paid for the line after multi-buys and line discounts, tax as the
receipt says; it is negative on a returned line, and so is the quantity.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from edge.errors import RecordInvalid
from edge.limits import INTEGER_MAX, LABEL_CHARS_MAX, PRICE_MINOR_MAX, RECEIPT_LINES_MAX
from edge.records.item import check_sku

QUANTITY_MILLI_MAX: Final = 100_000_000  # 100,000 pieces on one line
MILLI_PER_UNIT: Final = 1000


class ReceiptKind(StrEnum):
    """What happened at the till."""

    SALE = "sale"
    RETURN = "return"  # lines carry negative quantities and amounts
    VOID = "void"  # abandoned before payment: counts nothing, kept because its sequence number exists
    POST_VOID = "post_void"  # cancels the receipt named by `voids`, wherever it lies in the log
    DAY_END = "day_end"  # the lane closed its business day (POSLog: BusinessEOD)


@dataclass(frozen=True, slots=True, order=True)
class TillPosition:
    """Where a receipt stands among those of its lane: order is (boot epoch, sequence), never a clock."""

    epoch: int
    sequence: int

    def __post_init__(self) -> None:
        if not 1 <= self.epoch <= INTEGER_MAX:
            raise RecordInvalid(f"epoch {self.epoch} is outside 1..2^53-1")
        if not 1 <= self.sequence <= INTEGER_MAX:
            raise RecordInvalid(f"sequence {self.sequence} is outside 1..2^53-1")


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """One line. `unit_minor` is the shelf price of one unit that it was rung at."""

    sku: str
    quantity_milli: int
    unit_minor: int
    amount_minor: int
    weighed: bool = False
    multibuy: bool = False  # part of a multi-buy: amount is not quantity times unit price

    def __post_init__(self) -> None:
        check_sku(self.sku)
        if not 0 < abs(self.quantity_milli) <= QUANTITY_MILLI_MAX:
            raise RecordInvalid(f"line {self.sku}: quantity {self.quantity_milli} thousandths is out of range")
        if not 0 <= self.unit_minor <= PRICE_MINOR_MAX:
            raise RecordInvalid(f"line {self.sku}: unit price {self.unit_minor} is out of range")
        if abs(self.amount_minor) > PRICE_MINOR_MAX * 1000:
            raise RecordInvalid(f"line {self.sku}: amount {self.amount_minor} is out of range")
        if self.amount_minor and (self.amount_minor < 0) != (self.quantity_milli < 0):
            raise RecordInvalid(f"line {self.sku}: amount and quantity have different signs")


@dataclass(frozen=True, slots=True)
class Receipt:
    """One transaction of one lane."""

    lane: str
    position: TillPosition
    kind: ReceiptKind
    business_day: date
    wall_ms: int  # the till's clock, for people; nothing is ordered by it
    currency: str  # ISO 4217
    lines: tuple[ReceiptLine, ...] = ()
    book: int = 0  # number of the price book it was rung with; 0: none received yet
    tax_included: bool = True
    training: bool = False  # the cashier practises: stored, counted nowhere
    voids: TillPosition | None = None  # of a POST_VOID: the receipt it cancels, same lane

    def __post_init__(self) -> None:
        if not self.lane or len(self.lane) > LABEL_CHARS_MAX:
            raise RecordInvalid(f"lane {self.lane!r} must have 1 to {LABEL_CHARS_MAX} characters")
        if len(self.currency) != 3 or not self.currency.isascii() or not self.currency.isupper():
            raise RecordInvalid(f"currency {self.currency!r} is not an ISO 4217 code")
        if len(self.lines) > RECEIPT_LINES_MAX:
            raise RecordInvalid(f"{len(self.lines)} lines; at most {RECEIPT_LINES_MAX}", reason="too_large")
        if not 0 <= self.book <= INTEGER_MAX:
            raise RecordInvalid(f"book {self.book} is outside 0..2^53-1")
        if not 0 <= self.wall_ms <= INTEGER_MAX:
            raise RecordInvalid(f"wall time {self.wall_ms} ms is out of range")
        if (self.voids is not None) != (self.kind is ReceiptKind.POST_VOID):
            raise RecordInvalid("a post-void names the receipt it cancels, and only a post-void does")
        if self.kind in (ReceiptKind.SALE, ReceiptKind.RETURN) and not self.lines:
            raise RecordInvalid(f"a {self.kind} has at least one line")
        if self.kind is ReceiptKind.DAY_END and self.lines:
            raise RecordInvalid("a day end has no lines")

    @property
    def counts(self) -> bool:
        """Whether its lines move goods and money (before any later post-void)."""
        return not self.training and self.kind in (ReceiptKind.SALE, ReceiptKind.RETURN)
