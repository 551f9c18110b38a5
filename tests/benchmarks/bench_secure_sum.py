"""Sums between owners: how far the combined log-mean is off, and what a round costs a member.

Error: each trial draws the owners' log-means, plans the window, quantises, adds each member's own discrete Gaussian and
combines the groups, all with the box's code; masks are left out, because they cancel exactly (tests). The error is the
release minus the plain mean of the owners, in log units. Beside it: the same rho as central Gaussian noise, and the
published figures for central Laplace noise at epsilon 0.9 (one store an owner), which have no delta.

Cost: CPU time of one member that reads every feed of its group and publishes its five messages.

    python tests/benchmarks/bench_secure_sum.py [--trials N] [--json]
"""

import argparse
import importlib
import json
import math
import random
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.crypto.hashing import hash256
from edge.privacy.mechanism import discrete_gaussian, epsilon_of_rho, rho_of_epsilon
from edge.privacy.secure_sum import Board, Closer, Member, Participant, Quantiser, Sum, combine, make_plan
from edge.privacy.secure_sum.accounting import variance_for
from edge.privacy.secure_sum.messages import Step

EPSILON: Final = 0.9
DELTA: Final = 1e-5
CLIP: Final = 0.5
SPREAD: Final = 0.15  # standard deviation of owners' log-means about the market's
OWNERS: Final = (5, 10, 20, 40, 80)
TRIALS: Final = 400
CENTRAL_LAPLACE: Final = {5: (0.21, 0.59), 10: (0.068, 0.24), 20: (0.041, 0.135), 40: (0.027, 0.080)}
SUPPORT: Final = Path(__file__).parents[1] / "edge" / "privacy" / "secure_sum"

Errors = dict[str, tuple[float, float]]


def _people(owners: int) -> list[Member]:
    return [Member(hash256(number.to_bytes(4, "big")), f"owner {number}") for number in range(owners)]


def _sum(
    group: tuple[Member, ...], true: dict[str, float], quantiser: Quantiser, rho: Fraction, rng: random.Random
) -> Sum:
    variance = variance_for(rho, quantiser.sensitivity, len(group), quantiser.dimension)
    total = sum(quantiser.to_steps([true[each.owner]], 1)[0] for each in group)
    total += sum(discrete_gaussian(variance, rng.getrandbits) for _ in group)
    return Sum((total,), tuple(range(len(group))), Fraction(len(group)), len(group) * variance)


def errors(owners: int, trials: int, seed: int) -> Errors:
    """Median and 90th percentile of |error|, by way of combining, over `trials`."""
    rng, quantiser = random.Random(seed), Quantiser(1, CLIP, CLIP)
    rho = rho_of_epsilon(Fraction(EPSILON), Fraction(DELTA))
    members = _people(owners)
    central = quantiser.sensitivity / math.sqrt(2 * rho) / quantiser.steps * CLIP / owners
    found: dict[str, list[float]] = {"planned": [], "one group": [], "central Gaussian": []}
    for window in range(trials):
        true = {each.owner: min(max(rng.gauss(0, SPREAD), -CLIP), CLIP) for each in members}
        mean = sum(true.values()) / owners
        groups = make_plan(bytes(32), window, b"bench", members).groups
        sums = [_sum(group, true, quantiser, rho, rng) for group in groups]
        found["planned"].append(combine(sums, len(groups), quantiser).means[0] - mean)
        if len(groups) > 1:
            sums = [_sum(tuple(members), true, quantiser, rho, rng)]
        found["one group"].append(combine(sums, 1, quantiser).means[0] - mean)
        drawn = mean + rng.gauss(0, central)
        found["central Gaussian"].append(min(max(drawn, -CLIP), CLIP) - mean)
    quantiles = {name: np.quantile(np.abs(values), (0.5, 0.9)) for name, values in found.items()}
    return {name: (float(low), float(high)) for name, (low, high) in quantiles.items()}


