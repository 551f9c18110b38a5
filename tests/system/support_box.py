"""A real box for system tests, benchmarks and soaks: `pomona run` as a child process, with its state in one folder."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support_shop import free_port

from edge.box.control import ask
from edge.box.ledger import Ledger
from edge.box.views import CODEC
from edge.pos.item_file import format_items
from edge.pos.mqtt import MqttSettings
from edge.pos.topics import gln_of_store
from edge.records.item import Item
from edge.records.ledger import ReceiptRecord
from edge.registry.tills import Registry

GLN = gln_of_store(3)
CURRENCY = "USD"
READY_S = 60.0  # a test machine under load; nothing is measured by it


class BoxProcess:
    """One box's folder, and the process that serves it while there is one."""

    def __init__(
        self,
        root: Path,
        kind: str,
        *,
        lanes: Sequence[str] = ("1", "2"),
        modes: Mapping[str, str] | None = None,
        more: str = "",
    ) -> None:
        """`more`: further lines of the configuration."""
        self.root, self.lanes = root, tuple(lanes)
        self.state, self.items, self.config = root / "s", root / "items.csv", root / "pomona.toml"
        self.port = free_port()
        self.state.mkdir(exist_ok=True, mode=0o700)
        named = "".join(f'"{name}" = "{mode}"\n' for name, mode in (modes or {}).items())
        self.config.write_text(
            f'[shop]\ngln = "{GLN}"\ncurrency = "{CURRENCY}"\nstate_dir = "s"\nitems = "items.csv"\n'
            f'[broker]\nkind = "{kind}"\nport = {self.port}\n'
            f"[pricing]\nclock_closes_hours = 0\nstep_probability = 0.0\n[pricing.modes]\n{named}{more}"
        )
        with Registry(self.state) as registry:
            self._passwords = {lane: registry.enrol(lane, wall_ms=0) for lane in self.lanes}
        self._process: subprocess.Popen[bytes] | None = None

    def write_items(self, items: Sequence[Item]) -> None:
        """Put the item file in place."""
        temporary = self.root / "items.new"
        temporary.write_text(format_items(items, CURRENCY))
        temporary.replace(self.items)

    def settings(self, lane: str) -> MqttSettings:
        """How the till of `lane` connects."""
        return MqttSettings(
            port=self.port,
            username=lane,
            password=self._passwords[lane],
            client_id=lane,
            reconnect_min_s=0.02,
            reconnect_max_s=0.2,
        )

    @property
    def pid(self) -> int:
        """Of the running box."""
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether there is no process any more."""
        return self._process is None or self._process.poll() is not None

    def start(self) -> float:
        """Start the box and wait until it tells its supervisor READY; the seconds from start to READY."""
        path = self.root / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind(str(path))
            supervisor.settimeout(0.2)
            environment = {**os.environ, "NOTIFY_SOCKET": str(path), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
            with (self.root / "box.log").open("ab") as log:
                begun = time.monotonic()
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "edge", "run", "--config", str(self.config)],
                    stdout=log,
                    stderr=log,
                    env=environment,
                )
            while time.monotonic() - begun < READY_S:
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in supervisor.recv(4096):
                        return time.monotonic() - begun
                if self.ended:
                    raise RuntimeError(f"the box ended: {self.log()[-2000:]}")
        raise RuntimeError(f"the box was not ready in {READY_S} s: {self.log()[-2000:]}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the box; its exit code."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            return process.wait(30)
        finally:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """kill -9."""
        self.stop(signal.SIGKILL)

    def log(self) -> str:
        """What all lives of the box have said."""
        return (self.root / "box.log").read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        """`pomona status --json` of the running box."""
        answer = ask(self.state, "status")
        assert isinstance(answer, dict)
        return answer

    def pomona(self, *arguments: str, config: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of `pomona` on this box."""
        command = [sys.executable, "-m", "edge", *arguments, *(("--config", str(self.config)) if config else ())]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def resident_bytes(self) -> int:
        """RSS of the box's own process."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(text.split("VmRSS:")[1].split()[0])

    def records(self) -> list[Any]:
        """Every record of the ledger of a stopped box."""
        return asyncio.run(self.read())

    async def read(self) -> list[Any]:
        """The same, from a running loop. Verifies nothing but what reading verifies."""
        ledger = await Ledger.open(self.state, create=False)
        try:
            return [CODEC.decode(block) for block in ledger.core.blocks(0)]
        finally:
            await ledger.core.close()


def rung(records: Sequence[Any]) -> list[tuple[str, int, int]]:
    """(lane, epoch, sequence) of every receipt, in log order."""
    found = [record.receipt for record in records if isinstance(record, ReceiptRecord)]
    return [(receipt.lane, receipt.position.epoch, receipt.position.sequence) for receipt in found]
