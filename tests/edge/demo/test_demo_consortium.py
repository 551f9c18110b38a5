"""The window that is shown is a real one: sums, noise and cost are those of the parts it is made of."""

import pytest

from edge.demo.consortium import CLIP, show
from edge.privacy.mechanism import epsilon_of_rho
from edge.privacy.rules import PrivacyRules
from edge.privacy.secure_sum import RoundRefused


def test_every_shop_computes_one_result_at_the_price_that_the_rules_allow() -> None:
    rules = PrivacyRules()
    shown = show(1)
    assert shown.good
    assert (shown.owners, shown.groups) == (15, 3)
    assert shown.shops > shown.owners
    assert 0 < shown.rho <= rules.rho
    assert shown.epsilon <= epsilon_of_rho(rules.rho, rules.delta)
    assert abs(shown.mean) <= CLIP
    assert abs(shown.gave) < shown.reach


def test_what_a_shop_sends_is_new_each_time_although_it_gives_the_same() -> None:
    windows = [show(7) for _ in range(8)]
    assert len({shown.gave for shown in windows}) == 1
    assert len({shown.truth for shown in windows}) == 1
    assert len({shown.sent for shown in windows}) == len(windows)
    assert max(abs(shown.alone) for shown in windows) > 4 * CLIP  # a number that no shop can give
    assert len({shown.mean for shown in windows}) > 1  # and the noise is new


def test_five_owners_are_one_group_and_fewer_are_none() -> None:
    assert show(1, owners=5).groups == 1
    with pytest.raises(RoundRefused, match="4 owners"):
        show(1, owners=4)
