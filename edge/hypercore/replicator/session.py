"""One connection and the cores that are replicated over it: opens, checks, refuses and reopens their channels.

    session = Session(connection, lookup=find)      # find(discovery key) -> Replicator, None, or an awaitable of either
    session.attach(replicator)

A channel is named by the core's discovery key, which may be known to anybody; so each side proves with the handshake
that it knows the key itself, by a hash that is bound to this connection. Nothing else is looked at before that.

A channel that is closed is nothing special: it is idle. It is opened again once we want something of the core, or the
peer does. Spec: hypercore 11.37, lib/replicator.js (`attachTo`, `_makePeer`) and lib/caps.js (`replicate`).
"""

import asyncio
import hmac
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

from edge.crypto.hashing import REPLICATE_INITIATOR, REPLICATE_RESPONDER, keyed256
from edge.errors import RemoteError, SignatureError
from edge.hypercore.messages import Handshake, decode_handshake
from edge.hypercore.replicator.contract import Channel, Connection
from edge.hypercore.replicator.peer import Peer
from edge.hypercore.replicator.replicator import Replicator
from edge.limits import CORES_PER_SESSION_MAX, REOPENINGS_MAX, UNKNOWN_CORES_MAX

PROTOCOL: Final = "hypercore/alpha"
ALIASES: Final = ("hypercore",)

Found = Replicator | None
Lookup = Callable[[bytes], Found | Awaitable[Found]]
Asked = Callable[[str, bytes | None], bool | None]


def capability(key: bytes, handshake_hash: bytes, *, initiator: bool) -> bytes:
    """What proves knowledge of a core's key over the connection with this handshake, from that side of it."""
    return keyed256(handshake_hash, REPLICATE_INITIATOR if initiator else REPLICATE_RESPONDER, key)


