"""Network messages: what a hostile one costs, and how many honest ones one core sends and accepts.

Bombs go through the gate (`DataValidator`) as a member's next block: CPU time and peak of allocations until it is
refused. Honest messages speak of one category of 100 items: sent is to_value, canonical CBOR
and two encodings around one Ed25519 signature; accepted is everything that the gate asks. Beside them, in turns, the
bare work that cannot be left out: `cbor2` and one signature, made or verified, of the same bytes.
"""

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import cbor2
from support_shared import NOW, PAYLOADS, WEEK_NOW, Shop, epoch_of, network_of, payload_of, shop_of

from edge.crypto.keys import signature_valid
from edge.errors import RemoteError
from edge.memory.validator import DataValidator
from edge.networks.access import FeedKind, feed_of
from edge.networks.following import Arrival
from edge.records.message import Network, NetworkMessage, encode, signable
from edge.records.shared import Payload
from edge.records.shared_codec import word_of

BOMB_MS_MAX, BOMB_BYTES_MAX = 5.0, 1_000_000
ITEMS = 100
BATCH = 40  # messages of one turn
MIB = 1 << 20


def bombs() -> dict[str, bytes]:
    """What a few bytes, or half a megabyte of them, can ask of a decoder."""
    inside = Honest(payload_of(PAYLOADS[1])).blocks[0]
    version = b"gversion\x01"
    return {
        "decimal 1E+1000000 (tag 4)": inside.replace(version, b"gversion" + bytes.fromhex("c4821a000f424001")),
        "regular expression (tag 35)": bytes.fromhex("d8236728612b292b2429"),
        "number of 500 kB (tag 2)": b"\xc2\x5a\x00\x07\xa1\x20" + b"\xff" * 500_000,
        "nested arrays, 500 kB": b"\x81" * 500_000,
        "nested maps, 500 kB": b"\xa1\x00" * 250_000,
        "nested tags, 500 kB": b"\xc1" * 500_000,
        "array of 2^32 announced": b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00",
        "map of 2^63 announced": b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
        "text of 2^63 announced": b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",
        "500,000 nulls": b"\x9a\x00\x07\xa1\x20" + b"\xf6" * 500_000,
        "indefinite array": b"\x9f" + b"\x00" * 500_000 + b"\xff",
        "keys that stand twice": inside.replace(b"\xa2gnetworkgprivate", b"\xa3gnetworkgprivategnetworkgprivate"),
        "not a number": inside.replace(b"\xf9\x34\x00", b"\xf9\x7e\x00", 1),
        "text that is not UTF-8, 60 kB": b"\x79\xea\x60" + b"a" * 59_999 + b"\xff",
        "a megabyte of zeros": bytes(1_000_000),
    }


def within_bounds() -> dict[str, bytes]:
    """Well-formed CBOR inside every bound, and no message: the dearest to turn down."""
    return {
        "131,000 empty arrays": b"\x9a" + (131_000).to_bytes(4, "big") + b"\x80" * 131_000,
        "58,000 floats": b"\x99\xe2\x90" + b"\xfb\x3f\xb9\x99\x99\x99\x99\x99\x9a" * 58_000,
    }


class Honest:
    """A writer of one kind of payload and what it has sent."""

    def __init__(self, payload: Payload, network: Network = Network.PRIVATE) -> None:
        self.shop: Shop = shop_of(network, 0)
        self.roster = network_of(network, [self.shop, *(shop_of(network, n) for n in range(1, 60))])
        self.epoch = epoch_of(1, network)
        self.kind: FeedKind = feed_of(payload)
        self.payload = payload
        self.blocks = self.send()

    def send(self) -> list[bytes]:
        """The path out, from a payload to a block; places are given, as they are for a feed's writer."""
        pair = self.shop.signers[self.kind]
        place = self.shop.place(self.roster.network_id, self.epoch, self.kind, 0)
        blocks = []
        for sequence in range(BATCH):
            there = replace(place, sequence=sequence)
            message = NetworkMessage(self.roster.network, NOW, self.payload)
            blocks.append(encode(replace(message, signature=pair.sign(signable(message, there)))))
        return blocks

    def accept(self) -> None:
        """The path in, of all of them, by a new gate."""
        gate = DataValidator(self.roster.network_id)
        epochs = {1: self.epoch}
        for arrival in self.arrivals(self.blocks):
            gate.validate_network_data(arrival, roster=self.roster, epochs=epochs, wall=NOW)

    def arrivals(self, blocks: list[bytes]) -> list[Arrival]:
        key = self.epoch.feed_key(self.kind, self.shop.signers[self.kind].public_key)
        id_, network = self.shop.member.id, self.roster.network_id
        return [Arrival(network, id_, self.kind, 1, key, n, block) for n, block in enumerate(blocks)]

    def bare_send(self) -> None:
        """The same bytes out of `cbor2` alone, signed."""
        pair, value = self.shop.signers[self.kind], cbor2.loads(self.blocks[0])
        for _ in range(BATCH):
            pair.sign(cbor2.dumps(value, canonical=True))

    def bare_accept(self) -> None:
        """The same bytes read by `cbor2`, one signature verified."""
        pair, block = self.shop.signers[self.kind], self.blocks[0]
        signature = pair.sign(block)
        for _ in range(BATCH):
            cbor2.loads(block)
            if not signature_valid(pair.public_key, block, signature):
                raise RuntimeError("a signature of our own does not verify")


