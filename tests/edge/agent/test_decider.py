"""The chain: who decides when what fails, what modes publish, and that the guard has the last word every time."""

import json
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from support_guard import breaches
from support_history import simulate
from support_policy import COUNT, PolicyParts, make_policy
from support_requests import request, with_promotion

from edge.agent import decider as decider_module
from edge.agent import optimiser
from edge.agent.decider import Decider, DeciderRules, Request
from edge.agent.estimate import DemandPrior, backtest, estimate
from edge.agent.experiment import ExperimentRules, assign
from edge.agent.guard import GuardResult
from edge.agent.metrics import DecisionMetrics
from edge.agent.observation import FEATURE_NAMES
from edge.agent.rules import GuardRules, Rule
from edge.agent.sac_agent import SACAgent
from edge.agent.situation import Published, align, guard_inputs
from edge.records.decision import Arm, DecisionBatch, Mode, Source, decode_decisions, encode_decisions
from edge.records.history import week_of, week_start

QUIET = ExperimentRules(step_probability=0.0)
RULES = DeciderRules(experiment=QUIET)


def policy(**parts: object) -> SACAgent:
    return SACAgent(make_policy(PolicyParts(**parts)))  # type: ignore[arg-type]


def run(asked: Request, agent: SACAgent | None = None, rules: DeciderRules = RULES) -> DecisionBatch:
    return Decider(rules, agent, monotonic=lambda: 0.0).decide(asked, np.random.default_rng(1))


def check(asked: Request, batch: DecisionBatch, rules: GuardRules) -> None:
    """What is published breaks no rule of the independent statement."""
    inputs = guard_inputs(asked.items, asked.published, asked.day, asked.currency, slots=asked.slots)
    m = np.log(np.maximum(batch.published, 1) / np.maximum(batch.reference, 1)).astype(np.float64)
    result = GuardResult(
        batch.published.astype(np.int64), m, batch.rules, batch.published != batch.previous, np.array(0.0)
    )
    # The index is weighted by revenue the checker does not know; the batch's own decision used the model's.
    loose = [text for text in breaches(m, inputs, rules, None, result) if not text.startswith("index")]
    assert not loose


def test_the_policy_decides_when_it_is_sound() -> None:
    asked = request()
    batch = run(asked, policy())
    assert batch.source is Source.SAC
    assert batch.failures == ()
    np.testing.assert_allclose(batch.asked, 0.1 * np.tanh(-0.03), rtol=1e-4)
    assert len(batch.model_sha256) == 32
    assert batch.observation.shape == (11, COUNT)
    np.testing.assert_array_equal(batch.published, batch.chosen)
    check(asked, batch, RULES.guard)


def test_without_a_policy_the_optimiser_decides() -> None:
    asked = request()
    batch = run(asked)
    assert batch.source is Source.OPTIMISER
    np.testing.assert_allclose(batch.asked, batch.suggestion)
    assert "no policy" in batch.failures[0]
    assert np.sum(batch.published != batch.previous) >= 5
    assert float(np.sum(batch.profit_change)) > 0
    check(asked, batch, RULES.guard)


class _Broken:
    """A checked policy whose runtime then fails, or answers nonsense."""

    def __init__(self, answer: object) -> None:
        self._agent = policy()
        self.facts = self._agent.facts
        self._answer = answer

    def fits(self, count: int) -> bool:
        return self._agent.fits(count)

    def drift(self, observation: object) -> float:
        return 0.0

    def ask(self, observation: np.ndarray) -> np.ndarray:
        if isinstance(self._answer, Exception):
            raise self._answer
        return np.full(len(observation), self._answer)


@pytest.mark.parametrize("answer", [RuntimeError("no memory"), np.nan, np.inf, -np.inf, MemoryError()])
def test_a_failing_policy_is_replaced_within_the_same_decision(answer: object) -> None:
    asked = request()
    batch = run(asked, _Broken(answer))  # type: ignore[arg-type]
    assert batch.source is Source.OPTIMISER
    assert batch.failures[0].startswith("sac: ")
    np.testing.assert_array_equal(batch.published, run(asked).published)


def test_a_policy_far_from_its_training_is_not_asked() -> None:
    batch = run(request(), policy(metadata=ranges(0.0, 0.0, items=(2.0, 2.5))))
    assert batch.source is Source.OPTIMISER
    assert "outside its training" in batch.failures[0]


