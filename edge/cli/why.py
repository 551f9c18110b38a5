"""What `pomona why`, `pomona decisions` and the print list say. Rendering alone: the caller reads the records."""

import json
from collections.abc import Iterable, Mapping, Sequence

from edge.agent.explain import Label, as_dict, explain, labels_csv, labels_text
from edge.agent.rules import Rule
from edge.records.decision import DecisionBatch, PriceDecision
from edge.records.money import minor_per_unit


def render_why(decisions: Sequence[PriceDecision], name: str = "", *, as_json: bool = False) -> str:
    """One item's decisions, newest first, in words or as a JSON list."""
    if as_json:
        return json.dumps([as_dict(decision, name) for decision in decisions], indent=2)
    return "\n\n".join(explain(decision, name) for decision in decisions)


def render_decisions(batches: Iterable[DecisionBatch], names: Mapping[str, str], *, as_json: bool = False) -> str:
    """A table of decisions, one line an item; or a JSON list with everything that was recorded."""
    decisions = [decision for batch in batches for decision in batch]
    if as_json:
        return json.dumps([as_dict(decision, names.get(decision.sku, "")) for decision in decisions], indent=2)
    rows: list[tuple[str, ...]] = [
        ("day", "category", "item", "mode", "asked by", "before", "shelf", "chosen", "profit/week ± 95 %", "guard")
    ]
    for decision in decisions:
        unit = minor_per_unit(decision.currency)
        digits = len(str(unit)) - 1
        prices = (decision.previous_minor, decision.published_minor, decision.chosen_minor)
        rows.append(
            (
                decision.business_day.isoformat(),
                decision.category,
                names.get(decision.sku, decision.sku),
                decision.mode.value,
                decision.source.value,
                *(f"{price / unit:.{digits}f}" for price in prices),
                f"{decision.profit_change:+.2f} ± {1.96 * decision.profit_change_sd:.2f}",
                " ".join(Rule(decision.rules).words),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def render_labels(changes: Sequence[Label], *, as_csv: bool = False) -> str:
    """The labels to change, for a person or for a label printer."""
    return labels_csv(changes) if as_csv else labels_text(changes)
