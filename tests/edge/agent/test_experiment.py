"""Switchback and ladder steps: assignments nobody can choose, propensities that are true, intervals that cover."""

import numpy as np
import pytest

from edge.agent.experiment import ExperimentRules, assign, ladder_steps, live_effect, student_t_975
from edge.errors import ConfigError
from edge.records.decision import Arm

SEED = "00112233445566778899aabbccddeeff"
RULES = ExperimentRules(switchback=True, seed=SEED)


def test_assignment_is_fixed_by_seed_category_and_block() -> None:
    for week in range(100, 160):
        place = assign(RULES, "juice", week)
        assert place == assign(RULES, "juice", week)
        assert place.arm is assign(RULES, "juice", week // 2 * 2).arm
        assert place.wash_out == (week % 2 == 0)
    other = ExperimentRules(switchback=True, seed=SEED[::-1])
    here = [assign(RULES, "juice", week).arm for week in range(0, 200, 2)]
    assert here != [assign(other, "juice", week).arm for week in range(0, 200, 2)]
    assert here != [assign(RULES, "beer", week).arm for week in range(0, 200, 2)]


def test_the_propensity_is_the_frequency() -> None:
    for share in (0.5, 0.3):
        rules = ExperimentRules(switchback=True, seed=SEED, treatment_share=share)
        places = [assign(rules, f"category {c}", 2 * b) for c in range(40) for b in range(100)]
        treated = np.mean([place.arm is Arm.TREATMENT for place in places])
        assert abs(treated - share) < 0.03
        assert {place.propensity for place in places} == {share, 1.0 - share}


def test_without_a_switchback_there_is_no_arm() -> None:
    assert assign(ExperimentRules(), "juice", 7).arm is Arm.NONE


def test_ladder_steps_are_rare_small_and_logged_with_their_probability() -> None:
    rules = ExperimentRules(step_probability=0.2, step_log=0.02)
    steps, propensity = ladder_steps(rules, 20_000, np.random.default_rng(1))
    for value, probability in ((-0.02, 0.1), (0.02, 0.1), (0.0, 0.8)):
        at = steps == value
        assert abs(np.mean(at) - probability) < 0.01
        np.testing.assert_allclose(propensity[at], probability)


def test_the_interval_covers_the_effect_though_weeks_hang_together() -> None:
    """2,000 switchbacks of 26 blocks with a true effect of 3: the interval holds it 95 times in a hundred."""
    rng = np.random.default_rng(2)
    covered, single = [], []
    weeks, block = 52, np.arange(52) // 2
    for _ in range(2000):
        treated = np.repeat(rng.random(26) < 0.5, 2)
        noise = np.repeat(rng.normal(0, 4, 26), 2) + rng.normal(0, 2, weeks)
        effect = live_effect(10 + 3 * treated + noise, treated, np.ones(weeks, dtype=np.bool_), block)
        if np.isfinite(effect.mean):
            covered.append(effect.low <= 3 <= effect.high)
            single.append(effect.mean)
    assert 0.93 <= np.mean(covered) <= 0.975
    assert abs(np.mean(single) - 3) < 0.15


def test_washed_out_weeks_do_not_count_and_a_baseline_sharpens() -> None:
    rng = np.random.default_rng(3)
    weeks, block = 80, np.arange(80) // 2
    treated = np.repeat(rng.random(40) < 0.5, 2)
    wash = np.arange(weeks) % 2 == 0
    season = 30 * np.sin(np.arange(weeks) / 8)
    outcome = 100 + season + 3 * treated + rng.normal(0, 1, weeks)
    outcome[wash] = 1e6
    plain = live_effect(outcome, treated, ~wash, block)
    sharp = live_effect(outcome, treated, ~wash, block, baseline=season)
    assert sharp.low <= 3 <= sharp.high
    assert sharp.high - sharp.low < 0.2 * (plain.high - plain.low)
    assert plain.blocks_treated + plain.blocks_control == 40


def test_too_few_blocks_say_nothing() -> None:
    effect = live_effect(np.ones(4), np.array([True, True, False, False]), np.ones(4, np.bool_), np.array([0, 0, 1, 1]))
    assert np.isnan(effect.mean)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (30, 2.0423), (1e6, 1.96)],
)
def test_student_quantiles_from_the_tables(freedom: float, quantile: float) -> None:
    assert student_t_975(freedom) == pytest.approx(quantile, rel=3e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"switchback": True, "seed": ""},
        {"switchback": True, "seed": "xyz"},
        {"wash_out_weeks": 2},
        {"treatment_share": 1.0},
        {"step_log": 0.2},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="experiment"):
        ExperimentRules(**wrong)  # type: ignore[arg-type]
