"""The tills' path: a receipt's way to its durable acknowledgement, and how many receipts one core takes in.

(a) latency beside an echo of thirty lines that syncs each message before it answers: same broker, same load, same run;
(b) receipts per second of CPU time beside a bare paho subscriber that does nothing with what it gets.

The measured program runs in a child process; the load comes from this one.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))

import paho.mqtt.client as paho
import psutil
import uvloop
from paho.mqtt.enums import CallbackAPIVersion
from support_shop import GLN, PASSWORD, Shop, serve_box

from edge.pos.acks import decode_ack
from edge.pos.broker import BOX_USER
from edge.pos.messages import TillMessage, encode
from edge.pos.mqtt import MqttLink, MqttMessage
from edge.pos.supervisor import resolve_kind
from edge.pos.topics import Topics
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition

TOPICS = Topics(GLN)
RATE = 200  # receipts a second of the latency measurement: a supermarket's ten tills at their busiest have some 2
WINDOW = 1000  # receipts on their way: below what the broker queues for one client
EVERY = 200  # of the bare subscriber's answers: enough to hold the load back, too few to cost anything


def void(_result: object) -> None:
    """What paho's callbacks have to return."""


def receipt(sequence: int) -> bytes:
    lines = tuple(ReceiptLine(f"0401234567890{n}", 1000, 199, 199) for n in range(3))
    position = TillPosition(7, sequence)
    return encode(TillMessage(Receipt("1", position, ReceiptKind.SALE, date(2026, 11, 22), 0, "EUR", lines)), GLN)


