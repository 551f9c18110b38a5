"""`pomona-trainer worth`: what a network of shops is worth to a new shop, on real weeks or in simulated years."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from edge.errors import ConfigError

CASES = ("no-memory", "known", "pantry")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand and its two kinds."""
    parser = commands.add_parser(
        "worth",
        help="what peers are worth to a new shop",
        description="What a new shop gains by what other shops tell it about demand, with and without privacy noise.",
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    on_real = kinds.add_parser(
        "real",
        help="forecasts and elasticities on real weeks",
        description="Every store in turn is new; its peers know only the weeks before. Five minutes for 61 stores.",
    )
    on_real.add_argument(
        "--data", type=Path, metavar="FILE", required=True, help="weekly sales, the columns of `pomona replay`"
    )
    on_real.add_argument("--bootstrap", type=int, default=1000, help="resamples (default: %(default)s)")
    on_real.add_argument("--seed", type=int, default=0, help="of peers, noise and resamples (default: %(default)s)")
    on_real.set_defaults(run=_real)
    on_simulated = kinds.add_parser(
        "simulated",
        help="lost profit in simulated years",
        description="A new shop by how many peers it has, against one that knows its demand. Twelve seconds a seed.",
    )
    on_simulated.add_argument(
        "--case",
        choices=CASES,
        default=CASES[0],
        help="no-memory: demand without stockpiling, any category; known: the same, the category that the shipped "
        "prior was measured on; pantry: stockpiling and promotions (default: %(default)s)",
    )
    on_simulated.add_argument("--seeds", type=int, default=30, help="default: %(default)s")
    on_simulated.add_argument("--shops", type=int, default=2, help="new shops a seed (default: %(default)s)")
    on_simulated.add_argument("--weeks", type=int, default=52, help="after the first (default: %(default)s)")
    on_simulated.add_argument("--svg", type=Path, metavar="FILE.svg", help="the curves too")
    on_simulated.set_defaults(run=_simulated)
    for kind in (on_real, on_simulated):
        kind.add_argument("--json", action="store_true", help="one JSON object instead of tables")
        kind.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")


def _real(args: argparse.Namespace) -> int:
    _bounded(args, bootstrap=(20, 100_000), seed=(0, 2**31))
    from trainer import ingest  # noqa: PLC0415
    from trainer.worth import real, report  # noqa: PLC0415

    panel = ingest.read(args.data)[0]
    config = real.RealConfig(bootstrap=args.bootstrap, seed=args.seed)
    result = real.measure(panel, config, _progress("openings"))
    _answer(args, json.dumps(report.real_json(result)) if args.json else report.real_markdown(result))
    return 0


def _simulated(args: argparse.Namespace) -> int:
    _bounded(args, seeds=(1, 10_000), shops=(1, 1000), weeks=(1, 520))
    from trainer.worth import curves, report, simulated  # noqa: PLC0415

    config = simulated.SimulatedConfig(seeds=args.seeds, shops=args.shops, weeks=args.weeks)
    result = simulated.run(simulated.CASES[args.case], config, _progress("seeds"))
    if args.svg is not None:
        _write("--svg", args.svg, curves.svg(result))
    _answer(args, json.dumps(report.simulated_json(result)) if args.json else report.simulated_markdown(result))
    return 0


def _bounded(args: argparse.Namespace, **bounds: tuple[int, int]) -> None:
    for name, (low, high) in bounds.items():
        if not low <= getattr(args, name) <= high:
            raise ConfigError(f"--{name}", f"{getattr(args, name)} is outside {low}..{high}")


def _answer(args: argparse.Namespace, text: str) -> None:
    if args.out is None:
        print(text)
    else:
        _write("--out", args.out, text + "\n")


def _write(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(option, f"{path} cannot be written: {error.strerror}") from error


def _progress(what: str) -> Callable[[int, int], None] | None:
    """Counts on a terminal, with the time that is left at the pace so far."""
    if not sys.stderr.isatty():
        return None
    started = time.monotonic()

    def show(done: int, of: int) -> None:
        left = (time.monotonic() - started) / done * (of - done)
        end = "\n" if done == of else "\r"
        print(f"{done}/{of} {what}, about {left / 60.0:.1f} min left ", file=sys.stderr, end=end, flush=True)

    return show
