"""Named health checks: what works, what works worse, what does not, why, and since when.

A part either tells (`report`) or is asked (`add_probe`, asked by `poll`). The box's state is the worst of its checks.
`degraded` means that selling and the last prices go on, and that something a person should know about does not:
broker gone, disk nearly full, clock not trusted, policy replaced by the weekly optimiser. `failed` means that the box
cannot do its work: it cannot write its log. Listeners hear every change of a state once, in order.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.clock import Clock, WallTime
from edge.errors import LocalError
from edge.limits import HEALTH_CHECKS_MAX


class HealthState(StrEnum):
    """From best to worst."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"

    @property
    def severity(self) -> int:
        """0 ok, 1 degraded, 2 failed; the value of `pomona_health_state`."""
        return _SEVERITY[self]


_SEVERITY: Final = {HealthState.OK: 0, HealthState.DEGRADED: 1, HealthState.FAILED: 2}
Finding = tuple[HealthState, str]  # state, and the reason in words for a person ("" if ok)
Probe = Callable[[], Finding]
OK: Final[Finding] = (HealthState.OK, "")


@dataclass(frozen=True, slots=True)
class Check:
    """One check as it stands."""

    name: str
    state: HealthState
    reason: str
    since: WallTime  # when `state` (not the reason) was entered


Listener = Callable[[Check], None]


class HealthChecks:
    """All checks of one box. Time comes from `clock`; not thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._checks: dict[str, Check] = {}
        self._probes: dict[str, Probe] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each check whose state changes, and with each new one that is not ok."""
        self._listeners.append(listener)

    def add_probe(self, name: str, probe: Probe) -> None:
        """Ask `probe` at every `poll`. It must not block, and says what is wrong instead of raising."""
        if name in self._probes:
            raise LocalError(f"health check {name} is there already")
        self._probes[name] = probe

    def poll(self) -> HealthState:
        """Ask all probes; the box's state after that."""
        for name, probe in self._probes.items():
            self.report(name, *probe())
        return self.state

    def report(self, name: str, state: HealthState, reason: str = "") -> bool:
        """Note how the check `name` stands; whether its state changed. Anything but ok needs a reason."""
        if state is not HealthState.OK and not reason:
            raise LocalError(f"health check {name} is {state} without a reason")
        old = self._checks.get(name)
        if old is None and len(self._checks) >= HEALTH_CHECKS_MAX:
            raise LocalError(f"more than {HEALTH_CHECKS_MAX} health checks")
        changed = old is None or old.state is not state
        since = self._clock.wall() if old is None or changed else old.since
        check = self._checks[name] = Check(name, state, reason, since)
        if changed and (old is not None or state is not HealthState.OK):
            for listener in self._listeners:
                listener(check)
        return changed

    @property
    def state(self) -> HealthState:
        """The worst of all checks; ok when there is none."""
        return max((check.state for check in self._checks.values()), key=_SEVERITY.__getitem__, default=HealthState.OK)

    @property
    def checks(self) -> list[Check]:
        """Every check, worst first, then by name."""
        return sorted(self._checks.values(), key=lambda check: (-check.state.severity, check.name))

    def tree(self) -> dict[str, object]:
        """For `pomona status --json`: state, and per check state, reason, and since when (ms, with its quality)."""
        return {
            "state": self.state.value,
            "checks": {
                check.name: {
                    "state": check.state.value,
                    "reason": check.reason,
                    "since_ms": check.since.ms,
                    "clock": check.since.quality.value,
                }
                for check in self.checks
            },
        }

    def summary(self) -> str:
        """One line for systemd's STATUS= and a terminal."""
        wrong = [check for check in self.checks if check.state is not HealthState.OK]
        if not wrong:
            return HealthState.OK.value
        return f"{self.state.value}: " + "; ".join(f"{check.name}: {check.reason}" for check in wrong)


class HealthCollector(Collector):
    """`pomona_health_state{check}`: 0 ok, 1 degraded, 2 failed."""

    def __init__(self, checks: HealthChecks, registry: CollectorRegistry) -> None:
        self._checks = checks
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The values of this moment."""
        family = GaugeMetricFamily("pomona_health_state", "0 ok, 1 degraded, 2 failed.", labels=["check"])
        for check in sorted(self._checks.checks, key=lambda check: check.name):
            family.add_metric([check.name], check.state.severity)
        yield family


def disk_space(path: Path, *, degraded_ratio: float = 0.85, failed_bytes: int = 16 * 1024 * 1024) -> Probe:
    """A probe of the file system under `path`: degraded from 85 % in use, failed with less than 16 MiB to write to.

    16 MiB are four segments of the log: enough to notice and to free space before a till's receipt finds none.
    """

    def probe() -> Finding:
        try:
            found = os.statvfs(path)
        except OSError as error:
            return HealthState.FAILED, f"{path}: {error.strerror}"
        free = found.f_bavail * found.f_frsize
        usable = (
            found.f_blocks - found.f_bfree + found.f_bavail
        ) * found.f_frsize  # without root's reserve, as df does
        used_ratio = 1 - free / usable if usable else 1.0
        if free < failed_bytes:
            return HealthState.FAILED, f"{free // 2**20} MiB left on {path}"
        if used_ratio >= degraded_ratio:
            return HealthState.DEGRADED, f"{used_ratio:.0%} of {path} in use, {free // 2**20} MiB left"
        return OK

    return probe
