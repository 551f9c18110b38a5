"""What an attacker sees of our privacy layers, and of copies of them with one mistake each.

Every function here plays one run: `(rng, there) -> number`, what the attacker computes from the release, with the one
receipt `there` or not. Those of mechanisms are numbers of the likelihood-ratio kind; those of ledgers average whatever
bytes the ledger could be talked into giving out. `mutant` turns the mistake on.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Container, Iterable
from fractions import Fraction

from support_privacy import NETWORK, Disk, PowerCut, Step, receipt

from edge.encoding import cbor
from edge.privacy import histogram
from edge.privacy.aggregate import Accumulator, Open, Window
from edge.privacy.anonymiser import Anonymiser, ReleaseRequest, Terms
from edge.privacy.budget import Budget, BudgetLedger, Caps, Spent
from edge.privacy.histogram import Ladder, Sums, add_noise, scales
from edge.privacy.identifiers import Cell, Contribution, Listed, PublicList
from edge.privacy.mechanism import discrete_gaussian, discrete_laplace
from edge.privacy.reservation import Charge, FloorRaised, ReleaseKey, Reservation, encode
from edge.privacy.rules import PrivacyRefused, PrivacyRules
from edge.records.message import Network
from edge.records.shared import RangeUpdate, Unit

ONE = Fraction(1)
LADDER = Ladder(50, 2)
CELLS_MAX = 2


def counted(rng: random.Random, there: bool) -> float:
    """A count with discrete Laplace noise; claimed epsilon 1."""
    return 10 + there + discrete_laplace(ONE, rng.getrandbits)


def gaussian(rng: random.Random, there: bool) -> float:
    """A count with discrete Gaussian noise; claimed rho 1/2."""
    return 10 + there + discrete_gaussian(ONE, rng.getrandbits)


def cells(rng: random.Random, there: bool) -> float:
    """Every noised sum of the cells that the receipt is in, weighed as the best test would; claimed epsilon 1."""
    scale = scales(ONE, CELLS_MAX, LADDER.clip_milli)
    score = 0.0
    for _ in range(CELLS_MAX):
        sums = Sums([5, 5])
        if there:
            sums.add(0, -LADDER.clip_milli, 1)
        noised = add_noise(sums, scale, rng.getrandbits)
        score += _leaning(noised.counts[0] - 5, 1, float(scale.counts))
        score += _leaning(noised.log_sum, -LADDER.clip_milli, float(scale.log_sum))
        score += _leaning(noised.square_sum, LADDER.clip_milli**2, float(scale.square_sum))
    return score


def _leaning(seen: float, moved: float, scale: float) -> float:
    """log-likelihood ratio of Laplace noise around `moved` against around 0."""
    return (abs(seen) - abs(seen - moved)) / scale


def data_dependent_sensitivity(rng: random.Random, there: bool) -> float:
    """BUG: the noise is scaled by the largest log price that was seen, not the clip. All others sold at list price."""
    largest = LADDER.clip_milli if there else 1
    sums = Sums([50, 50], -LADDER.clip_milli * there, 0)
    noised = add_noise(sums, scales(ONE, CELLS_MAX, largest), rng.getrandbits)
    return abs(noised.log_sum)


def rounded_before_noise(rng: random.Random, there: bool) -> float:
    """BUG: the exact sum is rounded to tens, and then noised as if it still moved by one: noise after rounding."""
    total = 4 + there
    return round((total + 0.5) / 10) * 10 + discrete_laplace(ONE, rng.getrandbits)


def threshold(rng: random.Random, there: bool, mutant: bool) -> float:
    """Whether a cell of 199 receipts (200 with the one) is shown. BUG: the exact number is compared."""
    sums = Sums([99, 100 + there])
    scale = scales(ONE, CELLS_MAX, LADDER.clip_milli)
    noised = add_noise(sums, scale, rng.getrandbits)
    if mutant:
        return float(sum(sums.counts) >= 200)
    return float(histogram.figures(noised, LADDER, scale, 200, 80) is not None)


def two_weeks(rng: random.Random, there: bool, mutant: bool) -> float:
    """Two counts of equal weeks, the receipt in the second; claimed epsilon 1. BUG: the generator starts anew."""
    seed = rng.getrandbits(64)
    first = random.Random(seed)
    second = random.Random(seed) if mutant else first
    before = 10 + discrete_laplace(ONE, first.getrandbits)
    return 10 + there + discrete_laplace(ONE, second.getrandbits) - before


FLOAT_DRAWS = 4096


def _float_noise(draw: int) -> float:
    return 3.5 * math.log((draw + 1) / FLOAT_DRAWS)


FLOAT_ANSWERS = {sign * _float_noise(draw) for draw in range(FLOAT_DRAWS) for sign in (-1, 1)}


def floating(rng: random.Random, there: bool, mutant: bool) -> float:
    """Whether the answer is one that world 0 can give. BUG: Laplace noise by the inverse formula, in floats."""
    if not mutant:
        return float((there + discrete_laplace(Fraction(7, 2), rng.getrandbits)) in range(-500, 501))
    return float(float(there) + rng.choice((-1, 1)) * _float_noise(rng.randrange(FLOAT_DRAWS)) in FLOAT_ANSWERS)


# --- the whole release path -------------------------------------------------------------------------------------------

RULES = PrivacyRules(lag_weeks=0, receipts_min=1, receipt_cells_max=1, ladder_rungs=2)
TERMS = Terms(NETWORK, Network.CONSORTIUM, 1, 10, RULES)
CATEGORIES = tuple(f"c{n:02}" for n in range(4))
LIST = PublicList("EUR", [Listed(name, name, 200) for name in CATEGORIES])
CAPS = Caps(Spent(ONE), Spent(Fraction(60)))
WINDOW = Window(2900, 4)
CROWD = [receipt(2900, [(name, 200)]) for name in CATEGORIES[:1]] * 20


class SoldOnly(PublicList):
    """BUG: the cells of a release are those that sold something."""

    def __init__(self, currency: str, items: Iterable[Listed], sold: Container[str]) -> None:
        super().__init__(currency, items)
        self.sold = sold

    def cells(self, item_level: bool) -> dict[Cell, int]:
        return {cell: price for cell, price in super().cells(item_level).items() if cell.category in self.sold}


class Unbounded(Accumulator):
    """BUG: a receipt counts with every line it has."""

    def _apply(self, window: Open, receipt: Contribution, times: int) -> None:
        for line in receipt.lines:
            super()._apply(window, Contribution(receipt.week, (line,)), times)


class Unclipped(Ladder):
    """BUG: no clamp."""

    def log_milli(self, price_minor: int, list_minor: int) -> int:
        return round(math.log(price_minor / list_minor) * 1000)


async def path(rng: random.Random, there: bool, look: str, mutant: bool) -> float:
    """From receipts to a release by the real path; claimed epsilon 1. `look` is what the attacker reads off it.

    `counts`: BUG: every line of a receipt counts. `mean`: BUG: no clamp. `cells`: BUG: only what sold is listed.
    """
    sold = {"counts": CATEGORIES * 4, "mean": CATEGORIES[:1], "cells": CATEGORIES[2:3]}[look]
    listed = LIST
    if mutant and look == "cells":
        listed = SoldOnly("EUR", LIST.items.values(), {*CATEGORIES[:2], *(sold if there else ())})
    found = Anonymiser(TERMS, listed, Disk().ledger(CAPS), rng.getrandbits, 2900)
    if mutant and look == "mean":
        found.accumulator.ladder = Unclipped(50, 2)
    if mutant and look == "counts":
        found.accumulator = Unbounded(found.accumulator.ladder, 4, 1, 160, 2900)
    for position, one in enumerate(CROWD):
        found.add(position, one)
    if there:
        found.add(len(CROWD), receipt(2900, [(name, 10**8) for name in sold]))
    token = await found.release(ReleaseRequest(found.key(WINDOW), 2904))
    counts = dict(token.receipts)
    if look == "counts":
        return sum(counts[Cell(name)] for name in (CATEGORIES if mutant else CATEGORIES[:1]))
    if look == "cells":
        return float(len(token.receipts))
    first = next((record for record in token.records if record.category in sold), None)
    return first.rows[0].log_mean if isinstance(first, RangeUpdate) else 0.0


# --- the ledger -------------------------------------------------------------------------------------------------------

COST = (Charge(Unit.RECEIPT, ONE),)
TRIES = 8


def key(first: int = 2900, weeks: int = 4, network: int = 0) -> ReleaseKey:
    return ReleaseKey(bytes([network]) * 32, "ranges", "", first, weeks)


class OnceCounted(Budget):
    """BUG: a week that has been charged is not charged again, and overlaps are let through."""

    def check(self, key: ReleaseKey, charges: tuple[Charge, ...], sources: tuple[ReleaseKey, ...] = ()) -> None:
        return

    def _charge(self, reservation: Reservation) -> None:
        return


class ByTheClock(Budget):
    """BUG: accounts are those of the week that the clock shows, not of the week that the data are of."""

    clock = 2904

    def check(self, key: ReleaseKey, charges: tuple[Charge, ...], sources: tuple[ReleaseKey, ...] = ()) -> None:
        for charge in charges:
            if (self.spent(charge.unit, self.clock) + Spent(charge.epsilon, charge.rho)).exceeds(self.caps.week):
                raise PrivacyRefused("this week's budget is spent", reason="week_spent")

    def _charge(self, reservation: Reservation) -> None:
        for charge in reservation.charges:
            account = (charge.unit, self.clock)
            self._accounts[account] = self.spent(*account) + Spent(charge.epsilon, charge.rho)


class SendsFirst(BudgetLedger):
    """BUG: the answer leaves before it is durable."""

    async def release(
        self,
        key: ReleaseKey,
        charges: tuple[Charge, ...],
        draw: Callable[[], bytes],
        sources: tuple[ReleaseKey, ...] = (),
        heard: int = 0,
    ) -> Reservation:
        return Reservation(key, charges, draw(), sources, heard)  # and then the power goes


class Attacked:
    """A ledger on its disk, and what an attacker who holds the box tries with it, time after time."""

    def __init__(self, floor: int, budget: type[Budget] = Budget, shell: type[BudgetLedger] = BudgetLedger) -> None:
        self.disk = Disk()
        self.disk.blocks.append(encode(FloorRaised(floor)))
        self.budget, self.shell = budget, shell

    def opened(self) -> BudgetLedger:
        """As a restart finds it."""
        budget = self.budget(CAPS)
        for block in self.disk.blocks:
            budget.apply(block)
        return self.shell(budget, self.disk.append)

    def wiped(self) -> BudgetLedger:
        """BUG: a restart that starts with an empty ledger."""
        del self.disk.blocks[1:]
        return self.opened()


async def overlapping(
    n: int, ledger: BudgetLedger, attacked: Attacked, mutant: bool
) -> tuple[ReleaseKey, BudgetLedger]:
    """Windows of many networks, all with the receipt's week in them."""
    return key(2897 + n % 4, 4, n), ledger


