import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from support_swarm import Recorder, Strict, refuse_all

from edge.crypto.keys import KeyPair
from edge.encoding.compact import uint
from edge.errors import ConfigError, LocalError, RemoteError, SignatureError
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.metrics import SwarmMetrics
from edge.hyperswarm.protomux import Channel, Message
from edge.hyperswarm.server import Admission, Server, serve
from edge.hyperswarm.watcher import Timeouts
from edge.limits import FAULTS_MAX, STRIKE_FORGED, STRIKES_MAX

KEYS = [KeyPair.from_seed(bytes([number]) * 32) for number in range(5)]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.001)


class Host:
    """A server, its peers and why they went; `handler` is given to every channel that is asked for."""

    def __init__(self, handler: type[Recorder] = Recorder) -> None:
        self.peers: list[Connection] = []
        self.handlers: list[Recorder] = []
        self.clients: list[Connection] = []
        self.registry = CollectorRegistry()
        self.metrics = SwarmMetrics(self.registry)
        self._handler = handler

    async def serve(self, **more: Any) -> Server:
        self.server = await serve(
            "127.0.0.1", 0, key_pair=KEYS[0], on_connection=self.greet, metrics=self.metrics, **more
        )
        return self.server

    def greet(self, connection: Connection) -> None:
        self.peers.append(connection)

        def ask(protocol: str, channel_id: bytes | None) -> None:
            self.handlers.append(self._handler())
            connection.open(protocol, channel_id, b"", self.handlers[-1])

        connection.on_open_request = ask

    async def join(self, number: int = 1, **more: Any) -> Connection:
        connection = await connect("127.0.0.1", self.server.port, key_pair=KEYS[number], **more)
        connection.on_open_request = refuse_all
        self.clients.append(connection)
        return connection

    async def end(self) -> None:
        for client in self.clients:
            client.close()
            await client.wait_closed()
        await self.server.close()

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"pomona_peer_{name}", labels) or 0.0


@contextlib.asynccontextmanager
async def running(host: Host, **more: Any) -> AsyncIterator[None]:
    await host.serve(**more)
    try:
        yield
    finally:
        await host.end()


async def refused(host: Host, number: int = 1) -> None:
    """The server lets nobody in: the connection ends before, or right after, our side of the handshake is done."""
    try:
        connection = await host.join(number)
    except (RemoteError, OSError):
        return
    await connection.wait_closed()


async def test_the_firewall_is_asked_before_any_channel() -> None:
    host = Host()
    async with running(host, policy=Admission(admit=lambda key: key == KEYS[2].public_key)):
        await refused(host, 1)
        assert host.peers == []
        connection = await host.join(2)
        assert [peer.remote_public_key for peer in host.peers] == [KEYS[2].public_key]
        assert host.count("handshakes_failed_total", reason="refused") == 1
        assert host.count("connections") == 1
        connection.close()
    assert host.count("connections") == 0
    assert len(host.server.bans) == 0


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Admission(connections_max=2), "full"),
        (Admission(per_address_max=2), "address_full"),
        (Admission(half_open_per_address_max=0), "half_open"),
    ],
)
async def test_limits_of_connections(policy: Admission, reason: str) -> None:
    host = Host()
    async with running(host, policy=policy):
        allowed = [await host.join(number) for number in (1, 2)] if reason != "half_open" else []
        await refused(host, 3)
        assert host.count("handshakes_failed_total", reason=reason) == 1
        if allowed:
            allowed[0].close()
            await until(lambda: len(host.server.connections) == 1)
            await host.join(3)
        for peer in host.server.connections:
            peer.close()


async def test_strikes_end_in_a_ban_of_key_and_address() -> None:
    host = Host(Strict)
    async with running(host):
        connection = await host.join()
        channel = connection.open("p", None, b"", Recorder())
        for _ in range(STRIKES_MAX - 1):
            channel.send(0, b"")
        await until(lambda: bool(host.peers) and host.peers[0].strikes == STRIKES_MAX - 1)
        assert not connection.closed
        channel.send(0, b"")
        await connection.wait_closed()
        error = host.peers[0].error
        assert isinstance(error, RemoteError)
        assert error.reason == "strikes"
        assert host.handlers[0].error is error
        assert host.count("strikes_total", reason="disliked") == STRIKES_MAX
        assert host.count("drops_total", reason="strikes") == 1
        assert host.count("bans_total", reason="strikes") == 2
        await refused(host, 2)
        assert host.count("handshakes_failed_total", reason="banned") == 1
        now = asyncio.get_running_loop().time()
        assert host.server.bans.banned(KEYS[1].public_key, now=now)
        assert not host.server.bans.banned(KEYS[2].public_key, now=now)


