"""`pomona replay`: a till that publishes recorded sales over MQTT, and loses none of them."""

import argparse
import asyncio
import gzip
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import uvloop

from edge.clock import SystemClock
from edge.errors import ConfigError, RemoteError
from edge.pos.mqtt import MqttSettings
from edge.pos.replay import Row, read_rows, receipts_from_rows
from edge.pos.till import SpoolingTill, Transaction
from edge.pos.topics import gln_of_store
from edge.records.receipt import ReceiptKind

_CHUNK = 500  # receipts rung before the screen is drawn again
_STALL_S = 30.0
_EXAMPLES = """\
The file is CSV (gzip too) with the columns store, week, sku, units, price_cents, unit_cost_cents, deal, feature.
Each week's units become receipts of one to five lines that sum to them exactly, spread over the week's business days.

examples:
  pomona replay sales.csv.gz --store 2 --broker 127.0.0.1:1883 --lane 1 --password-file till-1.password
  pomona replay sales.csv --gln 2900000000025 --spool ./till-1     may be killed and started again
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `replay`."""
    parser = commands.add_parser(
        "replay",
        help="a till that publishes recorded sales over MQTT",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE.csv[.gz]")
    parser.add_argument("--store", type=int, help="the store to replay; default: the only one in the file")
    parser.add_argument("--gln", help="the shop's GLN; default: one made of the store's number")
    parser.add_argument("--broker", default="127.0.0.1:1883", metavar="HOST:PORT", help="IP address and port")
    parser.add_argument("--lane", default="1", help="the lane, which is the user name too")
    parser.add_argument("--password-file", default="", metavar="FILE", help="first line: the till's password")
    parser.add_argument("--tls-ca", default="", metavar="FILE", help="the authority's certificate; none: plain MQTT")
    parser.add_argument("--messages-max", type=int, default=30_000, metavar="N", help="at most so many messages")
    parser.add_argument("--seed", type=int, default=1, help="of the split into receipts")
    parser.add_argument("--currency", default="USD", help="ISO 4217 code of the prices")
    parser.add_argument("--spool", type=Path, metavar="DIR", help="keep the spool here, and go on from it if it exists")
    parser.add_argument(
        "--day-by-day", action="store_true", help="begin a day when the box's price book knows the day before it"
    )
    parser.add_argument("--timeout", type=float, default=0.0, metavar="S", help="give up after so long; 0: never")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.messages_max < 1:
        raise ConfigError("--messages-max", "must be positive")
    store, rows = _rows(options)
    transactions = receipts_from_rows(rows, seed=options.seed, messages_max=options.messages_max)[store]
    spool = options.spool or Path(tempfile.mkdtemp(prefix="pomona-till-"))
    started = time.monotonic()
    try:
        done = uvloop.run(_replay(options, store, transactions, spool))
    except (KeyboardInterrupt, TimeoutError) as error:
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else "timed out"
        raise RemoteError(f"{why}; what is not acknowledged lies in {spool}: go on with --spool {spool}") from None
    if options.spool is None:
        shutil.rmtree(spool, ignore_errors=True)
    seconds = time.monotonic() - started
    if options.json:
        print(json.dumps({"store": store, **done, "seconds": round(seconds, 3)}))
    else:
        print(
            f"store {store}: {done['published']} messages published, {done['acknowledged']} acknowledged, "
            f"{done['refused']} refused, {done['units']} units, in {seconds:.1f} s"
        )
    return 0 if done["acknowledged"] == done["published"] and not done["refused"] else 1


def _rows(options: argparse.Namespace) -> tuple[int, list[Row]]:
    try:
        opener = gzip.open if options.file.suffix == ".gz" else open
        with opener(options.file, "rt", encoding="utf-8", newline="") as lines:
            rows = read_rows(lines)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise ConfigError(str(options.file), str(error)) from None
    stores = sorted({row.store for row in rows})
    if not stores:
        raise ConfigError(str(options.file), "has no rows")
    if options.store is None and len(stores) > 1:
        shown = ", ".join(map(str, stores[:8])) + (", ..." if len(stores) > 8 else "")
        raise ConfigError("--store", f"the file holds {len(stores)} stores ({shown}); a till belongs to one")
    store = stores[0] if options.store is None else options.store
    if store not in stores:
        raise ConfigError("--store", f"{store} is not in the file")
    return store, [row for row in rows if row.store == store]


async def _replay(
    options: argparse.Namespace, store: int, transactions: list[Transaction], spool: Path
) -> dict[str, int]:
    host, _, port = options.broker.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError("--broker", "must be HOST:PORT")
    settings = MqttSettings(
        host=host.strip("[]"),
        port=int(port),
        username=options.lane,
        password_file=options.password_file,
        client_id=options.lane,
        tls_ca=options.tls_ca,
    )
    refused: list[str] = []
    books = asyncio.Event()
    till = SpoolingTill(
        settings,
        gln=options.gln or gln_of_store(store),
        lane=options.lane,
        directory=spool,
        currency=options.currency,
        clock=SystemClock(),
        rng=random.Random(),
        on_refused=lambda refusal: refused.append(f"{refusal.sequence}: {refusal.reason} {refusal.field}"),
        on_book=lambda _manifest: books.set(),
        with_book=options.day_by_day,
    )
    async with asyncio.timeout(options.timeout or None), till.running():
        screen = asyncio.create_task(_screen(till, len(transactions), quiet=options.json))
        try:
            for group in _groups(transactions, till.rung, day_by_day=options.day_by_day):
                await till.ring_all(group)
                if options.day_by_day:
                    await till.drained()
                    await _known(till, books, group[-1].business_day)
            await till.drained()
        finally:
            screen.cancel()
    for text in refused[:5]:
        print(f"refused: message {text}", file=sys.stderr)
    units = sum(line.quantity_milli // 1000 for t in transactions for line in t.lines)
    return {"published": till.rung, "acknowledged": till.acknowledged, "refused": len(refused), "units": units}


def _groups(transactions: list[Transaction], start: int, *, day_by_day: bool) -> Iterator[list[Transaction]]:
    """What is rung at once: a day with its end, or as much as the screen should wait for."""
    while start < len(transactions):
        end = min(start + _CHUNK, len(transactions))
        if day_by_day:
            rest = range(start, len(transactions))
            end = next((at for at in rest if transactions[at].kind is ReceiptKind.DAY_END), rest[-1]) + 1
        yield transactions[start:end]
        start = end


async def _known(till: SpoolingTill, books: asyncio.Event, day: date) -> None:
    """Wait until the box has published a book that it made knowing `day`."""
    while till.book.manifest is None or till.book.manifest.decided_through < day:
        books.clear()
        await books.wait()


async def _screen(till: SpoolingTill, total: int, *, quiet: bool) -> None:
    """Progress on a terminal; on anything else only a word when nothing moves."""
    moved, moved_at, shown = -1, time.monotonic(), False
    while True:
        if not quiet and sys.stderr.isatty():
            print(f"\r{till.acknowledged}/{total} acknowledged", end="", file=sys.stderr, flush=True)
        if till.acknowledged != moved:
            moved, moved_at, shown = till.acknowledged, time.monotonic(), False
        elif time.monotonic() - moved_at > _STALL_S and not shown:
            shown = True
            state = "connected, but nothing is acknowledged" if till.link.connected else till.link.last_error
            print(f"waiting for the box: {state}", file=sys.stderr, flush=True)
        await asyncio.sleep(0.5)
