"""What a demonstration has to prove, read from the box's ledger after the box has stopped.

Receipts: the tills' count, the acknowledged count and the ledger's count are one number. Log: every block and every
signature verifies. Decisions: each price that was published (or, in shadow, chosen) lies within cost floor, owner's
limits, band and step, by a second statement of those rules that shares no code with the guard.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.agent.rules import GuardRules, Rule
from edge.box.ledger import Ledger
from edge.box.views import CODEC
from edge.limits import PRICE_MINOR_MAX
from edge.records.decision import DecisionBatch, Mode, PriceDecision
from edge.records.item import Item
from edge.records.ledger import BookRecord, GapRecord, ItemsRecord, ReceiptRecord, RefusedRecord
from edge.records.money import cost_minor

_SLACK = 1e-6  # minor units


@dataclass(slots=True)
class Verdict:
    """What was found in one box's ledger."""

    records: int = 0
    receipts: int = 0  # every message of a till: day ends, voids and training receipts too
    refused: int = 0
    gaps: int = 0
    books: int = 0
    units: float = 0.0  # of sales less returns, as rung
    decisions: int = 0
    batches: int = 0
    live_rounds: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    outside: list[str] = field(default_factory=list)  # decisions outside their limits
    profit_change: float = 0.0  # sum of the weekly forecasts, each against the price before, currency units
    profit_change_variance: float = 0.0
    newest: dict[str, PriceDecision] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


async def read_ledger(state: Path, guard: GuardRules) -> Verdict:
    """Verify the ledger under `state` and judge it. Raises `StorageError` for the first block that is not as signed."""
    ledger = await Ledger.open(state, create=False)
    try:
        verdict = Verdict(records=await ledger.core.verify())
        items: dict[str, Item] = {}
        for block in ledger.core.blocks():
            _take(verdict, CODEC.decode(block), items, guard)
        return verdict
    finally:
        await ledger.core.close()


def _take(verdict: Verdict, record: object, items: dict[str, Item], guard: GuardRules) -> None:
    if isinstance(record, ReceiptRecord):
        verdict.receipts += 1
        if record.receipt.counts:
            verdict.units += sum(line.quantity_milli for line in record.receipt.lines) / 1000
    elif isinstance(record, RefusedRecord):
        verdict.refused += 1
    elif isinstance(record, GapRecord):
        verdict.gaps += 1
    elif isinstance(record, BookRecord):
        verdict.books = max(verdict.books, record.number)
    elif isinstance(record, ItemsRecord):
        items.update((item.sku, item) for item in record.upserts)
        verdict.names.update((item.sku, item.name) for item in record.upserts)
    elif isinstance(record, DecisionBatch):
        verdict.batches += 1
        verdict.live_rounds += record.mode is Mode.LIVE and record.business_day.weekday() == 0
        verdict.sources[record.source.value] += 1
        for decision in record:
            verdict.decisions += 1
            verdict.newest[decision.sku] = decision
            verdict.profit_change += decision.profit_change
            verdict.profit_change_variance += decision.profit_change_sd**2
            fault = breach(decision, items, guard)
            if fault:
                verdict.outside.append(f"{decision.business_day} {decision.sku}: {fault}")


def breach(decision: PriceDecision, items: Mapping[str, Item], guard: GuardRules) -> str:
    """How the decided price breaks its limits; empty if it does not.

    Precedence: cost floor, then the owner's ceiling, the owner's floor, the band; a limit that a stronger one leaves no
    room for gives way to it. Held prices of unusable items (`Rule.INPUT`) are not judged: there is nothing to judge by.
    """
    price = decision.published_minor if decision.mode is Mode.LIVE else decision.chosen_minor
    item = items.get(decision.sku)
    if item is None or decision.rules & int(Rule.INPUT) or price == 0:
        return ""
    low = math.ceil(cost_minor(item.cost_e4, decision.currency) * (1 + guard.margin_min) - _SLACK)
    high = PRICE_MINOR_MAX
    width = math.exp(guard.band)
    reference = decision.reference_minor
    band = (math.ceil(reference / width - _SLACK), math.floor(reference * width + _SLACK))
    limits = ((1, item.ceiling_minor or PRICE_MINOR_MAX), (item.floor_minor or 1, PRICE_MINOR_MAX), band)
    for weaker_low, weaker_high in limits:
        low, high = min(max(low, weaker_low), high), max(min(high, weaker_high), low)
    if not low <= price <= high:
        return f"{price} is outside {low}..{high}"
    step = math.exp(guard.step)
    previous = decision.previous_minor
    unmoved = previous and not decision.rules & int(Rule.MOVED) and low <= previous <= high
    if unmoved and not previous / step - 1 <= price <= previous * step + 1:
        return f"{price} is more than a step from {previous}"
    return ""
