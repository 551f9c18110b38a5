"""`pomona demo`: the whole system on this machine, with simulated shoppers or with recorded sales."""

import argparse
import asyncio
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge.errors import ConfigError

if TYPE_CHECKING:
    from edge.demo.outcome import Result
    from edge.demo.show import Scene

CATEGORY: Final = "orange juice"
_EXAMPLES: Final = """\
examples:
  pomona demo                                 three shops of one company, their network, and a consortium
  pomona demo --shops 1                       one shop, three tills, shoppers who react to the published prices
  pomona demo --data sales.csv.gz             recorded sales of three stores, one box each, in shadow
  pomona demo --keep ./shop                   keep it; then: pomona why own-label-64 --config ./shop/box-1/pomona.toml

Exit code 0: in every shop receipts published = acknowledged = in the log, every decision lies inside the guard, every
shop heard the others completely and refused nothing, and the consortium's sums came out. 1: not so.
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `demo`."""
    parser = commands.add_parser(
        "demo",
        help="the whole system on this machine: broker, shop, tills and shoppers",
        description="Broker, box, tills and shoppers on this machine, in virtual time. Nothing leaves it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="FILE.csv[.gz]", help="replay these sales instead, in shadow")
    parser.add_argument("--stores", type=int, default=3, metavar="N", help="with --data: the first N (default 3)")
    parser.add_argument("--shops", type=int, default=3, metavar="N", help="simulated shops (default 3); 1: no network")
    parser.add_argument("--weeks", type=int, default=52, metavar="N", help="simulated weeks (default 52)")
    parser.add_argument("--shadow", type=int, metavar="N", help="weeks in shadow before prices go live (default: half)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated shops (default 1)")
    parser.add_argument("--lanes", type=int, default=3, metavar="N", help="tills of a simulated shop (default 3)")
    parser.add_argument("--messages-max", type=int, default=30_000, metavar="N", help="with --data, in all")
    parser.add_argument("--broker", default="auto", choices=("auto", "mosquitto", "embedded"), help="default auto")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="make the shop here and keep it")
    parser.add_argument("--plain", action="store_true", help="no live screen")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    for name, high in (("stores", 16), ("shops", 8), ("weeks", 260), ("lanes", 16)):
        if not 1 <= getattr(options, name) <= high:
            raise ConfigError(f"--{name}", f"{getattr(options, name)} is outside 1..{high}")
    if options.shadow is not None and not 0 <= options.shadow < options.weeks:
        raise ConfigError("--shadow", f"{options.shadow} is outside 0..{options.weeks - 1}")
    try:
        from edge.demo.show import Scene  # noqa: PLC0415 - loaded for this command alone
        from edge.demo.words import as_json, summary  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError("demo", f"{error.name} is not installed; pip install 'pomona[demo]'") from None
    if options.keep is not None and options.keep.exists():
        raise ConfigError("--keep", f"{options.keep} exists already")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="pomona-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    scene = Scene(_title(options), "USD")
    begun = time.monotonic()
    try:
        result = asyncio.run(_play(options, folder, scene))
        seconds = time.monotonic() - begun
        print(as_json(result, scene, seconds) if options.json else summary(result, scene) + f"\n{seconds:.0f} s")
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if result.good else 1


def _title(options: argparse.Namespace) -> str:
    if options.data is not None:
        return "Pomona: recorded sales, in shadow"
    if options.shops == 1:
        return "Pomona: a shop that prices for itself"
    return f"Pomona: {options.shops} shops that price for themselves, and learn from each other"


async def _play(options: argparse.Namespace, folder: Path, scene: "Scene") -> "Result":
    from edge.demo.company import Company  # noqa: PLC0415
    from edge.demo.consortium import show  # noqa: PLC0415
    from edge.demo.replays import read_sales, replays  # noqa: PLC0415
    from edge.demo.show import screen  # noqa: PLC0415
    from edge.demo.stage import BoxPlan, free_ports  # noqa: PLC0415
    from edge.demo.timeline import timeline  # noqa: PLC0415

    def plan(store: int, port: int, lanes: int) -> BoxPlan:
        return BoxPlan(
            store=store,
            folder=folder / f"box-{store}",
            port=port,
            currency=scene.currency,
            lanes=tuple(str(lane + 1) for lane in range(lanes)),
            category=CATEGORY,
            broker=options.broker,
        )

    with screen(plain=options.plain or options.json) as shown:
        if options.data is None:
            ports = free_ports(options.shops)
            plans = [plan(number, port, options.lanes) for number, port in enumerate(ports, 1)]
            times = timeline(options.weeks, options.shops, options.shadow)
            company = Company(plans, times, scene, shown, seed=options.seed, shadow=options.shadow)
            result = await company.play()
            return result if options.shops == 1 else replace(result, consortium=show(options.seed))
        rows = read_sales(options.data)
        stores = sorted({row.store for row in rows})[: options.stores]
        if not stores:
            raise ConfigError("--data", f"{options.data} has no rows")
        plans = [plan(store, port, 1) for store, port in zip(stores, free_ports(len(stores)), strict=True)]
        scene.expected = {str(store): 0 for store in stores}
        scene.weeks = len({row.week for row in rows})
        return await replays(plans, rows, options.data, scene, shown, messages_max=options.messages_max)
