"""What a peer may do to us, and what it gets for it. The core is never touched, and memory stays bounded."""

from collections.abc import Callable

import pytest
from support_memory_core import MemoryCore, turns
from support_network import Link
from support_world import World, numbered

from edge.crypto.keys import KeyPair
from edge.errors import RemoteError
from edge.hypercore.conflict import Conflict
from edge.hypercore.manifest import Manifest, Prologue, Signer
from edge.hypercore.merkle import Node, Tree
from edge.hypercore.messages import (
    Bitfield,
    BlockProof,
    BlockRef,
    Cancel,
    Data,
    Extension,
    Handshake,
    MessageType,
    NoData,
    Range,
    Request,
    SeekRef,
    Sync,
    Unwant,
    UpgradeProof,
    UpgradeRef,
    Want,
    decode_data,
    decode_no_data,
    decode_request,
)
from edge.hypercore.proof import prove
from edge.hypercore.replicator import Session
from edge.hypercore.replicator.session import PROTOCOL, capability
from edge.limits import REMOTE_EDGES_MAX, REQUESTS_QUEUED_MAX, STRIKES_MAX, WANTS_MAX


class Rogue:
    """The other end of a link, which says what a test makes it say."""

    def __init__(self, world: World, core: MemoryCore, *, key: bytes | None = None) -> None:
        self.world = world
        link = Link(world.clock)
        self.end, self.victim = link.ends
        self.heard: list[tuple[int, bytes]] = []
        self.answer: Callable[[Request], Data | None] = lambda request: None
        self.opened_count = self.closed_count = 0
        Session(self.victim).attach(world.replicator(core))
        proof = capability(key or core.key, self.end.handshake_hash, initiator=True)
        self.channel = self.end.open(PROTOCOL, core.discovery_key, Handshake(True, proof).encode(), self)
        world.run(0.2)

    def opened(self, channel: object) -> None:
        self.opened_count += 1

    def received(self, channel: object, messages: list[tuple[int, bytes]]) -> None:
        self.heard += messages
        for kind, payload in messages:
            if kind == MessageType.REQUEST:
                data = self.answer(decode_request(payload))
                if data is not None:
                    self.channel.send(MessageType.DATA, data.encode())

    def closed(self, channel: object, error: Exception | None) -> None:
        self.closed_count += 1

    def say(self, kind: MessageType, payload: bytes) -> None:
        self.channel.send(kind, payload)

    def sync(self, length: int, *, fork: int = 0, acked: int = 0, can_upgrade: bool = True) -> None:
        flags = (can_upgrade, True, True, True, False)
        self.say(MessageType.SYNC, Sync(fork, length, acked, *flags).encode())

    def reasons(self) -> set[str]:
        return {error.reason for error in self.victim.strikes}

    def kinds(self) -> set[int]:
        return {kind for kind, _ in self.heard}


async def test_who_does_not_know_the_key_hears_nothing() -> None:
    world = World()
    core = world.writer(*numbered(5))
    rogue = Rogue(world, core, key=bytes(32))
    assert rogue.heard == []
    assert rogue.reasons() == {"capability"}
    assert rogue.closed_count == 1
    assert world.replicator(core).peers == []


async def test_a_capability_is_worth_nothing_on_another_connection() -> None:
    world = World()
    core = world.writer(*numbered(5))
    overheard = capability(core.key, bytes(64), initiator=True)
    link = Link(world.clock)
    Session(link.ends[1]).attach(world.replicator(core))
    heard: list[object] = []

    class Handler:
        def opened(self, channel: object) -> None:
            """Nothing to do."""

        def received(self, channel: object, messages: list[tuple[int, bytes]]) -> None:
            heard.append(messages)

        def closed(self, channel: object, error: Exception | None) -> None:
            """Nothing to do."""

    link.ends[0].open(PROTOCOL, core.discovery_key, Handshake(True, overheard).encode(), Handler())
    world.run(0.5)
    assert heard == []
    assert [error.reason for error in link.ends[1].strikes] == ["capability"]


