"""`pomona run`: the service of one box."""

import argparse
import logging
from pathlib import Path
from typing import Final

_EXAMPLES: Final = """\
examples:
  pomona run --config /etc/pomona/pomona.toml            as systemd/pomona.service starts it
  pomona run --config pomona.toml --check                read the configuration, say what is wrong with it, and stop

Stops in order on SIGTERM and SIGINT. Sales that were acknowledged are in the ledger whatever happens.
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `run`."""
    parser = commands.add_parser(
        "run",
        help="the service of one box",
        description="Serve one shop: take sales from its tills, keep them, and publish its prices.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the box's TOML configuration")
    parser.add_argument("--check", action="store_true", help="check configuration and item file, then stop")
    levels = ("debug", "info", "warning", "error")
    parser.add_argument("--log-level", default="info", choices=levels, help="default info")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from edge.config import load  # noqa: PLC0415 - `pomona run --help` loads no numpy

    logging.basicConfig(
        level=options.log_level.upper(), format="%(levelname)s %(name)s: %(message)s"
    )  # systemd adds the time
    config = load(options.config)
    if options.check:
        return _check(options.config, config)
    from edge import app  # noqa: PLC0415

    return app.run(config)


def _check(path: Path, config: object) -> int:
    from edge.box.itemfile import ItemFile  # noqa: PLC0415
    from edge.config import Config  # noqa: PLC0415

    assert isinstance(config, Config)
    items = ItemFile(Path(config.shop.items) if config.shop.items else None, config.shop.currency).changed()
    print(f"{path}: shop {config.shop.gln}, {config.shop.currency}; {len(items or ())} items; nothing wrong")
    return 0
