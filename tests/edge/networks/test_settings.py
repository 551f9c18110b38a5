"""`[networks.NAME]`: addresses and stricter rules; whatever would be looser is refused by its name."""

from collections.abc import Mapping

import pytest

from edge.errors import ConfigError
from edge.networks.policy import NetworkPolicy
from edge.networks.settings import PEERS_MAX, NetworkSettings, Stricter
from edge.toml import build


def settings(table: Mapping[str, object]) -> NetworkSettings:
    return build(NetworkSettings, table, "networks.chain")


def test_a_section_is_read() -> None:
    found = settings({"listen": "0.0.0.0:49737", "peers": ["192.0.2.7:1"], "stricter": {"lag_weeks": 26}})
    assert found.listen == "0.0.0.0:49737"
    assert found.peers == ("192.0.2.7:1",)
    assert found.stricter == Stricter(lag_weeks=26)


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"listen": "shop.example:1"}, "networks.chain"),
        ({"peers": ["192.0.2.7"]}, "networks.chain"),
        ({"peers": ["192.0.2.7:1"] * (PEERS_MAX + 1)}, "networks.chain"),
        ({"peer": []}, "networks.chain.peer"),
        ({"stricter": {"lag": 1}}, "networks.chain.stricter.lag"),
        ({"share": "no"}, "networks.chain.share"),
    ],
)
def test_what_cannot_be_used_is_named(table: Mapping[str, object], path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        settings(table)
    assert refused.value.path == path


def test_a_shop_may_be_stricter() -> None:
    base = NetworkPolicy()
    own = Stricter(lag_weeks=26, receipts_min=500, epsilon_milli=500, keep_weeks=52).policy(base, "stricter")
    assert (own.lag_weeks, own.keep_weeks) == (26, 52)
    assert (own.privacy.lag_weeks, own.privacy.receipts_min, own.privacy.epsilon_milli) == (26, 500, 500)
    assert own.privacy.epsilon_week_milli == base.privacy.epsilon_week_milli
    assert Stricter().policy(base, "stricter") == base


@pytest.mark.parametrize(
    ("looser", "name"),
    [
        (Stricter(lag_weeks=0), "lag_weeks"),
        (Stricter(owners_min=1), "owners_min"),
        (Stricter(live_use=True), "live_use"),
        (Stricter(item_level=True), "item_level"),
        (Stricter(keep_weeks=105), "keep_weeks"),
        (Stricter(receipts_min=1), "receipts_min"),
        (Stricter(epsilon_milli=1001), "epsilon_milli"),
        (Stricter(epsilon_week_milli=9999), "epsilon_week_milli"),
        (Stricter(epsilon_year_milli=100_000), "epsilon_year_milli"),
        (Stricter(lag_weeks=1000), "lag_weeks"),
    ],
)
def test_a_shop_is_never_looser(looser: Stricter, name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        looser.policy(NetworkPolicy(), "networks.chain.stricter")
    assert refused.value.path.startswith("networks.chain.stricter")
    assert name in str(refused.value)
