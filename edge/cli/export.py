"""`pomona export`: sales, prices, decisions and what came from other shops, as CSV or Parquet.

A table of numbers that were protected says so in itself: rows of insights carry unit, epsilon, delta and the standard
deviation of the noise, and a Parquet file's metadata (`pomona.protection`) or the file beside a CSV says what of it is
exact.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TextIO

from edge.cli.asking import add_config, ask_box
from edge.errors import ConfigError

Column = tuple[str, str]  # name; int, float, text or bool
Row = tuple[Any, ...]
_KINDS: Final = ("sales", "prices", "decisions", "insights")
_BATCH_ROWS: Final = 50_000  # of a Parquet row group
_EXACT: Final = {"unit": "none", "epsilon": 0.0, "why": "this shop's own records; nothing was added or left out"}
_BY_ROW: Final = {"unit": "by row", "why": "columns unit, epsilon, delta and deviation say it of each row"}
_EXAMPLES: Final = """\
examples:
  pomona export sales --out sales.csv
  pomona export decisions --format parquet --out decisions.parquet
  pomona export insights | head                what this shop's networks say, with the epsilon of each row
"""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `export`."""
    parser = commands.add_parser(
        "export",
        help="sales, prices, decisions or insights as CSV or Parquet",
        description="Write a table of a box's records. A running box is asked; of a stopped one the ledger is read.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=_KINDS, help="sales: a row a receipt line; prices: a row a price of a book")
    add_config(parser)
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv", help="default csv")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: standard output (CSV alone)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    columns, rows = _table(options)
    note = _BY_ROW if options.kind == "insights" else _EXACT
    if options.format == "parquet":
        if options.out is None:
            raise ConfigError("--out", "a Parquet file needs a name")
        count = _write_parquet(options.out, columns, rows, note)
    elif options.out is None:
        _write_csv(sys.stdout, columns, rows)
        return 0
    else:
        try:
            with options.out.open("w", encoding="utf-8", newline="") as file:
                count = _write_csv(file, columns, rows)
            beside = options.out.with_name(options.out.name + ".meta.json")
            beside.write_text(json.dumps({"table": options.kind, "rows": count, "pomona.protection": note}) + "\n")
        except OSError as error:
            raise ConfigError("--out", f"{options.out} cannot be written: {error.strerror}") from None
    print(f"{count:,} rows in {options.out}", file=sys.stderr)
    return 0


def _table(options: argparse.Namespace) -> tuple[Sequence[Column], Iterator[Row]]:
    if options.kind == "insights":
        first = ask_box(options, "insights")
        return [tuple(column) for column in first["columns"]], _insights(options, first)
    from edge.box.reader import ledger_blocks  # noqa: PLC0415 - help needs none of this
    from edge.box.tables import TABLES, rows  # noqa: PLC0415
    from edge.config import load  # noqa: PLC0415

    table = TABLES[options.kind]
    return table.columns, rows(table, ledger_blocks(load(options.config)))


def _insights(options: argparse.Namespace, page: Any) -> Iterator[Row]:
    """The rows of a page, and of those that follow it."""
    while True:
        yield from map(tuple, page["rows"])
        if page["after"] is None:
            return
        page = ask_box(options, "insights", after=page["after"])


def _write_csv(file: TextIO, columns: Sequence[Column], rows: Iterable[Row]) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    return count


def _write_parquet(path: Path, columns: Sequence[Column], rows: Iterator[Row], note: object) -> int:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra; a box does without
        from pyarrow import parquet as pq  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("--format", "parquet needs pyarrow: pip install 'pomona[parquet]'") from None
    types = {"int": pa.int64(), "float": pa.float64(), "text": pa.string(), "bool": pa.bool_()}
    fields = [(name, types[kind]) for name, kind in columns]
    schema = pa.schema(fields, metadata={"pomona.protection": json.dumps(note)})
    count = 0
    try:
        with pq.ParquetWriter(path, schema) as writer:
            while batch := list(islice(rows, _BATCH_ROWS)):
                cells = zip(*batch, strict=True)
                arrays = [pa.array(column, field.type) for column, field in zip(cells, schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                count += len(batch)
    except OSError as error:
        raise ConfigError("--out", f"{path} cannot be written: {error.strerror or error}") from None
    return count
