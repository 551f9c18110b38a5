from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support_memory_core import MemoryCore

from edge.crypto.keys import KeyPair
from edge.hypercore.messages import BlockRef, Request, UpgradeRef
from edge.hypercore.proof import levels
from edge.hypercore.replicator.peer import Peer
from edge.hypercore.replicator.planner import Planner
from edge.limits import PROMISES_MAX, WANT_BLOCKS

PAIR = KeyPair.generate()


def writer(length: int) -> MemoryCore:
    core = MemoryCore.writer(PAIR)
    core.append([str(index).encode() for index in range(length)])
    return core


def grown(source: MemoryCore) -> MemoryCore:
    """A replica that knows the length, and no block."""
    core = MemoryCore(source.key, manifest=source.manifest)
    core.accept(source.prove(Request(1, 0, upgrade=UpgradeRef(0, source.length))))
    return core


def peer(length: int, *held: tuple[int, int]) -> Peer:
    nobody: Any = SimpleNamespace()
    one = Peer(nobody, nobody)
    one.open = one.synced = True
    one.length = length
    for start, end in held or [(0, length)]:
        one.has.add(start, end)
    return one


@given(st.integers(1, 400), st.data())
def test_promises_leave_about_one_node_a_block(length: int, data: st.DataObject) -> None:
    source = writer(length)
    core = grown(source)
    planner, remote = Planner(core), peer(length)
    start = data.draw(st.integers(0, length - 1))
    nodes = 0
    for index in range(start, length):
        asked = planner.levels(remote, index)
        nodes += asked
        core.accept(source.prove(Request(1, 0, block=BlockRef(index, asked))))  # anchored, in order
    assert core.rejected == 0
    assert nodes <= (length - start) + 2 * length.bit_length()


@given(st.integers(2, 300), st.lists(st.integers(0, 299), min_size=1, max_size=60))
def test_blocks_in_any_order_can_be_checked_in_the_order_of_asking(length: int, indexes: list[int]) -> None:
    source = writer(length)
    core = grown(source)
    planner, remote = Planner(core), peer(length)
    asked = [(index, planner.levels(remote, index)) for index in dict.fromkeys(index % length for index in indexes)]
    for index, count in asked:
        core.accept(source.prove(Request(1, 0, block=BlockRef(index, count))))
    assert core.rejected == 0


def test_broken_promises_are_not_relied_on() -> None:
    source = writer(64)
    core = grown(source)
    planner, remote = Planner(core), peer(64)
    assert planner.levels(remote, 0) == 6
    assert planner.levels(remote, 1) == 0
    remote.break_promises()
    assert planner.levels(remote, 1) == levels(2, core.known) == 6


def test_promises_are_forgotten_once_they_are_kept() -> None:
    source = writer(3 * PROMISES_MAX)
    core = grown(source)
    planner, remote = Planner(core), peer(source.length)
    for index in range(source.length):
        request = Request(index + 1, 0, block=BlockRef(index, planner.levels(remote, index)))
        remote.next_id = index + 2
        core.accept(source.prove(request))
        planner.weed(remote)
        assert len(remote.promised) + len(remote.promised_before) <= 2 * PROMISES_MAX + 64
    assert core.rejected == 0


async def test_single_blocks_come_before_ranges() -> None:
    core = grown(writer(100))
    core.demand.range(0, 100)
    core.demand.block(70)
    planner = Planner(core)
    planner.rebuild()
    remote = peer(100)
    assert planner.take(remote, 4, [remote]) == [70, 0, 1, 2]
    assert planner.take(remote, 2, [remote]) == [3, 4]
    planner.give_back(1)
    assert planner.take(remote, 2, [remote]) == [1, 5]


async def test_what_only_one_peer_holds_is_asked_of_it_first() -> None:
    core = grown(writer(1000))
    core.demand.range(0, 1000)
    planner = Planner(core)
    planner.rebuild()
    one, other = peer(1000, (0, 600)), peer(1000, (0, 500), (600, 800))
    assert planner.take(one, 50, [one, other]) == list(range(500, 550))
    assert planner.take(other, 50, [one, other]) == list(range(600, 650))


async def test_two_peers_begin_at_different_places() -> None:
    core = grown(writer(1000))
    core.demand.range(0, 1000)
    planner = Planner(core)
    planner.rebuild()
    one, other = peer(1000), peer(1000)
    other.share = 1
    assert planner.take(one, 10, [one, other]) == list(range(10))
    assert planner.take(other, 10, [one, other]) == list(range(505, 515))
    assert planner.take(one, 10, [one, other]) == list(range(10, 20))


def test_a_peer_with_a_shorter_log_is_asked_below_roots_that_we_know() -> None:
    source = writer(300)
    core = grown(source)
    planner = Planner(core)
    assert planner.reach(peer(300)) == planner.reach(peer(400)) == 300
    assert planner.reach(peer(256)) == 256  # a root of our tree
    assert planner.reach(peer(200)) == 0  # its roots are not known here
    core.accept(source.prove(Request(1, 0, block=BlockRef(199, 8))))
    assert planner.reach(peer(200)) == 200


async def test_what_a_peer_may_hold_is_asked_once() -> None:
    core = grown(writer(100))
    core.demand.range(0, 100)
    planner = Planner(core)
    planner.rebuild()
    remote = peer(100, (0, 50))
    assert planner.lacking(remote, 512) == [0]
    remote.wanted.add(0)
    assert planner.lacking(remote, 512) == []
    assert planner.lacking(peer(100), 512) == []
    assert WANT_BLOCKS > 100
