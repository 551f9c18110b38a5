"""The company's head office: it founds the network of its shops, hands out codes, lets boxes in, as its owner would.

Every step is the command that a person would type, in a process of its own:

    pomona roster init shops --kind private        pomona roster invite shops --owner ... --count N --csv codes.csv
    pomona roster serve shops --listen ...         pomona roster accept CODE --connect ...      (on each box)

The served roster is where members learn that a shop has come: boxes keep a connection to the office.
"""

import asyncio
import contextlib
import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from edge.demo.stage import HOST, NETWORK, READY_S, BoxPlan, Child
from edge.errors import RemoteError

OWNER: Final = "the company"
_ROSTER: Final = ("edge", "roster")


class Office:
    """The head office of the demonstration, serving its roster at `port`. Made by `at_work`."""

    def __init__(self, codes: list[str], port: int) -> None:
        self.port: Final = port
        self._codes = codes

    async def admit(self, plan: BoxPlan, port: int) -> None:
        """Make the box a member with the next code, before it is started; `port` leads to the office."""
        words = ["accept", "-", "--name", NETWORK, "--config", str(plan.config), "--connect", f"{HOST}:{port}"]
        child = await Child.start("join", [*_ROSTER, *words, "--json"], plan.folder, told=True)
        child.tell(self._codes.pop(0))
        child.hang_up()
        await _done(child)


@asynccontextmanager
async def at_work(folder: Path, shops: int, *, port: int) -> AsyncIterator[Office]:
    """An office with codes for so many shops, listening on `port` for the length of the block."""
    folder.mkdir(parents=True)
    state, codes = str(folder / "state"), folder / "codes.csv"
    await _run(folder, "init", NETWORK, "--state", state, "--kind", "private", "--title", f"shops of {OWNER}")
    guests = ("--owner", OWNER, "--label", "shop", "--count", str(shops), "--csv", str(codes))
    await _run(folder, "invite", NETWORK, "--state", state, *guests)
    with codes.open(encoding="utf-8", newline="") as table:
        waiting = [row["code"] for row in csv.DictReader(table)]
    words = ["serve", NETWORK, "--state", state, "--listen", f"{HOST}:{port}", "--json"]
    child = await Child.start("office", [*_ROSTER, *words], folder)
    listening = asyncio.Event()

    def said(row: dict[str, Any]) -> None:
        if row.get("event") == "listening":
            listening.set()

    reading = asyncio.create_task(child.lines(said))
    try:
        heard = asyncio.create_task(listening.wait())
        await asyncio.wait((heard, reading), timeout=READY_S, return_when=asyncio.FIRST_COMPLETED)
        heard.cancel()
        if not listening.is_set():
            raise RemoteError(f"the office does not listen: {child.last_words()}", reason="child")
        yield Office(waiting, port)
    finally:
        await child.stop()
        with contextlib.suppress(RemoteError):
            await reading


async def _run(folder: Path, *words: str) -> None:
    await _done(await Child.start("office", [*_ROSTER, *words, "--json"], folder))


async def _done(child: Child) -> None:
    try:
        await child.lines(lambda _row: None)
    finally:
        await child.stop()
