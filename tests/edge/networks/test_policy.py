"""The policy of a network: its ranges, what a member may make stricter, what the law asks between owners."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.networks.policy import DIRECTIONS, LAWFUL, NetworkPolicy, changed, check_owners, tightened
from edge.privacy.rules import DIRECTIONS as PRIVACY_DIRECTIONS
from edge.privacy.rules import Direction, PrivacyRules
from edge.records.message import Network

# A one-owner network that uses everything, so that each field can be loosened from where it is and tightened too.
BASE = NetworkPolicy(
    owners_min=6,
    owner_share_max=0.2,
    lag_weeks=14,
    shops_min=2,
    privacy=PrivacyRules(owners_min=6, lag_weeks=14, shops_min=3),
)


def changes(name: str, value: object) -> dict[str, Any]:
    return {name: value}


LOOSER: list[tuple[str, NetworkPolicy, str]] = [
    ("policy.owners_min", replace(BASE, owners_min=5), "raised"),
    ("policy.owners_min", replace(BASE, owners_min=1), "raised"),
    ("policy.owner_share_max", replace(BASE, owner_share_max=0.21), "lowered"),
    ("policy.owner_share_max", replace(BASE, owner_share_max=1.0), "lowered"),
    ("policy.lag_weeks", replace(BASE, lag_weeks=13), "raised"),
    ("policy.lag_weeks", replace(BASE, lag_weeks=0), "raised"),
    ("policy.live_use", replace(BASE, live_use=True), "switched off"),
    ("policy.item_level", replace(BASE, item_level=True), "switched off"),
    ("policy.shops_min", replace(BASE, shops_min=1), "raised"),
    ("policy.epoch_weeks", replace(BASE, epoch_weeks=26), "same"),
    ("policy.epoch_weeks", replace(BASE, epoch_weeks=4), "same"),
    ("policy.keep_weeks", replace(BASE, keep_weeks=105), "lowered"),
    ("policy.clock_tolerance_s", replace(BASE, clock_tolerance_s=7 * 86_400 + 1), "lowered"),
    ("policy.messages_per_week", replace(BASE, messages_per_week=20_001), "lowered"),
    ("policy.release_weekday", replace(BASE, release_weekday=2), "same"),
    ("policy.round_hours", replace(BASE, round_hours=48), "same"),
]
LOOSER += [
    (f"policy.privacy.{name}", replace(BASE, privacy=replace(BASE.privacy, **changes(name, value))), why)
    for name, value, why in (
        ("epsilon_milli", 1001, "lowered"),
        ("epsilon_week_milli", 2001, "lowered"),
        ("epsilon_year_milli", 60_001, "lowered"),
        ("rho_milli", 126, "lowered"),
        ("rho_week_milli", 501, "lowered"),
        ("rho_year_milli", 13_251, "lowered"),
        ("delta_exponent", 8, "raised"),
        ("window_weeks", 1, "same"),
        ("window_weeks", 13, "same"),
        ("receipts_min", 199, "raised"),
        ("shops_min", 2, "raised"),
        ("receipt_cells_max", 5, "same"),
        ("ladder_percent", 60, "same"),
        ("ladder_rungs", 32, "same"),
        ("central_percent", 95, "same"),
    )
]


@pytest.mark.parametrize(("path", "wish", "why"), LOOSER, ids=lambda value: value if isinstance(value, str) else "")
def test_what_would_be_looser_is_refused_with_its_reason(path: str, wish: NetworkPolicy, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        tightened(BASE, wish)
    assert caught.value.path == path
    assert "the network has" in str(caught.value)


def test_every_field_has_a_direction_and_an_attempt_to_loosen_it() -> None:
    fields = {each.name for each in dataclasses.fields(NetworkPolicy)} - {"privacy"}
    assert fields == set(DIRECTIONS)
    tried = {path for path, _, _ in LOOSER}
    assert {f"policy.{name}" for name in fields} <= tried
    # lag, owners and items of the layers are held by the network's own figures (below)
    held = {"lag_weeks", "owners_min", "item_level"}
    assert {f"policy.privacy.{name}" for name in set(PRIVACY_DIRECTIONS) - held} <= tried
    assert len(LOOSER) >= 20


def test_what_is_stricter_or_the_same_is_taken() -> None:
    wish = replace(
        BASE,
        owners_min=8,
        owner_share_max=0.125,
        lag_weeks=26,
        shops_min=4,
        keep_weeks=26,
        clock_tolerance_s=3600,
        messages_per_week=100,
        privacy=replace(BASE.privacy, epsilon_milli=500, lag_weeks=26, owners_min=8, shops_min=4),
    )
    assert tightened(BASE, wish) is wish
    assert tightened(BASE, BASE) is BASE
    open_handed = replace(BASE, live_use=True, item_level=True)
    assert tightened(open_handed, BASE) is BASE


@given(
    owners=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    share=st.tuples(st.sampled_from((0.1, 0.25, 0.5, 1.0)), st.sampled_from((0.1, 0.25, 0.5, 1.0))),
    lag=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    live=st.tuples(st.booleans(), st.booleans()),
)
def test_tightened_is_a_partial_order(
    owners: tuple[int, int], share: tuple[float, float], lag: tuple[int, int], live: tuple[bool, bool]
) -> None:
    rules = PrivacyRules(owners_min=12, lag_weeks=30)
    base, wish = (
        NetworkPolicy(owners_min=o, owner_share_max=s, lag_weeks=w, live_use=u, privacy=rules)
        for o, s, w, u in zip(owners, share, lag, live, strict=True)
    )
    stricter = owners[1] >= owners[0] and share[1] <= share[0] and lag[1] >= lag[0] and live[1] <= live[0]
    try:
        tightened(base, wish)
    except ConfigError:
        assert not stricter
    else:
        assert stricter


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("owners_min", 0),
        ("owners_min", True),
        ("owner_share_max", 0.0),
        ("owner_share_max", 1.5),
        ("owner_share_max", float("nan")),
        ("owner_share_max", 1),
        ("lag_weeks", -1),
        ("lag_weeks", 13.0),
        ("live_use", 1),
        ("item_level", None),
        ("epoch_weeks", 0),
        ("keep_weeks", 521),
        ("clock_tolerance_s", 15 * 86_400),
        ("messages_per_week", 0),
        ("release_weekday", 7),
        ("round_hours", 0),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(NetworkPolicy(), **changes(name, value))
    assert caught.value.path == f"policy.{name}"


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("owners_min", {"owners_min": 6}),
        ("lag_weeks", {"lag_weeks": 14}),
        ("shops_min", {"shops_min": 4}),
        ("item_level", {"privacy": PrivacyRules(item_level=True)}),
    ],
)
def test_the_layers_are_never_looser_than_the_network(name: str, policy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(NetworkPolicy(), **policy)
    assert caught.value.path == f"policy.privacy.{name}"


UNLAWFUL = {"owners_min": 4, "owner_share_max": 0.26, "lag_weeks": 12, "live_use": True}


@pytest.mark.parametrize("name", sorted(LAWFUL))
@pytest.mark.parametrize("network", [Network.CONSORTIUM, Network.PUBLIC])
def test_the_lawful_floor_holds_between_owners_and_not_within_one(name: str, network: Network) -> None:
    policy = replace(NetworkPolicy(), **changes(name, UNLAWFUL[name]))
    check_owners(network, policy, ["acme", "acme", "acme"])
    check_owners(network, policy, [])
    with pytest.raises(ConfigError, match=r"one owner alone.*2 owners") as caught:
        check_owners(network, policy, ["acme", "acme", "globex"])
    assert caught.value.path == f"policy.{name}"


def test_the_defaults_are_lawful_between_owners() -> None:
    check_owners(Network.CONSORTIUM, NetworkPolicy(), ["acme", "globex"])
    stricter = NetworkPolicy(
        owners_min=9, owner_share_max=0.2, lag_weeks=20, privacy=PrivacyRules(20, owners_min=9, lag_weeks=20)
    )
    check_owners(Network.CONSORTIUM, stricter, ["acme", "globex"])


def test_a_private_network_has_one_owner() -> None:
    with pytest.raises(ConfigError, match="make it a consortium"):
        check_owners(Network.PRIVATE, NetworkPolicy(), ["acme", "globex"])


def test_every_default_direction_is_towards_the_law() -> None:
    assert {name: DIRECTIONS[name] for name in LAWFUL} == {
        "owners_min": Direction.HIGHER,
        "owner_share_max": Direction.LOWER,
        "lag_weeks": Direction.HIGHER,
        "live_use": Direction.OFF,
    }


def test_what_changed_is_told_field_by_field() -> None:
    after = replace(BASE, lag_weeks=14, keep_weeks=52, privacy=replace(BASE.privacy, epsilon_milli=500))
    assert changed(BASE, after) == {"keep_weeks": (104, 52), "privacy.epsilon_milli": (1000, 500)}
