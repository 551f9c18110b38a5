"""Every fuzz entry point under random, structured and mutated inputs. Run by `make soak`.

`python tests/sim/soak_fuzz.py [--executions N] [--seconds S] [--seed S]` prints the executions of each target and exits
1 if one broke the contract (`support_fuzzing.py`), with what repeats it: `--only TARGET --seed S --first NUMBER`.
"""

import argparse
import faulthandler
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "support"))

from support_fuzzing import Broken, run, targets

HANG_S = 60  # an input that takes so long hangs: the process says where, and ends
SLICE = 2000  # executions of one target between two looks at the clock


def main() -> int:
    """Turn by turn over all targets, until each has had its share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=1_000_000, help="of each target")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for each target, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", help="one target, by name")
    options = parser.parse_args()
    chosen = [target for target in targets() if options.only in (None, target.name)]
    if not chosen:
        parser.error(f"no target {options.only}; there are {', '.join(target.name for target in targets())}")
    broken = total = 0
    for target in chosen:
        started, done = time.monotonic(), 0
        try:
            while done < options.executions and (left := options.seconds - (time.monotonic() - started)) > 0:
                faulthandler.dump_traceback_later(HANG_S + left, exit=True)
                count = min(SLICE, options.executions - done)
                done += run(target, options.seed, executions=count, seconds=left, first=options.first + done)
        except Broken as error:
            traceback.print_exception(error.__cause__ or error, limit=-6)
            print(f"BROKEN: {error}", flush=True)
            broken += 1
        finally:
            faulthandler.cancel_dump_traceback_later()
        total += done
        rate = done / max(time.monotonic() - started, 1e-9)
        print(f"{target.name:<32} {done:>9,} executions  {rate:>8,.0f}/s  corpus {len(target.corpus)}", flush=True)
    print(f"{total:,} executions of {len(chosen)} targets, {broken} broke the contract")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
