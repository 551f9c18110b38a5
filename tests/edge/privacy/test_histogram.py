import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LocalError
from edge.privacy import histogram
from edge.privacy.histogram import (
    SHARES,
    Figures,
    Ladder,
    Noised,
    Scales,
    Sums,
    add_noise,
    central,
    figures,
    nearest_histogram,
    scales,
)

LADDER = Ladder(50, 16)
COUNTS = st.lists(st.integers(-200, 1000), min_size=1, max_size=20)


def test_the_ladder_is_spaced_evenly_in_the_logarithm_between_its_ends() -> None:
    assert (LADDER.edges_e4[0], LADDER.edges_e4[-1], len(LADDER.edges_e4)) == (5000, 15_000, 17)
    steps = [math.log(b / a) for a, b in zip(LADDER.edges_e4, LADDER.edges_e4[1:], strict=False)]
    assert steps == pytest.approx([math.log(3) / 16] * 16, rel=5e-3)
    assert LADDER.clip_milli == round(1000 * math.log(2))
    with pytest.raises(LocalError):
        Ladder(1, 2000)


@given(st.integers(1, 10**8), st.integers(1, 10**8))
def test_every_price_has_a_rung_and_a_clipped_log(price: int, list_minor: int) -> None:
    rung, log = LADDER.rung(price, list_minor), LADDER.log_milli(price, list_minor)
    assert 0 <= rung < 16
    assert type(log) is int
    assert abs(log) <= LADDER.clip_milli
    ratio = price / list_minor
    if 0.501 < ratio < 1.499:
        assert LADDER.edges_e4[rung] <= ratio * 10_000 < LADDER.edges_e4[rung + 1] + 1
        assert log == pytest.approx(1000 * math.log(ratio), abs=0.51)
    if not 0.5 <= ratio < 1.5:
        assert rung == (0 if ratio < 1 else 15)


@given(st.fractions(Fraction(1, 100), Fraction(10)), st.integers(1, 20), st.integers(1, 1000))
def test_the_scales_spend_exactly_epsilon_on_the_stated_sensitivity(epsilon: Fraction, cells: int, clip: int) -> None:
    scale = scales(epsilon, cells, clip)
    spent = cells / scale.counts + cells * clip / scale.log_sum + cells * clip**2 / scale.square_sum
    assert spent == epsilon
    assert sum(SHARES) == 1


@pytest.mark.parametrize(("epsilon", "cells"), [(Fraction(0), 1), (Fraction(-1), 1), (Fraction(1), 0)])
def test_scales_of_nothing_are_refused(epsilon: Fraction, cells: int) -> None:
    with pytest.raises(LocalError):
        scales(epsilon, cells, 693)


def test_every_sum_gets_noise_of_its_own() -> None:
    random_bits = random.Random(5).getrandbits
    scale = Scales(Fraction(50), Fraction(5000), Fraction(500_000))
    drawn = [add_noise(Sums([10] * 4, 100, 1000), scale, random_bits) for _ in range(400)]
    columns = [*zip(*(noised.counts for noised in drawn), strict=True)]
    assert len({tuple(column) for column in columns}) == 4
    for column, centre, deviation in (
        *((column, 10, 70.7) for column in columns),
        ([noised.log_sum for noised in drawn], 100, 7071),
        ([noised.square_sum for noised in drawn], 1000, 707_107),
    ):
        mean = sum(column) / 400
        assert abs(mean - centre) < 4 * deviation / 20
        assert math.sqrt(sum((x - mean) ** 2 for x in column) / 400) == pytest.approx(deviation, rel=0.2)


