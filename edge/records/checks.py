"""Range checks that records make of themselves when they are constructed: `RecordInvalid` names the number."""

import math

from edge.errors import RecordInvalid


def whole(what: str, value: int, low: int, high: int) -> None:
    """Raise unless `low` <= `value` <= `high`."""
    if not low <= value <= high:
        raise RecordInvalid(f"{what} {value} is outside {low}..{high}")


def real(what: str, value: float, low: float, high: float) -> None:
    """The same for a float, which must be finite."""
    if not math.isfinite(value) or not low <= value <= high:
        raise RecordInvalid(f"{what} {value} is outside {low}..{high}")
