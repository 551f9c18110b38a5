"""A group's round in memory: feeds that arrive late and in any order, members that leave, crash and return."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeVar

from edge.crypto.hashing import hash256
from edge.privacy.secure_sum.board import Board
from edge.privacy.secure_sum.boxes import MASK, SELF, Passage, share_digest, unseal
from edge.privacy.secure_sum.closer import Closer
from edge.privacy.secure_sum.messages import Keys, Reveal, Shares, Step, decode
from edge.privacy.secure_sum.participant import Participant
from edge.privacy.secure_sum.rounds import Member, Round, RoundRefused
from edge.privacy.secure_sum.shamir import from_bytes
from edge.privacy.secure_sum.state import State
from edge.privacy.secure_sum.state import decode as decode_state
from edge.privacy.secure_sum.tally import Sum, Tally

M = TypeVar("M")

NETWORK = bytes(range(32))


def member(number: int, owner: str) -> Member:
    return Member(hash256(b"member", number.to_bytes(4, "big")), owner)


def people(owners: int, shops_each: int = 1) -> tuple[Member, ...]:
    shops = [(owner, owner * shops_each + shop) for owner in range(owners) for shop in range(shops_each)]
    return tuple(sorted(member(number, f"owner {owner}") for owner, number in shops))


def make_round(
    members: Sequence[Member], *, dimension: int = 3, clip: int = 1000, noise: Fraction = Fraction(0), closers: int = 2
) -> Round:
    group = tuple(sorted(members))
    closing = tuple(each.id for each in group[:closers])
    return Round(NETWORK, 2900, "log_mean/juice", 0, group, closing, dimension, clip, noise)


def random_values(round_: Round, rng: random.Random) -> list[tuple[int, ...]]:
    """For each member, values within its part of its owner's bound."""
    found = []
    for shops in round_.shops:
        reach = int(round_.clip / shops / round_.dimension**0.5)
        found.append(tuple(rng.randint(-reach, reach) for _ in range(round_.dimension)))
    return found


def total(values: Sequence[Sequence[int]], survivors: Sequence[int]) -> tuple[int, ...]:
    return tuple(sum(values[number][place] for number in survivors) for place in range(len(values[0])))


@dataclass
class Box:
    """One member's box: what is durable survives a crash, the rest does not."""

    participant: Participant
    durable: bytes
    read: dict[bytes, int] = field(default_factory=dict)  # of each feed, blocks delivered since the last start


