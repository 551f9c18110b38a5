"""Which feeds a network has, and in which order they are read: what follows from a roster and the epochs known. Pure.

A feed is one member's, of one kind, in one key epoch; its key is computed (`edge.networks.epochs`), never announced. A
member that was revoked keeps its feeds up to the lengths that the roster names. Feeds that do not count at all are not
listed: nothing of them is asked for, stored or handed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edge.networks.access import FeedKind
from edge.networks.epochs import Epoch
from edge.networks.roster import Member, Roster

PRIORITY: Final = (FeedKind.TRENDS, FeedKind.INSIGHTS, FeedKind.SUMS, FeedKind.PRICES)  # what is critical, then bulk


@dataclass(frozen=True, slots=True)
class NetworkFeed:
    """One feed of a member."""

    key: bytes
    member: bytes  # its id
    kind: FeedKind
    epoch: int
    limit: int | None  # blocks of it that count; None: all
    encryption_key: bytes | None = field(repr=False)  # None: the network is open


def encryption_key(roster: Roster, epoch: Epoch) -> bytes | None:
    """What the feeds of an epoch are encrypted with; None in an open network, which anybody may read."""
    return None if roster.open else epoch.encryption_key


def feeds_of(roster: Roster, epochs: Mapping[int, Epoch]) -> dict[bytes, NetworkFeed]:
    """Every feed that counts and whose epoch's secret is known, by key, in the order in which they are read.

    The order is critical kinds first, then older epochs, then members by their ids. Two entries of a roster that lead
    to one feed give the one with the lower limit.
    """
    people: dict[bytes, Member] = {id_: revocation.member for id_, revocation in roster.revoked.items()}
    people |= {id_: member for id_, member in roster.members.items() if id_ not in roster.revoked}
    found: dict[bytes, NetworkFeed] = {}
    for kind in PRIORITY:
        if kind not in roster.feed_kinds:
            continue
        for number, epoch in sorted(epochs.items()):
            for id_, member in sorted(people.items()):
                limit = roster.limit(id_, kind, number)
                signer = member.signers.get(kind)
                if limit == 0 or signer is None:
                    continue
                key = epoch.feed_key(kind, signer)
                there = found.get(key)
                if there is None or _lower(limit, there.limit):
                    found[key] = NetworkFeed(key, id_, kind, number, limit, encryption_key(roster, epoch))
    return found


def _lower(limit: int | None, than: int | None) -> bool:
    return limit is not None and (than is None or limit < than)
