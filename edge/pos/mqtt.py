"""MQTT 3.1.1 through paho on the running loop: no thread, own reconnect, acknowledgement by hand.

    link = MqttLink(settings, on_message=..., on_up=..., on_down=...)
    await link.run()                       # connects, and again with back-off, until cancelled

Each connection gets a fresh paho client, so that nothing of an old one (queued publishes, half a packet) leaks into the
next: what must survive a connection lives with its owner (a till's spool, the box's log) and is sent again by `on_up`.
The broker's session outlives connections (`clean_session` false): what was not acknowledged by `puback` comes again.

Invariants: nothing here blocks the loop; callbacks run on the loop; at most `in_flight_max` publishes are unanswered
when the owner awaits `publish`; no feature of MQTT 5 is used.
"""

import asyncio
import contextlib
import logging
import random
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import ConfigError, RemoteError
from edge.pos.transport import BufferedSocket, check_host, client_context, connect

logger = logging.getLogger(__name__)
_PUBACK: Final = struct.Struct(">BBH")  # MQTT 3.1.1, section 3.4: type and flags, remaining length, packet identifier
_PACKETS_PER_TURN: Final = 256  # read before other callbacks of the loop get their turn
_TOPICS_PER_SUBSCRIBE: Final = 64  # keeps a SUBSCRIBE far below the broker's packet limit


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """How to reach the broker. `password_file` holds the password in its first line; `password` wins over it."""

    host: str = "127.0.0.1"  # IP address, localhost, or the path of a Unix socket
    port: int = 1883
    username: str = ""
    password_file: str = ""
    password: str = field(default="", repr=False)
    client_id: str = "pomona-box"  # names the session that the broker keeps: one for each box and till
    tls_ca: str = ""  # PEM file of the certificate authority; empty: plain, for loopback only
    keepalive_s: int = 30
    connect_timeout_s: float = 10.0
    reconnect_min_s: float = 0.1
    reconnect_max_s: float = 15.0
    in_flight_max: int = 512

    def __post_init__(self) -> None:
        check_host(self.host)
        if not self.client_id or not 1 <= self.port <= 65535 or self.in_flight_max < 1:
            raise ConfigError("broker", "client_id, port or in_flight_max is out of range")

    def secret(self) -> str:
        """The password."""
        if self.password or not self.password_file:
            return self.password
        try:
            return Path(self.password_file).read_text(encoding="utf-8").splitlines()[0].strip()
        except (OSError, UnicodeDecodeError, IndexError) as error:
            raise ConfigError("broker.password_file", f"{self.password_file}: {error}") from None


class MqttMessage(NamedTuple):
    """What arrived; a tuple, because one is made for every message.

    `packet` goes to `puback`; `retained` means that the broker had kept it."""

    topic: str
    payload: bytes
    retained: bool
    packet: int  # 0: quality of service 0, nothing to acknowledge
    connection: int  # which connection it came on: its packet number means nothing on a later one


