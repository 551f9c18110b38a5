"""What a box is told about one of its networks: whom to call, where to be called, and where it is stricter.

The network itself (its roster, its keys) is not in the configuration: `pomona roster accept` put it into the state
folder, under the name that the section `[networks.NAME]` has. A folder without a section is joined with the defaults:
it listens nowhere and dials nobody.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Final

from edge.errors import ConfigError
from edge.hyperswarm.address import parse_address
from edge.networks.policy import NetworkPolicy, tightened

PEERS_MAX: Final = 64  # static ones; each is kept connected


@dataclass(frozen=True, slots=True)
class Stricter:
    """This shop's own rules, where they are stricter than the network's; what is not set is the network's."""

    owners_min: int | None = None
    lag_weeks: int | None = None
    shops_min: int | None = None
    keep_weeks: int | None = None
    live_use: bool | None = None
    item_level: bool | None = None
    receipts_min: int | None = None
    epsilon_milli: int | None = None
    epsilon_week_milli: int | None = None
    epsilon_year_milli: int | None = None

    def policy(self, base: NetworkPolicy, path: str) -> NetworkPolicy:
        """`base` with these settings. Raises `ConfigError` naming the first that would be looser."""
        given = {f.name: value for f in dataclasses.fields(self) if (value := getattr(self, f.name)) is not None}
        layers = {name for f in dataclasses.fields(base.privacy) if (name := f.name) in given}
        shared = {f.name for f in dataclasses.fields(base)}
        try:
            privacy = dataclasses.replace(base.privacy, **{name: given[name] for name in layers})
            wish = dataclasses.replace(
                base, privacy=privacy, **{name: value for name, value in given.items() if name in shared}
            )
            return tightened(base, wish)
        except ValueError as error:
            raise ConfigError(path, str(error)) from None
        except ConfigError as error:
            name = error.path.rpartition(".")[2]
            raise ConfigError(f"{path}.{name}", str(error).removeprefix(f"{error.path}: ")) from None


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """Section `[networks.NAME]`."""

    listen: str = ""  # HOST:PORT for other members; empty: this box dials out alone
    peers: tuple[str, ...] = ()  # HOST:PORT of members that it keeps a connection to
    share: bool = True  # false: it reads what others share and gives nothing
    stricter: Stricter = field(default_factory=Stricter)

    def __post_init__(self) -> None:
        if len(self.peers) > PEERS_MAX:
            raise ValueError(f"{len(self.peers)} peers; at most {PEERS_MAX}")
        for text in (self.listen, *self.peers):
            if text:
                parse_address(text)
