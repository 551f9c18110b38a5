"""The guard's rules: their names, their order and their settings. `guard` carries them out; `ARCHITECTURE.md` says why.

Where limits contradict each other the earlier one wins: cost floor > owner's ceiling > owner's floor > band > price
index > step > size ladder > ending; where no limit can be computed at all the last published price is held.
"""

from dataclasses import dataclass
from enum import IntFlag

from edge.errors import ConfigError


class Rule(IntFlag):
    """One bit a rule. A bit says that the rule kept the asked price from being published as it was asked."""

    INPUT = 1 << 0  # reference, cost or an owner's limit is missing or absurd: held, alarm
    FINITE = 1 << 1  # the policy asked for NaN, an infinity or an absurd multiplier: held, alarm
    COST_FLOOR = 1 << 2
    CEILING = 1 << 3  # the owner's
    FLOOR = 1 << 4  # the owner's
    BAND = 1 << 5
    STEP = 1 << 6
    INDEX = 1 << 7  # the category's price index would have passed its cap
    LADDER = 1 << 8  # a larger size would have cost less, or more per unit of size
    ENDING = 1 << 9
    OPENING = 1 << 10  # a rise waits for the shop's next opening
    DWELL = 1 << 11  # the label changed too recently
    SLOTS = 1 << 12  # the day's label changes went to items that gain more
    MENU_COST = 1 << 13  # not worth a new label
    CONFLICT = 1 << 14  # limits contradict each other; the order above decided, alarm
    MOVED = 1 << 15  # not a limit: the price moved because the owner's reference, cost or limits moved

    @property
    def words(self) -> tuple[str, ...]:
        """Names of the rules in this mask, lower case, in the guard's order."""
        return tuple(str(rule.name).lower() for rule in Rule if rule in self)


ALARMS = Rule.INPUT | Rule.FINITE | Rule.CONFLICT


@dataclass(frozen=True, slots=True)
class GuardRules:
    """What an owner lets the box do with prices. Logs are natural: a band of 0.10 is −9.5 % to +10.5 %."""

    band: float = 0.10  # log; greatest distance of a price from the approved reference price of its day
    step: float = 0.10  # log; greatest move of one label change: one weekly decision may use half the band's width
    margin_min: float = 0.02  # fraction of cost; the cost floor is cost · (1 + margin_min)
    index_cap: float = 0.005  # log; revenue-weighted mean of log(price / reference) over a category; no lower bound
    changes_per_day: int = 200  # labels a shop can change before it opens
    dwell_days: int = 6  # business days between two changes of one label: a weekly cycle, one day of slack
    endings: tuple[int, ...] = (5, 9)  # last digits of a price in minor units, two-digit ones too; empty: any
    menu_cost_minor: float = 25.0  # minor units of expected weekly gain below which a label stays
    asked_max: float = 1.0  # log; a multiplier beyond it is a fault of the policy, not a wish

    def __post_init__(self) -> None:
        for name, low, high in (
            ("band", 0.0, 0.5),
            ("step", 0.0, 1.0),
            ("margin_min", 0.0, 10.0),
            ("index_cap", 0.0, 0.005),  # an owner can be stricter than half a percent, never looser
            ("menu_cost_minor", 0.0, 1e9),
            ("asked_max", 0.5, 10.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"guard.{name}", f"{value} is outside {low}..{high}")
        if self.changes_per_day < 0 or self.dwell_days < 0:
            raise ConfigError("guard.changes_per_day", "changes_per_day and dwell_days cannot be negative")
        if any(not 0 <= ending <= 99 for ending in self.endings):
            raise ConfigError("guard.endings", f"{self.endings}: endings are the last one or two digits, 0..99")
