"""compact-encoding: every form both ways, what cannot be written, and any bytes at all. Stock bytes: tests/interop."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.encoding import compact
from edge.encoding.compact import Reader
from edge.errors import LocalError, RemoteError
from edge.limits import INTEGER_MAX

numbers = st.one_of(*(st.integers(0, 2**bits) for bits in (8, 16, 32, 52)), st.integers(INTEGER_MAX - 3, INTEGER_MAX))


@given(numbers)
def test_integers_survive_in_their_shortest_form(value: int) -> None:
    data = compact.uint(value)
    reader = Reader(data)
    assert reader.uint() == value
    assert reader.left == 0
    assert len(data) == 1 + (value > 0xFC) * 2 + (value > 0xFFFF) * 2 + (value > 0xFFFFFFFF) * 4
    assert Reader(compact.uint64(value)).uint64() == value


@pytest.mark.parametrize("data", ["fd0100", "fe01000000", "ff0100000000000000"])
def test_longer_forms_are_read(data: str) -> None:
    assert Reader(bytes.fromhex(data)).uint() == 1


@pytest.mark.parametrize("value", [-1, INTEGER_MAX + 1])
def test_integers_beyond_a_double_are_not_written(value: int) -> None:
    with pytest.raises(LocalError):
        compact.uint(value)
    with pytest.raises(LocalError):
        compact.uint64(value)


def test_integers_beyond_a_double_are_not_read() -> None:
    data = (INTEGER_MAX + 1).to_bytes(8, "little")
    with pytest.raises(RemoteError, match="beyond"):
        Reader(b"\xff" + data).uint()
    with pytest.raises(RemoteError, match="beyond"):
        Reader(data).uint64()


@given(st.binary(max_size=300), st.text(max_size=100), st.lists(numbers, max_size=20))
def test_fields_in_a_row(data: bytes, text: str, items: list[int]) -> None:
    message = compact.buffer(data) + compact.string(text) + compact.array(map(compact.uint, items)) + b"\x01\x02"
    reader = Reader(message)
    assert reader.buffer() == data
    assert reader.string() == text
    assert reader.array(Reader.uint, items_max=20) == items
    assert reader.left == 2
    with pytest.raises(RemoteError, match="2 bytes after"):
        reader.end()
    assert reader.rest() == b"\x01\x02"
    reader.end()


def test_none_is_an_empty_buffer() -> None:
    assert compact.buffer(None) == compact.buffer(b"") == b"\x00"
    assert Reader(b"\x00").optional_buffer() is None
    assert Reader(b"\x01a").optional_buffer() == b"a"


def test_fixed_checks_the_size() -> None:
    assert compact.fixed(b"abc", 3) == b"abc"
    with pytest.raises(LocalError):
        compact.fixed(b"abc", 4)


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b"", Reader.uint),
        (b"\xfd\x01", Reader.uint),
        (b"\x01" * 7, Reader.uint64),
        (b"\x05abcd", Reader.buffer),
        (b"\xff" + b"\x00" * 6 + b"\x1f\x00", Reader.buffer),
        (b"\x01\xff", Reader.string),
        (b"\x03\x01\x02", lambda r: r.array(Reader.uint, items_max=9)),
        (b"\x0a" + b"\x00" * 10, lambda r: r.array(Reader.uint, items_max=9)),
        (b"\x02" + b"\x00" * 63, lambda r: r.array(lambda s: s.raw(32), items_max=9, item_bytes_min=32)),
    ],
)
def test_what_is_cut_short_or_too_large(data: bytes, read: Callable[[Reader], object]) -> None:
    with pytest.raises(RemoteError):
        read(Reader(data))


def test_a_count_is_checked_before_anything_is_read() -> None:
    def never(reader: Reader) -> int:
        raise AssertionError("read an item")

    with pytest.raises(RemoteError, match="do not fit"):
        Reader(b"\xfe\x00\x00\x00\x10" + b"a" * 100).array(never, items_max=2**30)


@given(st.binary(max_size=60), st.lists(st.sampled_from(["uint", "uint64", "buffer", "string", "optional_buffer"])))
def test_any_bytes_give_values_or_remote_error(data: bytes, fields: list[str]) -> None:
    reader = Reader(data)
    try:
        for field in fields:
            getattr(reader, field)()
        reader.array(Reader.buffer, items_max=8)
    except RemoteError:
        pass
    assert 0 <= reader.left <= len(data)
