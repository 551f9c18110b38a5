"""Attacks on a listening peer, each as a routine at a stated rate, and the process that runs them.

    python support_attacks.py PORT KEY BLOCKS SCENARIO [SCALE]

Starts attacking at a line `go` on standard input and stops at `stop`; answers each line with what was done so far.
A scenario says where the attackers come from: `one` address, `several`, a new one each time (`many`), or the
`shared` address of the honest client. SCALE multiplies the rates.
"""

import asyncio
import contextlib
import json
import secrets
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from support_attacked_server import open_from

from edge.crypto.hashing import discovery_key
from edge.encoding.compact import buffer, string, uint
from edge.errors import RemoteError
from edge.hypercore.merkle import Node
from edge.hypercore.messages import (
    BlockProof,
    BlockRef,
    Data,
    Handshake,
    HashProof,
    MessageType,
    Request,
    SeekProof,
    SeekRef,
    Sync,
    UpgradeProof,
    UpgradeRef,
    Want,
    decode_data,
    decode_request,
)
from edge.hypercore.replicator.session import PROTOCOL, capability
from edge.hyperswarm.connection import Connection
from edge.limits import FRAME_BYTES_MAX, STRIKES_MAX

HELD_S = 15.0  # an attacker leaves after that time, if it was not dropped before
SEVERAL = tuple(f"127.0.0.{number}" for number in range(2, 10))
SHARED = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Target:
    """Who is attacked."""

    port: int
    key: bytes
    blocks: int


class Rogue:
    """A peer with a proved key that says what it likes: the handler of one channel of the attacked core."""

    def __init__(self, connection: Connection, target: Target, *, key: bytes | None = None) -> None:
        self.connection = connection
        self.heard: list[tuple[int, bytes]] = []
        self.answer: Callable[[Request], Data | None] = lambda _request: None
        self.closed_by_peer = asyncio.get_running_loop().create_future()
        proof = capability(key or target.key, connection.handshake_hash, initiator=True)
        connection.on_open_request = lambda _protocol, _id: None
        self.channel = connection.open(PROTOCOL, discovery_key(target.key), Handshake(True, proof).encode(), self)

    def opened(self, _channel: Any) -> None:
        """The server believes us so far."""

    def received(self, _channel: Any, messages: list[tuple[int, bytes]]) -> None:
        """Answers what it is asked by `answer`, and keeps the rest for a while."""
        self.heard = (self.heard + messages)[-64:]
        for kind, payload in messages:
            if kind == MessageType.REQUEST:
                data = self.answer(decode_request(payload))
                if data is not None:
                    self.say(MessageType.DATA, data.encode())

    def closed(self, _channel: Any, _error: Exception | None) -> None:
        """By either side."""
        if not self.closed_by_peer.done():
            self.closed_by_peer.set_result(None)

    def say(self, kind: MessageType, payload: bytes) -> None:
        self.channel.send(int(kind), payload)

    def sync(self, length: int, *, fork: int = 0, acked: int = 0) -> None:
        self.say(MessageType.SYNC, Sync(fork, length, acked, True, True, True, True, False).encode())

    async def first(self, kind: MessageType) -> bytes | None:
        """The payload of the first message of that kind, or None if none comes."""
        for _ in range(200):
            for each, payload in self.heard:
                if each == kind:
                    return payload
            if self.connection.closed:
                return None
            await asyncio.sleep(0.01)
        return None


# --- attacks: each is one attacker, from `address` -------------------------------------------------------------------


async def _raw(address: str, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", target.port, local_addr=(address, 0))


async def random_bytes(address: str, target: Target) -> None:
    """No handshake at all."""
    _, writer = await _raw(address, target)
    writer.write(secrets.token_bytes(64 + secrets.randbelow(2000)))
    await _held(writer)


async def bad_points(address: str, target: Target) -> None:
    """A handshake's first message with the right length, whose key is no point of the curve, or just any."""
    _, writer = await _raw(address, target)
    writer.write((32).to_bytes(3, "little") + secrets.token_bytes(32))
    await _held(writer)


async def half_open(address: str, target: Target) -> None:
    """Connects and says nothing."""
    _, writer = await _raw(address, target)
    await _held(writer)


async def slowloris(address: str, target: Target) -> None:
    """Says one byte a second."""
    _, writer = await _raw(address, target)
    with contextlib.suppress(OSError):
        for byte in (32).to_bytes(3, "little") + bytes(32):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)
    writer.transport.abort()


async def slow_frame(address: str, target: Target) -> None:
    """A finished handshake, then the largest frame, a byte a second."""
    connection = await open_from(address, target.port)
    transport = _transport(connection)
    transport.write(FRAME_BYTES_MAX.to_bytes(3, "little") + bytes(100_000))
    for _ in range(int(HELD_S)):
        if transport.is_closing():
            break
        transport.write(b"\0")
        await asyncio.sleep(1)
    transport.abort()


