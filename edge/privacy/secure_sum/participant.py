"""One member's part in a round: what to publish next, given what was read. Pure; randomness is an argument.

    participant = Participant(Board(round_), me, values, secrets.randbits)
    participant.receive(sender, block)      # blocks of others' feeds, and its own after they were appended
    blocks = participant.next()             # 1. choose
    keep(participant.export())              # 2. durable
    append(blocks)                          # 3. publish

Invariants:

- Record, then send: a message is chosen once. After a restart `restore` gives the same bytes again, or, where its own
  feed knows more than its state (a restored backup), it stops and publishes nothing more in this round.
- It follows one cut of each step, and acknowledges and reveals for one close. So it tells, for each member, a share of
  the self mask or a share of the mask key, never both.
- It reveals only for a close that `threshold` members acknowledged: a closer that shows different closes to different
  members gets shares for one of them at most.
- Its input is masked once, over the members of the cut of step SHARES. A close that it reads before it has published
  its input counts it out, and its input is never published.
- A member that was counted out still acknowledges and reveals: it holds others' shares.

The privacy budget of `values` must be durable before a `Participant` is made: its input leaves masked, and stays in the
sum, whether this member comes back or not.
"""

from collections.abc import Sequence
from typing import Self

from edge.errors import LocalError
from edge.privacy.mechanism import RandomBits, discrete_gaussian
from edge.privacy.secure_sum import state as states
from edge.privacy.secure_sum.board import Board
from edge.privacy.secure_sum.boxes import MASK, SELF, Passage, seal, unseal
from edge.privacy.secure_sum.masks import commitment, pack, pair_mask, public_key, secret_key, self_mask, to_vector
from edge.privacy.secure_sum.messages import (
    Abort,
    Ack,
    Cut,
    Keys,
    Kind,
    Masked,
    Message,
    Reveal,
    Shares,
    Step,
    decode,
    encode,
    message_digest,
)
from edge.privacy.secure_sum.rounds import Round
from edge.privacy.secure_sum.shamir import from_bytes, random_element, split, to_bytes
from edge.privacy.secure_sum.state import State

_CHOSEN = {Step.KEYS: Kind.KEYS, Step.SHARES: Kind.SHARES, Step.CLOSE: Kind.MASKED}


