"""What a network demands of what is shared in it, and what a member may make stricter: never looser.

The defaults are the lawful ones: between different owners only backward-looking aggregates of at least five owners,
none of them above a quarter, at least ninety days old, and never an input of live prices.
"""

from dataclasses import dataclass
from typing import Final

OWNERS_MIN: Final = 5
OWNER_SHARE_MAX: Final = 0.25
LAG_WEEKS_MIN: Final = 13  # ninety days


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Settings of one network, the same for all members; in the roster."""

    owners_min: int = OWNERS_MIN  # owners behind a release that crosses owners
    owner_share_max: float = OWNER_SHARE_MAX  # of its weight that one owner may have
    lag_weeks: int = LAG_WEEKS_MIN  # age of the newest week in it
    live_use: bool = False  # whether what comes back may reach the prices; only among members of one owner
    item_level: bool = False  # whether consortium and public records may name items; False: categories alone
    shops_min: int = 1  # shops behind any record that leaves a shop
    epoch_weeks: int = 13  # after which the network moves to new keys
    keep_weeks: int = 104  # after which closed epochs are cleared and their keys destroyed
    clock_tolerance_s: int = 7 * 86_400  # how far ahead of ours a sender's synchronised clock may be
    messages_per_week: int = 20_000  # of one feed; more is a fault or an attack