async def test_our_own_capability_cannot_be_sent_back() -> None:
    """The roles are in it: who mirrors what we sent proves nothing."""
    assert capability(bytes(32), bytes(64), initiator=True) != capability(bytes(32), bytes(64), initiator=False)


@pytest.mark.parametrize("kind", list(MessageType))
async def test_nonsense_is_counted_and_ends_the_connection(kind: MessageType) -> None:
    world = World()
    core = world.writer(*numbered(5))
    rogue = Rogue(world, core)
    for _ in range(STRIKES_MAX + 5):
        rogue.say(kind, b"\xff\x01")
    world.run(0.5)
    assert rogue.victim.closed
    assert core.length == 5


async def test_unknown_kinds_of_messages_are_passed_over() -> None:
    world = World()
    core = world.writer(*numbered(5))
    rogue = Rogue(world, core)
    rogue.channel.send(42, b"later version")
    rogue.say(MessageType.REQUEST, Request(1, 0, block=BlockRef(2, 0)).encode())
    world.run(0.5)
    assert not rogue.victim.strikes
    assert MessageType.DATA in rogue.kinds()


async def test_a_wrong_block_is_refused_and_the_liar_shown_the_door() -> None:
    world = World()
    writer = world.writer(*numbered(50))
    replica = world.replica(writer, manifest=True)
    rogue = Rogue(world, replica)

    def answer(request: Request) -> Data | None:
        data = writer.prove(request)
        if data.block is None or request.upgrade is not None:
            return data
        return data._replace(block=data.block._replace(value=b"forged"))

    rogue.answer = answer
    rogue.sync(50)
    rogue.say(MessageType.RANGE, Range(False, 0, 50).encode())
    replica.demand.range(0, 50)
    for _ in range(100):
        world.run(3.0)
        rogue.sync(50, acked=50)
        await turns(2)
    assert not replica.frozen
    assert b"forged" not in replica.blocks.values()
    assert "checksum" in rogue.reasons()
    assert replica.rejected <= STRIKES_MAX * 130  # it rests in between
    world.connect(replica, writer)
    world.run(10.0)
    assert replica.blocks == writer.blocks


async def test_a_forged_longer_log_never_freezes() -> None:
    world = World()
    writer = world.writer(*numbered(20))
    forger = MemoryCore(writer.key, manifest=writer.manifest, key_pair=None)
    pair = KeyPair.generate()
    other = MemoryCore.writer(pair)
    other.append(numbered(30, 7))
    replica = world.replica(writer, manifest=True)
    world.connect(replica, writer)
    replica.demand.range(0)
    world.run(1.0)
    rogue = Rogue(world, replica)
    rogue.answer = other.prove
    rogue.sync(30, acked=20)
    rogue.say(MessageType.RANGE, Range(False, 0, 30).encode())
    for _ in range(20):
        world.run(1.0)
        await turns(2)
    assert forger.length == 0
    assert replica.frozen is None
    assert replica.length == 20
    assert "signature" in rogue.reasons()
    writer.append(numbered(1, 20))
    world.run(1.0)
    assert replica.blocks == writer.blocks


async def test_a_forged_fork_is_not_followed() -> None:
    world = World()
    writer = world.writer(*numbered(20))
    other = MemoryCore.writer(KeyPair.generate())
    other.append(numbered(30, 7))
    other.truncate(25)
    replica = world.replica(writer, manifest=True)
    world.connect(replica, writer)
    replica.demand.range(0)
    world.run(1.0)
    rogue = Rogue(world, replica)
    rogue.answer = other.prove
    rogue.sync(25, fork=1)
    world.run(5.0)
    assert replica.fork == 0
    assert replica.blocks == writer.blocks
    assert rogue.reasons() == {"signature"}
    writer.append(numbered(1, 20))
    world.run(1.0)
    assert replica.length == 21


