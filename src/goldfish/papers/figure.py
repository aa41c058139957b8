"""The figure that compares our runs with a paper: for each claim our interval, the published mark and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from goldfish.figures import grid, style
from goldfish.figures.palette import GREY
from goldfish.figures.statistics import Interval, mean_interval, wilson_interval
from goldfish.papers import published, rules
from goldfish.papers.published import Claim
from goldfish.papers.rules import Judged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {rules.REPRODUCED: "#009E73", rules.NOT: "#D55E00", rules.INCONCLUSIVE: "#E69F00"}
OURS, OTHERS = "#0072B2", "#56B4E9"
LABELS = {
    "solved": "share of runs solved",
    "time_to_solve": "training steps until solved, the budget where not",
    "val/loss": "validation loss",
    "gradient/decay_rate_before": "gradient decay rate before training",
    "gradient/horizon_before": "gradient horizon before training",
}
WHOLE = ("solved", "time_to_solve")  # their labels say what is counted
WIDEST = 58  # characters of a claim in a line
LOGARITHMIC = 30.0  # a metric whose values lie further apart than this factor is drawn on a logarithmic axis


class Drawn(NamedTuple):
    """The values that are drawn for one side of a claim."""

    interval: Interval
    values: Sequence[float]
    lost: int = 0  # runs without a value of their own


def save(folder: Path, runs: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the claims of an experiment's folder beside its runs into `out`; returns the files written."""
    return style.save(draw(published.verdicts(folder, runs), runs), out / "figure1_beside_published")


@style.paper()
def draw(claims: Sequence[tuple[Claim, Judged]], runs: pd.DataFrame) -> Figure:
    """A panel for each metric, a row for each claim of which there are runs; where there are none, that is said."""
    metrics: dict[tuple[str, str], list[tuple[Claim, Judged]]] = {}
    for claim, judged in claims:
        if (claim.rule != "note" or claim.select) and _drawn(claim, claim.select, runs) is not None:
            metrics.setdefault((claim.metric, claim.unit), []).append((claim, judged))
    if not metrics:
        figure, axes = style.panels(1, 1, height=0.4)
        axes[0, 0].axis("off")
        axes[0, 0].text(0, 0.5, "None of the published settings was run at this scale.", va="center")
        return figure
    heights = [0.24 * len(own) + 0.12 for own in metrics.values()]
    figure, axes = style.panels(
        len(metrics), 1, height=heights, left=2.9, right=1.05, bottom=0.4, gap=(0.2, 0.5), note=_NOTE
    )
    for ax, ((metric, unit), own) in zip(axes[:, 0], metrics.items(), strict=True):
        _panel(ax, own, runs)
        ax.set_title(_title(metric, unit))
    return figure


def _title(metric: str, unit: str) -> str:
    """The title of the axis, with the unit unless the name says it."""
    label = LABELS.get(metric, metric.replace("/", " ").replace("_", " "))
    return label if metric in WHOLE or unit in label else f"{label} ({unit})"


_NOTE = (
    "Diamond and bar: our mean (or share) and its 95 % interval; circles: runs; light: the other side of a comparison. "
    "Star: published; grey: its tolerance, or the limit of the claim."
)


def _panel(ax: Axes, claims: Sequence[tuple[Claim, Judged]], runs: pd.DataFrame) -> None:
    seen: list[float] = []
    values: list[float] = []
    for place, (claim, judged) in enumerate(claims):
        lost = 0
        for pairs, colour, offset in ((claim.versus, OTHERS, 0.22), (claim.select, OURS, 0.0)):
            drawn = _drawn(claim, pairs, runs) if pairs else None
            if drawn is not None:
                style.interval(ax, drawn.interval, drawn.values, place + offset, colour)
                seen += [drawn.interval.estimate, *drawn.values]
                seen += [drawn.interval.low, drawn.interval.high] if drawn.interval.known else []
                values += drawn.values
                lost += drawn.lost
        seen += _theirs(ax, claim, place)
        what = "unsolved" if claim.metric == "time_to_solve" else "without a value"
        told = (judged.verdict or "orientation") + (f"\n{lost} {what}" if lost else "")
        ax.annotate(
            told, (1, place), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            size=6, color=COLOURS.get(judged.verdict, GREY),
        )  # fmt: skip
    _axis(ax, seen, values)
    if claims[0][0].metric == "solved":
        ax.set_xlim(-0.03, 1.03)
    style.rows(ax, [_short(claim.claim) for claim, _ in claims])


def _axis(ax: Axes, seen: Sequence[float], values: Sequence[float]) -> None:
    """Logarithmic where what is seen is positive and far apart; of positive values nothing below zero is shown."""
    if seen and min(seen) > 0 and max(seen) / min(seen) > LOGARITHMIC:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        return
    ax.xaxis.set_major_locator(MaxNLocator(6))
    if values and min(values) >= 0:  # an interval goes on there; what is measured does not
        left, right = ax.get_xlim()
        ax.set_xlim(left=max(left, -0.03 * right))


def _theirs(ax: Axes, claim: Claim, place: float) -> list[float]:
    """The published mark."""
    if claim.rule in ("more", "less", "ratio") or math.isnan(claim.value):
        return []
    value = claim.value / claim.n if claim.rule == "success" else claim.value
    if claim.rule == "value":
        ax.plot([value - claim.tolerance, value + claim.tolerance], [place] * 2, color=GREY, alpha=0.35, linewidth=4,
                solid_capstyle="butt", zorder=0)  # fmt: skip
    if claim.rule in ("above", "below"):
        ax.plot([value, value], [place - 0.35, place + 0.35], color=GREY, linewidth=1)
    else:
        ax.plot([value], [place], "*", color="black", markersize=5, zorder=5, clip_on=False)
    return [value]


def _drawn(claim: Claim, pairs: Mapping[str, str], runs: pd.DataFrame) -> Drawn | None:
    rows = published.rows(claim, pairs, runs)
    if rows.empty:
        return None
    solved, n = published.count(rows) if "outcome" in rows else (0, 0)
    if claim.metric == "solved":
        return Drawn(wilson_interval(solved, n), [])
    if claim.metric == "time_to_solve":
        steps = published.times(rows).steps
        return Drawn(mean_interval(steps), steps, n - solved)
    column = list(grid.column(rows, claim.metric))
    values = [value for value in column if math.isfinite(value)]
    return Drawn(mean_interval(values), values, len(column) - len(values)) if values else None


def _short(text: str) -> str:
    """A claim in at most two lines."""
    if len(text) <= WIDEST:
        return text
    cut = text.rfind(" ", 0, WIDEST)
    rest = text[cut + 1 :]
    return f"{text[:cut]}\n{rest if len(rest) <= WIDEST else rest[: WIDEST - 1] + '…'}"
