"""Who may see what: the matrix, as one table, and as types.

                     private   consortium   public
    raw prices          x
    price ranges        x           x
    trends              x           x          x
    model insights      x           x

The same table is asked on the way out (`outlet`) and on the way in (`edge.memory.validator`). The unions below say it
to the type checker: a function that takes a `ConsortiumPayload` cannot be handed an `ItemDay`.
"""

from enum import IntEnum
from typing import Final

from edge.errors import RecordInvalid
from edge.records.message import Network
from edge.records.shared import ItemDay, ModelInsight, Payload, PriceUpdate, RangeUpdate, TrendUpdate

PrivatePayload = ItemDay | PriceUpdate | RangeUpdate | TrendUpdate | ModelInsight
ConsortiumPayload = RangeUpdate | TrendUpdate | ModelInsight
PublicPayload = TrendUpdate


class FeedKind(IntEnum):
    """The feeds that a member has in a network; the number goes into keys."""

    PRICES = 1
    TRENDS = 2
    INSIGHTS = 3
    SUMS = 4  # what members exchange to add up without a centre; no messages, see `edge.privacy.secure_sum`


MATRIX: Final[dict[Network, frozenset[type[Payload]]]] = {
    Network.PRIVATE: frozenset({ItemDay, PriceUpdate, RangeUpdate, TrendUpdate, ModelInsight}),
    Network.CONSORTIUM: frozenset({RangeUpdate, TrendUpdate, ModelInsight}),
    Network.PUBLIC: frozenset({TrendUpdate}),
}
FEEDS: Final[dict[Network, tuple[FeedKind, ...]]] = {
    Network.PRIVATE: (FeedKind.PRICES, FeedKind.TRENDS, FeedKind.INSIGHTS),
    Network.CONSORTIUM: (FeedKind.PRICES, FeedKind.TRENDS, FeedKind.INSIGHTS, FeedKind.SUMS),
    Network.PUBLIC: (FeedKind.TRENDS,),
}
_FEED: Final[dict[type[Payload], FeedKind]] = {
    ItemDay: FeedKind.PRICES,
    PriceUpdate: FeedKind.PRICES,
    RangeUpdate: FeedKind.PRICES,
    TrendUpdate: FeedKind.TRENDS,
    ModelInsight: FeedKind.INSIGHTS,
}


def feed_of(payload: Payload) -> FeedKind:
    """The kind of feed that carries `payload`."""
    return _FEED[type(payload)]


def check(network: Network, feed: FeedKind, payload: Payload) -> None:
    """Raise `RecordInvalid` (reason `matrix`) unless `payload` may stand in a feed of this kind in this network."""
    if type(payload) not in MATRIX[network]:
        raise RecordInvalid(f"{type(payload).__name__} may not be seen in a {network} network", reason="matrix")
    if _FEED[type(payload)] is not feed or feed not in FEEDS[network]:
        raise RecordInvalid(f"{type(payload).__name__} does not belong into feed {feed.name.lower()}", reason="matrix")
