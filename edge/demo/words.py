"""What a demonstration has shown, in words for a person and in JSON for a program."""

import json
from dataclasses import asdict
from typing import Any, Final

from edge.agent.explain import explain
from edge.demo.beginning import Beginning
from edge.demo.consortium import CLIP, Shown
from edge.demo.outcome import CutOff, Outcome, Result, Together
from edge.demo.show import Scene

_MEASURES: Final = (
    ("value", "what is optimised: gross profit and what else its buyers put into the basket"),
    ("gross_profit", "gross profit of the category alone"),
)
_FAULTS_SHOWN: Final = 5


def summary(result: Result, scene: Scene) -> str:
    """The result for a person."""
    lines = []
    for outcome in result.shops:
        lines += _shop(outcome, scene)
        if outcome is result.shops[-1] or "gross_profit" not in outcome.end:
            lines += _reason(outcome)  # of simulated shops the newest one's: what it heard is in it
    if result.together is not None:
        lines += _together(result.together)
    if result.consortium is not None:
        lines += _consortium(result.consortium)
    return "\n".join(lines)


def _shop(outcome: Outcome, scene: Scene) -> list[str]:
    lines = []
    verdict, end = outcome.verdict, outcome.end
    equal = "=" if outcome.counts_agree else "≠"
    lines.append(f"shop {outcome.plan.gln} ({outcome.plan.folder})")
    lines.append(
        f"  receipts   published {outcome.published:,} {equal} acknowledged {outcome.acknowledged:,} {equal} "
        f"in the log {verdict.receipts + verdict.refused:,}"
    )
    lines.append(f"  log        {verdict.records:,} records; every block and signature verified")
    asked = ", ".join(f"{source} {count}" for source, count in sorted(verdict.sources.items()))
    inside = "every one inside the guard" if not verdict.outside else f"{len(verdict.outside)} OUTSIDE the guard"
    lines.append(f"  decisions  {verdict.decisions:,} in {verdict.batches} rounds ({asked}); {inside}")
    lines += [f"             {fault}" for fault in verdict.outside[:5]]
    if "gross_profit" in end:
        lines.append(
            f"  profit     of {verdict.live_rounds} live weeks against the same weeks at the owner's own prices:"
        )
        for name, words in _MEASURES:
            truth = end[name] - end[f"{name}_twin"]
            share = truth / end["gross_profit_twin"]
            lines.append(f"             {words}")
            lines.append(f"               estimated by the box   {_box_estimate(outcome, name)}")
            lines.append(f"               the simulator's truth  {truth:+,.0f} {scene.currency} ({share:+.1%})")
    else:
        lines += _shadow(outcome)
    return lines


def _together(both: Together) -> list[str]:
    exchange = both.exchange
    shops = sorted(exchange.told)
    told = ", ".join(f"shop {store} {exchange.told[store]:,}" for store in shops)
    lines = [f"network of {len(shops)} shops of one owner", f"  told       {told} blocks"]
    for store in shops:
        heard = [
            f"shop {other} {blocks:,} {_equal(blocks, exchange.told[other])}"
            for (own, other), blocks in sorted(exchange.heard.items())
            if own == store
        ]
        lines.append(f"  heard      by shop {store}: {', '.join(heard)}")
    lines += [f"             {fault}" for fault in exchange.faults[:_FAULTS_SHOWN]]
    if not exchange.faults:
        lines.append("             every copy has its original's Merkle root; every block was taken in, none twice")
    refused = ", ".join(f"{reason} {count}" for reason, count in sorted(both.refused.items()))
    lines.append(f"  refused    {refused or 'nothing'}")
    if both.cut is not None:
        lines += _cut(both.cut)
    if both.beginning is not None:
        lines += _beginning(both.beginning)
    return lines


def _equal(heard: int, told: int) -> str:
    return "= all" if heard == told else f"of {told:,}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _cut(cut: CutOff) -> list[str]:
    mode = cut.mode.replace("_", "-")
    first = f"shop {cut.store}, after week {cut.first_week}, for {_counted(cut.weeks, 'week')}: it said {mode},"
    waited = f"made {_counted(cut.books, 'price book')}, {_counted(cut.waiting, 'block')} of it waited;"
    return [f"  cut off    {first}", f"             {waited} the others told {cut.missed:,} meanwhile"]


def _beginning(start: Beginning) -> list[str]:
    told = f"{_counted(start.shops, 'shop')} had told it {_counted(start.coefficients, 'number')} that it can use"
    lines = [
        f"  new shop   shop {start.store} opened after week {start.opened}; {told}",
        "             standard deviation of an item's own elasticity, mean over items:",
        f"             {'own sales':<12} {'shipped prior alone':>20} {'with what it was told':>22}",
    ]
    lines += [
        f"             {_counted(row.weeks, 'week'):<12} {row.alone:>20.2f} {row.told:>22.2f}" for row in start.rows
    ]
    if start.heard is not None:
        heard = f"{_counted(start.heard.shops, 'shop')}, {_counted(start.heard.coefficients, 'number')}"
        lines.append(f"             its newest decision heard {heard} (`pomona why` says so)")
    return lines


