"""A listener for peers, and whom it lets in: limits per address and in all, bans, and the owner's own firewall.

A connection that is refused here costs one accepted socket and nothing else: no transport is made and no key computed.
The limits are those of `edge/limits.py`; `Admission` can lower them.

Strangers - peers that have opened no channel yet, or have just broken a rule - cannot crowd out the others. Where
connections are scarce, the oldest of them makes room, half-open ones first. The processor time spent on all of them
together has a `Budget`; who is out of it waits for a turn, and at most `WAITING_MAX` do. Addresses from which a peer
was served before are excepted, so that those who know each other meet again even while strangers flood us.
"""

import asyncio
import ipaddress
import logging
import random as randomness
import secrets
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from edge.crypto.keys import KeyPair
from edge.errors import ConfigError, RemoteError
from edge.hyperswarm.bans import Bans, address_of
from edge.hyperswarm.budget import Budget
from edge.hyperswarm.connection import Connection
from edge.hyperswarm.metrics import SwarmMetrics
from edge.hyperswarm.watcher import Timeouts, Watcher
from edge.limits import (
    ACCEPT_RETRY_S,
    ACCEPTS_AT_ONCE_MAX,
    CONNECTIONS_MAX,
    CONNECTIONS_PER_ADDRESS_MAX,
    HALF_OPEN_MAX,
    HALF_OPEN_PER_ADDRESS_MAX,
    LISTEN_BACKLOG,
    PARTIAL_BYTES_MAX,
    REGULARS_MAX,
    STRANGER_S,
    WAITING_MAX,
    WRITE_TOTAL_BYTES_MAX,
)

logger = logging.getLogger(__name__)

