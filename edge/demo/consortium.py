"""One window of a consortium: shops of fifteen owners and more learn a mean that no one of them gave.

Simulated: all shops run in this process, and their feeds are lists here; what they do is what boxes do
(`edge.privacy.secure_sum`), byte for byte. What each contributes is drawn: the mean of log(price / list price) of a
category, one number a shop.

    groups that a public seed makes → each shop's number, clipped, with noise, under masks → sums → median of the means

The masks are what hides a shop: its bytes are as likely for any other number. The noise is what hides it in the result:
who knows every other shop's number exactly learns of the last one what `epsilon` allows.
"""

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from edge.crypto.hashing import hash256
from edge.errors import LocalError
from edge.privacy.mechanism import RandomBits, epsilon_of_rho
from edge.privacy.rules import PrivacyRules
from edge.privacy.secure_sum import (
    Board,
    Closer,
    Member,
    Participant,
    Quantiser,
    Round,
    Sum,
    Tally,
    combine,
    make_plan,
)
from edge.privacy.secure_sum.accounting import honest_min, rho_of_sum, variance_for
from edge.privacy.secure_sum.masks import to_integers, unpack
from edge.privacy.secure_sum.messages import Masked, Step, decode
from edge.privacy.secure_sum.rounds import NOISE_REACH

