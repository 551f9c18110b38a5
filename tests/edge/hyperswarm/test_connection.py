import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from support_swarm import Recorder, refuse_all

from edge.crypto.keys import KeyPair
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.server import Server, serve

KEYS = [KeyPair.from_seed(bytes([number]) * 32) for number in range(4)]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.001)


class Host:
    """A server whose owner echoes on the protocol "echo"."""

    def __init__(self) -> None:
        self.peers: list[Connection] = []
        self.handlers: list[Recorder] = []

    def greet(self, connection: Connection) -> None:
        self.peers.append(connection)

        def ask(protocol: str, channel_id: bytes | None) -> None:
            if protocol == "echo":
                self.handlers.append(Recorder())
                connection.open(protocol, channel_id, b"from server", self.handlers[-1])

        connection.on_open_request = ask


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def server(host: Host) -> AsyncIterator[Server]:
    server = await serve("127.0.0.1", 0, key_pair=KEYS[0], on_connection=host.greet)
    yield server
    await server.close()


async def test_a_channel_over_tcp(server: Server, host: Host) -> None:
    client = await connect("127.0.0.1", server.port, key_pair=KEYS[1], remote_public_key=KEYS[0].public_key)
    client.on_open_request = refuse_all
    recorder = Recorder()
    channel = client.open("echo", b"id", b"from client", recorder)
    await until(lambda: channel.opened)
    assert (host.peers[0].remote_public_key, client.remote_public_key) == (KEYS[1].public_key, KEYS[0].public_key)
    assert host.peers[0].handshake_hash == client.handshake_hash
    assert channel.remote_handshake == b"from server"
    for number in range(1000):
        channel.send(number % 3, b"%d" % number)
    await until(lambda: len(host.handlers[0].messages) == 1000)
    assert host.handlers[0].messages == [(number % 3, b"%d" % number) for number in range(1000)]
    client.close()
    await client.wait_closed()
    await until(lambda: host.handlers[0].heard == ["opened", "closed"])
    assert recorder.heard == ["opened", "closed"]
    assert host.handlers[0].error is None
