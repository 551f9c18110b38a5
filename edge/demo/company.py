"""The demonstration with simulated shoppers: one company's shops, each with its box, broker, tills and shoppers.

Several shops form a private network. The head office founds it and lets them in; a cable lies between every two
of them, and from each to the office. All live through the same weeks, one at a time: the last shop opens when the
others know something, and one is cut off for some weeks. With one shop there is no network.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Final

from edge.agent.rules import GuardRules
from edge.demo.beginning import Beginning, Insights, calendar_week, insights_of, read_beginning, told_of
from edge.demo.cable import Cable
from edge.demo.exchange import read_exchange
from edge.demo.fleet import Fleet, watched
from edge.demo.office import Office, at_work
from edge.demo.outcome import CutOff, Outcome, Result, Together
from edge.demo.show import Scene, Screen
from edge.demo.stage import HOST, BoxPlan, Child, Wiring, asked, free_ports, prepare, status_of, together, write_config
from edge.demo.timeline import Timeline
from edge.demo.verdict import read_ledger
from edge.errors import RemoteError

FIRST_MONDAY: Final = date(2026, 1, 5)
MODE_S: Final = 60.0  # in which a box must notice that nobody is there: it waits a while before it says so
HEARD_S: Final = 120.0  # in which all must have heard all, at the end: who lost its peers dials a minute later at most
EVENT_WEEKS: Final = 3  # that an event is shown for
QUIET_S: Final = 3.0  # an estimate that is to be told takes tenths of a second; a busy machine is slower
_POLL_S: Final = 0.25


@dataclass(eq=False, slots=True)
class Shop:
    """One shop of the company, at work."""

    plan: BoxPlan
    opens: int
    weeks: int  # of its own
    shoppers: Child | None = None
    done: int = 0  # weeks of its own that it has lived through
    end: dict[str, Any] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def week(self) -> None:
        """Live through the next one."""
        assert self.shoppers is not None
        wanted = self.done + 1
        self.shoppers.tell("")
        while self.done < wanted:
            self.news.clear()
            await self.news.wait()


class Company:
    """All of them. `play` once."""

    def __init__(
        self, plans: Sequence[BoxPlan], time: Timeline, scene: Scene, screen: Screen, *, seed: int, shadow: int | None
    ) -> None:
        self._time = time
        self._scene = scene
        self._screen = screen
        self._seed = seed
        self._at_once = shadow == 0
        self._shops = [Shop(plan, opens, time.weeks - opens) for plan, opens in zip(plans, time.opens, strict=True)]
        self._office: Office | None = None
        self._cables: dict[tuple[int, int], Cable] = {}  # from whom to whom, by position; -1 is the office
        self._refused: dict[str, int] = {}
        self._insights: Insights = {}
        self._heard_in = 0
        self._cut: CutOff | None = None
        self._said_in = 0  # the week
        self._readers: set[asyncio.Task[None]] = set()
        scene.weeks = time.weeks

    async def play(self) -> Result:
        """Live through all weeks, and judge what was left behind."""
        async with AsyncExitStack() as stack:
            if len(self._shops) > 1:
                await self._found(stack)
            for shop in self._shops:
                await self._furnish(shop)
            fleet = await stack.enter_async_context(
                watched([shop.plan for shop in self._shops], self._scene, self._screen)
            )
            for shop in self._shops:
                stack.push_async_callback(_stopped, shop)
            await self._work(fleet)
            statuses = [await status_of(shop.plan) or {} for shop in self._shops]
            await self._note_refusals(self._shops)
        self._say("judging what every shop wrote")
        return await self._judged(statuses)

    # --- before the first week ---------------------------------------------------------------------------------------

    async def _found(self, stack: AsyncExitStack) -> None:
        """The office, the cables, and in each box's configuration where the others are."""
        self._say("the head office founds the network and hands out codes")
        office, *listening = free_ports(len(self._shops) + 1)
        folder = self._shops[0].plan.folder.parent / "office"
        self._office = await stack.enter_async_context(at_work(folder, len(self._shops), port=office))
        ends = {-1: office, **dict(enumerate(listening))}
        for here, shop in enumerate(self._shops):
            for there, port in ends.items():
                if there != here:
                    cable = self._cables[here, there] = await Cable.lay(HOST, port)
                    stack.push_async_callback(cable.close)
            peers = tuple(cable.port for (own, _), cable in self._cables.items() if own == here)
            shop.plan = replace(shop.plan, wiring=Wiring(listening[here], peers))

    async def _furnish(self, shop: Shop) -> None:
        prepare(shop.plan)
        if self._at_once:
            write_config(shop.plan, "live")
        writer = await Child.start("items", [*self._simulate(shop), "--only-items"], shop.plan.folder)
        await writer.lines(lambda _row: None)

    def _simulate(self, shop: Shop) -> list[str]:
        monday = FIRST_MONDAY + timedelta(weeks=shop.opens)
        words = ["trainer", "simulate", "--weeks", str(shop.weeks), "--items", str(shop.plan.items)]
        return [*words, "--seed", str(self._seed + shop.plan.store - 1), "--first-monday", monday.isoformat()]

    # --- week by week ------------------------------------------------------------------------------------------------

    async def _work(self, fleet: Fleet) -> None:
        """Lead all shops through their weeks. Raises what ended one of them."""
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        leading = asyncio.create_task(self._lead(fleet, failed))
        try:
            await asyncio.wait((leading, failed), return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
            await leading
        finally:
            leading.cancel()
            failed.cancel()
            for reader in self._readers:
                reader.cancel()
            await asyncio.gather(leading, *self._readers, return_exceptions=True)

    async def _lead(self, fleet: Fleet, failed: "asyncio.Future[None]") -> None:
        time = self._time
        for week in range(time.weeks):
            self._hush(week)
            for shop in self._shops:
                if shop.opens == week:
                    await self._open(shop, fleet, failed)
            await together(
                *(
                    self._go_live(shop, fleet)
                    for shop, live in zip(self._shops, time.live, strict=True)
                    if live == week and not self._at_once
                )
            )
            if time.cut is not None and week == time.cut_from:
                await self._pull(self._shops[time.cut])
            if time.cut is not None and week == time.cut_until:
                await self._plug(self._shops[time.cut])
            await together(*(shop.week() for shop in self._shops if shop.opens <= week))
            self._scene.weeks_done = week + 1
            await self._listen()
        if time.cut is not None and time.cut_until == time.weeks:
            await self._plug(self._shops[time.cut])
        await asyncio.gather(*self._readers)
        if len(self._shops) > 1:
            self._say("no more sales; every shop hears what the others still have to say")
            await self._all_heard()

    async def _open(self, shop: Shop, fleet: Fleet, failed: "asyncio.Future[None]") -> None:
        plan = shop.plan
        if self._office is not None:
            here = self._shops.index(shop)
            self._say(f"shop {plan.store} opens, and joins the company's network")
            await self._office.admit(plan, self._cables[here, -1].port)
        await fleet.start(plan)
        words = [*self._simulate(shop), "--mqtt", f"{HOST}:{plan.port}", "--gln", plan.gln, "--paced"]
        words += ["--lanes", ",".join(plan.lanes), "--passwords", str(plan.passwords)]
        words += ["--spool", str(plan.folder / "spool")]
        shop.shoppers = await Child.start("shoppers", words, plan.folder, told=True)
        reader = asyncio.create_task(shop.shoppers.lines(self._hearer(shop)))
        self._readers.add(reader)

        def ended(task: "asyncio.Task[None]") -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None and not failed.done():
                failed.set_exception(error)

        reader.add_done_callback(ended)

    def _hearer(self, shop: Shop) -> Callable[[dict[str, Any]], None]:
        scene, name = self._scene, str(shop.plan.store)

        def heard(row: dict[str, Any]) -> None:
            scene.rung[name], scene.acknowledged[name] = row["published"], row["acknowledged"]
            if row["event"] == "day":
                scene.day = max(scene.day, row["day"]) if scene.day != "-" else row["day"]
            elif row["event"] == "week":
                scene.truth_value = (scene.truth_value or 0.0) + row["value"] - row["value_twin"]
                shop.done = row["week"] + 1
                shop.news.set()
            else:
                shop.end.update(row)

        return heard

    async def _go_live(self, shop: Shop, fleet: Fleet) -> None:
        """What an owner does: another word in the configuration, and a restart. The tills sell on meanwhile."""
        self._say("prices go live")
        await self._note_refusals([shop])
        write_config(shop.plan, "live")
        await fleet.restart(shop.plan)

    async def _listen(self) -> None:
        """Keep what the newest shop has heard: the first of it that an estimate can start from."""
        newest = self._time.newest
        if newest is None or self._insights or not self._shops[newest].done:
            return
        plan = self._shops[newest].plan
        answer, status = await asked(plan, "insights"), await status_of(plan)
        if answer is not None and status is not None:
            heard, week = insights_of(answer, plan.category), calendar_week(status)
            if told_of(heard, [sku for sku in heard if sku], week) is not None:
                self._insights, self._heard_in = heard, week

    def _say(self, event: str) -> None:
        self._scene.event, self._said_in = event, self._scene.weeks_done

    def _hush(self, week: int) -> None:
        """What was said some weeks ago is no news; that a shop is cut off is, until it is reached again."""
        time = self._time
        cut = time.cut is not None and time.cut_from <= week < time.cut_until
        if not cut and week - self._said_in >= EVENT_WEEKS:
            self._scene.event = ""

    # --- the network -------------------------------------------------------------------------------------------------

    async def _pull(self, shop: Shop) -> None:
        """Take all of a shop's cables out."""
        status = await self._status(shop)
        self._cut = CutOff(shop.plan.store, self._time.cut_from, self._time.cut_until - self._time.cut_from)
        self._cut.books = -status["book"]["number"]
        self._cut.missed = -await self._told_by_others(shop)
        self._say(f"shop {shop.plan.store} is cut off: its prices go on, what it has to say waits")
        for cable in self._cables_of(shop):
            cable.pull()

    async def _plug(self, shop: Shop) -> None:
        """Wait until the shop says that it is alone, note how it fared, and put its cables back."""
        cut = self._cut
        assert cut is not None
        status = await self._status(shop)
        for _ in range(round(MODE_S / _POLL_S)):
            if status["networks"][0]["mode"] == "local_only":
                break
            await asyncio.sleep(_POLL_S)
            status = await self._status(shop)
        own = status["networks"][0]
        cut.mode, cut.waiting = own["mode"], own["queued"]
        cut.books += status["book"]["number"]
        cut.missed += await self._told_by_others(shop)
        self._say(f"shop {shop.plan.store} is reached again and catches up")
        for cable in self._cables_of(shop):
            cable.plug()

    def _cables_of(self, shop: Shop) -> list[Cable]:
        here = self._shops.index(shop)
        return [cable for ends, cable in self._cables.items() if here in ends]

    async def _told_by_others(self, shop: Shop) -> int:
        others = [other for other in self._shops if other is not shop and other.shoppers is not None]
        told: list[int] = [(await self._status(other))["networks"][0]["told"] for other in others]
        return sum(told)

    async def _status(self, shop: Shop) -> dict[str, Any]:
        found: dict[str, Any] | None = await status_of(shop.plan)
        if found is None:
            raise RemoteError(f"the box of shop {shop.plan.store} does not answer", reason="child")
        return found

    async def _all_heard(self) -> None:
        """Wait until nothing is on its way and nobody has said anything new for a while; at most `HEARD_S`.

        Who did not make it is found by the judge, which reads the folders.
        """
        quiet, before = 0.0, None
        for _ in range(round(HEARD_S / _POLL_S)):
            trees: list[dict[str, Any]] = [await asked(shop.plan, "peers") or {} for shop in self._shops]
            networks: list[dict[str, Any]] = [network for tree in trees for network in tree.get("networks", [])]
            now = [(each["told"], each["records"]) for each in networks]
            over = len(networks) == len(trees) and not any(each["queued"] or each["behind"] for each in networks)
            quiet = quiet + _POLL_S if over and now == before else 0.0
            if quiet >= QUIET_S:
                return
            before = now
            await asyncio.sleep(_POLL_S)

    async def _note_refusals(self, shops: Sequence[Shop]) -> None:
        """A box counts what it refused since its start: asked before each end."""
        for shop in shops:
            tree: dict[str, Any] = await asked(shop.plan, "peers") or {}
            for network in tree.get("networks", []):
                for reason, count in network["refused"].items():
                    self._refused[reason] = self._refused.get(reason, 0) + count

    # --- afterwards --------------------------------------------------------------------------------------------------

    async def _judged(self, statuses: Sequence[dict[str, Any]]) -> Result:
        outcomes = []
        for shop, status in zip(self._shops, statuses, strict=True):
            verdict = await read_ledger(shop.plan.state, GuardRules())
            published, acknowledged = shop.end["published"], shop.end["acknowledged"]
            outcomes.append(Outcome(shop.plan, published, acknowledged, verdict, shop.end, status))
        if len(outcomes) == 1:
            return Result(tuple(outcomes))
        exchange = await read_exchange([shop.plan for shop in self._shops])
        newest = self._time.newest
        beginning = None if newest is None else await self._beginning(self._shops[newest], outcomes[newest])
        return Result(tuple(outcomes), Together(exchange, self._refused, self._cut, beginning))

    async def _beginning(self, shop: Shop, outcome: Outcome) -> Beginning | None:
        if not self._insights:
            return None
        heard = next((each.peers for each in outcome.verdict.newest.values() if each.peers is not None), None)
        return await read_beginning(shop.plan, shop.opens, self._insights, self._heard_in, heard)


async def _stopped(shop: Shop) -> None:
    if shop.shoppers is not None:
        await shop.shoppers.stop()
