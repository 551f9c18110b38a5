"""Six boxes of a franchise with real nodes: sockets, Hypercore feeds, ledgers; one of them restarts half-way."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

from support_network_boxes import Box, Founder, stopped_at_the_end, until
from support_privacy import Disk
from support_shared import NOW
from support_sums import CENTRE, LIVE, WINDOW

from edge.encoding import cbor
from edge.memory.network import NetworkPriceMemory
from edge.memory.sums import Moment, NodeSums, SumsDesk
from edge.memory.sums.terms import due_day
from edge.memory.sync import Surroundings, SyncManager
from edge.memory.validator import DataValidator
from edge.networks.access import FeedKind
from edge.networks.node import NetworkNode
from edge.networks.roster import Roster
from edge.privacy.budget import caps_of
from edge.privacy.secure_sum.messages import Kind
from edge.records.message import Network

TODAY: date = due_day(WINDOW, LIVE)


class Works:
    """What a box has beside its node."""

    def __init__(self, box: Box, disk: Disk, value: float) -> None:
        node: NetworkNode = box.running
        self.node, self.roster = node, roster_of(node)
        self.memory = NetworkPriceMemory(self.roster, currency="EUR", own=node.member)

        async def contribution(*_: object) -> list[float]:
            return [value]

        def around() -> Surroundings:
            return Surroundings(roster_of(node), box.folder.epochs(), NOW)

        self.desk = SumsDesk(
            box.folder.directory / "sums",
            self.memory,
            NodeSums(node, box.folder.epochs),
            around,
            ledger=disk.ledger(caps_of([LIVE.privacy])),
            contribution=contribution,
            categories=lambda: ["juice"],
            centre=CENTRE,
            random_bits=random.SystemRandom().getrandbits,
        )
        validator = DataValidator(self.roster.network_id)
        self.sync = SyncManager(self.memory, validator, node, around, hear_sum=self.desk.hear)

    @property
    def mean(self) -> float | None:
        found = self.memory.insights("juice").get("", {}).get("price")
        return None if found is None else found.mean

    async def run(self) -> None:
        await self.sync.start()
        await self.desk.start(TODAY)
        self.desk.rewind(self.sync.cursor)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.sync.run())
            tasks.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await self.desk.tick(Moment(TODAY, asyncio.get_running_loop().time()))
            await self.desk.news.wait()


def kind_of(block: bytes) -> Kind:
    cells: Any = cbor.decode(block)
    return Kind(cells[0])


def roster_of(node: NetworkNode) -> Roster:
    assert node.roster is not None
    return node.roster


@asynccontextmanager
async def at_work(works: Works) -> AsyncIterator[None]:
    task = asyncio.create_task(works.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_six_shops_sum_over_real_feeds(tmp_path: Path) -> None:
    founder = await Founder.found(tmp_path / "0", Network.CONSORTIUM, policy=LIVE)
    boxes = [founder, *(Box(tmp_path / str(number)) for number in range(1, 6))]
    async with stopped_at_the_end(*boxes):
        await founder.start()
        await founder.admit(*boxes[1:])
        await founder.rotate()  # sums begin with the first epoch that all of them were there for
        for box in boxes[1:]:
            await box.start(founder)
        await until(lambda: all(box.version == founder.version for box in boxes))
        disks = [Disk() for _ in boxes]
        works = [Works(box, disk, CENTRE + 0.1 * n) for n, (box, disk) in enumerate(zip(boxes, disks, strict=True))]
        last = boxes[5]
        async with contextlib.AsyncExitStack() as stack:
            for each in works[:5]:
                await stack.enter_async_context(at_work(each))
            async with at_work(works[5]):
                await until(lambda: last.running.feeds.lengths()[FeedKind.SUMS] >= 2)
            await last.stop()
            await last.start(founder)
            works[5] = Works(last, disks[5], CENTRE + 3.0)  # another word would be heard now: the first one counts
            await stack.enter_async_context(at_work(works[5]))
            await until(lambda: all(each.mean is not None for each in works))
        assert len({each.memory.digest() for each in works}) == 1
        (found,) = {each.mean for each in works}
        assert found is not None
        pooled = works[0].memory.insights("juice")[""]["price"]
        assert (pooled.shops, pooled.owners) == (6, 1)
        assert abs(found - CENTRE - 0.25) < 5 * pooled.deviation
        assert {len(disk.blocks) for disk in disks} == {2}  # the floor, and one charge
        own = await NodeSums(last.running, last.folder.epochs).own()
        said = [kind_of(block) for block in own]
        assert sorted(kind for kind in said if kind is not Kind.CUT) == [
            Kind.KEYS, Kind.SHARES, Kind.MASKED, Kind.ACK, Kind.REVEAL
        ]  # fmt: skip
