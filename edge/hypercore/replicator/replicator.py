"""One core and its peers: hypercore/alpha, without a socket and without a clock of its own.

    replicator = Replicator(core)
    replicator.attach(session)              # over each connection on which the peer may want it

Messages come from the peers' channels, events from the core, and wishes from the core's demand; each is worked through
at once, and then every peer concerned is asked for more. Nothing is said of the core before a peer has proven that it
knows the key, and nothing but what is durable and signed.

Invariants
- After whatever happens, `told` of each peer is what our state would say; a sync is sent when it would differ, which
  is also the acknowledgement without which a stock peer asks for nothing.
- A message that breaks the rules is counted with the connection and passed over; the core is not touched by it.
Spec: hypercore 11.37, lib/replicator.js.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from edge.errors import RemoteError, SignatureError, StorageError
from edge.hypercore.events import Cleared, Closed, Demanded, Event, Forgotten, Frozen, Grown, Stored, Truncated
from edge.hypercore.messages import (
    Data,
    MessageType,
    Request,
    decode_data,
    decode_no_data,
    decode_sync,
)
from edge.hypercore.proof import Unanchored
from edge.hypercore.replicator.asking import Asker
from edge.hypercore.replicator.contract import Core, Message
from edge.hypercore.replicator.extensions import Extensions, OnExtension
from edge.hypercore.replicator.forks import Forks
from edge.hypercore.replicator.metrics import ReplicationMetrics
from edge.hypercore.replicator.peer import Peer, hear_bitfield, hear_range
from edge.hypercore.replicator.serving import Server
from edge.limits import CORE_BLOCKS_MAX, INTEGER_MAX, PEERS_PER_CORE_MAX, REQUEST_TIMEOUT_MIN_S

if TYPE_CHECKING:
    from edge.hypercore.replicator.session import Session

LINGER_S = 10.0  # wishes come in groups: a channel is not closed after each of them
TICK_S = 1.0  # how often silence is looked at, while answers are awaited
CallLater = Callable[[float, Callable[[], None]], Any]

_REQUEST, _DATA = int(MessageType.REQUEST), int(MessageType.DATA)


class Replicator:
    """The peers of one core.

    `following`: stay in touch and learn of longer logs even while nothing is wanted; without it a channel is closed
    once neither side wants anything. `uploading`: serve blocks. `on_idle` is called whenever the last channel has gone.
    """

    def __init__(
        self,
        core: Core,
        metrics: ReplicationMetrics | None = None,
        *,
        following: bool = True,
        clock: Callable[[], float] = time.monotonic,
        call_later: CallLater | None = None,
    ) -> None:
        self.core = core
        self.peers: list[Peer] = []
        self.closed = False
        self.on_idle: Callable[[], None] | None = None
        self.sessions: dict[Session, None] = {}  # a set that keeps its order
        self._metrics = metrics
        self._following = following
        self._clock = clock
        self._call_later = call_later
        self._extensions = Extensions()
        self._forks = Forks(core, metrics)
        self._server = Server(core, metrics, self.invalid)
        self._asker = Asker(core, self.peers, self._forks, metrics, self.invalid)
        self._others: dict[int, Callable[[Peer, bytes, float], None]] = {
            MessageType.SYNC: self._on_sync,
            MessageType.CANCEL: self._server.cancel,
            MessageType.NO_DATA: self._on_no_data,
            MessageType.WANT: self._server.want,
            MessageType.UNWANT: self._server.unwant,
            MessageType.BITFIELD: hear_bitfield,
            MessageType.RANGE: hear_range,
            MessageType.EXTENSION: self._extensions.received,
        }
        self._lingers_until = 0.0  # channels stay open so long after the last wish
        self._busy = 0  # depth of what is being worked through: asking waits for its end
        self._update_due = False
        self._timer: Any = None
        self._shares = 0
        self._tasks: set[asyncio.Future[None]] = set()
        self._unsubscribe = core.subscribe(self._on_event)
        core.demand.replicated = True
        self._asker.planner.rebuild()
        if metrics is not None:
            metrics.watch(self, lag=lambda: self.lag)

    # --- for the owner -----------------------------------------------------------------------------------------------

    def attach(self, session: "Session") -> None:
        """Replicate over this connection too."""
        session.attach(self)

    def close(self) -> None:
        """Leave all peers. The core stays as it is."""
        if self.closed:
            return
        self.closed = True
        self._unsubscribe()
        self.core.demand.replicated = False
        self.core.demand.nothing_newer()
        for session in list(self.sessions):
            session.detach(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._metrics is not None:
            self._metrics.forget(self)

    @property
    def lag(self) -> int:
        """Blocks that peers have shown of our fork and we have not."""
        lengths = [peer.length for peer in self.peers if peer.synced and peer.fork == self.core.fork]
        return max(max(lengths, default=0) - self.core.length, 0)

    @property
    def missing(self) -> int:
        """Blocks below our length that are not held."""
        length = self.core.length
        return length - sum(end - start for start, end in self.core.held(0, length))

    @property
    def idle(self) -> bool:
        """Whether no peer has a channel, or is asked for one."""
        return not any(session.has_channel(self) for session in self.sessions)

    @property
    def downloading(self) -> bool:
        """Whether we want anything."""
        if self._following or self.core.demand.open or any(peer.inflight for peer in self.peers):
            return True
        return self._clock() < self._lingers_until

    @property
    def following(self) -> bool:
        """Whether we stay in touch while nothing is wanted."""
        return self._following

    @following.setter
    def following(self, value: bool) -> None:
        self._following = value
        self._tell_all()
        self._reopen()

    @property
    def uploading(self) -> bool:
        """Whether peers get blocks of us."""
        return self._server.uploading

    @uploading.setter
    def uploading(self, value: bool) -> None:
        self._server.uploading = value
        self._tell_all()

    def on_extension(self, name: str, received: OnExtension | None) -> None:
        """Hear (payload, peer) of the messages of an extension; None to hear no more."""
        self._extensions.listen(name, received)

    def send_extension(self, name: str, payload: bytes, peer: Peer | None = None) -> None:
        """Send a message of an extension to one peer, or to all."""
        self._extensions.send(name, payload, self.peers if peer is None else [peer])

    def now(self) -> float:
        """The time, in seconds of the clock that was given."""
        return self._clock()

    # --- peers -------------------------------------------------------------------------------------------------------

    def joined(self, peer: Peer) -> None:
        """`peer` has proven that it knows the key."""
        if len(self.peers) >= PEERS_PER_CORE_MAX:
            peer.channel.close()
            return
        peer.share, self._shares = self._shares, self._shares + 1
        peer.heard_at = self._clock()
        self.peers.append(peer)
        self._tell(peer)
        if self.core.frozen is None:
            self._server.greet(peer)
        self._arm()

    def left(self, peer: Peer) -> None:
        """The channel of `peer` is over."""
        if peer in self.peers:
            self.peers.remove(peer)
            self._asker.abandon(peer, cancel=False)
            self._due()
        if self.on_idle is not None and self.idle:
            self.on_idle()

    def drained(self, peer: Peer) -> None:
        """The connection of `peer` takes more again."""
        if peer.queue:
            try:
                self._server.drain(peer)
            except RemoteError:  # one invalid request too many: whatever it sends next ends the connection
                peer.channel.close()

    def invalid(self, peer: Peer, error: RemoteError) -> None:
        """`peer` broke the rules; may raise, to end the connection."""
        if self._metrics is not None:
            self._metrics.invalid.labels(reason=error.reason).inc()
        peer.channel.invalid(error)

    # --- messages ----------------------------------------------------------------------------------------------------

    def received(self, peer: Peer, messages: list[Message]) -> None:
        """Work through messages of one peer, then ask for more."""
        now = self._clock()
        asker = self._asker
        asked, settling = asker.planner.asked, asker.planner.settling
        inflight, accept, channel = peer.inflight, self.core.accept, peer.channel
        blocks = size = 0
        sent_at = peer.oldest_sent_at()
        self._busy += 1
        try:
            for kind, payload in messages:
                try:
                    if kind == _DATA:
                        data = decode_data(payload)
                        number, fork, block, _, _, upgrade, _ = data
                        request = inflight.get(number)
                        if (  # the hot path: a block below our length, as it was asked for
                            request is not None
                            and block is not None
                            and upgrade is None
                            and request[5] is None
                            and request[2] is not None
                            and request[2][0] == block[0]
                            and request[1] == fork
                        ):
                            index = block[0]
                            del inflight[number]
                            settling.add(index)
                            try:
                                accept(data)
                            except (RemoteError, StorageError) as error:
                                settling.discard(index)
                                self._not_accepted(peer, request, data, error, now)
                            else:
                                asked.pop(index, None)
                                blocks += 1
                                size += len(block[1])
                        else:
                            self._on_data(peer, data, now)
                    elif kind == _REQUEST:
                        self._server.request(peer, payload)
                    elif (handle := self._others.get(kind)) is not None:
                        handle(peer, payload, now)
                except RemoteError as error:
                    self.invalid(peer, error)
                if channel.closed:
                    break
        finally:
            self._busy -= 1
            if blocks:
                peer.answered(blocks, size, now)
                if sent_at is not None:
                    peer.rtt += (now - sent_at - peer.rtt) / (8 if peer.rtt else 1)
                if self._metrics is not None:
                    self._metrics.blocks_received.inc(blocks)
                    self._metrics.bytes_received.inc(size)
            self._server.count()
        if channel.closed:
            return
        if peer.stash:
            asker.retry(peer, now)
        if self._update_due:
            self.update()
        else:
            asker.refill(peer, now)
            self._arm()

    def _not_accepted(
        self, peer: Peer, request: Request, data: Data, error: RemoteError | StorageError, now: float
    ) -> None:
        assert data.block is not None
        if isinstance(error, Unanchored):
            self._asker.stash(peer, request, data, error.index, now)
            return
        self._asker.planner.give_back(data.block[0])
        self._due()
        if isinstance(error, StorageError):
            peer.rest(now)  # our disk's fault: it is known there, and may heal
            return
        if isinstance(error, SignatureError):
            self._forks.suspect(peer, now)
        raise error

    def _on_data(self, peer: Peer, data: Data, now: float) -> None:
        if not data.id:
            conflict = self._forks.judge(peer, data, now)
            if conflict is not None:
                self._spawn(self.core.conflict(conflict))
            return
        if data.id >= peer.next_id:
            raise RemoteError(f"an answer to request {data.id}, which was never made", reason="unasked")
        request = peer.inflight.pop(data.id, None)
        if request is None:  # cancelled, or of a fork that we left
            if data.block is not None and self._metrics is not None:
                self._metrics.duplicates.inc()
            return
        self._due()
        self._asker.data(peer, request, data, now)

    def _on_sync(self, peer: Peer, payload: bytes, _now: float) -> None:
        sync, core = decode_sync(payload), self.core
        if peer.synced and sync.fork != peer.fork:
            peer.has.remove(sync.length, INTEGER_MAX)
            peer.wanted.clear()
            self._asker.abandon(peer, cancel=False)
        peer.synced = True
        peer.fork, peer.length = sync.fork, sync.length
        peer.acked = sync.remote_length if sync.fork == core.fork else 0
        peer.can_upgrade, peer.has_manifest = sync.can_upgrade, sync.has_manifest
        peer.uploading, peer.downloading = sync.uploading, sync.downloading
        if core.frozen is not None:
            self._forks.tell(peer)
            return
        if not peer.downloading and not self.downloading:
            peer.channel.close()
            return
        self._tell(peer)
        self._due()

    def _on_no_data(self, peer: Peer, payload: bytes, now: float) -> None:
        self._asker.no_data(peer, decode_no_data(payload), now)
        self._due()

    # --- the core ----------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        planner = self._asker.planner
        if isinstance(event, Stored):
            planner.stored(event.start, event.end)
            for peer in self.peers:
                if peer.synced:
                    self._server.stored(peer, event.start, event.end)
        elif isinstance(event, Grown):
            self._tell_all()
        elif isinstance(event, Demanded):
            planner.refresh()
            self._lingers_until = self._clock() + LINGER_S
            self._reopen()
        elif isinstance(event, Cleared):
            for peer in self.peers:
                self._server.dropped(peer, event.start, event.end)
        elif isinstance(event, Truncated):
            self._truncated(event.length)
        elif isinstance(event, Forgotten):
            self._restart()
        elif isinstance(event, Frozen):
            for peer in list(self.peers):
                self._asker.abandon(peer, cancel=False)
                self._forks.tell(peer)
        elif isinstance(event, Closed):
            self.close()
            return
        self._due()

    def _truncated(self, length: int) -> None:
        self._forks.truncated()
        self._restart()
        for peer in self.peers:
            end = max(peer.told.length if peer.told else 0, length + 1)
            self._tell(peer)
            self._server.dropped(peer, length, end)

    def _restart(self) -> None:
        """What is under way belongs to a log that is not ours any more."""
        self._asker.planner.settling.clear()
        self._forks.forgotten()
        for peer in self.peers:
            self._asker.abandon(peer, cancel=True)
        self._asker.planner.rebuild()

    # --- keeping everybody up to date --------------------------------------------------------------------------------

    def _tell_all(self) -> None:
        for peer in list(self.peers):
            self._tell(peer)
        self._due()

    def _tell(self, peer: Peer) -> None:
        """Send a sync, unless it would be the last one again."""
        sync = self._server.sync(peer, downloading=self.downloading)
        if sync is not None and sync != peer.told and peer.open:
            peer.told = sync
            peer.send(MessageType.SYNC, sync.encode())

    def _due(self) -> None:
        """Something changed: ask everybody anew, once what is being worked through is done."""
        if self._busy:
            self._update_due = True
        else:
            self.update()

    def update(self) -> None:
        """Ask every peer for what it can give."""
        self._update_due = False
        if self.closed:
            return
        now = self._clock()
        self._busy += 1
        try:
            wanting = self.core.demand.open
            for peer in list(self.peers):
                self._asker.refill(peer, now)
                if peer.wanted and not wanting:
                    self._asker.unwant(peer)
        finally:
            self._busy -= 1
        self._update_due = False
        if self.core.demand.upgrades_awaited and not self._newer_possible(now):
            self.core.demand.nothing_newer()
        self._arm()

    def _newer_possible(self, now: float) -> bool:
        """Whether a longer log may still come from a peer of now."""
        core = self.core
        if self._asker.upgrading or self._forks.following or core.ahead.length > core.length:
            return True
        if any(session.waits_for(self, now - REQUEST_TIMEOUT_MIN_S) for session in self.sessions):
            return True
        return any(
            peer.may_be_asked(now)
            and ((peer.fork > core.fork and 0 < peer.length <= CORE_BLOCKS_MAX) or self._asker.can_upgrade(peer))
            for peer in self.peers
        )

    def _reopen(self) -> None:
        """Something is wanted: open channels that were closed for idleness."""
        for session in list(self.sessions):
            session.reopen(self)

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look for peers that owe answers and are silent."""
        self._timer = None
        if self.closed:
            return
        now = self._clock()
        for peer in list(self.peers):
            if peer.suspected_at is not None and now - peer.suspected_at > peer.timeout_s:
                peer.channel.close()  # it contradicts our log and does not show its own
            elif self._asker.overdue(peer, now):
                if self._metrics is not None:
                    self._metrics.timeouts.inc()
                peer.rest(now)
                self._asker.abandon(peer, cancel=True)
        self._tell_all()
        for peer in list(self.peers):
            if peer.synced and not peer.downloading and not self.downloading:
                peer.channel.close()

    def _arm(self) -> None:
        if self._timer is not None or self.closed or not self._timed():
            return
        call_later = self._call_later or asyncio.get_running_loop().call_later
        self._timer = call_later(TICK_S, self.tick)

    def _timed(self) -> bool:
        """Whether time alone can change anything."""
        if not self._following and self.peers:
            return True
        now = self._clock()
        return self.core.demand.upgrades_awaited or any(
            peer.inflight or peer.suspected_at is not None or peer.resting_until > now or not peer.synced
            for peer in self.peers
        )

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: "asyncio.Future[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            if error is not None and not isinstance(error, StorageError):  # a full disk shows in the core itself
                raise error
