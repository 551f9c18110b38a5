"""`pomona roster`: who belongs to a network. Found one, invite boxes, admit, revoke, rotate keys, sign, serve.

Only words and help are here; `roster_actions` and `roster_join` do the work and are loaded when there is some.
"""

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

_EXAMPLES: Final = """\
a company's own network, on a machine at head office:
  pomona roster init shops --state ./office --kind private
  pomona roster invite shops --state ./office --owner acme --count 200 --csv codes.csv
  pomona roster serve shops --state ./office --listen 10.0.0.5:4980
on the box of each shop, with its own code:
  pomona roster accept CODE --connect 10.0.0.5:4980
later:
  pomona roster show shops --state ./office
  pomona roster revoke shops MEMBER --state ./office --reason "stolen"
  pomona roster rotate shops --state ./office                  every quarter
several companies sign together (each first prints its card with `pomona roster key`):
  pomona roster init trade --kind consortium --signer CARD --signer CARD --quorum 2 --out found.change
  pomona roster sign trade found.change                        shows what it changes; --yes signs
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `roster` and its actions."""
    parser = commands.add_parser(
        "roster",
        help="who belongs to a network: found, invite, accept, admit, revoke, rotate, sign, show, serve",
        description="Membership of networks of shops. A network is its roster, which its authority signs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _founding(actions)
    _members(actions)
    _joining(actions)


def _founding(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    init = _action(actions, "init", "found a network; prints its identity")
    init.add_argument(
        "--kind", required=True, choices=("private", "consortium", "public"), help="what may be seen in it"
    )
    init.add_argument("--title", default="", metavar="TEXT", help="its name for all members (default: NAME)")
    init.add_argument("--policy", type=Path, metavar="FILE", help="TOML with settings that differ from the defaults")
    init.add_argument("--open", action="store_true", help="public networks: anybody may read; nothing is encrypted")
    init.add_argument("--signer", action="append", default=[], metavar="CARD", help="another signer; may be repeated")
    init.add_argument("--quorum", type=_count, metavar="N", help="how many must sign (default: more than half)")
    _out(init)

    _action(actions, "key", "print this box's card, for who founds a network with several signers")

    policy = _action(actions, "policy", "print a network's settings, or change them for all members")
    policy.add_argument("--set", type=Path, dest="policy", metavar="FILE", help="TOML with the settings that change")
    _out(policy)

    sign = _action(actions, "sign", "show a change that several must sign; sign it with --yes")
    sign.description = (
        "Shows what a change would make of the roster. With --yes it is signed, and the file is written back with the "
        "signature; once a quorum has signed it the change is in force here, and every signer who is given the file."
    )
    sign.add_argument("file", type=Path, metavar="FILE")
    sign.add_argument("--yes", action="store_true", help="sign it")
    _out(sign, "where to write it (default: FILE)")


def _members(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    invite = _action(actions, "invite", "make one-time codes; each lets one box join")
    invite.add_argument("--owner", metavar="TEXT", help="who answers for the box: what is counted between owners")
    invite.add_argument("--role", default="shop", choices=("shop", "closer", "seeder", "reader"))
    invite.add_argument("--label", default="", metavar="TEXT", help="for people; every member reads it")
    invite.add_argument("--count", type=_count, default=1, metavar="N", help="so many codes; labels are numbered")
    invite.add_argument("--from", type=Path, dest="guests", metavar="FILE", help="CSV with columns label, owner, role")
    invite.add_argument("--csv", type=Path, metavar="FILE", help="write the codes there (mode 0600; it must be new)")
    invite.add_argument("--weeks", type=_count, default=4, metavar="N", help="how long they can be used (default 4)")
    _out(invite)

    withdraw = _action(actions, "withdraw", "make codes useless that nobody has used yet")
    withdraw.add_argument("code", nargs="+", metavar="CODE_OR_LABEL", help="or the key that `invite` printed")
    _out(withdraw)

    admit = _action(actions, "admit", "take a request that `accept --request` wrote: the box becomes a member")
    admit.add_argument("file", type=Path, metavar="FILE")
    _out(admit)

    revoke = _action(actions, "revoke", "close a member's feeds, and move the network to keys that it does not have")
    revoke.add_argument("member", metavar="MEMBER", help="its label, or the beginning of its id (8 digits or more)")
    revoke.add_argument("--reason", required=True, metavar="TEXT", help="all members read it")
    revoke.add_argument(
        "--length",
        action="append",
        default=[],
        metavar="KIND=N",
        help="blocks of its feed of this epoch that still count (default: those that are here, else none)",
    )
    _out(revoke)

    rotate = _action(actions, "rotate", "move the network to new keys; every quarter")
    _out(rotate)

    show = _action(actions, "show", "members, owners, epochs and settings, in plain words", name_needed=False)
    show.add_argument("--invitations", action="store_true", help="and every invitation")

    serve = _action(actions, "serve", "let boxes join by their codes, and replicate the roster with members")
    serve.add_argument("--listen", type=_address, required=True, metavar="HOST:PORT", help="port 0: any free one")


def _joining(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    accept = _action(actions, "accept", "join a network with a code", module="roster_join", positional="code")
    accept.description = (
        "Joins a network. With --connect the box asks the authority and is a member when this returns. With --request "
        "it writes a signed request, which the authority takes with `pomona roster admit`."
    )
    accept.add_argument("--name", metavar="NAME", help="what this box calls the network (default: its kind)")
    way = accept.add_mutually_exclusive_group(required=True)
    way.add_argument("--connect", type=_address, metavar="HOST:PORT", help="where `pomona roster serve` listens")
    way.add_argument("--request", type=Path, metavar="FILE", help="write a request there instead")


def _action(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    *,
    module: str = "roster_actions",
    positional: str = "name",
    name_needed: bool = True,
) -> argparse.ArgumentParser:
    def start(options: argparse.Namespace) -> int:
        run: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(f"edge.cli.{module}"), name)
        return run(options)

    parser = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    if positional == "code":
        parser.add_argument("code", metavar="CODE", help="as it was handed out; '-' reads it from standard input")
    else:
        parser.add_argument("name", metavar="NAME", nargs=None if name_needed else "?", help="the network, here")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--state", type=Path, metavar="DIR", help="the state folder; instead of --config")
    where.add_argument(
        "--config", type=Path, default=Path("/etc/pomona/pomona.toml"), metavar="FILE", help="the box's configuration"
    )
    parser.add_argument("--json", action="store_true", help="one JSON value a line")
    parser.set_defaults(run=start)
    return parser


def _out(
    parser: argparse.ArgumentParser, text: str = "where several sign: write the change for the others there"
) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help=text)
    parser.add_argument(
        "--replace", action="store_true", help="although this box signed another change of the same roster"
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _address(text: str) -> object:
    from edge.cli.peers import address  # noqa: PLC0415 - help and usage errors need none of this

    return address(text)