@given(COUNTS)
def test_the_nearest_histogram_is_not_negative_keeps_the_total_and_is_nearest(counts: list[int]) -> None:
    found = nearest_histogram(counts)
    assert all(mass >= 0 for mass in found)
    if sum(counts) <= 0:
        assert not any(found)
        return
    assert math.fsum(found) == pytest.approx(sum(counts), rel=1e-9)
    # The conditions of the optimum: one shift for every rung with mass, at least that for those without.
    shifts = [count - mass for count, mass in zip(counts, found, strict=True) if mass > 1e-6]
    assert max(shifts) - min(shifts) < 1e-6
    assert all(count <= max(shifts) + 1e-6 for count, mass in zip(counts, found, strict=True) if mass <= 1e-6)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(any), st.integers(50, 95))
def test_the_central_rungs_hold_their_share_and_no_smaller_tails_could_be_cut(counts: list[int], percent: int) -> None:
    low, high = central(counts, percent)
    tail = sum(counts) * (100 - percent) / 200
    assert 0 <= low <= high < len(counts)
    assert sum(counts[:low]) <= tail + 1e-6
    assert sum(counts[high + 1 :]) <= tail + 1e-6
    if low < high:
        assert sum(counts[: low + 1]) > tail - 1e-6
        assert sum(counts[high:]) > tail - 1e-6


def test_noise_on_empty_rungs_does_not_widen_the_range_to_the_whole_ladder() -> None:
    rng = random.Random(11)
    scale = scales(Fraction(1), 4, LADDER.clip_milli)
    hits = 0
    for _ in range(200):
        sums = Sums([0] * 16)
        for _ in range(1000):
            price = rng.choice([199, 199, 179])  # two prices: rungs 9 and 8
            sums.add(LADDER.rung(price, 200), LADDER.log_milli(price, 200), 1)
        noised = add_noise(sums, scale, rng.getrandbits)
        found = figures(noised, LADDER, scale, 200, 80)
        assert found is not None
        hits += (found.low_e4, found.high_e4) == (LADDER.edges_e4[8], LADDER.edges_e4[11])
        assert abs(found.log_mean_milli - -42) < 12 * found.deviation_milli
    assert LADDER.rung(179, 200) == 8
    assert LADDER.rung(199, 200) == 10
    assert hits > 150


def test_figures_without_noise_are_those_of_the_prices() -> None:
    sums = Sums([0] * 16)
    prices = [150, 160, 200, 220, 240] * 100
    for price in prices:
        sums.add(LADDER.rung(price, 200), LADDER.log_milli(price, 200), 1)
    logs = [math.log(price / 200) for price in prices]
    mean = sum(logs) / 500
    spread = math.sqrt(sum((x - mean) ** 2 for x in logs) / 500)
    scale = Scales(Fraction(1), Fraction(1, 1000), Fraction(1))
    found = figures(Noised(tuple(sums.counts), sums.log_sum, sums.square_sum), LADDER, scale, 500, 80)
    assert found is not None
    assert found.log_mean_milli == pytest.approx(1000 * mean, abs=1)
    assert found.log_spread_milli == pytest.approx(1000 * spread, abs=2)
    assert found.low_e4 <= 7500 < found.high_e4
    assert found.low_e4 < 12_000 < found.high_e4


@given(
    st.lists(st.integers(-500, 500), min_size=16, max_size=16),
    st.integers(-(10**9), 10**9),
    st.integers(-(10**9), 10**9),
)
def test_whatever_the_noise_figures_are_in_range_or_suppressed(counts: list[int], logs: int, squares: int) -> None:
    scale = scales(Fraction(1), 4, LADDER.clip_milli)
    found = figures(Noised(tuple(counts), logs, squares), LADDER, scale, 100, 80)
    assert (found is None) == (sum(counts) < 100)
    assert histogram.total(Noised(tuple(counts), 0, 0)) == max(sum(counts), 0)
    if found is not None:
        assert isinstance(found, Figures)
        assert 5000 <= found.low_e4 < found.high_e4 <= 15_000
        assert abs(found.log_mean_milli) <= LADDER.clip_milli
        assert 0 <= found.log_spread_milli <= LADDER.clip_milli
