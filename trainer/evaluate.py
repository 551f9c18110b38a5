"""What an evaluation prints: tables for people, one JSON object for programs, from `replay` and `contest`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge.agent.rules import GuardRules
from trainer.contest import PLANNER, ContestConfig, Score, interval
from trainer.ingest import Panel
from trainer.replay import PLUG_INS, Result

Json = dict[str, Any]


def replay_json(
    path: Path, panels: list[Panel], test_from: int, results: Mapping[str, Result], rules: GuardRules
) -> Json:
    """The JSON of `evaluate --data`; FORMATS.md, "Evaluation"."""
    first = min(int(panel.weeks[0]) for panel in panels)
    last = max(int(panel.weeks[-1]) for panel in panels)
    return {
        "kind": "replay",
        "data": path.name,
        "stores": sum(len(panel.stores) for panel in panels),
        "skus": len({sku for panel in panels for sku in panel.skus}),
        "weeks": [first, last],
        "test_from": test_from,
        "guard": _guard(rules),
        "unit": "gross profit of the test weeks, % of the historic one",
        "policies": {
            name: {
                "profit_percent": _round(result.percent),
                "interval_95": [_round(result.low), _round(result.high)],
                "against_best_plug_in": [_round(value) for value in result.against_best],
                "residual_rms_percent": _round(result.residual_rms),
                "guard_share": _round(result.guard_share),
            }
            for name, result in results.items()
        },
        "best_plug_in": best_plug_in(results),
    }


def best_plug_in(results: Mapping[str, Result]) -> str:
    """The plug-in (optimiser with a fitted model) with the highest profit."""
    return max((name for name in results if name in PLUG_INS), key=lambda name: results[name].percent)


def replay_table(data: Json) -> str:
    """The same for people."""
    first, last = data["weeks"]
    rows = [
        f"{data['stores']} stores, {data['skus']} items, weeks {first}–{last}, tested from week {data['test_from']}",
        "policies know the weeks before; scored by a demand model of the test weeks only",
        _guard_words(data["guard"]),
        "",
        f"{'policy':<20} {'% of historic profit':>21} {'95 % interval':>18} {'to best plug-in':>28} {'rms to LR':>10}",
    ]
    for name, row in data["policies"].items():
        low, high = row["interval_95"]
        gap, gap_low, gap_high = row["against_best_plug_in"]
        rows.append(
            f"{name:<20} {row['profit_percent']:>21.1f} {f'{low:.1f} … {high:.1f}':>18} "
            f"{f'{gap:+.2f} ({gap_low:+.2f} … {gap_high:+.2f})':>28} {row['residual_rms_percent']:>8.1f} %"
        )
    rows += [
        "",
        f"best plug-in: {data['best_plug_in']}; intervals by bootstrap over weeks, scorer refitted each time",
    ]
    return "\n".join(rows)


def contest_json(pack: str, config: ContestConfig, scores: Mapping[str, Score]) -> Json:
    """The JSON of `evaluate --simulator`; FORMATS.md, "Evaluation"."""
    against = scores["long-run plug-in"]
    policies = {}
    for name, score in scores.items():
        gain, gain_se, _ = interval(score.gain)
        gap, gap_se, gap_low = interval(score.gain - against.gain)
        policies[name] = {
            "gain_percent": _round(gain),
            "gain_se": _round(gain_se),
            "gross_profit_gain_percent": _round(float(score.gross_profit_gain.mean())),
            "against_long_run": _round(gap),
            "against_long_run_se": _round(gap_se),
            "against_long_run_low_95": _round(gap_low),
            "label_changes_per_item_week": _round(score.moves),
            "residual_rms_percent": _round(score.residual_rms),
        }
    return {
        "kind": "simulator",
        "pack": pack,
        "seeds": config.seeds,
        "shops_per_seed": config.shops,
        "weeks": config.weeks,
        "model_error": config.ignorance.high,
        "guard": _guard(config.rules),
        "unit": "J over hold, % of gross profit at reference prices",
        "policies": policies,
        "above_planner": [
            name
            for name in policies
            if name != PLANNER and policies[name]["gain_percent"] > _above(scores, name, policies[PLANNER])
        ],
    }


def _above(scores: Mapping[str, Score], name: str, planner: Mapping[str, float]) -> float:
    """What a policy would have to exceed for its lead over the planner to be more than noise (and 0.05 of rounding)."""
    gap = scores[name].gain - scores[PLANNER].gain
    error = float(gap.std(ddof=1) / np.sqrt(len(gap))) if len(gap) > 1 else float("inf")
    return planner["gain_percent"] + 3.0 * error + 0.05


def contest_table(data: Json) -> str:
    """The same for people."""
    size = f"{data['seeds']} seeds × {data['shops_per_seed']} held-out shops × {data['weeks']} weeks"
    rows = [
        f"pack {data['pack']}: {size}, model error {data['model_error']:g}; {_guard_words(data['guard'])}",
        f"gain of {data['unit']}; (s.e.) over seeds",
        "",
        f"{'policy':<22} {'gain':>14} {'gross profit':>13} {'to long-run plug-in':>28} {'labels':>7} {'rms to LR':>10}",
    ]
    for name, row in data["policies"].items():
        gain = f"{row['gain_percent']:+.2f} ({row['gain_se']:.2f})"
        gap = f"{row['against_long_run']:+.2f} ({row['against_long_run_se']:.2f})"
        gap += f", ≥ {row['against_long_run_low_95']:+.2f}"
        rows.append(
            f"{name:<22} {gain:>14} {row['gross_profit_gain_percent']:>+13.2f} {gap:>28} "
            f"{row['label_changes_per_item_week']:>7.2f} {row['residual_rms_percent']:>8.1f} %"
        )
    if data["above_planner"]:
        rows += [
            "",
            f"above the planner that knows the truth, by more than noise: {data['above_planner']}",
        ]
    return "\n".join(rows)


def _guard(rules: GuardRules) -> Json:
    return {"band": rules.band, "step": rules.step, "index_cap": rules.index_cap, "margin_min": rules.margin_min}


def _guard_words(guard: Mapping[str, float]) -> str:
    return f"guard: ±{100 * guard['band']:g} %, index ≤ {100 * guard['index_cap']:g} %"


def _round(value: float) -> float:
    return round(float(value), 4)
