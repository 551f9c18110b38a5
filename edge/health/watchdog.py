"""The supervisor's view of the service: sd_notify(3) messages, and a watchdog that means something.

`WATCHDOG=1` is sent only if the event loop turned (the message is sent from it) and every watched worker either has
nothing to do or has done something lately. So a hung commit thread ends in a restart, although the loop is well; a
disk that stalls for some seconds does not.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from edge.clock import Clock

Notify = Callable[[str], object]

STALL_S: Final = 30.0  # an SD card may stall for ten seconds; three times that is not a stall any more
_PERIOD_IDLE_S: Final = 5.0  # how often to look where no supervisor asks
_STATUS_CHARS_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Worker:
    """Something that must not hang: `pending` says whether it has work, `done` counts what it finished."""

    name: str
    pending: Callable[[], bool]
    done: Callable[[], int]


class StallDetector:
    """Which workers have had work and finished nothing for `stall_s` seconds. Pure: `now` is monotonic seconds."""

    def __init__(self, workers: tuple[Worker, ...], *, stall_s: float = STALL_S) -> None:
        self._workers = workers
        self._stall_s = stall_s
        self._seen: dict[str, tuple[int, float]] = {}  # by name: what was done, and since when that has stood still

    def stalled(self, now: float) -> list[str]:
        """Names of the workers that hang; call it regularly, several times in `stall_s`."""
        found = []
        for worker in self._workers:
            done = worker.done()
            seen = self._seen.get(worker.name)
            if seen is None or seen[0] != done or not worker.pending():
                self._seen[worker.name] = (done, now)
            elif now - seen[1] >= self._stall_s:
                found.append(worker.name)
        return found


def watchdog_period_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which the supervisor wants to hear from `pid`; None: not at all (sd_watchdog_enabled(3))."""
    text = environment.get("WATCHDOG_USEC", "")
    if not text.isdecimal() or int(text) == 0:
        return None
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(text) / 1e6


class Watchdog:
    """Tells the supervisor `READY=1`, `STATUS=`, `WATCHDOG=1` and `STOPPING=1`.

    `notify` sends one message and never raises (`sdnotify.SystemdNotifier().notify`); `summary` is the status line.
    """

    def __init__(
        self,
        notify: Notify,
        *,
        clock: Clock,
        workers: tuple[Worker, ...] = (),
        period_s: float | None = None,
        summary: Callable[[], str] = lambda: "",
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._notify = notify
        self._clock = clock
        self._detector = StallDetector(workers)
        self._supervised = period_s is not None
        self._interval_s = period_s / 4 if period_s is not None else _PERIOD_IDLE_S
        self._summary = summary
        self._status = ""
        self._lag_s = 0.0
        if registry is not None:
            lag = Gauge("pomona_loop_lag_seconds", "How late the event loop woke, at the last look.", registry=registry)
            lag.set_function(lambda: self._lag_s)

    def ready(self) -> None:
        """The box serves its tills: tell the supervisor, once, at the end of the start."""
        self._notify("READY=1")
        self._tell(self._summary())

    def stopping(self) -> None:
        """The box begins to stop."""
        self._notify("STOPPING=1")

    def beat(self) -> list[str]:
        """Look once: `WATCHDOG=1` if nothing hangs, or else a status that says what does; the names of what hangs."""
        stalled = self._detector.stalled(self._clock.monotonic())
        if stalled:
            self._tell(f"hangs: {', '.join(stalled)}")
        else:
            if self._supervised:
                self._notify("WATCHDOG=1")
            self._tell(self._summary())
        return stalled

    async def run(self) -> None:
        """Beat four times in the supervisor's period, until cancelled."""
        while True:
            self.beat()
            before = self._clock.monotonic()
            await asyncio.sleep(self._interval_s)
            self._lag_s = max(0.0, self._clock.monotonic() - before - self._interval_s)

    def _tell(self, status: str) -> None:
        status = " ".join(status.split())[:_STATUS_CHARS_MAX].encode("ascii", "replace").decode()  # sdnotify: Latin-1
        if status and status != self._status:
            self._status = status
            self._notify(f"STATUS={status}")
