"""Asking a box from outside: its control socket if it runs, else its ledger, which then nobody else holds."""

import asyncio
from collections.abc import Mapping

from edge.box.control import ask
from edge.config import Config
from edge.errors import StorageError

ONLY_RUNNING = ("status", "metrics")


def inquire(config: Config, command: str, **arguments: str | None) -> object:
    """The answer to `command`. Raises `StorageError` where there is no box to ask, `RemoteError` where it refuses."""
    try:
        return ask(config.state, command, **arguments)
    except StorageError:
        if command in ONLY_RUNNING:
            raise
    return asyncio.run(_from_ledger(config, command, arguments))


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
