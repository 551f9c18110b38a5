"""The decision record: one encoding, nothing out of range, rows as they were written."""

import contextlib
import hashlib
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import ClockQuality, WallTime
from edge.encoding import cbor
from edge.errors import LocalError, RemoteError
from edge.records.decision import (
    Arm,
    DecisionBatch,
    Mode,
    PeersHeard,
    Source,
    decode_decisions,
    encode_decisions,
)


def batch(seed: int = 0, items: int = 5, features: int = 3) -> DecisionBatch:
    rng = np.random.default_rng(seed)

    def prices() -> np.ndarray:
        return rng.integers(0, 100_000_000, items, endpoint=True).astype(np.int32)

    def numbers() -> np.ndarray:
        return rng.normal(0, 10, items).astype(np.float32)

    asked = numbers()
    asked[rng.random(items) < 0.2] = np.nan
    return DecisionBatch(
        category="juice",
        business_day=date.fromordinal(int(rng.integers(1, 3_000_000))),
        week=int(rng.integers(0, 3000)),
        mode=list(Mode)[int(rng.integers(3))],
        source=list(Source)[int(rng.integers(4))],
        arm=list(Arm)[int(rng.integers(3))],
        arm_propensity=float(rng.random()),
        wash_out=bool(rng.random() < 0.5),
        model="sac 0123",
        model_sha256=rng.bytes(32) if rng.random() < 0.5 else b"",
        observation_version=1,
        failures=("sac: äöü",) * int(rng.integers(4)),
        currency="EUR",
        recorded=WallTime(int(rng.integers(0, 2**50)), list(ClockQuality)[int(rng.integers(3))]),
        skus=tuple(f"sku-{item}" for item in range(items)),
        published=prices(),
        chosen=prices(),
        previous=prices(),
        reference=prices(),
        rules=rng.integers(0, 1 << 16, items).astype(np.int32),
        asked=asked,
        suggestion=numbers(),
        cost=numbers(),
        units_hold=numbers(),
        units_change=numbers(),
        units_change_sd=numbers(),
        profit_change=numbers(),
        profit_change_sd=numbers(),
        random_step=numbers(),
        propensity=numbers(),
        observation=rng.normal(size=(items, features)).astype(np.float32),
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 50))
def test_what_is_read_is_what_was_written(seed: int, items: int, features: int) -> None:
    written = batch(seed, items, features)
    block = encode_decisions(written)
    read = decode_decisions(block)
    assert read == written
    assert encode_decisions(read) == block
    for name in ("published", "rules", "asked", "observation"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
    assert read.recorded == written.recorded
    assert read.business_day == written.business_day


def test_without_peers_a_batch_is_the_bytes_that_version_1_always_was() -> None:
    """The digest was taken before there was a version 2."""
    block = encode_decisions(batch(0))
    assert hashlib.sha256(block).hexdigest() == "9134795e77675aee285a7d9cc16b52a531ea7a0238d5595061fd04f0445c3adf"
    assert decode_decisions(block).peers is None


@pytest.mark.parametrize("heard", [PeersHeard(1, 0, 1), PeersHeard(1_000_000, 1_000_000, 5 * 1024 + 5)])
def test_what_peers_had_to_do_with_it_is_kept(heard: PeersHeard) -> None:
    written = replace(batch(6), peers=heard)
    block = encode_decisions(written)
    read = decode_decisions(block)
    assert read == written
    assert read.peers == heard
    assert read.decision(0).peers == heard
    assert encode_decisions(read) == block


@pytest.mark.parametrize(
    "end", [[0, 5, 5], [1, -1, 5], [1, 5, 0], [1, 5, 5126], [True, 5, 5], [1.0, 5, 5], [1, 5], [1, 5, 5, 5], []]
)
def test_a_version_2_with_anything_else_at_its_end_is_refused(end: list[object]) -> None:
    body = cbor.decode(encode_decisions(batch(6)))
    assert isinstance(body, list)
    with pytest.raises(RemoteError):
        decode_decisions(cbor.encode([7, 2, *body[2:], *end]))
    with pytest.raises(RemoteError):
        decode_decisions(cbor.encode([7, 1, *body[2:], 1, 5, 5]))


def test_a_row_is_a_view_of_the_batch() -> None:
    whole = batch(1)
    row = whole.find("sku-3")
    assert row is not None
    assert (row.published_minor, row.rules) == (int(whole.published[3]), int(whole.rules[3]))
    assert row.profit_change == float(whole.profit_change[3])
    assert row.observation.tolist() == whole.observation[3].tolist()
    assert [decision.sku for decision in whole] == list(whole.skus)
    assert whole.find("nothing") is None


def test_a_thousand_items_fit_a_block_with_room_for_more_features() -> None:
    assert len(encode_decisions(batch(2, 1024, 64))) < 512 * 1024


def _body(**changes: object) -> list[object]:
    """The decoded block of a batch with places (counted from the end of the head) replaced."""
    body = cbor.decode(encode_decisions(batch(3)))
    assert isinstance(body, list)
    for place, value in changes.items():
        body[int(place[1:])] = value
    return body


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("p0", 6), ("p1", 2), ("p2", ""), ("p2", "x" * 65), ("p3", 0), ("p3", 4_000_000), ("p4", -1), ("p5", 3),
        ("p6", 4), ("p7", 3), ("p7", True), ("p8", 1), ("p8", 1.5), ("p9", 0), ("p11", b"short"), ("p12", -1),
        ("p13", ["x"] * 5),
        ("p13", ["x" * 201]), ("p13", [1]), ("p14", "eur"), ("p15", b""), ("p15", b"a\na\nb\nc\nd"),
        ("p15", b"a/b\nb\nc\nd\ne"), ("p15", ["a", "b", "c", "d", "e"]), ("p16", b"1234"), ("p16", b"\xff" * 20),
        ("p21", 5), ("p22", b"\x00\x00\xc0\x7f" * 5),
        ("p31", b"123"), ("p31", b"\x00\x00\x80\x7f" * 5), ("p32", -1), ("p33", 3),
    ],
)  # fmt: skip
def test_anything_out_of_range_is_refused(place: str, value: object) -> None:
    assert decode_decisions(cbor.encode(_body())) == batch(3)
    with pytest.raises(RemoteError):
        decode_decisions(cbor.encode(_body(**{place: value})))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 600))
def test_any_bytes_are_a_batch_or_refused(noise: bytes, at: int) -> None:
    block = encode_decisions(batch(4))
    data = block[:at] + noise + block[at + len(noise) :]
    with contextlib.suppress(RemoteError):
        assert encode_decisions(decode_decisions(data)) == data


def test_columns_of_the_wrong_shape_are_our_own_mistake() -> None:
    good = batch(5)
    fields = {name: getattr(good, name) for name in DecisionBatch.__dataclass_fields__}
    with pytest.raises(LocalError):
        DecisionBatch(**{**fields, "asked": good.asked.astype(np.float64)})
    with pytest.raises(LocalError):
        DecisionBatch(**{**fields, "rules": good.rules[:-1]})
