"""The broker's configuration, generated: who may connect, and who may say and read what.

`write_configuration` fills a directory with `mosquitto.conf`, `acl` and `passwords` for the system's mosquitto or for
one that the box runs itself, and `embedded.json` for the embedded broker, which follows the same rules.

The rules (the GLN is fixed, `%u` is the till's user name, which is its lane; client ids equal user names, so that no
till can take over another's session):

    box     reads pos/v1/{gln}/+/sale, writes pos/v1/{gln}/+/ack, reads and writes shelf/v1/{gln}/#
    till    writes pos/v1/{gln}/%u/sale, reads pos/v1/{gln}/%u/ack and shelf/v1/{gln}/#

Nobody connects without a password. The plain listener is for the box alone, on loopback; tills on the LAN get TLS.
The password file is mosquitto's own ($7$: PBKDF2 with SHA-512), made here, so that no password is ever an argument of a
command. Everything a broker may forget is bounded; none of it matters, because tills keep what is not acknowledged.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import os
import pwd
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.atomic import replace_file
from edge.errors import ConfigError, RecordInvalid
from edge.limits import LANES_MAX, RECEIPT_BYTES_MAX
from edge.pos.topics import Topics, check_lane

BOX_USER: Final = "pomona-box"
PBKDF2_ROUNDS: Final = 1000  # the passwords are 128 random bits; more rounds would only slow a Pi's broker down
PACKET_BYTES_MAX: Final = RECEIPT_BYTES_MAX + 4096  # a receipt or an index page, and its topic
QUEUED_MESSAGES_MAX: Final = 2000  # a session that is away: some 600 kB; a till repeats the rest
IN_FLIGHT_MAX: Final = 512  # unanswered messages to one client: what one group of the box may hold


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """Which broker the tills meet and where it listens.

    `kind`: `external` (already running, e.g. Debian's mosquitto with our generated configuration), `mosquitto` (a child
    process of the box), `embedded` (the Python broker, for a first look only), `auto` (mosquitto if installed, else
    embedded). `tls_host` empty: no LAN listener.
    """

    kind: str = "external"
    host: str = "127.0.0.1"  # of the plain listener
    port: int = 1883
    tls_host: str = ""
    tls_port: int = 8883
    tls_certificate: str = ""
    tls_key: str = ""
    tls_ca: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("external", "mosquitto", "embedded", "auto"):
            raise ConfigError("broker.kind", "external, mosquitto, embedded or auto")
        _check_address("broker.host", self.host)
        if not ipaddress.ip_address(self.host).is_loopback:
            raise ConfigError("broker.host", f"{self.host}: the plain listener is for loopback only; use tls_host")
        if self.tls_host:
            _check_address("broker.tls_host", self.tls_host)
            if not self.tls_certificate or not self.tls_key:
                raise ConfigError("broker.tls_host", "needs tls_certificate and tls_key")
        for name in ("port", "tls_port"):
            if not 1 <= getattr(self, name) <= 65535:
                raise ConfigError(f"broker.{name}", "1 to 65535")
        for name in ("tls_certificate", "tls_key", "tls_ca"):
            if any(ord(c) < 32 for c in getattr(self, name)):
                raise ConfigError(f"broker.{name}", "is not a path")


def new_password() -> str:
    """A password of 128 random bits, in letters and digits that can be typed."""
    return secrets.token_hex(16)


def hash_password(password: str, salt: bytes | None = None) -> str:
    """`password` as mosquitto keeps it: $7$rounds$salt$hash, base64. Source: mosquitto `password_common.c`."""
    salt = secrets.token_bytes(12) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, PBKDF2_ROUNDS)
    return f"$7${PBKDF2_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def check_password(password: str, stored: str) -> bool:
    """Whether `password` is the one that `stored` was made from."""
    try:
        _, version, rounds, salt, digest = stored.split("$")
        if version != "7" or not 1 <= int(rounds) <= 1_000_000:
            return False
        found = hashlib.pbkdf2_hmac("sha512", password.encode(), base64.b64decode(salt), int(rounds))
        return hmac.compare_digest(found, base64.b64decode(digest))
    except ValueError:
        return False


def may(gln: str, user: str, action: str, topic: str) -> bool:
    """The rules above as a predicate: may `user` `read` or `write` `topic`? A `topic` to read may be a filter."""
    topics = Topics(gln)
    if action == "write":
        if user == BOX_USER:
            return topic.startswith(f"shelf/v1/{gln}/") or _matches(topic, topics.ack("+"))
        return topic == topics.sale(user)
    allowed = (topics.sale("+"), f"shelf/v1/{gln}/#") if user == BOX_USER else (topics.ack(user), f"shelf/v1/{gln}/#")
    return any(_matches(topic, wanted) for wanted in allowed)


def write_configuration(
    directory: Path,
    config: BrokerConfig,
    gln: str,
    credentials: Mapping[str, str],
    *,
    data: Path | None = None,
    own_process: bool = False,
) -> Path:
    """Write all files into `directory`; returns the path of `mosquitto.conf`.

    `credentials` maps user names (lanes, and `BOX_USER`) to stored password hashes. `data` is where mosquitto keeps its
    database (None: `/var/lib/mosquitto`). `own_process`: it will run as our own user, as a child.
    """
    for user in credentials:
        check_lane(user)
    if len(credentials) > LANES_MAX + 1:
        raise RecordInvalid(f"{len(credentials)} users; at most {LANES_MAX + 1}")
    for path in (directory, data or directory):
        if any(ord(c) < 32 for c in str(path)):
            raise ConfigError("broker", "a directory's name has control characters")
    directory.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if own_process else 0o640  # the system's mosquitto reads it through its group
    passwords = "".join(f"{user}:{stored}\n" for user, stored in sorted(credentials.items()))
    replace_file(directory / "passwords", passwords.encode(), mode)
    replace_file(directory / "acl", _acl(gln).encode(), mode)
    path = directory / "mosquitto.conf"
    text = _mosquitto(directory, config, data or Path("/var/lib/mosquitto"), own_process=own_process)
    replace_file(path, text.encode(), 0o640)
    embedded = {
        "gln": gln,
        "host": config.host,
        "port": config.port,
        "tls_host": config.tls_host,
        "tls_port": config.tls_port,
        "tls_certificate": config.tls_certificate,
        "tls_key": config.tls_key,
        "users": dict(credentials),
    }
    replace_file(directory / "embedded.json", (json.dumps(embedded, indent=1) + "\n").encode(), 0o600)
    return path


def _acl(gln: str) -> str:
    return f"""\