async def test_a_banned_key_is_known_from_another_address_too() -> None:
    host = Host()
    async with running(host):
        host.server.bans.ban(KEYS[1].public_key, "strikes", now=asyncio.get_running_loop().time())
        await refused(host, 1)
        assert host.peers == []
        await host.join(2)


async def raw(host: Host) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", host.server.port)


async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(ConnectionError):
            await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_faults_of_an_address_end_in_a_ban() -> None:
    host = Host()
    async with running(host):
        for _ in range(FAULTS_MAX):
            reader, writer = await raw(host)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await ends(reader, writer)
        assert host.count("handshakes_failed_total", reason="handshake_length") == FAULTS_MAX
        assert host.count("bans_total", reason="handshake_length") == 1
        await refused(host)
        assert host.peers == []


async def test_silence_before_the_handshake_has_a_deadline() -> None:
    host = Host()
    async with running(host, timeouts=Timeouts(handshake_s=0.05)):
        streams = [await raw(host) for _ in range(2)]
        streams[0][1].write(b"\x20\0\0" + bytes(10))  # a first message that never ends
        for reader, writer in streams:
            await ends(reader, writer)
        assert host.count("handshakes_failed_total", reason="handshake_timeout") == 2


async def test_a_silent_peer_is_dropped() -> None:
    host = Host()
    async with running(host, timeouts=Timeouts(idle_s=0.05)):
        connection = await host.join()
        await connection.wait_closed()
        assert host.count("drops_total", reason="idle") == 1


async def test_a_frame_that_trickles_in_is_dropped() -> None:
    host = Host()
    async with running(host, timeouts=Timeouts(frame_s=0.02, idle_s=2.0)):
        connection = await host.join()
        await until(lambda: bool(host.peers) and host.peers[0]._stream.established)
        peer = host.peers[0]
        transport = connection._transport
        assert transport is not None
        transport.write((1000).to_bytes(3, "little"))
        while not peer.closed:
            transport.write(b"x")
            await asyncio.sleep(0.005)
            peer._on_timer() if not peer.closed else None
        assert isinstance(peer.error, RemoteError)
        assert peer.error.reason == "slow_frame"


async def test_unfinished_frames_of_all_connections_are_bounded() -> None:
    host = Host()
    async with running(host, policy=Admission(partial_bytes_max=1_000_000)):
        connections = [await host.join(number) for number in (1, 2)]
        for connection in connections:
            transport = connection._transport
            assert transport is not None
            transport.write((5_000_000).to_bytes(3, "little") + bytes(700_000))
        await until(lambda: host.count("drops_total", reason="partial_frames") == 1)
        assert len(host.server.connections) == 1
        assert len(host.server.bans) == 0
        next(iter(host.server.connections)).close()
        assert host.server._partial_bytes == 0


async def test_congestion_is_told_and_a_peer_that_does_not_read_is_dropped() -> None:
    host = Host()
    async with running(host):
        connection = await host.join()
        channel = connection.open("p", None, b"", Recorder())
        await until(lambda: channel.opened)
        (peer,) = host.peers
        theirs = host.handlers[0].channel
        assert theirs is not None
        drained: list[bool] = []
        stop = peer.on_drained(lambda: drained.append(peer.congested))
        connection.pause_reading()
        while not peer.congested:
            theirs.send(0, bytes(200_000))
            await asyncio.sleep(0)
        connection.resume_reading()
        await until(lambda: bool(drained) and not peer.congested)
        stop()
        stop()
        told = len(drained)
        connection.pause_reading()
        while not peer.closed:
            theirs.send(0, bytes(1_000_000))
            await asyncio.sleep(0)
        assert isinstance(peer.error, RemoteError)
        assert peer.error.reason == "slow_reader"
        assert not any(drained)
        assert len(drained) == told
        connection.close()


