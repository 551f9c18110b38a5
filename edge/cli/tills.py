"""`pomona tills`: enrol, list and revoke tills; certificates and configuration of their broker."""

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from edge.config import Config, load
from edge.registry.access import PASSWORD_NAME, prepare_broker
from edge.registry.tills import Registry

_EXAMPLES = """\
examples:
  pomona tills --config pomona.toml enrol 1 --label "front left"     prints the password, once
  pomona tills --config pomona.toml list --json
  pomona tills --config pomona.toml certificates 192.168.1.10 pomona.local
  pomona tills --config pomona.toml config --out /etc/mosquitto/pomona
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `tills` and its actions."""
    parser = commands.add_parser(
        "tills",
        help="enrol, list and revoke tills; write the broker's configuration",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, default=Path("/etc/pomona/pomona.toml"), metavar="FILE", help="the box's configuration"
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    enrol = actions.add_parser("enrol", help="let a lane connect, or give it a new password; prints the password once")
    enrol.add_argument("lane", metavar="LANE", help="the lane: user name, client id and topic level of its till")
    enrol.add_argument("--label", default="", help="for people")
    enrol.set_defaults(run=_enrol)

    listing = actions.add_parser("list", help="the enrolled tills")
    listing.set_defaults(run=_list)

    revoke = actions.add_parser("revoke", help="let a lane connect no longer")
    revoke.add_argument("lane", metavar="LANE")
    revoke.set_defaults(run=_revoke)

    config = actions.add_parser("config", help="write the broker's configuration, password and access files")
    config.add_argument("--out", type=Path, metavar="DIR", help="for the system's mosquitto; default: the box's own")
    config.set_defaults(run=_write_config)

    certificates = actions.add_parser("certificates", help="issue the certificate of the LAN listener")
    certificates.add_argument("names", nargs="+", metavar="NAME", help="IP addresses and names that tills use")
    certificates.add_argument("--out", type=Path, metavar="DIR", help="default: the folder 'tls' of the state folder")
    certificates.set_defaults(run=_certificates)
    for action in (enrol, listing, revoke, config, certificates):
        # Before the action or after it, as with every other command; after it, no default may undo the one before.
        action.add_argument("--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help=argparse.SUPPRESS)
        action.add_argument("--json", action="store_true", help="one JSON object")


def _enrol(options: argparse.Namespace) -> int:
    config = _load(options)
    with Registry(config.state) as registry:
        password = registry.enrol(options.lane, label=options.label, wall_ms=time.time_ns() // 1_000_000)
    topics = {
        "sale": f"pos/v1/{config.shop.gln}/{options.lane}/sale",
        "ack": f"pos/v1/{config.shop.gln}/{options.lane}/ack",
    }
    if options.json:
        print(json.dumps({"lane": options.lane, "user": options.lane, "password": password, "topics": topics}))
    else:
        print(f"lane, user name and client id  {options.lane}\npassword (not shown again)     {password}")
        print(f"publishes                      {topics['sale']}\nreads                          {topics['ack']}")
        print("run `pomona tills config`, then reload the broker, to let it connect", file=sys.stderr)
    return 0


def _list(options: argparse.Namespace) -> int:
    with Registry(_load(options).state, read_only=True) as registry:
        tills = registry.tills()
    if options.json:
        rows = [{"lane": till.lane, "label": till.label, "enrolled_ms": till.enrolled_ms} for till in tills]
        print(json.dumps({"tills": rows}))
        return 0
    for till in tills:
        day = datetime.fromtimestamp(till.enrolled_ms / 1000, UTC).date()
        print(f"{till.lane:<16} enrolled {day}  {till.label}".rstrip())
    if not tills:
        print("no tills are enrolled", file=sys.stderr)
    return 0


def _revoke(options: argparse.Namespace) -> int:
    with Registry(_load(options).state) as registry:
        registry.revoke(options.lane)
    if options.json:
        print(json.dumps({"lane": options.lane, "revoked": True}))
    else:
        print(f"lane {options.lane} is revoked; run `pomona tills config`, then reload the broker")
    return 0


def _write_config(options: argparse.Namespace) -> int:
    config = _load(options)
    directory = prepare_broker(
        config.state, config.broker, config.shop.gln, out=options.out, own_process=options.out is None
    )
    password = config.state / "broker" / PASSWORD_NAME
    if options.json:
        print(json.dumps({"directory": str(directory), "password_file": str(password)}))
        return 0
    print(f"wrote {directory}/mosquitto.conf, acl, passwords\nthe box's password is in {password}")
    if options.out is not None:
        print("let user mosquitto read them: chgrp mosquitto in that folder; then reload mosquitto", file=sys.stderr)
    return 0


def _certificates(options: argparse.Namespace) -> int:
    from edge.pos.certificates import issue  # noqa: PLC0415 - `cryptography` is loaded for this action alone

    config = _load(options)
    made = issue(options.out or config.state / "tls", options.names, now_ms=time.time_ns() // 1_000_000)
    paths = {"authority": str(made.authority), "certificate": str(made.certificate), "key": str(made.key)}
    if options.json:
        print(json.dumps({**paths, "fingerprint_sha256": made.fingerprint}))
        return 0
    print(f"authority for the tills  {made.authority}\nbroker's certificate     {made.certificate}")
    print(f"broker's key             {made.key}\nSHA-256 of the authority {made.fingerprint}")
    return 0


def _load(options: argparse.Namespace) -> Config:
    return load(options.config)
