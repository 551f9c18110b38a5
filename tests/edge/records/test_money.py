import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import RecordInvalid
from edge.records.money import cost_minor, minor_per_unit


@pytest.mark.parametrize(("currency", "minor"), [("EUR", 100), ("USD", 100), ("JPY", 1), ("KWD", 1000), ("CLP", 1)])
def test_minor_units_as_in_iso_4217(currency: str, minor: int) -> None:
    assert minor_per_unit(currency) == minor
    assert cost_minor(10_000, currency) == minor


@pytest.mark.parametrize("wrong", ["", "eur", "EURO", "E1R", "€", "EUR\n"])
def test_what_is_no_currency_code_is_refused(wrong: str) -> None:
    with pytest.raises(RecordInvalid):
        minor_per_unit(wrong)


@given(st.integers(0, 10**10))
def test_costs_keep_their_fractions(cost_e4: int) -> None:
    assert cost_minor(cost_e4, "EUR") * 100 == pytest.approx(cost_e4)
