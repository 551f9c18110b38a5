"""Sales files: what is read is exact, what is wrong is named by row and column."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ConfigError
from trainer import generate, ingest
from trainer.sim.randomise import STOCKPILING

HEADER = ",".join(ingest.COLUMNS)
ROW = "7,12,abc,5,199,120.5,1,0.25"


def panel_of(tmp_path: Path, *rows: str, header: str = HEADER) -> list[ingest.Panel]:
    path = tmp_path / "sales.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return ingest.read(path)


def test_a_row_lands_where_it_belongs(tmp_path: Path) -> None:
    (panel,) = panel_of(tmp_path, ROW, "7,14,abc,6,209,121,0,0")
    assert (panel.stores, panel.skus, panel.weeks.tolist()) == (("7",), ("abc",), [12, 13, 14])
    assert panel.units[:, 0, 0].tolist()[0] == 5
    assert np.isnan(panel.units[1, 0, 0])
    assert (panel.price[0, 0, 0], panel.cost[0, 0, 0]) == (1.99, 1.205)
    assert panel.observed[:, 0, 0].tolist() == [True, False, True]
    assert panel.history(0).observed[:, 0].tolist() == [True, False, True]


def test_column_order_and_further_columns_do_not_matter(tmp_path: Path) -> None:
    (panel,) = panel_of(tmp_path, "x,0.25,1,120.5,199,5,abc,12,7", header="extra," + ",".join(reversed(ingest.COLUMNS)))
    assert panel.feature[0, 0, 0] == 0.25


def test_stores_with_other_items_are_panels_of_their_own(tmp_path: Path) -> None:
    panels = panel_of(tmp_path, ROW, "8,12,abc,1,199,1,0,0", "9,12,abc,1,199,1,0,0", "9,12,xyz,1,199,1,0,0")
    assert [panel.stores for panel in panels] == [("7", "8"), ("9",)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("7,12,abc,five,199,120,1,0", "row 3: units 'five' is no number"),
        ("7,12,abc,-1,199,120,1,0", "row 3: units -1.0 is outside"),
        ("7,12,abc,nan,199,120,1,0", "row 3: units nan is outside"),
        ("7,12,abc,1,0,120,1,0", "row 3: price_cents 0.0 is outside"),
        ("7,12.5,abc,1,199,120,1,0", "row 3: week 12.5 is no whole number"),
        ("7,13,abc,1,199,120,2,0", "row 3: deal 2.0 is outside"),
        ("7,13,abc,1,199,120,1", "row 3: feature None is no number"),
        (",13,abc,1,199,120,1,0", "row 3: store '' must have"),
        (ROW, "row 3: store 7, week 12, sku abc occurs twice"),
    ],
)
def test_what_is_wrong_is_named_by_row_and_column(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        panel_of(tmp_path, ROW, row)
    assert words in str(caught.value)


def test_a_missing_column_a_missing_file_and_no_csv_are_one_clear_error_each(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="column 'unit_cost_cents' is missing"):
        panel_of(tmp_path, header="store,week,sku,units,price_cents,deal,feature")
    with pytest.raises(ConfigError, match="cannot be read"):
        ingest.read(tmp_path / "absent.csv")
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(b"not gzip")
    with pytest.raises(ConfigError, match="cannot be read"):
        ingest.read(broken)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError):
        ingest.read(binary)
    with pytest.raises(ConfigError, match="holds no row"):
        panel_of(tmp_path)


def test_stores_that_are_asked_for_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text(f"{HEADER}\n{ROW}\n")
    assert ingest.read(path, ["7"])[0].stores == ("7",)
    with pytest.raises(ConfigError, match=r"not in .*: 8"):
        ingest.read(path, ["7", "8"])


def test_generated_sales_are_read_back_and_repeat_byte_for_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv.gz", tmp_path / "b.csv.gz"
    for path in (first, second):
        assert generate.write(path, STOCKPILING, stores=3, weeks=20, seed=4) == 3 * 20 * 11
    assert first.read_bytes() == second.read_bytes()
    assert gzip.decompress(first.read_bytes()).decode().startswith(HEADER + "\n")
    (panel,) = ingest.read(first)
    assert panel.units.shape == (20, 3, 11)
    assert panel.observed.all()
    promoted = panel.deal == 1
    assert 0.08 < promoted.mean() < 0.17
    # promotions sell: same item, same store, promoted against not
    assert panel.units[promoted].mean() > 1.5 * panel.units[~promoted].mean()
