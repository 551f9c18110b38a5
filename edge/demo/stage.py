"""The processes of a demonstration: boxes (each with its broker), shoppers or replaying tills. Started, read, ended.

    folder/box-1/{pomona.toml, items.csv, state/}      as an owner would write them
    folder/box-1/spool/                                what that shop's tills keep until it is acknowledged

A child's stdout is read line by line; its stderr and a box's log go to files beside it. Children are ended in the
reverse order of their start, whatever happens.
"""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.box.control import ask
from edge.errors import PomonaError, RemoteError, StorageError
from edge.pos.topics import gln_of_store
from edge.registry.tills import Registry

READY_S: Final = 60.0
STOP_S: Final = 30.0
HOST: Final = "127.0.0.1"
_LINE_BYTES_MAX: Final = 1 << 20


NETWORK: Final = "shops"  # what the boxes of the demonstration call their company's network


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where a box meets the other members of its network: ports on 127.0.0.1."""

    listen: int
    peers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BoxPlan:
    """One shop of the demonstration."""

    store: int
    folder: Path
    port: int
    currency: str
    lanes: tuple[str, ...]
    category: str
    broker: str  # auto | mosquitto | embedded
    wiring: Wiring | None = None  # None: the box is in no network

    @property
    def gln(self) -> str:
        """The shop's GLN."""
        return gln_of_store(self.store)

    @property
    def config(self) -> Path:
        """The box's configuration file."""
        return self.folder / "pomona.toml"

    @property
    def items(self) -> Path:
        """The shop's item file."""
        return self.folder / "items.csv"

    @property
    def state(self) -> Path:
        """The box's state folder."""
        return self.folder / "state"

    @property
    def passwords(self) -> Path:
        """Lane → password, for the tills of the demonstration."""
        return self.folder / "till-passwords.json"


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody listens on right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


def write_config(plan: BoxPlan, mode: str) -> None:
    """The box's configuration with its category in `mode`."""
    plan.config.write_text(
        "# Made by `pomona demo`.\n"
        "[shop]\n"
        f'gln = "{plan.gln}"\ncurrency = "{plan.currency}"\nstate_dir = "state"\nitems = "items.csv"\n\n'
        "[broker]\n"
        f'kind = "{plan.broker}"\nport = {plan.port}\n\n'
        "[pricing]\n"
        "clock_closes_hours = 0   # virtual time: the tills alone say when a day is over\n\n"
        "[pricing.modes]\n"
        f'"{plan.category}" = "{mode}"\n' + _network(plan.wiring),
        encoding="utf-8",
    )


def _network(wiring: Wiring | None) -> str:
    if wiring is None:
        return ""
    peers = ", ".join(f'"{HOST}:{port}"' for port in wiring.peers)
    return f'\n[networks.{NETWORK}]\nlisten = "{HOST}:{wiring.listen}"\npeers = [{peers}]\n'


def prepare(plan: BoxPlan) -> None:
    """Write what an owner writes: the configuration, and the enrolled tills. The item file is the caller's."""
    plan.state.mkdir(parents=True, mode=0o700)
    write_config(plan, "shadow")
    with Registry(plan.state) as registry:
        passwords = {lane: registry.enrol(lane, label="demonstration", wall_ms=0) for lane in plan.lanes}
    plan.passwords.touch(mode=0o600)
    plan.passwords.write_text(json.dumps(passwords), encoding="utf-8")
    for lane, password in passwords.items():
        file = plan.folder / f"till-{lane}.password"
        file.touch(mode=0o600)
        file.write_text(password + "\n", encoding="utf-8")


class Child:
    """A child process of the demonstration."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    async def start(cls, name: str, arguments: Sequence[str], folder: Path, *, told: bool = False) -> "Child":
        """Run `python -m arguments`; its stdout can be read with `lines`. `told`: `tell` can write to its stdin."""
        log = folder / f"{name}.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                stdin=asyncio.subprocess.PIPE if told else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                limit=_LINE_BYTES_MAX,
            )
        return cls(name, process, log)

    async def lines(self, use: Callable[[dict[str, object]], None]) -> None:
        """Hand every JSON line of its stdout to `use` until it ends. Raises `RemoteError` if it failed."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            use(json.loads(line))
        code = await self.process.wait()
        if code:
            raise RemoteError(f"{self.name} ended with {code}: {self.last_words()}", reason="child")

    def tell(self, line: str) -> None:
        """Write a line to its stdin; to one that has ended: nothing."""
        assert self.process.stdin is not None
        if not self.process.stdin.is_closing():
            self.process.stdin.write(line.encode() + b"\n")

    def hang_up(self) -> None:
        """Close its stdin: no more is said."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def last_words(self) -> str:
        """The last line of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace").strip()
        return text.splitlines()[-1] if text else "it said nothing"

    async def stop(self) -> None:
        """Ask it to end; insist after `STOP_S`."""
        if self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def box_ready(plan: BoxPlan, child: Child) -> None:
    """Wait until the box answers on its socket and holds its broker's connection."""
    try:
        async with asyncio.timeout(READY_S):
            while True:
                if child.process.returncode is not None:
                    raise RemoteError(f"{child.name} did not start: {child.last_words()}", reason="child")
                status = await status_of(plan)
                if status is not None and status["broker_connected"] and status["book"] is not None:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise RemoteError(
            f"{child.name} was not ready in {READY_S:.0f} s: {child.last_words()}", reason="child"
        ) from None


async def status_of(plan: BoxPlan) -> "dict[str, object] | None":
    """What the box says of itself; None while it does not answer."""
    return await asked(plan, "status")


async def asked(plan: BoxPlan, command: str) -> "dict[str, object] | None":
    """The box's answer to `command`; None while it does not answer."""
    try:
        answer = await asyncio.to_thread(ask, plan.state, command)
    except (StorageError, PomonaError):
        return None
    assert isinstance(answer, dict)
    return answer


async def together(*work: Coroutine[Any, Any, object]) -> None:
    """Run all of it until all is done. The first that fails ends the others, and is raised as it is."""
    if not work:
        return
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