# Generated by pomona; see edge/pos/broker.py. `pattern` lines hold for every user, %u is its name.
pattern write pos/v1/{gln}/%u/sale
pattern read pos/v1/{gln}/%u/ack
pattern read shelf/v1/{gln}/#

user {BOX_USER}
topic read pos/v1/{gln}/+/sale
topic write pos/v1/{gln}/+/ack
topic readwrite shelf/v1/{gln}/#
"""


def _mosquitto(directory: Path, config: BrokerConfig, data: Path, *, own_process: bool) -> str:
    lines = [
        "# Generated by pomona; changes are overwritten. See edge/pos/broker.py.",
        "per_listener_settings false",
        "allow_anonymous false",
        "allow_zero_length_clientid false",
        f"password_file {directory / 'passwords'}",
        f"acl_file {directory / 'acl'}",
        "persistence true",
        f"persistence_location {data}/",
        "autosave_interval 300",  # an SD card's sake: what a crash forgets, tills and box send again
        "autosave_on_changes false",
        "persistent_client_expiration 14d",
        f"max_packet_size {PACKET_BYTES_MAX}",
        f"max_queued_messages {QUEUED_MESSAGES_MAX}",
        f"max_inflight_messages {IN_FLIGHT_MAX}",
        "max_keepalive 120",
        "sys_interval 0",
        "set_tcp_nodelay true",
        "log_dest stdout",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "connection_messages true",
    ]
    if own_process:
        # Started by root it would become user mosquitto, who cannot read our files.
        lines.append(f"user {pwd.getpwuid(os.geteuid()).pw_name}")
    lines += [
        "",
        f"listener {config.port} {config.host}",
        "use_username_as_clientid true",
        f"max_connections {LANES_MAX + 8}",
    ]
    if config.tls_host:
        lines += [
            "",
            f"listener {config.tls_port} {config.tls_host}",
            "use_username_as_clientid true",
            f"max_connections {LANES_MAX + 8}",
            f"certfile {config.tls_certificate}",
            f"keyfile {config.tls_key}",
            "tls_version tlsv1.2",  # the oldest that is accepted
        ]
    return "\n".join(lines) + "\n"


def _matches(topic: str, allowed: str) -> bool:
    """Whether every topic that the filter `topic` names is one that the filter `allowed` names."""
    asked, permitted = topic.split("/"), allowed.split("/")
    for place, level in enumerate(permitted):
        if level == "#":
            return True
        if place >= len(asked) or asked[place] == "#":
            return False
        if level != "+" and asked[place] != level:
            return False
    return len(asked) == len(permitted)


def _check_address(path: str, address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ConfigError(path, f"{address!r} is not an IP address") from None
