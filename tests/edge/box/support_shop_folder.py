"""A shop's folder as a box leaves it behind: configuration, item file, and a ledger of two weeks."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support_desk import CURRENCY, Desk, shelf

from edge.app import Box
from edge.box.control import SOCKET_NAME
from edge.box.ledger import Ledger
from edge.config import load
from edge.pos.item_file import format_items

GLN = "2900000000018"


@dataclass(frozen=True)
class Said:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def tree(self) -> Any:
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def write_folder(root: Path, port: int) -> Path:
    """Fill `root`; the path of its configuration. The broker is somebody else's, and is not there."""
    state = root / "s"
    state.mkdir(parents=True)

    async def fill() -> None:
        desk = Desk(root)
        await desk.live(15)
        ledger = await Ledger.open(state)
        await ledger.append_all(desk.log)
        await ledger.core.close()

    asyncio.run(fill())
    (root / "items.csv").write_text(format_items(shelf(), CURRENCY))
    config = root / "pomona.toml"
    config.write_text(
        f'[shop]\ngln = "{GLN}"\ncurrency = "{CURRENCY}"\nstate_dir = "s"\nitems = "items.csv"\n'
        f'[broker]\nkind = "external"\n[tills]\nport = {port}\n'
        '[pricing]\npolicy = "none"\nclock_closes_hours = 0\n[pricing.modes]\njuice = "live"\nbread = "off"\n'
    )
    return config


@contextlib.asynccontextmanager
async def running(config: Path) -> AsyncIterator[Box]:
    """The box of a configuration, in this process, once it can be asked."""
    box = Box(load(config))
    task = asyncio.create_task(box.run())
    async with asyncio.timeout(30):
        while not (config.parent / "s" / SOCKET_NAME).exists() and not task.done():
            await asyncio.sleep(0.01)
    if task.done():
        task.result()
    try:
        yield box
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