async def oversize(address: str, target: Target) -> None:
    """A finished handshake, then a frame that announces more than is allowed."""
    connection = await open_from(address, target.port)
    await asyncio.sleep(0.05)
    if connection.closed:
        return
    _transport(connection).write(b"\xff\xff\xff" + bytes(60_000))
    await _gone(connection)


async def forged_frame(address: str, target: Target) -> None:
    """A finished handshake, then one large frame that does not authenticate."""
    connection = await open_from(address, target.port)
    await asyncio.sleep(0.05)
    if connection.closed:
        return
    _transport(connection).write((1 << 20).to_bytes(3, "little") + bytes(1 << 20))
    await _gone(connection)


async def channel_flood(address: str, target: Target) -> None:
    """Opens channels for cores that nobody has, as many as it can."""
    connection = await open_from(address, target.port)
    connection.on_open_request = lambda _protocol, _id: None
    for number in count(1):
        if connection.closed or number > 20_000:
            break
        name = uint(1 + (number - 1) % 2000) + string(PROTOCOL) + buffer(secrets.token_bytes(32))
        connection._mux.out.push(0, 1, name + bytes(33))
        if number % 200 == 0:
            connection.flush()
            await asyncio.sleep(0.02)
    await _gone(connection)


async def wrong_capability(address: str, target: Target) -> None:
    """Knows the discovery key and not the key, and tries until it is dropped."""
    connection = await open_from(address, target.port)
    for _ in range(2 * STRIKES_MAX):
        if connection.closed:
            break
        rogue = Rogue(connection, target, key=secrets.token_bytes(32))
        await asyncio.wait([rogue.closed_by_peer], timeout=2)
    await _gone(connection)


async def invalid_ranges(address: str, target: Target) -> None:
    """Asks for what no log of this length has, in every way."""
    rogue = Rogue(await open_from(address, target.port), target)
    await rogue.first(MessageType.SYNC)
    far, length = 2**50, target.blocks
    for number in range(1, 40):
        for request in (
            Request(number, 0, BlockRef(far + number, 0)),
            Request(number, 0, BlockRef(number, 2**40)),
            Request(number, 0, hash=BlockRef(far, 3)),
            Request(number, 0, upgrade=UpgradeRef(number, far)),
            Request(number, 0, BlockRef(length, 0), upgrade=UpgradeRef(0, length)),
            Request(number, 0, BlockRef(3, 2), seek=SeekRef(far, 0)),
            Request(number, 0, seek=SeekRef(2**52, 2**40), upgrade=UpgradeRef(0, length)),
        ):
            rogue.say(MessageType.REQUEST, request.encode())
        rogue.say(MessageType.WANT, Want(0, far, any=False).encode())
    await _gone(rogue.connection)


async def unasked_data(address: str, target: Target) -> None:
    """Blocks that nobody asked for: our own, replayed, and with a bit changed."""
    rogue = Rogue(await open_from(address, target.port), target)
    await rogue.first(MessageType.SYNC)
    rogue.say(MessageType.REQUEST, Request(1, 0, BlockRef(7, 4)).encode())
    payload = await rogue.first(MessageType.DATA)
    if payload is None:
        return
    data = decode_data(payload)
    assert data.block is not None
    changed = data.block.value[:-1] + bytes([data.block.value[-1] ^ 1])
    for number in range(400):
        if rogue.connection.closed:
            break
        for each in (data.block.value, changed):
            block = BlockProof(7, each, data.block.nodes)
            rogue.say(MessageType.DATA, Data(number % 8, 0, block).encode())
            rogue.say(MessageType.DATA, Data(number + 1000, 0, block).encode())
        if number % 50 == 49:
            await asyncio.sleep(0.05)
    await _gone(rogue.connection)


