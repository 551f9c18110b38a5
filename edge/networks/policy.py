"""What a network demands of what is shared in it, and what a member may make stricter: never looser.

The defaults are the lawful ones: between different owners only backward-looking aggregates of at least five owners,
none of them above a quarter, at least ninety days old, and never an input of live prices. They are a floor: a roster
whose members have more than one owner is refused with looser ones (`check_owners`), by who signs it and by who reads
it. Among members of one owner (a chain, a franchise, a co-op under one charter) the owner sets them as it likes. A
private network has one owner, always: raw prices are seen in it.

A member's own settings come out of `tightened`, which knows for each field which way is stricter. The layers of privacy
are never looser than the network's own figures: one policy says one thing.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from edge.errors import ConfigError
from edge.privacy.rules import LAWFUL_LAG_WEEKS, LAWFUL_OWNERS, Direction, PrivacyRules, check_tightened
from edge.records.message import Network

OWNERS_MIN: Final = LAWFUL_OWNERS
OWNER_SHARE_MAX: Final = 0.25
LAG_WEEKS_MIN: Final = LAWFUL_LAG_WEEKS


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Settings of one network, the same for all members; in the roster. `ConfigError` names a field out of range."""

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
    release_weekday: int = 1  # schedule: what is due leaves on this day of the week; 0 is Monday
    round_hours: int = 24  # schedule: how long each stage of a sum between owners stays open
    privacy: PrivacyRules = field(default_factory=PrivacyRules)  # parameters of the layers

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(f"policy.{name}", f"must be a whole number in {low}..{high}, not {value!r}")
        for name in ("live_use", "item_level"):
            if type(getattr(self, name)) is not bool:
                raise ConfigError(f"policy.{name}", f"must be true or false, not {getattr(self, name)!r}")
        share = self.owner_share_max
        if type(share) is not float or not math.isfinite(share) or not 0.0 < share <= 1.0:
            raise ConfigError("policy.owner_share_max", f"must be a share above 0, at most 1.0, not {share!r}")
        for name in ("owners_min", "lag_weeks", "shops_min"):
            if getattr(self.privacy, name) < getattr(self, name):
                raise ConfigError(
                    f"policy.privacy.{name}",
                    f"{getattr(self.privacy, name)} is looser than the network's {name} of {getattr(self, name)}",
                )
        if self.privacy.item_level and not self.item_level:
            raise ConfigError("policy.privacy.item_level", "names items, which the network's item_level forbids")

    @classmethod
    def for_new(cls, network: Network) -> "NetworkPolicy":
        """What a network is founded with where nobody says otherwise.

        A company's own network is there so that its shops learn from each other, this week and for their prices; in all
        others the lawful floor between owners holds until the authority relaxes it for members of one owner.
        """
        return cls(lag_weeks=0, live_use=True, item_level=True) if network is Network.PRIVATE else cls()


_RANGES: Final = {
    "owners_min": (1, 10_000),
    "lag_weeks": (0, 104),
    "shops_min": (1, 10_000),
    "epoch_weeks": (1, 53),
    "keep_weeks": (1, 520),
    "clock_tolerance_s": (0, 14 * 86_400),
    "messages_per_week": (1, 1_000_000),
    "release_weekday": (0, 6),
    "round_hours": (1, 168),
}

DIRECTIONS: Final[dict[str, Direction]] = {
    "owners_min": Direction.HIGHER,
    "owner_share_max": Direction.LOWER,
    "lag_weeks": Direction.HIGHER,
    "live_use": Direction.OFF,
    "item_level": Direction.OFF,
    "shops_min": Direction.HIGHER,
    "epoch_weeks": Direction.SAME,  # the authority moves the network on, for all
    "keep_weeks": Direction.LOWER,
    "clock_tolerance_s": Direction.LOWER,
    "messages_per_week": Direction.LOWER,
    "release_weekday": Direction.SAME,  # a day of one's own would tell who released
    "round_hours": Direction.SAME,  # a stage ends for all at once
}


def tightened(base: NetworkPolicy, wish: NetworkPolicy) -> NetworkPolicy:
    """A member's own policy: `wish`, which is nowhere looser than the network's `base`.

    Raises `ConfigError` naming the first field that would be looser, and why it may not.
    """
    for name, direction in DIRECTIONS.items():
        given, wanted = getattr(base, name), getattr(wish, name)
        if not _as_strict(direction, given, wanted):
            raise ConfigError(
                f"policy.{name}", f"{direction.value}: the network has {_said(given)}, this would be {_said(wanted)}"
            )
    check_tightened(wish.privacy, base.privacy, "policy.privacy")
    return wish


def check_owners(network: Network, policy: NetworkPolicy, owners: Iterable[str]) -> None:
    """Raise `ConfigError`, naming what is not lawful, unless members of these owners may share under `policy`."""
    several = sorted(set(owners))
    if len(several) < 2:
        return
    whose = f"{len(several)} owners ({', '.join(several[:3])}{', ...' if len(several) > 3 else ''})"
    if network is Network.PRIVATE:
        raise ConfigError("owner", f"a private network has one owner, this would be {whose}; make it a consortium")
    for name, floor in LAWFUL.items():
        value = getattr(policy, name)
        if not _as_strict(DIRECTIONS[name], floor, value):
            raise ConfigError(
                f"policy.{name}",
                f"{_said(value)} is allowed among members of one owner alone; between {whose} the "
                f"law's floor is {_said(floor)}",
            )


LAWFUL: Final[dict[str, float | int | bool]] = {
    "owners_min": OWNERS_MIN,
    "owner_share_max": OWNER_SHARE_MAX,
    "lag_weeks": LAG_WEEKS_MIN,
    "live_use": False,
}


def _as_strict(direction: Direction, base: float, other: float) -> bool:
    if direction is Direction.LOWER:
        return other <= base
    if direction is Direction.HIGHER:
        return other >= base
    if direction is Direction.OFF:
        return bool(base) or not other
    return other == base


def _said(value: float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def changed(before: NetworkPolicy, after: NetworkPolicy) -> dict[str, tuple[object, object]]:
    """Fields that differ, by name (the layers' as `privacy.NAME`), with the value before and after."""
    found: dict[str, tuple[object, object]] = {}
    for prefix, old, new in (("", before, after), ("privacy.", before.privacy, after.privacy)):
        for each in dataclasses.fields(old):
            values = getattr(old, each.name), getattr(new, each.name)
            if each.name != "privacy" and values[0] != values[1]:
                found[prefix + each.name] = values
    return found
