"""What a participant must not forget between two messages: its secrets, the cuts it follows, the messages it chose.

A canonical CBOR array, version 1 (FORMATS.md, "Secure sums"). It holds an input before it is masked and keys that open
shares: it is written to a file that nobody else may read, replaced as a whole, durable before a message of it is
published, and removed when the round is over. Secrets are dropped from it as soon as the protocol needs them no more.
Other members' messages are not in it: their feeds are read again.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from edge.encoding import cbor
from edge.errors import RemoteError, StorageError, StorageFault

VERSION: Final = 1


@dataclass(slots=True)
class State:
    """A participant's own part of a round."""

    number: int
    values: tuple[int, ...] = field(repr=False)
    box_secret: bytes = field(repr=False)  # X25519; empty once shares were revealed
    mask_seed: bytes = field(repr=False)  # of the key of pair masks; empty once the input is masked or refused
    self_seed: bytes = field(repr=False)  # the same for the self mask
    cuts: list[bytes]  # digests of the cuts that it follows, by step
    made: dict[int, bytes]  # messages chosen, by kind, in the order in which they are published
    stopped: str  # why it takes no part any more; empty while it does


def encode(state: State, round_digest: bytes) -> bytes:
    """The bytes to keep."""
    secrets = [list(state.values), state.box_secret, state.mask_seed, state.self_seed]
    made: list[Any] = [[kind, block] for kind, block in state.made.items()]
    return cbor.encode([VERSION, round_digest, state.number, secrets, state.cuts, made, state.stopped])


def decode(data: bytes, round_digest: bytes) -> State:
    """Inverse of `encode`. Raises `StorageError` (CORRUPT) for anything else, another round's state among it."""
    try:
        value: Any = cbor.decode(data)
        match value:
            case [1, digest, int(number), secrets, list(cuts), list(made), str(why)]:
                values, box, mask, own = secrets
                blocks = {kind: bytes(block) for kind, block in made}
                if digest == round_digest:
                    return State(number, tuple(values), box, mask, own, cuts, blocks, why)
            case _:
                pass
    except (RemoteError, ValueError, TypeError) as error:
        raise StorageError(f"state of a secure sum: {error}", fault=StorageFault.CORRUPT) from error
    raise StorageError("not the state of this round of a secure sum", fault=StorageFault.CORRUPT)
