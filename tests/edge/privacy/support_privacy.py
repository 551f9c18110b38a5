"""A disk that can die at any step, and receipts, lists and rules for the tests of the privacy layers."""

from collections.abc import Sequence
from datetime import date
from enum import Enum
from fractions import Fraction

from edge.errors import StorageError, StorageFault
from edge.privacy.budget import BudgetLedger, Caps, Spent
from edge.privacy.identifiers import Listed, PublicList
from edge.records.history import week_start
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

NETWORK = bytes(range(32))
OTHER = bytes(range(1, 33))
MILK, BREAD = "04012345678901", "04012345678902"
LIST = PublicList("EUR", [Listed(MILK, "dairy", 200), Listed(BREAD, "bakery", 300)])
LANE = "lane-canary-7"
CAPS = Caps(Spent(Fraction(2), Fraction(1, 2)), Spent(Fraction(60), Fraction(13)))


class Step(Enum):
    """Where power goes away in an append."""

    BEFORE = "before"  # nothing is written
    AFTER = "after"  # the block is durable, and nobody hears of it


class PowerCut(Exception):
    """The process is gone; only `Disk.blocks` is left."""


class Disk:
    """Durable blocks of one ledger."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.cut: Step | None = None
        self.full = False

    async def append(self, block: bytes) -> None:
        if self.full:
            raise StorageError("no space", fault=StorageFault.FULL)
        if self.cut is Step.BEFORE:
            raise PowerCut
        self.blocks.append(block)
        if self.cut is Step.AFTER:
            raise PowerCut

    def ledger(self, caps: Caps = CAPS) -> BudgetLedger:
        """The ledger as a restart finds it."""
        return BudgetLedger.opened(caps, self.blocks, self.append)


def receipt(
    week: int, lines: Sequence[tuple[str, int]], sequence: int = 1, kind: ReceiptKind = ReceiptKind.SALE
) -> Receipt:
    """A receipt of (SKU, price) lines, one piece each, on the Monday of `week`."""
    sign = -1 if kind is ReceiptKind.RETURN else 1
    return Receipt(
        lane=LANE,
        position=TillPosition(7, sequence),
        kind=kind,
        business_day=week_start(week),
        wall_ms=1_790_000_000_123,
        currency="EUR",
        lines=tuple(ReceiptLine(sku, sign * 1000, price, sign * price) for sku, price in lines),
    )


def monday(week: int) -> date:
    return week_start(week)
