"""From the views to the agent: which policy decides, how requests are cut, the experiment's seed."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support_desk import CURRENCY, MONDAY, WALL_MS, Desk, shelf

from edge.agent.network_state import MarketContext, NetworkPicture, NetworkState
from edge.agent.p2p_agent import Market
from edge.box.pricing import Pricer, experiment_rules, published, reference_moved
from edge.clock import ClockQuality, WallTime
from edge.config import PricingConfig
from edge.health.checks import HealthState
from edge.limits import CATEGORY_ITEMS_MAX
from edge.memory.combine import Pooled
from edge.networks.policy import NetworkPolicy
from edge.records.decision import DecisionBatch, PeersHeard, Source
from edge.records.history import week_of
from edge.records.item import Item
from edge.records.message import Network

NOW = WallTime(WALL_MS, ClockQuality.FREE)


def pricer(state: Path, **changes: object) -> Pricer:
    return Pricer(PricingConfig(**changes), state=state, currency=CURRENCY)  # type: ignore[arg-type]


def test_a_policy_that_cannot_be_used_leaves_the_optimiser_and_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    for name in (str(broken), str(tmp_path / "absent.onnx")):
        found = pricer(tmp_path, policy=name)
        assert found.policy is None
        state, reason = found.state()
        assert state is HealthState.DEGRADED
        assert "weekly optimiser" in reason
    none = pricer(tmp_path, policy="none")
    assert (none.policy, none.state()) == (None, (HealthState.OK, ""))


async def test_a_category_of_any_size_is_asked_for_in_parts_that_cover_it_once(tmp_path: Path) -> None:
    many = [Item(f"s{n:05d}", "x", "big", 100 + n % 50, 5_000) for n in range(2 * CATEGORY_ITEMS_MAX + 3)]
    desk = Desk(tmp_path, items=many)
    await desk.cycle.prepare()
    views, made = desk.views, pricer(tmp_path, policy="none")
    wanted = views.shelf.categories()["big"]
    asked = list(made.requests(views.memory, views.shelf, "big", wanted, MONDAY, slots=7, recorded=NOW))
    assert [len(request.items) for request in asked] == [CATEGORY_ITEMS_MAX, CATEGORY_ITEMS_MAX, 3]
    assert [item for request in asked for item in request.items] == wanted
    assert all(request.published.price.tolist() == [i.reference_minor for i in request.items] for request in asked)
    assert {request.slots for request in asked} == {7}


async def test_without_a_policy_the_optimiser_decides_and_holding_keeps_the_prices(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.live(8)
    views, made = desk.views, pricer(tmp_path, policy="none", modes={"juice": "live"}, step_probability=0.0)
    items = views.shelf.categories()["juice"]
    (request,) = made.requests(
        views.memory, views.shelf, "juice", items, MONDAY + timedelta(days=14), slots=200, recorded=NOW
    )
    batch = made.decide(request)
    assert batch.source is Source.OPTIMISER
    assert "juice" in made.effects
    held = made.hold(request)
    assert held.source is Source.HOLD
    assert (held.published <= request.published.price).all()  # the index cap may lower; nothing raises


async def test_peers_inform_the_estimate_and_a_broken_market_changes_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.live(8)
    views, opening = desk.views, MONDAY + timedelta(days=14)
    week = week_of(opening)
    said = Pooled(-1.5, 0.1, 0.3, shops=6, owners=1, week=week - 1, deviation=0.0)
    insights = {f"juice-{number}": {"price": said} for number in (1, 2, 3)}
    picture = NetworkPicture(
        "the chain", Network.PRIVATE, True, NetworkPolicy(live_use=True), 6, 2, 6, 1, week - 1, week,
        {"juice": insights}, {},
    )  # fmt: skip

    def failing(category: str) -> MarketContext:
        raise RuntimeError(category)

    def decided(market: Market | None) -> DecisionBatch:
        config = PricingConfig(policy="none", modes={"juice": "live"}, step_probability=0.0)
        made = Pricer(config, state=tmp_path, currency=CURRENCY, market=market)
        items = views.shelf.categories()["juice"]
        (request,) = made.requests(views.memory, views.shelf, "juice", items, opening, slots=200, recorded=NOW)
        batch = made.decide(request)
        assert "juice" in made.effects
        return batch

    alone = decided(None)
    assert alone.peers is None
    told = decided(NetworkState(week, (picture,)).get_context)
    assert told.peers == PeersHeard(6, week - 1, 3)
    assert told.suggestion.tolist() != alone.suggestion.tolist()
    assert decided(NetworkState(week).get_context) == alone
    assert decided(lambda _: None) == alone
    broken = decided(failing)
    assert broken.failures[0] == "market: RuntimeError: juice"
    assert replace(broken, failures=alone.failures) == alone


async def test_what_is_published_is_read_in_the_items_order_and_gaps_are_zero(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await desk.live(1)
    items = [shelf()[2], Item("new", "New", "juice", 500, 10_000), shelf()[0]]
    opening = MONDAY + timedelta(days=1)
    found = published(desk.views.shelf, items, opening)
    assert found.price.tolist() == [199, 0, 299]
    assert found.reference.tolist() == [199, 0, 299]
    assert not reference_moved(desk.views.shelf, [shelf()[0]], opening)
    assert reference_moved(desk.views.shelf, items, opening)


def test_the_experiments_seed_is_drawn_once_and_kept_secret(tmp_path: Path) -> None:
    assert experiment_rules(PricingConfig(), tmp_path).switchback is False
    assert list(tmp_path.iterdir()) == []
    config = PricingConfig(switchback=True)
    first, again = experiment_rules(config, tmp_path), experiment_rules(config, tmp_path)
    assert first == again
    assert len(bytes.fromhex(first.seed)) == 32
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_the_owners_settings_reach_the_agent(tmp_path: Path, probability: float) -> None:
    rules = pricer(tmp_path, policy="none", step_probability=probability).rules
    assert rules.experiment.step_probability == probability
