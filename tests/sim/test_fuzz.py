"""A short run over every fuzz entry point, and proof that the runner finds what it is there to find."""

import pytest
from support_fuzzing import Broken, Target, make_input, run, targets

from edge.errors import RemoteError

EXECUTIONS, SECONDS = 10_000, 1.0  # of each target, whichever comes first; the examples always


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_any_bytes_give_a_value_or_a_remote_error(target: Target) -> None:
    assert run(target, 1, executions=EXECUTIONS, seconds=SECONDS) > len(target.examples)


def decodes_carelessly(data: bytes) -> None:
    if len(data) > 3 and data[0] < 128:
        raise RemoteError("not this one")
    if data[1:2] == b"\xff":
        data[3:].decode()


def believes_a_length(data: bytes) -> None:
    if data[:1] == b"\xfe" and len(data) >= 5:
        bytearray(min(int.from_bytes(data[1:5], "little"), 2**25))


def claims_too_much(data: bytes) -> None:
    assert b"\x00" not in data[:4], "there is a zero"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (decodes_carelessly, "UnicodeDecodeError"),
        (believes_a_length, "allocated .* for an input of"),
        (claims_too_much, "AssertionError: there is a zero"),
    ],
)
def test_the_runner_finds_a_seeded_bug_and_says_how_to_see_it_again(call: object, message: str) -> None:
    assert callable(call)
    target = Target("seeded.bug", call, (b"\xfe\x01\x02\x03\x04rest", b"\x81\x01abc"))
    with pytest.raises(Broken, match=message) as caught:
        run(target, 7, executions=100_000)
    number = int(str(caught.value).partition("--first ")[2].split()[0])
    data = make_input(target, 7, number)
    assert data[:400].hex() in str(caught.value)
    with pytest.raises(Broken):
        run(target, 7, executions=1, first=number)


def test_inputs_depend_on_seed_target_and_number_alone() -> None:
    one, other = (Target(name, len, (b"corpus",)) for name in ("one", "other"))
    assert make_input(one, 1, 0) == b"corpus"
    inputs = [make_input(one, 1, number) for number in range(1, 200)]
    assert inputs == [make_input(one, 1, number) for number in range(1, 200)]
    assert len(set(inputs)) > 150
    assert inputs != [make_input(other, 1, number) for number in range(1, 200)]
    assert inputs != [make_input(one, 2, number) for number in range(1, 200)]
