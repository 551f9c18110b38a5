"""The gate on the way out: what the type checker refuses, what is refused when it runs, and what is signed where."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support_network_boxes import Box, Founder, listed, stopped_at_the_end
from support_shared import payload_of

from edge.crypto.keys import signature_valid
from edge.errors import LocalError, RecordInvalid, StorageError, StorageFault
from edge.networks.access import FeedKind
from edge.networks.outlet import ConsortiumOutlet, OwnFeeds, PrivateOutlet, PublicOutlet, outlet_of
from edge.privacy.released import Cleared, cleared
from edge.records.message import Network, Place, decode, signable
from edge.records.shared import ItemDay, ModelInsight, Payload, PriceUpdate, RangeUpdate, TrendUpdate

ROOT = Path(__file__).parents[3]
SNIPPETS = """
from collections.abc import Callable, Awaitable
from edge.networks.outlet import ConsortiumOutlet, OwnFeeds, PrivateOutlet, PublicOutlet, SumsOutlet
from edge.privacy.released import Cleared, Released
from edge.privacy.secure_sum.messages import Ack, Message
from edge.records.message import NetworkMessage, Place
from edge.records.shared import ItemDay, ModelInsight, PriceUpdate, RangeUpdate, TrendUpdate

async def allowed(
    private: PrivateOutlet, consortium: ConsortiumOutlet, public: PublicOutlet, sums: SumsOutlet, one: Cleared,
    other: Released,
) -> Place:
    await sums.append(b"round", [Ack(b"close")])
    await consortium.append(other)
    await public.append(other)
    await private.append_all([one, one])
    return await private.append(one)

async def refused(
    private: PrivateOutlet,
    consortium: ConsortiumOutlet,
    public: PublicOutlet,
    sums: SumsOutlet,
    feeds: OwnFeeds,
    one: Cleared,
    other: Released,
    day: ItemDay,
    prices: PriceUpdate,
    ranges: RangeUpdate,
    trend: TrendUpdate,
    insight: ModelInsight,
    message: NetworkMessage,
) -> None:
    await consortium.append(day)  # E: a raw record
    await consortium.append(prices)  # E: a raw record
    await consortium.append(ranges)  # E: nobody has made it a release
    await consortium.append(insight)  # E: the same
    await consortium.append(one)  # E: cleared for a private network, not noised
    await consortium.append(one.payload)  # E: unwrapped
    await consortium.append(message)  # E: a message that somebody signed elsewhere
    await consortium.append(b"block")  # E: bytes
    await public.append(prices)  # E: a raw record
    await public.append(trend)  # E: of a single shop
    await public.append(one)  # E: not noised
    await private.append(day)  # E: identifiers may be in it
    await private.append(other)  # E: what was noised for others
    await private.append_all([day])  # E: the same in a list
    loose: PublicOutlet = private  # E: an outlet for another
    other_way: ConsortiumOutlet = private  # E: the same
    await sums.append(b"round", [day])  # E: a raw record
    await sums.append(b"round", [insight])  # E: not even what a consortium may see
    await sums.append(b"round", [other])  # E: a release belongs into the other feeds
    await sums.append(b"round", [b"block"])  # E: bytes
    await consortium.append(Ack(b"close"))  # E: of a sum, into the feeds of messages
    sink: Callable[[ItemDay], Awaitable[object]] = consortium.append  # E: hidden behind a function's type
    feeds.append(day)  # E: there is no such way
    Released(records=(day,), reservation=other.reservation, receipts=(), seal=None)  # E: a raw record inside
    print(loose, other_way, sink)