async def false_upgrades(address: str, target: Target) -> None:
    """Claims a longer log, and answers what it is asked with an old proof, a broken one, or one that does not fit."""
    rogue = Rogue(await open_from(address, target.port), target)
    if await rogue.first(MessageType.SYNC) is None:
        return
    rogue.say(MessageType.REQUEST, Request(1, 0, upgrade=UpgradeRef(0, target.blocks)).encode())
    payload = await rogue.first(MessageType.DATA)
    if payload is None:
        return
    old = decode_data(payload)
    upgrade = old.upgrade
    assert upgrade is not None
    answers = count()

    def answer(request: Request) -> Data:
        wanted = request.upgrade or UpgradeRef(0, 1)
        node = Node(2 * target.blocks, 100, secrets.token_bytes(32))
        forged = UpgradeProof(wanted.start, wanted.length, (node,) * 3, (), secrets.token_bytes(100))
        kind = next(answers) % 4
        if kind == 0:
            return Data(request.id, 0, upgrade=upgrade)  # replayed
        if kind == 1:
            return Data(request.id, 0, upgrade=forged)
        if kind == 2:
            return Data(request.id, 0, seek=SeekProof(77, (node,)))
        return Data(request.id, 0, hash=HashProof(4, (node, node)), upgrade=forged)

    rogue.answer = answer
    for number in range(1, 200):
        if rogue.connection.closed:
            break
        rogue.sync(target.blocks + number, acked=target.blocks)
        rogue.sync(5, fork=number, acked=0)
        await asyncio.sleep(0.05)
    await _gone(rogue.connection)


async def never_reads(address: str, target: Target) -> None:
    """Asks for many blocks and reads none."""
    rogue = Rogue(await open_from(address, target.port), target)
    await rogue.first(MessageType.SYNC)
    transport = _transport(rogue.connection)
    if transport is None:
        return
    transport.pause_reading()
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    number = 0
    for _ in range(20):
        for _ in range(500):
            number += 1
            index = number * 7 % target.blocks
            rogue.say(MessageType.REQUEST, Request(number, 0, BlockRef(index, 0)).encode())
        await asyncio.sleep(0.1)
    await asyncio.sleep(HELD_S)
    transport.abort()


Attack = Callable[[str, Target], Awaitable[None]]
RATES: dict[Attack, float] = {  # attackers a second
    random_bytes: 20,
    bad_points: 10,
    half_open: 20,
    slowloris: 10,
    slow_frame: 1,
    oversize: 10,
    forged_frame: 1,
    channel_flood: 10,
    wrong_capability: 10,
    invalid_ranges: 5,
    unasked_data: 5,
    false_upgrades: 5,
    never_reads: 5,
}


async def _gone(connection: Connection) -> None:
    """Wait until the server has dropped us, or we have had enough."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HELD_S):
            await connection.wait_closed()
    connection.drop(None)


async def _held(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(HELD_S):
            await writer.wait_closed()
    writer.transport.abort()


def _transport(connection: Connection) -> Any:
    return connection._transport


# --- running them ----------------------------------------------------------------------------------------------------


class Attackers:
    """All attacks at their rates, while `run` runs. `done` counts them, and how those ended that never got in."""

    def __init__(self, target: Target, scenario: str, scale: float = 1.0, only: str = "") -> None:
        self._target, self._scenario, self._scale = target, scenario, scale
        self._only = only
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.done: Counter[str] = Counter()

    def _address(self) -> str:
        number = next(self._numbers)
        if self._scenario == "many":
            return f"127.{1 + number // 64516 % 250}.{1 + number // 254 % 254}.{1 + number % 254}"
        if self._scenario == "several":
            return SEVERAL[number % len(SEVERAL)]
        return SHARED if self._scenario == "shared" else SEVERAL[0]

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for attack, rate in RATES.items():
                    if not self._only or attack.__name__ in self._only.split(","):
                        group.create_task(self._at_rate(attack, rate * self._scale))
        finally:
            for task in list(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(list(self._tasks))

    async def _at_rate(self, attack: Attack, rate: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time()
        while True:
            task = asyncio.ensure_future(self._one(attack))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            at = max(at + 1 / rate, loop.time() - 1.0)
            await asyncio.sleep(at - loop.time())

    async def _one(self, attack: Attack) -> None:
        name = attack.__name__
        self.done[name] += 1
        try:
            await attack(self._address(), self._target)
        except (OSError, RemoteError, TimeoutError) as error:
            reason = error.reason if isinstance(error, RemoteError) else type(error).__name__
            self.done[f"{name} kept out: {reason}"] += 1


async def _main(target: Target, scenario: str, scale: float, only: str) -> None:
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    attackers = Attackers(target, scenario, scale, only)
    task: asyncio.Task[None] | None = None
    while line := await reader.readline():
        if line == b"go\n":
            task = asyncio.ensure_future(attackers.run())
        elif line == b"stop\n" and task is not None:
            task.cancel()
            await asyncio.wait([task])
            task = None
        print(json.dumps(attackers.done), flush=True)
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
    transport.close()


if __name__ == "__main__":
    _port, _key, _blocks, _scenario, *_more = sys.argv[1:]
    asyncio.run(
        _main(
            Target(int(_port), bytes.fromhex(_key), int(_blocks)),
            _scenario,
            float(_more[0]) if _more else 1.0,
            _more[1] if len(_more) > 1 else "",
        )
    )
