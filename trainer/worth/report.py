"""The studies as JSON, as Markdown and as curves; one place decides how a figure is rounded."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.worth import real, simulated
from trainer.worth.real import Interval

Float = NDArray[np.float64]

SPANS = (8, 26, 52)  # weeks
Z95 = 1.96
NOTHING = "–"
# title, change, level, digits
MEASURES = (
    ("Forecast error of the eight weeks after so many of its own: WAPE, points", "wape_change", "wape", 1),
    (
        "Own elasticities: rms distance to all weeks of the store; changes of its square",
        "square_change",
        "elasticity",
        2,
    ),
    ("The same against the weeks since the opening alone", "later_square_change", None, 2),
    ("Log score, nats a cell", "score_change", None, 3),
)


def real_json(result: real.Result) -> dict[str, Any]:
    """Everything of `result`, in plain types."""
    return {
        "kind": "worth-real",
        "stores": result.stores,
        "items": result.items,
        "cases": result.cases,
        "opening_weeks": list(result.openings),
        "evidence_error": round(result.evidence_error, 3),
        "chain_error": _number(result.chain_error),
        "rows": [
            {
                "known_weeks": row.known,
                "prior": row.prior,
                **{
                    name: _plain(getattr(row, name))
                    for name in (
                        "wape",
                        "wape_change",
                        "score_change",
                        "elasticity",
                        "square_change",
                        "later_square_change",
                    )
                },
            }
            for row in result.rows
        ],
    }


def real_markdown(result: real.Result) -> str:
    """Head and one table a measure: priors down, known weeks across; the shipped prior's row gives the level."""
    found = {(row.prior, row.known): row for row in result.rows}
    names = list(dict.fromkeys(row.prior for row in result.rows))
    knowns = list(dict.fromkeys(row.known for row in result.rows))
    lines = [
        (
            f"{result.stores} stores, {result.items} items, {result.cases} openings (weeks "
            f"{', '.join(map(str, result.openings))}); standard error of a peer's own elasticity "
            f"{result.evidence_error:.2f}; pooled over all stores, one differs by {result.chain_error:.2f} (s.d.) "
            "from one half of the weeks to the other"
        ),
        "",
        f"changes against the {real.SHIPPED}, 95 % intervals; {NOTHING}: noise left nothing that a box would use",
    ]
    for title, measure, level, digits in MEASURES:
        shown = [known for known in knowns if getattr(found[real.SHIPPED, known], measure) is not None]
        lines += ["", f"**{title}**", ""]
        lines += _table_head(["prior", *(known if known == real.FIRST else f"{known} weeks" for known in shown)])
        for name in names:
            rows = [found[name, known] for known in shown]
            if name == real.SHIPPED:
                heights = [getattr(row, level) if level else None for row in rows]
                cells = ["" if height is None else f"{height.value:.{digits}f}" for height in heights]
            else:
                cells = [_signed(getattr(row, measure), digits) for row in rows]
            lines.append(_line([name, *cells]))
    return "\n".join(lines)


def simulated_json(result: simulated.Result) -> dict[str, Any]:
    """Losses, what an arm saves against no peers, and the curve of every arm."""
    spans = [weeks for weeks in SPANS if weeks <= result.config.weeks] or [result.config.weeks]
    return {
        "kind": "worth-simulated",
        "case": result.case.name,
        "seeds": result.config.seeds,
        "shops": result.config.shops,
        "weeks": result.config.weeks,
        "fits_converged": round(result.converged, 4),
        "arms": {
            name: {
                "loss": {str(weeks): _plain(over_seeds(result.loss(name, weeks))) for weeks in spans},
                "saved": {str(weeks): _plain(saved(result, name, weeks)) for weeks in spans},
                "gross_profit_saved": {
                    str(weeks): _plain(saved(result, name, weeks, of="gross_profit")) for weeks in spans
                },
                "curve": [round(float(value), 3) for value in curve(result, name)[0]],
            }
            for name in result.value
        },
    }


def simulated_markdown(result: simulated.Result) -> str:
    """Head and the table of arms."""
    spans = [weeks for weeks in SPANS if weeks <= result.config.weeks] or [result.config.weeks]
    config = result.config
    middle = spans[min(1, len(spans) - 1)]
    lines = [
        (
            f"case {result.case.name}: {config.seeds} seeds × {config.shops} new shops × {config.weeks} weeks; "
            f"fits converged {100.0 * result.converged:.2f} %"
        ),
        "",
        (
            "loss of J against full information, % of gross profit at reference prices (s.e.); "
            f"saved: against no peers, 95 % interval; {NOTHING}: noise left nothing that a box would use"
        ),
        "",
    ]
    head = ["starts with", *(f"loss, weeks 1–{weeks}" for weeks in spans)]
    head += [*(f"saved, weeks 1–{weeks}" for weeks in spans), f"gross profit saved, weeks 1–{middle}"]
    lines += _table_head(head)
    for name in result.value:
        losses = [result.loss(name, weeks) for weeks in spans]
        cells = [name, *(f"{loss.mean():.2f} ({standard_error(loss):.2f})" for loss in losses)]
        if name == simulated.ALONE:
            cells += [""] * (len(spans) + 1)
        else:
            cells += [_signed(saved(result, name, weeks), 2) for weeks in spans]
            cells.append(_signed(saved(result, name, middle, of="gross_profit"), 2))
        lines.append(_line(cells))
    return "\n".join(lines)


def saved(result: simulated.Result, arm: str, weeks: int, *, of: str = "value") -> Interval:
    """What `arm` loses less than a shop without peers, paired by seed."""
    return over_seeds(result.loss(simulated.ALONE, weeks, of=of) - result.loss(arm, weeks, of=of))


def over_seeds(samples: Float) -> Interval:
    """Mean and normal 95 % interval."""
    half = Z95 * standard_error(samples)
    return Interval(float(samples.mean()), float(samples.mean()) - half, float(samples.mean()) + half)


def standard_error(samples: Float) -> float:
    """Over seeds; NaN for one alone."""
    return float(samples.std(ddof=1) / np.sqrt(len(samples))) if len(samples) > 1 else float("nan")


def curve(result: simulated.Result, arm: str) -> tuple[Float, Float]:
    """(mean, standard error) of the mean loss over the first 1, 2, .. weeks, (weeks,) each."""
    weekly = result.value[arm]
    running = np.cumsum(weekly, axis=1) / np.arange(1, weekly.shape[1] + 1)
    spread = running.std(0, ddof=1) / np.sqrt(len(running)) if len(running) > 1 else np.zeros(running.shape[1])
    return running.mean(0), spread


def _table_head(cells: Sequence[str]) -> list[str]:
    return [_line(cells), _line(["---"] * len(cells))]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _signed(value: Interval, digits: int) -> str:
    if value.low == value.value == value.high == 0.0:
        return NOTHING
    return f"{value.value:+.{digits}f} ({value.low:+.{digits}f} … {value.high:+.{digits}f})"


def _plain(value: Interval | None) -> dict[str, float | None] | None:
    if value is None:
        return None
    return {name: _number(getattr(value, name)) for name in ("value", "low", "high")}


def _number(value: float) -> float | None:
    """Rounded; JSON has no NaN, and one seed has no interval."""
    return round(value, 4) if np.isfinite(value) else None
