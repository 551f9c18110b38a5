from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.memory.pages import PRICE_BITS, WeekPage, pack

ROWS = st.lists(
    st.tuples(
        st.integers(0, 65_535),
        st.sampled_from((0, 99, 127, 128, 100_000_000)),
        st.sampled_from((0, 1000, -1000, 2**40)),
        st.sampled_from((0, 5, -5, -(2**50))),
        st.sampled_from((0, 1, -1)),
    ),
    max_size=30,
)


def arrays(rows: list[tuple[int, int, int, int, int]]) -> tuple[np.ndarray, ...]:
    table = np.array(rows, np.int64).reshape(-1, 5)
    return (table[:, 0] << PRICE_BITS) | table[:, 1], table[:, 2], table[:, 3], table[:, 4]


@given(ROWS, ROWS)
def test_a_page_is_a_dictionary_of_sums(
    first: list[tuple[int, int, int, int, int]], second: list[tuple[int, int, int, int, int]]
) -> None:
    sums: dict[tuple[int, int], np.ndarray] = defaultdict(lambda: np.zeros(3, np.int64))
    for item, price, *values in first + second:
        sums[item, price] += np.array(values)
    page = WeekPage.build(*arrays(first)).merged(*arrays(second))
    found = {
        (int(i), int(p)): [int(u), int(a), int(n)]
        for i, p, u, a, n in zip(page.item, page.price, page.units, page.amount, page.lines, strict=True)
    }
    assert found == {key: values.tolist() for key, values in sums.items() if values.any()}
    assert list(found) == sorted(found)
    wanted = np.array(sorted({0, 7, *(item for item, *_ in first)}, reverse=True))
    rows, columns = page.rows_of(wanted)
    assert [(int(wanted[c]), int(r)) for r, c in zip(rows, columns, strict=True)] == [
        (int(i), r) for i in wanted for r in range(len(page)) if page.item[r] == i
    ]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([], "i1"), ([127, -128], "i1"), ([128], "i2"), ([-32_769], "i4"), ([2**31], "i8"), ([-(2**63)], "i8")],
)
def test_columns_take_the_narrowest_type_that_holds_them(values: list[int], dtype: str) -> None:
    packed = pack(np.array(values, np.int64))
    assert packed.dtype == np.dtype(dtype)
    assert packed.tolist() == values