OWNERS: Final = 15  # enough for three groups of five
CLIP: Final = 0.25  # of log(price / list price)
SPREAD: Final = 0.06  # s.d. of it between shops, as drawn here
MIDDLE: Final = -0.04
CLOSERS: Final = 2


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to see of the window."""

    owners: int
    shops: int
    groups: int
    blocks: int  # that all feeds of the window hold
    gave: float  # what one shop put in, log units
    sent: bytes  # what it published for it
    alone: float  # what one reads who takes these bytes for a number, log units
    reach: float  # largest number that can be read so
    mean: float  # that everybody reads at the end
    noise: float  # its standard deviation
    truth: float  # the mean without noise, which nobody but this demonstration knows
    epsilon: float  # of an owner's week, at delta
    delta: float
    rho: float
    pull: float  # by how much one owner can move its group's mean at most
    agreed: bool  # every shop computed the same sums from what it had read, and noise alone lies between them and truth

    @property
    def good(self) -> bool:
        """Whether the round came out as it has to."""
        return self.agreed


class Group:
    """One group's round: its feeds, and each member's own reading of them."""

    def __init__(self, round_: Round, values: Mapping[bytes, Sequence[int]], random_bits: RandomBits) -> None:
        self.round = round_
        self.values = values
        self.feeds: dict[bytes, list[bytes]] = {member.id: [] for member in round_.members}
        self._read: dict[tuple[bytes, bytes], int] = {}
        self._members = {
            member.id: Participant(Board(round_), member.id, values[member.id], random_bits)
            for member in round_.members
        }

    def run(self) -> None:
        """All steps to the end, everybody present."""
        first = self._members[self.round.closers[0]]
        for _ in Step:
            self._settle()
            block = Closer(first.board, first.id).cut()
            if block is None:
                raise LocalError("the round was closed before its end")
            self._append(first, block)
        self._settle()

    def sums(self) -> list[Sum | None]:
        """What each member finds, from what it has read by itself."""
        return [Tally(member.board).result() for member in self._members.values()]

    def masked(self, member: bytes) -> bytes:
        """What a member published for its values."""
        found = (decode(block, self.round.digest) for block in self.feeds[member])
        return next(message.packed for message in found if isinstance(message, Masked))

    def total(self) -> tuple[int, ...]:
        """The sum without noise."""
        return tuple(sum(column) for column in zip(*self.values.values(), strict=True))

    def _settle(self) -> None:
        """Until nobody has anything to read or to say."""
        busy = True
        while busy:
            busy = False
            for member in self._members.values():
                for writer, blocks in self.feeds.items():
                    seen = self._read.get((member.id, writer), 0)
                    if writer != member.id:
                        for block in blocks[seen:]:
                            member.receive(writer, block)
                    self._read[member.id, writer] = len(blocks)
                for block in member.next():
                    self._append(member, block)
                    busy = True

    def _append(self, member: Participant, block: bytes) -> None:
        self.feeds[member.id].append(block)
        member.receive(member.id, block)


def show(seed: int, *, owners: int = OWNERS, rules: PrivacyRules | None = None) -> Shown:
    """Run one window of `owners` owners with one or two shops each; `seed` draws the shops and what they give.

    Masks and noise come from the system: no two runs publish the same bytes.
    """
    rules = PrivacyRules() if rules is None else rules
    rng = random.Random(seed)
    network = hash256(b"pomona demo consortium")
    quantiser = Quantiser(1, CLIP, CLIP)
    members = [
        Member(hash256(b"pomona demo shop", network, bytes((owner, shop))), f"owner {owner + 1}")
        for owner in range(owners)
        for shop in range(1 + owner % 2)
    ]
    gave = {member.id: rng.gauss(MIDDLE, SPREAD) for member in members}
    plan = make_plan(network, 0, hash256(b"pomona demo epoch"), members)
    groups = [
        _group(_round(network, number, group, quantiser, rules), gave, quantiser)
        for number, group in enumerate(plan.groups)
    ]
    for group in groups:
        group.run()
    found = [group.sums() for group in groups]
    sums = [each for group in found if (each := group[0]) is not None]
    release = combine(sums, len(groups), quantiser)
    agreed = all(_holds(group, each) for group, each in zip(groups, found, strict=True))
    one, step = groups[0], CLIP / quantiser.steps
    shop = one.round.members[0].id
    sent = one.masked(shop)
    rho = max(_rho(group.round, quantiser) for group in groups)
    means = sorted(quantiser.mean(group.total(), group.round.weight(range(len(group.values))))[0] for group in groups)
    return Shown(
        owners=owners,
        shops=len(members),
        groups=len(groups),
        blocks=sum(len(feed) for group in groups for feed in group.feeds.values()),
        gave=gave[shop],
        sent=sent,
        alone=to_integers(unpack(sent, one.round.bits), one.round.bits)[0] * step,
        reach=2 ** (one.round.bits - 1) * step,
        mean=release.means[0],
        noise=release.noise_deviation,
        truth=means[len(means) // 2],
        epsilon=epsilon_of_rho(Fraction(rho), rules.delta),
        delta=float(rules.delta),
        rho=rho,
        pull=max(2 * CLIP / float(each.weight) for each in sums),
        agreed=agreed and len(sums) == len(groups),
    )


def _round(
    network: bytes, number: int, members: tuple[Member, ...], quantiser: Quantiser, rules: PrivacyRules
) -> Round:
    noise = variance_for(rules.rho, quantiser.sensitivity, len(members), quantiser.dimension)
    closers = tuple(member.id for member in members[:CLOSERS])
    size = quantiser.dimension, quantiser.steps
    return Round(network, 0, "log_mean/demo", number, members, closers, *size, noise)


def _group(round_: Round, gave: Mapping[bytes, float], quantiser: Quantiser) -> Group:
    members = zip(round_.members, round_.shops, strict=True)
    values = {member.id: quantiser.to_steps([gave[member.id]], shops) for member, shops in members}
    return Group(round_, values, secrets.randbits)


def _rho(round_: Round, quantiser: Quantiser) -> float:
    honest = honest_min(len(round_.members))
    return rho_of_sum(quantiser.sensitivity, round_.noise_variance, honest, quantiser.dimension)


def _holds(group: Group, sums: Sequence[Sum | None]) -> bool:
    """Whether all members found one sum over all of them, as far from the true one as their noise can reach."""
    first = sums[0]
    if first is None or any(each != first for each in sums) or len(first.survivors) != len(group.values):
        return False
    reach = NOISE_REACH * float(first.noise_variance) ** 0.5
    off = [abs(value - true) for value, true in zip(first.values, group.total(), strict=True)]
    return all(each <= reach for each in off)
