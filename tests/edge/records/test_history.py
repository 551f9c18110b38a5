from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import LocalError
from edge.records.history import CategoryHistory, week_of, week_start


@given(st.dates(date(1, 1, 8), date(9999, 12, 20)))
def test_weeks_are_monday_to_sunday(day: date) -> None:
    monday = week_start(week_of(day))
    assert monday.weekday() == 0
    assert monday <= day <= monday + timedelta(days=6)


def test_week_zero() -> None:
    assert week_start(0) == date(1970, 1, 5)
    assert (week_of(date(1970, 1, 4)), week_of(date(1970, 1, 5)), week_of(date(1970, 1, 12))) == (-1, 0, 1)


def history(weeks: list[int]) -> CategoryHistory:
    cells = np.zeros((len(weeks), 2))
    return CategoryHistory(
        category="c",
        skus=("a", "b"),
        weeks=np.array(weeks),
        units=cells,
        price=cells,
        reference=cells,
        cost=cells,
        deal=cells,
        feature=cells,
        observed=cells > 0,
    )


def test_shapes_must_agree_and_weeks_must_follow_each_other() -> None:
    good = history([7, 8, 9])
    with pytest.raises(LocalError, match="consecutive"):
        history([7, 9, 10])
    with pytest.raises(LocalError, match=r"history\.cost"):
        replace(good, cost=np.zeros((3, 1)))
