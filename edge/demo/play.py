"""The two demonstrations: simulated shoppers who react to live prices, and real sales replayed in shadow."""

import asyncio
import base64
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.agent.explain import as_dict, explain
from edge.agent.rules import GuardRules
from edge.box.control import ask
from edge.demo.show import Scene, Screen
from edge.demo.stage import BoxPlan, Child, box_ready, prepare, status_of, write_config
from edge.demo.verdict import Verdict, read_ledger
from edge.errors import ConfigError, PomonaError
from edge.pos.item_file import format_items
from edge.pos.replay import Row, items_from_rows, read_rows
from edge.records.decision import decode_decisions

CATEGORY: Final = "orange juice"
_MEASURES: Final = (
    ("value", "what is optimised: gross profit and what else its buyers put into the basket"),
    ("gross_profit", "gross profit of the category alone"),
)
_LOOK_S: Final = 0.5  # between two questions to the boxes
_DRAW_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one shop's part ended. `published` and `acknowledged` are the tills' own counts."""

    plan: BoxPlan
    published: int
    acknowledged: int
    verdict: Verdict
    end: dict[str, Any]  # the last words of shoppers or till
    status: dict[str, Any]  # the box's last

    @property
    def counts_agree(self) -> bool:
        """Receipts published = acknowledged = in the log."""
        in_log = self.verdict.receipts + self.verdict.refused
        return self.published == self.acknowledged == in_log and self.verdict.refused == 0

    @property
    def good(self) -> bool:
        """Whether the demonstration proved what it has to."""
        return self.counts_agree and not self.verdict.outside and self.verdict.decisions > 0


async def shoppers(plan: BoxPlan, scene: Scene, screen: Screen, *, weeks: int, shadow: int, seed: int) -> list[Outcome]:
    """One shop whose simulated shoppers react to its prices: `shadow` weeks as its owner prices, then live.

    Going live is what an owner does: another word in the configuration, and a restart. The tills sell on meanwhile.
    """
    scene.weeks = weeks
    prepare(plan)
    if not shadow:
        write_config(plan, "live")
    simulate = ["trainer", "simulate", "--weeks", str(weeks), "--seed", str(seed), "--items", str(plan.items)]
    writer = await Child.start("items", [*simulate, "--only-items"], plan.folder)
    await writer.lines(lambda _row: None)
    async with _boxes([plan], scene, screen) as boxes:
        arguments = [*simulate, "--mqtt", f"127.0.0.1:{plan.port}", "--gln", plan.gln, "--lanes", ",".join(plan.lanes)]
        arguments += ["--passwords", str(plan.passwords), "--spool", str(plan.folder / "spool")]
        child = await Child.start("shoppers", arguments, plan.folder)
        end: dict[str, Any] = {}
        over = asyncio.Event()  # the weeks in shadow

        def heard(row: dict[str, Any]) -> None:
            scene.rung["1"], scene.acknowledged["1"] = row["published"], row["acknowledged"]
            if row["event"] == "day":
                scene.day = row["day"]
            elif row["event"] == "week":
                scene.weeks_done = row["week"] + 1
                scene.truth_value = (scene.truth_value or 0.0) + row["value"] - row["value_twin"]
                if scene.weeks_done == shadow:
                    over.set()
            else:
                end.update(row)

        async def go_live() -> None:
            await over.wait()
            write_config(plan, "live")
            await boxes[0].stop()
            boxes[0] = await Child.start("box", ["edge", "run", "--config", str(plan.config)], plan.folder)

        switch = asyncio.create_task(go_live())
        try:
            await child.lines(heard)
        finally:
            switch.cancel()
            await asyncio.gather(switch, return_exceptions=True)
            await child.stop()
        status = await status_of(plan) or {}
    verdict = await read_ledger(plan.state, GuardRules())
    return [Outcome(plan, end["published"], end["acknowledged"], verdict, end, status)]


def read_sales(path: Path) -> list[Row]:
    """The rows of a file of weekly sales, gzip or plain. Raises `ConfigError` naming the file."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8", newline="") as lines:
            return read_rows(lines)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise ConfigError(str(path), str(error)) from None


