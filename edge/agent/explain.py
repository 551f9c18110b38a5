"""A price decision in plain words, and the list of shelf labels to print. Pure text from records.

The words are for the person who runs the shop: what changes, why, what stood in the way, what is expected and how sure
that is. Intervals are 95 %.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from edge.agent.observation import FEATURES, OBSERVATION_VERSION
from edge.agent.rules import Rule
from edge.records.decision import Arm, DecisionBatch, Mode, PriceDecision, Source
from edge.records.history import week_of
from edge.records.money import minor_per_unit

_WORDS: Final = {
    Rule.INPUT: "the item's reference price or cost is missing or impossible, so the last price was held",
    Rule.FINITE: "the policy's answer was not a usable number, so the last price was held",
    Rule.COST_FLOOR: "the cost floor: cost and least margin",
    Rule.CEILING: "your ceiling price",
    Rule.FLOOR: "your floor price",
    Rule.BAND: "the band around the reference price",
    Rule.STEP: "the largest step of one label change",
    Rule.INDEX: "the category's price index, which may lie at most half a percent above your reference prices",
    Rule.LADDER: "the order of sizes: a larger pack must not cost less, nor more per unit, than a smaller one",
    Rule.ENDING: "the price endings you allow",
    Rule.OPENING: "rises take effect only when the shop opens",
    Rule.DWELL: "the label changed only recently",
    Rule.SLOTS: "the day's label changes went to items that gain more",
    Rule.MENU_COST: "the expected gain is not worth a new label",
    Rule.CONFLICT: "your limits contradict each other, so the stronger one decided",
    Rule.MOVED: "the reference price, cost or limits changed, and the price with them",
}
_SOURCES: Final = {
    Source.SAC: "the learned policy",
    Source.OPTIMISER: "the weekly optimiser",
    Source.HOLD: "nobody: the last prices were held",
    Source.CONTROL: "the experiment: this is a control week, which shows the reference prices",
}
_DRIVERS: Final = 4  # features named in an explanation


@dataclass(frozen=True, slots=True)
class Label:
    """One shelf label to change."""

    category: str
    name: str
    sku: str
    old_minor: int  # 0: a new label
    new_minor: int
    currency: str


def explain(decision: PriceDecision, name: str = "") -> str:
    """Several lines about one decision, for `pomona why SKU`."""
    currency = decision.currency
    title = f"{name} ({decision.sku})" if name else decision.sku
    lines = [f"{title}, {decision.category}, from {decision.business_day.isoformat()}"]
    published, previous = decision.published_minor, decision.previous_minor
    if previous == 0:
        lines.append(f"Price    {_money(published, currency)}, the first one published")
    elif published == previous:
        lines.append(f"Price    {_money(published, currency)}, unchanged")
    else:
        lines.append(
            f"Price    {_money(previous, currency)} → {_money(published, currency)} ({published / previous - 1.0:+.1%})"
        )
    against = f", price is {published / decision.reference_minor - 1.0:+.1%}" if decision.reference_minor else ""
    lines.append(f"         reference {_money(decision.reference_minor, currency)}{against}; cost {decision.cost:.2f}")
    if decision.mode is Mode.SHADOW:
        lines.append(
            f"Mode     shadow: {_money(decision.chosen_minor, currency)} was chosen, recorded, and not published"
        )
    elif decision.mode is Mode.OFF:
        lines.append("Mode     off: the price follows your reference price")
    asked_by = _SOURCES[decision.source]
    if decision.model:
        asked_by += f" ({decision.model})"
    lines.append(f"Asked    {asked_by}")
    if math.isfinite(decision.asked):
        wish = decision.reference_minor * math.exp(min(max(decision.asked, -5.0), 5.0))
        lines.append(
            f"         {_percent(decision.asked)} on the reference, {_money(round(wish), currency)}; "
            f"the weekly optimiser would ask {_percent(decision.suggestion)}"
        )
    if decision.random_step:
        lines.append(
            f"         a random step of {_percent(decision.random_step)} is part of it "
            f"(probability {decision.propensity:.1%}), to keep the estimate honest"
        )
    if decision.peers is not None:
        heard, age = decision.peers, max(week_of(decision.business_day) - decision.peers.week, 0)
        lines.append(
            f"Peers    demand was estimated with what {_counted(heard.shops, 'shop')} of yours sold "
            f"({_counted(heard.coefficients, 'number')}, up to {_counted(age, 'week')} old)"
        )
    lines += [f"Fallback {failure}" for failure in decision.failures]
    rules = [rule for rule in Rule if rule in Rule(decision.rules)]
    for position, rule in enumerate(rules):
        lines.append(("Guard    " if position == 0 else "         ") + _WORDS[rule])
    if not rules:
        lines.append("Guard    nothing stood in the way")
    if decision.arm is not Arm.NONE:
        lines.append(f"Test     this week the category is in the {decision.arm} group of a randomised comparison")
    lines += _effect(decision)
    lines += _drivers(decision)
    return "\n".join(lines)


def _effect(decision: PriceDecision) -> list[str]:
    if decision.chosen_minor == decision.previous_minor or decision.units_hold <= 0:
        return []
    forecast = "Forecast" if decision.mode is Mode.LIVE else "Forecast if it were published:"
    units, units_reach = decision.units_change, 1.96 * decision.units_change_sd
    profit, reach = decision.profit_change, 1.96 * decision.profit_change_sd
    interval = f"({units - units_reach:+.1f} to {units + units_reach:+.1f})"
    sold = f"{forecast} {decision.units_hold:.1f} units a week at the held price, {units:+.1f} {interval}"
    interval = f"({profit - reach:+.2f} to {profit + reach:+.2f})"
    earned = f"         profit {profit:+.2f} {decision.currency} a week {interval}, later weeks and the basket included"
    return [sold, earned]


def _drivers(decision: PriceDecision) -> list[str]:
    """The inputs farthest from their usual value, in units of their range."""
    seen = decision.observation
    if len(seen) != len(FEATURES):
        return []
    far = [
        (abs(float(value) - feature.fill) / (feature.high - feature.low), feature, float(value))
        for feature, value in zip(FEATURES, seen, strict=True)
        if feature.name not in ("items", "slots", "low", "high") and not feature.name.endswith("_missing")
    ]
    far.sort(key=lambda entry: -entry[0])
    named = [
        f"{feature.name} {value:.3g} ({feature.unit})" for distance, feature, value in far[:_DRIVERS] if distance > 0
    ]
    return [f"{'Inputs  ' if i == 0 else '        '} {text}" for i, text in enumerate(named)]


def as_dict(decision: PriceDecision, name: str = "") -> dict[str, object]:
    """The whole decision for `--json`: plain values, features by name where the version is this box's."""
    seen = decision.observation.tolist()
    by_name = {feature.name: value for feature, value in zip(FEATURES, seen, strict=False)}
    return {
        "sku": decision.sku,
        "name": name,
        "category": decision.category,
        "business_day": decision.business_day.isoformat(),
        "mode": decision.mode.value,
        "source": decision.source.value,
        "arm": decision.arm.value,
        "model": decision.model,
        "model_sha256": decision.model_sha256.hex(),
        "failures": list(decision.failures),
        "peers": None if decision.peers is None else asdict(decision.peers),
        "currency": decision.currency,
        "published_minor": decision.published_minor,
        "chosen_minor": decision.chosen_minor,
        "previous_minor": decision.previous_minor,
        "reference_minor": decision.reference_minor,
        "rules": list(Rule(decision.rules).words),
        "asked": decision.asked if math.isfinite(decision.asked) else None,
        "suggestion": decision.suggestion,
        "cost": decision.cost,
        "units_hold": decision.units_hold,
        "units_change": decision.units_change,
        "units_change_sd": decision.units_change_sd,
        "profit_change": decision.profit_change,
        "profit_change_sd": decision.profit_change_sd,
        "random_step": decision.random_step,
        "propensity": decision.propensity,
        "observation_version": OBSERVATION_VERSION,
        "observation": by_name if len(seen) == len(FEATURES) else seen,
    }


