"""`pomona-trainer simulate`: simulated shops, as a file of weekly sales, or live at the tills of a running box."""

import argparse
import json
from datetime import date
from pathlib import Path

from edge.errors import ConfigError

PACKS = ("no-carry-over", "stockpiling", "training")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the subcommand; returns its parser, so that the live form can add its own options."""
    parser = commands.add_parser(
        "simulate",
        help="simulated shops: weekly sales into a file",
        description="Weekly sales of simulated shops, in the columns of `pomona replay`. Same seed, same file.",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.csv[.gz]", help="the file to write")
    parser.add_argument("--stores", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--weeks", type=int, default=104, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--pack", choices=PACKS, default="stockpiling", help="kind of shops (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of words")
    live = parser.add_argument_group("shoppers at real tills, who react to the published prices")
    live.add_argument("--mqtt", metavar="HOST:PORT", help="ring at tills of this broker instead of writing a file")
    live.add_argument("--gln", metavar="GLN", help="of the shop")
    live.add_argument("--lanes", default="1,2,3", metavar="A,B,..", help="one till each (default: %(default)s)")
    live.add_argument("--passwords", type=Path, metavar="FILE.json", help="lane → password")
    live.add_argument("--spool", type=Path, metavar="DIR", help="where the tills keep what is not acknowledged")
    live.add_argument("--items", type=Path, metavar="FILE.csv", help="the item file, rewritten week by week")
    live.add_argument("--only-items", action="store_true", help="write the first week's item file and stop")
    live.add_argument("--first-monday", type=_monday, metavar="DATE", help="when the first week begins, 2026-03-30 say")
    live.add_argument("--paced", action="store_true", help="each week waits for a line on standard input")
    parser.set_defaults(run=_simulate)
    return parser


def _simulate(args: argparse.Namespace) -> int:
    if args.mqtt is not None or args.only_items:
        from trainer import shopping  # noqa: PLC0415

        return shopping.run(args)
    if args.out is None:
        raise ConfigError("--out", "give the file to write")
    for name, high in (("stores", 100_000), ("weeks", 10_000)):
        if not 1 <= getattr(args, name) <= high:
            raise ConfigError(f"--{name}", f"{getattr(args, name)} is outside 1..{high}")
    if args.seed < 0:
        raise ConfigError("--seed", "cannot be negative")
    from trainer.generate import write  # noqa: PLC0415
    from trainer.sim.randomise import PACKS as ALL  # noqa: PLC0415

    try:
        count = write(args.out, ALL[args.pack], stores=args.stores, weeks=args.weeks, seed=args.seed)
    except OSError as error:
        raise ConfigError("--out", f"{args.out} cannot be written: {error.strerror}") from error
    answer = {"file": str(args.out), "rows": count, "stores": args.stores, "weeks": args.weeks, "seed": args.seed}
    print(json.dumps(answer) if args.json else f"{args.out}: {count} rows of {args.stores} stores")
    return 0


def _monday(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date like 2026-03-30") from None
    if found.weekday() != 0:
        raise argparse.ArgumentTypeError(f"{text} is no Monday")
    return found
