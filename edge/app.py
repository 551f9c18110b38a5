"""The box as a running program: every part is made here, and one task group owns every task.

Start: ledger (recovered) → views (snapshot and tail) → networks → settings, items, first book → broker → READY.
Stop (SIGTERM, SIGINT): tasks are cancelled, the views' snapshot is written, the ledger is closed.

A fault that a part can live with ends in a health check, not here; what reaches the task group is a `LocalError` or a
mistake, and ends the process: the supervisor starts it again, and the ledger has lost nothing.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import sdnotify
import uvloop
from prometheus_client import CollectorRegistry

from edge.agent.metrics import DecisionMetrics
from edge.atomic import replace_file
from edge.box import snapshot
from edge.box.control import ControlServer
from edge.box.cycle import PricingCycle
from edge.box.inquiry import Inquiry
from edge.box.itemfile import ItemFile
from edge.box.ledger import Ledger
from edge.box.pricing import Pricer
from edge.box.sharing import Sharing
from edge.box.startup import read_views
from edge.clock import SystemClock
from edge.config import Config
from edge.errors import PomonaError, StorageError, first_cause
from edge.health.checks import OK, Finding, HealthChecks, HealthCollector, HealthState, disk_space
from edge.health.metrics import SharedMetrics
from edge.health.watchdog import Watchdog, Worker, watchdog_period_s
from edge.memory.metrics import MemoryCollector
from edge.networks.metrics import NetworkMetrics
from edge.pos.broker import BOX_USER
from edge.pos.intake import IntakeRecord
from edge.pos.metrics import PosMetrics
from edge.pos.mqtt import MqttSettings
from edge.pos.service import PosService
from edge.pos.supervisor import BrokerProcess, resolve_kind
from edge.registry.access import box_password, prepare_broker
from edge.storage.metrics import StorageMetrics

logger = logging.getLogger(__name__)
SNAPSHOT_LOOK_S = 5.0
BROKER_GRACE_S = 10.0  # without a connection for so long, the box says that it is degraded


class Box:
    """One box. `await Box(config).run()` serves until cancelled."""

    def __init__(self, config: Config, *, clock: SystemClock | None = None) -> None:
        self.config = config
        self._clock = clock or SystemClock()
        self.registry = CollectorRegistry()
        self._shared = SharedMetrics(self.registry)
        self._storage_metrics = StorageMetrics(self.registry, queue_depth=self._shared.queue_depth)
        self._pos_metrics = PosMetrics(
            self.registry,
            queue_depth=self._shared.queue_depth,
            validation_failures=self._shared.validation_failures,
        )
        self._agent_metrics = DecisionMetrics(self.registry)
        self._network_metrics = NetworkMetrics(self.registry, unauthorized_attempts=self._shared.unauthorized_attempts)
        self.health = HealthChecks(self._clock)
        HealthCollector(self.health, self.registry)
        self._notify = _notifier()
        self._snapshot_at = 0
        self._groups_done = 0
        self._broker_lost: float | None = None

    async def run(self) -> None:
        """Start, serve until cancelled, stop."""
        started = time.monotonic()
        state = self.config.state
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.ledger = await Ledger.open(state, metrics=self._storage_metrics)
        try:
            self.views, self._snapshot_at = await read_views(self.config, self.ledger)
            self._clock.raise_floor(self.views.newest_ms)
            MemoryCollector(self.views.memory, self.registry)
            self.sharing = await self._open_networks()
            await self._serve(started)
        finally:
            await self._stop()

    # --- starting ----------------------------------------------------------------------------------------------------

    async def _open_networks(self) -> Sharing:
        return await Sharing.open(
            self.config.state,
            self.config.networks,
            ledger=self.ledger,
            views=self.views,
            clock=self._clock,
            health=self.health,
            metrics=self._network_metrics,
            on_refused=lambda reason: self._shared.validation_failures.labels(source="peer", reason=reason).inc(),
        )

    async def _serve(self, started: float) -> None:
        config, views = self.config, self.views
        self.service = PosService(
            self._till_settings(),
            gln=config.shop.gln,
            intake=views.intake,
            append=self._append,
            clock=self._clock,
            metrics=self._pos_metrics,
            on_durable=self._receipts_durable,
            book=views.shelf.book,
        )
        pricer = self.pricer = Pricer(
            config.pricing,
            state=config.state,
            currency=config.shop.currency,
            metrics=self._agent_metrics,
            market=self.sharing.context,
        )
        items = ItemFile(Path(config.shop.items) if config.shop.items else None, config.shop.currency)
        self._cycle = PricingCycle(
            config.pricing,
            currency=config.shop.currency,
            views=views,
            append=self._append_all,
            pricer=pricer,
            read_items=items.changed,
            clock=self._clock,
            health=self.health,
            on_book=self.service.book_changed,
            on_closed=views.prices.day_closed,
        )
        self.health.add_probe("broker", self._broker_state)
        self.health.add_probe("disk", disk_space(config.state))
        self.health.add_probe("policy", pricer.state)
        await self._cycle.prepare()
        inquiry = Inquiry(
            config.shop,
            views=views,
            ledger=self.ledger,
            pricer=pricer,
            service=self.service,
            health=self.health,
            registry=self.registry,
            sharing=self.sharing,
        )
        control = ControlServer(config.state, inquiry.handlers())
        watchdog = Watchdog(
            self._notify,
            clock=self._clock,
            workers=(Worker("commit", lambda: self.ledger.core.queue_depth > 0, lambda: self.ledger.length),),
            period_s=watchdog_period_s(os.environ, os.getpid()),
            summary=self._summary,
            registry=self.registry,
        )
        async with asyncio.TaskGroup() as tasks:
            await self._start_broker(tasks)
            tasks.create_task(self.service.run(), name="tills")
            tasks.create_task(control.run(), name="control")
            tasks.create_task(self.sharing.run(), name="networks")
            tasks.create_task(self._cycle.run(), name="pricing")
            tasks.create_task(self._keep_snapshots(), name="snapshots")
            tasks.create_task(self._watch(), name="health")
            tasks.create_task(watchdog.run(), name="watchdog")
            await control.listening.wait()
            watchdog.ready()
            logger.info(
                "ready in %.2f s: shop %s, %d records, %d items, book %d",
                time.monotonic() - started,
                config.shop.gln,
                self.ledger.length,
                len(views.shelf.items),
                views.shelf.book.number,
            )

    def _till_settings(self) -> MqttSettings:
        """How to reach the broker; of a broker of our own we know it better than the configuration."""
        broker, tills = self.config.broker, self.config.tills
        if broker.kind == "external":
            return tills
        password = box_password(self.config.state / "broker")
        return replace(tills, host=broker.host, port=broker.port, username=BOX_USER, password=password, tls_ca="")

    async def _start_broker(self, tasks: asyncio.TaskGroup) -> None:
        broker = self.config.broker
        if broker.kind == "external":
            return
        directory = await asyncio.to_thread(prepare_broker, self.config.state, broker, self.config.shop.gln)
        process = BrokerProcess(resolve_kind(broker.kind), directory, broker)
        tasks.create_task(process.run(), name="broker")
        await process.ready()

    # --- serving -----------------------------------------------------------------------------------------------------

    def _receipts_durable(self, first: int, records: Sequence[IntakeRecord]) -> None:
        for offset, record in enumerate(records):
            self.views.apply(first + offset, record)
        self.views.prices.sync()
        self._cycle.days_changed()

    async def _append(self, blocks: Sequence[bytes], urgent: bool) -> int:
        with self._ledger_health():
            return await self.ledger.append(blocks, urgent)

    async def _append_all(self, blocks: Sequence[bytes]) -> list[int]:
        with self._ledger_health():
            return await self.ledger.append_all(blocks)

    @contextlib.contextmanager
    def _ledger_health(self) -> Iterator[None]:
        """A box that cannot write its log has failed, until a write succeeds; tills keep their receipts meanwhile."""
        try:
            yield
        except StorageError as error:
            self.health.report("ledger", HealthState.FAILED, str(error))
            raise
        self.health.report("ledger", HealthState.OK)

    def _broker_state(self) -> Finding:
        now = self._clock.monotonic()
        if self.service.connected:
            self._broker_lost = None
            return OK
        self._broker_lost = now if self._broker_lost is None else self._broker_lost
        if now - self._broker_lost < BROKER_GRACE_S:
            return OK
        return (
            HealthState.DEGRADED,
            f"no broker: {self.service.link.last_error or 'not connected'}; tills keep receipts",
        )

    async def _watch(self) -> None:
        while True:
            self.health.poll()
            await asyncio.sleep(SNAPSHOT_LOOK_S)

    async def _keep_snapshots(self) -> None:
        while True:
            await asyncio.sleep(SNAPSHOT_LOOK_S)
            if self.views.length - self._snapshot_at >= self.config.memory.snapshot_records and self.views.settled:
                await self._write_snapshot()

    async def _write_snapshot(self) -> None:
        """A snapshot that cannot be written costs time at the next start and nothing else."""
        frozen = self.views.freeze(self.ledger.key)
        path = self.config.state / snapshot.FILE_NAME
        try:
            await asyncio.to_thread(lambda: replace_file(path, frozen.encode()))
            self._snapshot_at = frozen.length
            self.health.report("snapshot", HealthState.OK)
        except OSError as error:
            self.health.report("snapshot", HealthState.DEGRADED, f"not written: {error.strerror}")

    def _summary(self) -> str:
        return f"{self.health.summary()}; {self.ledger.length} records, book {self.views.shelf.book.number}"

    # --- stopping ----------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        self._notify("STOPPING=1")
        views = getattr(self, "views", None)
        if views is not None and views.settled and views.length > self._snapshot_at:
            await self._write_snapshot()
        sharing = getattr(self, "sharing", None)
        if sharing is not None:
            await sharing.close()
        await self.ledger.core.close()


async def serve(config: Config) -> None:
    """Run one box until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(Box(config).run(), name="box")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        try:
            await task
        except PomonaError:
            raise
        except BaseExceptionGroup as group:
            ours = group.subgroup(PomonaError)
            if ours is None:
                raise
            raise first_cause(ours) from group


def run(config: Config) -> int:
    """The whole program of `pomona run`: returns 0 after an orderly stop."""
    # What start-up built lives as long as the process. Left in the collector's generations it is walked again and
    # again under load: half of the time that a receipt costs.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    uvloop.run(serve(config))
    return 0


def _notifier() -> Callable[[str], None]:
    """What tells systemd; nothing without one (sdnotify would leave an open socket behind then)."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return lambda _state: None
    notify: Callable[[str], None] = sdnotify.SystemdNotifier().notify
    return notify
