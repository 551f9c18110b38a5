"""What a new shop's demand estimate begins with: the shipped prior, or what its company's other shops had told it.

Measured, not forecast: the estimate that the box makes is made once more over the new shop's own first weeks, from its
ledger, once from the shipped prior alone and once with what its box had heard when it opened. What is compared is the
standard deviation of the items' own elasticities; whether a narrower one is nearer to the truth is not shown here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from edge.agent.estimate import PRICE, DemandPrior, estimate
from edge.agent.peer_prior import Told, peer_prior
from edge.box.ledger import Ledger
from edge.box.startup import read_views
from edge.config import load
from edge.demo.stage import NETWORK, BoxPlan
from edge.memory.combine import Pooled
from edge.memory.local import LocalPriceMemory
from edge.records.decision import PeersHeard
from edge.records.history import week_of

WEEKS_SHOWN: Final = (1, 4, 13, 26)
Insights = Mapping[str, Mapping[str, Pooled]]


@dataclass(frozen=True, slots=True)
class AfterWeeks:
    """Mean over items of the sd of own elasticities, after so many weeks of the shop's own sales."""

    weeks: int
    alone: float
    told: float


@dataclass(frozen=True, slots=True)
class Beginning:
    """A new shop's start."""

    store: int
    opened: int  # the week, from 0, of the demonstration
    shops: int  # behind what it was told
    coefficients: int
    rows: tuple[AfterWeeks, ...]
    heard: PeersHeard | None  # as its newest decision says


def insights_of(answer: Mapping[str, Any], category: str) -> Insights:
    """What a box's `insights` answer says of how demand answers prices in `category`, by SKU and term."""
    names = [column[0] for column in answer["columns"]]
    found: dict[str, dict[str, Pooled]] = {}
    for row in (dict(zip(names, cells, strict=True)) for cells in answer["rows"]):
        if (row["network"], row["kind"], row["category"]) == (NETWORK, "insights", category):
            numbers = {name: row[name] for name in ("mean", "error", "between", "shops", "owners", "week", "deviation")}
            found.setdefault(row["sku"], {})[row["term"]] = Pooled(**numbers)
    return found


async def read_beginning(
    plan: BoxPlan, opened: int, insights: Insights, heard_in: int, heard: PeersHeard | None
) -> Beginning | None:
    """The start of a shop whose box has stopped; `insights` as heard in week `heard_in` of the calendar.

    None where its neighbours had nothing to say that is sure enough to start from.
    """
    config = load(plan.config)
    ledger = await Ledger.open(config.state, create=False)
    try:
        views, _ = await read_views(config, ledger)
    finally:
        await ledger.core.close()
    skus = tuple(sorted(item.sku for item in views.shelf.items.values() if item.category == plan.category))
    told = told_of(insights, skus, heard_in)
    if told is None:
        return None
    rows = tuple(_after(views.memory, plan.category, insights, heard_in))
    return Beginning(plan.store, opened, told.shops, told.coefficients, rows, heard)


def told_of(insights: Insights, skus: Sequence[str], week: int) -> Told | None:
    """What of `insights` an estimate in `week` can start from; None where nothing is sure enough."""
    return peer_prior(insights, skus, DemandPrior(), pooled_in=week, week=week)


def _after(memory: LocalPriceMemory, category: str, insights: Insights, heard_in: int) -> Sequence[AfterWeeks]:
    prior = DemandPrior()
    own = memory.weeks
    rows = []
    for weeks in sorted({*(count for count in WEEKS_SHOWN if count < len(own)), len(own)} - {0}):
        history = memory.history(category, weeks, last_week=own[weeks - 1])
        told = peer_prior(insights, history.skus, prior, pooled_in=heard_in, week=int(own[weeks - 1]))
        alone = estimate(history, prior)
        informed = alone if told is None else estimate(history, prior, peers=told.prior)
        rows.append(AfterWeeks(weeks, float(alone.sd(PRICE).mean()), float(informed.sd(PRICE).mean())))
    return rows


def calendar_week(status: Mapping[str, Any]) -> int:
    """The week of a box's newest business day, by its status; 0 before there is one."""
    newest = status["days"]["newest"]
    return 0 if newest is None else week_of(date.fromisoformat(newest))
