"""Weekly sales of simulated shops as a file with the columns of `pomona replay`: data to show, test and learn with.

numpy only. Prices are the owners' reference prices, promotions included, in whole cents; units are integer counts.
"""

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainer.ingest import COLUMNS
from trainer.sim import market, shop
from trainer.sim.randomise import Pack, draw_shops
from trainer.sim.sales import draw_units


def rows(pack: Pack, *, stores: int, weeks: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Rows in the order of `COLUMNS`: store by store, week by week. Same arguments, same rows."""
    rng = np.random.default_rng(seed)
    params = draw_shops(rng, pack, stores)
    state = shop.reset(rng, params)
    names = [fact.name for fact in pack.facts]
    table: list[list[tuple[str, ...]]] = [[] for _ in range(stores)]
    for week in range(weeks):
        offered = market.offer(state.market, params.market)
        cents = np.rint(100.0 * params.price * np.exp(offered.log_reference))
        state, outcome = shop.step(rng, state, np.log(cents / (100.0 * params.price)), params)
        units = draw_units(rng, outcome.units)
        cost = 100.0 * params.cost * np.exp(offered.log_cost)
        deal = offered.deal[0]
        for store in range(stores):
            for item, name in enumerate(names):
                cell = (store, item)
                promoted = f"{int(deal[cell])}"
                table[store].append(
                    (
                        str(store + 1),
                        str(week + 1),
                        name,
                        str(units[cell]),
                        f"{cents[cell]:.0f}",
                        f"{cost[cell]:.2f}",
                        promoted,
                        promoted,
                    )
                )
    for store_rows in table:
        yield from store_rows


def write(path: Path, pack: Pack, *, stores: int, weeks: int, seed: int) -> int:
    """Write the file (`.gz`: compressed, no time stamp); returns the number of rows. Byte for byte repeatable."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for row in rows(pack, stores=stores, weeks=weeks, seed=seed):
        writer.writerow(row)
        count += 1
    data = text.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return count
