import asyncio
import socket
from pathlib import Path

import pytest
import sdnotify
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from edge.clock import SystemClock
from edge.health.metrics import status_tree
from edge.health.watchdog import STALL_S, StallDetector, Watchdog, Worker, watchdog_period_s


class HandClock(SystemClock):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Commits:
    def __init__(self) -> None:
        self.waiting = False
        self.count = 0

    def worker(self) -> Worker:
        return Worker("commit", pending=lambda: self.waiting, done=lambda: self.count)


@given(st.lists(st.tuples(st.floats(0.1, 20), st.booleans(), st.booleans()), max_size=40))
def test_a_worker_hangs_if_it_had_work_and_finished_none_of_it_for_the_whole_time(
    steps: list[tuple[float, bool, bool]],
) -> None:
    commits = Commits()
    detector = StallDetector((commits.worker(),))
    now = quiet_since = 0.0
    detector.stalled(now)
    for seconds, waiting, finishes in steps:
        now += seconds
        commits.waiting = waiting
        commits.count += finishes
        if finishes or not waiting:
            quiet_since = now
        assert detector.stalled(now) == (["commit"] if now - quiet_since >= STALL_S else [])


def test_the_supervisor_hears_nothing_while_the_commit_thread_hangs() -> None:
    heard: list[str] = []
    clock, commits = HandClock(), Commits()
    watchdog = Watchdog(heard.append, clock=clock, workers=(commits.worker(),), period_s=20.0, summary=lambda: "ok")
    watchdog.ready()
    assert heard == ["READY=1", "STATUS=ok"]
    assert watchdog.beat() == []
    commits.waiting = True
    watchdog.beat()
    clock.now = STALL_S - 1
    watchdog.beat()
    assert heard[2:] == ["WATCHDOG=1"] * 3
    clock.now = STALL_S
    assert watchdog.beat() == ["commit"]
    assert heard[5:] == ["STATUS=hangs: commit"]
    commits.count += 1
    watchdog.beat()
    assert heard[6:] == ["WATCHDOG=1", "STATUS=ok"]
    watchdog.stopping()
    assert heard[-1] == "STOPPING=1"


def test_without_a_supervisor_nobody_is_told_that_we_live() -> None:
    heard: list[str] = []
    Watchdog(heard.append, clock=HandClock()).beat()
    assert heard == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "77"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_what_systemd_asks_for(environment: dict[str, str], expected: float | None) -> None:
    assert watchdog_period_s(environment, 77) == expected


async def test_messages_reach_a_real_notification_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(path))
        supervisor.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        notifier = sdnotify.SystemdNotifier()
        registry = CollectorRegistry()
        watchdog = Watchdog(
            notifier.notify,
            clock=SystemClock(),
            period_s=0.04,
            summary=lambda: "degraded: Käse\nfehlt ✗",
            registry=registry,
        )
        watchdog.ready()
        task = asyncio.create_task(watchdog.run())
        loop = asyncio.get_running_loop()
        heard = [(await loop.sock_recv(supervisor, 500)).decode() for _ in range(5)]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        watchdog.stopping()
        notifier.socket.close()
        rest = b""
        while rest != b"STOPPING=1":
            rest = await loop.sock_recv(supervisor, 500)
    assert heard == ["READY=1", "STATUS=degraded: K?se fehlt ?"] + ["WATCHDOG=1"] * 3
    lag = status_tree(registry)["pomona_loop_lag_seconds"]
    assert isinstance(lag, int | float)
    assert lag >= 0
