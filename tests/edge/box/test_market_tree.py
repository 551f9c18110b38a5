"""The tree of what members say: whoever calls, one at a time, and readable from its first block."""

import asyncio
from pathlib import Path

from support_network_boxes import Founder
from support_shared import payload_of

from edge.box.market import MarketTree
from edge.memory.network import NetworkPriceMemory
from edge.records.message import Network
from edge.records.shared import ModelInsight, TrendUpdate


async def test_who_was_heard_and_who_tells_may_write_at_once(tmp_path: Path) -> None:
    box = await Founder.found(tmp_path / "s", Network.PRIVATE)
    await box.start()
    assert box.running.roster is not None
    memory = NetworkPriceMemory(box.running.roster, currency="EUR", own=box.running.member)
    tree = MarketTree(box.folder, box.running, memory)
    begun = tree.key
    assert begun is None
    for round_ in range(3):
        for number, kind in enumerate((TrendUpdate, ModelInsight)):
            category = f"dairy-{round_}"
            assert memory.apply(box.running.member, 1, 2 * round_ + number, payload_of(kind, category=category))
        await asyncio.gather(*(tree.update() for _ in range(4)))
    assert tree.key is not None
    assert tree._bee is not None
    seen = [entry.key async for entry in tree._bee.bee.history()]
    assert len(seen) == len(set(seen)) == tree._bee.bee.version - 1  # a header, and every block an entry
    assert {key.split("/")[1] for key in seen} == {"dairy-0", "dairy-1", "dairy-2"}
    await box.stop()
