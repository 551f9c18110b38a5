from datetime import date

import pytest

from edge.errors import RecordInvalid
from edge.limits import ITEMS_MAX
from edge.pos.item_file import changes, parse_items
from edge.records.item import Promotion

HEAD = "sku,name,category,reference_price,cost"


def test_every_column() -> None:
    text = (
        f"\ufeff{HEAD},floor,ceiling,ladder,size,weighed,promotions\n"
        '04012345678901,"Apples, red",fruit,1.99,1.2345,1.50,2.49,apples,500,yes,'
        "2026-11-23..2026-11-29@1.49*;2026-12-01..2026-12-01@1.00\n\n"
    )
    (item,) = parse_items(text, "EUR")
    assert (item.reference_minor, item.cost_e4, item.floor_minor, item.ceiling_minor) == (199, 12345, 150, 249)
    assert (item.name, item.ladder, item.size, item.weighed) == ("Apples, red", "apples", 500.0, True)
    assert item.promotions == (
        Promotion(date(2026, 11, 23), date(2026, 11, 29), 149, featured=True),
        Promotion(date(2026, 12, 1), date(2026, 12, 1), 100),
    )
    assert parse_items(f"{HEAD}\na,b,c,300,1\n", "JPY")[0].reference_minor == 300


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,b,c,1.999,1", "line 2, column reference_price: 1.999 has more decimals"),
        ("a,b,c,,1", "line 2, column reference_price: '' is not a decimal"),
        ("a,b,c,1,1.00001", "line 2, column cost: 1.00001 has more decimals"),
        ("a,b,c,1e999999999,1", "line 2, column reference_price"),
        ("a,b,c,NaN,1", "line 2, column reference_price"),
        ("a,b,c,-1,1", "line 2: item a: reference_minor"),
        ("a b,b,c,1,1", "line 2: sku"),
        ("a,b,c,1", "line 2: 4 cells under 5 columns"),
        ("a,b,c,1,1\na,b,c,1,1", "line 3, column sku: a is on line 2 already"),
        ('a,"b,c,1,1', "line 2: unexpected end"),
    ],
)
def test_errors_name_line_and_column(row: str, message: str) -> None:
    with pytest.raises(RecordInvalid, match=message):
        parse_items(f"{HEAD}\n{row}\n", "EUR")


def test_columns_are_checked() -> None:
    for head, message in ((f"{HEAD},colour", "colour"), ("sku,name", "category is missing"), (f"{HEAD},sku", "twice")):
        with pytest.raises(RecordInvalid, match=message):
            parse_items(head + "\n", "EUR")
    with pytest.raises(RecordInvalid, match="column promotions"):
        parse_items(f"{HEAD},promotions\na,b,c,1,1,2026-01-01@1\n", "EUR")
    with pytest.raises(RecordInvalid, match="more than"):
        parse_items(HEAD + "\n" + "\n".join(f"s{n},b,c,1,1" for n in range(ITEMS_MAX + 1)), "EUR")


def test_changes_are_the_difference() -> None:
    old = {item.sku: item for item in parse_items(f"{HEAD}\na,A,c,1,1\nb,B,c,1,1\n", "EUR")}
    new = parse_items(f"{HEAD}\na,A,c,1,1\nb,B,c,2,1\nd,D,c,1,1\n", "EUR")
    found = changes(old, new)
    assert ([item.sku for item in found.upserts], found.removed) == (["b", "d"], ())
    assert changes(old, new[:1]).removed == ("b",)
    assert not changes(old, old.values())
