"""Run the benchmarks and write `build/bench.json`: a list of rows, each measured beside its peer in the same run.

A row: `{name, unit, ours, reference, reference_name, ratio, better: higher|lower, target, met}`. Nothing here passes or
fails: a missed target is printed as missed. Each `bench_*.py` beside this file has `rows(seconds) -> list[dict]`.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
QUICK = (
    "bench_storage",
    "bench_pos",
    "bench_agent",
    "bench_box",
    "bench_peers",
    "bench_messages",
    "bench_sync",
    "bench_network",
)
FULL = ("bench_growth", "bench_trainer")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="where the rows go")
    parser.add_argument(
        "--full", action="store_true", help="also cores of a million blocks and the learning benchmarks"
    )
    parser.add_argument("--only", action="append", help="one benchmark module; may be repeated")
    parser.add_argument("--seconds", type=float, default=60.0, help="time to spend on each module, about (default 60)")
    options = parser.parse_args()
    names = options.only or [*QUICK, *(FULL if options.full else ())]
    rows: list[dict[str, object]] = []
    notes: list[str] = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        started = time.monotonic()
        module = load(name)
        found = module.rows(options.seconds)
        notes += [module.NOTE] if hasattr(module, "NOTE") else []
        rows.extend(found)
        print(f"{name}: {len(found)} rows in {time.monotonic() - started:.0f} s", file=sys.stderr)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"machine: {os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}")
    print(f"{'name':<52} {'ours':>12} {'reference':>12} {'ratio':>8}  target")
    for row in rows:
        reference = "" if row.get("reference") is None else f"{row['reference']:,.3g}"
        ratio = "" if row.get("ratio") is None else f"{row['ratio']:.3g}"
        verdict = {True: "met", False: "MISSED", None: ""}[row.get("met")]  # type: ignore[index]
        left = f"{row['name']!s:<52} {row['ours']:>12,.4g} {reference:>12} {ratio:>8}"
        print(f"{left}  {row.get('target') or ''} {verdict}  [{row['unit']}]")
    for note in notes:
        print(note)
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
