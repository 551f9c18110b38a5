"""What happens in which week of the demonstration. Pure."""

from dataclasses import dataclass
from typing import Final

_CUT_WEEKS: Final = 4


@dataclass(frozen=True, slots=True)
class Timeline:
    """Weeks count from 0; by shop, in the order of the plans."""

    weeks: int
    opens: tuple[int, ...]
    live: tuple[int, ...]  # from which week on a shop's prices are live; `weeks` or later: never
    cut: int | None  # the shop that loses its connections; None: nobody
    cut_from: int
    cut_until: int  # the first week in which it has them again; `weeks`: after the end

    @property
    def newest(self) -> int | None:
        """The shop that opens after the others; None: they open together."""
        last = len(self.opens) - 1
        return last if self.opens[last] > 0 else None


def timeline(weeks: int, shops: int, shadow: int | None) -> Timeline:
    """The first shops open together, and of several the last one when two thirds are over.

    One shop alone is in shadow for half of its weeks. Several are so for a quarter of theirs: prices that never move
    teach nobody anything, and the newest shop is to hear something. `shadow`: so many weeks instead. Of several shops,
    the last but one is cut off late: for four weeks, or an eighth of all if that is less.
    """
    opens = [0] * shops
    if shops > 1:
        opens[-1] = weeks * 2 // 3
    part = 2 if shops == 1 else 4
    live = [first + ((weeks - first) // part if shadow is None else shadow) for first in opens]
    cut_from = weeks * 3 // 4
    cut_until = min(cut_from + max(1, min(_CUT_WEEKS, weeks // 8)), weeks)
    return Timeline(weeks, tuple(opens), tuple(live), shops - 2 if shops > 1 else None, cut_from, cut_until)
