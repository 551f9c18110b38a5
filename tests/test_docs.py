"""The documents keep their word: commands parse, links lead somewhere, settings load, metrics and bytes are right."""

import argparse
import asyncio
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import date
from pathlib import Path

import pytest

from edge.__main__ import COMMANDS, main
from edge.app import Box
from edge.cli.peers import Traffic
from edge.clock import ClockQuality, SystemClock, WallTime
from edge.config import Config, ShopConfig, load
from edge.health.metrics import check_conventions
from edge.health.watchdog import Watchdog
from edge.hypercore.store import FeedStore
from edge.memory.local import LocalPriceMemory
from edge.memory.metrics import MemoryCollector
from edge.networks.settings import NetworkSettings, Stricter
from edge.pos import item_file, messages
from edge.records.ledger import ReceiptRecord, decode_receipt, encode_receipt
from edge.records.receipt import Receipt, ReceiptKind, ReceiptLine, TillPosition
from edge.storage.files import OsDisk
from edge.storage.log import SegmentLog
from trainer.__main__ import main as trainer_main

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SAMPLE = ROOT / "systemd" / "pomona.toml"


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def fences(path: Path, language: str = "") -> list[str]:
    """Bodies of the fenced blocks of a document that are marked `language`, indented ones too."""
    found = re.findall(r"(?ms)^( *)```(\w*)\n(.*?)^\1```$", text(path))
    return [re.sub(rf"(?m)^{indent}", "", body) for indent, kind, body in found if kind == language]


def shown_commands() -> Iterator[tuple[str, str]]:
    """(document, command line) of every `$ ` line of a console block."""
    for path in DOCUMENTS:
        for body in fences(path, "console"):
            yield from ((named(path), line[2:]) for line in body.splitlines() if line.startswith("$ "))


COMMAND_LINES = sorted(set(shown_commands()))
OURS = [(where, line) for where, line in COMMAND_LINES if re.match(r"pomona(-trainer)? ", line)]


class Parsed(Exception):
    """Not an error: the command line was understood."""


@pytest.mark.parametrize(("where", "line"), OURS, ids=[f"{where}: {line}" for where, line in OURS])
def test_shown_commands_are_understood(where: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real entry points parse the line; nothing is run."""
    parse = argparse.ArgumentParser.parse_args

    def only_parse(self: argparse.ArgumentParser, *given: object, **named_too: object) -> argparse.Namespace:
        raise Parsed(parse(self, *given, **named_too))

    program, *words = shlex.split(line)
    for redirection in ("|", ">"):
        words = words[: words.index(redirection)] if redirection in words else words
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    with pytest.raises(Parsed) as understood:
        (main if program == "pomona" else trainer_main)(words)
    assert callable(understood.value.args[0].run), where


def test_the_documents_show_every_command() -> None:
    everything = " ".join(map(text, DOCUMENTS))
    unseen = [name for name in COMMANDS if not re.search(rf"\bpomona {name}\b", everything)]
    assert not unseen, f"no document shows: {unseen}"


def test_shown_make_targets_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", text(ROOT / "Makefile")))
    named_targets = {
        (named(path), target)
        for path in DOCUMENTS
        for target in re.findall(r"(?:^\$ |`)make ([a-z-]+)", text(path), re.M)
    }
    assert named_targets
    assert not {(where, target) for where, target in named_targets if target not in targets}


def anchors(path: Path) -> set[str]:
    """Anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^ *```.*?^ *```$", "", text(path)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(path)):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{named(path)}: {target} is not there"
        assert not anchor or anchor in anchors(found), f"{named(path)}: {target}: no such heading"


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_files_that_documents_name_exist(path: Path) -> None:
    for name in re.findall(r"`((?:edge|trainer|tests|systemd|docs)/[\w./-]+)`", text(path)):
        assert (ROOT / name).exists(), f"{named(path)} names {name}"


def keys(settings: object, path: str = "") -> dict[str, object]:
    """Every key of a configuration with its value."""
    found: dict[str, object] = {}
    for field in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        inside = is_dataclass(value)
        found |= keys(value, f"{path}{field.name}.") if inside else {f"{path}{field.name}": value}
    return found


def test_the_sample_configuration_names_every_key_with_its_default() -> None:
    sample = keys(load(SAMPLE))
    defaults = keys(Config(ShopConfig(gln=str(sample["shop.gln"]))))
    said = {"shop.items", "tills.username", "tills.password_file", "pricing.modes"}  # the sample says that these differ
    assert {key for key in defaults if sample[key] != defaults[key]} == said
    written = text(SAMPLE)
    missing = [
        key
        for key in defaults
        if key not in ("pricing.modes", "networks") and not re.search(rf"(?m)^{key.split('.')[-1]} = ", written)
    ]
    networks = [*fields(NetworkSettings), *fields(Stricter)]  # a shop in no network has none: they are comments
    missing += [
        f"networks: {each.name}"
        for each in networks
        if not re.search(rf"(?m)^# \[?(networks\.chain\.)?{each.name}\b", written)
    ]
    assert not missing, f"not in {named(SAMPLE)}: {missing}"


def test_configurations_in_the_documents_load(tmp_path: Path) -> None:
    bodies = [body for path in DOCUMENTS for body in fences(path, "toml")]
    assert bodies
    for body in bodies:
        (tmp_path / "pomona.toml").write_text(body, encoding="utf-8")
        load(tmp_path / "pomona.toml")


def test_metrics_in_the_documents_exist_and_all_are_told(tmp_path: Path) -> None:
    sample = load(SAMPLE)
    box = Box(replace(sample, shop=replace(sample.shop, state_dir=str(tmp_path), items="")))
    memory = LocalPriceMemory(sample.memory, currency="EUR", read_receipt=lambda _index: None)
    MemoryCollector(memory, box.registry)  # these two are registered when a box starts
    Watchdog(lambda _message: None, clock=SystemClock(), registry=box.registry)
    check_conventions(box.registry)
    traffic = Traffic()
    check_conventions(traffic.registry)
    real = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for registry in (box.registry, traffic.registry)
        for metric in registry.collect()
        if metric.name.startswith("pomona_")
    }
    operations = text(ROOT / "docs" / "operations.md")
    assert {name for path in DOCUMENTS for name in re.findall(r"`(pomona_\w+)", text(path))} - real == set()
    assert {name for name in real if f"`{name}`" not in operations} == set()


