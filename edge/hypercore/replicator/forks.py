"""Following another fork of a log, and proving that a writer has signed two logs.

A higher fork wins: its whole tree is fetched and verified by itself, then compared with ours from the roots down
(`Bisection`), so that the blocks both share stay. If that comparison gets no answer, what is known to be shared so far
stays, and the rest is fetched again.

A peer that sends something which contradicts our log at the same fork is asked for a proof of its own log, with request
id 0 as stock peers do. A valid one that differs from ours is a conflict: the core keeps both and freezes. Anything else
is a lie of the peer alone, and never harms the core.

Invariants: one fork is followed at a time; nothing of it is adopted before its signature holds.
Spec: hypercore 11.37, lib/replicator.js (`_onreorgdata`, `_checkIfConflict`) and lib/core.js (`checkConflict`).
"""

import contextlib
from dataclasses import dataclass
from enum import Enum

from edge.errors import BlockMissing, PomonaError, RemoteError, SignatureError, StorageError
from edge.hypercore.conflict import Conflict
from edge.hypercore.merkle import Tree
from edge.hypercore.messages import Data, MessageType, Request, UpgradeRef
from edge.hypercore.proof import Bisection, Proven, check_whole
from edge.hypercore.replicator.contract import Core
from edge.hypercore.replicator.metrics import ReplicationMetrics
from edge.hypercore.replicator.peer import Peer
from edge.hypercore.verifier import Verifier
from edge.limits import CORE_BLOCKS_MAX


class Step(Enum):
    """How far the following of a fork is."""

    TREE = "tree"  # the whole tree is asked for
    SHARED = "shared"  # nodes are asked for, to find what both forks share
    ADOPTED = "adopted"  # the core writes it


@dataclass(slots=True)
class _Reorg:
    peer: Peer
    fork: int
    step: Step
    whole: Proven | None = None
    bisection: Bisection | None = None


