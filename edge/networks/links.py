"""The connections of one network: who is let in, who is dialled, and one connection a member.

Everybody proves a key in the Noise handshake, whoever dialled. A key that the roster does not admit is refused then:
before any channel is opened, any discovery key named or anything of it read. Of two connections with one member, both
ends keep the same one: that which the smaller key dialled, and of two of one direction the newer.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from edge.crypto.keys import KeyPair
from edge.errors import RemoteError
from edge.hyperswarm.address import Address
from edge.hyperswarm.connection import Connection, connect
from edge.hyperswarm.server import Admission, Server, serve
from edge.networks.metrics import MetricsView

logger = logging.getLogger(__name__)

_RETRY_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # between attempts; the last one again and again
_STEADY_S: Final = 30.0  # a connection that lasted so long was none: the next attempt is the first again


def retry_s(attempt: int, draw: float) -> float:
    """Seconds before attempt number `attempt`, from 0, of the same peer; `draw` in [0, 1) spreads boxes apart."""
    return _RETRY_S[min(attempt, len(_RETRY_S) - 1)] * (0.5 + draw)


def newer_stays(ours: bytes, theirs: bytes, *, newer_is_ours: bool, older_is_ours: bool) -> bool:
    """Of two connections with `theirs`, whether the newer one is kept; `..._is_ours`: we have dialled it."""
    return newer_is_ours in (older_is_ours, ours < theirs)


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A connection with somebody whom the roster admits."""

    connection: Connection
    member: bytes  # its id
    since: float  # monotonic seconds

    @property
    def address(self) -> str:
        """Its end of it, HOST:PORT."""
        return str(Address(*self.connection.remote_address))


class Links:
    """All of them. `refusal` says why a key is not let in, in one word for a metric, or None where it is.

    `joined` is called with each new link before anything of the peer is read, and must give the connection an owner;
    `parted` when one has ended. `guest` is asked for keys that may come for something else than the network's feeds, an
    invitation's: it gives who owns such a connection, or None.
    """

    def __init__(
        self,
        identity: KeyPair,
        *,
        refusal: Callable[[bytes], str | None],
        joined: Callable[[Link], None],
        parted: Callable[[Link], None],
        random: Callable[[], float],
        metrics: MetricsView | None = None,
        guest: Callable[[bytes], Callable[[Connection], None] | None] = lambda _: None,
    ) -> None:
        self._identity = identity
        self._refusal = refusal
        self._joined = joined
        self._parted = parted
        self._guest = guest
        self._random = random
        self._metrics = metrics
        self._swarm = None if metrics is None else metrics.swarm
        self._links: dict[bytes, Link] = {}
        self._dialling = 0
        self._server: Server | None = None
        self.unreached: set[Address] = set()  # of those that are dialled

    @property
    def port(self) -> int:
        """That is listened on; 0 while nothing is."""
        return 0 if self._server is None else self._server.port

    def all(self) -> list[Link]:
        """Those that are there now."""
        return [link for link in self._links.values() if not link.connection.closed]

    def of(self, member: bytes) -> Link | None:
        """The connection with that member."""
        link = self._links.get(member)
        return None if link is None or link.connection.closed else link

    def drop_refused(self) -> None:
        """The roster has changed: end the connections with those whom it no longer admits."""
        for link in list(self._links.values()):
            reason = self._refusal(link.member)
            if reason is not None:
                link.connection.drop(RemoteError("the peer is not let in any more", reason=reason))

    async def run(self, listen: Address | None, peers: Sequence[Address]) -> None:
        """Listen and keep connections to `peers` until cancelled. Raises `OSError` where the address cannot be had."""
        try:
            if listen is not None:
                policy = Admission(admit=lambda key: self._guest(key) is not None or self._admit(key))
                self._server = await serve(
                    *listen, key_pair=self._identity, on_connection=self._came, policy=policy, metrics=self._swarm
                )
            if self._metrics is not None:
                self._metrics.watch(handshaking=self._handshaking, banned=self._banned)
            async with asyncio.TaskGroup() as group:
                for peer in peers:
                    group.create_task(self._keep(peer))
                await asyncio.get_running_loop().create_future()  # until cancelled
        finally:
            await self._close()

    # --- who may -----------------------------------------------------------------------------------------------------

    def _admit(self, key: bytes) -> bool:
        reason = "self" if key == self._identity.public_key else self._refusal(key)
        if reason is not None and self._metrics is not None:
            self._metrics.refused(reason)
        return reason is None

    def _came(self, connection: Connection) -> None:
        owner = self._guest(connection.remote_public_key)
        if owner is None:
            self._met(connection)
        else:
            owner(connection)

    def _met(self, connection: Connection) -> None:
        """A key is proved, and admitted: choose between this connection and an older one."""
        member = connection.remote_public_key
        old = self.of(member)
        if old is not None and not newer_stays(
            self._identity.public_key,
            member,
            newer_is_ours=connection.initiator,
            older_is_ours=old.connection.initiator,
        ):
            connection.close()
            return
        link = Link(connection, member, asyncio.get_running_loop().time())
        self._links[member] = link
        connection.on_closed = lambda error: self._ended(link, error)
        if old is not None:
            old.connection.close()
        self._joined(link)

    def _ended(self, link: Link, error: Exception | None) -> None:
        if self._links.get(link.member) is not link:
            return  # another connection has taken its place
        del self._links[link.member]
        if isinstance(error, RemoteError):
            logger.info("the connection with %s has ended: %s", link.address, error)
        self._parted(link)

    # --- dialling ----------------------------------------------------------------------------------------------------

    async def _keep(self, peer: Address) -> None:
        """Connect to `peer`, again each time that the connection ends."""
        loop = asyncio.get_running_loop()
        attempt = 0
        self.unreached.add(peer)
        while True:
            began = loop.time()
            connection = await self._dial(peer)
            if connection is not None:
                self.unreached.discard(peer)
                await self._while_linked(connection)
                self.unreached.add(peer)
            attempt = 0 if loop.time() - began > _STEADY_S else attempt + 1
            await asyncio.sleep(retry_s(max(attempt - 1, 0), self._random()))

    async def _dial(self, peer: Address) -> Connection | None:
        self._dialling += 1
        try:
            connection = await connect(*peer, key_pair=self._identity, metrics=self._swarm)
        except (OSError, TimeoutError, RemoteError) as error:
            logger.debug("%s is not reached: %s", peer, error)
            return None
        finally:
            self._dialling -= 1
        if not self._admit(connection.remote_public_key):
            connection.drop(RemoteError("whoever answers there is not let in", reason="refused"))
            return None
        if connection.closed:
            return None
        self._met(connection)
        return connection

    async def _while_linked(self, connection: Connection) -> None:
        """Until neither this connection nor another with the same member is there."""
        try:
            await connection.wait_closed()
            while (link := self.of(connection.remote_public_key)) is not None:
                await link.connection.wait_closed()
        finally:
            if not connection.closed:
                connection.close()

    async def _close(self) -> None:
        links = list(self._links.values())
        for link in links:
            link.connection.close()
        await asyncio.gather(*(link.connection.wait_closed() for link in links))
        if self._server is not None:
            with contextlib.suppress(OSError):
                await self._server.close()

    # --- figures -----------------------------------------------------------------------------------------------------

    def _handshaking(self) -> int:
        served = () if self._server is None else self._server.connections
        return self._dialling + sum(not connection.remote_public_key for connection in served)

    def _banned(self) -> int:
        return 0 if self._server is None else len(self._server.bans)
