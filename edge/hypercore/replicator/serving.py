"""Answers to peers: data, what is held, and what is said when that changes.

A request is answered at once, in the turn in which it came; only while the connection is congested it waits in the
peer's queue. A fork that is not ours, and a block that is not held, are answered `no-data`; what no log can answer is
counted as invalid besides.

Spec: hypercore 11.37, lib/replicator.js. We announce a log held from 0 on as one range from 0; of a log with holes,
what peers asked about, and what lies near its end.
"""

from collections.abc import Callable

from edge.errors import BlockMissing, RemoteError, StorageError
from edge.hypercore import flat_tree
from edge.hypercore.messages import (
    INVALID_REQUEST,
    NOT_AVAILABLE,
    MessageType,
    NoData,
    Range,
    Request,
    Sync,
    decode_cancel,
    decode_request,
    decode_unwant,
    decode_want,
)
from edge.hypercore.replicator.contract import Core
from edge.hypercore.replicator.metrics import ReplicationMetrics, kind_of
from edge.hypercore.replicator.peer import Peer
from edge.hypercore.replicator.wants import bitfields
from edge.limits import LAST_BLOCKS, REQUESTS_QUEUED_MAX, WANTS_PER_S_MAX

_DATA, _NO_DATA = MessageType.DATA, MessageType.NO_DATA
Invalid = Callable[[Peer, RemoteError], None]


class Server:
    """Serves one core. `invalid` is told what peers did wrong."""

    def __init__(self, core: Core, metrics: ReplicationMetrics | None, invalid: Invalid) -> None:
        self._core = core
        self._metrics = metrics
        self._invalid = invalid
        self.uploading = True
        self._blocks = self._bytes = 0
        self._kinds: dict[str, int] = {}

    # --- requests ----------------------------------------------------------------------------------------------------

    def request(self, peer: Peer, payload: bytes) -> None:
        """Answer a request, or keep it until the peer has read what we sent before."""
        request = decode_request(payload)
        if peer.queue or peer.session.congested:
            if len(peer.queue) >= REQUESTS_QUEUED_MAX and request.id not in peer.queue:
                raise RemoteError(f"more than {REQUESTS_QUEUED_MAX} requests wait", reason="flood")
            peer.queue.pop(request.id, None)  # a second request of one id replaces the first
            peer.queue[request.id] = request
        else:
            self._answer(peer, request)

    def cancel(self, peer: Peer, payload: bytes, _now: float) -> None:
        """A request needs no answer any more."""
        peer.queue.pop(decode_cancel(payload).id, None)

    def drain(self, peer: Peer) -> None:
        """Go on answering: the connection is no longer congested."""
        queue = peer.queue
        while queue and not peer.channel.closed and not peer.session.congested:
            request = queue.pop(next(iter(queue)))
            try:
                self._answer(peer, request)
            except RemoteError as error:
                self._invalid(peer, error)
        self.count()

    def _answer(self, peer: Peer, request: Request) -> None:
        core = self._core
        if self._metrics is not None:
            kind = kind_of(request)
            self._kinds[kind] = self._kinds.get(kind, 0) + 1
        if not self.uploading or request.fork != core.fork or core.frozen is not None:
            peer.send(_NO_DATA, NoData(request.id, NOT_AVAILABLE).encode())
            return
        try:
            data = core.prove(request)
        except (BlockMissing, StorageError):  # not here, or not readable: others may have it
            peer.send(_NO_DATA, NoData(request.id, NOT_AVAILABLE).encode())
            return
        except RemoteError:
            peer.send(_NO_DATA, NoData(request.id, INVALID_REQUEST).encode())
            raise
        peer.send(_DATA, data.encode())
        if data.block is not None:
            self._blocks += 1
            self._bytes += len(data.block.value)

    def count(self) -> None:
        """Bring the counters up to date, once a batch."""
        if self._metrics is not None:
            self._metrics.blocks_sent.inc(self._blocks)
            self._metrics.bytes_sent.inc(self._bytes)
            for kind, count in self._kinds.items():
                self._metrics.requests_received.labels(kind=kind).inc(count)
            self._kinds.clear()
        self._blocks = self._bytes = 0

    # --- what is said of us -------------------------------------------------------------------------------------------

    def sync(self, peer: Peer, *, downloading: bool) -> Sync | None:
        """What `peer` is to know of our state; None while our disk does not tell."""
        core = self._core
        try:
            shown = core.shown
            fork, length = (shown[0], shown[1]) if shown else (core.fork, 0)
            same = peer.fork == fork
            common = flat_tree.full_roots(min(peer.length, length))
            can_upgrade = same and all(core.known(index) is not None for index in common)
        except StorageError:
            return None
        has_manifest = core.manifest is not None and not core.compat
        return Sync(
            fork, length, peer.length if same else 0, can_upgrade, self.uploading, downloading, has_manifest, False
        )

    # --- what is held ------------------------------------------------------------------------------------------------

    def greet(self, peer: Peer) -> None:
        """Say what we hold from 0 on."""
        contiguous = min(self._core.contiguous, self._core.length)
        if contiguous:
            peer.send(MessageType.RANGE, Range(False, 0, contiguous).encode())
            peer.told_contiguous = contiguous

    def want(self, peer: Peer, payload: bytes, now: float) -> None:
        """Answer what a peer wants to know, and remember it."""
        want = decode_want(payload)
        if self._core.frozen is not None:
            return
        peer.wants.add(want)
        if now - peer.wants_since >= 1.0:
            peer.wants_since, peer.wants_answered = now, 0
        peer.wants_answered += 1
        if peer.wants_answered > WANTS_PER_S_MAX:
            raise RemoteError(f"more than {WANTS_PER_S_MAX} wants a second", reason="flood")
        core = self._core
        contiguous = min(core.contiguous, core.length)
        end = min(want.start + want.length, core.length)
        if contiguous == core.length or end <= contiguous or (want.any and want.start < contiguous):
            if contiguous:
                peer.send(MessageType.RANGE, Range(False, 0, contiguous).encode())
                peer.told_contiguous = contiguous
        elif want.any:
            for low, _ in core.held(want.start, end):
                peer.send(MessageType.RANGE, Range(False, low, 1).encode())
                break
        else:
            for bitfield in bitfields(core.held(want.start, end), want.start):
                peer.send(MessageType.BITFIELD, bitfield.encode())

    def unwant(self, peer: Peer, payload: bytes, _now: float) -> None:
        """Forget a want."""
        peer.wants.remove(decode_unwant(payload))

    def stored(self, peer: Peer, start: int, end: int) -> None:
        """Blocks came to be held: tell whoever may care."""
        core = self._core
        length = core.length
        if core.contiguous >= length:
            if peer.told_contiguous < length:
                peer.told_contiguous = length
                peer.send(MessageType.RANGE, Range(False, 0, length).encode())
        elif not peer.has.covers(start, end) and (end + LAST_BLOCKS >= length or peer.wants.touch(start, end)):
            peer.send(MessageType.RANGE, Range(False, start, end - start).encode())

    def dropped(self, peer: Peer, start: int, end: int) -> None:
        """Blocks are held no more."""
        peer.told_contiguous = min(peer.told_contiguous, start)
        peer.send(MessageType.RANGE, Range(True, start, end - start).encode())
