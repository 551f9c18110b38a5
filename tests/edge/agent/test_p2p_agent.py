"""The agent with networks: informed by peers; without them, or with broken ones, the base agent to the bit."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from support_market import NOW, context, picture, price_of, said
from support_policy import make_policy
from support_requests import request

from edge.agent import decider as decider_module
from edge.agent.decider import Decider, DeciderRules, Request
from edge.agent.estimate import PRICE, DemandPrior, estimate
from edge.agent.experiment import ExperimentRules
from edge.agent.metrics import DecisionMetrics
from edge.agent.network_state import MarketContext, NetworkState
from edge.agent.p2p_agent import Market, P2PSACAgent, combine_state
from edge.agent.sac_agent import SACAgent
from edge.errors import RecordInvalid
from edge.memory.combine import Pooled
from edge.networks.policy import NetworkPolicy
from edge.records.decision import DecisionBatch, Mode, PeersHeard, Source, decode_decisions, encode_decisions
from edge.records.message import Network

RULES = DeciderRules(experiment=ExperimentRules(step_probability=0.3))  # so that chance has a hand in every batch
PRIOR = DemandPrior()


def base_of(rng: np.random.Generator) -> Callable[[Request], DecisionBatch]:
    chain = Decider(RULES, SACAgent(make_policy()), monotonic=lambda: 0.0)
    return lambda state: chain.decide(state, rng)


def alone(state: Request, seed: int = 1) -> DecisionBatch:
    return base_of(np.random.default_rng(seed))(state)


def told(state: Request, market: Market, seed: int = 1, metrics: DecisionMetrics | None = None) -> DecisionBatch:
    rng = np.random.default_rng(seed)
    return P2PSACAgent(base_of(rng), market, shipped=PRIOR, rng=rng, metrics=metrics).get_action(state)


def same_bits(first: DecisionBatch, second: DecisionBatch) -> bool:
    return encode_decisions(first) == encode_decisions(second)


# --- with peers ------------------------------------------------------------------------------------------------------


def test_what_peers_know_becomes_the_prior_and_the_record_says_so() -> None:
    state = request()
    heard = context(price_of(11, -1.2))
    batch = told(state, lambda category: heard if category == "juice" else None)
    assert batch.source is Source.SAC
    assert batch.failures == ()
    assert batch.peers == PeersHeard(8, NOW - 2, 11)
    assert decode_decisions(encode_decisions(batch)).peers == batch.peers
    plain = alone(state)
    assert plain.peers is None
    assert not np.array_equal(batch.observation, plain.observation)
    assert batch.observation.shape == plain.observation.shape
    np.testing.assert_array_equal(batch.random_step, plain.random_step)  # chance does not depend on peers


def test_the_prior_is_in_the_order_of_the_items() -> None:
    state = request(items=4)
    turned = replace(state, items=state.items[::-1], published=replace(state.published))
    insights = {f"sku-{number}": {"price": said(-1.5 - number / 2)} for number in range(4)}
    found = combine_state(turned, context(insights), PRIOR)
    assert found.peers is not None
    assert np.all(np.diff(found.peers.mean[:, 0]) > 0)  # the last item's came first
    assert found.posterior is None


def test_an_estimate_made_without_peers_is_not_used_with_them() -> None:
    state = request(items=4)
    early = replace(state, posterior=estimate(state.history, PRIOR))
    assert same_bits(told(early, lambda _: context(price_of(4))), told(state, lambda _: context(price_of(4))))


def test_peers_move_the_estimate_towards_the_truth() -> None:
    """A shop with eight weeks of sales, whose peers know its items to 0.3."""
    off_alone, off_told = [], []
    for seed in range(6):
        state = request(seed=seed, weeks=8)
        whole = request(seed=seed, weeks=104)
        truth = estimate(whole.history, PRIOR).mean[:, PRICE]
        # the longer history is another draw of the same truth: only elasticities are alike
        insights = {f"sku-{item}": {"price": said(float(truth[item]), week=2607)} for item in range(11)}
        now = 2608
        heard = NetworkState(now, (picture(insights, pooled_in=now),)).get_context("juice")
        found = combine_state(state, heard, PRIOR)
        assert found.peers is not None
        off_alone.append(estimate(state.history, PRIOR).mean[:, PRICE] - truth)
        off_told.append(estimate(state.history, PRIOR, peers=found.peers).mean[:, PRICE] - truth)
    assert np.std(off_told) < 0.5 * np.std(off_alone)


# --- without ---------------------------------------------------------------------------------------------------------

NO_MARKET: dict[str, MarketContext | None] = {
    "none": None,
    "no networks": NetworkState(NOW).get_context("juice"),
    "nothing said": context({}),
    "of strangers' items": context({"elsewhere": {"price": said()}}),
    "stale": NetworkState(NOW, (picture(price_of(11, week=NOW - 60)),)).get_context("juice"),
    "policy": NetworkState(NOW, (picture(price_of(11), policy=NetworkPolicy()),)).get_context("juice"),
    "rivals": NetworkState(
        NOW, (picture(price_of(11), network=Network.CONSORTIUM, one_owner=False, owners=9),)
    ).get_context("juice"),
    "so unsure that it says nothing": context(price_of(11, error=30.0)),
    "beyond belief": context(price_of(11, mean=15.0)),
}


@pytest.mark.parametrize("why", NO_MARKET)
@pytest.mark.parametrize("mode", list(Mode))
def test_without_a_market_the_batch_is_the_base_agents_to_the_bit(why: str, mode: Mode) -> None:
    state = request(mode=mode, weeks=20)
    assert same_bits(told(state, lambda _: NO_MARKET[why]), alone(state))


def test_a_category_that_is_off_asks_nobody() -> None:
    def forbidden(category: str) -> MarketContext:
        raise AssertionError(category)

    state = request(mode=Mode.OFF, weeks=8)
    assert same_bits(told(state, forbidden), alone(state))
    assert combine_state(state, context(price_of(11)), PRIOR) is state


# --- rivals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "heard",
    [
        context(price_of(11, -1.0, owners=2)),
        replace(context(price_of(11)), insights=price_of(11, -1.0, owners=6)),
        replace(context(price_of(11)), insights={**price_of(10), "sku-10": {"deal": said(0.1, owners=2)}}),
        context(price_of(11), owners=3),
        context(price_of(11), owners=0),
    ],
)
def test_rivals_numbers_reach_no_price_even_in_a_context_made_by_hand(heard: MarketContext) -> None:
    state = request(weeks=20)
    batch = told(state, lambda _: heard)
    assert same_bits(replace(batch, failures=alone(state).failures), alone(state))
    assert batch.peers is None
    if heard.usable:
        assert "other owners" in batch.failures[0]
        with pytest.raises(RecordInvalid) as refused:
            combine_state(state, heard, PRIOR)
        assert refused.value.reason == "owners"


# --- broken ----------------------------------------------------------------------------------------------------------


class _Raising(dict[str, dict[str, Pooled]]):
    def get(self, *_: object) -> Any:
        raise OSError("the memory's file is gone")


def raising(error: Exception) -> Market:
    def market(_: str) -> MarketContext:
        raise error

    return market


def handing(thing: object) -> Market:
    return lambda _: thing  # type: ignore[return-value]


BROKEN: dict[str, Market] = {
    "raises": raising(RuntimeError("no memory")),
    "out of memory": raising(MemoryError()),
    "not a context": handing("market"),
    "another category": handing(replace(context(price_of(11)), category="tea")),
    "not a number": handing(context(price_of(11, mean=math.nan))),
    "infinite": handing(context(price_of(11, error=math.inf))),
    "negative": handing(context(price_of(11, between=-0.3))),
    "nobody": handing(replace(context(price_of(11)), insights=price_of(11, shops=0))),
    "its mapping raises": handing(replace(context(price_of(11)), insights=_Raising(price_of(11)))),
    "no insights": handing(replace(context(price_of(11)), insights=7)),  # type: ignore[arg-type]
    "texts": handing(replace(context(price_of(11)), insights={"sku-0": {"price": "low"}})),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_market_stops_nothing_and_is_noted(what: str) -> None:
    state, metrics_of = request(weeks=20), CollectorRegistry()
    batch = told(state, BROKEN[what], metrics=DecisionMetrics(metrics_of))
    assert batch.failures[0].startswith("market: ")
    assert same_bits(replace(batch, failures=alone(state).failures), alone(state))
    assert decode_decisions(encode_decisions(batch)) == batch
    assert metrics_of.get_sample_value("pomona_price_fallbacks_total", {"stage": "market"}) == 1.0


def test_an_estimate_that_fails_with_peers_alone_is_made_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    state = request(weeks=20)
    wanted = alone(state)

    def fails_with_peers(*args: Any, **named: Any) -> Any:
        if named.get("peers") is not None:
            raise np.linalg.LinAlgError("singular")
        return estimate(*args, **named)

    monkeypatch.setattr(decider_module, "estimate", fails_with_peers)
    batch = told(state, lambda _: context(price_of(11)))
    assert batch.failures[0].startswith("market: prices were held")
    assert same_bits(replace(batch, failures=wanted.failures), wanted)


def test_what_fails_anyway_is_not_put_down_to_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(decider_module, "estimate", fails)
    state = request(weeks=8)
    batch = told(state, lambda _: context(price_of(11)))
    assert batch.source is Source.HOLD
    assert same_bits(batch, alone(state))


def test_failures_stay_within_what_a_record_holds() -> None:
    batch = told(request(weeks=8), raising(RuntimeError("x" * 1000)))
    assert len(batch.failures[0]) == 200
    assert decode_decisions(encode_decisions(batch)) == batch


NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-6, 0)
ANYTHING = st.builds(
    said,
    st.floats(-6, 0) | NUMBERS,
    st.floats(0, 1) | NUMBERS,
    st.floats(0, 1) | NUMBERS,
    shops=st.sampled_from([1, 10**6, 10**9, 0, -2]),
    owners=st.sampled_from([1, 1, 1, 1, 2, 0]),
    week=st.sampled_from([NOW, NOW - 9, -5, 10**9]),
    deviation=st.just(0.0) | NUMBERS,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["", "sku-0", "sku-1"]), st.dictionaries(
    st.sampled_from(["price", "carry", "feature", "deal", "others", "unknown"]), ANYTHING)))  # fmt: skip
def test_whatever_peers_say_prices_come_out_and_can_be_recorded(insights: dict[str, dict[str, Pooled]]) -> None:
    state = request(items=2, weeks=6)
    for heard in (context(insights), replace(context(price_of(2)), insights=insights)):
        batch = told(state, lambda _, heard=heard: heard)  # type: ignore[misc]
        assert batch.source in {Source.SAC, Source.OPTIMISER}
        assert decode_decisions(encode_decisions(batch)) == batch
        assert np.all(np.abs(batch.published / batch.reference - 1) < 0.12)  # within the band, whatever was said
