"""A release picks how much it says by K times epsilon."""

import math

import pytest

from edge.errors import LocalError
from edge.privacy.secure_sum.dimension import Dimension, choose


@pytest.mark.parametrize(
    ("owners", "epsilon", "expected"),
    [  # dynamic headroom, section 4: loss over 26 weeks, vector / mean
        (5, 0.5, Dimension.CATEGORY_MEAN),
        (5, 2.0, Dimension.CATEGORY_MEAN),  # 3.33 / 2.53
        (20, 0.5, Dimension.CATEGORY_MEAN),  # 3.33 / 2.44
        (20, 1.0, Dimension.CATEGORY_MEAN),  # 3.33 / 2.24
        (60, 0.5, Dimension.CATEGORY_MEAN),  # 2.86 / 2.19
        (60, 1.0, Dimension.ITEM_VECTOR),  # 1.93 / 2.16
        (60, 2.0, Dimension.ITEM_VECTOR),  # 1.50 / 2.16
        (5, math.inf, Dimension.ITEM_VECTOR),
    ],
)
def test_it_chooses_what_lost_less(owners: int, epsilon: float, expected: Dimension) -> None:
    assert choose(owners, epsilon) == expected


def test_more_noise_asks_for_less() -> None:
    assert choose(60, 1.0, noise_ratio=math.sqrt(3)) == Dimension.CATEGORY_MEAN
    assert choose(61, 1.0, noise_ratio=math.sqrt(3)) == Dimension.ITEM_VECTOR


def test_nonsense_is_our_bug() -> None:
    for owners, epsilon, ratio in ((0, 1.0, 1.0), (5, 0.0, 1.0), (5, math.nan, 1.0), (5, 1.0, 0.0)):
        with pytest.raises(LocalError):
            choose(owners, epsilon, noise_ratio=ratio)