async def test_an_old_proof_cannot_take_us_back() -> None:
    world = World()
    writer = world.writer(*numbered(20))
    old = writer.prove(Request(0, 0, upgrade=UpgradeRef(0, 20)))
    writer.append(numbered(20, 20))
    replica = world.replica(writer, manifest=True)
    world.connect(replica, writer)
    replica.demand.range(0)
    world.run(1.0)
    rogue = Rogue(world, replica)
    rogue.sync(40, acked=40)
    for number in range(1, 20):
        rogue.say(MessageType.DATA, old._replace(id=number).encode())
    world.run(1.0)
    assert replica.length == 40
    assert replica.frozen is None


async def test_data_that_nobody_asked_for_is_not_taken() -> None:
    world = World()
    writer = world.writer(*numbered(20))
    replica = world.replica(writer, manifest=True)
    rogue = Rogue(world, replica)
    pushed = writer.prove(Request(0, 0, block=BlockRef(19, 0), upgrade=UpgradeRef(0, 20)))
    for number in (0, 1, 7, 2**50):
        rogue.say(MessageType.DATA, pushed._replace(id=number).encode())
    world.run(1.0)
    assert replica.length == 0
    assert not replica.blocks


async def test_an_answer_to_another_question_is_not_taken() -> None:
    world = World()
    writer = world.writer(*numbered(20))
    replica = world.replica(writer, manifest=True)
    rogue = Rogue(world, replica)

    def answer(request: Request) -> Data:
        if request.upgrade is not None:
            return writer.prove(request._replace(block=None))
        assert request.block is not None
        return writer.prove(request._replace(block=BlockRef(7, 0)))

    rogue.answer = answer
    replica.demand.range(0, 5)
    rogue.sync(20)
    rogue.say(MessageType.RANGE, Range(False, 0, 20).encode())
    world.run(2.0)
    assert not replica.blocks
    assert "mismatch" in rogue.reasons()


async def test_requests_that_no_log_can_answer() -> None:
    world = World()
    core = world.writer(*numbered(20))
    rogue = Rogue(world, core)
    requests = [
        Request(1, 0, block=BlockRef(2**52, 0)),
        Request(2, 0, block=BlockRef(3, 60)),
        Request(3, 0, upgrade=UpgradeRef(0, 0)),
        Request(4, 0, upgrade=UpgradeRef(5, 2**40)),
        Request(5, 0, hash=BlockRef(2**52, 3)),
        Request(6, 0, seek=SeekRef(2**52, 0)),
        Request(7, 5, block=BlockRef(3, 0)),
    ]
    for request in requests:
        rogue.say(MessageType.REQUEST, request.encode())
    world.run(0.5)
    refused = {decode_no_data(payload).id for kind, payload in rogue.heard if kind == MessageType.NO_DATA}
    answered = {decode_data(payload).id for kind, payload in rogue.heard if kind == MessageType.DATA}
    assert refused | answered == {1, 2, 3, 4, 5, 6, 7}
    assert refused >= {1, 2, 4, 5, 7}
    assert not rogue.victim.closed


async def test_a_flood_of_requests_while_nothing_is_read_is_bounded() -> None:
    world = World()
    core = world.writer(*numbered(20))
    rogue = Rogue(world, core)
    rogue.victim.congested = True
    for number in range(1, REQUESTS_QUEUED_MAX + 40):
        rogue.say(MessageType.REQUEST, Request(number, 0, block=BlockRef(1, 0)).encode())
    for number in range(1, 11):
        rogue.say(MessageType.CANCEL, Cancel(number).encode())
    world.run(0.5)
    peer = world.replicator(core).peers[0]
    assert len(peer.queue) == REQUESTS_QUEUED_MAX - 10
    assert rogue.reasons() == {"flood"}
    rogue.victim.drain()
    world.run(0.5)
    assert not peer.queue
    answered = {decode_data(payload).id for kind, payload in rogue.heard if kind == MessageType.DATA}
    assert min(answered) == 11


