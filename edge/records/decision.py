"""A batch of price decisions with the whole reason of each: block kind 7 of the ledger, columnar.

Version 2 adds what other shops had to do with it, and is written only where they had: without peers a batch is the
same bytes as ever, and both versions are read.

One batch is one category on one business day. Everything that a person or a model needs later to judge a decision
stands in it: what the policy saw, asked and is, what the optimiser would have asked, which of the guard's rules bound,
what was expected of it with its uncertainty, and with what probability chance had a hand in it.

Columns are little-endian numpy arrays in byte strings (FORMATS.md, "Decisions"): a batch of 1,000 items is written
without looking at a single item, and `PriceDecision` is a view of one row. `decode(encode(batch)) == batch`; anything
out of its range raises `RecordInvalid`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge.clock import QUALITIES, WallTime
from edge.encoding import cbor
from edge.errors import LocalError, RecordInvalid
from edge.limits import CATEGORY_ITEMS_MAX, INTEGER_MAX, LABEL_CHARS_MAX, PRICE_MINOR_MAX
from edge.records.item import check_sku

KIND: Final = 7
VERSION: Final = 1
VERSION_PEERS: Final = 2  # with `PeersHeard` at the end
FEATURES_MAX: Final = 256
FAILURES_MAX: Final = 4
FAILURE_CHARS_MAX: Final = 200
WEEK_MAX: Final = 1_000_000
_SHOPS_MAX: Final = 1_000_000
_COEFFICIENTS_MAX: Final = 5 * CATEGORY_ITEMS_MAX + 5


class Mode(StrEnum):
    """What a category's decisions may do."""

    OFF = "off"  # nothing is computed; prices follow the owner's references
    SHADOW = "shadow"  # decided and recorded, not published: its effect is a forecast
    LIVE = "live"


class Source(StrEnum):
    """Who asked for the prices that went into the guard."""

    SAC = "sac"
    OPTIMISER = "optimiser"
    HOLD = "hold"
    CONTROL = "control"  # the reference book, in the control weeks of an experiment


class Arm(StrEnum):
    """Where an experiment put the category in this week."""

    NONE = "none"
    TREATMENT = "treatment"
    CONTROL = "control"


