"""What a demonstration shows while it runs: a live screen on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_PLAIN_S: Final = 5.0  # between two lines where there is no terminal
_ROWS_MAX: Final = 14
_METRIC_ACK: Final = "pomona_ack_duration_seconds"


@dataclass(slots=True)
class Scene:
    """Everything there is to show, of all boxes. Filled by the play, read by the screen."""

    title: str
    currency: str
    begun: float = field(default_factory=time.monotonic)
    day: str = "-"
    event: str = ""  # what is happening besides sales
    weeks: int = 0
    weeks_done: int = 0
    rung: dict[str, int] = field(default_factory=dict)  # shop → messages rung
    acknowledged: dict[str, int] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)
    status: dict[str, dict[str, Any]] = field(default_factory=dict)  # shop → its box's status
    decisions: list[dict[str, Any]] = field(default_factory=list)  # rows of the newest round of the first shop
    truth_value: float | None = None  # profit against the owner's prices so far, basket included, currency units


class Screen(Protocol):
    """A context manager that can be told to draw."""

    def __enter__(self) -> "Screen": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def draw(self, scene: Scene) -> None:
        """Show `scene` as it is now."""
        ...


def screen(*, plain: bool) -> Screen:
    """A live screen if stdout is a terminal, else lines on stderr, so that stdout holds the result alone."""
    return Lines() if plain or not sys.stdout.isatty() else LiveScreen()


class Lines:
    """One line every few seconds."""

    def __init__(self) -> None:
        self._next = 0.0

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def draw(self, scene: Scene) -> None:
        """Print a line if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PLAIN_S
        total, acknowledged = sum(scene.rung.values()), sum(scene.acknowledged.values())
        parts = [f"{now - scene.begun:4.0f} s", f"day {scene.day}", f"receipts {total:,} acknowledged {acknowledged:,}"]
        if scene.truth_value is not None:
            parts.append(f"profit against the owner's prices: {_estimate(scene)}, in truth {scene.truth_value:+,.0f}")
        print("  ".join(parts), file=sys.stderr, flush=True)
        for shop, network in _networks(scene):
            print(f"        shop {shop}  {network_words(network)}", file=sys.stderr, flush=True)
        if scene.event:
            print(f"        {scene.event}", file=sys.stderr, flush=True)


class LiveScreen:
    """The terminal, redrawn in place."""

    def __init__(self, console: Console | None = None) -> None:
        self._live = Live(console=console or Console(), refresh_per_second=8, transient=True)

    def __enter__(self) -> "LiveScreen":
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def draw(self, scene: Scene) -> None:
        """Redraw."""
        self._live.update(render(scene))


def render(scene: Scene) -> Group:
    """The whole screen."""
    head = Panel(_head(scene), title=scene.title, title_align="left")
    networks = [_network_lines(scene)] if _networks(scene) else []
    return Group(head, _shops(scene), *networks, _prices(scene))


def _head(scene: Scene) -> Text:
    text = Text()
    text.append(f"business day {scene.day}   week {scene.weeks_done} of {scene.weeks}   ")
    text.append(f"{time.monotonic() - scene.begun:.0f} s\n", style="dim")
    rung, acknowledged = sum(scene.rung.values()), sum(scene.acknowledged.values())
    text.append(f"receipts {rung:,}   acknowledged {acknowledged:,}   ")
    text.append("every one is durable and signed before it is acknowledged", style="dim")
    if scene.truth_value is not None:
        text.append("\nprofit against the owner's own prices, basket included:  ")
        text.append(f"estimated by the box {_estimate(scene)}", style="bold")
        text.append("   in truth (which the simulator alone knows) ")
        text.append(f"{scene.truth_value:+,.0f} {scene.currency}", style="bold")
    return text


def _networks(scene: Scene) -> list[tuple[str, Mapping[str, Any]]]:
    return [(shop, network) for shop, status in scene.status.items() for network in status["networks"]]


