"""What the commands that ask a box have in common: `--config`, and the question itself."""

import argparse
from pathlib import Path
from typing import Any, Final

CONFIG_DEFAULT: Final = Path("/etc/pomona/pomona.toml")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, which names the box that is asked."""
    parser.add_argument(
        "--config", type=Path, default=CONFIG_DEFAULT, metavar="FILE", help=f"of the box (default {CONFIG_DEFAULT})"
    )


def ask_box(options: argparse.Namespace, command: str, **arguments: str | None) -> Any:
    """Ask the box of `--config`."""
    from edge.box.reader import inquire  # noqa: PLC0415 - help needs none of this
    from edge.config import load  # noqa: PLC0415

    return inquire(load(options.config), command, **arguments)
