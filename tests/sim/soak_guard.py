"""Ten million random policy outputs over random catalogues, each published price judged by the independent checker.

Run by `make soak`; `python tests/sim/soak_guard.py [--outputs N] [--seed S]`. Prints progress and the counts, exits 1
on the first breach with the seed that repeats it.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "edge" / "agent"))

from support_guard import breaches, shop, tries

from edge.agent.guard import project
from edge.agent.rules import Rule

SHOPS, TURNS = 64, 8


def main() -> int:
    """Run until `--outputs` prices were judged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--outputs", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    outputs = changed = unusable = wild = 0
    rules_hit: Counter[str] = Counter()
    seed, start, told = arguments.seed, time.monotonic(), 0.0
    while outputs < arguments.outputs:
        rng = np.random.default_rng(seed)
        for attempt, box in tries(rng, (SHOPS, int(rng.choice([1, 2, 5, 11, 30, 60]))), TURNS):
            asked, given, rules, gain = attempt
            result = project(asked, given, rules, gain=gain)
            box.append(result)
            for index in range(SHOPS):
                one, published = shop(given, result, index)
                found = breaches(asked[index], one, rules, None if gain is None else gain[index], published)
                if found:
                    print(f"BREACH seed {seed} shop {index}: {found}\n{rules}\n{one}", file=sys.stderr)
                    return 1
            outputs += asked.size
            changed += int(np.sum(result.changed))
            wild += int(np.sum(~(np.abs(asked) <= rules.asked_max)))
            unusable += int(np.sum((result.rules & int(Rule.INPUT)) != 0))
            for rule in Rule:
                rules_hit[str(rule.name).lower()] += int(np.sum((result.rules & int(rule)) != 0))
        seed += 1
        now = time.monotonic() - start
        if now - told > 10:
            told = now
            print(f"{outputs:>12,} of {arguments.outputs:,} outputs, 0 breaches, {now:.0f} s", flush=True)
    print(f"{outputs:,} policy outputs ({wild:,} not finite or absurd, {unusable:,} without usable limits): 0 breaches")
    print(f"{changed:,} prices changed, {time.monotonic() - start:.0f} s; rules that bound:")
    for rule_name, hits in rules_hit.items():
        print(f"  {rule_name:<12}{hits:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
