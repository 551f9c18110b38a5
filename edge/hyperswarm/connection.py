"""One TCP connection to a peer: the thin asyncio shell around `SecretStream` and `Mux`, and how to open one.

Runs as protocol callbacks, without a task of its own. What handlers send while a read is worked through leaves in
batches at its end; what is sent otherwise leaves with the next turn of the loop.

Nothing of a peer's messages is looked at before the owner has set `on_open_request`; until then reading stops.

Ends: `close` sends what waits, an error drops at once. Either way each channel hears `closed`, then `on_closed` is
called, once. A peer is dropped for: a frame or control message that breaks the rules, `STRIKES_MAX` invalid messages,
no handshake, no byte for `idle_timeout_s` (stock peers send a keepalive every 5 s), a frame that trickles in, and not
reading what it asked for. `RemoteError.reason` tells them apart.
"""

import asyncio
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast

from edge.crypto.keys import KeyPair
from edge.errors import ConfigError, LocalError, RemoteError, SignatureError
from edge.hyperswarm.metrics import SwarmMetrics
from edge.hyperswarm.protomux import Asked, Channel, Handler, Mux
from edge.hyperswarm.secret_stream import Handshaken, SecretStream
from edge.hyperswarm.watcher import Timeouts, Watcher
from edge.hyperswarm.window import WriteWindow
from edge.limits import FRAME_RATE_MIN, STRANGER_S, STRIKE_FORGED, STRIKES_MAX, WRITE_BYTES_MAX

_PARTIAL_WATCHED_BYTES: Final = 64 * 1024  # smaller unfinished frames cost no more than the read buffer


