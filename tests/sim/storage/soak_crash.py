"""Two million crash states of the log, judged one by one. Run by `make soak`.

`python tests/sim/storage/soak_crash.py [--states N] [--seed S] [--processes P]` prints progress and the counts; exits 1
on the first violation, with the seed that repeats it: `--only SEED`.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from support_crash_trial import Trial, Violation

from edge.storage import compaction

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

compaction.STEP_BYTES = 512  # in every process: so that a rewrite takes several steps
BATCH = 20  # trials between two reports of a process: about two seconds


def work(first: int, step: int, results: "SimpleQueue[tuple[dict[str, int], int, str]]") -> None:
    """Trials first, first + step, ... for ever; reports (states by kind, trials, violation) after each batch."""
    os.nice(5)
    states: Counter[str] = Counter()
    for done in count(1):
        seed = first + (done - 1) * step
        try:
            Trial(seed, faulty=seed % 4 >= 2, discarding=seed % 8 >= 4, states=states).run()
        except Violation as violation:
            results.put((dict(states), done % BATCH or BATCH, str(violation)))
            return
        if done % BATCH == 0:
            results.put((dict(states), BATCH, ""))
            states.clear()


def main() -> int:
    """Run until `--states` states were judged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=10_000_000, help="first seed (default: beyond those of the tests)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", type=int, help="run this one seed, with and without faults and discarding")
    options = parser.parse_args()
    if options.only is not None:
        for faulty in (False, True):
            for discarding in (False, True):
                Trial(options.only, faulty=faulty, discarding=discarding).run()
        print(f"seed {options.only}: no violation")
        return 0
    context = multiprocessing.get_context("spawn")
    results: SimpleQueue[tuple[dict[str, int], int, str]] = context.SimpleQueue()
    workers = [
        context.Process(target=work, args=(options.seed + index, options.processes, results), daemon=True)
        for index in range(options.processes)
    ]
    for worker in workers:
        worker.start()
    states: Counter[str] = Counter()
    trials, started, failed = 0, time.monotonic(), ""
    while states.total() < options.states and not failed:
        some, done, failed = results.get()
        states.update(some)
        trials += done
        rate = states.total() / (time.monotonic() - started)
        end = "\r" if sys.stdout.isatty() else "\n"
        if end == "\r" or trials % (BATCH * 50) == 0:
            print(f"{states.total():>10,} states  {trials:>8,} trials  {rate:>7,.0f} states/s", end=end, flush=True)
    for worker in workers:
        worker.terminate()
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in sorted(states.items()))
    print(f"{states.total():,} crash states in {trials:,} chains of 6 crashes from seed {options.seed} ({kinds})")
    print(f"VIOLATION: {failed}" if failed else "0 violations")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