async def replays(
    plans: Sequence[BoxPlan], rows: Sequence[Row], data: Path, scene: Scene, screen: Screen, *, messages_max: int
) -> list[Outcome]:
    """One box a store, in shadow, fed by a till that replays the store's real weeks."""
    for plan in plans:
        prepare(plan)
        own = [row for row in rows if row.store == plan.store]
        plan.items.write_text(format_items(items_from_rows(own, CATEGORY), plan.currency), encoding="utf-8")
    ends: list[dict[str, Any]] = [{} for _ in plans]
    async with _boxes(plans, scene, screen):
        children = [await _replaying(plan, data, messages_max // len(plans)) for plan in plans]
        try:
            async with asyncio.TaskGroup() as tasks:
                for child, end in zip(children, ends, strict=True):
                    tasks.create_task(child.lines(end.update))
        finally:
            for child in children:
                await child.stop()
        statuses = [await status_of(plan) or {} for plan in plans]
    return [
        Outcome(plan, end["published"], end["acknowledged"], await read_ledger(plan.state, GuardRules()), end, status)
        for plan, end, status in zip(plans, ends, statuses, strict=True)
    ]


async def _replaying(plan: BoxPlan, data: Path, messages_max: int) -> Child:
    lane = plan.lanes[0]
    arguments = ["edge", "replay", str(data), "--store", str(plan.store), "--broker", f"127.0.0.1:{plan.port}"]
    arguments += ["--lane", lane, "--password-file", str(plan.folder / f"till-{lane}.password"), "--day-by-day"]
    arguments += ["--messages-max", str(messages_max), "--currency", plan.currency, "--json"]
    return await Child.start(f"till-{lane}", arguments, plan.folder)


@contextlib.asynccontextmanager
async def _boxes(plans: Sequence[BoxPlan], scene: Scene, screen: Screen) -> AsyncIterator[list[Child]]:
    """The boxes at work, watched and drawn, for the length of the block, which may replace one by another."""
    children: list[Child] = []
    watchers: list[asyncio.Task[None]] = []
    try:
        for plan in plans:
            box = await Child.start("box", ["edge", "run", "--config", str(plan.config)], plan.folder)
            children.append(box)  # at once: it is ended even if the next one cannot be started
        for plan, child in zip(plans, children, strict=True):
            await box_ready(plan, child)
        watchers = [asyncio.create_task(_look(plans, scene)), asyncio.create_task(_draw(scene, screen))]
        yield children
        await _look_once(plans, scene)
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        for child in reversed(children):
            await child.stop()


async def _draw(scene: Scene, screen: Screen) -> None:
    while True:
        screen.draw(scene)
        await asyncio.sleep(_DRAW_S)


async def _look(plans: Sequence[BoxPlan], scene: Scene) -> None:
    while True:
        await _look_once(plans, scene)
        await asyncio.sleep(_LOOK_S * len(plans))


async def _look_once(plans: Sequence[BoxPlan], scene: Scene) -> None:
    for plan in plans:
        status: dict[str, Any] | None = await status_of(plan)
        if status is None:
            continue
        shop = str(plan.store)
        scene.status[shop] = status
        if shop in scene.expected:  # a replaying till says nothing until its end: the box's count is shown
            scene.acknowledged[shop] = scene.rung[shop] = sum(till["through"] for till in status["tills"])
            scene.day = status["days"]["newest"] or scene.day
    scene.decisions = await asyncio.to_thread(_decisions, plans[0]) or scene.decisions


def _decisions(plan: BoxPlan) -> list[dict[str, Any]]:
    try:
        answer: Any = ask(plan.state, "decisions")
    except PomonaError:
        return []
    batches = [decode_decisions(base64.b64decode(block)) for block in answer["blocks"]]
    return [as_dict(decision, answer["names"].get(decision.sku, "")) for batch in batches for decision in batch]


def summary(outcomes: Sequence[Outcome], scene: Scene) -> str:
    """The result for a person."""
    lines = []
    for outcome in outcomes:
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
        lines += _reason(outcome)
    return "\n".join(lines)


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


def as_json(outcomes: Sequence[Outcome], scene: Scene, seconds: float) -> str:
    """The result for a program."""
    return json.dumps(
        {
            "seconds": round(seconds, 1),
            "weeks": scene.weeks,
            "good": all(outcome.good for outcome in outcomes),
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
                }
                for outcome in outcomes
            ],
        },
        indent=2,
    )
