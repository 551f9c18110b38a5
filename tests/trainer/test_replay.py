"""Real or generated weeks priced again: the yardsticks hold, whatever file comes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ConfigError
from trainer import desk, generate, ingest, policies, replay
from trainer.sim.randomise import STOCKPILING

DATA = Path(__file__).resolve().parents[3] / "shared/data/orange_juice.csv.gz"
RULES = desk.COMPARISON_RULES


@pytest.fixture(scope="module")
def panels(tmp_path_factory: pytest.TempPathFactory) -> list[ingest.Panel]:
    path = tmp_path_factory.mktemp("data") / "sales.csv"
    generate.write(path, STOCKPILING, stores=4, weeks=50, seed=2)
    return ingest.read(path)


def evaluate(panels: list[ingest.Panel], test_from: int) -> dict[str, replay.Result]:
    return replay.evaluate(panels, test_from, policies.lineup(None, 0), RULES, bootstrap=20)


def test_holding_historic_prices_is_a_hundred_percent(panels: list[ingest.Panel]) -> None:
    results = evaluate(panels, 37)
    assert tuple(results) == policies.BASELINES
    assert results["hold"].percent == pytest.approx(100.0, abs=0.3)  # the guard lifts what is below the cost floor
    for result in results.values():
        assert result.low <= result.high
    best = max(replay.PLUG_INS, key=lambda name: results[name].percent)
    assert results[best].against_best == (0.0, 0.0, 0.0)


def test_every_price_is_inside_band_and_index(panels: list[ingest.Panel]) -> None:
    on = replay.stage(panels[0], 37)
    run = replay.play(on, lambda situation: np.full_like(situation.bounds.hold, 0.5), RULES)  # as much as it can get
    cents = np.rint(100 * on.cut.price[on.cut.first_test :])
    published = cents * np.exp(run.multiplier)
    np.testing.assert_allclose(published, np.rint(published), atol=1e-6)
    floor = 100 * on.cut.cost[on.cut.first_test :] * 1.02
    lifted = floor > cents * np.exp(-RULES.band)
    assert (np.abs(run.multiplier[~lifted]) <= RULES.band + 1e-9).all()
    assert (run.multiplier.mean(-1) < 0.06).all()  # the index cap holds the whole category back


def test_missing_weeks_and_items_do_not_break_it(panels: list[ingest.Panel]) -> None:
    panel = panels[0]
    gone = np.random.default_rng(0).random(panel.units.shape[:2]) < 0.15
    gone[40:44, 1] = True
    names = ("units", "price", "cost", "deal", "feature")
    holes = (np.where(gone[..., None], np.nan, getattr(panel, name)) for name in names)
    results = evaluate([ingest.Panel(panel.stores, panel.skus, panel.weeks, *holes)], 37)
    assert all(np.isfinite(result.percent) for result in results.values())


def test_policies_do_not_see_the_test_weeks(panels: list[ingest.Panel]) -> None:
    """What the boxes believe must not move when the future changes."""
    panel = panels[0]
    later = panel.weeks >= 37
    other = replace(panel, units=np.where(later[:, None, None], 3.0 * panel.units + 1.0, panel.units))
    before, after = (replay.believe(replay.split(which, 37)) for which in (panel, other))
    np.testing.assert_array_equal(before.model.kappa, after.model.kappa)
    np.testing.assert_array_equal(before.model.theta, after.model.theta)


@pytest.mark.parametrize("test_from", [3, 49, 500])
def test_a_split_that_leaves_too_little_is_refused(panels: list[ingest.Panel], test_from: int) -> None:
    with pytest.raises(ConfigError, match="--test-from"):
        replay.evaluate(panels, test_from, policies.lineup(None, 0), RULES, bootstrap=2)


def test_real_weeks() -> None:
    """On real sales the weekly optimiser earns more than holding and than a static book; the file is optional."""
    if not DATA.exists():
        pytest.skip("the real sales are not beside the repository, where a licence forbids them")
    panels = ingest.read(DATA, ["2", "5", "8", "12"])
    results = evaluate(panels, replay.default_test_from(panels))
    assert results["long-run plug-in"].percent > results["hold"].percent + 2.0
    assert results["long-run plug-in"].percent > results["short-run plug-in"].percent
