"""Stretches of held blocks beside a plain dict from block to record."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edge.hypercore.runs import Runs, Stretch

index = st.integers(0, 60)
step = st.one_of(
    st.tuples(st.just("add"), index, st.integers(1, 6)),
    st.tuples(st.just("group"), st.sets(index, max_size=40), st.just(0)),
    st.tuples(st.just("drop"), index, index),
    st.tuples(st.just("truncate"), index, st.just(0)),
)


def check(runs: Runs, model: dict[int, int]) -> None:
    assert {i: s for i in range(80) if (s := runs.find(i)) is not None} == model
    assert [i for i in range(-1, 80) if runs.has(i)] == sorted(model)
    assert runs.contiguous == next(i for i in range(100) if i not in model)
    assert [i for start, end in runs.held(0, 100) for i in range(start, end)] == sorted(model)
    stretches = list(runs.held(0, 100))
    assert all(before[1] < after[0] for before, after in itertools.pairwise(stretches))
    assert [i for start, end in runs.held(5, 33) for i in range(start, end)] == sorted(i for i in model if 5 <= i < 33)
    assert all(first < end for first, end in zip(runs.firsts, runs.ends, strict=True))
    merged = itertools.pairwise(runs.placed(0, 100))
    assert not any(a[2] == b[0] and a[1] + a[2] - a[0] == b[1] for a, b in merged)  # nothing left to merge


@given(st.lists(step, max_size=20))
def test_runs_and_dict(steps: list[tuple[str, int | set[int], int]]) -> None:
    runs, model, sequence = Runs(), dict[int, int](), 100
    for kind, what, count in steps:
        if isinstance(what, set):
            fresh = sorted(what - model.keys())
            stretches: list[Stretch] = []
            for each in fresh:
                stretches.append((each, sequence, each + 1))
                model[each] = sequence
                sequence += 1
            runs.add_all(stretches)
        elif kind == "add":
            runs.add(what, sequence, count)
            model |= {what + n: sequence + n for n in range(count)}
            sequence += count
        else:
            end = count if kind == "drop" else 1000
            gone = {model.pop(i) for i in sorted(model) if what <= i < end}
            if kind == "drop":
                assert {s for first, last in runs.drop(what, end) for s in range(first, last)} == gone
            else:
                runs.truncate(what)
        check(runs, model)
    assert {s: runs.index_of(s) for s in model.values()} == {s: i for i, s in model.items()}
    assert runs.index_of(99) is None
    again = Runs(runs.firsts, runs.sequences, runs.ends)
    assert again.contiguous == runs.contiguous


def test_a_download_in_order_is_one_stretch() -> None:
    runs = Runs()
    for group in range(0, 1000, 100):
        runs.add_all([(i, i + 5, i + 1) for i in range(group, group + 100)])
    assert (len(runs.firsts), runs.contiguous) == (1, 1000)
