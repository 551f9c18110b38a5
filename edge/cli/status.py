"""`pomona status`: how a running box is doing, at a glance or with every metric."""

import argparse
import json
import sys
from typing import Any

from edge.cli.asking import add_config, ask_box


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `status`."""
    parser = commands.add_parser(
        "status",
        help="how a box is doing",
        description="Tills, ledger, prices and health of a running box. Exit code 1: it failed, or none runs.",
    )
    add_config(parser)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="everything, with every metric")
    shape.add_argument("--metrics", action="store_true", help="the Prometheus text exposition")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.metrics:
        sys.stdout.write(ask_box(options, "metrics"))
        return 0
    answer = ask_box(options, "status")
    print(json.dumps(answer, indent=2) if options.json else render(answer))
    return 1 if answer["health"]["state"] == "failed" else 0


def render(status: dict[str, Any]) -> str:
    """The status for a person."""
    book, days, ledger = status["book"], status["days"], status["ledger"]
    lines = [
        f"shop {status['shop']['gln']}: {status['health']['state']}, up {_duration(status['uptime_seconds'])}",
        f"broker     {'connected' if status['broker_connected'] else 'NOT connected'}",
        f"ledger     {ledger['length']:,} records, {ledger['bytes'] / 1e6:.1f} MB, signed through {ledger['signed']:,}",
        f"days       newest {days['newest'] or '-'}, closed through {days['closed_through'] or '-'}",
    ]
    if days["waiting_for"]:
        lines.append(f"           waiting for the day end of lane {', '.join(sorted(days['waiting_for']))}")
    if book is None:
        lines.append("prices     no book yet: no item file was read")
    else:
        lines.append(
            f"prices     book {book['number']}: {book['items']:,} items {from_day(book['valid_from'])}"
            + ("" if book["published"] == book["number"] else " (being published)")
        )
    lines += [
        f"network    {each['name']} ({each['kind']}): {each['mode'].replace('_', '-')}, "
        f"{each['heard']} of {max(each['members'] - 1, 0)} other members heard, {each['queued']:,} blocks to send"
        for each in status["networks"]
    ] or ["network    local-only: in no network"]
    policy = status["policy"]
    lines.append(f"policy     {policy['name'] if policy else 'none: the weekly optimiser decides'}")
    for check, found in status["health"]["checks"].items():
        if found["state"] != "ok":
            lines.append(f"{found['state'].upper():<10} {check}: {found['reason']}")
    lines.append("")
    lines.append(f"{'lane':<12} {'epoch':>20} {'receipts through':>17} {'missing':>8}")
    for till in status["tills"]:
        missing = sum(last - first + 1 for first, last in till["missing"])
        unknown = " and what it may have lost" if till["tail_unknown"] else ""
        lines.append(f"{till['lane']:<12} {till['epoch']:>20} {till['through']:>17,} {missing:>8,}{unknown}")
    lines.append("")
    head = f"{'category':<24} {'items':>6} {'mode':<7} {'decided for':<12} {'by':<10} {'labels':>6}"
    lines.append(f"{head} {'profit/week ± 95 %':>22}")
    for row in status["categories"]:
        effect = f"{row['profit_change']:+.2f} ± {1.96 * row['profit_change_sd']:.2f}" if row["source"] else ""
        lines.append(
            f"{row['name']:<24} {row['items']:>6,} {row['mode']:<7} {row['decided_for'] or '-':<12} "
            f"{row['source'] or '-':<10} {row['labels_changed']:>6,} {effect:>22}"
        )
    return "\n".join(lines)


def from_day(valid_from: str) -> str:
    """Since when a book is in force, in words; a shop's first book always is."""
    return "in force" if valid_from < "1980" else f"from {valid_from}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
