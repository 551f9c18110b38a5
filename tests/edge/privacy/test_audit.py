"""Black-box audit: what is released gives away no more than it claims, and each known mistake would be noticed."""

from fractions import Fraction
from functools import partial

import pytest
from support_audit import beta_cdf, clopper_pearson, lower_bound
from support_mutants import (
    MISTAKES,
    Try,
    World,
    cells,
    counted,
    data_dependent_sensitivity,
    floating,
    gaussian,
    ledger_run,
    path,
    rounded_before_noise,
    threshold,
    two_weeks,
    waiting_worlds,
    worlds,
)

from edge.privacy.mechanism import epsilon_of_rho

RUNS = 20_000
PATH_RUNS = 2000
LEDGER_RUNS = 1500
MUTANT_RUNS = 1000  # a mistake shows sooner
CLAIMED = 1.0
DELTA = Fraction(1, 10**6)


def bound(play: World, runs: int = RUNS, delta: float = 0.0) -> float:
    return lower_bound(*worlds(play, runs, seed=1), delta)


# --- ours -------------------------------------------------------------------------------------------------------------


def test_the_count_keeps_its_promise_and_the_audit_comes_close_to_it() -> None:
    found = bound(counted)
    print(f"discrete Laplace: {found:.2f} of {CLAIMED}")
    assert 0.8 < found <= CLAIMED


def test_the_gaussian_keeps_its_promise() -> None:
    claimed = epsilon_of_rho(Fraction(1, 2), DELTA)
    found = bound(gaussian, delta=float(DELTA))
    print(f"discrete Gaussian: {found:.2f} of {claimed:.2f}")
    assert 0.8 < found <= claimed


def test_all_sums_of_all_cells_together_keep_their_promise() -> None:
    found = bound(cells)
    print(f"histogram, log sum and square sum: {found:.2f} of {CLAIMED}")
    assert 0.4 < found <= CLAIMED


@pytest.mark.parametrize("play", [threshold, two_weeks, floating])
def test_the_other_mechanisms_keep_theirs(play: partial[float]) -> None:
    assert bound(partial(play, mutant=False)) <= CLAIMED


@pytest.mark.parametrize("look", ["counts", "mean", "cells"])
def test_the_whole_release_path_keeps_its_promise(look: str) -> None:
    found = lower_bound(*waiting_worlds(partial(path, look=look, mutant=False), PATH_RUNS, 2))
    print(f"release path, {look}: {found:.2f} of {CLAIMED}")
    assert found <= CLAIMED


@pytest.mark.parametrize("way", MISTAKES, ids=lambda way: way.__name__)
def test_a_ledger_gives_away_no_more_than_its_cap_whatever_is_tried(way: Try) -> None:
    found = lower_bound(*waiting_worlds(partial(ledger_run, way=way, mutant=False), LEDGER_RUNS, 3))
    print(f"ledger, {way.__name__}: {found:.2f} of {CLAIMED}")
    assert 0.3 < found <= CLAIMED


# --- mistakes ---------------------------------------------------------------------------------------------------------

MUTANTS: dict[str, World] = {
    "data-dependent sensitivity": data_dependent_sensitivity,
    "noise after rounding": rounded_before_noise,
    "threshold without noise": partial(threshold, mutant=True),
    "reused seed": partial(two_weeks, mutant=True),
    "floating-point noise": partial(floating, mutant=True),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_in_the_noise_is_caught(name: str) -> None:
    found = bound(MUTANTS[name], 4 * MUTANT_RUNS)
    print(f"{name}: {found:.2f} of {CLAIMED}")
    assert found > CLAIMED


@pytest.mark.parametrize(
    ("name", "look"), [("unbounded receipt", "counts"), ("no clamp", "mean"), ("only what sold is listed", "cells")]
)
def test_a_mistake_on_the_release_path_is_caught(name: str, look: str) -> None:
    found = lower_bound(*waiting_worlds(partial(path, look=look, mutant=True), MUTANT_RUNS, 4))
    print(f"{name}: {found:.2f} of {CLAIMED}")
    assert found > CLAIMED


@pytest.mark.parametrize("way", MISTAKES, ids=lambda way: way.__name__)
def test_a_mistake_in_the_ledger_is_caught(way: Try) -> None:
    found = lower_bound(*waiting_worlds(partial(ledger_run, way=way, mutant=True), MUTANT_RUNS, 5))
    print(f"{way.__name__}: {found:.2f} of {CLAIMED}")
    assert found > CLAIMED


# --- the audit itself -------------------------------------------------------------------------------------------------


def test_the_bounds_are_those_of_clopper_and_pearson() -> None:
    # Clopper & Pearson 1934: the bounds solve the binomial tails; here by summing those tails.
    low, high = clopper_pearson(7, 50)
    assert beta_cdf(low, 7, 44) == pytest.approx(0.025, abs=1e-9)
    assert beta_cdf(high, 8, 43) == pytest.approx(0.975, abs=1e-9)
    assert low == pytest.approx(0.0582, abs=1e-4)
    assert high == pytest.approx(0.2674, abs=1e-4)
    assert clopper_pearson(0, 50)[1] == pytest.approx(1 - 0.025 ** (1 / 50), abs=1e-9)
    assert clopper_pearson(50, 50)[0] == pytest.approx(0.025 ** (1 / 50), abs=1e-9)
    assert (clopper_pearson(0, 50)[0], clopper_pearson(50, 50)[1]) == (0.0, 1.0)


def test_worlds_that_are_the_same_cannot_be_told_apart() -> None:
    def blind(rng: object, there: bool) -> float:
        return counted(rng, False)  # type: ignore[arg-type]

    assert bound(blind) < 0.1


def test_worlds_that_never_meet_are_told_apart_as_well_as_the_runs_allow() -> None:
    def plain(rng: object, there: bool) -> float:
        return float(there)

    assert bound(plain) > 7
