import math
from typing import Any

import pytest

from edge.errors import RecordInvalid
from edge.records.market import MarketTrend, PricePoint, PriceRange

GOOD_POINT: dict[str, Any] = {
    "timestamp": 0,
    "price_range": PriceRange(100, 200),
    "success_metric": 0.5,
    "confidence": 0.9,
}
GOOD_TREND: dict[str, Any] = {"period": 2900, "trend": 0.01, "volatility": 0.1, "seasonality": 1.2}


def test_what_is_in_range_is_kept() -> None:
    assert PricePoint(**GOOD_POINT).price_range.max == 200
    assert MarketTrend(**GOOD_TREND).seasonality == 1.2
    assert PriceRange(5, 5).min == 5


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-1, 5), (1, 100_000_001)])
def test_an_empty_or_absurd_range_is_refused(low: int, high: int) -> None:
    with pytest.raises(RecordInvalid):
        PriceRange(low, high)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.01, 1.01])
@pytest.mark.parametrize("field", ["success_metric", "confidence"])
def test_a_point_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(RecordInvalid, match=field):
        PricePoint(**GOOD_POINT | {field: value})


@pytest.mark.parametrize(
    ("field", "value"), [("trend", 1.1), ("volatility", -0.1), ("seasonality", 0.2), ("seasonality", math.nan)]
)
def test_a_trend_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(RecordInvalid, match=field):
        MarketTrend(**GOOD_TREND | {field: value})
