"""The numbers of the privacy layers, and which way each of them is stricter.

A network's policy holds one `PrivacyRules`; a member may hold a stricter one of its own, never a looser one
(`check_tightened`). Privacy parameters are integers in thousandths, so that every account is exact: an epsilon of 0.5
is 500. What a refusal to release says is `PrivacyRefused`.
"""

import dataclasses
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Final

from edge.errors import ConfigError, PomonaError

MILLI: Final = 1000
YEAR_WEEKS: Final = 53  # a year for the yearly cap: any 53 weeks in a row, by their numbers
LAWFUL_OWNERS: Final = 5  # behind anything that rivals see, whatever the rules say ...
LAWFUL_LAG_WEEKS: Final = 13  # ... and so many weeks old: ninety days
WINDOWS: Final = (1, 4, 13)  # weeks; a window starts where its number of weeks divides the week number


class PrivacyRefused(PomonaError):
    """This may not leave the shop. `reason` is a short stable word: metric label, and what tests look at."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PrivacyRules:
    """What a release of this network may cost and must hide. Epsilon is of the receipt, rho of the owner-week."""

    epsilon_milli: int = 1000  # of one release, all its categories together; thousandths
    epsilon_week_milli: int = 2000  # cap on one week's receipts, over all networks and kinds
    epsilon_year_milli: int = 60_000  # cap on any 53 weeks in a row, weeks added up: one receipt a week, all year
    rho_milli: int = 125  # of one sum between owners; 0.125 is what pure epsilon 0.5 would imply
    rho_week_milli: int = 500
    rho_year_milli: int = 13_250
    delta_exponent: int = 9  # delta is 10^-9 wherever rho is told as epsilon
    window_weeks: int = 4
    lag_weeks: int = 13  # between the end of a window and its release
    receipts_min: int = 200  # noised count of receipts below which a category (or item) is not released
    shops_min: int = 3
    owners_min: int = 5  # of a sum between owners
    receipt_cells_max: int = 4  # categories (or items) that one receipt can count in; the noise grows with it
    ladder_percent: int = 50  # prices are clipped to this much below and above the list price
    ladder_rungs: int = 16
    central_percent: int = 80  # of the noised mass that a range holds
    item_level: bool = False  # True: ranges of items; False: of categories alone

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} must be a whole number in {low}..{high}, not {value!r}")
        if type(self.item_level) is not bool:
            raise ValueError(f"item_level must be true or false, not {self.item_level!r}")
        if self.window_weeks not in WINDOWS:
            raise ValueError(f"window_weeks must be one of {WINDOWS}, not {self.window_weeks}")

    @property
    def epsilon(self) -> Fraction:
        """Epsilon of one release, for the receipt."""
        return Fraction(self.epsilon_milli, MILLI)

    @property
    def rho(self) -> Fraction:
        """Rho of one sum between owners, for the owner-week."""
        return Fraction(self.rho_milli, MILLI)

    @property
    def delta(self) -> Fraction:
        """The delta that goes with rho when it is told as an epsilon."""
        return Fraction(1, 10**self.delta_exponent)


_RANGES: Final = {
    "epsilon_milli": (1, 10_000),
    "epsilon_week_milli": (1, 100_000),
    "epsilon_year_milli": (1, 5_300_000),
    "rho_milli": (1, 10_000),
    "rho_week_milli": (1, 100_000),
    "rho_year_milli": (1, 5_300_000),
    "delta_exponent": (6, 18),
    "window_weeks": (1, 13),
    "lag_weeks": (0, 104),
    "receipts_min": (1, 1_000_000),
    "shops_min": (1, 10_000),
    "owners_min": (1, 10_000),
    "receipt_cells_max": (1, 64),
    "ladder_percent": (10, 90),
    "ladder_rungs": (2, 64),
    "central_percent": (50, 95),
}


class Direction(Enum):
    """Which values of a rule are at least as strict as another."""

    LOWER = "may only be lowered"
    HIGHER = "may only be raised"
    SAME = "must be the same for all members"
    OFF = "may only be switched off"


DIRECTIONS: Final[dict[str, Direction]] = {
    "epsilon_milli": Direction.LOWER,
    "epsilon_week_milli": Direction.LOWER,
    "epsilon_year_milli": Direction.LOWER,
    "rho_milli": Direction.LOWER,
    "rho_week_milli": Direction.LOWER,
    "rho_year_milli": Direction.LOWER,
    "delta_exponent": Direction.HIGHER,
    # Members' windows must be the same weeks; a longer one of a member could not be combined with the others'.
    "window_weeks": Direction.SAME,
    "lag_weeks": Direction.HIGHER,
    "receipts_min": Direction.HIGHER,
    "shops_min": Direction.HIGHER,
    "owners_min": Direction.HIGHER,
    # These scale the noise and the meaning of a figure alike: neither way is stricter, and others rely on them.
    "receipt_cells_max": Direction.SAME,
    "ladder_percent": Direction.SAME,
    "ladder_rungs": Direction.SAME,
    "central_percent": Direction.SAME,
    "item_level": Direction.OFF,
}


def check_tightened(stricter: PrivacyRules, base: PrivacyRules, path: str = "privacy") -> None:
    """Raise `ConfigError`, naming the field and the reason, unless `stricter` is nowhere looser than `base`."""
    for field in dataclasses.fields(base):
        wanted, given = getattr(base, field.name), getattr(stricter, field.name)
        direction = DIRECTIONS[field.name]
        if direction is Direction.LOWER:
            good = given <= wanted
        elif direction is Direction.HIGHER:
            good = given >= wanted
        elif direction is Direction.OFF:
            good = wanted or not given
        else:
            good = given == wanted
        if not good:
            raise ConfigError(
                f"{path}.{field.name}", f"{direction.value}: the network has {wanted}, this would be {given}"
            )
