"""`pomona-trainer`: simulate, train, export, evaluate, worth. Loads torch only to train and export a network."""

import argparse
import sys
from collections.abc import Sequence

from edge.errors import PomonaError
from trainer.cli import evaluate, simulate, train, worth


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="pomona-trainer", description="Central training of Pomona's pricing policy.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in (simulate, train, evaluate, worth):
        group.register(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 refused or failed with one line on stderr, 2 wrong usage."""
    args = parser().parse_args(argv)
    try:
        code: int = args.run(args)
    except PomonaError as error:
        print(f"pomona-trainer: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"pomona-trainer: {error.name} is not installed; pip install 'pomona[trainer]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pomona-trainer: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