@pytest.mark.parametrize(("trained_on", "asked"), [(11, True), (6, True), (21, True), (4, False), (40, False)])
def test_a_policy_is_asked_for_categories_of_the_size_it_knows(trained_on: int, asked: bool) -> None:
    size = float(np.log(trained_on))
    category = request()
    assert len(category.items) == 11
    batch = run(category, policy(metadata=ranges(-100.0, 100.0, items=(size, size))))
    assert (batch.source is Source.SAC) is asked
    assert asked or "categories of 11 items" in batch.failures[0]


def ranges(low: float, high: float, *, items: tuple[float, float]) -> dict[str, str]:
    """Metadata of a policy whose training saw `low` to `high` in every feature, and `items` in log of the size."""
    column = FEATURE_NAMES.index("items")
    bounds = {"p1": [low] * COUNT, "p99": [high] * COUNT}
    bounds["p1"][column], bounds["p99"][column] = items
    return {"pomona.training_ranges": json.dumps(bounds)}


def test_a_late_policy_is_replaced() -> None:
    clock = count(step=15)
    late = Decider(RULES, policy(), monotonic=lambda: float(next(clock)))
    batch = late.decide(request(), np.random.default_rng(1))
    assert batch.source is Source.SAC  # 15 s of 20
    slow = Decider(replace(RULES, budget_s=5.0), policy(), monotonic=lambda: float(next(clock)))
    batch = slow.decide(request(), np.random.default_rng(1))
    assert batch.source is Source.OPTIMISER
    assert "time budget" in batch.failures[0]


def test_a_failing_estimate_holds_the_last_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(decider_module, "estimate", fail)
    batch = run(request(), policy())
    assert batch.source is Source.HOLD
    assert batch.failures[0].startswith("estimate: LinAlgError")
    np.testing.assert_array_equal(batch.published, batch.previous)
    assert np.all(np.isnan(batch.asked))
    assert decode_decisions(encode_decisions(batch)) == batch


def test_a_failing_gain_holds_the_last_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(optimiser, "gradient_near", fail)
    batch = run(request(), policy())
    assert batch.source is Source.HOLD
    assert batch.failures[0].startswith("decision: ZeroDivisionError")
    np.testing.assert_array_equal(batch.published, batch.previous)


def test_shadow_decides_and_publishes_nothing_new() -> None:
    batch = run(request(mode=Mode.SHADOW), policy())
    live = run(request(mode=Mode.LIVE), policy())
    np.testing.assert_array_equal(batch.published, batch.previous)
    np.testing.assert_array_equal(batch.chosen, live.chosen)
    assert np.any(batch.chosen != batch.published)


def test_off_follows_the_owners_references_and_computes_nothing() -> None:
    asked = with_promotion(request(mode=Mode.OFF), 2, 196)
    batch = run(asked, policy())
    assert batch.source is Source.HOLD
    assert batch.published[2] == 196
    assert np.all(np.delete(batch.published, 2) == np.delete(batch.previous, 2))
    assert batch.failures == ()
    assert batch.observation.shape == (11, 0)


def test_a_promotion_is_carried_out_in_every_mode() -> None:
    for mode in Mode:
        asked = request(mode=mode)
        price = round(0.8 * asked.items[4].reference_minor)
        batch = run(with_promotion(asked, 4, price))
        assert abs(np.log(batch.published[4] / price)) <= RULES.guard.band + 1e-9
        if mode is not Mode.LIVE:
            assert batch.published[4] == price


def test_control_weeks_show_the_reference_book_and_treatment_weeks_the_chains() -> None:
    experiment = ExperimentRules(switchback=True, seed="ab" * 16, step_probability=0.0)
    rules = replace(RULES, experiment=experiment)
    seen = set()
    asked = request()
    off_reference = np.rint(asked.published.reference * 0.96).astype(np.int64)
    asked = replace(asked, published=replace(asked.published, price=off_reference))
    for later in range(12):
        dated = replace(asked, day=week_start(week_of(asked.day) + later))
        batch = run(dated, policy(), rules)
        place = assign(experiment, "juice", week_of(dated.day))
        assert (batch.arm, batch.arm_propensity, batch.wash_out) == (place.arm, 0.5, place.wash_out)
        seen.add(batch.arm)
        if batch.arm is Arm.CONTROL:
            np.testing.assert_array_equal(batch.published, batch.reference)
            assert batch.source is Source.CONTROL
        else:
            assert batch.source is Source.SAC
        shadow = run(replace(dated, mode=Mode.SHADOW), policy(), rules)
        assert shadow.arm is Arm.NONE
    assert seen == {Arm.TREATMENT, Arm.CONTROL}


