"""`pomona-trainer evaluate`: every policy on real weeks, or on held-out simulated shops."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import ConfigError

if TYPE_CHECKING:  # numpy and ONNX Runtime are loaded when the command runs
    from trainer.policies import Policy

SHIPPED = Path(__file__).resolve().parents[2] / "edge/agent/policy/pomona.onnx"
PACKS = ("no-carry-over", "stockpiling", "training")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "evaluate",
        help="compare hold, cost-plus, static, bandit, plug-ins, look-ahead and SAC",
        description="On real weeks (--data) or on held-out simulated shops (--simulator). All through the same guard.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="FILE", help="weekly sales, the columns of `pomona replay`")
    source.add_argument("--simulator", action="store_true", help="held-out simulated shops")
    parser.add_argument("--policy", type=Path, help="ONNX file (default: the one this installation ships)")
    parser.add_argument("--test-from", type=int, metavar="WEEK", help="first test week (default: the last fifth)")
    parser.add_argument("--stores", metavar="A,B,..", help="only these stores")
    parser.add_argument("--bootstrap", type=int, default=400, help="resamples of weeks (default: %(default)s)")
    parser.add_argument("--pack", choices=PACKS, action="append", help="default: no-carry-over and stockpiling")
    parser.add_argument("--seeds", type=int, default=20, help="of the simulator (default: %(default)s)")
    parser.add_argument("--shops", type=int, default=4, help="per seed (default: %(default)s)")
    parser.add_argument("--weeks", type=int, default=52, help="per shop (default: %(default)s)")
    parser.add_argument(
        "--model-error",
        type=float,
        default=0.0,
        help="0: boxes know demand exactly; 1: the errors of an estimate from a year (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    for name, low, high in (("bootstrap", 2, 100_000), ("seeds", 1, 10_000), ("shops", 1, 10_000), ("weeks", 1, 1040)):
        if not low <= getattr(args, name) <= high:
            raise ConfigError(f"--{name}", f"{getattr(args, name)} is outside {low}..{high}")
    if not 0.0 <= args.model_error <= 2.0:
        raise ConfigError("--model-error", f"{args.model_error} is outside 0..2")
    from trainer import policies  # noqa: PLC0415

    if args.policy is None and not SHIPPED.exists():
        raise ConfigError("--policy", "this installation ships none; give a file")
    agent = policies.load(args.policy or SHIPPED)
    return _replay(args, policies.lineup(agent, 0)) if args.data else _simulate(args, policies.lineup(agent, 0))


def _replay(args: argparse.Namespace, makers: "dict[str, Callable[[], Policy]]") -> int:
    from trainer import desk, evaluate, ingest, replay  # noqa: PLC0415

    stores = None if args.stores is None else [store for store in args.stores.split(",") if store]
    panels = ingest.read(args.data, stores)
    test_from = replay.default_test_from(panels) if args.test_from is None else args.test_from
    results = replay.evaluate(
        panels,
        test_from,
        makers,
        desk.COMPARISON_RULES,
        bootstrap=args.bootstrap,
        progress=_progress("policies"),
    )
    data = evaluate.replay_json(args.data, panels, test_from, results, desk.COMPARISON_RULES)
    print(json.dumps(data) if args.json else evaluate.replay_table(data))
    return 0


def _simulate(args: argparse.Namespace, makers: "dict[str, Callable[[], Policy]]") -> int:
    from trainer import contest, evaluate  # noqa: PLC0415
    from trainer.belief import Ignorance  # noqa: PLC0415
    from trainer.sim.randomise import PACKS as ALL  # noqa: PLC0415

    config = contest.ContestConfig(
        seeds=args.seeds,
        shops=args.shops,
        weeks=args.weeks,
        ignorance=Ignorance(args.model_error, args.model_error),
    )
    answers = []
    for pack in args.pack or PACKS[:2]:
        scores = contest.run(ALL[pack], makers, config, _progress(f"seeds of {pack}"))
        answers.append(evaluate.contest_json(pack, config, scores))
    print(json.dumps(answers) if args.json else "\n\n".join(evaluate.contest_table(answer) for answer in answers))
    return 0


class _Progress:
    def __init__(self, what: str) -> None:
        self._what = what

    def __call__(self, done: int, of: int) -> None:
        print(f"{done}/{of} {self._what}", file=sys.stderr, end="\n" if done == of else "\r", flush=True)


def _progress(what: str) -> _Progress | None:
    return _Progress(what) if sys.stderr.isatty() else None
