"""The pricing agent with its networks: context, `combine_state`, base agent; a market that fails stops nothing.

    P2PSACAgent(base, market, ...).get_action(state)
        context = market(state.category)          what the networks know, or None
        told    = combine_state(state, context)   the peers' prior of the demand estimate goes into the state
        batch   = base(told)                      the chain as it is: estimate, policy, optimiser, guard

The market enters as the prior of the shop's own demand estimate and in no other way: the observation, the policy and
the guard are the same with and without it, so that a policy file need not know networks. (An index of the market among
the observations is worth nothing; peers' elasticities as a prior are worth about 2 % of gross profit to a new shop.)

Without a context, with one that is empty, stale or refused, and with a state whose prices nobody computes, the batch is
that of the base agent to the bit. A market that raises, or hands over what no pooling makes, is noted in the batch's
failures (`market: ...`) and the base agent decides alone. So it does, with its random numbers as they were, where the
chain held prices after hearing peers: whatever it was, it must not be their doing.

What rivals said is refused here once more, number by number, whoever built the context.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edge.agent.decider import Request
from edge.agent.estimate import DemandPrior
from edge.agent.metrics import DecisionMetrics
from edge.agent.network_state import MarketContext
from edge.agent.peer_prior import peer_prior
from edge.errors import RecordInvalid
from edge.records.decision import FAILURE_CHARS_MAX, FAILURES_MAX, DecisionBatch, Mode, PeersHeard, Source
from edge.records.history import week_of

Market = Callable[[str], MarketContext | None]


def combine_state(state: Request, context: MarketContext | None, shipped: DemandPrior) -> Request:
    """`state` with the peers' prior that follows from `context`; `state` itself where nothing follows.

    Raises `RecordInvalid` for a context of another category (reason `category`), with several owners' numbers (reason
    `owners`) or with numbers that cannot be (reason `range`).
    """
    if context is None or not context.usable or state.mode is Mode.OFF:
        return state
    if context.category != state.category:
        raise RecordInvalid("the context is of another category", reason="category")
    if context.owners != 1 or any(p.owners != 1 for terms in context.insights.values() for p in terms.values()):
        raise RecordInvalid("the context holds what other owners said", reason="owners")
    skus = tuple(item.sku for item in state.items)
    told = peer_prior(context.insights, skus, shipped, pooled_in=context.pooled_in, week=week_of(state.day))
    if told is None:
        return state
    heard = PeersHeard(told.shops, told.week, told.coefficients)
    return replace(state, posterior=None, peers=told.prior, heard=heard)


class P2PSACAgent:
    """An agent that hears its networks before it decides. Keeps nothing from one decision to the next."""

    def __init__(
        self,
        base: Callable[[Request], DecisionBatch],
        market: Market,
        *,
        shipped: DemandPrior,
        rng: np.random.Generator,
        metrics: DecisionMetrics | None = None,
    ) -> None:
        """`base` decides a request, drawing from `rng`. `market` is asked once a decision, in the caller's thread."""
        self._base = base
        self._market = market
        self._shipped = shipped
        self._rng = rng
        self._metrics = metrics

    def get_action(self, state: Request) -> DecisionBatch:
        """The batch of `state`; whatever the market does, it is the base agent's or better informed."""
        if state.mode is Mode.OFF:
            return self._base(state)
        try:
            told = combine_state(state, self._market(state.category), self._shipped)
        except Exception as error:  # noqa: BLE001 - nothing that a network does may stop a price; it is noted
            return self._noted(self._base(state), f"market: {type(error).__name__}: {error}")
        if told is state:
            return self._base(state)
        drawn = self._rng.bit_generator.state
        batch = self._base(told)
        if batch.source is not Source.HOLD:
            return batch
        self._rng.bit_generator.state = drawn
        alone = self._base(state)
        if alone.source is Source.HOLD:
            return alone
        return self._noted(alone, "market: prices were held after hearing peers, so they were not heard")

    def _noted(self, batch: DecisionBatch, failure: str) -> DecisionBatch:
        """`batch` with one more failure, which comes first; the last ones go where there are too many."""
        if self._metrics is not None:
            self._metrics.fell_back(failure)
        return replace(batch, failures=(failure[:FAILURE_CHARS_MAX], *batch.failures)[:FAILURES_MAX])