def _consortium(shown: Shown) -> list[str]:
    what = "simulated: one window, the mean of log(price / list price)"
    reads = f"which reads as {shown.alone:+.1f}; any number up to ±{shown.reach:.0f} is as likely"
    noise = f"with noise of sd {shown.noise:.3f}; the mean without noise is {shown.truth:+.3f}"
    moved = f"an owner moves its group's mean by {shown.pull:.3f} at most"
    same = "every shop computed the same sums" if shown.agreed else "NOT every shop computed the same sums"
    return [
        f"consortium of {shown.owners} owners with {shown.shops} shops, {what}",
        f"  one shop   put in {shown.gave:+.3f}; sent {shown.sent.hex()}, {reads}",
        f"  all        read {shown.mean:+.3f}, {noise}",
        f"  privacy    epsilon {shown.epsilon:.2f} at delta {shown.delta:g} for an owner's week; {moved}",
        f"             with ten times as many owners the noise would be a tenth of it, {shown.noise / 10:.3f}",
        f"  agreed     {same} from {shown.blocks} blocks of {shown.groups} groups",
    ]


def _box_estimate(outcome: Outcome, name: str) -> str:
    effects = [row["effect"] for row in outcome.status.get("categories", []) if row["effect"]]
    if not effects:
        return "none"
    mean, low, high = (sum(effect[part] for effect in effects) for part in (name, f"{name}_low", f"{name}_high"))
    return f"{mean:+,.0f} {outcome.plan.currency}, 95 % interval {low:+,.0f} to {high:+,.0f}"


def _shadow(outcome: Outcome) -> list[str]:
    verdict, currency = outcome.verdict, outcome.plan.currency
    newest = sorted(verdict.newest.values(), key=lambda decision: decision.sku)
    if not newest:
        return []
    lines = [
        f"  shadow     what the box would have charged from {newest[0].business_day}; the shelf kept its own prices:"
    ]
    lines.append(
        f"             {'item':<26} {'shelf':>7} {'would be':>9} {'forecast ' + currency + '/week ± 95 %':>28}"
    )
    total = variance = 0.0
    for decision in newest:
        total += decision.profit_change
        variance += decision.profit_change_sd**2
        effect = f"{decision.profit_change:+.2f} ± {1.96 * decision.profit_change_sd:.2f}"
        shelf, chosen = decision.published_minor / 100, decision.chosen_minor / 100
        lines.append(f"             {decision.sku:<26} {shelf:>7.2f} {chosen:>9.2f} {effect:>28}")
    effect = f"{total:+.2f} ± {1.96 * variance**0.5:.2f}"
    lines.append(f"             {'all items, a forecast':<26} {'':>7} {'':>9} {effect:>28}")
    return lines


def _reason(outcome: Outcome) -> list[str]:
    """Why the item with the largest expected effect has its price."""
    if not outcome.verdict.newest:
        return []
    best = max(outcome.verdict.newest.values(), key=lambda decision: abs(decision.profit_change))
    text = explain(best, outcome.verdict.names.get(best.sku, "")).splitlines()
    return ["  why        " + text[0], *("             " + line for line in text[1:])]


def as_json(result: Result, scene: Scene, seconds: float) -> str:
    """The result for a program."""
    answer: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "weeks": scene.weeks,
        "good": result.good,
        "shops": [
            {
                "gln": outcome.plan.gln,
                "published": outcome.published,
                "acknowledged": outcome.acknowledged,
                "in_log": outcome.verdict.receipts + outcome.verdict.refused,
                "records": outcome.verdict.records,
                "decisions": outcome.verdict.decisions,
                "outside_guard": outcome.verdict.outside,
                "sources": dict(outcome.verdict.sources),
                "end": outcome.end,
                "categories": outcome.status.get("categories", []),
                "networks": outcome.status.get("networks", []),
            }
            for outcome in result.shops
        ],
        "networks": None if result.together is None else _network_values(result.together),
        "consortium": None if result.consortium is None else _consortium_values(result.consortium),
    }
    return json.dumps(answer, indent=2)


def _network_values(both: Together) -> dict[str, Any]:
    exchange = both.exchange
    return {
        "good": both.good,
        "told": {str(store): count for store, count in exchange.told.items()},
        "heard": [
            {"shop": store, "of": other, "blocks": count, "told": exchange.told[other]}
            for (store, other), count in sorted(exchange.heard.items())
        ],
        "records": {str(store): count for store, count in exchange.records.items()},
        "faults": exchange.faults,
        "refused": both.refused,
        "cut_off": None if both.cut is None else asdict(both.cut),
        "new_shop": None if both.beginning is None else asdict(both.beginning),
    }


def _consortium_values(shown: Shown) -> dict[str, Any]:
    return {**asdict(shown), "sent": shown.sent.hex(), "clip": CLIP}