_MODES: Final = tuple(Mode)
_SOURCES: Final = tuple(Source)
_ARMS: Final = tuple(Arm)
_INTEGERS: Final = ("published", "chosen", "previous", "reference", "rules")
_FLOATS: Final = (
    "asked", "suggestion", "cost", "units_hold", "units_change", "units_change_sd", "profit_change",
    "profit_change_sd", "random_step", "propensity",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PeersHeard:
    """What of other shops' knowledge went into the demand estimate of a decision."""

    shops: int  # behind the coefficient that the most shops stand behind
    week: int  # that the oldest coefficient used speaks of
    coefficients: int  # how many of items and category started from peers


@dataclass(frozen=True, slots=True)
class PriceDecision:
    """One row of a batch. Prices in minor units, logs natural, expected effects a week against holding the price."""

    sku: str
    category: str
    business_day: date  # the first day on which it counts
    mode: Mode
    source: Source
    arm: Arm
    model: str
    model_sha256: bytes
    failures: tuple[str, ...]
    currency: str
    published_minor: int  # what the shelf shows from `business_day`
    chosen_minor: int  # what the chain chose; equal to `published_minor` in live mode
    previous_minor: int  # 0: not published before
    reference_minor: int
    rules: int  # mask of edge.agent.rules.Rule
    asked: float  # log multiplier; NaN where the policy answered none
    suggestion: float  # the weekly optimiser's log multiplier
    cost: float  # currency units
    units_hold: float
    units_change: float
    units_change_sd: float
    profit_change: float  # currency units
    profit_change_sd: float
    random_step: float  # log; a logged experiment's step within `asked`
    propensity: float  # probability of that step
    observation: NDArray[np.float32]  # (F,)
    peers: PeersHeard | None = None  # None: the estimate is of this shop's own sales and the shipped prior

    @property
    def changed(self) -> bool:
        """Whether the shelf label changes."""
        return self.published_minor != self.previous_minor


@dataclass(frozen=True, slots=True, eq=False)
class DecisionBatch:
    """Decisions of one category for one business day; columns are (n,), prices int32 minor units, the rest float32."""

    category: str
    business_day: date
    week: int
    mode: Mode
    source: Source
    arm: Arm
    arm_propensity: float
    wash_out: bool  # the first week of an experiment's block: not counted
    model: str  # name of the policy; "" where none was asked
    model_sha256: bytes  # 32 bytes, or none
    observation_version: int
    failures: tuple[str, ...]  # why a better source was not used
    currency: str
    recorded: WallTime
    skus: tuple[str, ...]
    published: NDArray[np.int32]
    chosen: NDArray[np.int32]
    previous: NDArray[np.int32]
    reference: NDArray[np.int32]
    rules: NDArray[np.int32]
    asked: NDArray[np.float32]
    suggestion: NDArray[np.float32]
    cost: NDArray[np.float32]
    units_hold: NDArray[np.float32]
    units_change: NDArray[np.float32]
    units_change_sd: NDArray[np.float32]
    profit_change: NDArray[np.float32]
    profit_change_sd: NDArray[np.float32]
    random_step: NDArray[np.float32]
    propensity: NDArray[np.float32]
    observation: NDArray[np.float32]  # (n, F)
    peers: PeersHeard | None = None

    def __post_init__(self) -> None:
        count = len(self.skus)
        for name in _INTEGERS + _FLOATS:
            column = getattr(self, name)
            wanted = np.int32 if name in _INTEGERS else np.float32
            if column.shape != (count,) or column.dtype != wanted:
                raise LocalError(f"decisions.{name} is {column.dtype}{column.shape}, not {wanted.__name__}({count},)")
        if self.observation.dtype != np.float32 or self.observation.shape[:1] != (count,):
            raise LocalError(f"decisions.observation is {self.observation.dtype}{self.observation.shape}")

    def __len__(self) -> int:
        return len(self.skus)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DecisionBatch) and encode_decisions(self) == encode_decisions(other)

    __hash__ = None  # type: ignore[assignment]  # columns are arrays

    def decision(self, row: int) -> PriceDecision:
        """Row `row` as one decision."""
        integers = {f"{name}_minor": int(getattr(self, name)[row]) for name in _INTEGERS[:-1]}
        floats = {name: float(getattr(self, name)[row]) for name in _FLOATS}
        return PriceDecision(
            sku=self.skus[row],
            category=self.category,
            business_day=self.business_day,
            mode=self.mode,
            source=self.source,
            arm=self.arm,
            model=self.model,
            model_sha256=self.model_sha256,
            failures=self.failures,
            currency=self.currency,
            rules=int(self.rules[row]),
            observation=self.observation[row],
            peers=self.peers,
            **integers,
            **floats,  # type: ignore[arg-type]
        )

    def __iter__(self) -> Iterator[PriceDecision]:
        return (self.decision(row) for row in range(len(self)))

    def find(self, sku: str) -> PriceDecision | None:
        """The decision about `sku`, if the batch has one."""
        return self.decision(self.skus.index(sku)) if sku in self.skus else None


def encode_decisions(batch: DecisionBatch) -> bytes:
    """The block of a batch: about 60 bytes an item and 4 bytes a feature."""
    columns = [getattr(batch, name).astype("<i4").tobytes() for name in _INTEGERS]
    columns += [getattr(batch, name).astype("<f4").tobytes() for name in _FLOATS]
    head: list[object] = [
        batch.category,
        batch.business_day.toordinal(),
        batch.week,
        _MODES.index(batch.mode),
        _SOURCES.index(batch.source),
        _ARMS.index(batch.arm),
        float(batch.arm_propensity),
        batch.wash_out,
        batch.model,
        batch.model_sha256,
        batch.observation_version,
        list(batch.failures),
        batch.currency,
    ]
    wall = [batch.recorded.ms, QUALITIES.index(batch.recorded.quality)]
    body = [*head, "\n".join(batch.skus).encode("ascii"), *columns, batch.observation.astype("<f4").tobytes(), *wall]
    if batch.peers is None:
        return cbor.encode([KIND, VERSION, *body])
    return cbor.encode([KIND, VERSION_PEERS, *body, batch.peers.shops, batch.peers.week, batch.peers.coefficients])


