"""Where a peer listens, as text: HOST:PORT with a numeric host. No name is ever looked up."""

import ipaddress
from typing import Final, NamedTuple

PORT_MAX: Final = 65_535


class Address(NamedTuple):
    """Where a peer listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """The address in `text`, e.g. `192.0.2.7:49737`, `[2001:db8::7]:49737` or `localhost:0`. Raises `ValueError`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r} is not HOST:PORT with an IP address") from None
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > PORT_MAX:
        raise ValueError(f"{text!r} has no port from 0 to {PORT_MAX}")
    return Address(host, int(port))
