"""Fuzz entry points of replication: a peer that knows the key and may send anything, at any moment, in any order.

What may come of it is `RemoteError` at the connection. Whatever was sent, the core holds nothing but the writer's
blocks and nodes, what is kept of the peer stays within its limits, and the planner's books agree.

The cores are in memory, but proofs, signatures and forks are real, and where the bytes say so the peer answers as an
honest one would, so that what is wrong comes late, too.
"""

import asyncio
import atexit
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from support_memory_core import MemoryCore
from support_network import Clock

from edge.crypto.keys import KeyPair
from edge.errors import BlockMissing, RemoteError
from edge.hypercore.messages import (
    NOT_AVAILABLE,
    Bitfield,
    BlockRef,
    Cancel,
    Data,
    Extension,
    Handshake,
    MessageType,
    NoData,
    Range,
    Request,
    SeekRef,
    Sync,
    Unwant,
    UpgradeRef,
    Want,
    decode_request,
)
from edge.hypercore.replicator import Replicator, Session
from edge.hypercore.replicator.session import capability
from edge.limits import (
    REMOTE_EDGES_MAX,
    REQUESTS_IN_FLIGHT_MAX,
    REQUESTS_QUEUED_MAX,
    STASH_REPLIES_MAX,
    STRIKES_MAX,
    WANTS_MAX,
)

_PAIR: Final = KeyPair.from_seed(b"\x07" * 32)
_SECRET: Final = bytes(range(64))
_LENGTH: Final = 70
_HALF: Final = 37
_ROLES: Final = ("writer", "fresh", "half", "sparse", "unlearned", "behind")
_SECONDS: Final = (0.01, 0.5, 1.5, 5.0, 9.0)
_PIECES_BYTES_MAX: Final = 1200  # the last piece may begin here
_ASKED_MAX: Final = 600  # requests that the honest side of the peer remembers


# --- cores ------------------------------------------------------------------------------------------------------------


def _blocks(count: int, about: bytes) -> list[bytes]:
    return [about * (index % 5) + bytes([index % 251]) for index in range(count)]


@cache
def _writer() -> MemoryCore:
    core = MemoryCore.writer(_PAIR)
    core.append(_blocks(_LENGTH, b"true"))
    return core


@cache
def _older() -> MemoryCore:
    """The same log when it was shorter."""
    core = MemoryCore.writer(_PAIR)
    core.append(_blocks(_HALF, b"true"))
    return core


@cache
def _reorganised() -> MemoryCore:
    """What the writer made of it later, under a new fork."""
    core = _copy(_writer())
    core.truncate(_HALF + 4)
    core.append(_blocks(20, b"new"))
    return core


@cache
def _two_faced() -> MemoryCore:
    """Another log of the same key and fork: whoever shows it proves a conflict."""
    core = MemoryCore.writer(_PAIR)
    core.append(_blocks(_HALF, b"other"))
    return core


def _copy(of: MemoryCore, *, key_pair: KeyPair | None = _PAIR, later: Any = None) -> MemoryCore:
    core = MemoryCore(of.key, manifest=of.manifest, key_pair=key_pair, later=later)
    core.fork, core.tree, core.ahead, core.signature = of.fork, of.tree, of.tree, of.signature
    core.nodes, core.blocks = dict(of.nodes), dict(of.blocks)
    core._held.edges = list(of._held.edges)
    return core


def _core(role: str, clock: Clock) -> MemoryCore:
    def later(work: Callable[[], None]) -> None:
        clock.call_later(0.003, work)

    writer = _writer()
    if role == "writer":
        return _copy(writer)
    if role in ("fresh", "unlearned"):
        return MemoryCore(writer.key, manifest=writer.manifest if role == "fresh" else None, later=later)
    core = _copy(_older() if role == "half" else writer, key_pair=None, later=later)
    if role == "sparse":
        core.clear(5, _LENGTH - 5)
    if role == "behind":
        core.clear(0, _LENGTH)
    return core


