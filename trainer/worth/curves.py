"""Curves as a hand-made SVG: mean loss over the first t weeks by arm, with 95 % bands. No library."""

import math
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.worth import report, simulated

Float = NDArray[np.float64]

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 170, 36, 44
COLOURS: Final = ("#7f7f7f", "#d62728", "#ff7f0e", "#2ca02c", "#1f77b4", "#17365d", "#9467bd")


def svg(result: simulated.Result) -> str:
    """Reference prices, no peers, and every number of peers of the plain kind."""
    names = [simulated.HOLD, simulated.ALONE, *map(simulated.peers_named, result.config.peers)]
    drawn = {name: report.curve(result, name) for name in names}
    weeks = result.config.weeks
    top = max(float(np.max(mean + report.Z95 * error)) for mean, error in drawn.values())
    ceiling = max(1.0, math.ceil(top))

    def x(week: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (week - 1) / max(weeks - 1, 1)

    def y(loss: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * max(loss, 0.0) / ceiling

    def path(values: Float) -> str:
        return " ".join(f"{x(week):.1f},{y(float(value)):.1f}" for week, value in enumerate(values, start=1))

    title = f"Loss against full information over the first weeks, {result.case.name}, {result.config.seeds} seeds"
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'font-family="sans-serif" font-size="12">'
        ),
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="13">{escape(title)}</text>',
    ]
    for loss in range(int(ceiling) + 1):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(loss):.1f}" y2="{y(loss):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(loss) + 4:.1f}" text-anchor="end">{loss}</text>')
    parts += [
        f'<text x="{x(week):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{week}</text>'
        for week in (1, 8, 26, 52, 104)
        if week <= weeks
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">weeks since the first</text>')
    upright = HEIGHT / 2
    parts.append(
        f'<text x="16" y="{upright}" text-anchor="middle" transform="rotate(-90 16 {upright})">'
        "% of gross profit at reference prices</text>"
    )
    for name, colour in zip(names, COLOURS, strict=False):
        mean, error = drawn[name]
        band = report.Z95 * error
        edge = " ".join(reversed(path(mean - band).split(" ")))
        parts.append(f'<polygon points="{path(mean + band)} {edge}" fill="{colour}" opacity="0.12"/>')
        parts.append(f'<polyline points="{path(mean)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    spots: list[float] = []
    for name, colour in sorted(zip(names, COLOURS, strict=False), key=lambda pair: -float(drawn[pair[0]][0][-1])):
        wanted = y(float(drawn[name][0][-1])) + 4
        spots.append(max(wanted, spots[-1] + 15 if spots else wanted))  # labels never cover each other
        parts.append(f'<text x="{WIDTH - RIGHT + 8}" y="{spots[-1]:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
