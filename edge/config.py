"""The configuration of one box: a TOML file composed of the settings classes of its parts.

    [shop]     which shop, where its state and its item file lie
    [tills]    how the box reaches the broker (`edge.pos.mqtt.MqttSettings`)
    [broker]   which broker, and its listeners (`edge.pos.broker.BrokerConfig`)
    [memory]   bounds of the price memory (`edge.memory.local.MemoryConfig`)
    [pricing]  when and how prices are decided; [pricing.modes] by category; [pricing.guard] the owner's limits
    [networks.NAME]  where to meet the members of a network, and where this shop is stricter (`edge.networks.settings`)

Every key has a default but `shop.gln`. Unknown keys are errors that name their path. `systemd/pomona.toml` is a
commented example of all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.agent.rules import GuardRules
from edge.box.records import MODES
from edge.errors import ConfigError
from edge.limits import HISTORY_WEEKS_MAX
from edge.memory.local import MemoryConfig
from edge.networks.settings import NetworkSettings
from edge.pos.broker import BrokerConfig
from edge.pos.mqtt import MqttSettings
from edge.pos.topics import check_gln
from edge.records.money import minor_per_unit
from edge.toml import build, read_toml


@dataclass(frozen=True, slots=True)
class ShopConfig:
    """Who this box is."""

    gln: str  # GS1 Global Location Number of the shop, 13 digits
    currency: str = "EUR"  # ISO 4217; one a shop
    state_dir: str = "/var/lib/pomona"  # ledger, keys, registry, snapshot, control socket
    items: str = ""  # the item file (CSV); read at start and whenever it changes; empty: no items yet

    def __post_init__(self) -> None:
        check_gln(self.gln)
        minor_per_unit(self.currency)


@dataclass(frozen=True, slots=True)
class PricingConfig:
    """When and how prices are decided."""

    modes: Mapping[str, str] = field(default_factory=dict)  # category → off | shadow | live; "" or absent: shadow
    guard: GuardRules = field(default_factory=GuardRules)
    policy: str = ""  # an ONNX file; empty: the one that ships with the box; "none": the weekly optimiser alone
    first_weekday: int = 0  # weekday on which a week's prices begin, 0 Monday to 6 Sunday
    history_weeks: int = 104  # weeks of the past that an estimate looks at
    switchback: bool = False  # half of a live category's two-week blocks keep the owner's prices, to measure the effect
    step_probability: float = 0.05  # of a logged random step of an item's live price in a week; 0: none
    step_log: float = 0.02  # size of that step, log
    clock_closes_hours: int = 6  # a day that tills left open is closed so many hours after midnight; 0: never

    def __post_init__(self) -> None:
        for category, mode in self.modes.items():
            if mode not in MODES:
                raise ValueError(f"mode of {category!r} is {mode!r}, not one of {', '.join(MODES)}")
        if not 0 <= self.first_weekday <= 6:
            raise ValueError(f"first_weekday {self.first_weekday} is outside 0..6")
        if not 4 <= self.history_weeks <= HISTORY_WEEKS_MAX:
            raise ValueError(f"history_weeks {self.history_weeks} is outside 4..{HISTORY_WEEKS_MAX}")
        if not 0 <= self.clock_closes_hours <= 24:
            raise ValueError(f"clock_closes_hours {self.clock_closes_hours} is outside 0..24")
        if not 0 <= self.step_probability <= 0.5 or not 0 <= self.step_log <= 0.05:
            raise ValueError("step_probability is at most 0.5 and step_log at most 0.05")


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one box."""

    shop: ShopConfig
    tills: MqttSettings = field(default_factory=MqttSettings)
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    pricing: PricingConfig = field(default_factory=PricingConfig)
    networks: Mapping[str, NetworkSettings] = field(default_factory=dict)  # by the name they have in the state folder

    @property
    def state(self) -> Path:
        """The state folder."""
        return Path(self.shop.state_dir)


def load(path: Path) -> Config:
    """Read a configuration file; relative paths in it are relative to its folder. Raises `ConfigError`."""
    table = read_toml(path)
    if not isinstance(table.get("shop"), dict):
        raise ConfigError("shop", "this section is required; it names the shop's GLN")
    base = path.resolve().parent
    for section, key in (
        ("shop", "state_dir"),
        ("shop", "items"),
        ("tills", "password_file"),
        ("tills", "tls_ca"),
        ("broker", "tls_certificate"),
        ("broker", "tls_key"),
        ("broker", "tls_ca"),
        ("pricing", "policy"),
    ):
        part = table.get(section)
        if isinstance(part, dict) and isinstance(part.get(key), str) and part[key] not in ("", "none"):
            part[key] = str(base / part[key])
    return build(Config, table)
