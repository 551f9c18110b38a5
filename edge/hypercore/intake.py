"""What peers prove of a core, from the moment it is checked until it is durable. Synchronous.

`accept` checks an answer against the accepted state - the durable one and all that was accepted since - remembers it,
and puts it into the write queue, where everything gathers in one entry until the writer takes it. So the next answer
can be checked before this one is on the disk, and the peer's next requests need not wait for a sync either.

Invariants
- Nothing is remembered that did not lead to a signed root.
- What a write failed for is forgotten, and with it all that was accepted after it: that may rest on it.
- After a reorganisation was accepted, nodes that reach past the shared blocks count only if they came after it.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from edge.errors import LocalError, RemoteError, SignatureError, StorageError, StorageFault
from edge.hypercore import flat_tree
from edge.hypercore.checking import Proven, Unanchored, check, check_block
from edge.hypercore.demand import Demand
from edge.hypercore.events import Event, Grown, Stored, Truncated
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.messages import BlockProof, Data
from edge.hypercore.records import NODE_BYTES, PUT, RecordKind, Upgrade, encode_nodes, encode_put, put_nodes, put_start
from edge.hypercore.state import CoreState
from edge.hypercore.verifier import Verifier
from edge.hypercore.write_queue import Received, Records, Room, WriteQueue, settle
from edge.limits import (
    BLOCK_BYTES_MAX,
    CORE_BLOCKS_MAX,
    MANIFEST_USER_DATA_BYTES_MAX,
    RECORD_BYTES_MAX,
    SIGNATURE_BYTES_MAX,
)
from edge.storage.log import RECORD_COST

_PARTS: Final = 4  # records that one answer may bring: manifest, upgrade, nodes, block; or nodes of a whole group
_PUT_COST: Final = RECORD_COST + NODE_BYTES  # of a block beside its record's payload: its leaf may be told apart
_NODES_MAX: Final = RECORD_BYTES_MAX // NODE_BYTES  # of one record
_PARTS_COST: Final = MANIFEST_USER_DATA_BYTES_MAX + SIGNATURE_BYTES_MAX + 64 * RECORD_COST  # of all but nodes and block


class Intake:
    """The accepted state of one core."""

    def __init__(
        self,
        state: CoreState,
        queue: WriteQueue,
        demand: Demand,
        *,
        room: Room,
        foreign: Callable[[tuple[int, ...], int], None],
    ) -> None:
        """`foreign` hears who signed a state that a peer brought, and its length."""
        self.backlog = 0  # bytes accepted and not durable
        self._state = state
        self._queue = queue
        self._demand = demand
        self._records_max, self._cost_max = room
        self._foreign = foreign
        self._find = state.find
        self._learned: Verifier | None = None
        self._tree: Tree | None = None
        self._fork: int | None = None
        self._mask: int | None = None  # of a reorganisation: the first leaf that is not shared
        self._pending: set[int] = set()
        self._entries: deque[Received] = deque()  # waiting, or being written
        self._layers: list[dict[int, Node]] = []  # their nodes, newest first
        self._gathering: Received | None = None

    # --- what is accepted --------------------------------------------------------------------------------------------

    @property
    def verifier(self) -> Verifier | None:
        """Who signs, once it is known."""
        return self._state.oplog.verifier or self._learned

    @property
    def ahead(self) -> Tree:
        """The durable tree, or what accepted upgrades will make of it."""
        return self._tree or self._state.tree

    @property
    def fork(self) -> int:
        """The fork of `ahead`."""
        return self._state.oplog.fork if self._fork is None else self._fork

    def pending(self, index: int) -> bool:
        """Whether a block is accepted and not yet durable."""
        return index in self._pending

    def known(self, index: int) -> Node | None:
        """A stored or accepted tree node."""
        for layer in self._layers:
            node = layer.get(index)
            if node is not None:
                return node
        if self._mask is not None and flat_tree.right_span(index) >= self._mask:
            return None
        return self._find(index)

    def holds(self, index: int) -> bool:
        """Whether a block of the accepted state is here already."""
        if index in self._pending:
            return True
        return self._state.oplog.runs.has(index) and (self._mask is None or 2 * index < self._mask)

    # --- accepting ---------------------------------------------------------------------------------------------------

    def accept(self, data: Data) -> None:
        """Check an answer and queue what it brings. Raises `SignatureError` and `RemoteError`; then nothing changed."""
        _, fork, block, node, seek, upgrade, manifest = data
        if block is None or not (node is None and seek is None and upgrade is None and manifest is None):
            self._accept_parts(data)
            return
        index = block.index
        self._check_place(fork, index)
        if self.holds(index):
            return
        try:
            nodes = check_block(index, block.value, block.nodes, self.known)
        except SignatureError as error:
            self._heal(2 * index, error)
            nodes = check_block(index, block.value, block.nodes, self.known)
        self._put(block, block.nodes, {node[0]: node for node in nodes})

    def accept_reorg(self, whole: Proven, shared: int) -> None:
        """Follow a longer fork, of which up to `shared` leading blocks are ours: as many as its nodes prove."""
        signed, tree = whole.signed, whole.signed_tree
        if signed is None or tree is None or signed.fork <= self.fork:
            raise LocalError("a fork is followed once its whole upgrade is proven, and it is higher")
        _check_length(tree)
        if self.verifier is None:
            verifier = Verifier.of_compat(self._state.header.key)
            verifier.verify_tree(signed.signature, tree, signed.fork)
            self._learned = verifier
        self._withdraw_waiting()
        nodes = {node.index: node for node in whole.nodes}
        shared = self._shared(tree, nodes, min(shared, tree.length, self.ahead.length))
        base = self.fork, self.ahead.length
        entry = self._begin()
        mask = 2 * shared
        self._layers = [
            {index: node for index, node in layer.items() if flat_tree.right_span(index) < mask}
            for layer in self._layers
        ]
        self._mask = mask if self._mask is None else min(mask, self._mask)
        self._layers.insert(0, entry.nodes)
        self._fork = entry.fork = signed.fork
        self._recount()
        self._upgrade(entry, Upgrade(signed.fork, shared, tree, signed.signature, whole.nodes), base, nodes)
        self._queue.hurry(entry)

    def _accept_parts(self, data: Data) -> None:
        """Anything but a single block."""
        if data.block is not None and len(data.block.value) > BLOCK_BYTES_MAX:
            raise _too_large(data.block)
        verifier, learned = self.verifier, None
        if verifier is None and (data.manifest is not None or data.upgrade is not None):
            # A signature that the key itself verifies comes from a core of before manifests: a hash signs nothing.
            learned = Verifier(self._state.header.key, data.manifest) if data.manifest else None
            verifier = learned = learned or Verifier.of_compat(self._state.header.key)
        proven: Proven | None = None
        if data.block is not None or data.hash is not None or data.seek is not None or data.upgrade is not None:
            self._check_place(data.fork, data.block.index if data.block and not data.upgrade else 0)
            proven = self._check(data, verifier)
            if proven.signed_tree is not None:
                _check_length(proven.signed_tree)
        entry = self._room(_PARTS_COST + 64 * len(proven.nodes) if proven else _PARTS_COST)
        if entry.puts and proven is not None and (data.block is None or data.block.index < self.ahead.length):
            self._queue.hurry(entry)  # what is proven now may rest on those blocks, so it must not come before them
            entry = self._another()
        if learned is not None:
            self._learned = learned
            self._add_manifest(entry)
        if proven is None:
            return
        nodes = {node.index: node for node in proven.nodes}
        beside = data.block.nodes if data.block else ()
        if proven.signed is not None and proven.signed_tree is not None:
            base = self.fork, self.ahead.length
            upgrade = Upgrade(data.fork, base[1], proven.signed_tree, proven.signed.signature, proven.nodes)
            self._upgrade(entry, upgrade, base, nodes)
            beside = ()
        else:
            given = (data.hash.nodes if data.hash else ()) + (data.seek.nodes if data.seek else ())
            if given:
                self._add(entry, RecordKind.NODES, encode_nodes(given))
            entry.nodes.update(nodes)
        if data.block is not None and not self.holds(data.block.index):
            self._put(data.block, beside, nodes)
        if self._demand.seeks or self._demand.upgrades_awaited:
            self._queue.hurry(entry)

    def _check(self, data: Data, verifier: Verifier | None) -> Proven:
        try:
            return check(data, tree=self.ahead, known=self.known, verifier=verifier)
        except SignatureError as error:
            index = 2 * data.block.index if data.block else data.hash.index if data.hash else None
            if index is None or data.upgrade is not None:
                raise
            self._heal(index, error)
            return check(data, tree=self.ahead, known=self.known, verifier=verifier)

    def _check_place(self, fork: int, index: int) -> None:
        if fork != self.fork:
            raise RemoteError(f"an answer for fork {fork}; this core is at fork {self.fork}", reason="fork")
        if index >= self.ahead.length and index:
            raise RemoteError(f"block {index} of {self.ahead.length}", reason="proof")

    def _heal(self, index: int, error: SignatureError) -> None:
        """A proof does not fit what we know: raise `error`, unless what we know was damaged and has been mended."""
        if isinstance(error, Unanchored) or index >= 2 * self._state.length or not self._state.heal(index):
            raise error

    def _shared(self, tree: Tree, nodes: dict[int, Node], shared: int) -> int:
        """How many leading blocks of ours lie under the roots of `tree`, root by root."""

        def source(index: int) -> Node:
            node = nodes.get(index) or self.known(index)
            if node is None:
                raise SignatureError(f"tree node {index} is not known", reason="unanchored")
            return node

        proven = 0
        for index in flat_tree.full_roots(shared):
            node = self.known(index)
            try:
                if node is None or not tree.proves(node, source):
                    break
            except SignatureError:
                break
            proven = flat_tree.right_span(index) // 2 + 1
        return proven

    # --- queueing ----------------------------------------------------------------------------------------------------

    def _put(self, block: BlockProof, beside: tuple[Node, ...], nodes: dict[int, Node]) -> None:
        index = block.index
        if len(block.value) > BLOCK_BYTES_MAX:
            raise _too_large(block)
        payload = encode_put(index, beside, block.value)
        cost = len(payload) + _PUT_COST
        entry = self._gathering
        if (
            entry is None
            or entry.taken
            or entry.cost + cost > self._cost_max
            or len(entry.puts) + len(entry.records) + _PARTS >= self._records_max
        ):
            entry = self._room(cost)
        entry.nodes.update(nodes)
        entry.puts[index] = payload
        entry.cost += cost
        self.backlog += cost
        self._pending.add(index)
        if not entry.urgent and self._demand.wants_block(index):
            self._queue.hurry(entry)

    def _upgrade(self, entry: Received, upgrade: Upgrade, base: tuple[int, int], nodes: dict[int, Node]) -> None:
        self._add_manifest(entry)  # if the entry that brought it was withdrawn, or the disk refused it
        self._foreign(self._signers(upgrade), upgrade.tree.length)
        self._add(entry, RecordKind.UPGRADE, upgrade.encode())
        if entry.base is None:
            entry.base = base
        entry.nodes.update(nodes)
        entry.nodes.update({root.index: root for root in upgrade.tree.roots})
        self._tree = entry.tree = upgrade.tree

    def _add_manifest(self, entry: Received) -> None:
        written = any(kind == RecordKind.MANIFEST for each in self._entries for kind, _ in each.records)
        if self._learned is not None and self._state.oplog.verifier is None and not written:
            self._add(entry, RecordKind.MANIFEST, self._learned.manifest.encode())

    def _signers(self, upgrade: Upgrade) -> tuple[int, ...]:
        verifier = self.verifier
        return () if verifier is None else verifier.signers(upgrade.signature)

    def _add(self, entry: Received, kind: int, payload: bytes) -> None:
        cost = len(payload) + RECORD_COST
        entry.records.append((kind, payload))
        entry.cost += cost
        self.backlog += cost

    def _room(self, cost: int) -> Received:
        """The entry that gathers, or a new one if it is taken or would be too full."""
        entry = self._gathering
        if entry is not None and not entry.taken:
            count = len(entry.puts) + len(entry.records)
            if count + _PARTS <= self._records_max and entry.cost + cost <= self._cost_max:
                return entry
            self._queue.hurry(entry)
        return self._another()

    def _another(self) -> Received:
        entry = self._begin()
        self._layers.insert(0, entry.nodes)
        return entry

    def _begin(self) -> Received:
        if self._state.oplog.conflict is not None:
            raise StorageError("the core is frozen", fault=StorageFault.READ_ONLY)
        entry = Received(time.monotonic())
        self._queue.put(entry)
        self._gathering = entry
        self._entries.append(entry)
        return entry

    def last(self) -> Received | None:
        """The newest entry that is not durable yet."""
        return self._entries[-1] if self._entries else None

    # --- writing -----------------------------------------------------------------------------------------------------

    def prepare(self, entry: Received, *, behind: bool) -> tuple[Records, Callable[[int], list[Event]]]:
        """The records of an entry that is due, and what to do once they are durable, which says what happened.

        Raises `StorageError` where the log went on by itself meanwhile. `behind`: what it went on with is given up.
        """
        state = self._state
        if entry.base is not None:
            fork, length = entry.base
            if state.oplog.fork != fork or state.length < length or (state.length > length and not behind):
                raise StorageError("the log has changed since this was accepted", fault=StorageFault.READ_ONLY)
        indexes = sorted(entry.puts)
        puts = entry.puts
        records = entry.records + (
            [(PUT, puts[index]) for index in indexes] if list(puts) == indexes else _in_order(entry, indexes)
        )

        def durable(sequence: int) -> list[Event]:
            length, fork, verifier = state.length, state.oplog.fork, state.oplog.verifier
            kept = length
            for kind, payload in records:
                if kind == PUT:
                    break
                if kind == RecordKind.UPGRADE:
                    kept = min(kept, Upgrade.decode(payload).shared)
                state.apply(sequence, kind, payload)
                sequence += 1
            state.put(indexes, entry.nodes)
            self._leave(entry)
            events: list[Event] = []
            if kept < length or state.oplog.fork != fork:
                events.append(Truncated(kept, state.oplog.fork))
            if (state.length, state.oplog.fork, state.oplog.verifier) != (length, fork, verifier):
                events.append(Grown())
            events += [Stored(start, end) for start, end in _stretches(indexes)]
            return events

        return records, durable

    def forget(self, error: StorageError) -> bool:
        """Nothing that was accepted and is not durable counts any more; returns whether there was anything."""
        entries, self._entries = self._entries, deque()
        for entry in entries:
            self._queue.withdraw(entry)
            settle(entry, error)
        self._reset()
        return bool(entries)

    def _leave(self, entry: Received) -> None:
        """An entry is durable."""
        first = self._entries.popleft()
        if first is not entry:
            raise LocalError("entries become durable in their order")
        if self._mask is None:
            self._pending.difference_update(entry.puts)
        else:
            self._recount()
        self.backlog -= entry.cost
        self._layers.pop()
        if entry.fork is not None and not any(each.fork is not None for each in self._entries):
            self._fork = self._mask = None
        if entry.tree is not None and not any(each.tree is not None for each in self._entries):
            self._tree = None
        if not self._entries:
            self._reset()

    def _recount(self) -> None:
        """Which blocks are pending, where an index may stand for two: before and after a reorganisation."""
        pending: set[int] = set()
        for entry in self._entries:
            if entry.fork is not None and self._mask is not None:
                pending = {index for index in pending if 2 * index < self._mask}
            pending.update(entry.puts)
        self._pending = pending

    def _reset(self) -> None:
        self._gathering = self._tree = self._fork = self._mask = None
        self._layers = []
        self._pending.clear()
        self.backlog = 0

    def _withdraw_waiting(self) -> None:
        """Before a reorganisation: what is not being written yet need not be."""
        error = StorageError("another fork is followed", fault=StorageFault.READ_ONLY)
        while self._entries and not self._entries[-1].taken:
            entry = self._entries.pop()
            self._queue.withdraw(entry)
            settle(entry, error)
            self._pending.difference_update(entry.puts)
            self.backlog -= entry.cost
            self._layers.pop(0)
        self._gathering = None
        self._tree = next((each.tree for each in reversed(self._entries) if each.tree is not None), None)
        self._fork = next((each.fork for each in reversed(self._entries) if each.fork is not None), None)
        if self._fork is None:
            self._mask = None


def _in_order(entry: Received, indexes: list[int]) -> Records:
    """Records of blocks that came in another order than that of their indexes, so that they are few stretches.

    The proof of one may rest on what another brought, and after a power cut a beginning of the records may be all there
    is. So all their nodes and leaves come first.
    """
    nodes = {2 * index: entry.nodes[2 * index] for index in indexes}
    bare: Records = []
    for index in indexes:
        payload = entry.puts[index]
        nodes.update({node.index: node for node in put_nodes(payload)})
        bare.append((PUT, encode_put(index, (), payload[put_start(payload) :])))
    found = list(nodes.values())
    parts = [found[start : start + _NODES_MAX] for start in range(0, len(found), _NODES_MAX)]
    return [(RecordKind.NODES, encode_nodes(part)) for part in parts] + bare


def _check_length(tree: Tree) -> None:
    if tree.length > CORE_BLOCKS_MAX:
        raise RemoteError(f"a log of {tree.length} blocks; at most {CORE_BLOCKS_MAX}", reason="too_large")


def _too_large(block: BlockProof) -> RemoteError:
    return RemoteError(f"block {block.index} has {len(block.value)} bytes", reason="too_large")


def _stretches(indexes: list[int]) -> list[tuple[int, int]]:
    """Consecutive runs of ascending indexes."""
    found: list[tuple[int, int]] = []
    first = end = -1
    for index in indexes:
        if index != end:
            if end > first:
                found.append((first, end))
            first = index
        end = index + 1
    if end > first:
        found.append((first, end))
    return found
