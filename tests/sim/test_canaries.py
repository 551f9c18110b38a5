"""Nothing beyond the matrix leaves: canaries planted in raw records are looked for in every looser feed."""

import shutil
from pathlib import Path

import pytest
from support_canaries import Canaries, Trial, hits, numbers_in, trial

from edge.encoding import cbor


@pytest.mark.parametrize("seed", range(6))
def test_no_canary_leaves_the_private_network(seed: int, tmp_path: Path) -> None:
    outcome = trial(seed, 150, tmp_path)
    assert outcome.found == 0
    assert outcome.raw >= 150
    assert outcome.refused >= 10


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_no_canary_of_a_hundred_thousand_raw_records_leaves(tmp_path: Path) -> None:
    raw = left = refused = canaries = left_bytes = seed = 0
    while raw < 100_000:
        seed += 1
        outcome = trial(1000 + seed, 2000, tmp_path / str(seed))
        shutil.rmtree(tmp_path / str(seed))  # some 60 MB of segments
        assert outcome.found == 0, f"seed {1000 + seed}: {outcome}"
        raw, left, refused = raw + outcome.raw, left + outcome.left, refused + outcome.refused
        canaries, left_bytes = canaries + outcome.canaries, left_bytes + outcome.left_bytes
    assert left > 100
    print(
        f"{raw:,} raw records with {canaries:,} canaries in {seed} shops; {left:,} messages of {left_bytes:,} bytes "
        f"left; {refused:,} attempts refused; 0 canaries found"
    )


def test_something_leaves_so_that_there_is_something_to_search(tmp_path: Path) -> None:
    outcomes = [trial(seed, 150, tmp_path / str(seed)) for seed in range(10, 16)]
    assert sum(outcome.left for outcome in outcomes) > 5


def test_the_search_finds_a_canary_in_any_form() -> None:
    canaries = Canaries(frozenset())
    sku, price, position = canaries.text("P-"), canaries.number(70_000, 10**8), canaries.number(2**40, 2**41)
    patterns = canaries.patterns()
    assert hits(bytes(500), patterns) == 0
    for leak in (
        sku.encode(),
        cbor.encode([1, price, 2]),
        str(price).encode(),
        cbor.encode({"a": position}),
        position.to_bytes(8, "little"),
    ):
        assert hits(b"before" + bytes(200) + leak + b"after", patterns) >= 1
    assert list(numbers_in({"rows": [[sku, float(price), 0.5, True]]})) == [price, 1]


def test_canaries_are_distinct_and_nothing_that_a_release_may_say() -> None:
    found = Trial(3, 200)
    lines = [line for receipt in found.receipts for line in receipt.lines]
    assert len({line.unit_minor for line in lines}) == len(lines)
    assert len({receipt.lane for receipt in found.receipts}) == len(found.receipts)
    assert not found.canaries.numbers & found.canaries.forbidden