async def test_a_broken_frame_drops_at_once_and_channels_hear_why() -> None:
    host = Host()
    async with running(host):
        connection = await host.join()
        channel = connection.open("p", None, b"", Recorder())
        await until(lambda: channel.opened)
        connection._stream.send_message(b"\0\2" + uint(77), now=0.0)
        connection._mux.out.push(1, 0, b"more")
        await connection.wait_closed()
        error = host.handlers[0].error
        assert isinstance(error, RemoteError)
        assert error.reason == "channel"
        assert host.count("drops_total", reason="channel") == 1


class Broken(Recorder):
    """A handler with a mistake of ours in it."""

    def received(self, channel: Channel, messages: list[Message]) -> None:
        raise LocalError("a broken invariant")


async def test_a_mistake_of_ours_ends_the_connection_and_is_not_swallowed() -> None:
    host = Host(Broken)
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context))
    async with running(host):
        connection = await host.join()
        connection.open("p", None, b"", Recorder()).send(0, b"x")
        await connection.wait_closed()
        assert isinstance(host.peers[0].error, LocalError)
        assert host.handlers[0].error is host.peers[0].error
        assert [context["exception"] for context in seen] == [host.peers[0].error]
        assert len(host.server.bans) == 0


async def test_nothing_is_delivered_before_there_is_an_owner() -> None:
    late: list[Connection] = []
    server = await serve("127.0.0.1", 0, key_pair=KEYS[0], on_connection=late.append)
    client = await connect("127.0.0.1", server.port, key_pair=KEYS[1])
    client.on_open_request = refuse_all
    channel = client.open("p", None, b"", Recorder())
    channel.send(0, b"early")
    await until(lambda: bool(late))
    heard = Recorder()
    peer = late[0]
    assert peer._transport is not None
    assert not peer._transport.is_reading()

    def ask(protocol: str, channel_id: bytes | None) -> None:
        peer.open(protocol, channel_id, b"", heard)

    peer.on_open_request = ask
    await until(lambda: heard.messages == [(0, b"early")])
    await server.close()
    await client.wait_closed()


async def test_an_answer_that_comes_later_needs_no_word_of_the_peer() -> None:
    host = Host()
    async with running(host):
        connection = await host.join()
        await until(lambda: bool(host.peers))
        peer, asked = host.peers[0], []

        def later(protocol: str, channel_id: bytes | None) -> bool:
            asked.append((protocol, channel_id))
            return True

        peer.on_open_request = later
        channels = [connection.open("p", bytes([number]), b"", Recorder()) for number in range(2)]
        channels[0].send(0, b"kept")
        await until(lambda: len(asked) == 2)
        heard = Recorder()
        peer.open("p", b"\0", b"", heard)
        peer.refuse("p", b"\1")
        await until(lambda: heard.messages == [(0, b"kept")])
        await until(lambda: channels[0].opened and channels[1].closed)


async def test_the_server_ends_with_everything() -> None:
    host = Host()
    server = await host.serve()
    clients = [await host.join(number) for number in (1, 2, 3)]
    idle = await raw(host)
    await until(lambda: len(server.connections) == 4)
    await server.close()
    for client in clients:
        await client.wait_closed()
    await ends(*idle)
    assert server.connections == frozenset()
    with pytest.raises(OSError):
        await host.join(4)


async def test_who_answers_with_another_key_and_who_is_no_address() -> None:
    host = Host()
    async with running(host):
        with pytest.raises(SignatureError) as caught:
            await host.join(1, remote_public_key=KEYS[3].public_key)
        assert caught.value.reason == "wrong_key"
        with pytest.raises(ConfigError, match="no host names"):
            await connect("localhost", 1, key_pair=KEYS[1])
        with pytest.raises(ConfigError, match="no host names"):
            await serve("localhost", 0, key_pair=KEYS[1], on_connection=host.greet)


async def test_a_listener_that_never_answers_has_a_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(RemoteError) as caught:
            await connect("127.0.0.1", listener.getsockname()[1], key_pair=KEYS[1], timeouts=Timeouts(handshake_s=0.05))
        assert caught.value.reason == "handshake_timeout"


async def _silent(host: Host) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", host.server.port)
    return writer


