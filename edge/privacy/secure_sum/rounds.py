"""One round: who takes part, what is summed, and the bounds that everybody checks for himself.

A round is public and the same for all its members: its digest begins every message, so that members who see any of it
differently refuse each other's messages instead of computing a wrong sum. Members have numbers: their place in the
order of their ids.

    n  members of the group             t = ceil(2n / 3)  shares that give a secret, and acknowledgements of a close

With c colluding members, two different closes could both be acknowledged by t only if 2t <= n + c (honest members
acknowledge once, colluding ones twice); 2t >= 4n / 3, so c < n / 3 is not enough. For the same reason fewer than n / 3
cannot gather both kinds of shares of a member. No owner may therefore hold a third of the members (`plan` sees to it).

Noise: each member adds a discrete Gaussian of variance 3 V / n, V being the variance that the release needs. At least t
members are in the sum, fewer than n / 3 of them collude and know their own noise: at least n / 3 are honest, and their
noise has variance V or more. With nobody missing and nobody colluding the sum carries up to 3 V.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from fractions import Fraction
from math import isqrt
from typing import Final

from edge.crypto.hashing import hash256
from edge.encoding import cbor
from edge.errors import LocalError, PomonaError
from edge.limits import LABEL_CHARS_MAX, SUM_MEMBERS_MAX, SUM_VALUES_MAX

OWNERS_MIN: Final = 5  # behind any sum that crosses owners
OWNER_SHARE_MAX: Final = Fraction(1, 4)  # of a sum's weight
OVERPROVISION: Final = 3  # of the noise: a third dropped out, a third colluding
BITS_MAX: Final = 56  # of a masked value; sums of them stay below 2^63 for every group
NOISE_REACH: Final = 12  # standard deviations; beyond lies less than 2^-100 of a discrete Gaussian

_DIGEST: Final = b"pomona/secure-sum/round/1"


class RoundRefused(PomonaError):
    """The round ends, or a member leaves it, without a sum. `reason`: a short stable word; nobody need be at fault."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A shop in a round: its id (32 bytes, the connection key of the network) and its owner's name."""

    id: bytes
    owner: str


@dataclass(frozen=True, slots=True)
class Round:
    """What a group sums in one window. Raises `LocalError` for what no plan gives.

    `clip` bounds the L2 norm of one *owner's* contribution, in steps of the quantiser: a shop contributes at most
    `clip` divided by the number of its owner's shops in the group. `noise_variance` is each member's, in steps².
    """

    network: bytes
    window: int
    subject: str  # what is summed, e.g. "log_mean/juice"
    group: int
    members: tuple[Member, ...]
    closers: tuple[bytes, ...]  # ids that may close, the first before the others
    dimension: int
    clip: int
    noise_variance: Fraction
    owners_min: int = OWNERS_MIN
    digest: bytes = field(init=False, repr=False)
    threshold: int = field(init=False, repr=False)
    bits: int = field(init=False, repr=False)  # of the modulus: a multiple of 8
    shops: tuple[int, ...] = field(init=False, repr=False)  # of each member's owner, in this group

    def __post_init__(self) -> None:
        self._check()
        count = len(self.members)
        owned = Counter(member.owner for member in self.members)
        if 3 * max(owned.values()) >= count:
            raise LocalError("an owner holds a third of the members: it could open what others mask")
        reach = count * (self.clip + NOISE_REACH * (isqrt(int(self.noise_variance)) + 1))
        bits = 8 * -(-(reach.bit_length() + 1) // 8)
        if bits > BITS_MAX:
            raise LocalError(f"sums up to {reach} take more than {BITS_MAX} bits")
        assert reach < 2 ** (bits - 1)  # a sum cannot wrap: every value and every noise at its bound
        object.__setattr__(self, "threshold", -(-2 * count // 3))
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "shops", tuple(owned[member.owner] for member in self.members))
        object.__setattr__(self, "digest", self._digest())
        self.check_survivors(range(count))

    def _check(self) -> None:
        ids = [member.id for member in self.members]
        if ids != sorted(set(ids)) or any(len(name) != 32 for name in (*ids, *self.closers, self.network)):
            raise LocalError("ids have 32 bytes, are all different and in ascending order")
        if not 1 <= len(ids) <= SUM_MEMBERS_MAX or not 1 <= len(set(self.closers)) == len(self.closers):
            raise LocalError(f"{len(ids)} members, {len(self.closers)} closers")
        if not 1 <= self.dimension <= SUM_VALUES_MAX or self.clip < 1 or self.noise_variance < 0 or self.window < 0:
            raise LocalError("dimension, clip, noise or window is out of range")
        if not 1 <= len(self.subject) <= 4 * LABEL_CHARS_MAX or self.owners_min < OWNERS_MIN:
            raise LocalError(f"a subject is named, and sums take at least {OWNERS_MIN} owners")

    def _digest(self) -> bytes:
        numbers = [self.window, self.group, self.dimension, self.clip, self.owners_min]
        noise = [str(self.noise_variance.numerator), str(self.noise_variance.denominator)]
        people = [[member.id, member.owner] for member in self.members]
        return hash256(_DIGEST, cbor.encode([self.network, self.subject, numbers, noise, people, list(self.closers)]))

    def number(self, member: bytes) -> int | None:
        """The place of a member's id; None for somebody else."""
        return next((number for number, each in enumerate(self.members) if each.id == member), None)

    def weight(self, survivors: Collection[int]) -> Fraction:
        """The sum of the survivors' weights: what a sum is divided by for a mean over owners."""
        return sum((Fraction(1, self.shops[number]) for number in survivors), Fraction(0))

    def check_survivors(self, survivors: Collection[int]) -> None:
        """Raise `RoundRefused` where a sum over these members may not be: too few, too few owners, one too heavy."""
        if len(survivors) < self.threshold:
            raise RoundRefused(f"{len(survivors)} members of {len(self.members)} are left", reason="members")
        weights: dict[str, Fraction] = {}
        for number in survivors:
            owner = self.members[number].owner
            weights[owner] = weights.get(owner, Fraction(0)) + Fraction(1, self.shops[number])
        if len(weights) < self.owners_min:
            raise RoundRefused(f"{len(weights)} owners are left", reason="owners")
        if max(weights.values()) > OWNER_SHARE_MAX * sum(weights.values()):
            raise RoundRefused("one owner has more than a quarter of the weight", reason="owner_share")


def member_variance(variance: Fraction, members: int) -> Fraction:
    """The variance of each member's own noise, for a sum that is to have at least `variance` from honest survivors."""
    return OVERPROVISION * variance / members
