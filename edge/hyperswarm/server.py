"""A listener for peers, and whom it lets in: limits per address and in all, bans, and the owner's own firewall.

A connection that is refused here costs one accepted socket and nothing else: no key is computed for it. The limits are
those of `edge/limits.py`; `Admission` can lower them.
"""

import asyncio
import ipaddress
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edge.crypto.keys import KeyPair
from edge.errors import ConfigError, RemoteError
from edge.hyperswarm.bans import Bans, address_of
from edge.hyperswarm.connection import Connection
from edge.hyperswarm.metrics import SwarmMetrics
from edge.hyperswarm.watcher import Timeouts, Watcher
from edge.limits import CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, HALF_OPEN_MAX, PARTIAL_BYTES_MAX

_ACCIDENTS = frozenset({"closed", "full", "address_full", "banned", "refused", "idle", "half_open", "partial_frames"})


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may connect. `admit` is the firewall: asked with the proved public key before any channel is opened."""

    admit: Callable[[bytes], bool] | None = None
    connections_max: int = CONNECTIONS_MAX
    per_address_max: int = CONNECTIONS_PER_ADDRESS_MAX
    half_open_max: int = HALF_OPEN_MAX
    partial_bytes_max: int = PARTIAL_BYTES_MAX


class Server(Watcher):
    """A listening socket and its connections. `serve` makes one; `close` ends all of it."""

    def __init__(
        self,
        *,
        key_pair: KeyPair,
        on_connection: Callable[[Connection], None],
        policy: Admission | None = None,
        bans: Bans | None = None,
        timeouts: Timeouts | None = None,
        metrics: SwarmMetrics | None = None,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._key_pair = key_pair
        self._on_connection = on_connection
        self._policy = policy or Admission()
        self._timeouts = timeouts
        self._metrics = metrics
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._open: set[Connection] = set()  # whose transport is still there
        self._per_address: Counter[str] = Counter()
        self._half_open: set[Connection] = set()
        self._partial_bytes = 0
        self.bans = bans if bans is not None else Bans()
        self.port = 0  # that is listened on, once it is

    @property
    def connections(self) -> frozenset[Connection]:
        """Those that are there now, half-open ones too."""
        return frozenset(self._connections)

    async def listen(self, host: str, port: int) -> None:
        """Begin. Raises `OSError` if the address cannot be had, `ConfigError` if it is none."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ConfigError("host", f"{host!r} is not an IP address (no host names are looked up)") from None
        self._listener = await self._loop.create_server(self._make, host, port)
        self.port = int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._listener is not None:
            self._listener.close()
        for connection in self.connections:
            connection.close()
        await asyncio.gather(*(connection.wait_closed() for connection in list(self._open)))
        if self._listener is not None:
            await self._listener.wait_closed()

    def _make(self) -> Connection:
        connection = Connection(
            False,
            self._key_pair,
            random=self._random,
            timeouts=self._timeouts,
            metrics=self._metrics,
            watcher=self,
            on_connection=self._on_connection,
        )
        self._open.add(connection)
        return connection

    # --- Watcher -----------------------------------------------------------------------------------------------------

    def made(self, connection: Connection) -> None:
        """Count it in, or refuse it."""
        policy, address = self._policy, address_of(connection.remote_address[0])
        if self.bans.banned(address, now=self._loop.time()):
            raise RemoteError(f"{address} is banned", reason="banned")
        if len(self._connections) >= policy.connections_max:
            raise RemoteError("too many connections", reason="full")
        if self._per_address[address] >= policy.per_address_max:
            raise RemoteError(f"too many connections of {address}", reason="address_full")
        if len(self._half_open) >= policy.half_open_max:
            raise RemoteError("too many connections without a handshake", reason="half_open")
        self._connections.add(connection)
        self._half_open.add(connection)
        self._per_address[address] += 1

    def handshaken(self, connection: Connection) -> None:
        """Ask whether this key may come in."""
        self._half_open.discard(connection)
        key = connection.remote_public_key
        if self.bans.banned(key, now=self._loop.time()):
            raise RemoteError("the peer's key is banned", reason="banned")
        if self._policy.admit is not None and not self._policy.admit(key):
            raise RemoteError("the peer's key is not let in", reason="refused")

    def gone(self, connection: Connection) -> None:
        """Its socket is closed."""
        self._open.discard(connection)

    def partial(self, change: int) -> None:
        """Bound the memory of unfinished frames over all connections."""
        self._partial_bytes += change
        if change > 0 and self._partial_bytes > self._policy.partial_bytes_max:
            raise RemoteError("unfinished frames take too much memory", reason="partial_frames")

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """Count it out; remember what it did."""
        if connection not in self._connections:
            return  # refused when it was made
        self._connections.discard(connection)
        self._half_open.discard(connection)
        address = address_of(connection.remote_address[0])
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
        if not isinstance(error, RemoteError) or error.reason in _ACCIDENTS:
            return
        now, banned = self._loop.time(), 0
        if error.reason == "strikes":
            self.bans.ban(connection.remote_public_key, error.reason, now=now)
            self.bans.ban(address, error.reason, now=now)
            banned = 2
        else:
            banned = int(self.bans.fault(address, error.reason, now=now))
        if banned and self._metrics is not None:
            self._metrics.bans.labels(reason=error.reason).inc(banned)


async def serve(
    host: str,
    port: int,
    *,
    key_pair: KeyPair,
    on_connection: Callable[[Connection], None],
    policy: Admission | None = None,
    bans: Bans | None = None,
    timeouts: Timeouts | None = None,
    metrics: SwarmMetrics | None = None,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Server:
    """Listen for peers; port 0 takes any. `on_connection` is called with each that has proved its key and is let in.

    It must set `on_open_request` before the peer's channels can be answered.
    """
    server = Server(
        key_pair=key_pair,
        on_connection=on_connection,
        policy=policy,
        bans=bans,
        timeouts=timeouts,
        metrics=metrics,
        random=random,
    )
    await server.listen(host, port)
    return server
