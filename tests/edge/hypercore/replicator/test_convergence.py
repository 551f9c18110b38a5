"""Five peers in a network that misbehaves: whatever happened, once it is quiet all hold the same log.

A sequence of events is made from a seed, or by Hypothesis: the writer appends and truncates, replicas clear blocks,
change their minds and come and go, links are cut in mid-frame and made anew, with delays between 0.1 and 3 times the
usual. Answers of one peer may be worked through out of order, as stock peers send them.
"""

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_memory_core import MemoryCore
from support_network import Link
from support_world import World

from edge.hypercore.demand import Download
from edge.hypercore.messages import MessageType
from edge.hypercore.replicator import Session

PEERS = 5
EVENTS = ("append", "append", "append", "truncate", "clear", "connect", "connect", "cut", "want", "leave", "run", "run")


class Network:
    """One writer and four replicas."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.world = World()
        writer = self.world.writer()
        replicas = [MemoryCore(writer.key, later=self._later) for _ in range(PEERS - 1)]
        self.writer, self.cores = writer, [writer, *replicas]
        self.links: dict[tuple[int, int], Link] = {}
        self.wishes: list[Download] = []
        self.count = 0
        for core in self.cores:
            self._shuffle(self.world.replicator(core))

    def _later(self, work: Any) -> None:
        self.world.clock.call_later(self.random.uniform(0.0, 0.05), work)

    def _shuffle(self, replicator: Any) -> None:
        """Have data overtake data now and then, as between the concurrent answers of a stock peer."""
        received = replicator.received

        def shuffled(peer: Any, messages: list[tuple[int, bytes]]) -> None:
            at = [number for number, (kind, _) in enumerate(messages) if kind == MessageType.DATA]
            for one in at:
                other = self.random.choice(at)
                if abs(one - other) < 8:
                    messages[one], messages[other] = messages[other], messages[one]
            received(peer, messages)

        replicator.received = shuffled

    def step(self, event: str) -> None:
        getattr(self, event)()

    def append(self) -> None:
        blocks = []
        for _ in range(self.random.choice((1, 1, 3, 40, 300))):
            self.count += 1
            blocks.append(self.random.randbytes(self.random.randrange(20)) + str(self.count).encode())
        self.writer.append(blocks)

    def truncate(self) -> None:
        if self.writer.length:
            near = self.random.random() < 0.7
            low = max(self.writer.length - 10, 0) if near else 0
            self.writer.truncate(self.random.randrange(low, self.writer.length))

    def clear(self) -> None:
        core = self.random.choice(self.cores[1:])
        if core.length:
            start = self.random.randrange(core.length)
            core.clear(start, min(start + self.random.randrange(1, 50), core.length))

    def connect(self) -> None:
        one, other = sorted(self.random.sample(range(PEERS), 2))
        self._link(one, other)

    def _link(self, one: int, other: int) -> None:
        if (one, other) in self.links:
            self.links[one, other].cut()
        link = Link(self.world.clock, latency=self.random.choice((0.001, 0.02, 0.2)), random=self.random)
        ends = link.ends if self.random.random() < 0.5 else link.ends[::-1]
        for end, number in zip(ends, (one, other), strict=True):
            Session(end).attach(self.world.replicator(self.cores[number]))
        self.links[one, other] = link

    def cut(self) -> None:
        if self.links:
            self.links.pop(self.random.choice(sorted(self.links))).cut()

    def want(self) -> None:
        core = self.random.choice(self.cores[1:])
        start = self.random.randrange(max(core.length, 1))
        kind = self.random.random()
        if kind < 0.5:
            self.wishes.append(core.demand.range(start, None if kind < 0.25 else start + self.random.randrange(1, 400)))
        elif kind < 0.9:
            core.demand.block(start)
        else:
            core.demand.seek(start)

    def leave(self) -> None:
        if self.wishes:
            self.wishes.pop(self.random.randrange(len(self.wishes))).cancel()

    def run(self) -> None:
        self.world.run(self.random.choice((0.001, 0.01, 0.1, 1.0)))

    def quiet(self) -> None:
        """Everybody wants everything, and is connected; then all must be the same."""
        self.append()
        for number, core in enumerate(self.cores[1:], 1):
            core.demand.range(0)
            self._link(max(number - 2, 0), number)
        for _ in range(30):
            self.world.run(10.0)
            if all(core.blocks == self.writer.blocks and core.fork == self.writer.fork for core in self.cores):
                break
        for number, core in enumerate(self.cores):
            about = f"core {number}: {core.length} of {self.writer.length}, fork {core.fork} of {self.writer.fork}"
            assert core.tree.hash() == self.writer.tree.hash(), about
            assert core.fork == self.writer.fork, about
            assert core.blocks.keys() == self.writer.blocks.keys(), about
            assert core.blocks == self.writer.blocks, about
            assert core.frozen is None
            replicator = self.world.replicator(core)
            assert replicator.missing == replicator.lag == 0
            planner = replicator._asker.planner
            assert not planner.asked, about
            assert not planner.settling, about
        for link in self.links.values():
            for end in link.ends:
                assert end.strikes == [], "honest peers were taken for liars"


def played(seed: int, events: list[str]) -> None:
    network = Network(seed)
    for event in events:
        network.step(event)
    network.quiet()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.lists(st.sampled_from(EVENTS), max_size=25))
async def test_all_converge(seed: int, events: list[str]) -> None:
    played(seed, events)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(20))
async def test_all_converge_after_many_sequences(part: int) -> None:
    for seed in range(part * 110, (part + 1) * 110):
        random = Random(seed)
        events = random.choices(EVENTS, k=random.randrange(5, 60))
        try:
            played(seed, events)
        except BaseException as error:
            error.add_note(f"seed {seed}: {events}")
            raise