def network_words(network: Mapping[str, Any]) -> str:
    """How a box is doing in one network, in a line."""
    mode, others = network["mode"].replace("_", "-"), max(network["members"] - 1, 0)
    own = f"told {network['told']:,} blocks, {network['queued']:,} of them waiting"
    return f"{mode}; {own}; knows {network['records']:,} records of {network['heard']} of {others} other shops"


def _network_lines(scene: Scene) -> Table:
    table = Table(expand=True, show_edge=False, pad_edge=False, title=scene.event or None, title_justify="left")
    for name in ("shop", "network", "", "told", "waiting", "records known", "of shops"):
        table.add_column(name, justify="left" if name in ("shop", "network", "") else "right")
    for shop, network in _networks(scene):
        mode = network["mode"].replace("_", "-")
        counts = (network["told"], network["queued"], network["records"])
        others = f"{network['heard']} of {max(network['members'] - 1, 0)}"
        style = "bold" if mode == "local-only" else ""
        table.add_row(shop, network["name"], mode, *(f"{count:,}" for count in counts), others, style=style)
    return table


def _estimate(scene: Scene) -> str:
    effects = [row["effect"] for status in scene.status.values() for row in status["categories"] if row["effect"]]
    if not effects:
        return "none yet"
    mean, low, high = (sum(effect[name] for effect in effects) for name in ("value", "value_low", "value_high"))
    return f"{mean:+,.0f} ({low:+,.0f} to {high:+,.0f}) {scene.currency}"


def _shops(scene: Scene) -> Table:
    table = Table(expand=True, show_edge=False, pad_edge=False)
    for name in ("shop", "till", "receipts durable", "missing", "ack p50 / p99", "memory", "book", "health"):
        table.add_column(name, justify="left" if name in ("shop", "till", "health") else "right")
    for shop, status in scene.status.items():
        metrics = status["metrics"]
        ack = metrics.get(_METRIC_ACK, {})
        waits = "-" if not ack.get("count") else f"{ack['p50'] * 1e3:.1f} / {ack['p99'] * 1e3:.1f} ms"
        memory = f"{metrics.get('process_resident_memory_bytes', 0) / 2**20:.0f} MiB"
        book = "-" if status["book"] is None else f"{status['book']['number']}"
        for number, till in enumerate(status["tills"] or [{"lane": "-", "through": 0, "missing": []}]):
            missing = sum(last - first + 1 for first, last in till["missing"])
            rest = (waits, memory, book, status["health"]["state"]) if number == 0 else ("", "", "", "")
            table.add_row(shop if number == 0 else "", till["lane"], f"{till['through']:,}", f"{missing:,}", *rest)
    return table


def _prices(scene: Scene) -> Table:
    table = Table(expand=True, show_edge=False, pad_edge=False, title="newest decisions", title_justify="left")
    for name in ("item", "reference", "before", "shelf", "asked", "by", "what bound it", "profit a week ± 95 %"):
        table.add_column(name, justify="left" if name in ("item", "by", "what bound it") else "right")
    for row in scene.decisions[:_ROWS_MAX]:
        table.add_row(*price_cells(row), style="bold" if row["published_minor"] != row["previous_minor"] else "")
    return table


def price_cells(row: Mapping[str, Any]) -> Sequence[str]:
    """One decision as the cells of the table."""
    asked = "" if row["asked"] is None else f"{row['asked']:+.1%}"
    reach = 1.96 * row["profit_change_sd"]
    effect = f"{row['profit_change']:+.2f} ± {reach:.2f}" if row["chosen_minor"] != row["previous_minor"] else "-"
    prices = (row["reference_minor"], row["previous_minor"], row["published_minor"])
    return (
        row["name"] or row["sku"],
        *(f"{price / 100:.2f}" for price in prices),
        asked,
        row["source"],
        " ".join(row["rules"]) or "nothing",
        effect,
    )
