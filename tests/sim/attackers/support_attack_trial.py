"""One trial: three processes, phases without and with attackers in turn, what the server used in each."""

import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
SETTLE_S = 0.5  # after attackers begin or end, before it is counted
SAMPLE_S = 0.25
_TICKS = os.sysconf("SC_CLK_TCK")
_MB = 1024 * 1024


@dataclass(slots=True)
class Phase:
    """What happened in all phases of one kind together."""

    seconds: float = 0.0
    blocks: int = 0
    cpu_s: float = 0.0
    clones: int = 0

    @property
    def us_per_block(self) -> float:
        """The server's CPU for one block of the honest client."""
        return self.cpu_s / self.blocks * 1e6 if self.blocks else float("inf")


@dataclass(slots=True)
class Result:
    """Of one scenario."""

    scenario: str
    calm: Phase = field(default_factory=Phase)
    attacked: Phase = field(default_factory=Phase)
    start_mb: float = 0.0
    growth_mb: float = 0.0
    refused: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    attackers_per_s: float = 0.0
    counters: dict[str, float] = field(default_factory=dict)
    attacks: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """CPU per honest block with attackers, over that without; infinite where the client got none."""
        if not self.attacked.blocks or not self.calm.blocks:
            return float("inf")
        return self.attacked.us_per_block / self.calm.us_per_block

    @property
    def clones_attacked(self) -> int:
        """Clones that were completed under attack."""
        return self.attacked.clones

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {**asdict(self), "ratio": self.ratio if math.isfinite(self.ratio) else None}


class Process:
    """A child that answers lines with JSON."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._child = subprocess.Popen(
            [sys.executable, str(HERE / f"{module}.py"), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[2])])},
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._stdin: IO[str] = self._child.stdin
        self._stdout: IO[str] = self._child.stdout
        self.pid = self._child.pid

    def read(self) -> dict[str, Any]:
        """The next line it prints."""
        line = self._stdout.readline()
        if not line:
            raise RuntimeError(f"{self._child.args!r} has ended with {self._child.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, line: str = "") -> dict[str, Any]:
        """Its answer."""
        self._stdin.write(line + "\n")
        self._stdin.flush()
        return self.read()

    def cpu_s(self) -> float:
        """User and system time that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mb(self) -> float:
        """Resident bytes now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / _MB

    def end(self) -> None:
        """Its input ends, and so does it."""
        self._stdin.close()
        try:
            self._child.wait(15)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._stdout.close()


class Memory:
    """The highest resident size of a process, looked at all the time by a thread."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._stop = threading.Event()
        self.highest_mb = self._process.memory_mb()
        self._thread = threading.Thread(target=self._watch, name="memory of the server")
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.highest_mb = max(self.highest_mb, self._process.memory_mb())

    def end(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()


def trial(
    folder: Path,
    scenario: str,
    *,
    seconds: float,
    phase_s: float,
    blocks: int = 20_000,
    block_bytes: int = 150,
    scale: float = 1.0,
    only: str = "",
) -> Result:
    """Run for about `seconds`; the first phase without attackers also shows the memory to start from."""
    result = Result(scenario)
    processes: list[Process] = []
    memory: Memory | None = None
    try:
        server = Process("support_attacked_server", "serve", folder / "served", blocks, block_bytes)
        processes.append(server)
        told = server.read()
        client = Process("support_attacked_server", "clone", folder / "clones", told["port"], told["key"], blocks)
        processes.append(client)
        attackers = Process(
            "support_attacks", told["port"], told["key"], blocks, scenario, scale, *filter(None, [only])
        )
        processes.append(attackers)
        while client.ask()["clones"] < 2:  # caches are warm, memory is what it will be
            time.sleep(0.1)
        memory = Memory(server)
        result.start_mb = server.memory_mb()
        end, attack_s = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            _phase(result.calm, server, client, phase_s)
            attackers.ask("go")
            time.sleep(SETTLE_S)
            attack_s += SETTLE_S + _phase(result.attacked, server, client, phase_s)
            attackers.ask("stop")
            time.sleep(SETTLE_S)
        client_counts, result.attacks = client.ask(), attackers.ask()
        result.refused, result.refusals = client_counts["refused"], client_counts["reasons"]
        result.attackers_per_s = sum(v for name, v in result.attacks.items() if " " not in name) / attack_s
        result.counters = server.ask()
        result.growth_mb = memory.highest_mb - result.start_mb
    finally:
        if memory is not None:
            memory.end()
        for process in reversed(processes):
            process.end()
    return result


def _phase(phase: Phase, server: Process, client: Process, seconds: float) -> float:
    before, cpu, since = client.ask(), server.cpu_s(), time.monotonic()
    time.sleep(seconds)
    after, used, taken = client.ask(), server.cpu_s() - cpu, time.monotonic() - since
    phase.seconds += taken
    phase.blocks += after["blocks"] - before["blocks"]
    phase.clones += after["clones"] - before["clones"]
    phase.cpu_s += used
    return taken
