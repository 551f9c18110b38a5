"""Randomised experiments that tell what pricing really earns: a switchback over time, and small random ladder steps.

*Switchback*: time is cut into blocks of two weeks for each category. Before a block begins, a keyed hash of category
and block decides with probability one half whether the chain's prices (treatment) or the reference book (control) are
published. Nobody can choose the arm after seeing the weeks, and anybody with the seed can repeat the assignment. The
first week of a block is washed out: its sales still answer to the prices before. Effect and interval are those of
the randomisation (Bojinov, Simchi-Levi & Zhao 2023, "Design and Analysis of Switchback Experiments").

*Ladder step*: with a small logged probability an item's asked price is moved by one small step. It passes the guard
like any wish, costs next to nothing and keeps prices from standing still, without which no elasticity is identified.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError
from edge.records.decision import Arm

Float = NDArray[np.float64]
_TWO_64: Final = float(2**64)


@dataclass(frozen=True, slots=True)
class ExperimentRules:
    """Settings of both experiments; logged before the first block they govern."""

    switchback: bool = False  # an owner starts it; until then every live week is treatment and nothing is compared
    seed: str = ""  # hex, 16 bytes or more; drawn once by the system generator and kept in the settings
    block_weeks: int = 2
    wash_out_weeks: int = 1
    treatment_share: float = 0.5
    step_probability: float = 0.05  # of an item and week, in live weeks under treatment
    step_log: float = 0.02  # log; up or down with equal chance

    def __post_init__(self) -> None:
        if not 0 <= self.wash_out_weeks < self.block_weeks <= 52:
            raise ConfigError("experiment.block_weeks", "a block is longer than its wash-out and at most a year")
        if not 0.1 <= self.treatment_share <= 0.9:
            raise ConfigError("experiment.treatment_share", f"{self.treatment_share} is outside 0.1..0.9")
        if not 0.0 <= self.step_probability <= 0.5 or not 0.0 <= self.step_log <= 0.05:
            raise ConfigError("experiment.step_probability", "at most one item in two, and at most 0.05 log")
        if self.switchback and len(self.key) < 16:
            raise ConfigError("experiment.seed", "a switchback needs a seed of at least 16 bytes, in hex")

    @property
    def key(self) -> bytes:
        """The seed as bytes."""
        try:
            return bytes.fromhex(self.seed)
        except ValueError as error:
            raise ConfigError("experiment.seed", "not hexadecimal") from error


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where a category stands in a week."""

    arm: Arm
    propensity: float  # probability with which this arm was drawn
    block: int
    wash_out: bool


def assign(rules: ExperimentRules, category: str, week: int) -> Assignment:
    """The arm of `category` in `week`; the same for ever, and independent between categories and blocks."""
    if not rules.switchback:
        return Assignment(Arm.NONE, 1.0, 0, False)
    block, position = divmod(week, rules.block_weeks)
    message = f"pomona switchback {block} {category}".encode()
    drawn = int.from_bytes(hashlib.blake2b(message, key=rules.key[:64], digest_size=8).digest(), "big") / _TWO_64
    treated = drawn < rules.treatment_share
    share = rules.treatment_share
    return Assignment(
        Arm.TREATMENT if treated else Arm.CONTROL,
        share if treated else 1.0 - share,
        block,
        position < rules.wash_out_weeks,
    )


def ladder_steps(rules: ExperimentRules, count: int, rng: np.random.Generator) -> tuple[Float, Float]:
    """(log steps, their probabilities), each (count,): most are 0."""
    drawn = rng.random(count)
    half = 0.5 * rules.step_probability
    steps = np.where(drawn < half, -rules.step_log, np.where(drawn < 2 * half, rules.step_log, 0.0))
    return steps, np.where(drawn < 2 * half, half, 1.0 - 2 * half)


@dataclass(frozen=True, slots=True)
class Effect:
    """Treatment less control, a category-week, with a 95 % interval; NaN where there is too little to say."""

    mean: float
    low: float
    high: float
    blocks_treated: int
    blocks_control: int


def live_effect(
    outcome: Float,
    treated: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    block: NDArray[np.int64],
    *,
    baseline: Float | None = None,
) -> Effect:
    """Effect on `outcome` (weeks,) of one or many category-weeks; `block` identifies the randomised unit of each.

    Weeks of a block are averaged first: the block was randomised, not the week. `baseline` (weeks,), fixed before the
    block (e.g. the category's mean outcome a year ago), is subtracted for precision; it cannot bias the difference.
    Welch's t interval over blocks.
    """
    values = outcome if baseline is None else outcome - baseline
    use = counted & np.isfinite(values)
    means: tuple[list[float], list[float]] = ([], [])
    for unit in np.unique(block[use]):
        cells = use & (block == unit)
        means[int(treated[cells][0])].append(float(np.mean(values[cells])))
    control, treatment = np.array(means[0]), np.array(means[1])
    if len(control) < 2 or len(treatment) < 2:
        return Effect(math.nan, math.nan, math.nan, len(treatment), len(control))
    a, b = np.var(treatment, ddof=1) / len(treatment), np.var(control, ddof=1) / len(control)
    mean = float(np.mean(treatment) - np.mean(control))
    freedom = (a + b) ** 2 / max(a**2 / (len(treatment) - 1) + b**2 / (len(control) - 1), 1e-300)
    reach = student_t_975(float(freedom)) * math.sqrt(a + b)
    return Effect(mean, mean - reach, mean + reach, len(treatment), len(control))


def student_t_975(freedom: float) -> float:
    """The 97.5 % quantile of Student's t. Cornish-Fisher expansion (Abramowitz & Stegun 26.7.5), exact for 1 and 2."""
    if freedom <= 1.0:
        return 12.7062047
    if freedom < 3.0:  # between the closed forms at 1 and 2 and the expansion: linear in 1 / freedom
        low, high = (1.0, 2.0) if freedom < 2.0 else (2.0, 3.0)
        value = {1.0: 12.7062047, 2.0: 4.3026527, 3.0: 3.1824463}
        part = (1 / freedom - 1 / high) / (1 / low - 1 / high)
        return value[high] + part * (value[low] - value[high])
    z, v = 1.959963985, freedom
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / v + g2 / v**2 + g3 / v**3 + g4 / v**4
