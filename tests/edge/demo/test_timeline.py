"""What happens when: always within the weeks, whatever somebody asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.demo.timeline import timeline


@given(st.integers(1, 260), st.integers(1, 8), st.one_of(st.none(), st.integers(0, 259)))
def test_everything_lies_within_the_weeks(weeks: int, shops: int, shadow: int | None) -> None:
    time = timeline(weeks, shops, shadow)
    assert all(0 <= first < max(weeks, 1) for first in time.opens)
    assert all(first <= live for first, live in zip(time.opens, time.live, strict=True))
    assert 0 <= time.cut_from < time.cut_until <= weeks
    assert (time.cut is None) == (shops == 1)
    if time.cut is not None:
        assert time.opens[time.cut] == 0
        assert time.cut != time.newest


def test_the_last_shop_opens_late_and_the_one_before_it_is_cut_off_late() -> None:
    time = timeline(52, 3, None)
    assert time.opens == (0, 0, 34)
    assert time.live == (13, 13, 38)
    assert (time.cut, time.cut_from, time.cut_until, time.newest) == (1, 39, 43, 2)


@pytest.mark.parametrize("weeks", [1, 52])
def test_one_shop_has_nobody_to_wait_for(weeks: int) -> None:
    assert timeline(weeks, 1, None).newest is None
    assert timeline(weeks, 1, 3).live == (3,)