async def test_a_flood_of_wants_is_bounded() -> None:
    world = World()
    writer = world.writer(*numbered(300))
    replica = world.replica(writer)
    world.connect(replica, writer)
    for index in range(1, 300, 2):
        replica.demand.block(index)
    world.run(1.0)
    rogue = Rogue(world, replica)
    for number in range(2 * WANTS_MAX):
        rogue.say(MessageType.WANT, Want(0, 32 + number).encode())
    world.run(0.5)
    assert rogue.reasons() == {"flood", "strikes"}
    assert sum(kind == MessageType.BITFIELD for kind, _ in rogue.heard) <= 64
    for peer in world.replicator(replica).peers:
        assert len(peer.wants.spans) <= WANTS_MAX


async def test_wants_of_any_length_are_judged() -> None:
    world = World()
    core = world.writer(*numbered(300))
    rogue = Rogue(world, core)
    rogue.say(MessageType.WANT, Want(0, 2**40).encode())
    rogue.say(MessageType.WANT, Want(7, 99, any=True).encode())
    rogue.say(MessageType.UNWANT, Unwant(8, 99).encode())
    world.run(0.5)
    assert rogue.reasons() == {"want"}


async def test_what_a_peer_says_it_holds_costs_little_however_it_says_it() -> None:
    world = World()
    core = world.writer(*numbered(3))
    rogue = Rogue(world, core)
    rogue.say(MessageType.RANGE, Range(False, 0, 2**53 - 1).encode())
    for start in range(0, 2**21, 2**18):
        rogue.say(MessageType.BITFIELD, Bitfield(start, b"\x55" * 2**15).encode())
    world.run(0.5)
    peer = world.replicator(core).peers[0]
    assert len(peer.has.edges) <= REMOTE_EDGES_MAX + 2
    rogue.say(MessageType.BITFIELD, Bitfield(0, bytes(2**18 + 4)).encode())
    rogue.say(MessageType.BITFIELD, Bitfield(7, bytes(4)).encode())
    world.run(0.5)
    assert rogue.reasons() == {"too_large", "bitfield"}


async def test_a_peer_that_promises_and_refuses_is_left_alone() -> None:
    world = World()
    writer = world.writer(*numbered(100))
    replica = world.replica(writer, manifest=True)
    rogue = Rogue(world, replica)
    asked: list[int] = []

    def answer(request: Request) -> Data | None:
        asked.append(request.id)
        if request.upgrade is not None:
            return writer.prove(request._replace(block=None))
        rogue.say(MessageType.NO_DATA, NoData(request.id, 1).encode())
        rogue.say(MessageType.RANGE, Range(False, 0, 100).encode())
        return None

    rogue.answer = answer
    replica.demand.range(0, 100)
    rogue.sync(100)
    rogue.say(MessageType.RANGE, Range(False, 0, 100).encode())
    world.run(60.0)
    assert len(asked) < 64 + 20 * 64  # not in a loop
    world.connect(replica, writer)
    world.run(5.0)
    assert replica.blocks == writer.blocks


async def test_an_impossible_length_is_not_believed() -> None:
    world = World()
    writer = world.writer(*numbered(10))
    replica = world.replica(writer, manifest=True)
    rogue = Rogue(world, replica)
    rogue.answer = lambda request: Data(
        request.id,
        0,
        upgrade=UpgradeProof(0, 2**36, (Node(2**36 - 1, 5, bytes(32)),), (), bytes(64)),
        block=BlockProof(2**35, b"x", ()) if request.block else None,
    )
    replica.demand.range(0)
    rogue.sync(2**36)
    rogue.say(MessageType.RANGE, Range(False, 0, 2**53 - 1).encode())
    world.run(5.0)
    assert replica.length == 0
    assert rogue.victim.strikes
    assert all(isinstance(error, RemoteError) for error in rogue.victim.strikes)


