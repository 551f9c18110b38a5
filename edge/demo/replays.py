"""The demonstration with recorded sales: one box a store, in shadow, each fed by a till that replays its real weeks."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.agent.rules import GuardRules
from edge.demo.fleet import watched
from edge.demo.outcome import Outcome, Result
from edge.demo.show import Scene, Screen
from edge.demo.stage import BoxPlan, Child, prepare, status_of, together
from edge.demo.verdict import read_ledger
from edge.errors import ConfigError
from edge.pos.item_file import format_items
from edge.pos.replay import Row, items_from_rows, read_rows


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
) -> Result:
    """Replay `rows`, which were read from `data`; the tills read it again by themselves."""
    for plan in plans:
        prepare(plan)
        own = [row for row in rows if row.store == plan.store]
        plan.items.write_text(format_items(items_from_rows(own, plan.category), plan.currency), encoding="utf-8")
    ends: list[dict[str, Any]] = [{} for _ in plans]
    async with watched(plans, scene, screen) as fleet:
        for plan in plans:
            await fleet.start(plan)
        children = [await _replaying(plan, data, messages_max // len(plans)) for plan in plans]
        try:
            await together(*(child.lines(end.update) for child, end in zip(children, ends, strict=True)))
        finally:
            for child in children:
                await child.stop()
        statuses = [await status_of(plan) or {} for plan in plans]
    shops = [
        Outcome(plan, end["published"], end["acknowledged"], await read_ledger(plan.state, GuardRules()), end, status)
        for plan, end, status in zip(plans, ends, statuses, strict=True)
    ]
    return Result(tuple(shops))


async def _replaying(plan: BoxPlan, data: Path, messages_max: int) -> Child:
    lane = plan.lanes[0]
    arguments = ["edge", "replay", str(data), "--store", str(plan.store), "--broker", f"127.0.0.1:{plan.port}"]
    arguments += ["--lane", lane, "--password-file", str(plan.folder / f"till-{lane}.password"), "--day-by-day"]
    arguments += ["--messages-max", str(messages_max), "--currency", plan.currency, "--json"]
    return await Child.start(f"till-{lane}", arguments, plan.folder)