class Forks:
    """Of one core."""

    def __init__(self, core: Core, metrics: ReplicationMetrics | None = None) -> None:
        self._core = core
        self._metrics = metrics
        self._reorg: _Reorg | None = None

    # --- another fork ------------------------------------------------------------------------------------------------

    @property
    def following(self) -> bool:
        """Whether a fork is being followed: nothing of the old one is worth asking for."""
        return self._reorg is not None

    def next_request(self, peer: Peer) -> Request | None:
        """What to ask `peer` next about its fork, if it is the one to be asked; the id is the caller's."""
        core, reorg = self._core, self._reorg
        if reorg is None or (reorg.step is Step.TREE and peer.fork > reorg.fork):
            if peer.fork <= core.fork or not 0 < peer.length <= CORE_BLOCKS_MAX:
                return None
            self._reorg = _Reorg(peer, peer.fork, Step.TREE)
            return Request(
                0, peer.fork, upgrade=UpgradeRef(0, peer.length), manifest=core.manifest is None and peer.has_manifest
            )
        return None

    def receive(self, peer: Peer, request: Request, data: Data) -> Request | None:
        """The answer to a request about another fork; returns the next request. Raises `RemoteError`."""
        reorg = self._reorg
        if reorg is None or reorg.peer is not peer or reorg.fork != request.fork:
            return None
        if (reorg.step is Step.TREE) is (request.upgrade is None):
            return None  # asked earlier, before another peer's fork came in between
        try:
            if reorg.step is Step.TREE:
                reorg.whole = self._whole(data)
                reorg.bisection = Bisection(self._core.ahead, self._core.known, _tree(reorg.whole))
                reorg.step = Step.SHARED
            elif reorg.step is Step.SHARED and reorg.bisection is not None:
                if data.hash is None:
                    raise SignatureError("no tree nodes where they were asked for", reason="proof")
                reorg.bisection.receive(data.hash)
        except (RemoteError, StorageError):
            self._reorg = None
            raise
        return self._continue(reorg)

    def refused(self, peer: Peer) -> None:
        """`peer` does not answer, or is gone."""
        reorg = self._reorg
        if reorg is None or reorg.peer is not peer:
            return
        if reorg.step is Step.TREE:
            self._reorg = None
        elif reorg.step is Step.SHARED:
            with contextlib.suppress(RemoteError, StorageError):  # it was refused: follow it anew, from another peer
                self._adopt(reorg)

    def truncated(self) -> None:
        """Our own log changed its fork."""
        if self._reorg is not None and self._core.fork >= self._reorg.fork:
            self._reorg = None

    def _whole(self, data: Data) -> Proven:
        core = self._core
        verifier = core.verifier
        if verifier is None:
            if data.manifest is not None:
                verifier = Verifier(core.key, data.manifest)
                core.accept(Data(data.id, core.fork, manifest=data.manifest))
            else:
                verifier = Verifier.of_compat(core.key)
        return check_whole(data, verifier=verifier)

    def _continue(self, reorg: _Reorg) -> Request | None:
        wanted = None if reorg.bisection is None else reorg.bisection.next_request()
        if reorg.step is Step.SHARED and wanted is not None:
            return Request(0, reorg.fork, hash=wanted)
        if reorg.step is Step.SHARED:
            self._adopt(reorg)
        return None

    def _adopt(self, reorg: _Reorg) -> None:
        assert reorg.whole is not None
        assert reorg.bisection is not None
        reorg.step = Step.ADOPTED
        try:
            self._core.accept_reorg(reorg.whole, reorg.bisection.shared)
        except PomonaError:
            self._reorg = None
            raise
        if self._metrics is not None:
            self._metrics.reorgs.inc()
        self.truncated()  # it may be durable already

    def forgotten(self) -> None:
        """What was accepted could not be written: begin anew."""
        self._reorg = None

    # --- two logs of one fork ----------------------------------------------------------------------------------------

    def suspect(self, peer: Peer, now: float) -> None:
        """`peer` contradicted our log: ask for a proof of its own, and for nothing else until it comes."""
        length = min(self._core.length, peer.length)
        if not length or peer.fork != self._core.fork or peer.suspected_at is not None:
            peer.rest(now)
            return
        peer.suspected_at = now
        peer.send(MessageType.REQUEST, Request(0, peer.fork, upgrade=UpgradeRef(0, length)).encode())

    def judge(self, peer: Peer, data: Data, now: float) -> Conflict | None:
        """A proof of a peer's log: the conflict, if it is one. Raises `RemoteError` where the peer lied."""
        core = self._core
        upgrade, verifier = data.upgrade, core.verifier
        suspected, peer.suspected_at = peer.suspected_at is not None, None
        if upgrade is None or upgrade.start or verifier is None:
            raise RemoteError("data that nobody asked for", reason="unasked")
        if data.fork != core.fork or upgrade.length > core.length:
            return None  # of an older or newer state than ours: proves nothing to us now
        try:
            theirs = check_whole(data, verifier=verifier)
        except RemoteError:
            peer.rest(now)
            raise
        try:
            ours = core.prove(Request(0, core.fork, upgrade=UpgradeRef(0, upgrade.length)))
            mine = check_whole(ours, verifier=verifier)
        except (BlockMissing, RemoteError, StorageError):
            peer.rest(now)  # a log with holes may lack the nodes to compare
            return None
        if _tree(theirs).hash() == _tree(mine).hash():
            peer.rest(now)
            if not suspected:
                raise RemoteError("a proof of a log that nobody doubted", reason="unasked")
            return None
        assert ours.upgrade is not None
        if ours.upgrade.length != upgrade.length:  # a prologue is shown as a whole: of another length than was asked
            peer.rest(now)
            return None
        if self._metrics is not None:
            self._metrics.conflicts.inc()
        return Conflict(core.key, verifier.manifest, core.fork, upgrade.length, ours.upgrade, upgrade)

    def tell(self, peer: Peer) -> None:
        """Give `peer` the proof for which the core is frozen, and leave it."""
        conflict = self._core.frozen
        if conflict is not None and not peer.channel.closed:
            for upgrade in (conflict.one, conflict.other):
                peer.send(MessageType.DATA, Data(0, conflict.fork, upgrade=upgrade).encode())
            peer.channel.close()


def _tree(proven: Proven) -> Tree:
    assert proven.tree is not None  # a whole upgrade has one
    return proven.tree
