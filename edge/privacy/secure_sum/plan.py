"""Who sums with whom: each window, a public seed splits the owners into groups that nobody can choose.

    seed = H("pomona/secure-sum/plan/1", network, window, epoch secret)

Whoever is in the network computes the same groups; nobody outside can, and no member can influence them. With at least
`GROUPS` x `OWNERS_MIN` owners there are `GROUPS` groups; with fewer, one; below `OWNERS_MIN` owners nothing is summed.
All shops of an owner are in one group. Fewer and larger groups carry less noise; three is the least number of which the
median outvotes one group that lies.

In a network whose members all have one owner, a franchise say, nothing has to be hidden from the owner, but each shop
from the others: the parties are the shops (`Parties.SHOPS`), each counted as an owner of its own by all that follows,
with the same least number of five. The unit of protection is then the shop-week.

Seats: an owner must hold less than a third of its group's members, or it could open what others mask (see `rounds`). Of
owners with more shops than that, the seed chooses which shops sit in this window.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from edge.crypto.hashing import hash256
from edge.errors import LocalError
from edge.limits import SUM_MEMBERS_MAX
from edge.privacy.secure_sum.rounds import OWNERS_MIN, Member, RoundRefused

GROUPS: Final = 3

_SEED: Final = b"pomona/secure-sum/plan/1"


class Parties(Enum):
    """Whose contribution nobody else may see, and who is counted."""

    OWNERS = "owners"
    SHOPS = "shops"  # only where all members have one owner


@dataclass(frozen=True, slots=True)
class Plan:
    """The groups of one window, each with its members in the order of their ids; `seatless` sit this window out."""

    groups: tuple[tuple[Member, ...], ...]
    seatless: tuple[Member, ...]


def make_plan(
    network: bytes,
    window: int,
    epoch_secret: bytes,
    members: Iterable[Member],
    *,
    groups: int = GROUPS,
    parties: Parties = Parties.OWNERS,
) -> Plan:
    """The groups of a window. `groups`: odd, at least three. Raises `RoundRefused` (`owners`) below five parties.

    With `Parties.SHOPS` each member in the plan has its id for an owner's name; `LocalError` for several owners.
    """
    if parties is Parties.SHOPS:
        members = list(members)
        if len({member.owner for member in members}) > 1:
            raise LocalError("shops of several owners are no parties: their owners are")
        members = [Member(member.id, member.id.hex()) for member in members]
    if groups < GROUPS or groups % 2 == 0:
        raise LocalError(f"{groups} groups: the median takes an odd number of at least {GROUPS}")
    seed = hash256(_SEED, network, window.to_bytes(8, "big"), epoch_secret)
    shops: dict[str, list[Member]] = {}
    for member in sorted(set(members), key=lambda member: hash256(seed, b"seat", member.id)):
        shops.setdefault(member.owner, []).append(member)
    if len(shops) < OWNERS_MIN:
        raise RoundRefused(f"{len(shops)} owners; sums take at least {OWNERS_MIN}", reason="owners")
    count = groups if len(shops) >= groups * OWNERS_MIN else 1
    owners = sorted(shops, key=lambda owner: hash256(seed, b"owner", owner.encode()))
    seated, seatless = [], []
    for group in range(count):
        books = [shops[owner] for owner in owners[group::count]]
        seats = seats_of([len(book) for book in books])
        seated.append(tuple(sorted(member for book in books for member in book[:seats])))
        seatless += [member for book in books for member in book[seats:]]
    return Plan(tuple(seated), tuple(sorted(seatless)))


def seats_of(shops: list[int]) -> int:
    """Most seats that one owner may have, given each owner's number of shops, so that none holds a third of the group.

    Also keeps the group within `SUM_MEMBERS_MAX`. Raises `RoundRefused` (`members`) for more owners than that.
    """
    for seats in range(max(shops), 0, -1):
        members = sum(min(seats, count) for count in shops)
        if 3 * seats < members <= SUM_MEMBERS_MAX:
            return seats
    raise RoundRefused(f"{len(shops)} owners cannot sit in one group: plan more groups", reason="members")
