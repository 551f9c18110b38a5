"""Time as the box may believe it. A Raspberry Pi has no battery clock: it may wake in 1970, or a week off.

Order in the log comes from (boot epoch, sequence), never from here. Wall time is carried beside its quality, and is
never allowed to run below a persisted floor (the newest wall time this box has ever recorded, or the build time).
"""

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

_ASK_S = 10.0  # between two questions whether a time service is at work
_TIMEX_BYTES = 512  # struct timex has 208
_TIME_ERROR = 5  # linux/timex.h: the clock is not synchronised
BUILD_WALL_MS = 1_790_000_000_000  # 2026-09-21; no honest record of this software is older


class ClockQuality(StrEnum):
    """How far a wall time may be believed."""

    SYNCED = "synced"  # the system says that it is disciplined by a time source
    FREE = "free"  # plausible, at or above the floor, not known to be disciplined
    FLOOR = "floor"  # the system clock was below the floor; the floor is given instead


QUALITIES = tuple(ClockQuality)  # their places here are their numbers in every format: only ever appended to


@dataclass(frozen=True, slots=True)
class WallTime:
    """Milliseconds since the Unix epoch, and how far to believe them."""

    ms: int
    quality: ClockQuality


class Clock(Protocol):
    """What components take instead of calling `time` themselves."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never steps back."""
        ...

    def wall(self) -> WallTime:
        """Wall time with its quality, never below the floor."""
        ...


class SystemClock:
    """The real clock. `floor_ms` comes from the log at start-up and is raised by `raise_floor`."""

    def __init__(self, floor_ms: int = BUILD_WALL_MS, synchronised: Callable[[], bool] | None = None) -> None:
        self._floor_ms = max(floor_ms, BUILD_WALL_MS)
        self._ask = synchronised or kernel_synchronised
        self._asked_at: float | None = None
        self._synchronised = False

    def monotonic(self) -> float:
        """Seconds of the system's monotonic clock."""
        return time.monotonic()

    def wall(self) -> WallTime:
        """System wall time, or the floor where the system clock lies below it."""
        now_ms = time.time_ns() // 1_000_000
        if now_ms < self._floor_ms:
            return WallTime(self._floor_ms, ClockQuality.FLOOR)
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at >= _ASK_S:  # wall time is asked for every receipt
            self._asked_at, self._synchronised = now, self._ask()
        return WallTime(now_ms, ClockQuality.SYNCED if self._synchronised else ClockQuality.FREE)

    def raise_floor(self, wall_ms: int) -> None:
        """Remember that `wall_ms` has been recorded, so time never seems earlier than that."""
        self._floor_ms = max(self._floor_ms, wall_ms)


def kernel_synchronised() -> bool:
    """Whether the kernel says that a time service (timesyncd, chrony, ntpd) keeps its clock; adjtimex(2).

    The call answers TIME_ERROR as long as none does. Asking changes nothing and takes no privilege; a system without
    the call, or one that forbids it, says no.
    """
    try:
        answer: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))  # zeros: only ask
    except (AttributeError, OSError):
        return False
    return 0 <= answer < _TIME_ERROR
