"""One line on standard error that tells how far long work is: counts, rate, time left. Nothing where nobody watches.

`line` is pure and gives the text; `Progress` writes it, a few times a second, where standard error is a terminal.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TextIO

_EVERY_S: Final = 0.2
_MEGABYTE: Final = 1_000_000
_SMOOTHING_S: Final = 3.0  # the rate is that of about the last seconds


def line(label: str, done: int, total: int | None, *, unit: str, size_bytes: int, rate: float, seconds: float) -> str:
    """The text: `rate` is units a second of late, `seconds` what has passed, `size_bytes` what was moved so far."""
    parts = [f"{label} {done:,}" + (f" of {total:,} {unit}" if total is not None else f" {unit}")]
    if total:
        parts[0] += f" ({100 * done // total} %)"
    if size_bytes and seconds > 0:
        parts.append(f"{size_bytes / seconds / _MEGABYTE:.1f} MB/s")
    if total is not None and rate > 0 and done < total:
        left = int((total - done) / rate)
        parts.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
    return ", ".join(parts)


class Progress:
    """Shows `update`s on a terminal; ends with a clean line. Use as a context manager."""

    def __init__(
        self,
        label: str,
        *,
        unit: str = "blocks",
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label, self._unit = label, unit
        self._out = sys.stderr if out is None else out
        self._shown = self._out.isatty()
        self._clock = clock
        self._start = self._last = clock()
        self._last_done, self._rate = 0, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._out.write("\r\033[K")
            self._out.flush()

    def update(self, done: int, total: int | None = None, size_bytes: int = 0) -> None:
        """So much is done; call it as often as you like."""
        now = self._clock()
        passed = now - self._last
        if not self._shown or passed < _EVERY_S:
            return
        fresh = max(done - self._last_done, 0) / passed
        weight = min(passed / _SMOOTHING_S, 1.0) if self._rate else 1.0
        self._rate += (fresh - self._rate) * weight
        self._last, self._last_done = now, done
        text = line(
            self._label, done, total, unit=self._unit, size_bytes=size_bytes, rate=self._rate, seconds=now - self._start
        )
        self._out.write(f"\r\033[K{text}")
        self._out.flush()
