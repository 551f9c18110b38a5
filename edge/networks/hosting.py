"""The authority's listener: lets in who is on the roster, replicates the roster with them, takes requests to join.

Whom it lets in is decided by the key that the connection has proved, before any channel is opened: members and
authorities (everybody in an open network) replicate; the key of an invitation may do one thing, ask to join
(`joining.JoinDesk`); all others are refused. Once the roster has changed, connections of who is not on it any more end.

Where several sign, nobody is admitted by a machine: requests are kept as files in `requests/`, for `pomona roster
admit`, and the box is told to ask again.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from edge.atomic import replace_file
from edge.errors import RemoteError
from edge.hypercore.corestore import Corestore
from edge.hypercore.hypercore import Hypercore
from edge.hyperswarm.connection import Connection
from edge.hyperswarm.metrics import SwarmMetrics
from edge.hyperswarm.server import Admission, Server, serve
from edge.networks.authority import Authority
from edge.networks.folder import NetworkFolder
from edge.networks.joining import Answer, JoinDesk
from edge.networks.roster_bee import RosterState, follow_state

_ACCEPTED: Final = "welcome"


class RosterHost:
    """One network's roster, served by its authority. Made by `start`, at work while `run` is, ended by `close`."""

    def __init__(
        self,
        folder: NetworkFolder,
        store: Corestore,
        core: Hypercore,
        boss: Authority,
        state: RosterState,
        *,
        week: Callable[[], int],
        say: Callable[[str, str], None],
    ) -> None:
        """Use `start`."""
        self._folder = folder
        self._store = store
        self._core = core
        self._boss = boss
        self._state = state
        self._week = week
        self._say = say
        self._desk = JoinDesk(self._take)
        self.server: Server | None = None

    @classmethod
    async def start(
        cls,
        folder: NetworkFolder,
        store: Corestore,
        core: Hypercore,
        boss: Authority,
        *,
        host: str,
        port: int,
        week: Callable[[], int],
        say: Callable[[str, str], None],
        metrics: SwarmMetrics | None = None,
    ) -> "RosterHost":
        """Listen. `week` is asked whenever a code is used; `say` hears (event, text) for people."""
        made = cls(folder, store, core, boss, await boss.state(), week=week, say=say)
        identity = await asyncio.to_thread(lambda: folder.identity)
        policy = Admission(admit=made.admits)
        made.server = await serve(
            host, port, key_pair=identity, on_connection=made._met, policy=policy, metrics=metrics
        )
        return made

    def admits(self, key: bytes) -> bool:
        """Whether a connection of `key` may stay: on the roster, or an invitation, whatever became of it."""
        return self._state.roster.admits(key) or key in self._state.invites

    async def run(self) -> None:
        """Go by each new version of the roster, until cancelled."""
        while True:
            length, fork = self._core.length, self._core.fork
            state = await follow_state(self._folder, self._core)
            if state is not None:
                self._go_by(state)
            await self._core.changed(length, fork)

    async def close(self) -> None:
        """Stop listening; answers on their way are given."""
        await self._desk.close()
        if self.server is not None:
            await self.server.close()

    # --- within ------------------------------------------------------------------------------------------------------

    def _met(self, connection: Connection) -> None:
        if connection.remote_public_key in self._state.invites:
            self._desk.serve(connection)
        else:
            self._store.replicate(connection)

    def _go_by(self, state: RosterState) -> None:
        self._state = state
        for connection in self.server.connections if self.server is not None else ():
            if connection.remote_public_key and not self.admits(connection.remote_public_key):
                connection.drop(RemoteError("no longer on the roster", reason="refused"))

    async def _take(self, data: bytes, key: bytes) -> Answer:
        try:
            if self._boss.alone:
                member, _ = await self._boss.admit(data, week=self._week(), invite=key)
            else:
                known = await self._boss.consider(data, week=self._week(), invite=key)
                if known is None:
                    return await self._kept(data, key)
                member = known
        except RemoteError as error:
            self._say("refused", f"a code was refused: {error}")
            raise
        self._go_by(await self._boss.state())
        self._say("admitted", f"{member.id.hex()[:8]} is a member: {member.label or 'no label'}, owner {member.owner}")
        return Answer("", _ACCEPTED, self._state.length)

    async def _kept(self, data: bytes, key: bytes) -> Answer:
        path = self._folder.directory / "requests" / f"{key.hex()}.request"

        def keep() -> None:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            replace_file(path, data)

        await asyncio.to_thread(keep)
        self._say("waiting", f"a box asks to join; propose it to the other signers: {path}")
        return Answer("waiting", "the network's signers must admit this box first; ask again later")
