from hypothesis import given
from hypothesis import strategies as st

from edge.hypercore.replicator.stretches import Stretches, overlap

span = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair)))
changes = st.lists(st.tuples(st.booleans(), span), max_size=40)


def built(steps: list[tuple[bool, tuple[int, int]]]) -> tuple[Stretches, set[int]]:
    stretches, model = Stretches(), set[int]()
    for put, (start, end) in steps:
        if put:
            stretches.add(start, end)
            model.update(range(start, end))
        else:
            stretches.remove(start, end)
            model.difference_update(range(start, end))
    return stretches, model


def members(spans: object) -> set[int]:
    return {index for start, end in spans for index in range(start, end)}  # type: ignore[attr-defined]


@given(changes, span)
def test_stretches_are_a_set(steps: list[tuple[bool, tuple[int, int]]], window: tuple[int, int]) -> None:
    stretches, model = built(steps)
    assert stretches.edges == sorted(set(stretches.edges))
    assert len(stretches.edges) % 2 == 0
    assert members(stretches) == model == {index for index in range(70) if index in stretches}
    assert bool(stretches) == bool(model)
    assert stretches.first() == (min(model) if model else None)
    low, high = window
    assert members(stretches.within(low, high)) == {index for index in model if low <= index < high}
    assert members(stretches.gaps(low, high)) == set(range(low, high)) - model
    assert stretches.covers(low, high) == (set(range(low, high)) <= model)


@given(changes, changes, span)
def test_the_overlap_is_what_both_hold(
    one: list[tuple[bool, tuple[int, int]]], other: list[tuple[bool, tuple[int, int]]], window: tuple[int, int]
) -> None:
    (a, model_a), (b, model_b) = built(one), built(other)
    found = list(overlap(a, b, *window))
    assert members(found) == model_a & model_b & set(range(*window))
    assert found == sorted(found)


@given(changes, st.integers(1, 4))
def test_a_bounded_set_never_holds_what_was_not_put_in(
    steps: list[tuple[bool, tuple[int, int]]], spans_max: int
) -> None:
    stretches, model = Stretches(edges_max=2 * spans_max), set[int]()
    for put, (start, end) in steps:
        if put:
            stretches.add(start, end)
            model.update(range(start, end))
        else:
            stretches.remove(start, end)
            model.difference_update(range(start, end))
            assert not any(True for _ in stretches.within(start, end))
        assert len(stretches.edges) <= 2 * spans_max
        assert members(stretches) <= model
        assert stretches.edges == sorted(set(stretches.edges))


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=8),
    st.integers(0, 60),
    st.integers(0, 30),
    st.sets(st.integers(0, 29)),
    st.integers(1, 12),
)
def test_what_lies_in_a_range_is_replaced_at_once(
    before: list[tuple[int, int]], start: int, size: int, held: set[int], spans_max: int
) -> None:
    end = start + size
    stretches = Stretches((low, low + count) for low, count in before)
    model = {index for index in range(100) if index in stretches}
    indexes = sorted(start + each for each in held if each < size)
    stretches.replace(start, end, [(index, index + 1) for index in indexes])
    assert {index for index in range(100) if index in stretches} == model - set(range(start, end)) | set(indexes)
    assert stretches.edges == sorted(set(stretches.edges))
    assert not len(stretches.edges) & 1

    bounded = Stretches(((low, low + count) for low, count in before), edges_max=2 * spans_max)
    was = {index for index in range(100) if index in bounded}
    bounded.replace(start, end, [(index, index + 1) for index in indexes])
    assert len(bounded.edges) <= 2 * spans_max
    assert bounded.edges == sorted(set(bounded.edges))
    assert {index for index in range(100) if index in bounded} <= was - set(range(start, end)) | set(indexes)
