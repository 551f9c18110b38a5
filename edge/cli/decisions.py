"""`pomona why`, `pomona decisions`, `pomona labels`: what a box decided and why, and which labels to print.

A running box is asked over its control socket; of a stopped one the ledger is read.
"""

import argparse
import base64
import json
from collections.abc import Callable
from typing import Any, cast

from edge.cli.asking import add_config, ask_box


def register_why(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `why`."""
    parser = _command(commands, "why", "why an item has its price", _why)
    parser.description = "The newest decision about an item: who asked for it, what bound it, what is expected of it."
    parser.add_argument("sku", metavar="SKU", help="the item's key in the item file")


def register_decisions(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `decisions`."""
    parser = _command(commands, "decisions", "the price decisions of a box", _decisions)
    parser.description = "The newest round of price decisions, one line an item."
    parser.add_argument("--category", metavar="NAME", help="one category alone")


def register_labels(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `labels`."""
    parser = _command(commands, "labels", "the print list of shelf labels that change", _labels)
    parser.description = "The labels that change with the newest price book, in the order of the shelves."
    parser.add_argument("--csv", action="store_true", help="for a label printer")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text)
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="everything that was recorded, as JSON")
    parser.set_defaults(run=run)
    return parser


def _why(options: argparse.Namespace) -> int:
    from edge.cli.why import render_why  # noqa: PLC0415
    from edge.records.decision import decode_decisions  # noqa: PLC0415

    answer = ask_box(options, "decisions", sku=options.sku)
    batches = [decode_decisions(base64.b64decode(block)) for block in answer["blocks"]]
    found = [decision for batch in batches if (decision := batch.find(options.sku)) is not None]
    print(render_why(found, answer["names"].get(options.sku, ""), as_json=options.json))
    return 0


def _decisions(options: argparse.Namespace) -> int:
    from edge.cli.why import render_decisions  # noqa: PLC0415
    from edge.records.decision import decode_decisions  # noqa: PLC0415

    answer = ask_box(options, "decisions", category=options.category)
    batches = [decode_decisions(base64.b64decode(block)) for block in answer["blocks"]]
    if not batches and not options.json:
        print("no decisions yet: no week of a category that is in shadow or live has begun")
        return 0
    print(render_decisions(batches, answer["names"], as_json=options.json))
    return 0


def _labels(options: argparse.Namespace) -> int:
    from edge.agent.explain import Label  # noqa: PLC0415
    from edge.cli.status import from_day  # noqa: PLC0415
    from edge.cli.why import render_labels  # noqa: PLC0415

    answer = ask_box(options, "labels")
    if options.json:
        print(json.dumps(answer, indent=2))
        return 0
    changes = [Label(**cast("dict[str, Any]", row)) for row in answer["labels"]]
    if not options.csv and answer["valid_from"] is not None:
        print(f"price book {answer['book']}, {from_day(answer['valid_from'])}:")
    print(render_labels(changes, as_csv=options.csv).rstrip("\n"))
    return 0
