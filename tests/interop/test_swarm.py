"""Connections and channels with stock @hyperswarm/secret-stream and protomux over TCP, in both roles."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from support_node import check_packages

from edge.crypto.keys import KeyPair
from edge.encoding import compact
from edge.errors import RemoteError
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.protomux import Channel, Message
from edge.hyperswarm.server import Server, serve

pytestmark = pytest.mark.interop
HERE = Path(__file__).parent
OURS = KeyPair.from_seed(b"\x05" * 32)
THEIRS = KeyPair.from_seed(b"\x07" * 32)  # swarm_peer.mjs
TIMEOUT_S = 30
COUNT, SUM = 10_000, 10_000 * 9_999 // 2


class Node:
    """`swarm_peer.mjs` in a process of its own; what it says gathers in `events`."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.events: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        check_packages()
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            "node", str(HERE / "swarm_peer.mjs"), *self._arguments, stdin=pipe, stdout=pipe
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(json.loads(line))

    def tell(self, *words: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())

    def said(self, event: str, **more: Any) -> list[dict[str, Any]]:
        return [it for it in self.events if it["event"] == event and all(it.get(k) == v for k, v in more.items())]

    async def says(self, event: str, count: int = 1, **more: Any) -> dict[str, Any]:
        await until(lambda: len(self.said(event, **more)) >= count, lambda: f"{event} {more} in {self.events}")
        return self.said(event, **more)[count - 1]


