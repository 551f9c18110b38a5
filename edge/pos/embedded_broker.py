"""A broker in Python, for a first look on a machine without mosquitto: `python -m edge.pos.embedded_broker FILE.json`.

It runs in a process of its own and follows the users and rules of `edge.pos.broker` through amqtt's plugins. It keeps
everything in memory and handles a tenth of mosquitto's load. Not for a shop; nothing is lost on it all the same: tills
repeat what the box has not acknowledged, and the box publishes its book again on every new broker.
"""

import asyncio
import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action, BaseContext
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from edge.errors import ConfigError
from edge.pos.broker import check_password, may


class Passwords(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is not typed
    """Lets in who has a password; the session's name must be the user's, as with mosquitto."""

    @dataclass
    class Config:
        """`users` maps names to stored hashes."""

        users: dict[str, str] = field(default_factory=dict)

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._known: set[tuple[str, str]] = set()

    async def authenticate(self, *, session: Session) -> bool | None:
        """Whether `session` may connect."""
        user, password = session.username or "", session.password or ""
        stored = self.config.users.get(user)
        if stored is None or session.client_id != user:
            return False
        if (user, password) not in self._known:  # a reconnect does not pay for the key derivation again
            if not check_password(password, stored):
                return False
            self._known.add((user, password))
        return True


class Rules(BaseTopicPlugin):  # type: ignore[misc]  # amqtt is not typed
    """Applies `edge.pos.broker.may` to every publish and subscription."""

    @dataclass
    class Config:
        """The shop's GLN."""

        gln: str = ""

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        """Whether `session` may do `action` on `topic`."""
        if session is None or topic is None:
            return False
        return may(self.config.gln, session.username or "", "write" if action == Action.PUBLISH else "read", topic)


def settings(document: dict[str, Any]) -> dict[str, Any]:
    """amqtt's configuration from the `embedded.json` of `write_configuration`."""
    listeners: dict[str, Any] = {"default": {"type": "tcp", "bind": f"{document['host']}:{document['port']}"}}
    if document["tls_host"]:
        listeners["tls"] = {
            "type": "tcp",
            "bind": f"{document['tls_host']}:{document['tls_port']}",
            "ssl": True,
            "certfile": document["tls_certificate"],
            "keyfile": document["tls_key"],
        }
    here = "edge.pos.embedded_broker"
    plugins = {f"{here}.Passwords": {"users": document["users"]}, f"{here}.Rules": {"gln": document["gln"]}}
    return {"listeners": listeners, "plugins": plugins}


async def serve(document: dict[str, Any]) -> None:
    """Run until cancelled."""
    broker = Broker(settings(document))
    await broker.start()
    try:
        await asyncio.Event().wait()
    finally:
        await broker.shutdown()


def main() -> int:
    """Run the broker of the file named on the command line."""
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    try:
        document = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    except (IndexError, OSError, ValueError) as error:
        raise ConfigError("embedded.json", str(error)) from None
    print("the embedded broker is for trying Pomona out; a shop needs mosquitto", file=sys.stderr)
    try:
        import uvloop  # noqa: PLC0415

        uvloop.run(serve(document))
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
