"""A new shop's start is computed from the answer of its box and from its own ledger."""

from datetime import date

from edge.demo.beginning import calendar_week, insights_of, told_of
from edge.records.history import week_of

COLUMNS = ["network", "kind", "category", "sku", "term", "week", "mean", "error", "between", "shops", "owners"]
COLUMNS += ["unit", "epsilon", "delta", "deviation"]


def answer(*rows: tuple[object, ...]) -> dict[str, object]:
    rest = (0.3, 2, 1, "none", 0.0, 0.0, 0.0)
    return {"columns": [[name, "any"] for name in COLUMNS], "rows": [[*row, *rest] for row in rows]}


def test_what_a_box_was_told_is_read_from_its_answer() -> None:
    found = insights_of(
        answer(
            ("shops", "insights", "juice", "a", "price", 2900, -2.5, 0.1),
            ("shops", "insights", "juice", "a", "carry", 2900, 0.2, 0.1),
            ("shops", "insights", "milk", "m", "price", 2900, -1.5, 0.1),
            ("shops", "trends", "juice", "a", "trend", 2900, 0.01, 0.1),
            ("others", "insights", "juice", "a", "price", 2900, -9.0, 0.1),
        ),
        "juice",
    )
    assert set(found) == {"a"}
    assert set(found["a"]) == {"price", "carry"}
    assert (found["a"]["price"].mean, found["a"]["price"].shops, found["a"]["price"].week) == (-2.5, 2, 2900)


def test_what_is_too_uncertain_or_about_nobody_here_is_no_start() -> None:
    sure = insights_of(answer(("shops", "insights", "juice", "a", "price", 2900, -2.5, 0.1)), "juice")
    unsure = insights_of(answer(("shops", "insights", "juice", "a", "price", 2900, -2.5, 2.0)), "juice")
    told = told_of(sure, ("a", "b"), 2900)
    assert told is not None
    assert (told.shops, told.coefficients) == (2, 1)
    assert told_of(unsure, ("a", "b"), 2900) is None
    assert told_of(sure, ("b",), 2900) is None
    assert told_of({}, ("a", "b"), 2900) is None


def test_the_calendar_is_that_of_the_box() -> None:
    assert calendar_week({"days": {"newest": "2026-03-30"}}) == week_of(date(2026, 3, 30))
    assert calendar_week({"days": {"newest": None}}) == 0
