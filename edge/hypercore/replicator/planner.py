"""Which blocks are asked of whom. One `Planner` a core; it sends nothing and knows no time.

What is wanted and nobody was asked for stands in two sets of stretches, `urgent` (single blocks that somebody waits
for) and `unasked`. A peer takes from what it holds of them. Requests move a block to `asked`, an accepted answer to
`settling`, and the core's word that it is durable takes it out; whatever goes wrong puts it back.

Several peers: what only this peer holds comes first; otherwise each begins at a place of its own in what is wanted and
goes on from there, so that they meet late and each gets runs, whose proofs are short.

The `nodes` of a request count the steps up to the first tree node that is known, or was promised by an earlier request
to the same peer that is still under way. So the answers to a run of requests carry one node a block, not log2(length).

Invariants: a block is in at most one of `asked` and `settling`, and then in neither set.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from edge.hypercore import flat_tree
from edge.hypercore.demand import Fresh
from edge.hypercore.replicator.contract import Core
from edge.hypercore.replicator.peer import Peer
from edge.hypercore.replicator.stretches import Span, Stretches, overlap
from edge.limits import INTEGER_MAX, PROMISES_MAX, WANT_BLOCKS

_RARE_LOOK = 16  # stretches looked through for what only one peer holds


class Planner:
    """What is wanted of one core, and who was asked for it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.urgent = Stretches()
        self.unasked = Stretches()
        self.asked: dict[int, Peer] = {}
        self.settling: set[int] = set()

    # --- what is wanted ----------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take in what is newly wanted, or no longer."""
        demand = self._core.demand
        fresh = demand.take_fresh()
        if fresh.withdrawn:
            self.rebuild()
        else:
            self._want(fresh)

    def rebuild(self) -> None:
        """Read all open wishes anew."""
        self.urgent, self.unasked = Stretches(), Stretches()
        self._want(self._core.demand.everything())

    def _want(self, fresh: Fresh) -> None:
        for into, spans in ((self.urgent, fresh.single), (self.unasked, fresh.ranges)):
            if not spans:
                continue
            for start, end in spans:
                into.add(start, end)
                for low, high in self._core.held(start, min(end, self._core.length)):
                    into.remove(low, high)
                self._leave_out_busy(into, start, end)

    def _leave_out_busy(self, into: Stretches, start: int, end: int) -> None:
        for busy in (self.asked, self.settling):
            few = range(start, end) if end - start < len(busy) else busy
            for index in few:
                if index in busy:
                    into.remove(index, index + 1)

    def stored(self, start: int, end: int) -> None:
        """Blocks `start` to `end` are durable."""
        settling = self.settling
        if settling:
            if len(settling) < end - start:
                settling.difference_update([index for index in settling if start <= index < end])
            else:
                settling.difference_update(range(start, end))
        self.urgent.remove(start, end)
        self.unasked.remove(start, end)

    def give_back(self, index: int) -> None:
        """Block `index` was asked for in vain: it is wanted again, if it still is."""
        self.asked.pop(index, None)
        if index in self.settling or self._core.has(index):
            return
        demand = self._core.demand
        if demand.wants_block(index):
            self.urgent.add(index, index + 1)
        if demand.covers(index):
            self.unasked.add(index, index + 1)

    @property
    def wanting(self) -> bool:
        """Whether any block is wanted that nobody was asked for."""
        return bool(self.urgent or self.unasked)

    # --- who is asked ------------------------------------------------------------------------------------------------

    def take(self, peer: Peer, count: int, others: Iterable[Peer]) -> list[int]:
        """Up to `count` blocks for `peer` to be asked; they are its own from here on."""
        length = self.reach(peer)
        taken: list[int] = []
        if self.urgent:
            self._collect(taken, peer, overlap(self.urgent, peer.has, 0, length), count)
        if len(taken) < count and self.unasked:
            rivals = [other for other in others if other is not peer and other.open and other.uploading]
            if rivals:
                self._collect(taken, peer, self._rare(peer, rivals, length), count)
                if self.unasked:
                    at = self._own_place(peer, rivals, length)
                    self._collect(taken, peer, overlap(self.unasked, peer.has, at, length), count)
                if taken:
                    peer.asked_from = taken[-1] + 1
            if len(taken) < count and self.unasked:
                self._collect(taken, peer, overlap(self.unasked, peer.has, 0, length), count)
        return taken

    def reach(self, peer: Peer) -> int:
        """Up to which length `peer` can prove blocks to us.

        Its tree may be shorter than ours: then its roots must be nodes that we know, for a proof to end there.
        """
        length = self._core.ahead.length
        if peer.length >= length:
            return length
        known = self._core.known
        return peer.length if all(known(root) is not None for root in flat_tree.full_roots(peer.length)) else 0

    def take_above(self, peer: Peer) -> int | None:
        """One block past our length that `peer` holds, to ask for together with the upgrade."""
        start, end = self._core.ahead.length, peer.length
        for wanted in (self.urgent, self.unasked):
            for low, _ in overlap(wanted, peer.has, start, end):
                self._own(peer, low, low + 1)
                return low
        return None

    def take_over(self, index: int, peer: Peer) -> None:
        """`peer` is asked for `index` from here on, whoever was before."""
        self.asked[index] = peer

    def lacking(self, peer: Peer, wants_max: int) -> list[int]:
        """Starts of wants to send: stretches in which something is wanted that the peer is not known to hold."""
        found: list[int] = []
        if len(peer.wanted) >= wants_max:
            return found
        end = self.reach(peer)
        for wanted in (self.urgent, self.unasked):
            at = 0
            while at < end:
                span = next(wanted.within(at, end), None)
                if span is None:
                    break
                start = span[0] - span[0] % WANT_BLOCKS
                stop = min(start + WANT_BLOCKS, end)
                if start not in peer.wanted and start not in found and _lacks(wanted, peer, span[0], stop):
                    found.append(start)
                    if len(found) + len(peer.wanted) >= wants_max:
                        return found
                at = start + WANT_BLOCKS
        return found

    def _collect(self, taken: list[int], peer: Peer, spans: Iterator[Span], count: int) -> None:
        chosen = []
        room = count - len(taken)
        for low, high in spans:
            if room <= 0:
                break
            high = min(high, low + room)  # noqa: PLW2901
            chosen.append((low, high))
            room -= high - low
        for low, high in chosen:  # only now, because the sets must not change while they are read
            taken.extend(range(low, high))
            self._own(peer, low, high)

    def _own(self, peer: Peer, low: int, high: int) -> None:
        self.urgent.remove(low, high)
        self.unasked.remove(low, high)
        asked = self.asked
        for index in range(low, high):
            asked[index] = peer

    def _rare(self, peer: Peer, rivals: list[Peer], length: int) -> Iterator[Span]:
        """What of the first few wanted stretches no rival holds; nothing if one holds everything."""
        if any(rival.has.covers(0, length) for rival in rivals):
            return
        for span in list(islice(overlap(self.unasked, peer.has, 0, length), _RARE_LOOK)):
            rare = Stretches([span])
            for rival in rivals:
                for low, high in rival.has.within(*span):
                    rare.remove(low, high)
            yield from rare

    def _own_place(self, peer: Peer, rivals: list[Peer], length: int) -> int:
        """Where in what is wanted `peer` goes on, or begins."""
        if peer.asked_from and any(True for _ in overlap(self.unasked, peer.has, peer.asked_from, length)):
            return peer.asked_from
        first = self.unasked.first() or 0
        width = max(min(self.unasked.edges[-1], length) - first, 0)
        return first + width * (peer.share % (len(rivals) + 1)) // (len(rivals) + 1)

    # --- proofs ------------------------------------------------------------------------------------------------------

    def levels(self, peer: Peer, index: int) -> int:
        """The `nodes` of a request for block `index`, whose nodes are promised from here on."""
        promised, older = peer.promised, peer.promised_before
        at, bit, count = 2 * index, 1, 0
        if peer.chain == index and at not in promised:
            # The block before was asked for last, so the first node above that is a right child is beside one of that
            # request's: known or promised. Looking up those below would only cost reads; a step too many is harmless.
            length = min(self._core.ahead.length, peer.length)
            last = index & -index
            while bit != last and at not in promised and index + 2 * bit <= length:
                promised.add(at)
                promised.add(at ^ 2 * bit)
                at = at & ~(2 * bit) | bit
                bit *= 2
                count += 1
        peer.chain = index + 1
        known = self._core.known
        while at not in promised and at not in older and known(at) is None:
            if at > INTEGER_MAX:
                return 0  # past our length: an upgrade has to cover it
            promised.add(at)
            promised.add(at ^ 2 * bit)
            at = at & ~(2 * bit) | bit
            bit *= 2
            count += 1
        return count

    def weed(self, peer: Peer) -> None:
        """Forget promises that were kept, once there are many: those of requests that are all answered."""
        if len(peer.promised) > PROMISES_MAX:
            oldest = min(next(iter(peer.inflight), peer.next_id), next(iter(peer.stash), peer.next_id))
            if oldest > peer.promised_until:
                peer.promised_before, peer.promised = peer.promised, set()
                peer.promised_until = peer.next_id - 1


def _lacks(wanted: Stretches, peer: Peer, start: int, stop: int) -> bool:
    """Whether something wanted between `start` and `stop` is not known to be with `peer`."""
    return any(not peer.has.covers(low, high) for low, high in wanted.within(start, stop))
