"""What of all that could be told is told now: what is critical first, nothing twice, bulk only while it is taken.

    trends > insights > a week's prices and ranges > a day's totals

There is no queue: what was said stands in our own feeds, for whoever comes back, and what was not said yet is asked for
again (`Publisher`). So nothing can be lost with a queue and nothing can fill one, and a restart knows from the end of
the feeds what has been said.

Bulk is the only thing that can pile up unread, so it waits: a day's totals while members have not fetched
BULK_WAITING_MAX blocks of what is there, a week's figures at four times that; what is critical never does. Once a week
of a category has been told as a whole and the week after it is over too, its days are told no more: it covers them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from edge.crypto.hashing import hash256
from edge.encoding import cbor
from edge.limits import BULK_WAITING_MAX, DUE_AT_ONCE_MAX
from edge.networks.access import FeedKind, feed_of
from edge.records.shared import ItemDay, ModelInsight, Payload, PriceUpdate, RangeUpdate, TrendUpdate, week_behind
from edge.records.shared_codec import to_value, word_of

SAID_WEEKS: Final = 60  # how far back we know what was said; what is older is not said any more
VERSIONS_MAX: Final = 8  # of one record: a shop that corrects itself for ever is stopped
_HASH_BYTES: Final = 16


class Urgency(IntEnum):
    """What goes first."""

    TREND = 0
    INSIGHT = 1
    WEEK = 2  # bulk: a week's prices and ranges
    DAY = 3  # bulk: a day's totals


_URGENCY: Final[dict[type[Payload], Urgency]] = {
    TrendUpdate: Urgency.TREND,
    ModelInsight: Urgency.INSIGHT,
    PriceUpdate: Urgency.WEEK,
    RangeUpdate: Urgency.WEEK,
    ItemDay: Urgency.DAY,
}
_PATIENCE: Final = {Urgency.WEEK: 4, Urgency.DAY: 1}  # times the blocks that may wait unread; others: any number


@dataclass(frozen=True, slots=True)
class Due:
    """Something to tell: its payloads, and the `token` (`Cleared`, `Released`) with which the outlet takes them."""

    payloads: tuple[Payload, ...]
    token: object
    contents: tuple[bytes, ...] = field(init=False, repr=False)  # what each payload says, hashed once

    def __post_init__(self) -> None:
        object.__setattr__(self, "contents", tuple(map(_content, self.payloads)))

    @property
    def urgency(self) -> Urgency:
        """Of the most urgent payload."""
        return min(_URGENCY[type(payload)] for payload in self.payloads)

    @property
    def week(self) -> int:
        """The oldest week in it."""
        return min(week_behind(payload) for payload in self.payloads)

    @property
    def feeds(self) -> frozenset[FeedKind]:
        """The feeds that it enters."""
        return frozenset(feed_of(payload) for payload in self.payloads)


class Said:
    """What stands in our own feeds, as far back as SAID_WEEKS."""

    def __init__(self) -> None:
        self._records: dict[
            tuple[str, str, int], tuple[int, set[bytes]]
        ] = {}  # week, contents; by kind, category, period
        self._newest = 0
        self._tidied = 0

    def __len__(self) -> int:
        return len(self._records)

    def note(self, payload: Payload) -> None:
        """This stands in a feed of ours."""
        week = week_behind(payload)
        self._newest = max(self._newest, week)
        self._records.setdefault(_slot(payload), (week, set()))[1].add(_content(payload))
        if self._newest > self._tidied:  # once a week
            self._tidied = self._newest
            oldest = self._newest - SAID_WEEKS
            self._records = {slot: found for slot, found in self._records.items() if found[0] >= oldest}

    def has(self, payload: Payload, content: bytes | None = None) -> bool:
        """Whether it need not be said: it was, or too long ago to know, or corrected too often.

        `content`: of `Due.contents`, where it is known.
        """
        if week_behind(payload) < self._newest - SAID_WEEKS:
            return True
        _, found = self._records.get(_slot(payload), (0, set()))
        return (content or _content(payload)) in found or len(found) >= VERSIONS_MAX

    def covers(self, day: ItemDay, week_now: int) -> bool:
        """Whether the day's week has been told as a whole, and that was not just now."""
        week = week_behind(day)
        return week < week_now - 1 and (word_of(PriceUpdate), day.category, week) in self._records


@dataclass(frozen=True, slots=True)
class Choice:
    """What is told now, in order, and how much is not."""

    now: tuple[Due, ...]
    waiting: int  # until members have fetched what is there, or for the next turn
    covered: int  # days that their week covers


def choose(
    dues: Iterable[Due], said: Said, *, unfetched: int, week_now: int, waiting_max: int = BULK_WAITING_MAX
) -> Choice:
    """What to tell of `dues`, while members have not fetched `unfetched` blocks of our feeds.

    At most DUE_AT_ONCE_MAX at once. What is told counts as unfetched from then on.
    """
    fresh = [due for due in dues if not all(map(said.has, due.payloads, due.contents))]
    now: list[Due] = []
    waiting = covered = 0
    for due in sorted(fresh, key=lambda due: (due.urgency, -due.week)):  # of equals the newest week: it is worth most
        if all(isinstance(payload, ItemDay) and said.covers(payload, week_now) for payload in due.payloads):
            covered += 1
        elif len(now) >= DUE_AT_ONCE_MAX or unfetched >= waiting_max * _PATIENCE.get(due.urgency, math.inf):
            waiting += 1
        else:
            now.append(due)
            unfetched += len(due.payloads)
    return Choice(tuple(now), waiting, covered)


def _slot(payload: Payload) -> tuple[str, str, int]:
    period = payload.day.toordinal() if isinstance(payload, ItemDay) else payload.week
    return word_of(type(payload)), payload.category, period


def _content(payload: Payload) -> bytes:
    return hash256(cbor.encode(to_value(payload)))[:_HASH_BYTES]
