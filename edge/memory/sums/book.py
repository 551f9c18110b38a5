"""Which sums there are: those that a box may hear of, and those of them that it is asked for now. Pure.

Heard of are the sums of the open window, of the next one where its day is near (another box's days may be ahead), and
of a year before: whoever was away still works out what the others have. In each the key epochs whose secrets are known.
Categories may differ from shop to shop: what is drawn by who lists fewer is listened to as well.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from edge.limits import SUM_CATEGORIES_MAX
from edge.memory.sums import terms
from edge.memory.sums.terms import SUM_WEEKS, Asked
from edge.networks.epochs import Epoch
from edge.networks.roster import Roster
from edge.privacy.aggregate import Window
from edge.privacy.secure_sum import RoundRefused

logger = logging.getLogger(__name__)

WINDOWS_BACK: Final = 3
EPOCHS_BACK: Final = 4
SOON: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Wares:
    """What this shop can speak of: categories, the common list of a category's items, the centre of coefficients."""

    categories: tuple[str, ...]
    items: Mapping[str, tuple[str, ...]]
    centre: float

    @classmethod
    def of(cls, categories: Sequence[str], items: Callable[[str], Sequence[str]] | None, centre: float) -> "Wares":
        """At most SUM_CATEGORIES_MAX categories, the first by their names."""
        listed = tuple(sorted(set(categories)))[:SUM_CATEGORIES_MAX]
        return cls(listed, {} if items is None else {each: tuple(items(each)) for each in listed}, centre)


@dataclass(frozen=True, slots=True)
class Book:
    """All sums of one network that may be heard of."""

    window: Window | None = None  # the open one
    newest: Window | None = None  # the open one, or the next
    asked: Mapping[bytes, tuple[Asked, int]] = field(default_factory=dict)  # by round: the sum, which of its groups
    now: tuple[Asked, ...] = ()  # what is asked for in the open window and the present epoch, in order


def book_of(roster: Roster, epochs: Mapping[int, Epoch], today: date, wares: Wares) -> Book:
    """The book on a day; `today` is the first business day that is not over."""
    rules = roster.policy.privacy
    window, newest = terms.open_window(today, roster.policy), terms.open_window(today + SOON, roster.policy)
    if newest is None:
        return Book()
    room = terms.room(rules)
    asked: dict[bytes, tuple[Asked, int]] = {}
    for each in _back(newest):
        turn = terms.drawn(roster.network_id, each, wares.categories)[: 2 * room + 2]
        for number, epoch in epochs.items():
            if roster.epoch - EPOCHS_BACK < number <= roster.epoch:
                for one in _asked(roster, epoch, each, turn, wares):
                    asked |= {round_.digest: (one, group) for group, round_ in enumerate(one.rounds)}
    if window is None:
        return Book(None, newest, asked)
    turn = terms.drawn(roster.network_id, window, wares.categories)[:room]
    there = {
        one.subject.category: one
        for one, _ in asked.values()
        if (one.window, one.epoch) == (window, roster.epoch) and one.subject.category in turn
    }
    return Book(window, newest, asked, tuple(there[category] for category in turn if category in there))


def _asked(roster: Roster, epoch: Epoch, window: Window, turn: Sequence[str], wares: Wares) -> list[Asked]:
    try:
        plan = terms.plan_of(roster, epoch, window)
        return [
            terms.asked(
                roster,
                plan,
                epoch=epoch.number,
                window=window,
                category=category,
                items=wares.items.get(category, ()),
                centre=wares.centre,
            )
            for category in turn
        ]
    except RoundRefused as refusal:
        logger.debug("no sums of epoch %d: %s", epoch.number, refusal)
        return []


def _back(newest: Window) -> list[Window]:
    firsts = range(newest.first, max(newest.first - (WINDOWS_BACK + 2) * SUM_WEEKS, -1), -SUM_WEEKS)
    return [Window(first, SUM_WEEKS) for first in firsts]