class LinkDown(RemoteError):
    """The broker cannot be reached now, or the connection ended before it answered."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="disconnected")


class _Client(paho.Client):
    """paho with a connection that we opened: its own `connect` would block the loop and look up names."""

    ready: BufferedSocket

    def _create_socket(self) -> Any:
        return self.ready


class MqttLink:
    """One client of the broker, reconnecting until `run` is cancelled."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        on_message: Callable[[MqttMessage], None],
        on_up: Callable[[bool], None] = lambda _session: None,
        on_down: Callable[[], None] = lambda: None,
        rng: random.Random | None = None,
    ) -> None:
        self._settings = settings
        self._on_message, self._on_up, self._on_down = on_message, on_up, on_down
        self._rng = rng or random.Random()
        self._client: _Client | None = None
        self._socket: BufferedSocket | None = None
        self._lost: asyncio.Future[None] | None = None
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._subscribing: set[int] = set()
        self._room = asyncio.Event()
        self._writing = False
        self._flush_due = False
        self.connection = 0
        self.connected = False
        self._accepted = False  # whether the present or last connection got as far as CONNACK
        self.last_error = ""

    async def run(self) -> None:
        """Keep a connection until cancelled; the first one at once, later ones after a growing, jittered pause."""
        settings = self._settings
        context = client_context(settings.tls_ca) if settings.tls_ca else None
        pause = settings.reconnect_min_s
        while True:
            self._accepted = False
            try:
                await self._connection(context)
            except (OSError, LinkDown) as error:
                self.last_error = str(error) or type(error).__name__
                logger.debug("broker %s:%s: %s", settings.host, settings.port, self.last_error)
            pause = settings.reconnect_min_s if self._accepted else min(pause * 2, settings.reconnect_max_s)
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))

    @property
    def settled(self) -> bool:
        """Connected, and the broker has confirmed every subscription: from now on it holds messages for us."""
        return self.connected and not self._subscribing

    @property
    def in_flight(self) -> int:
        """Publishes that the broker has not answered yet."""
        return len(self._waiting)

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]:
        """Publish with quality of service 1 once there is room in flight.

        The future resolves at the broker's PUBACK (which says nothing about disks) or raises `LinkDown`. Whoever does
        not care may drop it.
        """
        while self.connected and len(self._waiting) >= self._settings.in_flight_max:
            self._room.clear()
            await self._room.wait()
        return self.publish_now(topic, payload, retain=retain)

    def publish_now(self, topic: str, payload: bytes, *, retain: bool = False) -> asyncio.Future[None]:
        """The same without waiting for room: for few and small messages. Raises `LinkDown` while not connected."""
        if self._client is None or not self.connected:
            raise LinkDown("not connected to the broker")
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieved)
        self._waiting[info.mid] = future
        return future

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe with quality of service 1. Raises `LinkDown` while not connected."""
        if self._client is None or not self.connected:
            raise LinkDown("not connected to the broker")
        for at in range(0, len(topics), _TOPICS_PER_SUBSCRIBE):
            _, packet = self._client.subscribe([(topic, 1) for topic in topics[at : at + _TOPICS_PER_SUBSCRIBE]])
            if packet is not None:
                self._subscribing.add(packet)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """End subscriptions. Raises `LinkDown` while not connected."""
        if self._client is None or not self.connected:
            raise LinkDown("not connected to the broker")
        for at in range(0, len(topics), _TOPICS_PER_SUBSCRIBE):
            self._client.unsubscribe(list(topics[at : at + _TOPICS_PER_SUBSCRIBE]))

    def puback(self, message: MqttMessage) -> None:
        """Let the broker forget `message`; nothing happens if its connection has ended: it will come again."""
        if self._client is not None and self.connected and message.packet and message.connection == self.connection:
            self._puback(self._client, message.packet)

    def _puback(self, client: _Client, packet: int) -> None:
        """Four bytes, straight into the write buffer: paho's own way costs as much as parsing a receipt."""
        try:
            if self._socket is None:
                raise BlockingIOError
            self._socket.send(_PUBACK.pack(0x40, 2, packet))
        except BlockingIOError:  # the buffer is full: paho queues it
            client.ack(packet, 1)
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def _connection(self, context: ssl.SSLContext | None) -> None:
        """One connection from dialling to its end. Raises what ended it."""
        settings, loop = self._settings, asyncio.get_running_loop()
        async with asyncio.timeout(settings.connect_timeout_s):
            sock = await connect(settings.host, settings.port, context)
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.ready = sock
        client.max_inflight_messages_set(0)  # ours is the bound; paho's would queue behind our back
        if settings.username:
            client.username_pw_set(settings.username, settings.secret())
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_publish = self._published
        client.on_subscribe = lambda _client, _userdata, mid, _reasons, _props: self._subscribing.discard(mid)
        client.on_socket_register_write = self._register_write
        client.on_socket_unregister_write = lambda _client, _userdata, _sock: None
        self._lost = loop.create_future()
        self._client, self._socket, self.connection = client, sock, self.connection + 1
        try:
            loop.add_reader(sock.fileno(), self._readable)
            client.connect_async(settings.host, settings.port or 1, settings.keepalive_s)
            client.reconnect()
            self._flush()
            # CONNACK has to come in time; afterwards paho's keep-alive watches the connection.
            deadline = loop.time() + settings.connect_timeout_s
            while not self._lost.done():
                await asyncio.wait([self._lost], timeout=1.0)
                if not self._lost.done():
                    client.loop_misc()
                if not self._accepted and loop.time() > deadline:
                    raise LinkDown("the broker did not answer in time")
            await self._lost
        finally:
            self._end(sock)

    def _end(self, sock: BufferedSocket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        loop.remove_writer(sock.fileno())
        client, self._client, self._socket, self._writing = self._client, None, None, False
        was_connected, self.connected = self.connected, False
        self._subscribing.clear()
        if client is not None:
            client.on_disconnect = None
        sock.release()
        if self._lost is not None:
            _retrieved(self._lost)
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(LinkDown("the connection ended"))
        self._room.set()
        if was_connected:
            self._on_down()

    async def goodbye(self) -> None:
        """Send DISCONNECT on a clean stop, so that no last will is published; the broker then closes."""
        if self._client is not None and self.connected:
            with contextlib.suppress(OSError):
                self._client.disconnect()
                self._flush()

    def _connected(self, _client: object, _userdata: object, flags: Any, reason: ReasonCode, _props: object) -> None:
        if reason.is_failure:
            self._lose(LinkDown(f"the broker refused us: {reason}"))
            return
        self.connected, self._accepted, self.last_error = True, True, ""
        self._on_up(bool(flags.session_present))

    def _disconnected(self, _client: object, _userdata: object, _flags: object, reason: object, _props: object) -> None:
        self._lose(LinkDown(f"the broker went away: {reason}"))

    def _received(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        packet = message.mid if message.qos else 0
        self._on_message(MqttMessage(topic, bytes(message.payload), message.retain, packet, self.connection))

    def _published(self, _client: object, _userdata: object, mid: int, _reason: object, _props: object) -> None:
        future = self._waiting.pop(mid, None)
        if future is not None and not future.done():
            future.set_result(None)
        self._room.set()

    def _readable(self) -> None:
        client, sock = self._client, self._socket
        if client is None or sock is None:
            return
        try:
            for _ in range(_PACKETS_PER_TURN):
                code = client.loop_read()
                if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    self._lose(LinkDown(f"the broker went away: {paho.error_string(code)}"))
                    return
                if not sock.pending():
                    return
        except Exception as error:  # noqa: BLE001 - a callback failed; `run` raises it, whose owner decides
            self._lose(error)
            return
        # More is buffered, and the descriptor may never become readable for it.
        asyncio.get_running_loop().call_soon(self._readable)

    def _register_write(self, _client: object, _userdata: object, _sock: object) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Hand paho's packets to the socket, all in one write where they fit."""
        self._flush_due = False
        client, sock = self._client, self._socket
        if client is None or sock is None:
            return
        try:
            while client.want_write() or not sock.flush():
                code = client.loop_write()
                if code not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN):
                    self._lose(LinkDown(f"the broker went away: {paho.error_string(code)}"))
                    return
                if not sock.flush():
                    if not self._writing:
                        self._writing = True
                        asyncio.get_running_loop().add_writer(sock.fileno(), self._flush)
                    return
        except OSError as error:
            self._lose(LinkDown(f"the broker went away: {error}"))
            return
        if self._writing:
            self._writing = False
            asyncio.get_running_loop().remove_writer(sock.fileno())

    def _lose(self, error: Exception) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)


def _retrieved(future: "asyncio.Future[None]") -> None:
    """Mark an exception as seen: who publishes and does not wait has other means to notice."""
    if future.done() and not future.cancelled():
        future.exception()