_ACCIDENTS = frozenset(
    {"closed", "full", "address_full", "banned", "refused", "idle", "crowded", "overload", "partial_frames"}
)


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may connect. `admit` is the firewall: asked with the proved public key before any channel is opened."""

    admit: Callable[[bytes], bool] | None = None
    connections_max: int = CONNECTIONS_MAX
    per_address_max: int = CONNECTIONS_PER_ADDRESS_MAX
    half_open_max: int = HALF_OPEN_MAX
    half_open_per_address_max: int = HALF_OPEN_PER_ADDRESS_MAX
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
        self._listener: socket.socket | None = None
        self._accepting: set[asyncio.Task[None]] = set()
        self._connections: dict[Connection, float] = {}  # and when it was made: oldest first
        self._open: set[Connection] = set()  # whose transport is still there
        self._per_address: Counter[str] = Counter()
        self._half_open: dict[Connection, str] = {}  # and its address: oldest first
        self._half_open_of: Counter[str] = Counter()
        self._partial_bytes = 0
        self._congested: dict[Connection, None] = {}  # longest first
        self._budget = Budget()
        self._waiting: dict[Connection, None] = {}  # strangers whose turn has not come
        self._turns: asyncio.Handle | None = None
        self._regulars: dict[str, None] = {}  # addresses that were served before, least recent first
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
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=LISTEN_BACKLOG)
        self._listener.setblocking(False)
        self.port = int(self._listener.getsockname()[1])
        self._listen_again()

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        while self._accepting:
            await asyncio.wait(self._accepting)
        for connection in self.connections:
            connection.close()
        await asyncio.gather(*(connection.wait_closed() for connection in list(self._open)))
        if self._turns is not None:
            self._turns.cancel()

    # --- accepting ---------------------------------------------------------------------------------------------------

    def _listen_again(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        """Take what waits; whom we do not want costs no more than that."""
        listener = self._listener
        for _ in range(ACCEPTS_AT_ONCE_MAX):
            if listener is None:
                return
            try:
                accepted, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor or no memory is left
                logger.warning("no connection can be accepted for %.0f s: %s", ACCEPT_RETRY_S, error)
                self._loop.remove_reader(listener)
                self._loop.call_later(ACCEPT_RETRY_S, self._listen_again)
                return
            try:
                self._check(address_of(str(peer[0])))
            except RemoteError as error:
                accepted.close()
                if self._metrics is not None:
                    self._metrics.handshakes_failed.labels(reason=error.reason).inc()
                continue
            accepted.setblocking(False)
            task = self._loop.create_task(self._take(accepted))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _take(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, accepted)
        except OSError as error:  # gone already
            logger.debug("a connection was lost while it was accepted: %s", error)

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
        address = address_of(connection.remote_address[0])
        self._check(address)
        if len(self._connections) >= self._policy.connections_max:
            self._make_room(address)
        if len(self._half_open) >= self._policy.half_open_max:
            self._make_half_open_room()
        self._connections[connection] = self._loop.time()
        self._per_address[address] += 1
        self._half_open[connection] = address
        self._half_open_of[address] += 1
        if self._half_open_of[address] > self._policy.half_open_per_address_max:
            raise RemoteError(f"too many connections of {address} without a handshake", reason="half_open")

    def _check(self, address: str) -> None:
        if self.bans.banned(address, now=self._loop.time()):
            raise RemoteError(f"{address} is banned", reason="banned")
        if self._per_address[address] >= self._policy.per_address_max:
            raise RemoteError(f"too many connections of {address}", reason="address_full")

    def _make_room(self, address: str) -> None:
        """End the oldest connection that has proved nothing, or one of an address with many; else refuse."""
        before = self._loop.time() - STRANGER_S
        for connection, made_at in self._connections.items():
            if made_at > before:
                break
            if not connection.proved:
                connection.drop(RemoteError("others need the room", reason="crowded"))
                return
        crowd, number = self._per_address.most_common(1)[0] if self._per_address else (address, 0)
        if number <= self._per_address[address] + 1:
            raise RemoteError("too many connections", reason="full")
        of_crowd = (each for each in reversed(self._connections) if address_of(each.remote_address[0]) == crowd)
        next(of_crowd).drop(RemoteError("others need the room", reason="crowded"))

    def _make_half_open_room(self) -> None:
        """End the oldest half-open connection that waits for nothing of ours."""
        for connection in self._half_open:
            if connection not in self._waiting:
                connection.drop(RemoteError("others need the room", reason="crowded"))
                return
        raise RemoteError("too many connections without a handshake", reason="overload")

    def handshaken(self, connection: Connection) -> None:
        """Ask whether this key may come in."""
        self._no_longer_half_open(connection)
        key = connection.remote_public_key
        if self.bans.banned(key, now=self._loop.time()):
            raise RemoteError("the peer's key is banned", reason="banned")
        if self._policy.admit is not None and not self._policy.admit(key):
            raise RemoteError("the peer's key is not let in", reason="refused")

    def gone(self, connection: Connection) -> None:
        """Its socket is closed."""
        self._open.discard(connection)

    def turn(self, connection: Connection) -> bool:
        """Whether a stranger may be served now; else it waits, and where too many do, one of them goes."""
        if address_of(connection.remote_address[0]) in self._regulars:
            return True
        if not self._waiting and not self._budget.wait_s(now=self._loop.time()):
            return True
        self._waiting[connection] = None
        if len(self._waiting) > WAITING_MAX:
            victim = randomness.choice(list(self._waiting))  # fairness, not secrecy
            self._loop.call_soon(victim.drop, RemoteError("too many wait for their turn", reason="overload"))
            del self._waiting[victim]
        if self._turns is None:
            self._turns = self._loop.call_soon(self._serve_turns)
        return False

    def _serve_turns(self) -> None:
        """Serve the next one, once there is something to spend; the others of the loop come in between."""
        self._turns = None
        if not self._waiting:
            return
        wait_s = self._budget.wait_s(now=self._loop.time())
        self._turns = self._loop.call_later(wait_s, self._serve_turns)
        if not wait_s:
            connection = next(iter(self._waiting))
            del self._waiting[connection]
            connection.go_on()

    def spent(self, connection: Connection, seconds: float) -> None:
        """Charge it to all strangers, if it is one."""
        if connection.proved:
            self._budget.served(seconds, now=self._loop.time())
        else:
            self._budget.spend(seconds, now=self._loop.time())

    def congested(self, connection: Connection, *, yes: bool) -> None:
        """Bound the memory of what peers do not read, over all connections."""
        self._congested.pop(connection, None)
        if not yes:
            return
        self._congested[connection] = None
        while sum(each.waiting_bytes for each in self._congested) > WRITE_TOTAL_BYTES_MAX:
            slowest = next(iter(self._congested))
            del self._congested[slowest]
            self._loop.call_soon(slowest.drop, RemoteError("the peer does not read", reason="slow_reader"))

    def partial(self, change: int) -> None:
        """Bound the memory of unfinished frames over all connections."""
        self._partial_bytes += change
        if change > 0 and self._partial_bytes > self._policy.partial_bytes_max:
            raise RemoteError("unfinished frames take too much memory", reason="partial_frames")

    def lost(self, connection: Connection, error: Exception | None) -> None:
        """Count it out; remember what it did."""
        if self._connections.pop(connection, None) is None:
            return  # refused when it was made
        self._no_longer_half_open(connection)
        self._waiting.pop(connection, None)
        self._congested.pop(connection, None)
        address = address_of(connection.remote_address[0])
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]
        if connection.strikes or (isinstance(error, RemoteError) and error.reason not in _ACCIDENTS):
            self._regulars.pop(address, None)
        elif connection.proved and error is None:
            self._regulars.pop(address, None)
            self._regulars[address] = None
            if len(self._regulars) > REGULARS_MAX:
                del self._regulars[next(iter(self._regulars))]
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

    def _no_longer_half_open(self, connection: Connection) -> None:
        address = self._half_open.pop(connection, None)
        if address is not None:
            self._half_open_of[address] -= 1
            if not self._half_open_of[address]:
                del self._half_open_of[address]


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
