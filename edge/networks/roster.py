"""A roster as a value: who belongs to a network at one version of it, whose feeds count up to where, what policy holds.

The roster itself is a Hyperbee that its authority signs (`edge.networks.roster_bee` reads and writes it); this is
what was read from it, and every question that the rest of the box asks of it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from edge.networks.access import FEEDS, FeedKind
from edge.networks.policy import NetworkPolicy
from edge.records.message import Network


class Role(StrEnum):
    """What a member does in the network."""

    SHOP = "shop"  # a box that sells: writes feeds, takes part in sums
    SEEDER = "seeder"  # keeps and serves others' feeds, writes none
    READER = "reader"  # a trainer or an office: reads, writes none
    CLOSER = "closer"  # a shop that may close rounds of sums as well


WRITERS = (Role.SHOP, Role.CLOSER)


@dataclass(frozen=True, slots=True)
class Member:
    """One member. `id` is its connection key: what it proves in the Noise handshake, and what secrets are sealed to."""

    id: bytes  # 32 bytes, Ed25519
    owner: str  # who answers for it: the unit that is counted between owners
    role: Role
    signers: Mapping[FeedKind, bytes]  # public key that signs its feed, by kind; none for seeders and readers
    since_epoch: int  # the first epoch in which its feeds count
    label: str = ""  # for people; every member reads it


@dataclass(frozen=True, slots=True)
class Revocation:
    """A former member: its feeds count up to these lengths in `epoch`, and in no later one."""

    member: Member
    epoch: int
    lengths: Mapping[FeedKind, int]  # blocks of its feed of that epoch that still count
    reason: str


@dataclass(frozen=True, slots=True)
class Roster:
    """A network at one version of its roster."""

    network_id: bytes  # key of the roster's core
    network: Network
    name: str  # for people; known to members alone
    version: int  # monotone; of the bee
    epoch: int  # the current one
    policy: NetworkPolicy
    members: Mapping[bytes, Member]  # by id
    revoked: Mapping[bytes, Revocation]  # by id
    invited: frozenset[bytes] = field(default_factory=frozenset)  # public keys of invitations that nobody took yet
    authorities: tuple[bytes, ...] = ()  # connection keys of those who sign the roster, in the manifest's order
    open: bool = False  # whether anybody may read: a public network whose roster and feeds are not encrypted

    def admits(self, connection_key: bytes) -> bool:
        """Whether whoever proved `connection_key` may connect: members and authorities, and nobody that was revoked.

        An open network lets strangers in, to read: what they write is on no roster and counts nothing.
        """
        if connection_key in self.revoked:
            return False
        return self.open or connection_key in self.members or connection_key in self.authorities

    @property
    def writers(self) -> tuple[Member, ...]:
        """Members whose feeds count now, by id."""
        return tuple(member for _, member in sorted(self.members.items()) if member.role in WRITERS)

    @property
    def owners(self) -> Counter[str]:
        """How many shops each owner has in the network."""
        return Counter(member.owner for member in self.writers)

    @property
    def one_owner(self) -> bool:
        """Whether all members, readers too, have one owner: a chain, a franchise, a co-op under one charter."""
        return len({member.owner for member in self.members.values()}) == 1

    @property
    def feed_kinds(self) -> tuple[FeedKind, ...]:
        """Kinds of feed that members of this network write."""
        return FEEDS[self.network]

    def limit(self, member_id: bytes, kind: FeedKind, epoch: int) -> int | None:
        """Up to which length the member's feed of `kind` in `epoch` counts: None without a bound, 0 not at all."""
        revocation = self.revoked.get(member_id)
        member = self.members.get(member_id) if revocation is None else revocation.member
        if member is None or member.role not in WRITERS or kind not in member.signers:
            return 0
        last = self.epoch if revocation is None else min(revocation.epoch, self.epoch)
        if not member.since_epoch <= epoch <= last:
            return 0
        if revocation is not None and epoch == revocation.epoch:
            return revocation.lengths.get(kind, 0)
        return None
