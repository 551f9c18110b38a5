import asyncio
from collections.abc import Iterator

import pytest

from edge.errors import LocalError
from edge.hypercore.demand import Demand
from edge.limits import INTEGER_MAX


class Blocks:
    """A set of blocks that says which stretches it holds, as a core does."""

    def __init__(self, *indexes: int) -> None:
        self.indexes = set(indexes)

    def held(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        run: list[int] = []
        for index in sorted(index for index in self.indexes if start <= index < end):
            if run and run[-1] + 1 != index:
                yield run[0], run[-1] + 1
                run = []
            run.append(index)
        if run:
            yield run[0], run[-1] + 1

    def add(self, start: int, end: int, demand: Demand) -> None:
        self.indexes.update(range(start, end))
        demand.arrived(start, end)


async def test_a_block_is_awaited_until_it_is_held() -> None:
    blocks = Blocks(1)
    demand = Demand(blocks.held)
    assert demand.block(1).done()
    first, second = demand.block(2), demand.block(2)
    assert demand.take_fresh().single == [(2, 3)]
    blocks.add(3, 9, demand)
    assert not first.done()
    blocks.add(2, 3, demand)
    assert first.done()
    assert second.done()
    assert not demand.open


async def test_a_cancelled_block_is_withdrawn_once_nobody_waits() -> None:
    demand = Demand(Blocks().held)
    first, second = demand.block(5), demand.block(5)
    demand.take_fresh()
    first.cancel()
    await asyncio.sleep(0)
    assert demand.wants_block(5)
    assert not demand.take_fresh().withdrawn
    second.cancel()
    await asyncio.sleep(0)
    assert not demand.open
    assert demand.take_fresh().withdrawn


async def test_a_range_is_done_when_its_last_hole_is_filled() -> None:
    blocks = Blocks(0, 1, 4)
    demand = Demand(blocks.held)
    download = demand.range(0, 6)
    assert demand.take_fresh().ranges == [(2, 6)]
    blocks.add(5, 6, demand)
    assert download.cursor == 2
    blocks.add(2, 4, demand)
    assert download.done.done()
    assert not demand.open
    assert demand.range(0, 6).done.done()


async def test_a_live_range_never_ends_by_itself() -> None:
    blocks = Blocks()
    demand = Demand(blocks.held)
    download = demand.range(0)
    assert demand.take_fresh().ranges == [(0, INTEGER_MAX)]
    blocks.add(0, 50, demand)
    assert download.cursor == 50
    assert demand.everything().ranges == [(50, INTEGER_MAX)]
    download.cancel()
    download.cancel()
    assert download.done.cancelled()
    assert not demand.open


async def test_a_truncation_wants_the_lost_blocks_again() -> None:
    blocks = Blocks(*range(8))
    demand = Demand(blocks.held)
    download = demand.range(2, 20)
    blocks.indexes = set(range(5))
    demand.truncated(5)
    assert download.cursor == 5
    assert demand.take_fresh().withdrawn
    demand.truncated(0)
    assert download.cursor == 2


async def test_upgrades_end_with_growth_or_with_the_word_that_nobody_has_more() -> None:
    demand = Demand(Blocks().held)
    assert (await demand.upgrade()) is False
    demand.replicated = True
    grown, later = demand.upgrade(), None
    demand.grown()
    later = demand.upgrade()
    demand.nothing_newer()
    assert await grown is True
    assert await later is False


async def test_the_listener_hears_of_wishes_and_withdrawals() -> None:
    calls: list[int] = []
    demand = Demand(Blocks(3).held, lambda: calls.append(1))
    demand.replicated = True
    demand.block(3)
    assert not calls
    demand.block(4)
    demand.range(0, 2)
    demand.upgrade()
    seek = demand.seek(1000, 8)
    assert len(calls) == 4
    assert [(item.offset, item.padding) for item in demand.seeks] == [(1000, 8)]
    seek.cancel()
    await asyncio.sleep(0)
    assert not demand.seeks


async def test_closing_fails_whoever_waits() -> None:
    demand = Demand(Blocks().held)
    block, download, seek = demand.block(0), demand.range(0), demand.seek(1)
    demand.close(LocalError("closed"))
    for future in (block, download.done, seek):
        with pytest.raises(LocalError):
            await future
    assert not demand.open
