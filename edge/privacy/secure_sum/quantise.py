"""Between a shop's numbers and what is summed: clipped, cut to steps, and back.

A shop's vector is clipped per coordinate to ±`clip` and as a whole to the L2 norm `clip_norm`, divided by the number of
its owner's shops, and cut to whole steps *towards zero*, before any noise. Cutting towards zero makes no coordinate
larger, so the norm of what is summed needs no allowance for rounding: one owner moves the sum by at most `clip_norm`
from zero, 2 `clip_norm` from one contribution to another (`sensitivity`), exactly and whatever floats did. Its price is
a bias of less than one step, 1/32,768 of the clip.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from edge.errors import LocalError

STEPS_DEFAULT: Final = 2**15  # of the norm's bound; the noise is thousands of steps wide


@dataclass(frozen=True, slots=True)
class Quantiser:
    """Vectors of floats to integers of at most `steps` in L2 norm, and sums of them back to means."""

    dimension: int
    clip: float  # largest absolute value of a coordinate
    clip_norm: float  # largest L2 norm of an owner's vector
    steps: int = STEPS_DEFAULT  # that `clip_norm` is cut into: the round's `clip`

    def __post_init__(self) -> None:
        finite = math.isfinite(self.clip) and math.isfinite(self.clip_norm)
        if self.dimension < 1 or not finite or self.clip <= 0 or self.clip_norm <= 0 or self.steps < 1:
            raise LocalError("a quantiser needs a dimension, positive clips and steps")

    @property
    def sensitivity(self) -> int:
        """L2 distance, in steps, between any two contributions of one owner: the unit is the owner-week, replaced."""
        return 2 * self.steps

    def to_steps(self, values: Sequence[float], shops: int) -> tuple[int, ...]:
        """What one shop contributes, of an owner with so many `shops` in the group. Raises `LocalError` for NaN."""
        if len(values) != self.dimension or shops < 1 or any(math.isnan(value) for value in values):
            raise LocalError(f"{len(values)} values, {shops} shops: cannot be quantised")
        clipped = [min(max(value, -self.clip), self.clip) for value in values]
        norm = math.hypot(*clipped)
        share = min(1.0, self.clip_norm / norm if norm else 1.0) * self.steps / self.clip_norm / shops
        steps = [math.trunc(value * share) for value in clipped]
        while not self.fits(steps, shops):  # floats put it a hair outside
            steps = [value - (value > 0) + (value < 0) for value in steps]
        return tuple(steps)

    def fits(self, steps: Sequence[int], shops: int) -> bool:
        """Whether a shop's contribution is within its part of its owner's bound; in exact arithmetic."""
        return sum(value * value for value in steps) * shops * shops <= self.steps * self.steps

    def mean(self, total: Sequence[int], weight: Fraction) -> list[float]:
        """The mean over owners of a sum; coordinates clipped to ±`clip` again, where every true mean lies."""
        step = self.clip_norm / self.steps
        return [min(max(value * step / float(weight), -self.clip), self.clip) for value in total]
