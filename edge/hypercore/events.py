"""What a core tells its listeners. Each is said after the fact, once it is durable: nothing said is ever taken back.

`Forgotten` alone speaks of what did not become durable: blocks that were accepted from a peer are not held after all,
because the disk refused them, and may be requested again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edge.errors import StorageError


@dataclass(frozen=True, slots=True)
class Grown:
    """The core is longer, knows more of who signs it, or may show more of itself."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Blocks `start` to `end` (exclusive) are held now."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Truncated:
    """Everything from block `length` on is gone, and the fork is `fork`."""

    length: int
    fork: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """Blocks `start` to `end` (exclusive) were given up, and are not held any more."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """A conflict is proven: nothing is written, taken or served any more."""


@dataclass(frozen=True, slots=True)
class Demanded:
    """Somebody here wants more of the core than it holds."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was accepted and not yet durable is gone, because of `error`."""

    error: StorageError


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing comes after this."""


Event = Grown | Stored | Truncated | Cleared | Frozen | Demanded | Forgotten | Closed
Listener = Callable[[Event], None]
