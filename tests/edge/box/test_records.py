"""Settings and day records: one encoding each, everything else refused."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.box.records import (
    MODES,
    DayCause,
    DayRecord,
    ExperimentRecord,
    SettingsRecord,
    decode_day,
    decode_experiment,
    decode_settings,
    encode,
)
from edge.clock import ClockQuality, WallTime
from edge.encoding import cbor
from edge.errors import RecordInvalid, RemoteError

WALL = st.builds(WallTime, st.integers(0, 2**53 - 1), st.sampled_from(ClockQuality))
NAMES = st.text(max_size=16)


@given(record=st.builds(SettingsRecord, WALL, st.dictionaries(NAMES, st.sampled_from(MODES), max_size=5)))
def test_settings_round_trip(record: SettingsRecord) -> None:
    assert decode_settings(encode(record)) == record


@given(record=st.builds(DayRecord, st.dates(), st.sampled_from(DayCause), WALL))
def test_days_round_trip(record: DayRecord) -> None:
    assert decode_day(encode(record)) == record


EXPERIMENTS = st.builds(
    ExperimentRecord,
    recorded=WALL,
    switchback=st.booleans(),
    seed=st.just(b"") | st.binary(min_size=16, max_size=64),
    block_weeks=st.integers(5, 52),
    wash_out_weeks=st.integers(0, 4),
    treatment_share=st.floats(0, 1),
    step_probability=st.floats(0, 1),
    step_log=st.floats(0, 1),
)


@given(record=EXPERIMENTS)
def test_experiments_round_trip(record: ExperimentRecord) -> None:
    assert decode_experiment(encode(record)) == record


@given(data=st.binary(max_size=64))
def test_any_bytes_give_a_record_or_a_remote_error(data: bytes) -> None:
    for decode in (decode_settings, decode_experiment, decode_day):
        with pytest.raises(RemoteError):
            decode(data)


@pytest.mark.parametrize(
    "cells",
    [
        [5, 1, {"juice": "alive"}, 0, 0],
        [5, 1, {"juice": 1}, 0, 0],
        [5, 1, {"x" * 65: "live"}, 0, 0],
        [5, 2, {}, 0, 0],
        [5, 1, {}, -1, 0],
        [5, 1, {}, 0, 3],
        [5, 1, {}, 0],
    ],
)
def test_malformed_settings_are_refused(cells: list[object]) -> None:
    with pytest.raises(RecordInvalid):
        decode_settings(cbor.encode(cells))


@pytest.mark.parametrize(
    "cells", [[9, 1, 0, 0, 0, 0], [9, 1, 4_000_000, 0, 0, 0], [9, 1, 1, 2, 0, 0], [9, 1, 1, 0, 0, 9]]
)
def test_malformed_days_are_refused(cells: list[object]) -> None:
    with pytest.raises(RecordInvalid):
        decode_day(cbor.encode(cells))


def test_a_day_is_kept_whatever_its_cause() -> None:
    wall = WallTime(0, ClockQuality.FLOOR)
    assert encode(DayRecord(date(2026, 1, 5), DayCause.CLOCK, wall)) != encode(
        DayRecord(date(2026, 1, 5), DayCause.TILLS, wall)
    )
