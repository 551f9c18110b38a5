"""The quantiser: an owner's bound holds exactly, and little is lost."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LocalError
from edge.privacy.secure_sum import Quantiser

FLOATS = st.floats(-1e300, 1e300) | st.sampled_from([math.inf, -math.inf, 0.0, -0.0, 5e-324])


@given(
    st.lists(st.lists(FLOATS, min_size=3, max_size=3), min_size=1, max_size=8),
    st.floats(1e-6, 1e6),
    st.floats(1e-6, 1e6),
    st.integers(1, 2**20),
)
def test_an_owner_never_exceeds_its_bound(shops: list[list[float]], clip: float, norm: float, steps: int) -> None:
    quantiser = Quantiser(3, clip, norm, steps)
    contributions = [quantiser.to_steps(values, len(shops)) for values in shops]
    together = [sum(column) for column in zip(*contributions, strict=True)]
    assert sum(value * value for value in together) <= steps**2
    for each in contributions:
        assert quantiser.fits(each, len(shops))


@given(st.lists(st.floats(-0.5, 0.5), min_size=5, max_size=40))
def test_means_come_back(values: list[float]) -> None:
    quantiser = Quantiser(1, 0.5, 0.5)
    total = sum(quantiser.to_steps([value], 1)[0] for value in values)
    found = quantiser.mean([total], Fraction(len(values)))[0]
    assert abs(found - sum(values) / len(values)) < 0.5 / 2**15 + 1e-12


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_clipping(one: float, other: float) -> None:
    quantiser = Quantiser(2, 1.0, 1.2, 10_000)
    steps = quantiser.to_steps([one, other], 1)
    clipped = [min(max(value, -1.0), 1.0) for value in (one, other)]
    scale = min(1.0, 1.2 / math.hypot(*clipped)) if any(clipped) else 1.0
    for step, value in zip(steps, clipped, strict=True):
        assert abs(step * 1.2 / 10_000 - value * scale) < 2 * 1.2 / 10_000


def test_noise_beyond_the_clip_is_cut() -> None:
    assert Quantiser(2, 0.5, 0.5, 10).mean([1000, -1000], Fraction(5)) == [0.5, -0.5]


def test_sensitivity_is_of_one_contribution_replaced_by_another() -> None:
    quantiser = Quantiser(1, 0.5, 0.5, 100)
    assert quantiser.sensitivity == quantiser.to_steps([9.0], 1)[0] - quantiser.to_steps([-9.0], 1)[0]


def test_nonsense_is_our_bug() -> None:
    for bad in ((0, 1.0, 1.0, 1), (1, 0.0, 1.0, 1), (1, math.inf, 1.0, 1), (1, 1.0, math.nan, 1), (1, 1.0, 1.0, 0)):
        with pytest.raises(LocalError):
            Quantiser(*bad)
    for values, shops in (([math.nan], 1), ([0.0, 0.0], 1), ([0.0], 0)):
        with pytest.raises(LocalError):
            Quantiser(1, 0.5, 0.5).to_steps(values, shops)
