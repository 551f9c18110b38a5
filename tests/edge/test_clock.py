import time

import pytest

from edge.clock import BUILD_WALL_MS, ClockQuality, SystemClock, WallTime, kernel_synchronised


def at(monkeypatch: pytest.MonkeyPatch, wall_ms: int) -> None:
    monkeypatch.setattr("edge.clock.time.time_ns", lambda: wall_ms * 1_000_000)


def test_a_clock_that_a_time_service_keeps_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, BUILD_WALL_MS + 5)
    assert SystemClock(synchronised=lambda: True).wall() == WallTime(BUILD_WALL_MS + 5, ClockQuality.SYNCED)
    assert SystemClock(synchronised=lambda: False).wall() == WallTime(BUILD_WALL_MS + 5, ClockQuality.FREE)


def test_no_service_makes_a_clock_below_the_floor_true(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 0)
    system = SystemClock(synchronised=lambda: True)
    assert system.wall() == WallTime(BUILD_WALL_MS, ClockQuality.FLOOR)
    system.raise_floor(BUILD_WALL_MS + 9)
    assert system.wall() == WallTime(BUILD_WALL_MS + 9, ClockQuality.FLOOR)
    system.raise_floor(1)
    assert system.wall().ms == BUILD_WALL_MS + 9


def test_asking_the_kernel_answers_and_changes_nothing() -> None:
    before = time.time()
    assert kernel_synchronised() in (True, False)
    assert abs(time.time() - before) < 60


class Library:
    def __init__(self, answer: int) -> None:
        self.answer = answer

    def adjtimex(self, _buffer: object) -> int:
        return self.answer


@pytest.mark.parametrize(("answer", "synchronised"), [(0, True), (1, True), (4, True), (5, False), (-1, False)])
def test_the_kernels_answers(monkeypatch: pytest.MonkeyPatch, answer: int, synchronised: bool) -> None:
    monkeypatch.setattr("edge.clock.ctypes.CDLL", lambda _name: Library(answer))
    assert kernel_synchronised() is synchronised


def test_a_system_that_cannot_be_asked_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.clock.ctypes.CDLL", lambda _name: object())
    assert kernel_synchronised() is False
