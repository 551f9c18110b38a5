"""The estimate with what other shops know: nothing changes without it, items start from it, the category learns too."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support_history import simulate

from edge.agent.estimate import CARRY, PRICE, TERMS, DemandPrior, PeerPrior, backtest, estimate
from edge.errors import LocalError

PRIOR = DemandPrior()
COUNT = len(TERMS) - 1
Float = NDArray[np.float64]


def nothing(items: int) -> Float:
    return np.full((items, COUNT), np.nan)


def price_prior(items: int, mean: float | Float, sd: float | Float) -> PeerPrior:
    means, sds = nothing(items), nothing(items)
    means[:, PRICE - 1], sds[:, PRICE - 1] = mean, sd
    return PeerPrior(means, sds)


def test_without_peers_the_estimate_is_that_of_the_shipped_policy() -> None:
    """Numbers stored before there were peers; on the machine that made them they agree to the last bit."""
    history, _ = simulate(21, items=3, weeks=40)
    posterior = estimate(history, PRIOR)
    means = [
        [5.457475286357419, -2.4032183813352193, 0.3033678558922741],
        [0.3278073571514765, 0.08649924461361685, 1.348283259610577],
        [4.500245620973467, -2.5290547018971834, 0.3077301802497896],
        [0.28616498470924606, 0.0929301929188666, 1.103124505737491],
        [5.446957958343477, -3.170821467964958, 0.3316957347273776],
        [0.5089044126648232, 0.21476057825305422, 1.2281396615083626],
    ]
    sds = [
        [0.13350543787496244, 0.6180477131925353, 0.19937254103260812],
        [0.25489095570740194, 0.18357283718321624, 0.45019351378059014],
        [0.1340598302351647, 0.5483529479391076, 0.19376075018072117],
        [0.16476346571464223, 0.13858618208473242, 0.4674790045309962],
        [0.13376408158768305, 0.5816653872703932, 0.1961016802367234],
        [0.2193409401215827, 0.16829839487510498, 0.46430435730186964],
    ]
    category = [-2.7863037240375923, 0.3256984427173603, 0.4307191886313864, 0.12354750394638442, 1.2236748294215567]
    dispersion = [0.11778479776414531, 0.08138043797074893, 0.11701906203010484]
    np.testing.assert_allclose(posterior.mean.reshape(-1, 3), means, rtol=1e-10)
    np.testing.assert_allclose(np.stack([posterior.sd(k) for k in range(6)], axis=-1).reshape(-1, 3), sds, rtol=1e-10)
    np.testing.assert_allclose(posterior.category_mean, category, rtol=1e-10)
    np.testing.assert_allclose(posterior.dispersion, dispersion, rtol=1e-10)


@pytest.mark.parametrize("items", [2, 11])
def test_peers_who_say_nothing_change_no_bit(items: int) -> None:
    history, _ = simulate(22, items=items, weeks=30)
    alone = estimate(history, PRIOR)
    heard = estimate(history, PRIOR, peers=PeerPrior(nothing(items), nothing(items)))
    for name in ("mean", "covariance", "category_mean", "season", "dispersion", "residual"):
        assert getattr(alone, name).tobytes() == getattr(heard, name).tobytes(), name


def test_an_item_without_sales_is_what_peers_say_of_it() -> None:
    history, _ = simulate(23)
    blank = replace(history, observed=np.zeros_like(history.observed))
    mean, sd = np.linspace(-4.0, -1.5, 11), np.linspace(0.2, 0.8, 11)
    posterior = estimate(blank, PRIOR, peers=price_prior(11, mean, sd))
    np.testing.assert_allclose(posterior.mean[:, PRICE], mean, atol=1e-9)
    np.testing.assert_allclose(posterior.sd(PRICE), sd, rtol=1e-9)
    # of the other coefficients they said nothing: these keep the shipped prior
    np.testing.assert_allclose(posterior.mean[:, CARRY], PRIOR.carry.mean, atol=1e-9)
    np.testing.assert_allclose(posterior.sd(CARRY), np.hypot(PRIOR.carry.category_sd, PRIOR.carry.item_sd), rtol=1e-9)


def test_a_new_item_starts_from_the_category_that_peers_informed() -> None:
    """By hand: eleven observations of the category's mean with variance item_sd² + sd² beside the shipped one."""
    history, _ = simulate(24, items=12)
    blank = replace(history, observed=np.zeros_like(history.observed))
    peers = price_prior(12, -2.0, 0.4)
    peers.mean[0], peers.sd[0] = np.nan, np.nan
    posterior = estimate(blank, PRIOR, peers=peers)
    shipped = PRIOR.price
    heard, own = 11.0 / (shipped.item_sd**2 + 0.4**2), shipped.category_sd**-2
    centre = (own * shipped.mean + heard * -2.0) / (own + heard)
    assert posterior.mean[0, PRICE] == pytest.approx(centre, abs=1e-9)
    assert posterior.category_mean[PRICE - 1] == pytest.approx(centre, abs=1e-9)
    assert posterior.sd(PRICE)[0] == pytest.approx(np.sqrt(shipped.item_sd**2 + 1.0 / (own + heard)), rel=1e-9)


