"""This shop's part in the sums of a consortium: what it has to say in them, and the desk that carries them.

What it says is the estimate of its own sales in the window's weeks alone (`edge.agent.evidence`): sales before the
window are in the accounts of their own weeks, and would be charged to the wrong ones.
"""

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from typing import Final

from edge.agent.estimate import DemandPrior
from edge.agent.evidence import evidence
from edge.box.views import Views
from edge.memory.network import NetworkPriceMemory
from edge.memory.sums.desk import Moment, SumsDesk
from edge.memory.sums.feed import NodeSums
from edge.memory.sums.terms import Subject
from edge.memory.sync import Surroundings
from edge.networks.folder import NetworkFolder
from edge.networks.node import NetworkNode
from edge.privacy.aggregate import Window
from edge.privacy.budget import BudgetLedger
from edge.records.history import week_of
from edge.records.shared import ModelInsight

_LONG_AGO: Final = date(1970, 1, 5)  # before the first sale: no window is open then


def make_desk(
    folder: NetworkFolder,
    node: NetworkNode,
    memory: NetworkPriceMemory,
    views: Views,
    surroundings: Callable[[], Surroundings],
    *,
    ledger: BudgetLedger | None,
    item_level: bool,
    after: Callable[[], Awaitable[None]],
) -> SumsDesk:
    """The desk of one consortium. `item_level`: sums may name items, where all members sell the same."""

    async def contribution(subject: Subject, window: Window) -> Sequence[float] | None:
        history = views.memory.history(subject.category, window.weeks, last_week=window.end - 1)
        if not history.skus or week_of(_today(views)) < window.end:
            return None
        return price_coefficients(await asyncio.to_thread(evidence, history), subject)

    def items(category: str) -> Sequence[str]:
        return sorted(item.sku for item in views.shelf.categories().get(category, ())) if item_level else ()

    return SumsDesk(
        folder.directory / "sums",
        memory,
        NodeSums(node, folder.epochs),
        surroundings,
        ledger=ledger,
        contribution=contribution,
        categories=lambda: sorted(views.shelf.categories()),
        centre=DemandPrior().price.mean,
        random_bits=secrets.randbits,
        items=items,
        after=after,
    )


def moment(views: Views) -> Moment:
    """Now, by the shop's own days."""
    return Moment(_today(views), asyncio.get_running_loop().time())


def price_coefficients(found: ModelInsight | None, subject: Subject) -> list[float] | None:
    """What `found` says of the subject: of the category, or of each of its items (NaN where nothing); None: nothing."""
    if found is None:
        return None
    known = {row.sku: dict(row.coefficients).get("price") for row in found.rows}
    values = [math.nan if (one := known.get(sku)) is None else one.mean for sku in subject.items or ("",)]
    return None if all(math.isnan(value) for value in values) else values


def _today(views: Views) -> date:
    """The first business day that is not over."""
    closed = views.days.closed_through
    return (views.days.newest or _LONG_AGO) if closed is None else closed + timedelta(days=1)