"""


def test_the_type_checker_refuses_every_way_of_a_raw_record_into_a_looser_feed(tmp_path: Path) -> None:
    path = tmp_path / "snippets.py"
    path.write_text(SNIPPETS)
    command = [sys.executable, "-m", "mypy", "--strict", "--output", "json", "--cache-dir", str(ROOT / ".mypy_cache")]
    found = subprocess.run([*command, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=110)
    errors = [json.loads(line) for line in found.stdout.splitlines() if line.startswith("{")]
    wrong = {error["line"] for error in errors if error["severity"] == "error"}
    expected = {number for number, line in enumerate(SNIPPETS.splitlines(), 1) if "# E:" in line}
    assert len(expected) >= 19
    assert wrong == expected, found.stdout + found.stderr


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    founder = await Founder.found(tmp_path / "a")
    founder.listen = ""
    async with stopped_at_the_end(founder):
        await founder.start()
        yield founder


def private(box: Box) -> PrivateOutlet:
    outlet = box.running.outlet()
    assert isinstance(outlet, PrivateOutlet)
    return outlet


def token(box: Box, kind: type[Payload] = TrendUpdate, **more: str) -> Cleared:
    payload = payload_of(kind, **more)  # type: ignore[arg-type]
    return cleared(box.folder.network_id, payload, listed(payload))


async def test_each_message_is_signed_for_the_place_that_it_gets(box: Box) -> None:
    kinds = (ItemDay, PriceUpdate, RangeUpdate, TrendUpdate, ModelInsight)
    places = await private(box).append_all([token(box, kind) for kind in kinds])
    assert len(set(places)) == 5
    roster = box.running.roster
    assert roster is not None
    seen = []
    for place in places:
        core = await box.running.store.get(key=place.feed_key, create=False)
        message = decode(core.get(place.sequence))
        kind = next(kind for kind, own in box.running._own.items() if own.core is core)
        key = roster.members[box.identity.public_key].signers[kind]
        assert signature_valid(key, signable(message, place), message.signature)
        elsewhere = Place(place.network_id, place.feed_key, place.sequence + 1)
        assert not signature_valid(key, signable(message, elsewhere), message.signature)
        seen.append((kind, type(message.payload)))
    assert sorted(seen, key=str) == sorted(
        [(FeedKind.PRICES, kind) for kind in kinds[:3]]
        + [(FeedKind.TRENDS, TrendUpdate), (FeedKind.INSIGHTS, ModelInsight)],
        key=str,
    )
    assert box.running.feeds.lengths() == {FeedKind.PRICES: 3, FeedKind.TRENDS: 1, FeedKind.INSIGHTS: 1}


async def test_many_at_once_stand_in_a_row_even_if_some_stop_waiting(box: Box) -> None:
    outlet = private(box)
    tasks = [asyncio.create_task(outlet.append(token(box, category=f"c{n}"))) for n in range(12)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    last = await outlet.append(token(box, category="last"))
    core = await box.running.store.get(key=last.feed_key, create=False)
    roster = box.running.roster
    assert roster is not None
    key = roster.members[box.identity.public_key].signers[FeedKind.TRENDS]
    for sequence, block in enumerate(core.blocks()):
        message = decode(block)
        assert signature_valid(
            key, signable(message, Place(last.network_id, last.feed_key, sequence)), message.signature
        )
    places = [place for place in done if isinstance(place, Place)]
    assert len(places) == 8
    for place in places:
        assert place.sequence < last.sequence == core.length - 1


async def test_a_token_of_another_network_is_refused(box: Box) -> None:
    payload = payload_of(TrendUpdate)
    with pytest.raises(RecordInvalid) as caught:
        await private(box).append(cleared(b"\x01" * 32, payload, listed(payload)))
    assert caught.value.reason == "network"
    assert sum(box.running.feeds.lengths().values()) == 0


async def test_the_matrix_is_asked_again_when_it_runs(box: Box) -> None:
    feeds = OwnFeeds(box.folder.network_id, Network.CONSORTIUM, box.clock)
    with pytest.raises(RecordInvalid) as caught:
        await feeds._append([payload_of(ItemDay)])
    assert caught.value.reason == "matrix"
    with pytest.raises(StorageError) as failed:
        await feeds._append([payload_of(RangeUpdate)])  # it may, but there is no feed
    assert failed.value.fault is StorageFault.READ_ONLY


async def test_an_outlet_is_of_its_networks_kind(box: Box) -> None:
    kinds: dict[Network, type[PrivateOutlet | ConsortiumOutlet | PublicOutlet]] = {
        Network.PRIVATE: PrivateOutlet,
        Network.CONSORTIUM: ConsortiumOutlet,
        Network.PUBLIC: PublicOutlet,
    }
    for network in Network:
        feeds = OwnFeeds(box.folder.network_id, network, box.clock)
        assert type(outlet_of(feeds)) is kinds[network]
        for other, kind in kinds.items():
            if other is not network:
                with pytest.raises(LocalError):
                    kind(feeds)
