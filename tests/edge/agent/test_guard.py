"""The guard against an independent statement of its rules, against mutants of itself, and in plain examples."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support_guard import Try, breaches, shop, tries

from edge.agent import guard
from edge.agent.guard import NO_LADDERS, GuardInputs, GuardResult, bounds, ladders, project
from edge.agent.rules import GuardRules, Rule
from edge.errors import ConfigError
from edge.records.item import Item

ANY = GuardRules(endings=(), menu_cost_minor=0.0, dwell_days=0, margin_min=0.0)


def inputs(reference: list[int], **changes: object) -> GuardInputs:
    prices = np.array(reference, dtype=np.int64)
    none = np.zeros_like(prices)
    plain = GuardInputs(
        reference=prices,
        previous=prices,
        previous_reference=prices,
        cost=np.asarray(prices * 0.5, dtype=np.float64),
        floor=none,
        ceiling=none,
        days_since_change=none + 30,
        weight=np.ones(len(reference)),
        slots=np.array(len(reference)),
        at_opening=np.array(True),
    )
    arrays = {
        name: np.array(value, dtype=getattr(plain, name).dtype) if isinstance(value, list | int | bool) else value
        for name, value in changes.items()
    }
    return replace(plain, **arrays)  # type: ignore[arg-type]


def words(result: GuardResult, item: int = 0) -> tuple[str, ...]:
    return Rule(int(result.rules[item])).words


def count(run: Callable[[Try], GuardResult], seeds: range, shops: int = 12) -> Counter[str]:
    """Breaches by rule of `run` over random shops, each judged by the rules and inputs that it was given."""
    found: Counter[str] = Counter()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for attempt, box in tries(rng, (shops, int(rng.choice([1, 3, 11, 24]))), 5):
            asked, given, rules, gain = attempt
            result = run(attempt)
            box.append(result)
            for index in range(shops):
                one, published = shop(given, result, index)
                own_gain = None if gain is None else gain[index]
                found.update(text.split(":")[0] for text in breaches(asked[index], one, rules, own_gain, published))
    return found


def honest(attempt: Try) -> GuardResult:
    asked, given, rules, gain = attempt
    return project(asked, given, rules, gain=gain)


def test_random_policies_breach_nothing() -> None:
    assert not count(honest, range(60))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_any_seed_breaches_nothing(seed: int) -> None:
    assert not count(honest, range(seed, seed + 1), shops=4)


def _with_rules(**changes: float | tuple[int, ...]) -> Callable[[Try], GuardResult]:
    def run(attempt: Try) -> GuardResult:
        asked, given, rules, gain = attempt
        return project(asked, given, replace(rules, **changes), gain=gain)  # type: ignore[arg-type]

    return run


def _with_inputs(change: Callable[[GuardInputs], GuardInputs]) -> Callable[[Try], GuardResult]:
    def run(attempt: Try) -> GuardResult:
        asked, given, rules, gain = attempt
        return project(asked, change(given), rules, gain=gain)

    return run


def _finite_forgotten(attempt: Try) -> GuardResult:
    asked, given, rules, gain = attempt
    return project(np.clip(np.nan_to_num(asked), -rules.asked_max, rules.asked_max), given, rules, gain=gain)


def _menu_cost_forgotten(attempt: Try) -> GuardResult:
    asked, given, rules, _ = attempt
    return project(asked, given, rules)


def _one_minor_unit_more(attempt: Try) -> GuardResult:
    result = honest(attempt)
    return replace(result, price=np.where(result.changed, result.price + 1, result.price))


MUTANTS: dict[str, tuple[Callable[[Try], GuardResult], str]] = {
    "no band": (_with_rules(band=0.5), "hard"),
    "no step": (_with_rules(step=1.0), "step"),
    "no margin in the cost floor": (_with_rules(margin_min=0.0), "hard"),
    "no index cap": (_with_rules(index_cap=0.005), "index"),
    "no dwell": (_with_rules(dwell_days=0), "dwell"),
    "no ending": (_with_rules(endings=()), "ending"),
    "no ceiling": (_with_inputs(lambda i: replace(i, ceiling=np.zeros_like(i.ceiling))), "hard"),
    "no floor": (_with_inputs(lambda i: replace(i, floor=np.zeros_like(i.floor))), "hard"),
    "no opening": (_with_inputs(lambda i: replace(i, at_opening=np.ones_like(i.at_opening))), "opening"),
    "no slots": (_with_inputs(lambda i: replace(i, slots=i.slots + 1000)), "slots"),
    "no ladder": (_with_inputs(lambda i: replace(i, ladders=NO_LADDERS)), "ladder"),
    "not finite": (_finite_forgotten, "finite"),
    "no menu cost": (_menu_cost_forgotten, "menu cost"),
    "one minor unit more": (_one_minor_unit_more, "hard"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_guard_without_a_rule_is_caught(name: str) -> None:
    run, rule = MUTANTS[name]
    assert count(run, range(24))[rule] > 0


def test_rounding_after_the_index_cap_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(saved: NDArray[np.float64], *_: object) -> NDArray[np.bool_]:
        return np.zeros(saved.shape, dtype=np.bool_)

    monkeypatch.setattr(guard, "_fewest", nothing)
    assert count(honest, range(24))["index"] > 0


def test_a_floor_above_the_band_and_ceiling_wins_and_raises_an_alarm() -> None:
    given = inputs([200], cost=np.array([230.0]), ceiling=[210])
    result = project(np.array([0.0]), given, ANY)
    assert result.price.tolist() == [230]
    assert "conflict" in words(result)
    assert "moved" in words(result)
    assert bool(result.alarm[0])


def test_a_ceiling_below_the_band_wins_over_the_band() -> None:
    result = project(np.array([0.0]), inputs([200], ceiling=[150]), ANY)
    assert result.price.tolist() == [150]
    assert "conflict" in words(result)


@pytest.mark.parametrize("asked", [np.nan, np.inf, -np.inf, 1e30, -1e30, 1.5])
def test_a_policy_out_of_its_senses_is_held(asked: float) -> None:
    given = inputs([200, 300], previous=[190, 300])
    result = project(np.array([asked, -0.05]), given, ANY)
    assert result.price.tolist() == [190, 285]
    assert words(result) == ("finite",)
    assert bool(result.alarm[0])
    assert not bool(result.alarm[1])


@pytest.mark.parametrize("cost", [np.nan, np.inf, -1.0, 1e300])
def test_unusable_numbers_hold_the_last_price(cost: float) -> None:
    result = project(np.array([0.05]), inputs([200], previous=[190], cost=np.array([cost])), ANY)
    assert result.price.tolist() == [190]
    assert words(result) == ("input",)


def test_band_and_step_bind_and_say_so() -> None:
    rules = replace(ANY, step=0.05)
    result = project(np.array([-0.3, -0.3]), inputs([200, 200], previous=[200, 185]), rules)
    assert result.price.tolist() == [191, 181]
    assert words(result, 0) == ("band", "step")
    assert words(result, 1) == ("band",)


def test_a_promotion_is_a_reference_and_not_a_step() -> None:
    given = inputs([160], previous=[190], previous_reference=[200])
    result = project(np.array([-0.05]), given, replace(ANY, step=0.02))
    assert result.price.tolist() == [152]
    assert words(result) == ("moved",)


def test_rises_wait_for_the_opening_and_cuts_do_not() -> None:
    given = inputs([200, 200], at_opening=False)
    result = project(np.array([0.05, -0.05]), given, ANY)
    assert result.price.tolist() == [200, 190]
    assert words(result, 0) == ("opening",)
    assert words(result, 1) == ()


def test_the_day_has_only_so_many_label_changes_and_the_best_get_them() -> None:
    given = inputs([200, 200, 200], slots=1)
    result = project(np.array([-0.05, -0.05, -0.05]), given, ANY, gain=np.array([30.0, 90.0, 60.0]))
    assert result.price.tolist() == [200, 190, 200]
    assert words(result, 0) == ("slots",)


def test_a_gain_below_the_menu_cost_changes_nothing() -> None:
    rules = replace(ANY, menu_cost_minor=25.0)
    result = project(np.array([-0.05, -0.05]), inputs([200, 200]), rules, gain=np.array([25.0, 26.0]))
    assert result.price.tolist() == [200, 190]
    assert words(result, 0) == ("menu_cost",)


def test_a_recent_label_stays() -> None:
    rules = replace(ANY, dwell_days=6)
    result = project(np.array([-0.05, -0.05]), inputs([200, 200], days_since_change=[5, 6]), rules)
    assert result.price.tolist() == [200, 190]
    assert words(result, 0) == ("dwell",)


def test_the_index_cap_lowers_rises_and_never_limits_cuts() -> None:
    rises = project(np.full(4, 0.08), inputs([1000] * 4), ANY)
    assert rises.index <= 0.005 + 1e-9
    assert rises.index > 0.004
    cuts = project(np.full(4, -0.10), inputs([1000] * 4), ANY)
    assert cuts.price.tolist() == [905] * 4
    assert all(words(cuts, item) == () for item in range(4))


def test_a_cost_floor_may_lift_the_index_but_no_rise_rides_on_it() -> None:
    given = inputs([1000, 1000], cost=np.array([1080.0, 500.0]))
    result = project(np.array([0.0, 0.08]), given, ANY)
    assert result.price.tolist() == [1080, 1000]


def test_a_book_that_no_longer_meets_the_cap_goes_back_to_reference() -> None:
    given = inputs([1000, 1000], previous=[1090, 950], days_since_change=[1, 1])
    result = project(np.array([np.nan, np.nan]), given, replace(ANY, dwell_days=6))
    assert result.price.tolist() == [1000, 950]
    assert "index" in words(result)


def _sized(sku: str, size: float | None, price: int) -> Item:
    ladder = None if size is None else "juice"
    return Item(sku, sku, "c", price, cost_e4=1, ladder=ladder, size=size)


def test_sizes_stay_in_order() -> None:
    family = ladders([_sized("a", 64, 200), _sized("x", None, 100), _sized("b", 96, 205), _sized("c", 128, 400)])
    assert list(zip(family.small.tolist(), family.large.tolist(), strict=True)) == [(0, 2), (2, 3)]
    given = inputs([200, 100, 205, 400], ladders=family)
    result = project(np.array([0.0, 0.0, -0.09, 0.0]), given, ANY)  # 187 would be cheaper than the smaller one
    assert result.price.tolist() == [200, 100, 205, 400]
    assert words(result, 2) == ("ladder",)


@pytest.mark.parametrize(
    ("wanted", "endings", "price"),
    [(196, (9,), 199), (205, (9,), 209), (203, (5, 9), 205), (199, (99,), 199), (203, (), 203), (201, (9,), 200)],
)
def test_endings(wanted: int, endings: tuple[int, ...], price: int) -> None:
    rules = replace(ANY, endings=endings)
    given = inputs([200, 10_000], weight=[1.0, 1000.0])  # the second item leaves the first its room in the index
    assert project(np.log(np.array([wanted / 200, 0.9])), given, rules).price[0] == price


@settings(max_examples=200, deadline=None)
@given(
    previous=st.floats(-0.1, 0.1),
    band=st.floats(0.01, 0.3),
    step=st.floats(0.005, 0.3),
    limit=st.floats(0.0, 0.2),
    asked=st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=6),
)
def test_cuts_and_rises_are_mirror_images(
    previous: float, band: float, step: float, limit: float, asked: list[float]
) -> None:
    """At prices of a million minor units integers do not show: log bounds of mirrored inputs are mirrored."""
    reference = 1_000_000
    many = [reference] * len(asked)
    rules = replace(ANY, band=band, step=step)

    def at(log_price: float) -> list[int]:
        return [round(reference * float(np.exp(log_price)))] * len(asked)

    cheap = np.full(len(asked), 1.0)
    above = bounds(inputs(many, previous=at(previous), ceiling=at(limit), cost=cheap), rules)
    below = bounds(inputs(many, previous=at(-previous), floor=at(-limit), cost=cheap), rules)
    np.testing.assert_allclose(above.high, -below.low, atol=2e-5)
    np.testing.assert_allclose(above.low, -below.high, atol=2e-5)
    # The index cap only ever lowers prices: a mirrored wish moves at least as far down as the wish moves up.
    wish = np.array(asked)
    risen = project(wish, inputs(many, previous=at(previous), cost=cheap), rules).log_multiplier
    cut = project(-wish, inputs(many, previous=at(-previous), cost=cheap), rules).log_multiplier
    assert np.all(cut <= -risen + 2e-5)


def test_bounds_are_what_project_accepts() -> None:
    given = inputs([200, 300], previous=[210, 300])
    limits = bounds(given, replace(ANY, index_cap=0.005))
    for asked in (limits.low, np.minimum(limits.high, 0.0)):
        result = project(asked, given, ANY)
        assert not np.any(result.rules & int(Rule.BAND | Rule.STEP | Rule.COST_FLOOR))


def test_batches_and_single_shops_agree() -> None:
    rng = np.random.default_rng(7)
    for attempt, box in tries(rng, (9, 11), 3):
        asked, batch, rules, gain = attempt
        result = honest(attempt)
        box.append(result)
        for index in range(9):
            one, published = shop(batch, result, index)
            alone = project(asked[index], one, rules, gain=None if gain is None else gain[index])
            assert alone.price.tolist() == published.price.tolist()
            assert alone.rules.tolist() == published.rules.tolist()


@pytest.mark.parametrize(
    "wrong",
    [{"band": 0.9}, {"index_cap": 0.006}, {"endings": (100,)}, {"dwell_days": -1}, {"margin_min": float("nan")}],
)
def test_rules_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="guard"):
        GuardRules(**wrong)  # type: ignore[arg-type]
