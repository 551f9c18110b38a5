"""Requests of one core: what is sent to which peer, and what becomes of the answers.

Requests are sent in batches of `REQUEST_BATCH`, so that answers come in batches too; at most one upgrade is under way
at a time. An answer whose proof leads to a node that an older request still brings is stashed until that came. What a
peer does not deliver - it refuses, falls silent, leaves - is given back to the planner, for others.

Invariants: nothing is asked for while the core is behind with its disk, follows a fork or is frozen; nothing from a
peer on another fork, save about that fork.
"""

from collections.abc import Callable

from edge.errors import RemoteError, SignatureError, StorageError
from edge.hypercore import flat_tree
from edge.hypercore.demand import Seek
from edge.hypercore.messages import (
    NOT_AVAILABLE,
    BlockRef,
    Cancel,
    Data,
    MessageType,
    NoData,
    Request,
    SeekRef,
    Unwant,
    UpgradeRef,
    Want,
)
from edge.hypercore.proof import Unanchored
from edge.hypercore.replicator.contract import Core
from edge.hypercore.replicator.forks import Forks
from edge.hypercore.replicator.metrics import ReplicationMetrics, kind_of
from edge.hypercore.replicator.peer import Peer
from edge.hypercore.replicator.planner import Planner
from edge.limits import (
    BACKLOG_BYTES_MAX,
    CORE_BLOCKS_MAX,
    HOTSWAP_AFTER_S,
    HOTSWAP_REQUESTS_MAX,
    REFUSALS_MAX,
    REQUEST_BATCH,
    STASH_BYTES_MAX,
    STASH_REPLIES_MAX,
    WANT_BLOCKS,
    WANTS_MAX,
)

_REQUEST = MessageType.REQUEST
_SEEK_PAGES = 16  # wants for one seek: of a log so long that more would be needed, a block of the first ones is known