def labels(batches: Iterable[DecisionBatch], names: Mapping[str, str]) -> list[Label]:
    """Labels that change, in the order in which a person walks the shop: category, name, SKU."""
    found = [
        Label(batch.category, names.get(sku, ""), sku, old, new, batch.currency)
        for batch in batches
        for sku, old, new in zip(batch.skus, batch.previous.tolist(), batch.published.tolist(), strict=True)
        if old != new and new > 0
    ]
    return sorted(found, key=lambda label: (label.category, label.name, label.sku))


def labels_text(changes: Iterable[Label]) -> str:
    """The print list for people: one line a label, a heading a category."""
    lines: list[str] = []
    category = None
    for label in changes:
        if label.category != category:
            category = label.category
            lines.append(f"{category}:")
        old = _money(label.old_minor, label.currency) if label.old_minor else "new"
        lines.append(
            f"  {label.name or label.sku:<40} {label.sku:<16} {old:>12} → {_money(label.new_minor, label.currency):>12}"
        )
    return "\n".join(lines) if lines else "no label changes"


def labels_csv(changes: Iterable[Label]) -> str:
    """The print list for a label printer; the columns are those of `Label`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["category", "name", "sku", "old_minor", "new_minor", "currency"])
    for label in changes:
        writer.writerow([label.category, label.name, label.sku, label.old_minor, label.new_minor, label.currency])
    return out.getvalue()


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _money(minor: int, currency: str) -> str:
    unit = minor_per_unit(currency)
    digits = len(str(unit)) - 1
    return f"{minor / unit:.{digits}f} {currency}"


def _percent(log: float) -> str:
    return f"{math.expm1(min(max(log, -5.0), 5.0)):+.1%}"
