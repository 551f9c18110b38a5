"""Releases between owners: noise as large as the definition asks, contributions no larger than noise is made for."""

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.agent.estimate import DemandPrior
from trainer.worth import release
from trainer.worth.release import CLIP_ITEM, CLIP_MEAN, CLIP_NORM, DELTA, Release, Shape

PRIOR = DemandPrior()
ITEMS = 11
SKUS = tuple(f"item-{number}" for number in range(ITEMS))


def leaked(sd: float, sensitivity: float, epsilon: float) -> float:
    """Least delta, by integrating (p − e^ε q)+ of two normals a sensitivity apart: no closed form shared with ours."""
    x = np.linspace(-14.0 * sd, 14.0 * sd + sensitivity, 400_001)
    p, q = (np.exp(-0.5 * np.square((x - at) / sd)) / (sd * math.sqrt(2.0 * math.pi)) for at in (sensitivity, 0.0))
    return float(np.sum(np.maximum(p - math.exp(epsilon) * q, 0.0)) * (x[1] - x[0]))


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0, 2.0, 8.0])
def test_noise_is_enough_and_no_more(epsilon: float) -> None:
    sd = release.gaussian_sd(0.7, epsilon)
    assert leaked(sd, 0.7, epsilon) == pytest.approx(DELTA, rel=1e-3)
    assert leaked(0.98 * sd, 0.7, epsilon) > DELTA


def test_the_classical_bound_would_be_larger() -> None:
    assert release.gaussian_sd(1.0, 1.0) < math.sqrt(2.0 * math.log(1.25 / DELTA))


@given(st.floats(0.01, 10.0), st.floats(0.1, 5.0))
@settings(max_examples=50, deadline=None)
def test_noise_grows_in_proportion_to_sensitivity(sensitivity: float, epsilon: float) -> None:
    assert release.gaussian_sd(sensitivity, epsilon) == pytest.approx(
        sensitivity * release.gaussian_sd(1.0, epsilon), rel=1e-6
    )


@pytest.mark.parametrize(("sensitivity", "epsilon"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_nonsense_is_refused(sensitivity: float, epsilon: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        release.gaussian_sd(sensitivity, epsilon)


def bare(elasticity: np.ndarray, shape: Shape) -> np.ndarray:
    return release.release(np.random.default_rng(0), elasticity, math.inf, PRIOR, shape).value


BOUND = {"scalar": 2.0 * CLIP_MEAN, "vector": 2.0 * CLIP_ITEM * math.sqrt(ITEMS), "norm": 2.0 * CLIP_NORM}


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.sampled_from(get_args(Shape)))
@settings(max_examples=200, deadline=None)
def test_no_owner_moves_the_mean_by_more_than_noise_is_made_for(seed: int, owners: int, shape: Shape) -> None:
    rng = np.random.default_rng(seed)
    elasticity = -2.9 + rng.choice([0.1, 1.0, 30.0]) * rng.standard_normal((owners, ITEMS))
    other, gone = elasticity.copy(), elasticity.copy()
    other[0] = -2.9 + 30.0 * rng.standard_normal(ITEMS)
    gone[0] = PRIOR.price.mean  # an owner who contributes nothing
    move = np.linalg.norm(bare(elasticity, shape) - bare(other, shape))
    assert move <= BOUND[shape] / owners + 1e-9
    assert np.linalg.norm(bare(elasticity, shape) - bare(gone, shape)) <= BOUND[shape] / 2.0 / owners + 1e-9


def test_what_an_owner_does_not_know_says_nothing() -> None:
    elasticity = np.full((4, ITEMS), PRIOR.price.mean)
    elasticity[2, 3] = np.nan
    for shape in get_args(Shape):
        assert np.all(bare(elasticity, shape) == 0.0)


def test_left_out_costs_half_the_noise_of_replaced() -> None:
    elasticity = np.full((20, ITEMS), -3.0)
    replaced, left_out = (
        release.release(np.random.default_rng(1), elasticity, 1.0, PRIOR, "norm", replaced=hidden)
        for hidden in (True, False)
    )
    assert replaced.noise_sd == pytest.approx(2.0 * left_out.noise_sd)
    drawn = (replaced.value - bare(elasticity, "norm")) / (left_out.value - bare(elasticity, "norm"))
    assert drawn == pytest.approx(np.full(ITEMS, 2.0))


@pytest.mark.parametrize(("owners", "epsilon", "shape"), [(20, 1.0, "scalar"), (60, 1.0, "vector"), (5, 2.0, "scalar")])
def test_the_dimension_follows_owners_times_epsilon(owners: int, epsilon: float, shape: Shape) -> None:
    assert release.dimension(owners, epsilon) == shape


def test_noise_that_drowns_everything_is_not_used() -> None:
    assert release.use(Release("vector", np.full(ITEMS, 0.5), 5.0, 20), PRIOR, SKUS) is None
    assert release.use(Release("norm", np.full(ITEMS, 0.5), 5.0, 20), PRIOR, SKUS) is None


def test_a_vector_moves_every_item_and_a_scalar_the_category() -> None:
    off = np.linspace(-0.8, 0.8, ITEMS)
    told = release.use(Release("vector", off, 0.1, 60), PRIOR, SKUS)
    assert told is not None
    assert np.all(np.sign(told.mean[:, 0] - PRIOR.price.mean) == np.sign(off))
    assert np.all(np.abs(told.mean[:, 0] - PRIOR.price.mean) <= np.abs(off))  # the shipped prior pulls back
    assert np.isnan(told.mean[:, 1:]).all()
    whole = release.use(Release("scalar", np.array([0.4]), 0.1, 60), PRIOR, SKUS)
    assert whole is not None
    assert whole.category_mean is not None
    assert np.isnan(whole.mean).all()
    assert whole.category_mean[0] == pytest.approx(PRIOR.price.mean + 0.4)


def test_a_shortened_vector_is_lengthened_again_for_the_reader() -> None:
    off = np.linspace(-0.4, 0.4, ITEMS)
    short = release.use(Release("norm", off, 0.0, 60), PRIOR, SKUS)
    plain = release.use(Release("vector", off, 0.0, 60), PRIOR, SKUS)
    assert short is not None
    assert plain is not None
    moved = (short.mean[:, 0] - PRIOR.price.mean)[off != 0.0] / (plain.mean[:, 0] - PRIOR.price.mean)[off != 0.0]
    assert np.all(moved > 1.2)
