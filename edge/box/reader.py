"""Asking a box from outside: its control socket if it runs, else its ledger, which then nobody else holds."""

import asyncio
import base64
from collections.abc import Iterator, Mapping
from typing import Any, cast

from edge.box.control import ask
from edge.config import Config
from edge.errors import StorageError

ONLY_RUNNING = ("status", "metrics", "peers", "budget", "insights")


def inquire(config: Config, command: str, **arguments: str | None) -> object:
    """The answer to `command`. Raises `StorageError` where there is no box to ask, `RemoteError` where it refuses."""
    try:
        return ask(config.state, command, **arguments)
    except StorageError:
        if command in ONLY_RUNNING:
            raise
    return asyncio.run(_from_ledger(config, command, arguments))


def ledger_blocks(config: Config) -> Iterator[tuple[int, bytes]]:
    """Every record of a box's ledger up to its length of now: (index, block). Asks page by page where the box runs.

    Raises `StorageError` where there is no ledger or it cannot be read.
    """
    try:
        page = cast("Any", ask(config.state, "blocks", start=0))
    except StorageError:
        yield from enumerate(asyncio.run(_all_blocks(config)))
        return
    index, end = 0, page["length"]
    while True:
        for text in page["blocks"][: end - index]:
            yield index, base64.b64decode(text)
            index += 1
        if index >= end:
            return
        page = cast("Any", ask(config.state, "blocks", start=index))


async def _all_blocks(config: Config) -> list[bytes]:
    from edge.box.ledger import Ledger  # noqa: PLC0415

    ledger = await Ledger.open(config.state, create=False)
    try:
        return list(ledger.core.blocks())
    finally:
        await ledger.core.close()


async def _from_ledger(config: Config, command: str, arguments: Mapping[str, object]) -> object:
    from edge.box.inquiry import Shelves  # noqa: PLC0415 - a running box is asked without loading numpy
    from edge.box.ledger import Ledger  # noqa: PLC0415
    from edge.box.startup import read_views  # noqa: PLC0415

    ledger = await Ledger.open(config.state, create=False)
    try:
        views, _ = await read_views(config, ledger)
        return Shelves(views, ledger, config.shop.currency).handlers()[command](arguments)
    finally:
        await ledger.core.close()