# --- the connection ---------------------------------------------------------------------------------------------------


class _Wire:
    """A connection and its one channel, whose other end has proven that it knows the key."""

    initiator = False
    handshake_hash = _SECRET
    remote_public_key = bytes(32)

    def __init__(self) -> None:
        self.closed = self.congested = False
        self.on_open_request: Any = None
        self.handler: Any = None
        self.remote_handshake = Handshake(True, capability(_writer().key, _SECRET, initiator=True)).encode()
        self.asked: deque[Request] = deque(maxlen=_ASKED_MAX)
        self.strikes = 0
        self._drained: list[Callable[[], None]] = []

    def open(self, protocol: str, channel_id: bytes | None, handshake: bytes, handler: Any, **_: object) -> "_Wire":
        self.handler = handler
        self.closed = False
        return self

    def refuse(self, protocol: str, channel_id: bytes | None) -> None:
        """Nothing is ever put off here."""

    def on_drained(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._drained.append(callback)
        return lambda: self._drained.remove(callback)

    def drain(self) -> None:
        self.congested = False
        for callback in self._drained:
            callback()

    def send(self, type: int, payload: bytes) -> None:  # noqa: A002 - the wire's word
        assert type in MessageType.__members__.values()
        if type == MessageType.REQUEST and not self.closed:
            self.asked.append(decode_request(payload))

    def invalid(self, error: RemoteError) -> None:
        assert isinstance(error, RemoteError)
        self.strikes += 1
        if self.strikes >= STRIKES_MAX:
            raise RemoteError("too many invalid messages", reason="strikes")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.handler.closed(self, None)


# --- the target -------------------------------------------------------------------------------------------------------

_RUN, _DRAIN, _ANSWER, _ANSWER_BENT, _WANT_MORE, _OWN = range(10, 16)


def fuzz_replicator(data: bytes) -> None:
    """First byte: which core; second: what is wanted. Then a kind, two bytes of length, and so many bytes, each.

    Kinds 0 to 9 are messages of the protocol; the others make time pass, answers come, and so on.
    """
    _loop().run_until_complete(_play(data))


async def _play(data: bytes) -> None:
    clock = Clock()
    core = _core(_ROLES[(data[0] if data else 0) % len(_ROLES)], clock)
    replicator = Replicator(core, clock=clock.now, call_later=clock.call_later)
    wire = _Wire()
    Session(wire).attach(replicator)
    peer = wire.handler
    peer.opened(wire)
    if len(data) > 1:
        _wish(core, data[1])
    position, waiting = 2, []
    try:
        while position < min(len(data), _PIECES_BYTES_MAX):
            kind = data[position]
            size = int.from_bytes(data[position + 1 : position + 3], "little")
            payload = data[position + 3 : position + 3 + size]
            position += 3 + size
            if kind <= 9 or kind > _OWN:
                waiting.append((kind & 0x7F, payload))
                if kind & 0x80:  # more of the same frame follows
                    continue
            if waiting:
                messages, waiting = waiting, []
                peer.received(wire, messages)
            if 9 < kind <= _OWN:
                _act(kind, payload, core, clock, wire)
            if wire.closed:
                replicator.update()
                break
            await asyncio.sleep(0)
            _check(core, replicator, peer)
    except RemoteError as error:
        if error.reason != "strikes":
            raise AssertionError("one bad message ended the connection") from error
    clock.run(6.0)
    core.settle()
    _check(core, replicator, peer)
    replicator.close()
    assert not replicator.peers


def _wish(core: MemoryCore, which: int) -> None:
    if which & 1:
        core.demand.range(0, None if which & 2 else 50)
    if which & 4:
        core.demand.block(33)
    if which & 8:
        core.demand.block(2**40)
    if which & 16:
        core.demand.seek(100)
    if which & 32:
        core.demand.upgrade()


def _act(kind: int, payload: bytes, core: MemoryCore, clock: Clock, wire: _Wire) -> None:
    number = payload[0] if payload else 0
    if kind == _RUN:
        clock.run(_SECONDS[number % len(_SECONDS)])
    elif kind == _DRAIN:
        if wire.congested:
            wire.drain()
        else:
            wire.congested = True
    elif kind in (_ANSWER, _ANSWER_BENT):
        source = (_writer(), _older(), _reorganised(), _two_faced())[number >> 6]
        for _ in range((number & 15) + 1):
            if wire.asked and not wire.closed:
                request = wire.asked.pop() if number & 16 else wire.asked.popleft()
                answer = _answer(source, request)
                if kind == _ANSWER_BENT:
                    answer = _bend(answer, payload)
                wire.handler.received(wire, [answer])
    elif kind == _WANT_MORE:
        _wish(core, number)
    elif core.key_pair is None or number & 1:
        start = number % max(core.length, 1)
        core.clear(start, min(start + number % 7, core.length))
    elif number & 2 and core.length:
        core.truncate(number % core.length)
    elif core.length < 2 * _LENGTH:
        core.append(_blocks(number % 9 + 1, payload[:9]))


def _answer(source: MemoryCore, request: Request) -> tuple[int, bytes]:
    try:
        return MessageType.DATA, source.prove(request).encode()
    except (BlockMissing, RemoteError):
        return MessageType.NO_DATA, NoData(request.id, NOT_AVAILABLE).encode()


def _bend(answer: tuple[int, bytes], payload: bytes) -> tuple[int, bytes]:
    kind, wire = answer
    place = payload[1] if len(payload) > 1 else 0
    return kind, wire[:place] + payload[2:] + wire[place + len(payload[2:]) :]


def _check(core: MemoryCore, replicator: Replicator, peer: Any) -> None:
    """What holds between any two calls."""
    if core.key_pair is None:
        truths = (_writer(), _reorganised()) if core.fork == 0 else (_reorganised(),)
        assert any(truth.blocks.items() >= core.blocks.items() for truth in (*truths, _two_faced())), "not of one log"
    assert all(index in core.blocks for start, end in core._held for index in range(start, end))
    assert len(peer.has.edges) <= REMOTE_EDGES_MAX + 2
    assert len(peer.queue) <= REQUESTS_QUEUED_MAX
    assert len(peer.wants.spans) <= WANTS_MAX
    assert len(peer.inflight) <= 2 * REQUESTS_IN_FLIGHT_MAX
    assert len(peer.stash) <= STASH_REPLIES_MAX
    assert len(peer.wanted) <= 2 * WANTS_MAX
    planner = replicator._asker.planner
    assert not planner.settling & planner.asked.keys()
    for busy in (planner.settling, planner.asked):
        for index in busy:
            assert index not in planner.urgent
            assert index not in planner.unasked
    assert len(planner.asked) <= 2 * REQUESTS_IN_FLIGHT_MAX


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One loop for all executions: making one costs more than most of them."""
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    return loop


# --- examples ---------------------------------------------------------------------------------------------------------


def _piece(kind: int, payload: bytes) -> bytes:
    return bytes((kind,)) + len(payload).to_bytes(2, "little") + payload


def _sync(length: int, *, fork: int = 0, acked: int = 0, flags: tuple[bool, ...] = (True,) * 5) -> bytes:
    return _piece(MessageType.SYNC, Sync(fork, length, acked, *flags).encode())


def _has(start: int, length: int, *, drop: bool = False) -> bytes:
    return _piece(MessageType.RANGE, Range(drop, start, length).encode())


def _ask(**what: Any) -> bytes:
    return _piece(MessageType.REQUEST, Request(5, 0, **what).encode())


def _then(*numbers: int) -> bytes:
    return b"".join(_piece(_ANSWER, bytes((number,))) + _piece(_RUN, b"\0") for number in numbers)


def _examples() -> list[bytes]:
    every = _has(0, _LENGTH)
    proof = _two_faced().prove(Request(0, 0, upgrade=UpgradeRef(0, _HALF)))
    stale = _writer().prove(Request(3, 0, block=BlockRef(3, 0), upgrade=UpgradeRef(0, _LENGTH)))
    download = _sync(_LENGTH) + every + _then(15, 15, 15, 15, 15, 15)
    asks = [
        _ask(block=BlockRef(3, 0)),
        _ask(block=BlockRef(68, 3), manifest=True),
        _ask(hash=BlockRef(6, 2), seek=SeekRef(30, 0)),
        _ask(upgrade=UpgradeRef(10, 60)),
        _ask(seek=SeekRef(40, 8), upgrade=UpgradeRef(0, 70)),
        _ask(block=BlockRef(2**50, 60)),
    ]
    rest = [
        _piece(MessageType.WANT, Want(0, 2**21).encode()),
        _piece(MessageType.WANT, Want(32, 64, any=True).encode()),
        _piece(MessageType.UNWANT, Unwant(0, 2**21).encode()),
        _piece(MessageType.BITFIELD, Bitfield(0, b"\x55" * 8).encode()),
        _piece(MessageType.BITFIELD, Bitfield(2**40, b"\xff" * 64).encode()),
        _piece(MessageType.EXTENSION, Extension("x", b"y").encode()),
        _piece(MessageType.NO_DATA, NoData(1, NOT_AVAILABLE).encode()),
        _piece(MessageType.CANCEL, Cancel(5).encode()),
        _piece(42, b"of a later version"),
        _has(3, 1),
        _has(20, 30, drop=True),
    ]
    play = [
        b"\x00\x00" + _sync(0) + b"".join(asks) + b"".join(rest),
        b"\x00\x00"
        + _sync(_LENGTH)
        + _piece(_DRAIN, b"")
        + b"".join(asks)
        + _piece(_DRAIN, b"")
        + _piece(_OWN, b"\x04"),
        b"\x01\x3f" + download,
        b"\x01\x01" + _sync(_LENGTH) + every + _then(0) + _piece(_ANSWER_BENT, b"\x03\x09\xff") + _then(15, 15),
        b"\x01\x05" + _sync(_LENGTH) + every + _piece(_ANSWER, b"\x1f") * 6 + _piece(_RUN, b"\x04"),
        b"\x02\x01" + download + _sync(60, fork=1) + _then(0x80, 0x80, 0x80, 0x8F, 0x8F),
        b"\x02\x03" + _piece(MessageType.DATA, proof.encode()) + _piece(_RUN, b"\x02"),
        b"\x02\x03" + _sync(_LENGTH) + every + _then(0xC0, 0xCF),
        b"\x03\x1f" + download + b"".join(rest) + _then(15, 15, 15),
        b"\x03\x01" + _sync(_LENGTH, acked=_LENGTH) + b"".join(rest) + _piece(_RUN, b"\x04") + _piece(_OWN, b"\x15"),
        b"\x04\x01" + download,
        b"\x05\x07" + _sync(_HALF, acked=_LENGTH) + _has(0, _HALF) + _then(0x4F, 0x4F, 0x0F),
        b"\x05\x07" + _sync(2**52) + _has(0, 2**53 - 2) + _then(15, 15) + _piece(_RUN, b"\x04"),
        b"\x01\x01" + _piece(MessageType.DATA, stale.encode()) + _sync(_LENGTH) + _piece(_RUN, b"\x03"),
        b"\x02\x01" + _sync(_LENGTH, flags=(False,) * 5) + every + _piece(_RUN, b"\x04"),
    ]
    flood = Data(0, 0).encode()
    play.append(b"\x00\x00" + _piece(MessageType.DATA | 0x80, flood) * 100 + _piece(_RUN, b"\x00"))
    return play


CORPUS: Final[dict[str, list[bytes]]] = {"fuzz_replicator": _examples()}
# Honest answers are not counted as input, and end in the core: 16 of them for four bytes.
BOUNDS: Final[dict[str, tuple[int, int]]] = {"fuzz_replicator": (4, 1024 * 1024)}