async def until(true: Callable[[], bool], what: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not true():
                await asyncio.sleep(0.002)
    except TimeoutError:
        pytest.fail(f"waited in vain for {what()}")


class Heard:
    """A handler; the numbers of type 0 and everything else by itself."""

    def __init__(self, handshake: bytes = b"\x02py") -> None:
        self.handshake = handshake
        self.state: list[str] = []
        self.numbers: list[int] = []
        self.others: list[Message] = []
        self.lists = 0

    def opened(self, channel: Channel) -> None:
        self.state.append("opened")

    def received(self, channel: Channel, messages: list[Message]) -> None:
        self.lists += 1
        for kind, payload in messages:
            if kind == 0:
                self.numbers.append(compact.Reader(payload).uint())
            else:
                self.others.append((kind, payload))

    def closed(self, channel: Channel, error: Exception | None) -> None:
        self.state.append("closed")


class Ours:
    """Our side: what we answer open requests with, and the connection."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.asked: list[tuple[str, bytes | None]] = []
        self.accept: dict[str, Heard] = {}

    def greet(self, connection: Connection) -> None:
        self.connection = connection
        connection.on_open_request = self.ask

    def ask(self, protocol: str, channel_id: bytes | None) -> None:
        self.asked.append((protocol, channel_id))
        if protocol in self.accept:
            self.open(protocol, channel_id, self.accept[protocol])

    def open(self, protocol: str, channel_id: bytes | None, heard: Heard, *aliases: str) -> Channel:
        assert self.connection is not None
        return self.connection.open(protocol, channel_id, heard.handshake, heard, aliases=aliases)


@pytest.fixture(params=["we connect", "they connect"])
async def joined(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Ours, Node]]:
    ours, server = Ours(), None
    if request.param == "we connect":
        node = Node("listen")
    else:
        server = await serve("127.0.0.1", 0, key_pair=OURS, on_connection=ours.greet)
        node = Node("connect", str(server.port))
    async with node:
        if server is None:
            port = (await node.says("listening"))["port"]
            await connect(
                "127.0.0.1", port, key_pair=OURS, remote_public_key=THEIRS.public_key, on_connection=ours.greet
            )
        said = await node.says("connect")
        await until(lambda: ours.connection is not None, lambda: "a connection")
        connection = ours.connection
        assert connection is not None
        assert said["hash"] == connection.handshake_hash.hex()
        assert (said["remote"], connection.remote_public_key) == (OURS.public_key.hex(), THEIRS.public_key)
        yield ours, node
        assert node.said("error") == []
        assert connection.strikes == 0
        connection.close()
        await connection.wait_closed()
        if server is not None:
            await end(server)


async def end(server: Server) -> None:
    await server.close()
    assert len(server.bans) == 0


async def test_channels_open_whoever_begins(joined: tuple[Ours, Node]) -> None:
    ours, node = joined
    served, both, wanted = Heard(), Heard(), Heard()
    channel = ours.open("served", b"one", served)  # they answer by their wildcard
    assert (await node.says("open", key="servedone"))["handshake"] == "py"
    await until(lambda: channel.opened, lambda: served.state)
    assert channel.remote_handshake == b"\x0enode servedone"
    ours.accept["main"] = wanted  # they ask for it
    node.tell("open", "main", "-")
    await node.says("open", key="main")
    assert ours.asked == [("main", None)]
    assert ours.connection is not None
    ours.connection.pause_reading()
    node.tell("open", "both", "x")
    await node.says("opening", key="bothx")
    third = ours.open("both", b"x", both)  # the opens cross: each is the other's answer, and nobody is asked
    await node.says("open", key="bothx")
    assert not third.opened
    ours.connection.resume_reading()
    await until(lambda: third.opened, lambda: both.state)
    assert ours.asked == [("main", None)]


async def test_an_alias_names_the_same_channel(joined: tuple[Ours, Node]) -> None:
    """They open "main" (and know it as "main-old" too); we know it as "main-old", and take "main" for the same."""
    ours, node = joined
    connection = ours.connection
    assert connection is not None
    heard = Heard()

    def ask(protocol: str, channel_id: bytes | None) -> None:
        if protocol == "main":
            ours.open("main-old", channel_id, heard, "main")

    connection.on_open_request = ask
    node.tell("open", "main", "-")
    assert (await node.says("open", key="main"))["handshake"] == "py"
    assert heard.state == ["opened"]


async def test_what_nobody_serves_is_refused_either_way(joined: tuple[Ours, Node]) -> None:
    ours, node = joined
    heard = Heard()
    channel = ours.open("unknown", b"id", heard)
    channel.send(0, b"\x01")
    await until(lambda: channel.closed, lambda: heard.state)
    assert heard.state == ["closed"]
    node.tell("open", "nothing", "there")
    await node.says("close", key="nothingthere", remote=True)
    assert ours.asked == [("nothing", b"there")]


@pytest.mark.parametrize("how", ["send", "batch"])
async def test_ten_thousand_messages_each_way(joined: tuple[Ours, Node], how: str) -> None:
    ours, node = joined
    heard = Heard()
    channel = ours.open("served", None, heard)
    await node.says("open", key="served")
    node.tell(how, "served", "-", COUNT)
    for number in range(COUNT):
        channel.send(0, compact.uint(number))
    said = await node.says("all", key="served")
    assert (said["got"], said["sum"]) == (COUNT, SUM)
    await until(lambda: len(heard.numbers) == COUNT, lambda: len(heard.numbers))
    assert heard.numbers == list(range(COUNT))
    if how == "batch":
        assert heard.lists <= COUNT // 64 + 2


async def test_close_and_reopen(joined: tuple[Ours, Node]) -> None:
    ours, node = joined
    for round_number in range(1, 6):
        heard = Heard()
        channel = ours.open("served", b"again", heard)
        await node.says("open", round_number, key="servedagain")
        await until(lambda channel=channel: channel.opened, lambda heard=heard: heard.state)  # type: ignore[misc]
        assert channel.local_id == 1
        channel.send(1, compact.string("echo hello"))
        await until(lambda heard=heard: len(heard.others) == 1, lambda heard=heard: heard.others)  # type: ignore[misc]
        assert heard.others == [(1, compact.string("hello"))]
        if round_number % 2:
            channel.close()
        else:
            node.tell("close", "served", "again")
        said = await node.says("close", round_number, key="servedagain")
        assert said["remote"] is bool(round_number % 2)
        await until(lambda heard=heard: heard.state == ["opened", "closed"], lambda heard=heard: heard.state)  # type: ignore[misc]


async def test_close_before_the_answer_and_reopen_at_once(joined: tuple[Ours, Node]) -> None:
    """The answer to the first open comes when that channel is closed; it is not the answer to the second."""
    ours, node = joined
    handlers = [Heard() for _ in range(4)]
    channels = []
    for heard in handlers:
        channels.append(ours.open("served", b"fast", heard))
        if heard is not handlers[-1]:
            channels[-1].close()
    last = channels[-1]
    await until(lambda: last.opened, lambda: [heard.state for heard in handlers])
    assert [heard.state for heard in handlers] == [["closed"]] * 3 + [["opened"]]
    last.send(1, compact.string("echo still here"))
    await until(lambda: len(handlers[-1].others) == 1, lambda: handlers[-1].others)
    # Both ends close at the same time, and open again.
    ours.accept["served"] = fresh = Heard()
    node.tell("reopen", "served", "fast")
    last.close()
    await until(lambda: fresh.state == ["opened"], lambda: (fresh.state, node.events))
    node.tell("text", "served", "fast")
    await until(lambda: fresh.others == [(1, compact.string("from node"))], lambda: fresh.others)


async def test_large_messages_and_a_batch_past_eight_mebibytes(joined: tuple[Ours, Node]) -> None:
    ours, node = joined
    heard = Heard()
    channel = ours.open("served", None, heard)
    await node.says("open", key="served")
    size = 2 * 1024 * 1024
    channel.send(2, b"\x01" + bytes(size - 2) + b"\x09")
    said = await node.says("raw")
    assert (said["bytes"], said["first"], said["last"]) == (size, 1, 9)
    node.tell("huge", "served", "-", 20)
    await until(lambda: len(heard.others) == 20, lambda: len(heard.others))
    assert [(kind, len(payload), payload[0]) for kind, payload in heard.others] == [
        (2, 1024 * 1024, number) for number in range(20)
    ]


async def test_keepalives_of_the_stock_peer_are_no_messages(joined: tuple[Ours, Node]) -> None:
    ours, node = joined
    connection = ours.connection
    assert connection is not None
    before = connection._stream.bytes_received
    await until(lambda: connection._stream.bytes_received >= before + 5 * 20, lambda: "five keepalives")
    assert connection._stream.bytes_received % 20 == before % 20
    connection._stream._written_at = -10.0  # as after ten silent seconds
    connection._on_timer()
    heard = Heard()
    ours.open("served", None, heard)
    await node.says("open", key="served")
    assert node.said("error") == []


async def test_the_stock_peer_ends_cleanly(joined: tuple[Ours, Node]) -> None:
    ours, node = joined
    heard = Heard()
    ours.open("served", None, heard)
    await node.says("open", key="served")
    node.tell("end")
    connection = ours.connection
    assert connection is not None
    await connection.wait_closed()
    assert heard.state == ["opened", "closed"]
    assert connection.error is None


async def test_another_stock_key_than_expected() -> None:
    async with Node("listen") as node:
        port = (await node.says("listening"))["port"]
        with pytest.raises(RemoteError) as caught:
            await connect("127.0.0.1", port, key_pair=OURS, remote_public_key=OURS.public_key)
        assert caught.value.reason == "wrong_key"