class Participant:
    """A member in a round. `values`: integers of the quantiser, within this member's part of the owner's bound.

    Raises `LocalError` for a stranger to the round, or for values beyond the bound: they were not quantised.
    """

    def __init__(self, board: Board, me: bytes, values: Sequence[int], random_bits: RandomBits) -> None:
        number = board.round.number(me)
        if number is None:
            raise LocalError("not a member of this round")
        check_values(board.round, number, values)
        box_secret = random_bits(256).to_bytes(32, "little")
        mask_seed, self_seed = (to_bytes(random_element(random_bits)) for _ in range(2))
        state = State(number, tuple(values), box_secret, mask_seed, self_seed, [], {}, "")
        self._begin(board, state, random_bits)

    @classmethod
    def restore(cls, board: Board, state: bytes, own: Sequence[bytes], random_bits: RandomBits) -> Self:
        """A participant that continues from `export`. `own`: its blocks of this round in its own feed, all of them.

        The other feeds are given to `receive` again. Raises `StorageError` for bytes that are no state of this round.
        """
        self = cls.__new__(cls)
        self._begin(board, states.decode(state, board.round.digest), random_bits)
        for block in own:
            self.receive(self.id, block)
        return self

    def _begin(self, board: Board, state: State, random_bits: RandomBits) -> None:
        self.board = board
        self._round = board.round
        self._state = state
        self._random_bits = random_bits
        self._published: set[bytes] = set()
        self.id = self._round.members[state.number].id

    def export(self) -> bytes:
        """What must be durable before the blocks that `next` gave are published."""
        return states.encode(self._state, self._round.digest)

    @property
    def stopped(self) -> str | None:
        """Why this member takes no further part: `late`, `aborted`, `state_behind`; None while it does."""
        return self._state.stopped or None

    @property
    def done(self) -> bool:
        """Whether nothing is left to be chosen: its shares are revealed, or it stopped."""
        return bool(self._state.stopped) or Kind.REVEAL in self._state.made

    def receive(self, sender: bytes, block: bytes) -> None:
        """Take a block of a feed; its own too, once they were appended. Raises `RemoteError`, and is then unchanged."""
        if sender == self.id:
            message = decode(block, self._round.digest)
            if block not in self._state.made.values() and not isinstance(message, Cut | Abort):
                self._stop("state_behind")  # our feed says what this state does not know: it is an older copy
                return
            self._published.add(block)
        self.board.receive(sender, block)

    def next(self) -> list[bytes]:
        """The blocks to publish now, oldest first: chosen and not seen in its own feed. Call after every `receive`."""
        while not self.done and self._advance():
            pass
        if self._state.stopped:
            return []
        closed = len(self._state.cuts) > Step.CLOSE
        waiting = [(kind, block) for kind, block in self._state.made.items() if block not in self._published]
        return [block for kind, block in waiting if not (closed and kind == Kind.MASKED)]

    # --- one step ----------------------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """Choose one thing, if it can be chosen now."""
        state = self._state
        if self.board.abort() is not None:
            self._stop("aborted")
            return False
        if Kind.KEYS not in state.made:
            keys = Keys(public_key(state.box_secret), public_key(secret_key(state.mask_seed)))
            return self._choose(Kind.KEYS, keys)
        cuts = [self.board.cut(digest) for digest in state.cuts]
        match cuts:
            case []:
                return self._follow(Step.KEYS, self._round.digest)
            case [Cut() as keys_cut]:
                if Kind.SHARES not in state.made and self._share(keys_cut):
                    return True
                return self._follow(Step.SHARES, state.cuts[0])
            case [Cut() as keys_cut, Cut() as shares_cut]:
                if self._follow(Step.CLOSE, state.cuts[1]):
                    return True
                wanted = Kind.MASKED not in state.made and state.number in shares_cut.numbers
                return wanted and self._mask(keys_cut, shares_cut)
            case [Cut() as keys_cut, Cut() as shares_cut, Cut() as close]:
                if Kind.ACK not in state.made:
                    return self._choose(Kind.ACK, Ack(state.cuts[2]))
                if self.board.acks(state.cuts[2], keys_cut.numbers) < self._round.threshold:
                    return False
                return self._reveal(keys_cut, shares_cut, close)
        return False  # a cut that it follows was not read again yet

    def _follow(self, step: Step, parent: bytes) -> bool:
        """Follow the first acceptable cut, if it names our own message where it names us."""
        state = self._state
        for digest, cut in self.board.following(step, parent):
            if state.number in cut.numbers:
                chosen = state.made.get(_CHOSEN[step])
                if chosen is None or message_digest(chosen) != cut.digests[cut.numbers.index(state.number)]:
                    continue  # says that we published what we did not
            elif step == Step.KEYS:
                self._stop("late")  # nobody will share with us: we can neither give an input nor help
                return False
            state.cuts.append(digest)
            if step == Step.CLOSE:
                state.values, state.mask_seed, state.self_seed = (), b"", b""
            return True
        return False

    def _share(self, keys_cut: Cut) -> bool:
        keys = self.board.keys(keys_cut)
        if keys is None:
            return False
        state, context = self._state, self._round.digest
        seeds = [from_bytes(state.self_seed), from_bytes(state.mask_seed)]
        dealt = [split(seed, self._round.threshold, keys_cut.numbers, self._random_bits) for seed in seeds]
        sealed = [
            seal(Passage(context, state.number, holder), (own, mask), keys[holder].box_key, state.box_secret)
            for holder, own, mask in zip(keys_cut.numbers, *dealt, strict=True)
        ]
        boxes, digests = zip(*sealed, strict=True)
        return self._choose(Kind.SHARES, Shares(state.cuts[0], commitment(state.self_seed), boxes, digests))

    def _mask(self, keys_cut: Cut, shares_cut: Cut) -> bool:
        keys = self.board.keys(keys_cut)
        if keys is None or self.board.shares(shares_cut) is None:
            return False
        state, round_ = self._state, self._round
        size = round_.dimension, round_.bits
        secret = secret_key(state.mask_seed)
        total = to_vector([value + self._noise() for value in state.values]) + self_mask(state.self_seed, *size)
        for other in shares_cut.numbers:
            if other != state.number:
                total += pair_mask(secret, keys[other].mask_key, round_.digest, (state.number, other), size)
        state.values, state.mask_seed, state.self_seed = (), b"", b""
        return self._choose(Kind.MASKED, Masked(state.cuts[1], pack(total, round_.bits)))

    def _noise(self) -> int:
        variance = self._round.noise_variance
        return discrete_gaussian(variance, self._random_bits) if variance else 0

    def _reveal(self, keys_cut: Cut, shares_cut: Cut, close: Cut) -> bool:
        keys, dealt = self.board.keys(keys_cut), self.board.shares(shares_cut)
        if keys is None or dealt is None:
            return False
        state = self._state
        place = keys_cut.numbers.index(state.number)
        revealed: list[bytes | None] = []
        for dealer, shares in dealt.items():
            passage = Passage(self._round.digest, dealer, state.number)
            content = shares.boxes[place], shares.share_digests[place]
            pair = unseal(passage, *content, keys[dealer].box_key, state.box_secret)
            revealed.append(pair and pair[SELF if dealer in close.numbers else MASK])
        state.box_secret = b""
        return self._choose(Kind.REVEAL, Reveal(state.cuts[2], tuple(revealed)))

    def _choose(self, kind: Kind, message: Message) -> bool:
        assert kind not in self._state.made
        self._state.made[kind.value] = encode(message, self._round.digest)
        return True

    def _stop(self, reason: str) -> None:
        state = self._state
        state.stopped = state.stopped or reason
        state.values, state.box_secret, state.mask_seed, state.self_seed = (), b"", b"", b""


def check_values(round_: Round, number: int, values: Sequence[int]) -> None:
    """Raise `LocalError` unless `values` fit the round and this member's part of its owner's bound."""
    if len(values) != round_.dimension:
        raise LocalError(f"{len(values)} values for a sum of {round_.dimension}")
    if sum(value * value for value in values) * round_.shops[number] ** 2 > round_.clip**2:
        raise LocalError("a contribution beyond its owner's bound: it was not quantised")