class World:
    """All boxes of a group, their feeds, and a seeded schedule."""

    def __init__(self, round_: Round, values: Sequence[Sequence[int]], seed: int) -> None:
        self.round = round_
        self.values = values
        self.rng = random.Random(seed)
        self.feeds: dict[bytes, list[bytes]] = {each.id: [] for each in round_.members}
        self.feeds |= {closer: [] for closer in round_.closers if closer not in self.feeds}
        self.boxes: dict[bytes, Box] = {}
        for each, mine in zip(round_.members, values, strict=True):
            participant = Participant(Board(round_), each.id, mine, self.rng.getrandbits)
            self.boxes[each.id] = Box(participant, participant.export())
        self.offline: set[bytes] = set()

    @property
    def ids(self) -> list[bytes]:
        return [each.id for each in self.round.members]

    def online(self) -> list[bytes]:
        return [each for each in self.ids if each not in self.offline]

    def deliver(self, reader: bytes, writer: bytes) -> bool:
        """Give the reader the next block of the writer's feed."""
        box = self.boxes[reader]
        at = box.read.get(writer, 0)
        if at >= len(self.feeds[writer]) or (writer != reader and writer in self.offline and self.rng.random() < 0.5):
            return False
        box.read[writer] = at + 1
        if writer != reader:
            box.participant.receive(writer, self.feeds[writer][at])
        return True

    def publish(self, who: bytes, crash: str = "") -> bool:
        """Choose, make durable, append, confirm; and fall over at one of the four places."""
        box = self.boxes[who]
        blocks = box.participant.next()
        if crash == "chosen":
            self.restart(who)
            return False
        box.durable = box.participant.export()
        if crash == "durable":
            self.restart(who)
            return False
        for block in blocks:
            self.feeds[who].append(block)
            if crash == "appended":
                self.restart(who)
                return True
            box.participant.receive(who, block)
        return bool(blocks)

    def restart(self, who: bytes, state: bytes | None = None) -> None:
        """Start again from what is durable; other feeds are read from their beginning."""
        board = Board(self.round)
        own = self.feeds[who]
        state = self.boxes[who].durable if state is None else state
        self.boxes[who] = Box(Participant.restore(board, state, own, self.rng.getrandbits), state)

    def close(self, who: bytes, *, least: int = 0) -> bool:
        """A closer makes its next cut, if it may and at least so many have come."""
        board = self.boxes[who].participant.board
        closer = Closer(board, who)
        arrived = closer.arrived()
        if arrived is None or arrived[1] < least:
            return False
        try:
            block = closer.cut()
        except RoundRefused:
            return False
        if block is not None:
            self.feeds[who].append(block)
            self.boxes[who].participant.receive(who, block)
        return block is not None

    def abort(self, who: bytes, reason: str) -> None:
        """A closer gives the round up."""
        block = Closer(self.board(), who).abort(reason)
        self.feeds[who].append(block)
        self.boxes[who].participant.receive(who, block)

    def mix(self, steps: int, crashes: float = 0.0) -> None:
        """Random deliveries and publications among those who are online."""
        online = self.online()
        for _ in range(steps):
            who = self.rng.choice(online)
            if self.rng.random() < 0.25:
                crash = self.rng.choice(["chosen", "durable", "appended"]) if self.rng.random() < crashes else ""
                self.publish(who, crash)
            else:
                for _ in range(self.rng.randint(1, 3)):
                    self.deliver(who, self.rng.choice(list(self.feeds)))

    def settle(self) -> None:
        """Until nobody who is online has anything to read or to say. Offline members' feeds are read where they got."""
        busy = True
        while busy:
            busy = False
            for who in self.online():
                for writer in self.feeds:
                    box = self.boxes[who]
                    for block in self.feeds[writer][box.read.get(writer, 0) :]:
                        if writer != who:
                            box.participant.receive(writer, block)
                        box.read[writer] = len(self.feeds[writer])
                busy |= self.publish(who)

    def run(self) -> None:
        """Everybody present, nothing lost: all steps to the end."""
        closer = self.round.closers[0]
        for _ in Step:
            self.settle()
            self.close(closer)
        self.settle()

    def board(self) -> Board:
        """What somebody sees who has read every feed."""
        board = Board(self.round)
        for writer, blocks in self.feeds.items():
            for block in blocks:
                board.receive(writer, block)
        return board

    def result(self) -> Sum | None:
        return Tally(self.board()).result()


# --- what somebody knows ----------------------------------------------------------------------------------------------


def secrets_of(world: World) -> list[State]:
    """Every member's secrets, taken before anything was said."""
    return [decode_state(world.boxes[who].durable, world.round.digest) for who in world.ids]


def published(world: World, kind: type[M]) -> dict[int, M]:
    """Messages of a kind by their senders' numbers, from the feeds."""
    found: dict[int, M] = {}
    for number, who in enumerate(world.ids):
        for block in world.feeds[who]:
            message = decode(block, world.round.digest)
            if isinstance(message, kind):
                found[number] = message
    return found


def known_shares(world: World, colluders: Iterable[int], secrets: list[State]) -> dict[tuple[int, int], dict[int, int]]:
    """By (dealer, which): the shares that the colluders know: revealed by anybody, or sent to one of them."""
    keys, dealt = published(world, Keys), published(world, Shares)
    known: dict[tuple[int, int], dict[int, int]] = {(dealer, which): {} for dealer in dealt for which in (SELF, MASK)}
    order = tuple(keys)
    for dealer, shares in dealt.items():
        for holder in colluders:
            place = order.index(holder)
            pair = unseal(
                Passage(world.round.digest, dealer, holder),
                shares.boxes[place],
                shares.share_digests[place],
                keys[dealer].box_key,
                secrets[holder].box_secret,
            )
            assert pair is not None
            for which in (SELF, MASK):
                known[dealer, which][holder] = from_bytes(pair[which])
    for holder, reveal in published(world, Reveal).items():
        for dealer, share in zip(dealt, reveal.shares, strict=True):
            assert share is not None
            digests = dealt[dealer].share_digests[order.index(holder)]
            shown = share_digest(Passage(world.round.digest, dealer, holder), SELF, share)
            known[dealer, SELF if digests.startswith(shown) else MASK][holder] = from_bytes(share)
    return known


def until_masked(world: World, closer: bytes) -> None:
    """All inputs are published, nothing is closed."""
    for _ in (Step.KEYS, Step.SHARES):
        world.settle()
        assert world.close(closer)
    world.settle()
