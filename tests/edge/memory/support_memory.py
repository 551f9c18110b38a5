"""What the memory's tests share: short makers of receipts, and the plain model that the memory must equal."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

from edge.memory.local import LocalPriceMemory, MemoryConfig
from edge.records.history import week_of
from edge.records.item import Item
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

MONDAY = date(2026, 6, 1)
WEEK = week_of(MONDAY)

Rows = dict[tuple[int, str, int], tuple[int, int, int]]  # (week, sku, shelf price) → thousandths, amount, lines


def line(sku: str, pieces: int, price: int, amount: int | None = None) -> ReceiptLine:
    return ReceiptLine(sku, 1000 * pieces, price, pieces * price if amount is None else amount)


def receipt(
    sequence: int,
    *lines: ReceiptLine,
    day: date = MONDAY,
    lane: str = "1",
    epoch: int = 1,
    kind: ReceiptKind = ReceiptKind.SALE,
    voids: TillPosition | None = None,
    training: bool = False,
    tax_included: bool = True,
    currency: str = "EUR",
) -> Receipt:
    return Receipt(
        lane=lane,
        position=TillPosition(epoch, sequence),
        kind=kind,
        business_day=day,
        wall_ms=0,
        currency=currency,
        lines=lines,
        training=training,
        voids=voids,
        tax_included=tax_included,
    )


def post_void(sequence: int, target: int, **more: object) -> Receipt:
    return receipt(sequence, kind=ReceiptKind.POST_VOID, voids=TillPosition(1, target), **more)  # type: ignore[arg-type]


def item(sku: str, reference: int = 200, cost_e4: int = 10_000, category: str = "juice", **more: object) -> Item:
    return Item(sku, sku, category, reference, cost_e4, **more)  # type: ignore[arg-type]


def memory_over(ledger: Sequence[Receipt], config: MemoryConfig | None = None) -> LocalPriceMemory:
    """An empty memory that can read `ledger` again; a receipt's index there is its ledger index."""
    return LocalPriceMemory(config or MemoryConfig(), currency="EUR", read_receipt=lambda index: ledger[index])


def fed(*receipts: Receipt, config: MemoryConfig | None = None) -> LocalPriceMemory:
    memory = memory_over(receipts, config)
    for index, one in enumerate(receipts):
        memory.apply_receipt(one, index)
    return memory


def rows_of(memory: LocalPriceMemory) -> Rows:
    """Everything that the memory's pages hold."""
    found: Rows = {}
    for week in memory.weeks:
        page = memory.sales.page(week)
        assert page is not None
        columns = (page.item, page.price, page.units, page.amount, page.lines)
        for index, price, *sums in zip(*(column.tolist() for column in columns), strict=True):
            found[week, memory.catalogue.skus[index], price] = (sums[0], sums[1], sums[2])
    return found


def model_rows(receipts: Iterable[Receipt]) -> Rows:
    """The same from the definition alone: what is cancelled is left out, the rest is summed."""
    unique = {(r.lane, r.position): r for r in receipts}
    cancelled = {
        (r.lane, r.voids)
        for r in unique.values()
        if r.kind is ReceiptKind.POST_VOID and not r.training and r.voids is not None and r.voids < r.position
    }
    sums: dict[tuple[int, str, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for place, one in unique.items():
        if one.training or one.kind not in (ReceiptKind.SALE, ReceiptKind.RETURN) or place in cancelled:
            continue
        for each in one.lines:
            row = sums[(one.business_day - date(1970, 1, 5)) // timedelta(days=7), each.sku, each.unit_minor]
            row[0] += each.quantity_milli
            row[1] += each.amount_minor
            row[2] += 1 if each.quantity_milli > 0 else -1
    return {key: (row[0], row[1], row[2]) for key, row in sums.items() if any(row)}
