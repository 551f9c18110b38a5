"""`pomona`: the command line. Each group of commands is a module of `edge.cli`, loaded only when it is asked for.

Exit codes: 0 done; 1 refused or failed, one clear line on stderr; 2 wrong usage.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from edge import __version__
from edge.errors import PomonaError

# command → (module of edge.cli and its function that registers it, one line of help). A module is imported for its own
# commands alone, so that `pomona feed list` does not pay for ONNX Runtime and `pomona --help` pays for nothing.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("demo:register", "the whole system on this machine: broker, shop, tills and shoppers"),
    "run": ("run:register", "the service of one box"),
    "replay": ("replay:register", "a till that publishes recorded sales over MQTT"),
    "tills": ("tills:register", "enrol, list and revoke tills; write the broker's configuration"),
    "items": ("items:register", "check an item file; list the items of a running box"),
    "status": ("status:register", "how a box is doing: tills, log, memory, prices, metrics"),
    "why": ("decisions:register_why", "why an item has its price"),
    "decisions": ("decisions:register_decisions", "the price decisions of a box"),
    "peers": ("networks:register_peers", "who is connected in which network"),
    "budget": ("networks:register_budget", "what left this shop, and what it cost in privacy"),
    "export": ("export:register", "sales, prices, decisions or insights as CSV or Parquet"),
    "labels": ("decisions:register_labels", "the print list of shelf labels that change"),
    "feed": ("feed:register", "create, append to, read, verify, serve and clone Hypercores"),
    "bee": ("bee:register", "sorted maps in a feed: put, get, del, range, diff, history"),
    "drive": ("drive:register", "folders of files in two feeds: put, get, ls, rm, mirror, diff"),
    "roster": ("roster:register", "who belongs to a network: found, invite, accept, revoke, show, serve"),
}
EXAMPLES: Final = """\
first steps:
  pomona demo                                  watch a shop sell and price for three minutes
  pomona run --config /etc/pomona/pomona.toml  the service (see systemd/pomona.service)
  pomona status --config FILE --json           every metric and health state of that box
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="pomona",
        description="A box in every shop that prices for itself.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pomona {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, (module, text) in COMMANDS.items():
        if name == chosen:
            group, _, function = module.partition(":")
            getattr(importlib.import_module(f"edge.cli.{group}"), function)(commands)
        else:
            commands.add_parser(name, help=text, add_help=False)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except PomonaError as error:
        print(f"pomona {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`pomona feed cat | head`); the interpreter must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
