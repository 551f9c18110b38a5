"""Pricing: a decision about 1,000 items against the bare ONNX run of the same policy, and the weekly optimiser's cost.

The policy is the one the box ships with, where there is one; else a random network of two layers of 256. `ours` is what
a decision costs once the week's situation is prepared: observation, policy, guard, expected effects and the record's
bytes. Times are CPU times of the one thread that does all of it: a busy machine does not change them much. What
preparing costs (estimate, pantry, forecast, the optimiser's suggestions), once a week, has rows of its own.
"""

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.agent import guard, optimiser
from edge.agent.decider import Decider, DeciderRules
from edge.agent.demand import steady_outlook
from edge.agent.estimate import DemandPrior, estimate
from edge.agent.observation import FEATURE_NAMES
from edge.agent.sac_agent import SACAgent
from edge.agent.situation import align, guard_inputs, prepare
from edge.records.decision import Source, encode_decisions

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "edge" / "agent"


def _support(name: str) -> Any:
    if str(SUPPORT) not in sys.path:
        sys.path.insert(0, str(SUPPORT))
    return importlib.import_module(name)


def _policy() -> tuple[bytes, str]:
    shipped = sorted((HERE.parents[1] / "edge" / "agent" / "policy").glob("*.onnx"))
    if shipped:
        return shipped[-1].read_bytes(), shipped[-1].name
    support = _support("support_policy")
    return support.make_policy(support.PolicyParts(hidden=256)), "random network, 256 × 256"


def _times(run: Callable[[], object], seconds: float) -> np.ndarray:
    """CPU milliseconds of each run; the first two warm up."""
    run(), run()
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times) < 5:
        start = time.thread_time()
        run()
        times.append(1000 * (time.thread_time() - start))
    return np.array(times)


def _side_by_side(first: Callable[[], object], second: Callable[[], object], seconds: float) -> list[np.ndarray]:
    """CPU milliseconds of both, run in turns: what else the machine does meets both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times[0]) < 20:
        for run, spent in zip((first, second), times, strict=True):
            start = time.thread_time()
            run()
            spent.append(1000 * (time.thread_time() - start))
    return [np.array(spent[2:]) for spent in times]


def _row(name: str, ours: float, unit: str, **rest: object) -> dict[str, object]:
    plain = {"reference": None, "reference_name": "", "ratio": None, "better": "lower", "target": None, "met": None}
    return {"name": name, "unit": unit, "ours": ours, **plain, **rest}


def _for_any_size(agent: SACAgent) -> SACAgent:
    """The policy without its limit on a category's size: its cost is measured here, not its judgement."""
    low, high = agent.facts.range_low.copy(), agent.facts.range_high.copy()
    column = FEATURE_NAMES.index("items")
    low[column], high[column] = 0.0, 10.0
    agent.facts = replace(agent.facts, range_low=low, range_high=high)
    return agent


def rows(seconds: float) -> list[dict[str, object]]:
    share = seconds / 8
    data, named = _policy()
    agent = _for_any_size(SACAgent(data))
    rules = DeciderRules(drift_max=1.0)
    asked = _support("support_requests").request(items=1000, weeks=104)
    inputs = guard_inputs(asked.items, asked.published, asked.day, asked.currency, slots=asked.slots)
    history = align(asked.history, [item.sku for item in asked.items])
    posterior = estimate(history, DemandPrior())
    plan = {"day": asked.day, "currency": asked.currency, "guard": rules.guard, "plan": rules.plan}
    situation = prepare(asked.items, history, posterior, inputs, **plan)
    chain = Decider(rules, agent, monotonic=time.monotonic)
    rng = np.random.default_rng(1)
    batch = chain.conclude(asked, inputs, situation, rng)
    if batch.source is not Source.SAC:
        raise RuntimeError(f"the policy was not asked: {batch.failures}")
    seen = batch.observation

    def decide() -> object:
        return encode_decisions(chain.conclude(asked, inputs, situation, rng))

    bare, whole = _side_by_side(lambda: agent.run(seen), decide, 2 * share)
    ratio = float(np.median(whole) / np.median(bare))
    found = [
        _row(
            "decision of 1,000 items, p50", float(np.median(whole)), "CPU ms", reference=float(np.median(bare)),
            reference_name=f"bare ONNX run, {named}", ratio=ratio, target="ratio <= 2", met=ratio <= 2,
        ),
        _row(
            "decision of 1,000 items, p99", float(np.quantile(whole, 0.99)), "CPU ms",
            reference=float(np.quantile(bare, 0.99)), reference_name=f"bare ONNX run, {named}",
            ratio=float(np.quantile(whole, 0.99) / np.quantile(bare, 0.99)),
        ),
        _row(
            "guard of 1,000 items", float(np.median(_times(lambda: guard.project(
                batch.asked.astype(np.float64), situation.inputs, rules.guard, lane=situation.lane), share))), "CPU ms",
        ),
    ]  # fmt: skip
    prepared = _times(lambda: prepare(asked.items, history, posterior, inputs, **plan), share)
    found.append(_row("preparing 1,000 items for the week", float(np.median(prepared)), "CPU ms"))
    fitted = _times(lambda: estimate(history, DemandPrior()), share)
    found.append(_row("demand estimate, 1,000 items × 104 weeks", float(np.median(fitted)), "CPU ms"))
    small = _support("support_requests").request(items=11, weeks=104)
    eleven = _times(lambda: estimate(small.history, DemandPrior()), share)
    found.append(
        _row("demand estimate, 11 items × 104 weeks", float(np.median(eleven)), "CPU ms", target="<= 50 ms", met=bool(
            np.median(eleven) <= 50)),
    )  # fmt: skip
    shop = _support("support_category")
    for shops in (1, 96):
        model = shop.juice(shape=(shops,))
        many = np.zeros((shops, 11))
        horizon = optimiser.repeat_outlook(steady_outlook(model, shop.COST + many))
        weight = optimiser.revenue_weight(model)

        def plan_week() -> object:
            return optimiser.look_ahead(
                model, horizon, many, many - 0.1, many + 0.1, weight=weight, cap=0.005  # noqa: B023
            )  # fmt: skip

        spent = float(np.median(_times(plan_week, share))) / shops
        found.append(
            _row(f"look-ahead a shop-week, {shops} at once", spent, "CPU ms", target="<= 2 ms" if shops > 1 else None,
                 met=spent <= 2 if shops > 1 else None)
        )  # fmt: skip
    return found
