"""Our own feeds on a real node: written through the outlet, read back after a restart and over key epochs."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support_network_boxes import Box, Founder, bring_roster, listed, stopped_at_the_end
from support_shared import NOW, WEEK_NOW, payload_of

from edge.errors import LocalError
from edge.memory.due import Due
from edge.memory.network import NetworkPriceMemory
from edge.memory.outbox import NodeOutbox
from edge.memory.sync import Surroundings, SyncManager
from edge.memory.validator import DataValidator
from edge.privacy.released import cleared
from edge.records.shared import ItemDay, ModelInsight, Payload, TrendUpdate, week_behind


@dataclass
class Shelf:
    """What a box has to tell, cleared for its network."""

    box: Box
    payloads: list[Payload] = field(default_factory=list)
    heard: list[Due] = field(default_factory=list)

    def due(self, week_now: int) -> list[Due]:
        network_id = self.box.folder.network_id
        return [
            Due((payload,), cleared(network_id, payload, listed(payload)))
            for payload in self.payloads
            if week_behind(payload) < week_now
        ]

    def told(self, due: Due) -> None:
        self.heard.append(due)


async def manager_of(box: Box, shelf: Shelf) -> SyncManager:
    node = box.running
    roster = node.roster
    assert roster is not None
    memory = NetworkPriceMemory(roster, currency="EUR", own=node.member)

    def surroundings() -> Surroundings:
        assert node.roster is not None
        return Surroundings(node.roster, box.folder.epochs(), NOW, week_now=WEEK_NOW)

    outbox = NodeOutbox(node, box.folder.epochs)
    validator = DataValidator(roster.network_id)
    manager = SyncManager(memory, validator, node, surroundings, outbox=outbox, publisher=shelf)
    await manager.start()
    return manager


async def hear(manager: SyncManager, box: Box, count: int) -> None:
    async with asyncio.timeout(30):
        while manager.memory.counts.taken < count:
            if not await manager.pull():
                await box.running.changed()


async def test_two_shops_know_the_same_and_a_restart_tells_nothing_twice(tmp_path: Path) -> None:
    founder = await Founder.found(tmp_path / "a")
    other = Box(tmp_path / "b")
    async with stopped_at_the_end(founder, other):
        await founder.start()
        await founder.admit(other)
        await other.start(founder)
        shelf = Shelf(founder, [payload_of(kind, week=WEEK_NOW - 1) for kind in (ItemDay, TrendUpdate, ModelInsight)])
        first, second = await manager_of(founder, shelf), await manager_of(other, Shelf(other))
        assert await first.sync(WEEK_NOW) == 3
        assert [type(due.payloads[0]) for due in shelf.heard] == [TrendUpdate, ModelInsight, ItemDay]
        await hear(second, other, 3)
        assert second.memory.digest() == first.memory.digest()
        assert not second.validator.refusals
        await founder.stop()
        await founder.start()
        again = await manager_of(founder, shelf)
        assert await again.sync(WEEK_NOW) == 0
        assert again.memory.digest() == first.memory.digest()


async def test_what_was_said_in_the_epoch_before_is_known_too(tmp_path: Path) -> None:
    founder = await Founder.found(tmp_path / "a")
    other = Box(tmp_path / "b")
    async with stopped_at_the_end(founder, other):
        await founder.start()
        await founder.admit(other)
        shelf = Shelf(founder, [payload_of(TrendUpdate, week=WEEK_NOW - 2)])
        assert await (await manager_of(founder, shelf)).sync(WEEK_NOW) == 1
        await founder.rotate()
        shelf.payloads.append(payload_of(TrendUpdate, week=WEEK_NOW - 1))
        manager = await manager_of(founder, shelf)
        assert await manager.sync(WEEK_NOW) == 1
        outbox = NodeOutbox(founder.running, founder.folder.epochs)
        told = await outbox.tail(100)
        assert [(each.epoch, each.sequence) for each in told] == [(1, 0), (2, 0)]
        assert [each.payload for each in await outbox.tail(1)] == [shelf.payloads[1]]
        await bring_roster(founder, other)
        await other.start(founder)
        second = await manager_of(other, Shelf(other))
        await hear(second, other, 2)
        assert second.memory.digest() == manager.memory.digest()


async def test_what_was_not_cleared_is_not_taken(tmp_path: Path) -> None:
    founder = await Founder.found(tmp_path / "a")
    async with stopped_at_the_end(founder):
        await founder.start()
        outbox = NodeOutbox(founder.running, founder.folder.epochs)
        with pytest.raises(LocalError, match="cleared"):
            await outbox.append([Due((payload_of(TrendUpdate),), None)])
        assert await outbox.tail(100) == []
        assert outbox.unfetched == 0
        assert outbox.member == founder.identity.public_key