def echo(document: dict[str, str]) -> None:
    """The other side: store, sync, answer, one message at a time."""
    file = os.open(Path(document["root"]) / "echo.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def on_message(client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        os.write(file, message.payload)
        os.fdatasync(file)
        through = json.loads(message.payload)["SequenceNumber"]
        entry = [{"BootEpoch": 7, "ThroughSequenceNumber": through}]
        answer = {"RetailStoreID": GLN, "WorkstationID": "1", "Acknowledged": entry, "Refused": []}
        client.publish(TOPICS.ack("1"), json.dumps(answer), qos=1, retain=True)

    client = paho.Client(CallbackAPIVersion.VERSION2, BOX_USER, clean_session=False)
    client.username_pw_set(BOX_USER, PASSWORD)
    client.on_message = on_message
    client.on_subscribe = lambda *_: print("READY", flush=True)
    client.connect("127.0.0.1", int(document["port"]))
    client.subscribe(TOPICS.sale("+"), 1)
    client.loop_forever()


def bare(document: dict[str, str]) -> None:
    """A subscriber that counts, on uvloop without a thread."""

    async def serve() -> None:
        loop, done, count = asyncio.get_running_loop(), asyncio.Event(), 0

        def on_message(client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
            nonlocal count
            count += 1
            if count % EVERY == 0 or count == int(document["receipts"]):
                through = [{"BootEpoch": 7, "ThroughSequenceNumber": count}]
                answer = {"RetailStoreID": GLN, "WorkstationID": "1", "Acknowledged": through, "Refused": []}
                client.publish(TOPICS.ack("1"), json.dumps(answer), qos=1, retain=True)

        client = paho.Client(CallbackAPIVersion.VERSION2, BOX_USER, clean_session=False)
        client.username_pw_set(BOX_USER, PASSWORD)
        client.on_message = on_message
        client.on_subscribe = lambda *_: print("READY", flush=True)
        client.on_socket_open = lambda c, _d, sock: loop.add_reader(sock, c.loop_read)
        client.on_socket_close = lambda _c, _d, sock: void(loop.remove_reader(sock))
        client.on_socket_register_write = lambda c, _d, sock: loop.add_writer(sock, c.loop_write)
        client.on_socket_unregister_write = lambda _c, _d, sock: void(loop.remove_writer(sock))
        client.connect("127.0.0.1", int(document["port"]))
        client.subscribe(TOPICS.sale("+"), 1)
        while not done.is_set():
            client.loop_misc()
            await asyncio.sleep(1)

    uvloop.run(serve())


@contextlib.asynccontextmanager
async def child(what: str, shop: Shop, **more: object) -> AsyncIterator[subprocess.Popen[str]]:
    document = {"root": str(shop.root), "kind": shop.kind, "port": str(shop.config.port), **more}
    path = shop.root / f"{what}.json"
    path.write_text(json.dumps(document))
    process = subprocess.Popen([sys.executable, __file__, what, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        await asyncio.sleep(0.5)
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def load(shop: Shop, heard: Callable[[int], None]) -> AsyncIterator[MqttLink]:
    """A till without a spool; `heard` gets each acknowledged sequence."""

    def on_message(message: MqttMessage) -> None:
        link.puback(message)
        if not message.retained:
            heard(decode_ack(message.payload, gln=GLN, lane="1").through_of(7))

    link = MqttLink(
        shop.settings("1", in_flight_max=WINDOW),
        on_message=on_message,
        on_up=lambda _session: link.subscribe([TOPICS.ack("1")]),
    )
    task = asyncio.create_task(link.run())
    while not link.connected:
        await asyncio.sleep(0.01)
    try:
        yield link
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def latency(what: str, shop: Shop, seconds: float) -> list[float]:
    """Seconds from publish to acknowledgement of each receipt, at a steady rate, ascending."""
    count = max(50, int(RATE * seconds))
    sent = [0.0] * (count + 1)
    taken = [0.0] * (count + 1)
    state = {"through": 0}

    def heard(through: int) -> None:
        now = time.perf_counter()
        for sequence in range(state["through"] + 1, through + 1):
            taken[sequence] = now - sent[sequence]
        state["through"] = max(state["through"], through)

    async with shop.brokered(), child(what, shop), load(shop, heard) as link:
        start = time.perf_counter()
        for sequence in range(1, count + 1):
            await asyncio.sleep(max(0.0, start + sequence / RATE - time.perf_counter()))
            sent[sequence] = time.perf_counter()
            link.publish_now(TOPICS.sale("1"), receipt(sequence))
        async with asyncio.timeout(30):
            while state["through"] < count:
                await asyncio.sleep(0.01)
    return sorted(taken[1:])


async def throughput(what: str, shop: Shop, count: int) -> float:
    """Receipts a second of the child's CPU time."""
    state = {"through": 0}

    def heard(through: int) -> None:
        state["through"] = max(state["through"], through)

    payloads = [receipt(sequence) for sequence in range(1, count + 1)]
    async with shop.brokered(), child(what, shop, receipts=count) as process, load(shop, heard) as link:
        watched = psutil.Process(process.pid)
        before = sum(watched.cpu_times()[:2])
        for sent, payload in enumerate(payloads):
            while sent - state["through"] >= WINDOW:
                await asyncio.sleep(0.001)
            await link.publish(TOPICS.sale("1"), payload)
        async with asyncio.timeout(120):
            while state["through"] < count:
                await asyncio.sleep(0.01)
        return count / (sum(watched.cpu_times()[:2]) - before)


def rows(seconds: float) -> list[dict[str, object]]:
    """The rows of `build/bench.json` for this part; it takes about `seconds`."""
    kind = resolve_kind("auto")

    def run(what: str, measure: Callable[..., object], amount: float) -> object:
        with tempfile.TemporaryDirectory() as directory:
            return uvloop.run(measure(what, Shop(Path(directory), kind), amount))

    each = seconds / 6  # four measurements and their brokers' starts and ends
    ours, echoed = run("box", latency, each), run("echo", latency, each)
    assert isinstance(ours, list)
    assert isinstance(echoed, list)
    found: list[dict[str, object]] = []
    for name, place, target in (("p50", 0.5, None), ("p99", 0.99, 3.0)):
        a, b = (values[int(place * (len(values) - 1))] * 1000 for values in (ours, echoed))
        found.append(
            {
                "name": f"receipt to durable acknowledgement, {name}, {RATE}/s, {kind}",
                "unit": "ms",
                "ours": round(a, 3),
                "reference": round(b, 3),
                "reference_name": "echo that fdatasyncs each message",
                "ratio": round(a / b, 3),
                "better": "lower",
                "target": target,
                "met": None if target is None else a / b <= target,
            }
        )
    count = max(2000, int(2000 * seconds / 3))
    box, reference = run("box", throughput, count), run("bare", throughput, count)
    assert isinstance(box, float)
    assert isinstance(reference, float)
    found.append(
        {
            "name": f"receipts taken in, per second of one core, {kind}",
            "unit": "1/s",
            "ours": round(box),
            "reference": round(reference),
            "reference_name": "bare paho subscriber on uvloop",
            "ratio": round(box / reference, 3),
            "better": "higher",
            "target": 0.5,
            "met": box / reference >= 0.5,
        }
    )
    return found


def main() -> None:
    what, document = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    if what == "box":
        uvloop.run(serve_box(document))
    elif what == "echo":
        echo(document)
    else:
        bare(document)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main()
    else:
        print(json.dumps(rows(30.0), indent=1))