class Connection(asyncio.Protocol):
    """A peer. Made by `connect` or a `Server`, and handed over once the handshake is done."""

    def __init__(
        self,
        initiator: bool,
        key_pair: KeyPair,
        *,
        remote_public_key: bytes | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
        timeouts: Timeouts | None = None,
        metrics: SwarmMetrics | None = None,
        watcher: Watcher | None = None,
        on_connection: Callable[["Connection"], None] | None = None,
    ) -> None:
        self.initiator = initiator
        self.remote_public_key = b""
        self.handshake_hash = b""
        self.remote_address: tuple[str, int] = ("", 0)
        self.strikes = 0
        self.bytes_in = self.bytes_out = 0  # on the wire
        self.error: Exception | None = None
        self.on_closed: Callable[[Exception | None], None] | None = None
        self._on_connection = on_connection
        self._timeouts = timeouts or Timeouts()
        self._metrics = metrics
        self._watcher = watcher or Watcher()
        self._stream = SecretStream(initiator, key_pair, random=random, remote_public_key=remote_public_key)
        self._mux = Mux(
            on_open_request=_nobody,
            on_invalid=lambda _channel, error: self._strike(error),
            on_waiting=self._soon,
            on_batch=self.flush,
        )
        self._owner: Asked | None = None
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._inbox: deque[bytes] = deque()  # messages that came before the owner was ready
        self._handling = False
        self._flush_soon = False
        self._paused_by_owner = False
        self._held: bytes | None = None  # what a stranger sent, until it is its turn
        self._doubted_until = 0.0
        self._window = WriteWindow()
        self._drained: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._made_at = self._read_at = self._loop.time()
        self._frame_since: float | None = None
        self._partial_reported = 0
        self._counted = False
        self._established = False
        self._ended = False
        self._closing_since: float | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()

    def __repr__(self) -> str:
        host, port = self.remote_address
        return f"<Connection {host}:{port} {self.remote_public_key.hex()[:8] or 'no handshake'}>"

    # --- for the owner -----------------------------------------------------------------------------------------------

    @property
    def on_open_request(self) -> Asked | None:
        """Asked with (protocol, id) for each channel that the peer opens; see `Mux`. Setting it starts delivery."""
        return self._owner

    @on_open_request.setter
    def on_open_request(self, asked: Asked) -> None:
        self._owner = asked
        self._mux.on_open_request = asked
        if self._inbox or self._transport is not None:
            self._soon()
            self._set_reading()

    def open(
        self,
        protocol: str,
        channel_id: bytes | None,
        handshake: bytes,
        handler: Handler,
        *,
        aliases: Sequence[str] = (),
    ) -> Channel:
        """Open a channel, or answer the peer's request for it; `handler.opened` is called later. See `Mux.open`."""
        return self._mux.open(protocol, channel_id, handshake, handler, aliases=aliases)

    def refuse(self, protocol: str, channel_id: bytes | None) -> None:
        """Refuse a request that `on_open_request` has put off by returning True."""
        try:
            self._mux.refuse(protocol, channel_id)
        except RemoteError as error:
            self.drop(error)

    @property
    def closed(self) -> bool:
        """Whether the connection is over, or about to be."""
        return self._ended or self._closing_since is not None

    @property
    def proved(self) -> bool:
        """Whether the peer has opened a channel with us, and broken no rule lately."""
        return self._mux.channels_opened > 0 and self._loop.time() >= self._doubted_until

    @property
    def waiting_bytes(self) -> int:
        """What the system has not taken yet, because the peer does not read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def congested(self) -> bool:
        """Whether more waits to be sent than is useful: put off what can be put off until `on_drained`."""
        return self._window.paused_at is not None or self._mux.out.waiting_bytes > self._window.high

    def on_drained(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` each time a congestion is over; returns what ends that."""
        self._drained.append(callback)
        return lambda: self._drained.remove(callback) if callback in self._drained else None

    def pause_reading(self) -> None:
        """Take no more from the peer for now. The idle timeout rests."""
        self._paused_by_owner = True
        self._set_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        self._paused_by_owner = False
        self._read_at = self._loop.time()
        self._set_reading()

    def flush(self) -> None:
        """Hand everything that was sent to the transport now. Called by itself; for who cannot wait a turn."""
        self._flush_soon = False
        transport = self._transport
        if transport is None or self._ended or transport.is_closing():
            return
        stream, now, congested = self._stream, self._loop.time(), self.congested
        for frame in self._mux.out.frames():
            stream.send_message(frame, now=now)
        pieces = stream.data_to_send()
        if not pieces:
            return
        size = sum(map(len, pieces))
        self.bytes_out += size
        if self._metrics is not None:
            self._metrics.bytes_out.inc(size)
        transport.writelines(pieces)
        if congested and self._window.paused_at is None:  # the system took it all
            self._loop.call_soon(self._tell_drained)
        if transport.get_write_buffer_size() > WRITE_BYTES_MAX:
            self._loop.call_soon(self.drop, RemoteError("the peer does not read", reason="slow_reader"))

    def close(self) -> None:
        """Send what waits, then end. `wait_closed` waits for the transport."""
        if self.closed:
            return
        self.flush()
        self._closing_since = self._loop.time()
        if self._transport is not None:
            self._transport.close()
        self._finish(None)
        self._schedule()  # a peer that does not read would keep the transport open

    def drop(self, error: Exception | None) -> None:
        """End at once, for `error`."""
        transport = self._transport
        self._finish(error)
        if transport is not None:
            transport.abort()

    async def wait_handshake(self) -> None:
        """Until the peer's key is proved; raises why it was not."""
        await asyncio.shield(self._ready)

    async def wait_closed(self) -> None:
        """Until the transport is gone."""
        await asyncio.shield(self._gone)

    # --- asyncio.Protocol --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._window.apply(self._transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.remote_address = (str(peer[0]), int(peer[1]))
        self._made_at = self._read_at = self._loop.time()
        try:
            self._watcher.made(self)
        except RemoteError as error:
            self.drop(error)
            return
        self.flush()
        self._schedule()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._ended:
            return
        self._read_at = self._loop.time()
        self.bytes_in += len(data)
        if self._held is not None or (not self.proved and not self._watcher.turn(self)):
            self._held = (self._held or b"") + data
            self._set_reading()
        else:
            self._receive(data)

    def go_on(self) -> None:
        """The watcher says that it is our turn."""
        data, self._held = self._held, None
        if data and not self._ended:
            self._set_reading()
            self._receive(data)

    def _receive(self, data: bytes) -> None:
        began, before = time.thread_time(), self._mux.messages_received
        self._handling = True
        try:
            for event in self._stream.receive_data(data):
                if isinstance(event, Handshaken):
                    self._handshaken(event)
                else:
                    self._inbox.append(event)
            self._watch_partial()
            self._work()
            if self._established is not self._stream.established:
                self._established = True
                self._schedule()
        except RemoteError as error:
            self.drop(error)
        except Exception as error:  # our own mistake: what was half handled is not gone on with
            self.drop(error)
            raise
        finally:
            self._handling = False
        if self._metrics is not None:
            self._metrics.bytes_in.inc(len(data))
            self._metrics.messages.inc(self._mux.messages_received - before)
        self.flush()
        self._watcher.spent(self, time.thread_time() - began)

    def pause_writing(self) -> None:
        """Called by the loop above the high-water mark."""
        self._window.paused(self._loop.time())
        self._watcher.congested(self, yes=True)

    def resume_writing(self) -> None:
        """Called by the loop below the low-water mark."""
        self._window.resumed()
        self._watcher.congested(self, yes=False)
        self._tell_drained()

    def _tell_drained(self) -> None:
        transport = self._transport
        if transport is None or self._ended or self.congested:
            return  # the next flush tells
        self._window.grow(transport)
        for callback in list(self._drained):
            callback()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop, once."""
        self._transport = None
        self._finish(exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watcher.gone(self)
        if not self._gone.done():
            self._gone.set_result(None)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _handshaken(self, event: Handshaken) -> None:
        self.remote_public_key = event.remote_public_key
        self.handshake_hash = event.handshake_hash
        self._stream.start_keepalive(now=self._loop.time())
        self._watcher.handshaken(self)
        self._counted = self._metrics is not None
        if self._metrics is not None:
            self._metrics.connections.inc()
        if not self._ready.done():
            self._ready.set_result(None)
        if self._on_connection is not None:
            self._on_connection(self)

    def _work(self) -> None:
        """Deliver what has come, once there is an owner."""
        if self._owner is None:
            self._set_reading()
            return
        self._mux.settle()
        inbox = self._inbox
        while inbox and not self._ended:
            self._mux.receive(inbox.popleft())

    def _soon(self) -> None:
        """Work and flush with the next turn of the loop, unless the end of the current read does it."""
        if not self._flush_soon and not self._handling and not self._ended:
            self._flush_soon = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._flush_soon = False
        if not self._ended:
            self._receive(b"")

    def _strike(self, error: RemoteError) -> None:
        if error.reason == "strikes":  # the last one, on its way up
            raise error
        self.strikes += STRIKE_FORGED if isinstance(error, SignatureError) else 1
        self._doubted_until = self._loop.time() + STRANGER_S
        if self._metrics is not None:
            self._metrics.strikes.labels(reason=error.reason).inc()
        if self.strikes >= STRIKES_MAX:
            raise RemoteError(f"{self.strikes} strikes; the last: {error}", reason="strikes") from error

    def _set_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        wanted = not self._paused_by_owner and (self._owner is not None or not self.handshake_hash)
        wanted = wanted and self._held is None
        if wanted != transport.is_reading():
            if wanted:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _watch_partial(self) -> None:
        size = self._stream.partial_bytes
        if not size:
            self._frame_since = None
        elif self._frame_since is None:
            self._frame_since = self._read_at
        held = size if size > _PARTIAL_WATCHED_BYTES else 0
        if held != self._partial_reported:
            change, self._partial_reported = held - self._partial_reported, held
            self._watcher.partial(change)

    def _finish(self, error: Exception | None) -> None:
        """Tell everybody, once."""
        if self._ended:
            return
        self._ended = True
        self.error = error
        self._inbox.clear()
        if not self._ready.done():
            reason = error or RemoteError("the peer closed before the handshake was done", reason="closed")
            self._ready.set_exception(reason)
            self._ready.exception()  # marks it as seen: not every owner waits for it
        try:
            self._mux.end(error)
        finally:
            if self._partial_reported:
                self._watcher.partial(-self._partial_reported)
                self._partial_reported = 0
            if self._metrics is not None:
                self._metrics.ended(error, handshaken=self._counted)
            self._watcher.lost(self, error)
            if self.on_closed is not None:
                self.on_closed(error)

    # --- time --------------------------------------------------------------------------------------------------------

    def _deadlines(self) -> list[tuple[float, str]]:
        limits = self._timeouts
        if self._closing_since is not None:
            return [(self._closing_since + limits.close_s, "closing")]
        found = []
        if not self._stream.established:
            reason = "handshake_timeout" if self._held is None else "overload"
            found.append((self._made_at + limits.handshake_s, reason))
        elif not self._paused_by_owner and self._owner is not None:
            found.append((self._read_at + limits.idle_s, "idle"))
            if self._frame_since is not None:
                allowed = limits.frame_s + self._stream.partial_size / FRAME_RATE_MIN
                found.append((self._frame_since + allowed, "slow_frame"))
        if self._window.paused_at is not None:
            found.append((self._window.paused_at + limits.stall_s, "slow_reader"))
        return found

    def _schedule(self) -> None:
        """One timer for everything; it looks again when it fires, so traffic never touches it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is None:
            return
        times = [when for when, _ in self._deadlines()]
        keepalive = self._stream.next_timer()
        if keepalive is not None and not self._ended:
            times.append(keepalive)
        if times:
            self._timer = self._loop.call_at(min(times), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._window.look(self.waiting_bytes, now)
        late = [reason for when, reason in self._deadlines() if when <= now]
        if "closing" in late:
            if self._transport is not None:
                self._transport.abort()
            return
        if late:
            self.drop(RemoteError(f"the peer took too long: {late[0]}", reason=late[0]))
            return
        if not self._ended:
            self._stream.handle_timer(now=now)
            self.flush()
        self._schedule()


def _nobody(_protocol: str, _channel_id: bytes | None) -> None:
    raise LocalError("a message was delivered before the connection had an owner")


async def connect(
    host: str,
    port: int,
    *,
    key_pair: KeyPair,
    remote_public_key: bytes | None = None,
    on_connection: Callable[[Connection], None] | None = None,
    timeouts: Timeouts | None = None,
    metrics: SwarmMetrics | None = None,
    watcher: Watcher | None = None,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Connection:
    """A connection with its handshake done. Set `on_open_request`, at once or in `on_connection`.

    Raises `OSError` where nobody answers, `RemoteError` (`SignatureError` for another key than `remote_public_key`)
    for a failed handshake, `ConfigError` for a host that is no IP address: no name is ever looked up.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError("host", f"{host!r} is not an IP address (no host names are looked up)") from None
    loop = asyncio.get_running_loop()
    limits = timeouts or Timeouts()

    def make() -> Connection:
        return Connection(
            True,
            key_pair,
            remote_public_key=remote_public_key,
            random=random,
            timeouts=limits,
            metrics=metrics,
            watcher=watcher,
            on_connection=on_connection,
        )

    async with asyncio.timeout(limits.handshake_s):
        transport, connection = await loop.create_connection(make, host, port)
    try:
        await connection.wait_handshake()
    except BaseException:
        transport.abort()
        raise
    return connection