async def restarted(n: int, ledger: BudgetLedger, attacked: Attacked, mutant: bool) -> tuple[ReleaseKey, BudgetLedger]:
    """The same question after a restart."""
    return key(), attacked.wiped() if mutant else attacked.opened()


async def clock_set_back(
    n: int, ledger: BudgetLedger, attacked: Attacked, mutant: bool
) -> tuple[ReleaseKey, BudgetLedger]:
    """The clock is a week further back each time."""
    if isinstance(ledger.budget, ByTheClock):
        ledger.budget.clock = 2904 - n
    await ledger.raise_floor(2904 - n)
    return key(network=n), ledger


async def power_cut(n: int, ledger: BudgetLedger, attacked: Attacked, mutant: bool) -> tuple[ReleaseKey, BudgetLedger]:
    """Power goes before the block is written, and the question is asked again; the last time it stays."""
    attacked.disk.cut = Step.BEFORE if n < TRIES - 1 else None
    return key(), attacked.opened()


Try = Callable[[int, BudgetLedger, Attacked, bool], Awaitable[tuple[ReleaseKey, BudgetLedger]]]
MISTAKES: dict[Try, tuple[type[Budget], type[BudgetLedger]]] = {
    overlapping: (OnceCounted, BudgetLedger),
    restarted: (Budget, BudgetLedger),
    clock_set_back: (ByTheClock, BudgetLedger),
    power_cut: (Budget, SendsFirst),
}


