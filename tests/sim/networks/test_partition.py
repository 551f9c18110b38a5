"""Partitions: whatever was cut, killed and restarted, once the network is whole all shops know the same, all of it."""

import asyncio
from collections import Counter

import pytest
from support_partition import EPOCH, KINDS, WAITING_MAX, Partition, run_partition
from support_shared import WEEK_NOW

from edge.limits import DUE_AT_ONCE_MAX
from edge.memory.network import NetworkPriceMemory
from edge.records.message import decode
from edge.records.shared import ItemDay, Payload, PriceUpdate, week_behind


def told_by(world: Partition, number: int) -> list[tuple[int, Payload]]:
    """Sequence and payload of everything in a shop's own feeds."""
    box = world.boxes[number]
    cores = [box.cores[EPOCH.feed_key(kind, box.shop.signers[kind].public_key)] for kind in KINDS]
    return [(index, decode(core.blocks[index]).payload) for core in cores for index in range(core.length)]


def judge(world: Partition) -> None:
    roster = world.boxes[0].roster
    expected = NetworkPriceMemory(roster, currency="EUR")
    for number, box in enumerate(world.boxes):
        told = told_by(world, number)
        # Nothing twice, nothing lost: but days that their week covers.
        assert max(Counter(map(repr, (payload for _, payload in told))).values(), default=1) == 1
        there = [payload for _, payload in told]
        weeks = {(each.category, each.week) for each in there if isinstance(each, PriceUpdate)}
        for payload in box.payloads:
            covered = isinstance(payload, ItemDay) and (payload.category, week_behind(payload)) in weeks
            assert payload in there or covered
        for sequence, payload in told:
            expected.apply(box.id, 1, sequence, payload)
        # Bounded: what nobody fetched is critical, or within what may wait and one go.
        assert box.unfetched_max <= 4 * WAITING_MAX + len(box.payloads)
        assert len(box.payloads) < DUE_AT_ONCE_MAX
        assert box.refusals == 0
    digests = {box.manager.memory.digest() for box in world.boxes if box.manager is not None}
    assert digests == {expected.digest()}
    for box in world.boxes:
        assert box.manager is not None
        seen = _without(expected, box.id)
        assert box.manager.memory.trend("dairy", "A1", now=WEEK_NOW) == seen.trend("dairy", "A1", now=WEEK_NOW)


def _without(memory: NetworkPriceMemory, own: bytes) -> NetworkPriceMemory:
    """The same as that shop sees it: its own records are no news to it."""
    seen = NetworkPriceMemory(memory.roster, currency="EUR", own=own)
    for member, record in memory.heard.records():
        seen.heard.put(member, record)
    return seen


@pytest.mark.parametrize("seed", range(50))
async def test_after_healing_all_memories_are_equal_and_nothing_is_lost_or_told_twice(seed: int) -> None:
    asyncio.get_running_loop().set_debug(False)  # half of the time of twelve shops' thousands of turns
    judge(await run_partition(seed))


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_the_same_for_many_more_seeds(caplog: pytest.LogCaptureFixture) -> None:
    crashes = cuts = 0
    for seed in range(1000, 1500):
        world = await run_partition(seed)
        try:
            judge(world)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        crashes += world.counts["crashes"]
        cuts += world.counts["cuts"]
        caplog.clear()  # records of errors keep their frames, and those a whole network
    assert crashes > 500
    assert cuts > 500