async def test_the_oldest_half_open_connection_makes_room() -> None:
    host = Host()
    async with running(host, policy=Admission(half_open_max=3)):
        silent = [await _silent(host) for _ in range(5)]
        await until(lambda: host.count("handshakes_failed_total", reason="crowded") == 2)
        await host.join(1)
        await until(lambda: len(host.peers) == 1)
        assert len(host.server.bans) == 0
        for writer in silent:
            writer.close()


async def test_a_connection_without_a_channel_makes_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.hyperswarm.server.STRANGER_S", 0.0)
    host = Host()
    async with running(host, policy=Admission(connections_max=2)):
        proved = await host.join(1)
        channel = proved.open("p", None, b"", Recorder())
        await until(lambda: channel.opened)
        idle = await host.join(2)
        await host.join(3)
        await until(lambda: idle.closed)
        assert not proved.closed
        assert host.count("drops_total", reason="crowded") == 1


async def test_strangers_wait_for_their_turn_and_those_served_before_do_not() -> None:
    host = Host()
    async with running(host):
        regular = await host.join(1)
        channel = regular.open("p", None, b"", Recorder())
        await until(lambda: channel.opened and host.peers[0].proved)
        host.server._budget.spend(1000.0, now=asyncio.get_running_loop().time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await host.join(2)
        assert not regular.closed
        regular.close()
        await until(lambda: host.peers[0].closed)
        again = await host.join(3)
        assert not again.closed


async def test_too_many_who_wait_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.hyperswarm.server.WAITING_MAX", 2)
    host = Host()
    async with running(host):
        host.server._budget.spend(1000.0, now=asyncio.get_running_loop().time())
        writers = [await _silent(host) for _ in range(4)]
        for writer in writers:
            writer.write(b"\x20\0\0" + bytes(32))
        await until(lambda: host.count("handshakes_failed_total", reason="overload") == 2)
        assert len(host.server.bans) == 0
        for writer in writers:
            writer.close()
        await until(lambda: not host.server.connections)


async def test_a_forged_handshake_of_a_channel_costs_many_strikes() -> None:
    class Sceptic(Recorder):
        def opened(self, channel: Channel) -> None:
            super().opened(channel)
            raise SignatureError("not believed", reason="capability")

    host = Host(Sceptic)
    async with running(host):
        connection = await host.join()
        tries = 0
        while not connection.closed and tries < STRIKES_MAX:
            handler = Recorder()
            connection.open("p", None, b"", handler)
            tries += 1
            await until(lambda handler=handler: "closed" in handler.heard)  # type: ignore[misc]
        assert tries == STRIKES_MAX // STRIKE_FORGED
        assert host.count("bans_total", reason="strikes") == 2


async def test_asking_for_channels_in_vain_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.hyperswarm.protomux.CHANNELS_MAX", 50)
    host = Host()
    async with running(host):
        connection = await host.join()
        await until(lambda: bool(host.peers))
        host.peers[0].on_open_request = refuse_all
        for number in range(60):
            handler = Recorder()
            with contextlib.suppress(RemoteError):
                connection.open("p", uint(number), b"", handler)
            await until(lambda handler=handler: connection.closed or "closed" in handler.heard)  # type: ignore[misc]
        await connection.wait_closed()
        assert host.count("drops_total", reason="scan") == 1


async def test_the_slowest_reader_goes_when_all_of_them_hold_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.hyperswarm.server.WRITE_TOTAL_BYTES_MAX", 1_500_000)
    host = Host()
    async with running(host):
        for number in (1, 2):
            client = await host.join(number)
            channel = client.open("p", None, b"", Recorder())
            await until(lambda channel=channel: channel.opened)  # type: ignore[misc]
            client.pause_reading()
        for peer, handler in zip(host.peers, host.handlers, strict=True):
            assert handler.channel is not None
            while not peer.congested and not peer.closed:
                handler.channel.send(0, bytes(1_000_000))
                peer.flush()
                await asyncio.sleep(0)
            handler.channel.send(0, bytes(1_000_000))
            peer.flush()
        await until(lambda: host.peers[0].closed)
        assert host.count("drops_total", reason="slow_reader") == 1
        assert not host.peers[1].closed
