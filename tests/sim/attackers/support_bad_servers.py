"""A server that lies to the client which clones from it: it serves a real core, and changes its answers on the way.

Each kind of lie is a function of a request's honest answer; some servers say things unasked besides.
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from edge.crypto.hashing import discovery_key
from edge.crypto.keys import KeyPair
from edge.errors import BlockMissing, RemoteError
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.merkle import Node
from edge.hypercore.messages import (
    Bitfield,
    BlockProof,
    Data,
    Handshake,
    HashProof,
    MessageType,
    Range,
    Request,
    SeekProof,
    Sync,
    decode_request,
)
from edge.hypercore.replicator.session import PROTOCOL, capability
from edge.hyperswarm.connection import Connection
from edge.hyperswarm.server import Server, serve
from edge.limits import BITFIELD_BYTES_MAX, INTEGER_MAX

Message = tuple[MessageType, bytes]
Lie = Callable[[Request, Data, int], Iterator[Message]]


def _said(data: Data) -> Message:
    return MessageType.DATA, data.encode()


def corrupted_block(_request: Request, data: Data, _number: int) -> Iterator[Message]:
    """A bit of every block is wrong."""
    if data.block is not None:
        value = data.block.value
        data = data._replace(block=BlockProof(data.block.index, bytes([value[0] ^ 1]) + value[1:], data.block.nodes))
    yield _said(data)


def wrong_signature(_request: Request, data: Data, _number: int) -> Iterator[Message]:
    """Every signature is made up."""
    if data.upgrade is not None:
        sound = data.upgrade.signature
        forged = sound[:20] + bytes([sound[20] ^ 1]) + sound[21:]
        data = data._replace(upgrade=replace(data.upgrade, signature=forged))
    yield _said(data)


class Replayed:
    """Whatever is asked, the first answers are given again."""

    def __init__(self) -> None:
        self._old: list[Data] = []

    def __call__(self, request: Request, data: Data, number: int) -> Iterator[Message]:
        if len(self._old) < 2:
            self._old.append(data)
            yield _said(data)
        else:
            yield _said(self._old[number % 2]._replace(id=request.id))


def unsolicited(request: Request, data: Data, _number: int) -> Iterator[Message]:
    """True answers, each with many that nobody asked for."""
    yield _said(data)
    for each in range(20):
        yield _said(data._replace(id=request.id + 1_000_000 + each))
        yield _said(data._replace(id=0))


def misfit(request: Request, _data: Data, number: int) -> Iterator[Message]:
    """Answers to another question."""
    node = Node(4, 100, secrets.token_bytes(32))
    if number % 2:
        yield _said(Data(request.id, request.fork, seek=SeekProof(77, (node,))))
    else:
        yield _said(Data(request.id, request.fork, hash=HashProof(4, (node, node))))


def enormous(_request: Request, data: Data, number: int) -> Iterator[Message]:
    """True answers, and claims about 2^53 blocks in as many stretches as can be said."""
    yield _said(data)
    yield MessageType.BITFIELD, Bitfield(number % 64 * 8 * BITFIELD_BYTES_MAX, b"\x55" * BITFIELD_BYTES_MAX).encode()
    yield MessageType.BITFIELD, Bitfield(0, b"\x55" * (BITFIELD_BYTES_MAX + 4)).encode()
    yield MessageType.RANGE, Range(False, number, INTEGER_MAX - number).encode()
    yield MessageType.SYNC, Sync(0, 2**50 + number, 0, True, True, True, True, False).encode()


LIES: dict[str, Callable[[], Lie]] = {
    "corrupted_block": lambda: corrupted_block,
    "wrong_signature": lambda: wrong_signature,
    "replayed": Replayed,
    "unsolicited": lambda: unsolicited,
    "misfit": lambda: misfit,
    "enormous": lambda: enormous,
}


class _Liar:
    """One connection's channel."""

    def __init__(self, connection: Connection, core: Hypercore, lie: Lie) -> None:
        self._core, self._lie, self._number = core, lie, 0
        self._connection = connection
        connection.on_open_request = self._asked

    def _asked(self, _protocol: str, channel_id: bytes | None) -> None:
        if channel_id == discovery_key(self._core.key):
            proof = capability(self._core.key, self._connection.handshake_hash, initiator=False)
            self._connection.open(PROTOCOL, channel_id, Handshake(True, proof).encode(), self)

    def opened(self, channel: Any) -> None:
        """Claims to hold everything."""
        length = self._core.length
        channel.send(MessageType.SYNC, Sync(0, length, 0, True, True, True, True, False).encode())
        channel.send(MessageType.RANGE, Range(False, 0, length).encode())

    def received(self, channel: Any, messages: list[tuple[int, bytes]]) -> None:
        """Answers requests by the lie."""
        for kind, payload in messages:
            if kind != MessageType.REQUEST:
                continue
            request = decode_request(payload)
            try:
                data = self._core.prove(request)
            except (BlockMissing, RemoteError):
                continue
            self._number += 1
            for said, body in self._lie(request, data, self._number):
                channel.send(said, body)

    def closed(self, _channel: Any, _error: Exception | None) -> None:
        """Nothing to do."""


async def serve_lies(core: Hypercore, lie: Lie) -> Server:
    """A listener whose every peer hears lies about `core`."""
    return await serve(
        "127.0.0.1", 0, key_pair=KeyPair.generate(), on_connection=lambda connection: _begin(connection, core, lie)
    )


def _begin(connection: Connection, core: Hypercore, lie: Lie) -> None:
    _Liar(connection, core, lie)