def test_what_peers_say_of_the_category_moves_every_item_and_keeps_them_apart() -> None:
    history, _ = simulate(25)
    blank = replace(history, observed=np.zeros_like(history.observed))
    said, sd = np.full(COUNT, np.nan), np.full(COUNT, np.nan)
    said[PRICE - 1], sd[PRICE - 1] = -2.2, 0.1
    posterior = estimate(blank, PRIOR, peers=PeerPrior(nothing(11), nothing(11), said, sd))
    own, heard = PRIOR.price.category_sd**-2, 0.1**-2
    np.testing.assert_allclose(posterior.mean[:, PRICE], (own * -2.9 + heard * -2.2) / (own + heard), atol=1e-9)
    np.testing.assert_allclose(posterior.sd(PRICE), np.sqrt(0.75**2 + 1.0 / (own + heard)), rtol=1e-9)


def test_peers_so_unsure_that_they_say_nothing_do_not_inform_the_category() -> None:
    history, _ = simulate(26, items=5)
    blank = replace(history, observed=np.zeros_like(history.observed))
    peers = price_prior(5, -1.0, 1e5)
    peers.mean[0], peers.sd[0] = np.nan, np.nan
    posterior = estimate(blank, PRIOR, peers=peers)
    assert posterior.mean[0, PRICE] == pytest.approx(PRIOR.price.mean, abs=1e-6)


def test_own_sales_go_on_to_speak() -> None:
    """Peers who are wrong by two elasticities, and sure of it by 0.7, are corrected by two years of sales."""
    wrong, corrected = [], []
    for seed in range(4):
        history, truth = simulate(seed)
        posterior = estimate(history, PRIOR, peers=price_prior(11, truth.elasticity + 2.0, 0.7))
        assert posterior.converged
        wrong.append(2.0)
        corrected.append(np.mean(np.abs(posterior.mean[:, PRICE] - truth.elasticity)))
        assert np.all(posterior.sd(PRICE) < 0.7)
    assert np.mean(corrected) < 0.4 * np.mean(wrong)


def test_intervals_cover_the_truth_where_the_peers_are_right() -> None:
    inside, alone, together = [], [], []
    for seed in range(10):
        history, truth = simulate(100 + seed, weeks=26)
        rng = np.random.default_rng(seed)
        peers = price_prior(11, truth.elasticity + rng.normal(0.0, 0.33, 11), 0.33)
        posterior = estimate(history, PRIOR, peers=peers)
        error = posterior.mean[:, PRICE] - truth.elasticity
        inside.append(np.abs(error) < 1.96 * posterior.sd(PRICE))
        together.append(error**2)
        alone.append((estimate(history, PRIOR).mean[:, PRICE] - truth.elasticity) ** 2)
    assert 0.88 <= np.mean(inside) <= 1.0  # 110 intervals
    assert np.mean(together) < 0.6 * np.mean(alone)


def test_a_backtest_hears_peers_too() -> None:
    history, truth = simulate(27, weeks=12)
    alone = backtest(history, PRIOR)
    told = backtest(history, PRIOR, peers=price_prior(11, truth.elasticity, 0.1))
    assert told.cells == alone.cells
    assert told.wape != alone.wape


@pytest.mark.parametrize(
    ("mean", "sd"),
    [
        (np.zeros((3, 4)), np.ones((3, 4))),
        (np.zeros((3, COUNT)), np.ones((2, COUNT))),
        (np.zeros((3, COUNT)), np.zeros((3, COUNT))),
        (np.zeros((3, COUNT)), np.full((3, COUNT), np.nan)),
        (np.full((3, COUNT), np.inf), np.ones((3, COUNT))),
    ],
)
def test_a_prior_that_is_none_is_refused(mean: Float, sd: Float) -> None:
    with pytest.raises(LocalError):
        PeerPrior(mean, sd)


def test_a_prior_of_other_items_is_refused() -> None:
    history, _ = simulate(28, items=4, weeks=8)
    with pytest.raises(LocalError):
        estimate(history, PRIOR, peers=price_prior(5, -3.0, 0.5))
    with pytest.raises(LocalError):
        PeerPrior(nothing(4), nothing(4), np.zeros(COUNT))
    with pytest.raises(LocalError):
        PeerPrior(nothing(4), nothing(4), np.zeros(3), np.ones(3))
