"""`pomona-trainer train` and `export`: make the policy that a box runs."""

import argparse
import json
import sys
import time
from pathlib import Path

from edge.errors import ConfigError
from trainer.reproducible import restart_pinned

SHIPPED = Path("edge/agent/policy/pomona.onnx")
BUILD = Path("build/training")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommands."""
    train = commands.add_parser(
        "train",
        help="train the policy and compare it with the one in the repository",
        description="Train with the shipped recipe (minutes on one core; same result on every x86-64 machine).",
    )
    train.add_argument("--out", type=Path, default=BUILD / "pomona.onnx", help="the policy (default: %(default)s)")
    train.add_argument("--checkpoint", type=Path, default=BUILD / "checkpoint.pt", help="default: %(default)s")
    train.add_argument("--compare", type=Path, help=f"a policy to compare golden outputs with (default: {SHIPPED})")
    train.add_argument("--seed", type=int, default=0, help="default: %(default)s, the shipped policy's")
    train.add_argument("--steps", type=int, help="environment steps, instead of the recipe's")
    train.add_argument("--json", action="store_true", help="one JSON object instead of words")
    train.set_defaults(run=_train)
    export = commands.add_parser("export", help="write a checkpoint as ONNX again")
    export.add_argument("--checkpoint", type=Path, default=BUILD / "checkpoint.pt", help="default: %(default)s")
    export.add_argument("--out", type=Path, required=True, help="the policy")
    export.add_argument("--json", action="store_true", help="one JSON object instead of words")
    export.set_defaults(run=_export)


def _train(args: argparse.Namespace) -> int:
    if args.steps is not None and args.steps < 1:
        raise ConfigError("--steps", "at least 1")
    restart_pinned(sys.argv[1:])
    from dataclasses import replace  # noqa: PLC0415

    from trainer.export import GOLDEN_TOLERANCE, build, golden_difference  # noqa: PLC0415  # loads torch
    from trainer.sac import Progress  # noqa: PLC0415
    from trainer.train import TrainingRun, run  # noqa: PLC0415

    recipe = TrainingRun(seed=args.seed)
    if args.steps is not None:
        recipe = replace(recipe, sac=replace(recipe.sac, steps=args.steps))
    shipped_recipe = args.seed == 0 and args.steps is None
    began = time.process_time()
    rewards: list[float] = []

    def report(progress: Progress) -> None:
        rewards.append(progress.reward)
        if progress.step % 10 == 0 or progress.step == progress.steps:
            mean = sum(rewards) / len(rewards)
            rewards.clear()
            seconds = time.process_time() - began
            left = seconds / progress.step * (progress.steps - progress.step)
            line = f"step {progress.step}/{progress.steps}  reward {mean:+.3f}  {seconds:.0f} CPU-s, {left:.0f} left"
            print(line, file=sys.stderr, end="\r" if sys.stderr.isatty() else "\n", flush=True)

    trained = run(recipe, report)
    trained.save(args.checkpoint)
    data = build(trained)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(data)
    answer = {
        "policy": str(args.out),
        "checkpoint": str(args.checkpoint),
        "bytes": len(data),
        "cpu_seconds": round(time.process_time() - began, 1),
        "golden_difference": None,
    }
    compare = args.compare or (SHIPPED if shipped_recipe and SHIPPED.exists() else None)
    if compare is not None:
        answer["compared_with"] = str(compare)
        difference = golden_difference(_read(compare), data)
        answer["golden_difference"] = difference
    if args.json:
        print(json.dumps(answer))
    else:
        print(f"\n{args.out}: {len(data)} bytes after {answer['cpu_seconds']} CPU-s")
        if compare is not None:
            print(f"golden outputs of {compare}: greatest difference {difference:.2g} (tolerance {GOLDEN_TOLERANCE:g})")
    return 0 if compare is None or difference <= GOLDEN_TOLERANCE else 1


def _export(args: argparse.Namespace) -> int:
    if not args.checkpoint.is_file():
        raise ConfigError("--checkpoint", f"{args.checkpoint} is no file")
    restart_pinned(sys.argv[1:])  # the golden outputs are computed here: their last bit, too, should be the same
    from trainer.export import Trained, build  # noqa: PLC0415  # loads torch

    data = build(Trained.load(args.checkpoint))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(data)
    print(json.dumps({"policy": str(args.out), "bytes": len(data)}) if args.json else f"{args.out}: {len(data)} bytes")
    return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError("--compare", f"{path} cannot be read: {error.strerror}") from error
