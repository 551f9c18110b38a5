"""Processor time that those who have proved nothing yet may use together: a token bucket. Pure; time is an argument.

What is spent may exceed what is there, because it is known only afterwards; then nobody is served until the debt is
paid. So the share holds on average, whatever a single message costs. The share is small while peers are served, so
that strangers cannot slow them down, and large while nobody is.
"""

from typing import Final

from edge.limits import SERVING_S, STRANGERS_CPU_BURST_S, STRANGERS_CPU_SHARE, STRANGERS_CPU_SHARE_QUIET

_LARGE_S: Final = 0.001  # of processor time at once: blocks are being served, it is not just talk


class Budget:
    """So much of every second, and up to `burst_s` saved."""

    __slots__ = ("_at", "_burst_s", "_left_s", "_quiet_share", "_served_at", "_share")

    def __init__(
        self,
        *,
        share: float = STRANGERS_CPU_SHARE,
        quiet_share: float = STRANGERS_CPU_SHARE_QUIET,
        burst_s: float = STRANGERS_CPU_BURST_S,
    ) -> None:
        self._share = share
        self._quiet_share = quiet_share
        self._burst_s = self._left_s = burst_s
        self._at: float | None = None
        self._served_at: float | None = None

    def served(self, seconds: float, *, now: float) -> None:
        """So much went to a peer that has proved itself."""
        if seconds >= _LARGE_S:
            self._fill(now)
            self._served_at = now

    def spend(self, seconds: float, *, now: float) -> None:
        """So much went to a stranger, whether it was there or not."""
        self._fill(now)
        self._left_s -= seconds

    def wait_s(self, *, now: float) -> float:
        """How long until anything may be spent; 0.0 if it may be now."""
        self._fill(now)
        return max(-self._left_s, 0.0) / self._rate(now)

    def _rate(self, now: float) -> float:
        serving = self._served_at is not None and now < self._served_at + SERVING_S
        return self._share if serving else self._quiet_share

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._left_s = min(self._left_s + max(now - self._at, 0.0) * self._rate(now), self._burst_s)
        self._at = now