@pytest.mark.parametrize("trick", ["block alone", "nothing", "manifest", "stale"])
async def test_who_answers_an_upgrade_with_something_else_does_not_keep_it_from_others(trick: str) -> None:
    world = World()
    writer = world.writer(*numbered(20))
    replica = world.replica(writer, manifest=True)
    link = world.connect(replica, writer)
    replica.demand.range(0)
    world.run(1.0)
    rogue = Rogue(world, replica)
    asked: list[int] = []

    def answer(request: Request) -> Data | None:
        asked.append(request.id)
        if request.upgrade is None:
            return None
        if trick == "block alone":
            return Data(request.id, 0, block=BlockProof(request.block.index if request.block else 20, b"x", ()))
        if trick == "stale":
            return writer.prove(request._replace(block=None, upgrade=UpgradeRef(0, 20)))
        return Data(request.id, 0, manifest=writer.manifest if trick == "manifest" else None)

    rogue.answer = answer
    link.cut()
    rogue.sync(2**30, acked=20)
    rogue.say(MessageType.RANGE, Range(False, 0, 2**30).encode())
    world.run(5.0)
    assert asked
    assert len(asked) < 20
    writer.append(numbered(10, 20))
    world.connect(replica, writer)
    world.run(5.0)
    assert replica.blocks == writer.blocks
    assert rogue.reasons() == {"mismatch"}


async def test_answers_that_lead_nowhere_are_not_asked_for_again_and_again() -> None:
    world = World()
    writer = world.writer(*numbered(64))
    replica = world.replica(writer, manifest=True)
    rogue = Rogue(world, replica)
    asked: list[int] = []

    def answer(request: Request) -> Data | None:
        if request.upgrade is not None:
            return writer.prove(request._replace(block=None))
        asked.append(request.id)
        data = writer.prove(request)
        assert data.block is not None
        return data._replace(block=data.block._replace(nodes=data.block.nodes[:-1]))

    rogue.answer = answer
    rogue.sync(64)
    rogue.say(MessageType.RANGE, Range(False, 0, 64).encode())
    world.run(1.0)
    replica.demand.block(33)
    world.run(30.0)
    assert len(asked) < 300
    world.connect(replica, writer)
    world.run(5.0)
    assert replica.blocks == {33: writer.blocks[33]}


@pytest.mark.parametrize("fork", [0, 1])
async def test_a_log_too_long_to_be_kept_is_not_asked_for(fork: int) -> None:
    world = World()
    writer = world.writer(*numbered(10))
    replica = world.replica(writer, manifest=True)
    rogue = Rogue(world, replica)
    replica.demand.range(0)
    news = replica.demand.upgrade()
    rogue.sync(2**53 - 1, fork=fork)
    rogue.say(MessageType.RANGE, Range(False, 0, 2**53 - 1).encode())
    world.run(10.0)
    assert MessageType.REQUEST not in rogue.kinds()
    assert news.result() is False
    assert len(world.replicator(replica).peers[0].wanted) <= WANTS_MAX
    world.connect(replica, writer)
    world.run(5.0)
    assert replica.blocks == writer.blocks


async def test_names_of_extensions_cannot_fill_the_memory() -> None:
    world = World()
    core = world.writer(*numbered(3))
    rogue = Rogue(world, core)
    rogue.say(MessageType.EXTENSION, Extension("x" * 2**20, b"").encode())
    world.run(0.5)
    assert rogue.reasons() == {"too_large"}
    assert not world.replicator(core).peers[0].extension_in


async def test_a_prologue_that_is_shown_as_a_whole_is_no_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    pair = KeyPair.generate()
    tree, _ = Tree().append(numbered(5))
    manifest = Manifest((Signer(pair.public_key),), 1, prologue=Prologue(tree.hash(), 5))
    core = MemoryCore(manifest.key(), manifest=manifest, key_pair=pair)
    core.append(numbered(10))
    conflicts: list[Conflict] = []

    async def conflict(proof: Conflict) -> None:
        conflicts.append(proof)

    monkeypatch.setattr(core, "conflict", conflict)
    rogue = Rogue(world, core)
    rogue.sync(10, acked=10)
    request = Request(0, 0, upgrade=UpgradeRef(0, 10))
    nodes, block = core.nodes.__getitem__, core.blocks.__getitem__
    data = prove(request, tree=core.tree, fork=0, signature=core.signature, nodes=nodes, block=block, manifest=None)
    rogue.say(MessageType.DATA, data.encode())
    world.run(0.5)
    await turns(2)
    assert not conflicts
    assert not rogue.victim.strikes
