"""Pooling what shops say: against a reference that searches, in any order, with liars, and calibrated."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import LocalError
from edge.memory.combine import ELASTICITY, SPREAD_RULES, TERM_RULES, CombineRules, Values, combine
from edge.records.shared import TERMS

Float = NDArray[np.float64]
WEEK = 2900
RAW = replace(ELASTICITY, between_weight=0.0, between_floor=1e-9, drift=0.0, shared=0.0)


def make_values(
    mean: list[float],
    error: list[float] | float = 0.35,
    deviation: list[float] | float = 0.0,
    owner: list[int] | None = None,
    week: list[int] | int = WEEK,
) -> Values:
    count = len(mean)
    one = np.ones(count, np.int64)
    return Values(
        np.array(mean, dtype=np.float64),
        np.zeros(count) + error,
        np.zeros(count) + deviation,
        np.zeros(count, np.int64) if owner is None else np.array(owner, dtype=np.int64),
        np.zeros(count, np.int64) + np.array(week),
        one,
        one,
    )


def taken(values: Values, order: NDArray[np.int64]) -> Values:
    return Values(**{name: getattr(values, name)[order] for name in Values.__dataclass_fields__})


@st.composite
def values_of_shops(draw: st.DrawFn, least: int = 1, owners: int = 8) -> Values:
    count = draw(st.integers(least, 14))
    number = st.floats(-20, 20, allow_nan=False).map(lambda x: round(x, 3))

    def column(values: st.SearchStrategy[float]) -> list[float]:
        return draw(st.lists(values, min_size=count, max_size=count))

    return make_values(
        column(number),
        column(st.floats(1e-6, 5.0)),
        column(st.sampled_from([0.0, 0.1, 1.0])),
        [int(x) for x in column(st.integers(0, owners - 1))],
        [int(x) for x in column(st.integers(WEEK - 100, WEEK))],
    )


# --- against a reference ---------------------------------------------------------------------------------------------


def reference_shares(weight: list[float], cap: float) -> list[float]:
    """Water-filling by a fine search for the level at which the capped weights add up."""
    cap = max(cap, 1.0 / len(weight))
    low, high = 0.0, 1e30
    for _ in range(400):
        level = (low + high) / 2 if high < 1e29 else max(2 * low, 1.0)
        if sum(min(level * x, cap) for x in weight) < 1.0 - 1e-13:
            low = level
        else:
            high = level
    shares = [min(high * x, cap) for x in weight]
    return [share / sum(shares) for share in shares]


def reference_pooled(values: Values, rules: CombineRules) -> tuple[float, float, float]:
    """Mean, error and between, in plain loops and bisections."""
    rows = [
        (float(m), float(e), float(d), int(o), int(w))
        for m, e, d, o, w in zip(values.mean, values.error, values.deviation, values.owner, values.week, strict=True)
    ]
    rows.sort()
    count, owners = len(rows), sorted({row[3] for row in rows})
    variance = [e * e + d * d + rules.drift**2 * max(WEEK - w, 0) for _, e, d, _, w in rows]

    def shares(tau: float) -> list[float]:
        weight = [1.0 / (v + tau * tau) for v in variance]
        outer = reference_shares(
            [sum(w for w, row in zip(weight, rows, strict=True) if row[3] == owner) for owner in owners],
            rules.share_max,
        )
        if len(owners) == 1:
            outer = [1.0]
        found = [0.0] * count
        for number, owner in enumerate(owners):
            inside = [index for index in range(count) if rows[index][3] == owner]
            for index, share in zip(
                inside, reference_shares([weight[index] for index in inside], rules.share_max), strict=True
            ):
                found[index] = share * outer[number]
        return found

    def median(share: list[float]) -> float:
        below = [row[0] for index, row in enumerate(rows) if sum(share[: index + 1]) >= 0.5 - 1e-9]
        above = [row[0] for index, row in enumerate(rows) if sum(share[: index + 1]) > 0.5 + 1e-9]
        return (below[0] + above[0]) / 2

    share = shares(rules.between)
    cut = count >= 5
    middle = median(share) if cut else sum(s * row[0] for s, row in zip(share, rows, strict=True))
    room = 1.0 - sum(s * s for s in share)
    between = rules.between
    freedom = 0.0
    if room > 1e-9:
        draws = np.linspace(-12, 12, 240_001)
        density = np.exp(-draws * draws / 2) / math.sqrt(2 * math.pi) * (draws[1] - draws[0])
        factor = float((density * np.minimum(draws**2, rules.clip**2)).sum()) if cut else 1.0
        freedom = room / (1 - room)

        def scatter(tau2: float) -> float:
            return sum(
                s * min((row[0] - middle) ** 2 / (v + tau2), rules.clip**2 if cut else math.inf)
                for s, row, v in zip(share, rows, variance, strict=True)
            )

        low, high = 0.0, rules.between_max**2
        for _ in range(200):
            tau2 = (low + high) / 2
            low, high = (tau2, high) if scatter(tau2) > room * factor else (low, tau2)
        between = math.sqrt(low)
    between = math.sqrt(
        (rules.between_weight * rules.between**2 + freedom * between**2) / (rules.between_weight + freedom)
    )
    between = min(max(between, rules.between_floor), rules.between_max)
    share = shares(between)
    spread = [v + between**2 for v in variance]
    mean, efficiency = sum(s * row[0] for s, row in zip(share, rows, strict=True)), 1.0
    if cut:
        efficiency = 0.964

        def pull(middle: float) -> float:
            return sum(
                s * max(-rules.clip * math.sqrt(v), min(rules.clip * math.sqrt(v), row[0] - middle))
                for s, row, v in zip(share, rows, spread, strict=True)
            )

        ends = []
        for least in (1e-10, -1e-10):  # the least and the greatest root
            low, high = rows[0][0], rows[-1][0]
            for _ in range(200):
                mean = (low + high) / 2
                low, high = (mean, high) if pull(mean) > least else (low, mean)
            ends.append(mean)
        mean = sum(ends) / 2
        by_owner = [sum(s for s, row in zip(share, rows, strict=True) if row[3] == owner) for owner in owners]
        heaviest = max(by_owner) if len(owners) >= 5 else max(share)
        if heaviest < 0.5 - 1e-9:
            inner = [row[0] for i, row in enumerate(rows) if sum(share[: i + 1]) > heaviest + 1e-9]
            outer = [row[0] for i, row in enumerate(rows) if sum(share[i:]) > heaviest + 1e-9]
            mean = min(max(mean, inner[0]), outer[-1])
    error = sum(s * s * v for s, v in zip(share, spread, strict=True)) / efficiency
    for owner in owners:
        mine = [(s, row[1]) for s, row in zip(share, rows, strict=True) if row[3] == owner]
        error += rules.shared * sum(s for s, _ in mine) * sum(s * e * e for s, e in mine)
    return mean, math.sqrt(error), between


@settings(max_examples=60, deadline=None)
@given(values_of_shops(), st.sampled_from([ELASTICITY, SPREAD_RULES, replace(ELASTICITY, share_max=0.1)]))
@example(
    values=Values(
        mean=np.array([12.0, 0.0, 0.0, -1.0, 10.0, 0.0, 8.0, -3.0, 0.0, -3.0, 1.0]),
        error=np.array([1.25, 3.0, 4.0, 1.0, 4.0, 2.0, 2.5, 4.0, 4.0, 4.0, 1.5]),
        deviation=np.array([1.0, 0.1, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        owner=np.array([3, 0, 0, 2, 2, 1, 2, 0, 0, 1, 4]),
        week=np.full(11, WEEK),
        shops=np.ones(11, np.int64),
        owners=np.ones(11, np.int64),
    ),
    rules=replace(ELASTICITY, share_max=0.25),
)  # Newton's method went round in a circle here
def test_it_agrees_with_loops_and_bisections(values: Values, rules: CombineRules) -> None:
    found = combine(values, rules, week=WEEK)
    mean, error, between = reference_pooled(values, rules)
    assert found.between == pytest.approx(between, rel=1e-5, abs=1e-7)
    assert found.mean == pytest.approx(mean, rel=1e-4, abs=1e-5)
    assert found.error == pytest.approx(error, rel=1e-4)


@settings(max_examples=100, deadline=None)
@given(values_of_shops(), st.randoms(use_true_random=False))
def test_the_order_does_not_matter_to_the_last_bit(values: Values, random: object) -> None:
    order = list(range(len(values.mean)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert combine(values, week=WEEK) == combine(taken(values, np.array(order)), week=WEEK)


# --- liars -----------------------------------------------------------------------------------------------------------

LIES = [
    (mean, error, deviation, week)
    for mean in (-20.0, -3.0, 0.0, 20.0)
    for error in (1e-6, 0.3, 1e6)
    for deviation in (0.0, 100.0)
    for week in (0, WEEK)
]


@settings(max_examples=60, deadline=None)
@given(values_of_shops(least=5, owners=1), st.sampled_from(LIES))
def test_one_lying_shop_of_a_chain_cannot_leave_the_range_of_the_others(
    values: Values, lie: tuple[float, float, float, int]
) -> None:
    values = lying(values, np.arange(len(values.mean)) == 0, lie)
    found = combine(values, week=WEEK)
    assert values.mean[1:].min() - 1e-9 <= found.mean <= values.mean[1:].max() + 1e-9
    assert found.between <= ELASTICITY.between_max


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(LIES))
def test_one_lying_owner_cannot_either_with_all_its_shops(
    st_data: st.DataObject, lie: tuple[float, float, float, int]
) -> None:
    values = st_data.draw(values_of_shops(least=6))
    owner = np.concatenate([np.arange(5), values.owner[5:]])
    values = lying(replace(values, owner=owner), owner == 0, lie)
    found = combine(values, week=WEEK)
    honest = values.mean[owner != 0]
    assert honest.min() - 1e-9 <= found.mean <= honest.max() + 1e-9


def lying(values: Values, who: NDArray[np.bool_], lie: tuple[float, float, float, int]) -> Values:
    mean, error, deviation, week = lie
    return replace(
        values,
        mean=np.where(who, mean, values.mean),
        error=np.where(who, error, values.error),
        deviation=np.where(who, deviation, values.deviation),
        week=np.where(who, week, values.week),
    )


@pytest.mark.parametrize(("shops", "allowed"), [(5, 0.55), (10, 0.3), (20, 0.15), (60, 0.05)])
def test_what_a_liar_does_to_an_ordinary_chain_shrinks_with_its_size(shops: int, allowed: float) -> None:
    """Figures of the docs: the worst of all lies, shops 0.3 apart, errors of 0.35; mean over 20 chains."""
    moved = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        values = make_values(list(-2.9 + random.normal(0, math.hypot(0.3, 0.35), shops)))
        honest = combine(values, week=WEEK).mean
        who = np.arange(shops) == 0
        moved.append(max(abs(combine(lying(values, who, lie), week=WEEK).mean - honest) for lie in LIES))
    assert float(np.mean(moved)) < allowed


def test_without_the_cut_a_liar_moves_four_values_by_its_share() -> None:
    honest = combine(make_values([-3.0, -3.0, -3.0, -3.0]), week=WEEK).mean
    lied = combine(make_values([-3.0, -3.0, -3.0, 17.0]), week=WEEK).mean
    assert lied - honest == pytest.approx(0.25 * 20.0)


# --- what the numbers mean -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shops", [5, 20, 60])
def test_the_error_is_the_error(shops: int) -> None:
    """Simulated chains with a shared error: (mean - truth) / error has a variance of one, about."""
    scores, between = [], []
    for seed in range(600):
        random = np.random.default_rng([shops, seed])
        error = random.uniform(0.2, 0.6, shops)
        common = random.normal(0, math.sqrt(0.5 * float(np.mean(error**2)) * 0.75))  # precise shops count more
        x = -2.9 + random.normal(0, 0.3, shops) + random.normal(0, error) + common
        found = combine(make_values(list(x), list(error)), week=WEEK)
        scores.append((found.mean + 2.9) / found.error)
        between.append(found.between)
    assert 0.85 < float(np.std(scores)) < 1.1
    assert 0.27 < float(np.sqrt(np.mean(np.square(between)))) < 0.36


def test_noise_stays_in_the_error_and_counts_for_less() -> None:
    clear = make_values([-3.0] * 10 + [-2.0] * 10, 0.3)
    noisy = replace(clear, deviation=np.array([0.0] * 10 + [2.0] * 10))
    plain, found = combine(clear, week=WEEK), combine(noisy, week=WEEK)
    assert plain.mean == pytest.approx(-2.5)
    assert found.mean < -2.9
    assert plain.deviation == 0.0
    assert 0.0 < found.deviation < found.error


def test_what_is_old_counts_for_less_and_does_not_look_new() -> None:
    values = make_values([-3.0] * 5 + [-2.0] * 5, 0.1, week=[WEEK] * 5 + [WEEK - 100] * 5)
    found = combine(values, week=WEEK)
    assert found.mean < -2.55
    assert found.week == WEEK
    later = combine(values, week=WEEK + 52)
    assert later.error > found.error
    assert combine(make_values([-3.0] * 5, week=[WEEK] + [WEEK - 60] * 4), week=WEEK).week == WEEK - 60


def test_a_chain_of_forty_shops_does_not_outvote_four_shopkeepers() -> None:
    values = make_values([0.0] * 4 + [1.0] * 40, 0.1, owner=[0, 1, 2, 3] + [4] * 40)
    found = combine(values, week=WEEK)
    assert found.mean == pytest.approx(0.0)
    assert (found.shops, found.owners) == (44, 5)


def test_no_owner_has_more_than_a_quarter() -> None:
    """Five vague ones around 0 and a precise one, which alone would have 0.8 of the weight."""
    values = make_values([-0.2, -0.1, 0.0, 0.1, 0.2, 0.15], [1.0] * 5 + [0.01], owner=[0, 1, 2, 3, 4, 5])
    assert combine(values, week=WEEK).mean == pytest.approx(0.25 * 0.15)


def test_fewer_than_five_owners_count_alike() -> None:
    values = make_values([0.0] + [1.0] * 9, 0.1, owner=[0] + [1] * 9)
    assert combine(values, replace(ELASTICITY, clip=100.0), week=WEEK).mean == pytest.approx(0.5)


def test_a_lone_value_is_taken_with_the_usual_distance_between_shops() -> None:
    found = combine(make_values([-2.0], 0.4), week=WEEK)
    assert (found.mean, found.between, found.shops, found.owners, found.week) == (-2.0, 0.3, 1, 1, WEEK)
    assert found.error == pytest.approx(math.sqrt(0.4**2 + 0.3**2 + 0.5 * 0.4**2))


def test_between_is_told_from_the_scatter_within_its_bounds() -> None:
    alike = combine(make_values([-3.0] * 60, 0.01), week=WEEK)
    apart = combine(make_values([-3.0 + 0.8 * x for x in np.random.default_rng(1).normal(size=60)], 0.01), week=WEEK)
    assert alike.between == ELASTICITY.between_floor
    assert 0.55 < apart.between < 0.9


def test_claims_of_how_many_stand_behind_are_taken_at_the_middle() -> None:
    values = make_values([-3.0] * 5)
    values = replace(values, shops=np.array([1, 30, 30, 30, 10**6]), owners=np.array([1, 8, 8, 8, 10**6]))
    found = combine(values, week=WEEK)
    assert (found.shops, found.owners) == (30, 8)


def test_every_term_has_its_rules_and_nothing_is_pooled_from_nothing() -> None:
    assert tuple(TERM_RULES) == TERMS
    with pytest.raises(LocalError, match="nobody"):
        combine(make_values([]), week=WEEK)


def test_without_a_guess_the_plain_formula_is_met() -> None:
    """Two values far apart, no cut: DerSimonian and Laird's and Paule and Mandel's estimates agree for equal errors."""
    rules = replace(RAW, between_max=10.0)
    found = combine(make_values([0.0, 2.0], 0.5), rules, week=WEEK)
    assert found.between**2 == pytest.approx(2.0 - 0.25, rel=1e-6)  # sample variance less sampling variance
    assert found.error == pytest.approx(1.0, rel=1e-6)
