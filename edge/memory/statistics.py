"""The formulas behind PricePoint, MarketTrend and the observed mask; pure functions of small arrays.

Definitions and ranges stand in `edge.records.market`. Sources: Sen, "Estimates of the regression coefficient based on
Kendall's tau", JASA 63 (1968), for the slope; harmonic regression for the season (Harvey, "Forecasting, Structural
Time Series Models and the Kalman Filter", 1989, section 2.3.4).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.records.history import Bool, Float

BASELINE_WEEKS: Final = 8  # weeks before a period that it is compared with
CONFIDENCE_LINES: Final = 20.0  # effective lines at which confidence is one half
TREND_WEEKS: Final = 26  # half a year: short enough to follow, long enough to average
SEASON_WEEKS_MIN: Final = 78  # a year and a half; below it a season cannot be told from a trend
SEASON_HARMONICS: Final = 2
WEEKS_PER_YEAR: Final = 365.2425 / 7
STOCKOUT_WINDOW: Final = 8  # weeks on either side
STOCKOUT_UNITS: Final = 10.0  # a week; a count of that mean is not 0 by chance (Poisson: 5e-5, clustered k = 2: 3 %)
STOCKOUT_SHARE: Final = 0.75  # of the weeks beside
_WEEKS_MIN: Final = 4  # observed weeks behind any trend


def success_metric(margin: float, baseline: float) -> float:
    """Symmetric relative difference of two margins of any one unit, -1..1; 0 where both are 0."""
    scale = abs(margin) + abs(baseline)
    return (margin - baseline) / scale if scale > 0 else 0.0


def confidence(lines: float, baseline_lines: float) -> float:
    """0..1 from the lines behind both sides of a comparison: their harmonic sum n gives n / (n + 20)."""
    if lines <= 0 or baseline_lines <= 0:
        return 0.0
    effective = lines * baseline_lines / (lines + baseline_lines)
    return effective / (effective + CONFIDENCE_LINES)


def presumed_stockout(units: Float, offered: Bool) -> Bool:
    """Zero weeks of items that sell so steadily that a zero means an empty shelf; (w, n) like both arguments.

    True where an offered item sold nothing, although in at least STOCKOUT_SHARE of its offered weeks among the
    STOCKOUT_WINDOW on either side (and in four weeks at least) it sold STOCKOUT_UNITS or more. Both sides count, so
    the newest week is judged by what came before it alone.
    """
    steady = _beside(offered & (units >= STOCKOUT_UNITS))
    return offered & (units <= 0) & (steady >= _WEEKS_MIN) & (steady >= STOCKOUT_SHARE * _beside(offered))


def _beside(marks: Bool) -> NDArray[np.int64]:
    """(w, n) how many of the STOCKOUT_WINDOW weeks on either side are marked, the week itself left out."""
    weeks = len(marks)
    total = np.zeros((weeks + 1, marks.shape[1]), np.int64)
    np.cumsum(marks, axis=0, out=total[1:])
    first = np.maximum(np.arange(weeks) - STOCKOUT_WINDOW, 0)
    end = np.minimum(np.arange(weeks) + STOCKOUT_WINDOW + 1, weeks)
    return total[end] - total[first] - marks


def seasonal(weeks: Float, y: Float) -> Float:
    """(w,) the seasonal part of log units `y` at `weeks` (week numbers): zero with fewer than SEASON_WEEKS_MIN."""
    if len(weeks) < SEASON_WEEKS_MIN:
        return np.zeros(len(weeks))
    phase = 2 * np.pi * weeks / WEEKS_PER_YEAR
    waves = [wave(k * phase) for k in range(1, SEASON_HARMONICS + 1) for wave in (np.cos, np.sin)]
    line = [np.ones(len(weeks)), (weeks - weeks.mean()) / WEEKS_PER_YEAR]
    design = np.stack(line + waves, axis=1)
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    season: Float = design[:, len(line) :] @ coefficients[len(line) :]
    return season


def theil_sen(weeks: Float, y: Float) -> float:
    """Median slope of all pairs, units of y per week; needs two or more distinct weeks."""
    i, j = np.triu_indices(len(weeks), k=1)
    return float(np.median((y[j] - y[i]) / (weeks[j] - weeks[i])))


def market_trend(weeks: Float, units: Float) -> tuple[float, float, float] | None:
    """(trend, volatility, seasonality) at the last of `weeks` (ascending), or None with fewer than 4 of them.

    `weeks`, `units`: (w,) of the observed weeks alone.
    """
    if len(weeks) < _WEEKS_MIN:
        return None
    y = np.log(np.maximum(units, 0.0) + 0.5)
    season = seasonal(weeks, y)
    level = (y - season)[-TREND_WEEKS:]
    recent = weeks[-TREND_WEEKS:]
    slope = theil_sen(recent, level)
    neighbours = np.diff(recent) == 1
    changes = np.diff(level)[neighbours] - slope
    volatility = float(np.std(changes, ddof=1)) if len(changes) > 1 else 0.0
    index = float(np.exp(season[-1]))
    return float(np.clip(slope, -1, 1)), min(volatility, 10.0), float(np.clip(index, 0.25, 4.0))
