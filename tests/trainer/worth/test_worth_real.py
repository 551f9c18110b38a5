"""The study on real weeks: no week is evidence and test at once, and what is no difference shows as none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ConfigError
from trainer import ingest
from trainer.ingest import Panel
from trainer.worth import real
from trainer.worth.real import RealConfig

DATA = Path(__file__).resolve().parents[4] / "shared/data/orange_juice.csv.gz"
SMALL = RealConfig(openings=(20,), weeks=(0, 4), peers=(1, 4), alone=4, owners=(4,), epsilons=(2.0,), bootstrap=40)
STORES, ITEMS, WEEKS = 6, 3, 44


def panel(seed: int, own: tuple[float, ...] = (-1.2, -3.0, -5.0)) -> Panel:
    """Stores that agree on elasticities which the shipped prior does not expect, and change prices every week."""
    rng = np.random.default_rng(seed)
    shape = (WEEKS, STORES, ITEMS)
    x = rng.normal(0.0, 0.15, shape)
    units = rng.poisson(80.0 * np.exp(np.array(own) * x + 0.2 * rng.standard_normal(shape))).astype(np.float64)
    none = np.zeros(shape)
    return Panel(
        tuple(str(store) for store in range(STORES)),
        ("a", "b", "c"),
        np.arange(100, 100 + WEEKS),
        units,
        2.0 * np.exp(x),
        np.full(shape, 1.4),
        none,
        none,
    )


def rows(result: real.Result) -> dict[tuple[str, str], real.Row]:
    return {(row.known, row.prior): row for row in result.rows}


@pytest.fixture(scope="module")
def result() -> real.Result:
    return real.measure(panel(0), SMALL)


def test_every_prior_stands_in_every_table(result: real.Result) -> None:
    assert (result.stores, result.items, result.cases, result.openings) == (STORES, ITEMS, STORES, (120,))
    found = rows(result)
    names = {name for _, name in found}
    assert {real.SHIPPED, "1 peers", "4 peers", "4 peers, elasticities alone", "4 owners, no noise"} <= names
    assert set(found) == {(known, name) for known in (real.FIRST, "0", "4") for name in names}
    for (known, name), row in found.items():
        assert row.wape.low <= row.wape.value <= row.wape.high
        assert (row.elasticity is None) == (known == real.FIRST)
        if name == real.SHIPPED:
            assert (row.wape_change.value, row.wape_change.low, row.wape_change.high) == (0.0, 0.0, 0.0)


def test_peers_who_know_better_help(result: real.Result) -> None:
    found = rows(result)
    for known in ("0", "4"):
        row = found[known, "4 peers"]
        assert row.wape_change.value < -1.0
        assert row.score_change.low > 0.0
        assert row.square_change is not None
        assert row.later_square_change is not None
        assert row.square_change.high < 0.0
        assert row.later_square_change.high < 0.0


def test_the_same_seed_gives_the_same_figures(result: real.Result) -> None:
    assert real.measure(panel(0), SMALL) == result


def test_peers_know_nothing_of_the_weeks_after_the_opening() -> None:
    """Other weeks after the opening, in all stores but one: nothing about that one may change."""
    before, changed = panel(1), panel(1)
    units = changed.units.copy()
    units[20:, 1:] *= 3.0
    changed = replace(changed, units=units)
    (one, _), (two, _) = real._cases(before, SMALL), real._cases(changed, SMALL)
    for first, second in zip(one, two, strict=True):
        for name, told in first.given.items():
            other = second.given[name]
            assert (told is None) == (other is None)
            if told is not None and other is not None:
                np.testing.assert_array_equal(told.mean, other.mean)
                np.testing.assert_array_equal(told.sd, other.sd)


def test_a_shop_is_not_its_own_peer() -> None:
    base, odd = panel(2), panel(2)
    units = odd.units.copy()
    units[:20, 0] = units[:20, 0][::-1]  # store 0's own past before it opens
    (one, _), (two, _) = real._cases(base, SMALL), real._cases(replace(odd, units=units), SMALL)
    assert one[0].given["4 peers"] is not None
    assert two[0].given["4 peers"] is not None
    np.testing.assert_array_equal(one[0].given["4 peers"].mean, two[0].given["4 peers"].mean)
    others = [
        not np.array_equal(first.given["4 peers"].mean, second.given["4 peers"].mean)
        for first, second in zip(one[1:], two[1:], strict=True)
        if first.given["4 peers"] is not None and second.given["4 peers"] is not None
    ]
    assert any(others)  # the same change does reach its neighbours


def test_forecasts_see_only_the_weeks_known(result: real.Result) -> None:
    """Sales after the judged weeks change: forecasts may not."""
    later = panel(0)
    units = later.units.copy()
    units[20 + 4 + real.AHEAD :] *= 2.0
    changed = rows(real.measure(replace(later, units=units), SMALL))
    for key, row in rows(result).items():
        assert changed[key].wape.value == row.wape.value
        assert changed[key].score_change.value == row.score_change.value


def test_the_chain_error_is_what_stores_have_in_common() -> None:
    """Stores with nothing in common but their elasticities: many of them agree with themselves. A shift shows."""
    assert real.chain_error(panel(3)) < 0.35
    moved, halves = panel(3), panel(3, own=(-2.2, -4.0, -6.0))
    units = np.concatenate([moved.units[: WEEKS // 2], halves.units[WEEKS // 2 :]])
    assert real.chain_error(replace(moved, units=units)) == pytest.approx(1.0 / np.sqrt(2.0), abs=0.25)


def test_a_file_too_short_is_refused() -> None:
    with pytest.raises(ConfigError, match="enough weeks"):
        real.measure(panel(0).between(100, 125), SMALL)


@pytest.mark.skipif(not DATA.exists(), reason=f"{DATA} is not part of the repository")
def test_on_real_stores_peers_know_elasticities_better_than_the_shipped_prior() -> None:
    whole = ingest.read(DATA, ("2", "5", "8", "12", "14", "18", "28", "32"))
    config = RealConfig(openings=(62,), weeks=(0, 4), peers=(7,), owners=(), epsilons=(), bootstrap=40)
    found = rows(real.measure(whole[0], config))
    change = found["0", "7 peers"].square_change
    assert change is not None
    assert change.high < 0.0