def rows(seconds: float) -> list[dict[str, object]]:
    """Bombs, then each kind of message. Takes about `seconds`."""
    found = [bomb_row(name, block) for name, block in bombs().items()]
    found += [bomb_row(f"within bounds: {name}", block, target=False) for name, block in within_bounds().items()]
    share = max(0.2, min(seconds, 60.0) * 0.8 / len(PAYLOADS))
    for kind in PAYLOADS:
        skus = [f"40123456{n:06}" for n in range(ITEMS)]
        found += message_rows(word_of(kind), Honest(payload_of(kind, week=WEEK_NOW - 1, skus=skus)), share)
    return found


def bomb_row(name: str, block: bytes, *, target: bool = True) -> dict[str, object]:
    """CPU ms of the median of some refusals; the peak stands beside it."""
    honest = Honest(payload_of(PAYLOADS[1]))
    gate = DataValidator(honest.roster.network_id)
    (arrival,) = honest.arrivals([block])

    def refuse() -> None:
        try:
            gate.validate_network_data(arrival, roster=honest.roster, epochs={1: honest.epoch}, wall=NOW)
        except RemoteError:
            return
        raise RuntimeError(f"{name} was accepted")

    times = [cpu_ms(refuse) for _ in range(15)]
    tracemalloc.start()
    refuse()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    refuse()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    ms = statistics.median(times)
    said = f"peak {peak / 1000:,.0f} kB, {len(block):,} bytes"
    goal = f"<= {BOMB_MS_MAX:g} ms, <= {BOMB_BYTES_MAX // 1000} kB ({said})" if target else f"none ({said})"
    met = (ms <= BOMB_MS_MAX and peak <= BOMB_BYTES_MAX) if target else None
    return row(f"bomb: {name}", "CPU ms", ms, better="lower", target=goal, met=met)


def message_rows(name: str, honest: Honest, seconds: float) -> list[dict[str, object]]:
    """Messages and rows per second of CPU, out and in, and the bytes of one."""
    per_message = len(honest.payload.rows)
    found = []
    for way, ours, bare in (
        ("sent", honest.send, honest.bare_send),
        ("accepted", honest.accept, honest.bare_accept),
    ):
        pairs: list[tuple[float, float]] = []
        end = time.perf_counter() + seconds / 2
        while time.perf_counter() < end or len(pairs) < 3:
            pairs.append((cpu_ms(ours), cpu_ms(bare)))
        mine, theirs = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
        rate = 1000 * BATCH / mine
        base = row(f"{name} {way}, {per_message} rows", "messages/s of a core", rate, better="higher")
        named = "cbor2 and one signature of the same bytes"
        base |= {"reference": 1000 * BATCH / theirs, "reference_name": named, "ratio": theirs / mine}
        found += [base, row(f"{name} {way}: rows", "rows/s of a core", rate * per_message, better="higher")]
    size = len(honest.blocks[0])
    return [*found, row(f"{name}: one message of {per_message} rows", "bytes", size, better="lower")]


def cpu_ms(call: Callable[[], object]) -> float:
    """CPU milliseconds of one call."""
    start = time.process_time()
    call()
    return (time.process_time() - start) * 1000


def row(
    name: str, unit: str, ours: float, *, better: str, target: str | None = None, met: bool | None = None
) -> dict[str, object]:
    """One row without a reference."""
    return {
        "name": name,
        "unit": unit,
        "ours": ours,
        "reference": None,
        "reference_name": None,
        "ratio": None,
        "better": better,
        "target": target,
        "met": met,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    print(json.dumps(rows(parser.parse_args().seconds), indent=1))
