"""Two cores without a network: what a replicator would carry between them, request by request."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from edge.hypercore.checking import check_whole, levels
from edge.hypercore.hypercore import Hypercore
from edge.hypercore.messages import BlockRef, Data, Request, UpgradeRef

Open = Callable[..., Awaitable[Hypercore]]
Test = Callable[..., Coroutine[Any, Any, None]]


def closing_cores(test: Test) -> Test:
    """Give a test `open_core(name, **options)`, which opens the core in a folder of that name; closes them after it."""

    @functools.wraps(test)
    async def with_cores(tmp_path: Path, **arguments: Any) -> None:
        async with AsyncExitStack() as stack:

            async def open_core(name: str, **options: Any) -> Hypercore:
                core = await Hypercore.open(tmp_path / name, create=True, **options)
                stack.push_async_callback(core.close)
                return core

            if "tmp_path" in own:
                arguments["tmp_path"] = tmp_path
            await test(open_core=open_core, **arguments)

    own = dict(inspect.signature(test).parameters)
    asked = [each for name, each in own.items() if name not in ("open_core", "tmp_path")]
    path = inspect.Parameter("tmp_path", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    with_cores.__signature__ = inspect.Signature([path, *asked])  # type: ignore[attr-defined]
    return with_cores


def ask_upgrade(source: Hypercore, replica: Hypercore, block: int | None = None) -> Data:
    """What `source` answers to a request for everything that is new, and perhaps a block of it."""
    shown = source.shown
    assert shown is not None
    start = replica.ahead.length
    return source.prove(
        Request(
            1,
            source.fork,
            block=None if block is None else BlockRef(block, 0),
            upgrade=UpgradeRef(start, shown[1] - start),
            manifest=replica.manifest is None,
        )
    )


def ask_block(source: Hypercore, replica: Hypercore, index: int) -> Data:
    """What `source` answers to a request for one block."""
    return source.prove(Request(1, source.fork, block=BlockRef(index, levels(2 * index, replica.known))))


def upgrade(source: Hypercore, replica: Hypercore) -> None:
    """Let `replica` accept whatever is longer at `source`: a longer tree, or another fork."""
    shown = source.shown
    assert shown is not None
    if shown[0] > replica._intake.fork:
        if replica.manifest is None and not source.compat:
            replica.accept(Data(0, replica._intake.fork, manifest=source.manifest))
        whole = check_whole(
            source.prove(Request(1, shown[0], upgrade=UpgradeRef(0, shown[1]))), verifier=source.verifier
        )
        replica.accept_reorg(whole, min(replica.ahead.length, shown[1]))
    elif shown[1] > replica.ahead.length:
        replica.accept(ask_upgrade(source, replica))


def take(source: Hypercore, replica: Hypercore, indexes: Iterable[int]) -> None:
    """Let `replica` accept these blocks."""
    for index in indexes:
        replica.accept(ask_block(source, replica, index))
