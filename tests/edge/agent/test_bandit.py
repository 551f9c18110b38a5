"""Thompson sampling: greedy when sure, spread when not, always on the ladder."""

from dataclasses import replace

import numpy as np
from support_category import COST, juice

from edge.agent.bandit import rungs, thompson
from edge.agent.demand import own_elasticity, steady_outlook

MODEL = juice()
WEEK = steady_outlook(MODEL, COST)
LOW, HIGH = np.full(11, -0.1), np.full(11, 0.1)


def test_a_firm_belief_takes_the_best_rung() -> None:
    sure = replace(MODEL, elasticity_sd=np.zeros(11))
    found = thompson(sure, WEEK, LOW, HIGH, np.random.default_rng(1))
    ladder = rungs(LOW, HIGH)
    value = MODEL.price * np.exp(ladder) - COST + MODEL.basket * MODEL.price
    best = np.argmax(value * np.exp(own_elasticity(MODEL) * ladder), axis=0)
    np.testing.assert_array_equal(found, ladder[best, np.arange(11)])


def test_a_loose_belief_tries_more_than_one_rung_and_repeats_by_seed() -> None:
    loose = replace(MODEL, elasticity_sd=np.full(11, 2.0))
    rng = np.random.default_rng(2)
    tried = np.array([thompson(loose, WEEK, LOW, HIGH, rng) for _ in range(40)])
    assert np.all([len(np.unique(tried[:, item])) > 1 for item in range(11)])
    again = np.random.default_rng(2)
    np.testing.assert_array_equal(tried[0], thompson(loose, WEEK, LOW, HIGH, again))


def test_it_finds_the_better_end_of_the_ladder_when_it_may_learn() -> None:
    """A lone item with a known optimum: beliefs updated by conjugate regression settle at it."""
    rng = np.random.default_rng(3)
    truth, mean, precision = -4.0, -2.0, 1.0
    model = replace(MODEL, basket=np.array(0.0))
    chosen = []
    for _ in range(400):
        believed = replace(
            model, kappa=np.full(11, -mean), share=np.full(11, 1e-9), elasticity_sd=np.full(11, precision**-0.5)
        )
        week = steady_outlook(believed, np.full(11, 0.7) * believed.price)
        m = thompson(believed, week, LOW, HIGH, rng)[0]
        chosen.append(m)
        seen = truth * m + 0.3 * rng.normal()
        mean = (precision * mean + seen * m / 0.09) / (precision + m * m / 0.09)
        precision += m * m / 0.09
    assert abs(mean - truth) < 1.0
    assert np.mean(chosen[-100:]) < np.mean(chosen[:20]) or np.mean(chosen[-100:]) < -0.02


def test_nothing_known_still_answers_on_the_ladder() -> None:
    lost = replace(MODEL, elasticity_sd=np.full(11, np.nan))
    with np.errstate(all="ignore"):
        found = thompson(lost, WEEK, LOW, HIGH, np.random.default_rng(4))
    assert np.all((found >= LOW) & (found <= HIGH))
