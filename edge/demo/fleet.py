"""The boxes of a demonstration, started, watched and drawn; all are ended, whatever happens."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from edge.agent.explain import as_dict
from edge.box.control import ask
from edge.demo.show import Scene, Screen
from edge.demo.stage import BoxPlan, Child, box_ready, status_of
from edge.errors import PomonaError
from edge.records.decision import decode_decisions

_LOOK_S: Final = 0.5  # between two questions to the boxes
_DRAW_S: Final = 0.2


class Fleet:
    """Boxes by shop, in the order of their start."""

    def __init__(self) -> None:
        self._boxes: dict[int, Child] = {}

    async def start(self, plan: BoxPlan) -> None:
        """Start a shop's box; return once it is ready."""
        await self._begin(plan)
        await box_ready(plan, self._boxes[plan.store])

    async def restart(self, plan: BoxPlan) -> None:
        """End it and start it again, with what its configuration says now. The tills sell on meanwhile."""
        await self._boxes[plan.store].stop()
        await self.start(plan)

    async def stop(self) -> None:
        """End all of them, the newest first."""
        for child in reversed(self._boxes.values()):
            await child.stop()

    async def _begin(self, plan: BoxPlan) -> None:
        # Entered at once: it is ended even if it never gets ready.
        self._boxes[plan.store] = await Child.start("box", ["edge", "run", "--config", str(plan.config)], plan.folder)


@asynccontextmanager
async def watched(plans: Sequence[BoxPlan], scene: Scene, screen: Screen) -> AsyncIterator[Fleet]:
    """A fleet for these plans, whose boxes are asked and drawn for the length of the block."""
    fleet = Fleet()
    watchers = [asyncio.create_task(_look(plans, scene)), asyncio.create_task(_draw(scene, screen))]
    try:
        yield fleet
        await _look_once(plans, scene)
        for watcher in watchers:
            if watcher.done():
                watcher.result()  # what ended it is a mistake, and is not kept quiet
    finally:
        for watcher in watchers:
            watcher.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)
        await fleet.stop()


async def _draw(scene: Scene, screen: Screen) -> None:
    while True:
        screen.draw(scene)
        await asyncio.sleep(_DRAW_S)


async def _look(plans: Sequence[BoxPlan], scene: Scene) -> None:
    while True:
        await _look_once(plans, scene)
        await asyncio.sleep(_LOOK_S * len(plans))


async def _look_once(plans: Sequence[BoxPlan], scene: Scene) -> None:
    for plan in plans:
        status: dict[str, Any] | None = await status_of(plan)
        if status is None:
            continue
        shop = str(plan.store)
        scene.status[shop] = status
        if shop in scene.expected:  # a replaying till says nothing until its end: the box's count is shown
            scene.acknowledged[shop] = scene.rung[shop] = sum(till["through"] for till in status["tills"])
            scene.day = status["days"]["newest"] or scene.day
    scene.decisions = await asyncio.to_thread(_decisions, plans[0]) or scene.decisions


def _decisions(plan: BoxPlan) -> list[dict[str, Any]]:
    answer: Any = None
    with contextlib.suppress(PomonaError):
        answer = ask(plan.state, "decisions")
    if answer is None:
        return []
    batches = [decode_decisions(base64.b64decode(block)) for block in answer["blocks"]]
    return [as_dict(decision, answer["names"].get(decision.sku, "")) for batch in batches for decision in batch]