def test_random_steps_are_logged_and_pass_the_guard() -> None:
    rules = DeciderRules(experiment=ExperimentRules(step_probability=0.4, step_log=0.02))
    asked = request(items=40)
    batch = run(asked, policy(), rules)
    stepped = batch.random_step != 0
    assert 5 < np.sum(stepped) < 30
    np.testing.assert_allclose(batch.propensity[stepped], 0.2)
    np.testing.assert_allclose(batch.propensity[~stepped], 0.6)
    check(asked, batch, rules.guard)
    assert not np.any(run(replace(asked, mode=Mode.SHADOW), policy(), rules).random_step)


def test_new_items_items_without_sales_and_a_new_shop_are_decided() -> None:
    asked = request()
    history, _ = simulate(0, items=8, weeks=60)
    fewer = replace(asked, history=history)
    assert run(fewer, policy()).source is Source.SAC
    empty = align(history, [item.sku for item in asked.items])
    blank = replace(empty, observed=np.zeros_like(empty.observed), price=np.full_like(empty.price, np.nan))
    fresh = replace(asked, history=blank, published=Published.none(11))
    batch = run(fresh, policy())
    assert batch.source is Source.SAC
    assert np.all(batch.published > 0)
    assert np.all(batch.previous == 0)


def test_infeasible_items_are_resolved_and_raise_an_alarm() -> None:
    asked = request()
    shelf = list(asked.items)
    shelf[0] = replace(shelf[0], cost_e4=shelf[0].reference_minor * 130)  # costs 1.3 times its reference price
    shelf[1] = replace(shelf[1], ceiling_minor=round(0.8 * shelf[1].reference_minor))
    asked = replace(asked, items=tuple(shelf))
    batch = run(asked, policy())
    assert batch.published[0] >= 1.3 * 1.02 * shelf[0].reference_minor
    assert batch.published[1] == shelf[1].ceiling_minor
    assert np.all(batch.rules[:2] & int(Rule.CONFLICT))


def test_the_same_seed_gives_the_same_batch_and_every_batch_survives_its_record() -> None:
    asked = request()
    first, second = run(asked, policy()), run(asked, policy())
    assert encode_decisions(first) == encode_decisions(second)
    assert decode_decisions(encode_decisions(first)) == first


def test_an_estimate_made_before_is_used() -> None:
    asked = request()
    posterior = estimate(asked.history, DemandPrior())
    assert run(replace(asked, posterior=posterior)) == run(asked)


def test_metrics_count_sources_outcomes_rules_and_errors() -> None:
    registry = CollectorRegistry()
    metrics = DecisionMetrics(registry)
    batch = Decider(RULES, None, monotonic=lambda: 0.0, metrics=metrics).decide(request(), np.random.default_rng(1))
    changed = int(np.sum(batch.published != batch.previous))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("pomona_price_decisions_total", source="optimiser", outcome="changed") == changed
    assert value("pomona_price_decisions_total", source="optimiser", outcome="held") == 11 - changed
    endings = int(np.sum((batch.rules & int(Rule.ENDING)) != 0))
    assert value("pomona_price_guard_triggered_total", rule="ending") == endings
    assert value("pomona_price_fallbacks_total", stage="sac") == 1
    metrics.forecast("juice", backtest(request().history, DemandPrior()))
    wape = value("pomona_demand_forecast_wape_ratio", category="juice")
    assert wape is not None
    assert 0 < wape < 2


def test_weeks_of_decisions_stay_inside_the_guard() -> None:
    """Fifteen weeks in a row, each from what the last published, with costs that drift."""
    rng = np.random.default_rng(5)
    asked = request()
    chain = Decider(DeciderRules(), policy(action="residual"), monotonic=lambda: 0.0)
    for _ in range(15):
        shelf = tuple(replace(item, cost_e4=round(item.cost_e4 * np.exp(rng.normal(0, 0.04)))) for item in asked.items)
        asked = replace(asked, items=shelf)
        batch = chain.decide(asked, rng)
        check(asked, batch, DeciderRules().guard)
        after = batch.published.astype(np.int64)
        changed = after != asked.published.price
        asked = replace(
            asked,
            published=Published(after, batch.reference.astype(np.int64), np.where(changed, 7, 14)),
            day=week_start(week_of(asked.day) + 1),
        )
