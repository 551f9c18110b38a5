import contextlib
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_memory import fed, item, line, post_void, receipt

from edge.encoding import cbor
from edge.errors import RemoteError
from edge.memory.columns import MAGIC, read_columns, write_columns
from edge.memory.image import MemoryImage

DTYPES = ("|u1", "|i1", "<i2", "<u2", "<i4", "<i8")


@given(st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 100), max_size=9)), max_size=5))
def test_what_is_written_is_read(content: list[tuple[str, list[int]]]) -> None:
    columns = {f"c{n}": np.array(values, dtype) for n, (dtype, values) in enumerate(content)}
    fields, found = read_columns(write_columns({"length": 7}, columns))
    assert fields == {"length": 7, "version": 1}
    assert {name: (c.dtype.str, c.tolist()) for name, c in found.items()} == {
        name: (c.dtype.str, c.tolist()) for name, c in columns.items()
    }


def snapshot() -> bytes:
    memory = fed(receipt(1, line("apple", 2, 199)), receipt(2, line("bread", 1, 99)), post_void(3, 1))
    memory.apply_items([item("apple")], receipt(1, line("apple", 1, 1)).business_day)
    return memory.snapshot(ledger=b"key", length=3)


def resealed(body: bytes) -> bytes:
    return body + hashlib.sha256(body).digest()


@settings(max_examples=300)
@given(st.data())
def test_any_damage_is_noticed(data: st.DataObject) -> None:
    good = snapshot()
    at = data.draw(st.integers(0, len(good) - 1))
    flipped = bytearray(good)
    flipped[at] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(flipped), good[:at], good + b"\0"):
        with pytest.raises(RemoteError):
            MemoryImage.decode(bad)


@settings(max_examples=300)
@given(st.data())
def test_damage_under_a_good_hash_is_refused_or_harmless_but_never_another_error(data: st.DataObject) -> None:
    body = bytearray(snapshot()[:-32])
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(RemoteError):
        MemoryImage.decode(resealed(bytes(body)))


@pytest.mark.parametrize(
    "header",
    [
        {"version": 2, "columns": []},
        {"version": 1},
        {"version": 1, "columns": [["a", "<f8", 1]]},
        {"version": 1, "columns": [["a", "<i8", -1]]},
        {"version": 1, "columns": [["a", "<i8", 2**40]]},
        {"version": 1, "columns": [["a", "<i8"]]},
        [],
    ],
)
def test_headers_that_are_not_ours_are_refused(header: object) -> None:
    data = cbor.encode(header)
    body = MAGIC + len(data).to_bytes(4, "little") + data
    with pytest.raises(RemoteError):
        read_columns(resealed(body + bytes(-len(body) % 8)))


def test_bytes_after_the_last_column_are_refused() -> None:
    with pytest.raises(RemoteError, match="after"):
        read_columns(resealed(write_columns({}, {})[:-32] + bytes(8)))
