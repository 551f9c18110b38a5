"""The messages of a round, each one block of its sender's feed: a canonical CBOR array `[kind, version, round, ...]`.

    1 keys    two X25519 keys of this round: for the shares sent to its sender, and for the pair masks
    2 cut     a closer fixes who goes on, and with which message; step 0 after keys, 1 after shares, 2 closes the round
    3 shares  of the seeds of its sender's self mask and mask key, one box for each holder
    4 masked  the masked input
    5 ack     the close that its sender holds to
    6 reveal  one share for each member that published shares: of the self mask where it survived, else of the mask key
    7 abort   a closer gives the round up

`round` is the round's digest. Where a message names a cut it is by digest, `Cut.digest`: hash of its bytes without the
sender, so that two closers who saw the same make the same cut. Messages say nothing of their sender: the feed does.
`encode(decode(block)) == block`; `decode` raises `RemoteError` and nothing else.
"""

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any, Final

from edge.crypto.hashing import HASH_BYTES, hash256
from edge.encoding import cbor
from edge.errors import RemoteError
from edge.limits import SUM_MEMBERS_MAX, SUM_MESSAGE_BYTES_MAX
from edge.privacy.secure_sum.shamir import ELEMENT_BYTES

VERSION: Final = 1
BOX_BYTES: Final = 2 * ELEMENT_BYTES + 16  # both shares and the authenticator
SHARE_DIGEST_BYTES: Final = 2 * HASH_BYTES  # one of each share
REASON_CHARS_MAX: Final = 64

_CUT: Final = b"pomona/secure-sum/cut/1"
_MESSAGE: Final = b"pomona/secure-sum/message/1"


class Kind(IntEnum):
    """First element of a message."""

    KEYS = 1
    CUT = 2
    SHARES = 3
    MASKED = 4
    ACK = 5
    REVEAL = 6
    ABORT = 7


class Step(IntEnum):
    """What a cut fixes: the members whose keys, whose shares, whose inputs are used."""

    KEYS = 0
    SHARES = 1
    CLOSE = 2


@dataclass(frozen=True, slots=True)
class Keys:
    """Public keys of one member for one round."""

    box_key: bytes  # shares for this member are encrypted to it
    mask_key: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """Members that go on, by number, each with the digest of the message that counts. `parent`: the cut before."""

    step: Step
    parent: bytes  # of step KEYS: the round's digest
    numbers: tuple[int, ...]  # ascending
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Shares:
    """A member's shares, for the members of the cut `parent` in its order."""

    parent: bytes
    commitment: bytes  # to the seed of the self mask
    boxes: tuple[bytes, ...]
    share_digests: tuple[bytes, ...]  # of what is in each box: digest of the self share ‖ digest of the mask share


@dataclass(frozen=True, slots=True)
class Masked:
    """The masked input of a member: `dimension` values of `bits / 8` bytes. `parent`: the cut of step SHARES."""

    parent: bytes
    packed: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """Its sender holds to this close and to no other."""

    close: bytes


@dataclass(frozen=True, slots=True)
class Reveal:
    """One share for each member of the cut of step SHARES, in its order; None where its sender was dealt a bad one."""

    close: bytes
    shares: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Abort:
    """The round is given up."""

    reason: str


Message = Keys | Cut | Shares | Masked | Ack | Reveal | Abort


def encode(message: Message, round_digest: bytes) -> bytes:
    """The block of a message of the round with this digest."""
    body: list[object]
    match message:
        case Keys(box_key, mask_key):
            kind, body = Kind.KEYS, [box_key, mask_key]
        case Cut(step, parent, numbers, digests):
            kind, body = Kind.CUT, [step.value, parent, list(numbers), b"".join(digests)]
        case Shares(parent, commitment, boxes, digests):
            kind, body = Kind.SHARES, [parent, commitment, b"".join(boxes), b"".join(digests)]
        case Masked(parent, packed):
            kind, body = Kind.MASKED, [parent, packed]
        case Ack(close):
            kind, body = Kind.ACK, [close]
        case Reveal(close, shares):
            kind, body = Kind.REVEAL, [close, list(shares)]
        case Abort(reason):
            kind, body = Kind.ABORT, [reason]
    return cbor.encode([kind.value, VERSION, round_digest, *body])


