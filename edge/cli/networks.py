"""`pomona peers` and `pomona budget`: who is connected in which network, and what left this shop at what cost."""

import argparse
import json
from typing import Any, Final

from edge.cli.asking import add_config, ask_box

_MODES: Final = {"connected": "connected", "partial": "partly connected", "local_only": "local-only"}
_SHARE_FULL: Final = 0.8  # of an account, from which on a person is told


def register_peers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `peers`."""
    parser = commands.add_parser(
        "peers",
        help="who is connected in which network",
        description="The networks of a running box: how well it is connected, with whom, and how far behind.",
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_peers)


def register_budget(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `budget`."""
    parser = commands.add_parser(
        "budget",
        help="what left this shop, and what it cost in privacy",
        description="What left this shop for networks of others, in plain words, and how much of each week's and "
        "year's privacy budget is spent. What stays within one's own company is not charged.",
    )
    add_config(parser)
    parser.add_argument("--weeks", type=int, default=26, metavar="N", help="accounts of the last N weeks (default 26)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_budget)


def _peers(options: argparse.Namespace) -> int:
    answer = ask_box(options, "peers")
    print(json.dumps(answer, indent=2) if options.json else render_peers(answer))
    return 0


def _budget(options: argparse.Namespace) -> int:
    answer = ask_box(options, "budget", weeks=str(options.weeks))
    print(json.dumps(answer, indent=2) if options.json else render_budget(answer))
    return 0


def render_peers(answer: dict[str, Any]) -> str:
    """The networks for a person."""
    if not answer["networks"]:
        return "local-only: this box is in no network (see `pomona roster accept`)"
    lines = []
    for each in answer["networks"]:
        lines.append(
            f"{each['name']} ({each['kind']}): {_MODES[each['mode']]}; {each['members']} members of "
            f"{each['owners']} {'owner' if each['owners'] == 1 else 'owners'}, key epoch {each['epoch']}"
        )
        lines.append(f"  to send    {each['queued']:,} blocks that no peer has fetched")
        lines.append(f"  to fetch   {each['behind']:,} blocks that members have shown")
        refused = ", ".join(f"{reason} {count}" for reason, count in sorted(each["refused"].items()))
        lines.append(f"  accepted   {each['records']:,} records of {each['heard']} shops; refused: {refused or 'none'}")
        lines += [f"  sum        {_sum(found)}" for found in each["sums"]]
        if not each["peers"]:
            lines.append("  nobody is connected: prices go on, what is shared waits here")
            continue
        head = f"  {'member':<9} {'owner':<16} {'label':<16} {'address':<22} {'since':>9} {'in':>9} {'out':>9}"
        lines.append(f"{head} {'behind':>7} {'waiting':>8}")
        for peer in each["peers"]:
            traffic = f"{_bytes(peer['bytes_in']):>9} {_bytes(peer['bytes_out']):>9}"
            lines.append(
                f"  {peer['member']:<9} {peer['owner'][:16]:<16} {peer['label'][:16]:<16} {peer['address']:<22} "
                f"{_seconds(peer['connected_s']):>9} {traffic} {peer['behind']:>7,} {peer['waiting']:>8,}"
            )
    return "\n".join(lines)


def render_budget(answer: dict[str, Any]) -> str:
    """The ledger of privacy for a person."""
    lines = ["what left this shop, beyond its own company:"]
    lines += [f"  {words}" for words in answer["left"]] or ["  nothing"]
    lines.append("")
    if not answer["accounts"]:
        return "\n".join([*lines, "no week's budget has been touched"])
    head = f"{'week of':<11} {'protects':<11} {'epsilon':>8} {'of':>6} {'rho':>8} {'of':>6}"
    lines.append(f"{head} {'year: epsilon':>14} {'of':>7} {'rho':>8} {'of':>7}")
    for row in answer["accounts"]:
        full = row["share"] >= _SHARE_FULL
        lines.append(
            f"{row['week_of']:<11} {row['unit']:<11} {row['epsilon']:>8g} {row['epsilon_cap']:>6g} {row['rho']:>8g} "
            f"{row['rho_cap']:>6g} {row['year_epsilon']:>14g} {row['year_epsilon_cap']:>7g} {row['year_rho']:>8g} "
            f"{row['year_rho_cap']:>7g}{'  nearly spent' if full else ''}"
        )
    return "\n".join(lines)


def _sum(found: dict[str, Any]) -> str:
    part = "this box takes part" if found["taking_part"] else f"this box does not take part: {found['why_not']}"
    end = f"; ended without a result: {found['refused']}" if found["refused"] else ""
    return f"{found['category']}, {found['from']} to {found['to']}, {found['members']} members: {part}{end}"


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000  # type: ignore[assignment]
    raise AssertionError


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {rest} s"
