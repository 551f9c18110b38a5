"""Money in integers: minor units of an ISO 4217 currency for prices, 1/10,000 of a unit for costs."""

import re
from typing import Final

from edge.errors import RecordInvalid

COST_PER_UNIT: Final = 10_000  # costs are counted in 1/10,000 of a currency unit, whatever the currency's decimals
# ISO 4217 list one, column "minor unit": the circulating currencies whose exponent is not 2.
_NO_DECIMALS: Final = ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF")
_THREE_DECIMALS: Final = ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")
_EXPONENT: Final = dict.fromkeys((*_NO_DECIMALS, "XOF", "XPF"), 0) | dict.fromkeys(_THREE_DECIMALS, 3)


def minor_per_unit(currency: str) -> int:
    """Minor units in one unit of `currency` (100 for EUR and USD, 1 for JPY). Raises `RecordInvalid` if misspelt."""
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise RecordInvalid(f"currency {currency!r} is not an ISO 4217 code")
    return int(10 ** _EXPONENT.get(currency, 2))


def cost_minor(cost_e4: int, currency: str) -> float:
    """A cost in (fractional) minor units of `currency`."""
    return cost_e4 * minor_per_unit(currency) / COST_PER_UNIT
