"""Order, windows and bounds of what waits to be written."""

import asyncio

import pytest

from edge.errors import StorageError
from edge.hypercore.write_queue import Append, Edit, Room, WriteQueue, closing, settle


def queue(window_s: float = 3600.0) -> WriteQueue:
    return WriteQueue(Room(10, 1000), window_s=window_s, monotonic=lambda: 0.0)


def append(blocks: int, *, urgent: bool = False, cost: int = 1) -> Append:
    return Append([b"x"] * blocks, cost, urgent, 0.0, asyncio.get_running_loop().create_future())


def edit() -> Edit:
    return Edit(lambda: ([], lambda _: []), 0.0, asyncio.get_running_loop().create_future())


async def test_what_nobody_waits_for_is_gathered_until_somebody_does() -> None:
    waiting = queue()
    first, second, third = append(1), append(2), append(1, urgent=True)
    waiting.put(first)
    waiting.put(second)
    task = asyncio.create_task(waiting.next_group())
    await asyncio.sleep(0.01)
    assert not task.done()
    assert waiting.depth == 3
    waiting.put(third)
    assert await task == [first, second, third]
    assert waiting.depth == 0


async def test_the_window_ends_by_itself() -> None:
    waiting = queue(window_s=0.001)
    only = append(1)
    waiting.put(only)
    assert await waiting.next_group() == [only]


async def test_a_full_group_does_not_wait_and_is_never_exceeded() -> None:
    waiting = queue()
    writes = [append(4), append(4), append(4), append(10)]
    for write in writes:
        waiting.put(write)
    assert await waiting.next_group() == writes[:2]
    assert await waiting.next_group() == writes[2:3]
    assert await waiting.next_group() == writes[3:]
    large = [append(1, cost=900), append(1, cost=200), append(1, urgent=True)]
    for write in large:
        waiting.put(write)
    assert await waiting.next_group() == large[:1]
    assert await waiting.next_group() == large[1:]
    assert waiting.fits(10, 1000)
    assert not waiting.fits(11, 1)
    assert not waiting.fits(1, 1001)


async def test_an_edit_stands_alone_and_in_its_place() -> None:
    waiting = queue()
    before, change, after = append(1), edit(), append(1, urgent=True)
    for write in (before, change, after):
        waiting.put(write)
    assert [await waiting.next_group() for _ in range(3)] == [[before], [change], [after]]


async def test_those_who_have_gone_are_left_out() -> None:
    waiting = queue()
    gone, also_gone, here = append(1, urgent=True), edit(), append(1, urgent=True)
    waiting.put(gone)
    gone.done.cancel()
    task = asyncio.create_task(waiting.next_group())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()  # an empty group is no group
    waiting.put(also_gone)
    also_gone.done.cancel()
    waiting.put(here)
    assert await task == [here]
    settle(gone, 1)
    assert gone.done.cancelled()


async def test_room_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.hypercore.write_queue.COMMIT_QUEUE_RECORDS_MAX", 5)
    waiting = queue()
    await waiting.room_for(99, 1)  # an empty queue takes anything
    waiting.put(append(4, urgent=True))
    await waiting.room_for(1, 1)
    late = asyncio.create_task(waiting.room_for(2, 1))
    await asyncio.sleep(0)
    assert not late.done()
    await waiting.next_group()
    await asyncio.wait_for(late, 5)


async def test_closing_hands_out_the_rest_and_takes_no_more() -> None:
    waiting = queue()
    last = append(1)
    waiting.put(last)
    waiting.close()
    assert await waiting.next_group() == [last]
    assert await waiting.next_group() == []
    with pytest.raises(StorageError, match="closing"):
        waiting.put(append(1))


async def test_failing_ends_everything_that_waits() -> None:
    waiting = queue()
    writes: list[Append | Edit] = [append(1), edit()]
    for write in writes:
        waiting.put(write)
    waiting.fail(closing())
    for write in writes:
        with pytest.raises(StorageError):
            await write.done
    assert await waiting.next_group() == []
    assert waiting.depth == 0