async def ledger_run(rng: random.Random, there: bool, way: Try, mutant: bool) -> float:
    """The mean of the answers about one count that a ledger can be talked into; claimed: the week's cap, epsilon 1."""

    def draw() -> bytes:
        return cbor.encode(10 + there + discrete_laplace(ONE, rng.getrandbits))

    budget, shell = MISTAKES[way] if mutant else (Budget, BudgetLedger)
    attacked = Attacked(2920 if way is overlapping else 2904, budget, shell)
    ledger = attacked.opened()
    answers: list[int] = []
    for n in range(TRIES):
        wanted, ledger = await way(n, ledger, attacked, mutant)
        try:
            reservation = await ledger.release(wanted, COST, draw)
        except (PrivacyRefused, PowerCut):
            continue
        value = cbor.decode(reservation.payload)
        assert isinstance(value, int)
        answers.append(value)
    return sum(answers) / len(answers)


World = Callable[[random.Random, bool], float]
Waiting = Callable[[random.Random, bool], Awaitable[float]]


def worlds(play: World, runs: int, seed: int) -> tuple[list[float], list[float]]:
    """What the attacker sees in `runs` runs without the receipt and as many with it."""
    rng = random.Random(seed)
    return [play(rng, False) for _ in range(runs)], [play(rng, True) for _ in range(runs)]


def waiting_worlds(play: Waiting, runs: int, seed: int) -> tuple[list[float], list[float]]:
    """The same where a run awaits the ledger."""

    async def both() -> tuple[list[float], list[float]]:
        rng = random.Random(seed)
        return [await play(rng, False) for _ in range(runs)], [await play(rng, True) for _ in range(runs)]

    return asyncio.run(both())
