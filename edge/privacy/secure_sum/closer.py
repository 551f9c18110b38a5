"""A closer: fixes, step by step, who goes on. When it does so is its caller's decision; here is no clock.

It need not be trusted with anything but the round's end: what it can do is leave members out, or make the round fail.
All closers of a round run the same code; the second continues where the first fell silent, because each cut names the
one before it. A closer appends a cut to its feed and gives it to `Board.receive` before it asks for the next; after a
restart its own feed is read first, so that it never makes a second cut of a step.
"""

from edge.errors import LocalError
from edge.privacy.secure_sum.board import Board
from edge.privacy.secure_sum.messages import Abort, Cut, Step, encode


class Closer:
    """What a closer says next, from what it has read. Raises `LocalError` for one who may not close the round."""

    def __init__(self, board: Board, me: bytes) -> None:
        if me not in board.round.closers:
            raise LocalError("not a closer of this round")
        self.board = board
        self.id = me

    def arrived(self) -> tuple[Step, int] | None:
        """The step that a cut would fix now, and how many members it would name; None once the round is closed."""
        place = self._place()
        return None if place is None else (place[0], len(self.board.candidates(*place)))

    def cut(self) -> bytes | None:
        """The next cut, over all who have come so far; None once the round is closed.

        Raises `RoundRefused` while too few members or owners have come: wait longer, or abort.
        """
        place = self._place()
        if place is None:
            return None
        named = self.board.candidates(*place)
        self.board.round.check_survivors(named)
        numbers = tuple(sorted(named))
        cut = Cut(*place, numbers, tuple(named[number] for number in numbers))
        return encode(cut, self.board.round.digest)

    def abort(self, reason: str) -> bytes:
        """The message that ends the round: members that have not revealed yet never will."""
        return encode(Abort(reason), self.board.round.digest)

    def _place(self) -> tuple[Step, bytes] | None:
        parent = self.board.round.digest
        for step in Step:
            found = self.board.following(step, parent)
            if not found:
                return step, parent
            parent = found[0][0]
        return None