def decode_decisions(block: bytes) -> DecisionBatch:
    """Inverse of `encode_decisions`. Raises `RecordInvalid` (or `RemoteError` for bytes that are no CBOR)."""
    value = cbor.decode(block)
    # besides the fields without `peers`: kind and version, and `recorded` is one field and two elements
    expected = len(fields(DecisionBatch)) + 2
    heard: PeersHeard | None = None
    if type(value) is list and len(value) == expected + 3 and value[:2] == [KIND, VERSION_PEERS]:
        heard = _peers(value[expected:])
        value = value[:expected]
    elif type(value) is not list or len(value) != expected or value[:2] != [KIND, VERSION]:
        raise RecordInvalid("not a ledger record of kind decisions, version 1 or 2", reason="unknown_kind")
    (category, day, week, mode, source, arm, arm_propensity, wash_out, model, sha256, version, failures, currency, skus,
     *columns, observation, ms, quality) = value[2:]  # fmt: skip
    _typed(str, category, model, currency)
    _typed(int, day, week, mode, source, arm, version, ms, quality)
    _typed(float, arm_propensity)
    _typed(bool, wash_out)
    _typed(bytes, sha256, skus, observation, *columns)
    _typed(list, failures)
    _typed(str, *failures)
    _within("category", 1 <= len(category) <= LABEL_CHARS_MAX)
    _within("model", len(model) <= LABEL_CHARS_MAX and len(sha256) in (0, 32))
    _within("currency", len(currency) == 3 and currency.isascii() and currency.isupper())
    _within("day", 1 <= day <= date.max.toordinal() and 0 <= week <= WEEK_MAX)
    _within("mode", 0 <= mode < len(_MODES) and 0 <= source < len(_SOURCES) and 0 <= arm < len(_ARMS))
    _within("propensity", 0.0 <= arm_propensity <= 1.0)
    _within("wall time", 0 <= ms <= INTEGER_MAX and 0 <= quality < len(QUALITIES))
    _within("observation version", 0 <= version <= INTEGER_MAX)
    _within("failures", len(failures) <= FAILURES_MAX and all(len(text) <= FAILURE_CHARS_MAX for text in failures))
    _within("skus", len(skus) <= CATEGORY_ITEMS_MAX * (LABEL_CHARS_MAX + 1) and skus.isascii())
    names = tuple(skus.decode("ascii").split("\n"))
    count = len(names)
    _within("skus", count <= CATEGORY_ITEMS_MAX and len({check_sku(sku) for sku in names}) == count)
    _within("columns", all(len(column) == 4 * count for column in columns))
    _within("observation", len(observation) % (4 * count) == 0 and len(observation) <= 4 * count * FEATURES_MAX)
    arrays: dict[str, Any] = {}
    for name, column in zip(_INTEGERS + _FLOATS, columns, strict=True):
        if name in _INTEGERS:
            arrays[name] = np.frombuffer(column, "<i4").astype(np.int32)
            _within(name, bool(np.all((arrays[name] >= 0) & (arrays[name] <= PRICE_MINOR_MAX))))
        else:
            arrays[name] = np.frombuffer(column, "<f4").astype(np.float32)
            # what the policy asked may be anything, that is what the guard is for
            _within(name, name == "asked" or bool(np.all(np.isfinite(arrays[name]))))
    seen = np.frombuffer(observation, "<f4").astype(np.float32).reshape(count, -1)
    _within("observation", bool(np.all(np.isfinite(seen))))
    return DecisionBatch(
        category=category,
        business_day=date.fromordinal(day),
        week=week,
        mode=_MODES[mode],
        source=_SOURCES[source],
        arm=_ARMS[arm],
        arm_propensity=arm_propensity,
        wash_out=wash_out,
        model=model,
        model_sha256=sha256,
        observation_version=version,
        failures=tuple(failures),
        currency=currency,
        recorded=WallTime(ms, QUALITIES[quality]),
        skus=names,
        observation=seen,
        peers=heard,
        **arrays,
    )


def _peers(value: list[object]) -> PeersHeard:
    shops, week, coefficients = value
    _typed(int, shops, week, coefficients)
    heard = PeersHeard(shops, week, coefficients)  # type: ignore[arg-type]
    _within("shops", 1 <= heard.shops <= _SHOPS_MAX)
    _within("peers' week", 0 <= heard.week <= WEEK_MAX)
    _within("coefficients", 1 <= heard.coefficients <= _COEFFICIENTS_MAX)
    return heard


def _typed(wanted: type, *values: object) -> None:
    for value in values:
        if type(value) is not wanted:  # not isinstance: True is not an integer here
            raise RecordInvalid(f"decision record: {type(value).__name__} in place of {wanted.__name__}")


def _within(name: str, holds: bool) -> None:
    if not holds:
        raise RecordInvalid(f"decision record: {name} is out of range")