def test_the_item_file_of_the_formats_is_one() -> None:
    (body,) = [body for body in fences(ROOT / "FORMATS.md") if body.startswith("sku,")]
    (item,) = item_file.parse_items(body, "EUR")
    assert item.reference_minor == 199
    assert item.reference_on(date(2026, 12, 24)) == 179


def test_the_receipt_that_a_till_is_shown_is_accepted() -> None:
    (body,) = fences(ROOT / "docs" / "tills.md", "json")
    message = messages.decode(body.encode(), gln="2900000000018", lane="1")
    assert [line.amount_minor for line in message.receipt.lines] == [398, 377]
    assert message.receipt.lines[1].weighed


def shown_hex(start: str) -> bytes:
    """The bytes of the example of FORMATS.md that begins with `start`: what stands left of the words."""
    (body,) = [body for body in fences(ROOT / "FORMATS.md") if body.startswith(start)]
    lines = [
        re.match(r"(?: *\d+ (?= ))? *((?: {0,3}[0-9a-f]{2,}(?![\w,.:]))+)(?:$|  | \"| …)", line)
        for line in body.splitlines()
    ]
    return bytes.fromhex("".join(match[1] for match in lines if match).replace(" ", ""))


def test_the_example_of_a_receipt_record_is_what_the_ledger_holds() -> None:
    line = ReceiptLine("04012345678901", 2000, 199, 398)
    receipt = Receipt(
        lane="1",
        position=TillPosition(7, 1),
        kind=ReceiptKind.SALE,
        business_day=date(2026, 11, 23),
        wall_ms=1_795_430_000_000,
        currency="EUR",
        lines=(line,),
        book=12,
    )
    block = encode_receipt(ReceiptRecord(receipt, WallTime(1_795_430_000_250, ClockQuality.FREE)))
    assert shown_hex("8f ") == block
    assert decode_receipt(block).receipt == receipt


def test_the_example_of_a_segment_is_what_the_log_writes(tmp_path: Path) -> None:
    log = SegmentLog.open(OsDisk(tmp_path / "log", create=True), create=True, store_id=bytes(range(16)))
    log.stage(2, b"hello")
    log.commit()
    log.close()
    written = (tmp_path / "log" / "00000000.seg").read_bytes()
    shown = shown_hex("     0  50").removesuffix(b"\0")  # the last line stands for all the zeros
    assert len(shown) == 134
    assert written == shown.ljust(4 * 1024 * 1024, b"\0")


def test_the_example_of_a_core_is_what_a_core_writes(tmp_path: Path) -> None:
    (tmp_path / "primary-key").write_text("00" * 32 + "\n")
    os.chmod(tmp_path / "primary-key", 0o600)  # noqa: PTH101

    async def write() -> Path:
        store = FeedStore(tmp_path)
        core = await store.open(await store.create("prices"), write=True)
        await core.append([b"hello"])
        await core.close()
        return tmp_path / "feeds" / core.discovery_key.hex()

    folder = asyncio.run(write())
    log = SegmentLog.open(OsDisk(folder / "log"), create=False)
    written = b"".join(record.payload for record in log.scan())
    log.close()
    (body,) = [body for body in fences(ROOT / "FORMATS.md") if body.startswith("sequence 0, kind 1")]
    digits = "".join(re.findall(r"(?m)^  ((?:[0-9a-f]{2} ?)+)(?:  |$)", body)).replace(" ", "")
    assert bytes.fromhex(digits) == written + (folder / "derived" / "tree").read_bytes()
    assert f"discovery key  {folder.name}" in body