def cost(members: int, dimension: int, repeats: int) -> dict[str, float]:
    """CPU milliseconds of one member for a whole round with noise, and the bytes that it publishes and reads."""
    if str(SUPPORT) not in sys.path:
        sys.path.insert(0, str(SUPPORT))
    support: Any = importlib.import_module("support_secure_sum")
    quantiser = Quantiser(dimension, CLIP, CLIP)
    variance = variance_for(
        rho_of_epsilon(Fraction(EPSILON), Fraction(DELTA)), quantiser.sensitivity, members, dimension
    )
    round_ = support.make_round(
        support.people(members), dimension=dimension, clip=quantiser.steps, noise=variance, closers=1
    )
    times = []
    for seed in range(repeats):
        world = support.World(round_, [(0,) * dimension] * members, seed)
        me, spent = world.ids[-1], 0.0
        started = time.process_time()
        participant = Participant(Board(round_), me, (0,) * dimension, random.Random(seed).getrandbits)
        spent += time.process_time() - started
        world.boxes[me].participant = participant
        read = dict.fromkeys(world.feeds, 0)
        for step in (*Step, None):
            world.offline = {me}
            world.settle()
            for turn in (0, 1):  # its acknowledgement comes before what it reveals
                started = time.process_time()
                for writer, feed in world.feeds.items():
                    for block in feed[read[writer] :] if writer != me else []:
                        participant.receive(writer, block)
                    read[writer] = len(feed)
                blocks = participant.next()
                participant.export()
                for block in blocks:
                    participant.receive(me, block)
                spent += time.process_time() - started
                world.feeds[me] += blocks
                world.settle()
                assert turn or blocks or step is None
            world.offline = set()
            world.settle()
            if step is not None:
                closer = world.round.closers[0]
                block = Closer(world.boxes[closer].participant.board, closer).cut()
                world.feeds[closer].append(block)
                world.boxes[closer].participant.receive(closer, block)
        assert participant.done
        assert participant.stopped is None
        assert world.result() is not None
        times.append(1000 * spent)
        sent = sum(map(len, world.feeds[me]))
        total = sum(len(block) for feed in world.feeds.values() for block in feed)
    return {"cpu_ms": float(np.median(times)), "sent_bytes": sent, "read_bytes": total - sent}


def rows(seconds: float) -> list[dict[str, object]]:
    """The figures as rows of the benchmarks."""
    plain: dict[str, object] = {"ratio": None, "better": "lower", "target": None, "met": None}
    found: list[dict[str, object]] = []
    for owners in OWNERS:
        measured = errors(owners, max(200, min(TRIALS, int(5 * seconds))), seed=owners)
        for place, quantile in enumerate(("median", "p90")):
            reference = CENTRAL_LAPLACE.get(owners, (None, None))[place]
            for way, values in measured.items():
                name = f"secure sum: |error| of the log-mean, {owners} owners, {way}, {quantile}"
                row = {"name": name, "unit": "log", "ours": values[place], "reference": reference}
                found.append({**plain, **row, "reference_name": "central Laplace" if reference else ""})
    for members in (10, 30):
        for dimension in (1, 11):
            measured_cost = cost(members, dimension, repeats=3)
            for what, value in measured_cost.items():
                unit = "ms" if what == "cpu_ms" else "bytes"
                name = f"secure sum: {what.split('_')[0]} of a member, {members} members, {dimension} values"
                found.append(
                    {**plain, "name": name, "unit": unit, "ours": value, "reference": None, "reference_name": ""}
                )
    return found


def main() -> int:
    """Print the tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rho = rho_of_epsilon(Fraction(EPSILON), Fraction(DELTA))
    table = {owners: errors(owners, options.trials, seed=owners) for owners in OWNERS}
    costs = {(members, size): cost(members, size, repeats=3) for members in (10, 30) for size in (1, 11)}
    if options.json:
        figures = {
            "epsilon": epsilon_of_rho(rho, Fraction(DELTA)),
            "delta": DELTA,
            "rho": float(rho),
            "trials": options.trials,
            "errors": {
                str(owners): {**each, "central Laplace": CENTRAL_LAPLACE.get(owners)} for owners, each in table.items()
            },
            "costs": [{"members": key[0], "values": key[1], **each} for key, each in costs.items()],
        }
        print(json.dumps(figures, indent=1))
        return 0
    print(
        f"epsilon {EPSILON}, delta {DELTA}: rho {float(rho):.5f}; clip ±{CLIP}; {options.trials} trials; median / p90"
    )
    ways = list(table[OWNERS[0]])
    print("owners  " + "".join(f"{way:>18}" for way in (*ways, "central Laplace")))
    for owners, each in table.items():
        cells = [*each.values(), CENTRAL_LAPLACE.get(owners)]
        print(
            f"{owners:>6}  "
            + "".join(f"{'–' if cell is None else f'{cell[0]:.3f} / {cell[1]:.3f}':>18}" for cell in cells)
        )
    for (members, size), each_cost in costs.items():
        told = "{cpu_ms:.1f} ms CPU, publishes {sent_bytes} bytes, reads {read_bytes}".format(**each_cost)
        print(f"{members} members, {size} values: a member spends {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
