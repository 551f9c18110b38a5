import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge.clock import ClockQuality, WallTime
from edge.errors import LocalError
from edge.health.checks import OK, Check, HealthChecks, HealthCollector, HealthState, disk_space
from edge.health.metrics import check_conventions, status_tree
from edge.limits import HEALTH_CHECKS_MAX


class HandClock:
    def __init__(self) -> None:
        self.now_ms = 1_000

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def wall(self) -> WallTime:
        return WallTime(self.now_ms, ClockQuality.FREE)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def test_the_box_is_as_well_as_its_worst_check(clock: HandClock) -> None:
    checks = HealthChecks(clock)
    assert str(checks.state) == "ok"
    checks.report("broker", HealthState.OK)
    checks.report("disk", HealthState.DEGRADED, "90% in use")
    assert str(checks.state) == "degraded"
    checks.report("log", HealthState.FAILED, "read-only")
    assert str(checks.state) == "failed"
    assert [check.name for check in checks.checks] == ["log", "disk", "broker"]
    assert checks.summary() == "failed: log: read-only; disk: 90% in use"
    checks.report("log", HealthState.OK)
    checks.report("disk", HealthState.OK)
    assert checks.summary() == "ok"


def test_since_is_when_the_state_was_entered_and_listeners_hear_each_change_once(clock: HandClock) -> None:
    heard: list[Check] = []
    checks = HealthChecks(clock)
    checks.listen(heard.append)
    assert checks.report("broker", HealthState.OK)
    assert heard == []  # well from the start is no news
    clock.now_ms = 2_000
    checks.report("broker", HealthState.DEGRADED, "no connection")
    clock.now_ms = 3_000
    assert not checks.report("broker", HealthState.DEGRADED, "refused")
    (check,) = checks.checks
    assert (check.reason, check.since.ms) == ("refused", 2_000)
    clock.now_ms = 4_000
    checks.report("broker", HealthState.OK)
    assert [(c.state, c.since.ms) for c in heard] == [(HealthState.DEGRADED, 2_000), (HealthState.OK, 4_000)]
    assert checks.tree() == {
        "state": "ok",
        "checks": {"broker": {"state": "ok", "reason": "", "since_ms": 4_000, "clock": "free"}},
    }


def test_probes_are_asked_at_each_poll(clock: HandClock) -> None:
    findings = [OK, (HealthState.FAILED, "gone")]
    checks = HealthChecks(clock)
    checks.add_probe("disk", lambda: findings.pop(0))
    assert checks.poll() is HealthState.OK
    assert checks.poll() is HealthState.FAILED
    with pytest.raises(LocalError):
        checks.add_probe("disk", lambda: OK)


def test_trouble_needs_a_reason_and_checks_are_bounded(clock: HandClock) -> None:
    checks = HealthChecks(clock)
    with pytest.raises(LocalError, match="without a reason"):
        checks.report("disk", HealthState.FAILED)
    for number in range(HEALTH_CHECKS_MAX):
        checks.report(f"c{number}", HealthState.OK)
    with pytest.raises(LocalError, match="health checks"):
        checks.report("one more", HealthState.OK)


def test_states_are_a_metric(clock: HandClock) -> None:
    checks, registry = HealthChecks(clock), CollectorRegistry()
    HealthCollector(checks, registry)
    checks.report("broker", HealthState.DEGRADED, "no connection")
    checks.report("disk", HealthState.OK)
    assert status_tree(registry)["pomona_health_state"] == {"check=broker": 1, "check=disk": 0}
    check_conventions(registry)


def test_disk_space_is_what_the_file_system_says(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free = found.f_bavail * found.f_frsize
    assert disk_space(tmp_path, degraded_ratio=1.1, failed_bytes=0)() == OK
    state, reason = disk_space(tmp_path, degraded_ratio=0.0, failed_bytes=0)()
    assert state is HealthState.DEGRADED
    assert str(tmp_path) in reason
    state, reason = disk_space(tmp_path, failed_bytes=free * 2 + 1)()
    assert state is HealthState.FAILED
    assert "MiB left" in reason
    assert disk_space(tmp_path / "absent")()[0] is HealthState.FAILED
