"""What has been read of a round: each sender's messages, in any order between senders, and what follows from them.

Invariants: a sender has one message of each kind and step, the first of its feed; the same bytes again change nothing,
other bytes are refused (`equivocation`). What is refused leaves no trace. Nothing here is decided by the order in which
feeds arrive: everything below is a function of the set of messages, so that whoever has read the same finds the same.

Memory is bounded by the round: members and closers times the kinds, each message within `SUM_MESSAGE_BYTES_MAX`.
"""

from edge.errors import RemoteError
from edge.privacy.secure_sum.masks import check_public_key
from edge.privacy.secure_sum.messages import (
    Abort,
    Ack,
    Cut,
    Keys,
    Masked,
    Message,
    Reveal,
    Shares,
    Step,
    cut_digest,
    decode,
    message_digest,
)
from edge.privacy.secure_sum.rounds import Round, RoundRefused

_NAMED: dict[Step, type[Keys] | type[Shares] | type[Masked]] = {
    Step.KEYS: Keys,
    Step.SHARES: Shares,
    Step.CLOSE: Masked,
}


class Board:
    """The messages of one round. Filled by `receive`, read by participant, closer and tally."""

    def __init__(self, round_: Round) -> None:
        self.round = round_
        self._messages: dict[tuple[bytes, type[Message], int], tuple[bytes, Message]] = {}
        self._cuts: dict[bytes, Cut] = {}
        self._numbers = {member.id: number for number, member in enumerate(round_.members)}

    def receive(self, sender: bytes, block: bytes) -> bool:
        """Take a block of `sender`'s feed; False if it was here. Raises `RemoteError` for what is not this round's."""
        message = decode(block, self.round.digest)
        step = message.step.value if isinstance(message, Cut) else 0
        place = (sender, type(message), step)
        before = self._messages.get(place)
        if before is not None:
            if before[0] != block:
                raise RemoteError("a second message of its kind by one sender", reason="equivocation")
            return False
        self._check(sender, message)
        self._messages[place] = (block, message)
        if isinstance(message, Cut):
            self._cuts.setdefault(cut_digest(block), message)
        return True

    def _check(self, sender: bytes, message: Message) -> None:
        count = len(self.round.members)
        if isinstance(message, Cut | Abort):
            if sender not in self.round.closers:
                raise RemoteError("its sender may not close this round", reason="not_a_closer")
        elif sender not in self._numbers:
            raise RemoteError("its sender is no member of this group", reason="not_a_member")
        match message:
            case Keys(box_key, mask_key):
                check_public_key(box_key), check_public_key(mask_key)
            case Cut(numbers=numbers):
                if numbers[-1] >= count:
                    raise RemoteError(f"a cut names member {numbers[-1]} of {count}")
            case Shares(boxes=cells) | Reveal(shares=cells):
                if len(cells) > count:
                    raise RemoteError(f"{len(cells)} shares in a group of {count}")
            case Masked(packed=packed):
                if len(packed) * 8 != self.round.dimension * self.round.bits:
                    raise RemoteError(f"a masked input of {len(packed)} bytes")
            case _:
                pass

    def cut(self, digest: bytes) -> Cut | None:
        """The cut with this digest, whoever made it."""
        return self._cuts.get(digest)

    def following(self, step: Step, parent: bytes) -> list[tuple[bytes, Cut]]:
        """Acceptable cuts of `step` after `parent` with their digests, in the order of the closers who made them."""
        found = []
        for closer in self.round.closers:
            block, cut = self._messages.get((closer, Cut, step.value), (b"", None))
            if isinstance(cut, Cut) and cut.parent == parent and self._acceptable(cut):
                found.append((cut_digest(block), cut))
        return found

    def _acceptable(self, cut: Cut) -> bool:
        before = self.cut(cut.parent)
        if cut.step == Step.KEYS:
            if cut.parent != self.round.digest:
                return False
        elif before is None or before.step != cut.step - 1 or not set(cut.numbers) <= set(before.numbers):
            return False
        try:
            self.round.check_survivors(cut.numbers)
        except RoundRefused:
            return False
        return True

    def candidates(self, step: Step, parent: bytes) -> dict[int, bytes]:
        """Digests of the messages that a cut of `step` after `parent` may name, by their senders' numbers."""
        before = self.cut(parent)
        numbers = range(len(self.round.members)) if before is None else before.numbers
        found = {}
        for number in numbers:
            block, message = self._message(number, _NAMED[step])
            if message is not None and self._fits(message, parent):
                found[number] = message_digest(block)
        return found

    def keys(self, cut: Cut) -> dict[int, Keys] | None:
        """The keys that a cut of step KEYS names; None while one is missing."""
        named = self._named(cut)
        return None if named is None else {number: each for number, each in named.items() if isinstance(each, Keys)}

    def shares(self, cut: Cut) -> dict[int, Shares] | None:
        """The shares that a cut of step SHARES names; None while one is missing."""
        named = self._named(cut)
        return None if named is None else {number: each for number, each in named.items() if isinstance(each, Shares)}

    def masked(self, cut: Cut) -> dict[int, Masked] | None:
        """The masked inputs that a close names; None while one is missing."""
        named = self._named(cut)
        return None if named is None else {number: each for number, each in named.items() if isinstance(each, Masked)}

    def _named(self, cut: Cut) -> dict[int, Message] | None:
        found: dict[int, Message] = {}
        for number, digest in zip(cut.numbers, cut.digests, strict=True):
            block, message = self._message(number, _NAMED[cut.step])
            if message is None or message_digest(block) != digest or not self._fits(message, cut.parent):
                return None
            found[number] = message
        return found

    def _message(self, number: int, kind: type[Message]) -> tuple[bytes, Message | None]:
        return self._messages.get((self.round.members[number].id, kind, 0), (b"", None))

    def _fits(self, message: Message, parent: bytes) -> bool:
        """Whether a message that a cut names belongs to the cut before it."""
        if isinstance(message, Shares):
            before = self.cut(parent)
            return message.parent == parent and before is not None and len(message.boxes) == len(before.numbers)
        return not isinstance(message, Masked) or message.parent == parent

    def chain(self, close: bytes) -> tuple[Cut, Cut, Cut] | None:
        """The cuts of steps KEYS, SHARES and CLOSE that end in this close; None while one is missing or none."""
        last = self.cut(close)
        middle = self.cut(last.parent) if last is not None else None
        first = self.cut(middle.parent) if middle is not None else None
        if first is None or middle is None or last is None or (first.step, last.step) != (Step.KEYS, Step.CLOSE):
            return None
        return (first, middle, last) if all(map(self._acceptable, (first, middle, last))) else None

    def acks(self, close: bytes, holders: tuple[int, ...]) -> int:
        """How many of these members hold to the close."""
        found = (self._message(number, Ack)[1] for number in holders)
        return sum(1 for ack in found if isinstance(ack, Ack) and ack.close == close)

    def acknowledged(self) -> bytes | None:
        """The close that enough members hold to: the only one while fewer than a third of them are dishonest."""
        for digest, cut in self._cuts.items():
            chain = self.chain(digest) if cut.step == Step.CLOSE else None
            if chain is not None and self.acks(digest, chain[0].numbers) >= self.round.threshold:
                return digest
        return None

    def reveals(self, close: bytes, holders: tuple[int, ...]) -> dict[int, Reveal]:
        """What these members revealed for the close, by number."""
        found = {number: self._message(number, Reveal)[1] for number in holders}
        return {number: each for number, each in found.items() if isinstance(each, Reveal) and each.close == close}

    def abort(self) -> str | None:
        """Why a closer gave up; None if none did."""
        found = (self._messages.get((closer, Abort, 0), (b"", None))[1] for closer in self.round.closers)
        return next((message.reason for message in found if isinstance(message, Abort)), None)
