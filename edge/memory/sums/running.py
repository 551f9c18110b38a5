"""One group's round on this box: what was read of it, this box's parts in it, and what of them outlives a restart.

    kept        canonical CBOR [1, round, stage, since, state]      (FORMATS.md, "A round on a box")

`stage` and `since` are the step that waits for a cut and the business day (ordinal) since when, for a closer; `state`
is the participant's own (`secure_sum.state`), empty where this box takes no part. The file is in the network's folder,
readable by its owner alone, replaced as a whole before anything that it knows is published, removed once this box has
nothing more to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from edge.encoding import cbor
from edge.errors import RemoteError, StorageError, StorageFault
from edge.memory.sums.terms import Asked
from edge.privacy.mechanism import RandomBits
from edge.privacy.secure_sum import Board, Closer, Participant, Round, Tally
from edge.privacy.secure_sum.messages import Abort, Cut, Step, decode

FORMAT: Final = 1
CLOSED: Final = len(Step)  # stage: nothing waits for a cut any more
HOURS_A_DAY: Final = 24
LISTEN_S: Final = 900.0  # after a start, before days that passed meanwhile count
STAGES_MAX: Final = 7  # stages' lengths that one stage waits for enough members, before the round is given up


@dataclass(frozen=True, slots=True)
class Kept:
    """What a state file holds."""

    stage: int
    since: int  # ordinal of a business day
    state: bytes

    def encode(self, round_digest: bytes) -> bytes:
        """The file's content."""
        return cbor.encode([FORMAT, round_digest, self.stage, self.since, self.state])


def decode_kept(data: bytes, round_digest: bytes) -> Kept:
    """Inverse of `Kept.encode`. Raises `StorageError` (CORRUPT) for anything else."""
    try:
        value: Any = cbor.decode(data)
    except RemoteError as error:
        raise StorageError(f"a round's file: {error}", fault=StorageFault.CORRUPT) from error
    match value:
        case [int(form), digest, int(stage), int(since), bytes(state)] if form == FORMAT and digest == round_digest:
            return Kept(stage, since, state)
    raise StorageError("not the file of this round of a sum", fault=StorageFault.CORRUPT)


class Running:
    """A round. `me`: our id; `asked.rounds[group]` is the round."""

    def __init__(self, asked: Asked, group: int, me: bytes) -> None:
        self.asked: Final = asked
        self.round: Final[Round] = asked.rounds[group]
        self.board: Final = Board(self.round)
        self.tally: Final = Tally(self.board)
        self.closer: Final = Closer(self.board, me) if me in self.round.closers else None
        self.participant: Participant | None = None
        self.declined = ""  # why this box takes no part; empty: it does, or has not been asked yet
        self.waiting: bytes | None = None  # a cut or abort that may stand in our feed or not: never another one
        self.saved: bytes | None = None  # what the file holds
        self._me = me
        self._stage = -1
        self._since_s: float | None = None
        self._since_day = 0

    @property
    def digest(self) -> bytes:
        """The round's."""
        return self.round.digest

    @property
    def active(self) -> bool:
        """Whether this box still has something to say as a member."""
        return self.participant is not None and not self.participant.done

    @property
    def engaged(self) -> bool:
        """Whether the round has begun: it is known who is in it."""
        return bool(self.board.following(Step.KEYS, self.digest))

    def receive(self, sender: bytes, block: bytes) -> None:
        """Take a block of a feed. Raises `RemoteError`, and is then unchanged."""
        if self.participant is not None:
            self.participant.receive(sender, block)
        else:
            self.board.receive(sender, block)

    def restore(self, kept: Kept | None, own: Sequence[bytes], random_bits: RandomBits) -> None:
        """Continue from the round's file and what our own feed holds of the round.

        Who said something as a member and has no state of it any more takes no further part. Raises `StorageError` for
        a state that cannot be read, `RemoteError` where the feed holds what this software does not understand.
        """
        if kept is not None:
            self._stage, self._since_day, self.saved = kept.stage, kept.since, kept.encode(self.digest)
        if kept is not None and kept.state:
            self.participant = Participant.restore(self.board, kept.state, own, random_bits)
            return
        if any(not isinstance(decode(block, self.digest), Cut | Abort) for block in own):
            self.declined = "no_state"
        for block in own:
            self.board.receive(self._me, block)

    def kept(self) -> bytes:
        """What must be durable before what this box has chosen is published."""
        state = b"" if self.participant is None else self.participant.export()
        return Kept(max(self._stage, 0), self._since_day, state).encode(self.digest)

    # --- closing -----------------------------------------------------------------------------------------------------

    def place(self) -> tuple[int, int, int]:
        """The step that waits for a cut (CLOSED: none), how many members a cut would name, and how many there are."""
        assert self.closer is not None
        arrived = self.closer.arrived()
        if arrived is None:
            return CLOSED, 0, 0
        step, parent, count = arrived[0], self.digest, len(self.round.members)
        for before in Step:
            if before == step:
                break
            parent, cut = self.board.following(before, parent)[0]
            count = len(cut.numbers)
        return step.value, arrived[1], count

    def waited(self, stage: int, today: date, now: float, hours: int) -> float:
        """For how many lengths of a stage this one has waited; begun anew where it is another than at the last call.

        By monotonic time since this box runs; over restarts by business days, of which one more must pass, and never
        before a box that has just started has had time to hear what others said meanwhile.
        """
        if stage != self._stage:
            self._stage, self._since_s, self._since_day = stage, now, today.toordinal()
        elif self._since_s is None:
            self._since_s = now
        here = max(now - self._since_s, 0.0)
        days = (today.toordinal() - self._since_day - 1) * HOURS_A_DAY / hours
        return max(here / (hours * 3600.0), days if here >= LISTEN_S else 0.0)

    def turn(self) -> int:
        """Our place among the closers, from 1."""
        return self.round.closers.index(self._me) + 1