def decode(block: bytes, round_digest: bytes) -> Message:
    """The message in `block`. Raises `RemoteError`: malformed, of an unknown kind or version, or of another round."""
    value = cbor.decode(block, bytes_max=SUM_MESSAGE_BYTES_MAX)
    if not isinstance(value, list) or len(value) < 4:
        raise RemoteError("a message of a secure sum is an array")
    kind, version, named, *body = value
    if type(kind) is not int or type(version) is not int or version != VERSION:
        raise RemoteError(f"version {version!r} of a secure sum's message", reason="unknown_version")
    if named != round_digest:
        raise RemoteError("a message of another round", reason="other_round")
    match kind, body:
        case Kind.KEYS, [box_key, mask_key]:
            return Keys(_hash(box_key), _hash(mask_key))
        case Kind.CUT, [step, parent, numbers, digests]:
            return _cut(step, _hash(parent), numbers, digests)
        case Kind.SHARES, [parent, commitment, boxes, digests]:
            cells = _cells(boxes, BOX_BYTES), _cells(digests, SHARE_DIGEST_BYTES)
            if len(cells[0]) != len(cells[1]):
                raise RemoteError("as many boxes as digests of shares")
            return Shares(_hash(parent), _hash(commitment), *cells)
        case Kind.MASKED, [parent, packed]:
            return Masked(_hash(parent), _bytes(packed))
        case Kind.ACK, [close]:
            return Ack(_hash(close))
        case Kind.REVEAL, [close, list(shares)]:
            if len(shares) > SUM_MEMBERS_MAX:
                raise RemoteError("more shares than members")
            return Reveal(_hash(close), tuple(None if share is None else _hash(share) for share in shares))
        case Kind.ABORT, [str(reason)]:
            if not 1 <= len(reason) <= REASON_CHARS_MAX or not reason.isprintable():
                raise RemoteError("a reason is a short line")
            return Abort(reason)
    raise RemoteError(f"unknown kind {kind!r}, or a wrong body", reason="unknown_kind")


def cut_digest(block: bytes) -> bytes:
    """By what a cut is named, from its bytes."""
    return hash256(_CUT, block)


def message_digest(block: bytes) -> bytes:
    """By what a cut names the message that counts, from its bytes."""
    return hash256(_MESSAGE, block)


def _cut(step: Any, parent: bytes, numbers: Any, digests: Any) -> Cut:
    if type(step) is not int or step not in tuple(Step) or not isinstance(numbers, list):
        raise RemoteError("a cut: step or numbers")
    if not 1 <= len(numbers) <= SUM_MEMBERS_MAX or any(type(number) is not int for number in numbers):
        raise RemoteError("a cut names 1 to 128 members by number")
    if numbers[0] < 0 or any(one >= other for one, other in pairwise(numbers)):
        raise RemoteError("a cut's numbers ascend from 0")
    cells = _cells(digests, HASH_BYTES)
    if len(cells) != len(numbers):
        raise RemoteError("as many members as digests")
    return Cut(Step(step), parent, tuple(numbers), cells)


def _bytes(value: Any) -> bytes:
    if type(value) is not bytes:
        raise RemoteError("bytes are expected")
    return value


def _hash(value: Any) -> bytes:
    if len(_bytes(value)) != HASH_BYTES:
        raise RemoteError(f"{HASH_BYTES} bytes are expected")
    return bytes(value)


def _cells(value: Any, size: int) -> tuple[bytes, ...]:
    data = _bytes(value)
    if len(data) % size or len(data) > size * SUM_MEMBERS_MAX:
        raise RemoteError(f"cells of {size} bytes are expected")
    return tuple(data[at : at + size] for at in range(0, len(data), size))
