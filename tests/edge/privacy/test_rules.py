import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.privacy.rules import DIRECTIONS, Direction, PrivacyRules, check_tightened
from edge.toml import build

BASE = PrivacyRules()
LOOSER = {
    "epsilon_milli": 1001,
    "epsilon_week_milli": 2001,
    "epsilon_year_milli": 60_001,
    "rho_milli": 126,
    "rho_week_milli": 501,
    "rho_year_milli": 13_251,
    "delta_exponent": 8,
    "window_weeks": 1,
    "lag_weeks": 12,
    "receipts_min": 199,
    "shops_min": 2,
    "owners_min": 4,
    "receipt_cells_max": 5,
    "ladder_percent": 60,
    "ladder_rungs": 32,
    "central_percent": 90,
    "item_level": True,
}
STRICTER = {
    "epsilon_milli": 500,
    "epsilon_week_milli": 1000,
    "epsilon_year_milli": 10_000,
    "rho_milli": 1,
    "rho_week_milli": 100,
    "rho_year_milli": 1000,
    "delta_exponent": 12,
    "lag_weeks": 52,
    "receipts_min": 1000,
    "shops_min": 10,
    "owners_min": 15,
}


def test_every_rule_has_a_direction_and_is_tried_here() -> None:
    names = {field.name for field in dataclasses.fields(PrivacyRules)}
    assert names == set(DIRECTIONS) == set(LOOSER)
    assert set(STRICTER) == {name for name, way in DIRECTIONS.items() if way in (Direction.LOWER, Direction.HIGHER)}


@pytest.mark.parametrize("name", LOOSER)
def test_a_looser_rule_is_refused_by_its_name(name: str) -> None:
    changed: dict[str, object] = {name: LOOSER[name]}
    with pytest.raises(ConfigError, match=name) as caught:
        check_tightened(build(PrivacyRules, changed), BASE, "networks.north.privacy")
    assert caught.value.path == f"networks.north.privacy.{name}"
    assert DIRECTIONS[name].value in str(caught.value)


@pytest.mark.parametrize("name", ["window_weeks", "receipt_cells_max", "ladder_percent", "ladder_rungs"])
def test_what_all_must_share_cannot_be_changed_the_other_way_either(name: str) -> None:
    other = {"window_weeks": 13, "receipt_cells_max": 1, "ladder_percent": 20, "ladder_rungs": 4}[name]
    changed: dict[str, object] = {name: other}
    with pytest.raises(ConfigError, match=name):
        check_tightened(build(PrivacyRules, changed), BASE)


@given(st.dictionaries(st.sampled_from(sorted(STRICTER)), st.just(0)))
def test_stricter_rules_are_taken_and_their_base_then_refused(chosen: dict[str, int]) -> None:
    stricter = dataclasses.replace(BASE, **{name: STRICTER[name] for name in chosen})  # type: ignore[arg-type]
    check_tightened(stricter, BASE)
    if chosen:
        with pytest.raises(ConfigError):
            check_tightened(BASE, stricter)


def test_item_level_may_be_switched_off() -> None:
    check_tightened(BASE, dataclasses.replace(BASE, item_level=True))


@pytest.mark.parametrize(
    "table",
    [
        {"epsilon_milli": 0},
        {"epsilon_milli": -1},
        {"epsilon_milli": True},
        {"epsilon_milli": 0.5},
        {"window_weeks": 2},
        {"window_weeks": 0},
        {"ladder_percent": 100},
        {"ladder_rungs": 1},
        {"receipts_min": 0},
        {"receipt_cells_max": 0},
        {"item_level": 1},
        {"central_percent": 100},
        {"delta_exponent": 0},
        {"epsilon": 1},
    ],
)
def test_rules_that_mean_nothing_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        build(PrivacyRules, table, "privacy")