class Asker:
    """Asks the peers of one core. `peers` is the replicator's list; `invalid` is told what peers did wrong."""

    def __init__(
        self,
        core: Core,
        peers: list[Peer],
        forks: Forks,
        metrics: ReplicationMetrics | None,
        invalid: Callable[[Peer, RemoteError], None],
    ) -> None:
        self._core = core
        self._peers = peers
        self._forks = forks
        self._metrics = metrics
        self._invalid = invalid
        self.planner = Planner(core)
        self._upgrade: tuple[Peer, int] | None = None  # who is asked for a longer log, and the request
        self._manifest: Peer | None = None
        self._seeking: dict[Seek, tuple[Peer, int]] = {}

    @property
    def upgrading(self) -> bool:
        """Whether an upgrade is under way."""
        return self._upgrade is not None

    def can_upgrade(self, peer: Peer) -> bool:
        """Whether `peer` has, and can prove, a longer log than ours."""
        core = self._core
        if peer.fork != core.fork or not core.ahead.length < peer.length <= CORE_BLOCKS_MAX or not peer.can_upgrade:
            return False
        try:
            shown = core.shown
        except StorageError:  # our disk's fault, which may pass
            return False
        # What it can prove it has said of the length that it acknowledged; who holds everything can prove any.
        return peer.acked == (shown[1] if shown else 0) or peer.has.covers(0, peer.length)

    # --- asking ------------------------------------------------------------------------------------------------------

    def refill(self, peer: Peer, now: float) -> None:
        """Ask `peer` for what it can give and nobody was asked for."""
        try:
            self._refill(peer, now)
        except StorageError:  # a tree node cannot be read: our disk's fault, which may pass
            peer.rest(now)

    def _refill(self, peer: Peer, now: float) -> None:
        core = self._core
        if not peer.may_be_asked(now) or core.frozen is not None:
            return
        if peer.fork != core.fork:
            request = self._forks.next_request(peer)
            if request is not None:
                self.send(peer, request, now)
            return
        if self._forks.following or core.backlog > BACKLOG_BYTES_MAX:
            return
        if peer.room > 0:
            self._ask_tree(peer, now)
        planner, inflight, room = self.planner, peer.inflight, peer.room
        if room <= 0 or (inflight and room < min(REQUEST_BATCH, peer.window // 2) and not planner.urgent):
            return
        if planner.wanting:
            indexes = planner.take(peer, room, self._peers)
            if indexes:
                self._ask_blocks(peer, indexes, now)
                return
            self._want(peer, self.planner.lacking(peer, WANTS_MAX))
        if not inflight and planner.asked and len(self._peers) > 1:
            self._hotswap(peer, now)

    def _ask_tree(self, peer: Peer, now: float) -> None:
        """Ask for a longer log, the manifest, or the way to a byte."""
        core = self._core
        manifest = core.manifest is None and peer.has_manifest
        if self._upgrade is None and self.can_upgrade(peer):
            length = core.ahead.length
            above = self.planner.take_above(peer)
            self._upgrade = peer, peer.next_id
            self.send(
                peer,
                Request(
                    0,
                    peer.fork,
                    block=None if above is None else BlockRef(above, 0),
                    upgrade=UpgradeRef(length, peer.length - length),
                    manifest=manifest,
                ),
                now,
            )
        elif manifest and not peer.length and self._manifest is None:
            self._manifest = peer
            self.send(peer, Request(0, peer.fork, manifest=True), now)
        for seek in core.demand.seeks[:REQUEST_BATCH] if peer.length >= core.ahead.length else ():
            if seek not in self._seeking and not seek.future.done():
                self._ask_seek(peer, seek, now)

    def _ask_seek(self, peer: Peer, seek: Seek, now: float) -> None:
        """Ask for the way to a byte below our length; one past it waits for a longer log."""
        core, offset = self._core, seek.offset
        for root in core.ahead.roots:
            size = root.size - seek.padding * (1 << flat_tree.depth(root.index))
            if offset < size:
                break
            offset -= size
        else:
            return
        index = root.index
        while index & 1:
            left, right = flat_tree.children(index)
            node = core.known(left)
            if node is None or core.known(right) is None:
                break
            size = node.size - seek.padding * (1 << flat_tree.depth(left))
            index, offset = (left, offset) if offset < size else (right, offset - size)
        if not index & 1:
            seek.future.set_result(None)
            return
        low, high = flat_tree.left_span(index) // 2, flat_tree.right_span(index) // 2 + 1
        start = next((start for start, _ in peer.has.within(low, high)), None)
        if start is not None:
            self._seeking[seek] = peer, peer.next_id
            item = BlockRef(2 * start, flat_tree.depth(index))
            self.send(peer, Request(0, peer.fork, hash=item, seek=SeekRef(seek.offset, seek.padding)), now)
            return
        # It is not known to hold anything there, so it is asked what it holds; the answer leads here again.
        pages = range(low - low % WANT_BLOCKS, high, WANT_BLOCKS)
        room = min(_SEEK_PAGES, WANTS_MAX - len(peer.wanted))
        self._want(peer, [page for page in pages[:room] if page not in peer.wanted])

    def _ask_blocks(self, peer: Peer, indexes: list[int], now: float) -> None:
        fork, inflight, channel = self._core.fork, peer.inflight, peer.channel
        levels, number = self.planner.levels, peer.next_id
        try:
            for index in indexes:
                request = Request(number, fork, BlockRef(index, levels(peer, index)))
                inflight[number] = request
                channel.send(_REQUEST, request.encode())
                number += 1
        except StorageError:
            peer.break_promises()  # those of the one that was not sent
            raise
        finally:
            sent = number - peer.next_id
            if sent:
                peer.next_id = number
                peer.sent_at.append((number - 1, now))
            for index in indexes[sent:]:
                self.planner.give_back(index)
            if self._metrics is not None:
                self._metrics.requests_sent.labels(kind="block").inc(sent)
        self.planner.weed(peer)

    def send(self, peer: Peer, request: Request, now: float) -> None:
        """Send one request with an id of its own."""
        request = request._replace(id=peer.next_id)
        peer.next_id += 1
        peer.inflight[request.id] = request
        peer.sent_at.append((request.id, now))
        peer.send(_REQUEST, request.encode())
        if self._metrics is not None:
            self._metrics.requests_sent.labels(kind=kind_of(request)).inc()

    def _want(self, peer: Peer, starts: list[int]) -> None:
        """Ask what `peer` holds of the stretches that begin there."""
        for start in starts:
            peer.wanted.add(start)
            peer.send(MessageType.WANT, Want(start, WANT_BLOCKS).encode())

    def unwant(self, peer: Peer) -> None:
        """Nothing is wanted any more: hear no more of what `peer` holds."""
        for start in peer.wanted:
            peer.send(MessageType.UNWANT, Unwant(start, WANT_BLOCKS).encode())
        peer.wanted.clear()

    def _hotswap(self, peer: Peer, now: float) -> None:
        """`peer` has nothing to do: let it take over what a slow one does not deliver, the newest requests first."""
        patience = HOTSWAP_AFTER_S + 2 * peer.rtt
        for slow in self._peers:
            sent_at = slow.oldest_sent_at()
            if slow is peer or sent_at is None or now - sent_at < patience:
                continue
            few = min(HOTSWAP_REQUESTS_MAX, peer.room, max(len(slow.inflight) // 2, 1))
            ids = []
            for number, request in reversed(slow.inflight.items()):
                if request.block is not None and request.upgrade is None and request.block[0] in peer.has:
                    ids.append(number)
                    if len(ids) >= few:
                        break
            indexes = sorted(self._cancel(slow, number) for number in ids)
            for index in indexes:
                self.planner.take_over(index, peer)
            if indexes:
                self._ask_blocks(peer, indexes, now)
                if self._metrics is not None:
                    self._metrics.hotswaps.inc(len(indexes))
                return

    def _cancel(self, peer: Peer, number: int) -> int:
        request = peer.inflight.pop(number)
        assert request.block is not None
        peer.send(MessageType.CANCEL, Cancel(number).encode())
        peer.break_promises()
        return request.block[0]

    # --- answers -----------------------------------------------------------------------------------------------------

    def data(self, peer: Peer, request: Request, data: Data, now: float) -> None:
        """The answer to `request`, which is no longer in flight. Raises `RemoteError` for one that does not fit."""
        core, planner = self._core, self.planner
        index = None if request.block is None else request.block[0]
        if not _fits(request, data):
            self._done(peer, request)
            peer.rest(now)
            raise RemoteError(f"an answer that does not fit request {request.id}", reason="mismatch")
        if request.fork != core.fork:
            self._done(peer, request)
            peer.heard_at = now
            try:
                following = self._forks.receive(peer, request, data)
            except RemoteError:
                peer.rest(now)
                raise
            except StorageError:  # our disk's fault, which may pass
                peer.rest(now)
                return
            if following is not None:
                self.send(peer, following, now)
            return
        if data.block is not None:
            assert index is not None
            planner.settling.add(index)
        try:
            core.accept(data)
        except Unanchored as error:
            planner.settling.discard(-1 if index is None else index)
            if data.upgrade is None and index is not None and data.block is not None:
                self.stash(peer, request, data, error.index, now)
            else:
                self._done(peer, request)
                _in_vain(peer, now)
            return
        except SignatureError as error:
            planner.settling.discard(-1 if index is None else index)
            self._done(peer, request)
            if error.reason == "stale":  # our own log moved meanwhile
                return
            self._forks.suspect(peer, now)
            raise
        except (RemoteError, StorageError) as error:
            planner.settling.discard(-1 if index is None else index)
            self._done(peer, request)
            if isinstance(error, RemoteError):
                raise
            peer.rest(now)  # our disk's fault: it is known there, and may heal
            return
        if data.block is not None and index is not None:
            planner.asked.pop(index, None)
            peer.answered(1, len(data.block.value), now)
            if self._metrics is not None:
                self._metrics.blocks_received.inc()
                self._metrics.bytes_received.inc(len(data.block.value))
        peer.heard_at = now
        self._done(peer, request)

    def no_data(self, peer: Peer, answer: NoData, now: float) -> None:
        """`peer` does not answer a request."""
        request = peer.inflight.pop(answer.id, None)
        if request is None:
            return
        if self._metrics is not None:
            self._metrics.refused.inc()
        peer.break_promises()
        if request.fork == self._core.fork == peer.fork:
            if request.block is not None and answer.reason == NOT_AVAILABLE:
                index = request.block[0]
                peer.has.remove(index, index + 1)
                peer.wanted.discard(index - index % WANT_BLOCKS)
            if request.upgrade is not None:
                peer.can_upgrade = False  # until it says otherwise
        elif request.fork != self._core.fork:
            self._forks.refused(peer)
            peer.rest(now)
        if request.hash is not None:
            peer.rest(now)
        self._done(peer, request)
        _in_vain(peer, now)

    def _done(self, peer: Peer, request: Request) -> None:
        """Nothing more comes of `request`; its block is given back unless it was accepted."""
        if request.block is not None and self.planner.asked.get(request.block[0]) is peer:
            self.planner.give_back(request.block[0])
        if self._upgrade == (peer, request.id):
            self._upgrade = None
        if self._manifest is peer:
            self._manifest = None
        if request.seek is not None:
            self._seeking = {seek: by for seek, by in self._seeking.items() if by != (peer, request.id)}

    # --- answers that came before what they rest on ------------------------------------------------------------------

    def stash(self, peer: Peer, request: Request, data: Data, anchor: int, now: float) -> None:
        """Keep an answer until tree node `anchor` is known, if an older request may still bring it."""
        assert data.block is not None
        size = len(data.block.value)
        older = bool(peer.inflight) and next(iter(peer.inflight)) < request.id
        if not older or len(peer.stash) >= STASH_REPLIES_MAX or peer.stash_bytes + size > STASH_BYTES_MAX:
            peer.break_promises()
            self.planner.give_back(data.block[0])
            _in_vain(peer, now)
            return
        peer.stash[request.id] = request, data, anchor
        peer.stash_bytes += size

    def retry(self, peer: Peer, now: float) -> None:
        """Look again at what was stashed."""
        try:
            self._retry(peer, now)
        except StorageError:  # as in `refill`
            peer.rest(now)

    def _retry(self, peer: Peer, now: float) -> None:
        known, progress = self._core.known, True
        while progress and peer.stash:
            progress = False
            for number, (request, data, anchor) in list(peer.stash.items()):
                if known(anchor) is not None:
                    self._unstash(peer, number)
                    progress = True
                    try:
                        self.data(peer, request, data, now)
                    except RemoteError as error:
                        self._invalid(peer, error)
        oldest = next(iter(peer.inflight), peer.next_id)
        for number in [number for number in peer.stash if number < oldest]:
            request, _, _ = self._unstash(peer, number)
            self._done(peer, request)
            peer.break_promises()

    def _unstash(self, peer: Peer, number: int) -> tuple[Request, Data, int]:
        kept = peer.stash.pop(number)
        block = kept[1].block
        assert block is not None
        peer.stash_bytes -= len(block.value)
        return kept

    # --- peers that do not deliver -----------------------------------------------------------------------------------

    def abandon(self, peer: Peer, *, cancel: bool) -> None:
        """Expect nothing more of `peer`: all that it was asked for is open again."""
        inflight, stash = dict(peer.inflight), dict(peer.stash)
        peer.inflight.clear()
        peer.stash.clear()
        peer.stash_bytes = 0
        peer.sent_at.clear()
        peer.break_promises()
        for number, request in inflight.items():
            if cancel:
                peer.send(MessageType.CANCEL, Cancel(number).encode())
            self._done(peer, request)
        for request, _, _ in stash.values():
            self._done(peer, request)
        if self._upgrade is not None and self._upgrade[0] is peer:
            self._upgrade = None
        self._forks.refused(peer)

    def overdue(self, peer: Peer, now: float) -> bool:
        """Whether `peer` owes answers and has been silent for too long."""
        sent_at = peer.oldest_sent_at()
        return sent_at is not None and now - max(sent_at, peer.heard_at) > peer.timeout_s


def _fits(request: Request, data: Data) -> bool:
    """Whether all that was asked for is there, and nothing else; a seek may end at the item that it lies under."""
    block, node, seek, upgrade = data.block, data.hash, data.seek, data.upgrade
    return (
        data.fork == request.fork
        and (None if block is None else block[0]) == (None if request.block is None else request.block[0])
        and (None if node is None else node.index) == (None if request.hash is None else request.hash.index)
        and (seek is None or (request.seek is not None and seek.bytes == request.seek.bytes))
        and (None if upgrade is None else upgrade.start) == (None if request.upgrade is None else request.upgrade.start)
        and (data.manifest is not None or upgrade is not None or not request.manifest)
    )


def _in_vain(peer: Peer, now: float) -> None:
    """`peer` answered with nothing that helps: not worth a strike, but not for ever."""
    peer.refusals += 1
    if peer.refusals >= REFUSALS_MAX:
        peer.rest(now)
