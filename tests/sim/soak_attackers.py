"""What attackers cost a serving peer: its CPU per block of an honest client, without and with them, and its memory.

    python tests/sim/soak_attackers.py [--seconds N] [--scenario several,many,one,shared] [--scale F]

One process serves a core, one clones it again and again, one attacks at the rates of `support_attacks.RATES`. Phases
without and with attackers alternate in one run, so that what else the machine does meets both. Prints a table, then
the same as one line of JSON. Exits 1 if the memory grew by more than `MEMORY_GROWTH_MAX_MB`, the honest client got
nothing, or the CPU per honest block is above `CPU_RATIO_MAX`, from one address and from several.

`many` is a new address for each attacker, so that no ban ever meets one again: its CPU is stated, not judged. In
`shared` the attackers have the honest client's own address, which they get banned; only its memory is judged.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "attackers"))

from support_attack_trial import Result, trial

CPU_RATIO_MAX = 1.25
MEMORY_GROWTH_MAX_MB = 64.0
CPU_JUDGED = ("several", "one")


def main() -> int:
    """Run the scenarios one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=120.0, help="of each scenario")
    parser.add_argument("--phase-seconds", type=float, default=6.0)
    parser.add_argument("--blocks", type=int, default=20_000)
    parser.add_argument("--block-bytes", type=int, default=150)
    parser.add_argument("--scenario", default="several,many,one,shared")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the attackers' rates")
    parser.add_argument("--only", default="", help="attacks, by name, separated by commas")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    results = []
    for scenario in arguments.scenario.split(","):
        with tempfile.TemporaryDirectory() as folder:
            result = trial(
                Path(folder),
                scenario,
                seconds=arguments.seconds,
                phase_s=arguments.phase_seconds,
                blocks=arguments.blocks,
                block_bytes=arguments.block_bytes,
                scale=arguments.scale,
                only=arguments.only,
            )
        results.append(result)
        _show(result, verbose=arguments.verbose)
    print(json.dumps([result.as_json() for result in results]))
    bad = [result for result in results if not _good(result)]
    for result in bad:
        print(f"MISSED: {result.scenario}", file=sys.stderr)
    return 1 if bad else 0


def _good(result: Result) -> bool:
    if result.growth_mb > MEMORY_GROWTH_MAX_MB:
        return False
    if result.scenario == "shared":
        return True
    return result.clones_attacked > 0 and (result.scenario not in CPU_JUDGED or result.ratio <= CPU_RATIO_MAX)


def _show(result: Result, *, verbose: bool) -> None:
    calm, attacked = result.calm, result.attacked
    print(f"\nscenario {result.scenario}: {result.attackers_per_s:.0f} attackers a second")
    print(f"  {'':<12}{'seconds':>9}{'blocks':>10}{'blocks/s':>10}{'CPU s':>8}{'us/block':>10}{'clones':>8}")
    for name, phase in (("without", calm), ("with", attacked)):
        print(
            f"  {name:<12}{phase.seconds:>9.1f}{phase.blocks:>10,}{phase.blocks / phase.seconds:>10,.0f}"
            f"{phase.cpu_s:>8.2f}{phase.us_per_block:>10.1f}{phase.clones:>8}"
        )
    print(
        f"  CPU per honest block: {result.ratio:.3f} times (at most {CPU_RATIO_MAX});"
        f" memory {result.start_mb:.0f} MB, at most {result.growth_mb:+.1f} MB (at most +{MEMORY_GROWTH_MAX_MB:.0f});"
        f" honest client refused {result.refused} times {result.refusals or ''}"
    )
    if verbose:
        for title, counts in (("server", result.counters), ("attackers", result.attacks)):
            print(f"  {title}:")
            for name, value in sorted(counts.items()):
                print(f"    {name:<60}{value:>12,.0f}")


if __name__ == "__main__":
    sys.exit(main())
