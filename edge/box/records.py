"""Ledger records that belong to the box as a whole: settings that changed, experiments, business days that were closed.

settings   [5, 1, {category: mode}, wall ms, quality]     the modes in force from here on, all of them
experiment [8, 1, switchback, seed, block weeks, wash-out weeks, treatment share, step probability, step log,
            wall ms, quality]                             the experiments' rules from here on
day        [9, 1, day, cause, wall ms, quality]           `day` (ordinal) is over in the shop; cause 0 tills, 1 clock
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum
from typing import Final

from edge.clock import QUALITIES, WallTime
from edge.encoding import cbor
from edge.errors import RecordInvalid
from edge.limits import INTEGER_MAX, LABEL_CHARS_MAX
from edge.records.ledger import Kind

MODES: Final = ("off", "shadow", "live")
DEFAULT_CATEGORY: Final = ""  # the key of the mode of categories that are not named


class DayCause(IntEnum):
    """Who said that a business day is over."""

    TILLS = 0
    CLOCK = 1


@dataclass(frozen=True, slots=True)
class SettingsRecord:
    """Pricing modes by category; key "" is the mode of all others."""

    recorded: WallTime
    modes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for category, mode in self.modes.items():
            if mode not in MODES:
                raise RecordInvalid(f"mode of {category or 'other categories'}: {mode!r} is none of {', '.join(MODES)}")
            if len(category) > LABEL_CHARS_MAX:
                raise RecordInvalid(f"category {category[:20]!r}... has more than {LABEL_CHARS_MAX} characters")


@dataclass(frozen=True, slots=True)
class DayRecord:
    """Business day `day` is over in the shop."""

    day: date
    cause: DayCause
    recorded: WallTime


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """The experiments' rules, logged before the first week that they govern: anybody can repeat the assignment."""

    recorded: WallTime
    switchback: bool
    seed: bytes  # none, or 16 to 64 bytes
    block_weeks: int
    wash_out_weeks: int
    treatment_share: float
    step_probability: float
    step_log: float

    def __post_init__(self) -> None:
        if not (self.seed == b"" or 16 <= len(self.seed) <= 64):
            raise RecordInvalid(f"experiment seed of {len(self.seed)} bytes")
        if not 0 <= self.wash_out_weeks < self.block_weeks <= 52:
            raise RecordInvalid("experiment: a block is longer than its wash-out and at most a year")
        for name in ("treatment_share", "step_probability", "step_log"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise RecordInvalid(f"experiment: {name} is outside 0..1")


BoxRecord = SettingsRecord | ExperimentRecord | DayRecord


def encode(record: BoxRecord) -> bytes:
    """The block of a record of kind 5, 8 or 9."""
    wall = [record.recorded.ms, QUALITIES.index(record.recorded.quality)]
    if isinstance(record, ExperimentRecord):
        weeks = [record.block_weeks, record.wash_out_weeks]
        numbers = [float(record.treatment_share), float(record.step_probability), float(record.step_log)]
        return cbor.encode([Kind.EXPERIMENT.value, 1, record.switchback, record.seed, *weeks, *numbers, *wall])
    if isinstance(record, SettingsRecord):
        return cbor.encode([Kind.SETTINGS.value, 1, dict(record.modes), *wall])
    return cbor.encode([Kind.DAY.value, 1, record.day.toordinal(), record.cause.value, *wall])


def decode_settings(block: bytes) -> SettingsRecord:
    """The settings in a block of kind 5. Raises `RecordInvalid`."""
    match cbor.decode(block):
        case [Kind.SETTINGS.value, 1, dict(modes), int(ms), int(quality)]:
            if all(isinstance(cell, str) for pair in modes.items() for cell in pair):
                return SettingsRecord(_wall(ms, quality), modes)
    raise RecordInvalid("settings record is malformed", reason="malformed")


def decode_experiment(block: bytes) -> ExperimentRecord:
    """The rules in a block of kind 8. Raises `RecordInvalid`."""
    match cbor.decode(block):
        case [
            Kind.EXPERIMENT.value, 1, bool(switchback), bytes(seed), int(weeks), int(wash_out),
            float(share), float(probability), float(step), int(ms), int(quality),
        ]:  # fmt: skip
            wall = _wall(ms, quality)
            return ExperimentRecord(wall, switchback, seed, weeks, wash_out, share, probability, step)
    raise RecordInvalid("experiment record is malformed", reason="malformed")


def decode_day(block: bytes) -> DayRecord:
    """The closed day in a block of kind 9. Raises `RecordInvalid`."""
    match cbor.decode(block):
        case [Kind.DAY.value, 1, int(day), (0 | 1) as cause, int(ms), int(quality)]:
            if 1 <= day <= date.max.toordinal():
                return DayRecord(date.fromordinal(day), DayCause(cause), _wall(ms, quality))
    raise RecordInvalid("day record is malformed", reason="malformed")


def _wall(ms: int, quality: int) -> WallTime:
    if not 0 <= ms <= INTEGER_MAX or not 0 <= quality < len(QUALITIES):
        raise RecordInvalid("wall time of a record is out of range")
    return WallTime(ms, QUALITIES[quality])
