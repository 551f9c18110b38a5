"""`pomona items`: check an item file before a box reads it; list the items of a box."""

import argparse
import json
from pathlib import Path

from edge.cli.asking import add_config, ask_box


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `items` and its actions."""
    parser = commands.add_parser(
        "items",
        help="check an item file; list the items of a box",
        description="The item file names what a shop sells, at what reference price and cost, within which limits.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="read an item file and say what is wrong with it")
    check.add_argument("file", type=Path, metavar="FILE.csv")
    check.add_argument("--currency", default="EUR", help="ISO 4217 (default EUR)")
    check.add_argument("--json", action="store_true", help="the counts as JSON")
    check.set_defaults(run=_check)
    listing = actions.add_parser("list", help="the items of a box with their prices")
    add_config(listing)
    listing.add_argument("--category", metavar="NAME", help="one category alone")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=_list)


def _check(options: argparse.Namespace) -> int:
    from edge.box.itemfile import ItemFile  # noqa: PLC0415 - help needs none of this

    items = ItemFile(options.file, options.currency).changed() or ()
    categories = {item.category for item in items}
    promotions = sum(len(item.promotions) for item in items)
    if options.json:
        print(json.dumps({"items": len(items), "categories": len(categories), "promotions": promotions}))
    else:
        counts = f"{len(items)} items in {len(categories)} categories, {promotions} promotions"
        print(f"{options.file}: {counts}; nothing wrong")
    return 0


def _list(options: argparse.Namespace) -> int:
    from edge.records.money import minor_per_unit  # noqa: PLC0415

    rows = ask_box(options, "items", category=options.category)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print(f"{'sku':<20} {'category':<20} {'mode':<7} {'reference':>10} {'price':>10} {'cost':>10}  name")
    for row in rows:
        unit = minor_per_unit(row["currency"])
        price = "-" if row["price_minor"] is None else f"{row['price_minor'] / unit:.2f}"
        cells = f"{row['sku']:<20} {row['category']:<20} {row['mode']:<7} {row['reference_minor'] / unit:>10.2f}"
        print(f"{cells} {price:>10} {row['cost_e4'] / 10_000:>10.4f}  {row['name']}")
    return 0