class Session:
    """The cores of one connection. `lookup` is asked for cores that the peer wants and are not attached.

    `other` gets requests for channels of other protocols.
    """

    def __init__(self, connection: Connection, lookup: Lookup | None = None, other: Asked | None = None) -> None:
        self.connection = connection
        self._lookup = lookup
        self._other = other
        self._cores: dict[bytes, Replicator] = {}
        self._peers: dict[bytes, Peer] = {}  # by discovery key, open or asked for
        self._opened_at: dict[bytes, float] = {}
        self._idle_closes: dict[bytes, int] = {}  # in a row, without a block in between
        self._unknown = 0
        self._tasks: set[asyncio.Future[None]] = set()
        self._forget_drained = connection.on_drained(self._drained)
        connection.on_open_request = self._asked

    # --- for replicators and the owner -------------------------------------------------------------------------------

    @property
    def congested(self) -> bool:
        """Whether the peer does not read as fast as we answer."""
        return self.connection.congested

    def attach(self, replicator: Replicator) -> None:
        """Replicate this core too."""
        key = replicator.core.discovery_key
        if self._cores.get(key) is replicator or replicator.closed:
            return
        if len(self._cores) >= CORES_PER_SESSION_MAX:
            raise RemoteError(f"more than {CORES_PER_SESSION_MAX} cores over one connection", reason="cores")
        for session in [each for each in replicator.sessions if each.connection.closed]:
            del replicator.sessions[session]  # its channel was idle when the connection ended
        self._cores[key] = replicator
        replicator.sessions[self] = None
        self._open(replicator)

    def detach(self, replicator: Replicator) -> None:
        """Replicate it no more."""
        key = replicator.core.discovery_key
        if self._cores.get(key) is not replicator:
            return
        del self._cores[key]
        replicator.sessions.pop(self, None)
        peer = self._peers.get(key)
        if peer is not None:
            peer.channel.close()

    def reopen(self, replicator: Replicator) -> None:
        """The core wants something: open its channel if it is closed."""
        if self.connection.closed:
            self._cores.pop(replicator.core.discovery_key, None)
            replicator.sessions.pop(self, None)
        elif replicator.core.discovery_key not in self._peers:
            self._open(replicator)

    def has_channel(self, replicator: Replicator) -> bool:
        """Whether a channel is open, or asked for."""
        return replicator.core.discovery_key in self._peers

    def waits_for(self, replicator: Replicator, since: float) -> bool:
        """Whether the peer has not said yet how long its log is, and was asked after `since`."""
        key = replicator.core.discovery_key
        peer = self._peers.get(key)
        return peer is not None and not peer.synced and self._opened_at.get(key, 0.0) > since

    def close(self) -> None:
        """Leave all cores; the connection stays."""
        self._forget_drained()
        for task in self._tasks:
            task.cancel()
        for replicator in list(self._cores.values()):
            self.detach(replicator)

    # --- channels ----------------------------------------------------------------------------------------------------

    def _open(self, replicator: Replicator) -> None:
        connection, core = self.connection, replicator.core
        if connection.closed:
            return
        peer = Peer(replicator, self)
        proof = capability(core.key, connection.handshake_hash, initiator=connection.initiator)
        try:
            peer.channel = connection.open(
                PROTOCOL, core.discovery_key, Handshake(True, proof).encode(), peer, aliases=ALIASES
            )
        except RemoteError:
            return  # too many channels: opened when the peer asks, or something is wanted later
        self._peers[core.discovery_key] = peer
        self._opened_at[core.discovery_key] = replicator.now()

    def opened(self, peer: Peer, channel: Channel) -> None:
        """Both sides opened: believe nothing before the capability. Raises `RemoteError`."""
        connection, core = self.connection, peer.replicator.core
        handshake = decode_handshake(channel.remote_handshake)
        expected = capability(core.key, connection.handshake_hash, initiator=not connection.initiator)
        if not hmac.compare_digest(handshake.capability, expected):
            raise SignatureError("the peer does not prove that it knows the core's key", reason="capability")
        peer.open = True
        peer.replicator.joined(peer)

    def closed(self, peer: Peer, error: Exception | None) -> None:
        """A channel is over, by either side or with the connection."""
        replicator, key = peer.replicator, peer.replicator.core.discovery_key
        if self._peers.get(key) is peer:
            del self._peers[key]
        was_open, peer.open = peer.open, False
        replicator.left(peer)
        if self.connection.closed or error is not None:
            self._cores.pop(key, None)
            replicator.sessions.pop(self, None)
            return
        closes = 0 if peer.delivered else self._idle_closes.get(key, 0) + 1
        self._idle_closes[key] = closes
        # The peer may have closed because we wanted nothing, just before we did: then open again, as stock peers do.
        if (
            was_open
            and closes <= REOPENINGS_MAX
            and self._cores.get(key) is replicator
            and not peer.downloading
            and peer.uploading
            and replicator.downloading
            and replicator.core.frozen is None
        ):
            self._open(replicator)

    def _drained(self) -> None:
        for peer in list(self._peers.values()):
            peer.replicator.drained(peer)

    # --- what the peer opens -----------------------------------------------------------------------------------------

    def _asked(self, protocol: str, channel_id: bytes | None) -> bool | None:
        if (protocol != PROTOCOL and protocol not in ALIASES) or channel_id is None:
            return None if self._other is None else self._other(protocol, channel_id)
        replicator = self._cores.get(channel_id)
        if replicator is not None:
            self._open(replicator)
            return None
        found = None if self._lookup is None else self._lookup(channel_id)
        if inspect.isawaitable(found):
            task = asyncio.ensure_future(self._attach_later(protocol, channel_id, found))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return True
        self._attach_found(found)
        return None

    def _attach_found(self, found: Found) -> bool:
        if found is None or found.closed:
            self._unknown += 1
            if self._unknown > UNKNOWN_CORES_MAX:
                raise RemoteError(f"asked for more than {UNKNOWN_CORES_MAX} cores in vain", reason="scan")
            return False
        try:
            self.attach(found)
        except RemoteError:  # too many: this one is refused
            return False
        return True

    async def _attach_later(self, protocol: str, channel_id: bytes, found: Awaitable[Found]) -> None:
        attached = False
        try:
            attached = self._attach_found(await found)
        finally:
            if not attached and not self.connection.closed:
                self.connection.refuse(protocol, channel_id)


def replicate(connection: Connection, cores: "list[Replicator] | tuple[Replicator, ...] | Lookup") -> Session:
    """Replicate `cores` over `connection`, or whatever a lookup finds for the peer."""
    if callable(cores):
        return Session(connection, lookup=cores)
    session = Session(connection)
    for replicator in cores:
        session.attach(replicator)
    return session
