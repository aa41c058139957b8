"""Figures and table of what working word by word costs; all read from the table of measurements."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from goldfish.figures import style
from goldfish.figures.compare import NAMES, ORDER
from goldfish.figures.palette import CELLS, OTHERS
from goldfish.figures.table import aligned, piped

TRAINING, GENERATION = "training step", "generated token"
COLOURS = CELLS | {"tcn": OTHERS[0], "transformer": OTHERS[3]}
SPREAD = 0.1  # interquartile range of a point beyond which it is told


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the figure into `out`, as PDF and PNG, and write the table; returns the files written."""
    written = out / "table.md"
    blocks = [f"**{title}**\n\n{piped(rows)}" for title, rows in _blocks(runs).items()]
    written.write_text("`goldfish reproduce achilles_heel`\n\n" + "\n\n".join(blocks) + "\n", encoding="utf-8")
    return [written, *style.save(figure(runs), out / "figure1_cost")]


def table(runs: pd.DataFrame) -> str:
    """What the experiment ends with."""
    return "\n\n".join(f"{title}\n{aligned(rows)}" for title, rows in _blocks(runs).items())


@style.paper()
def figure(runs: pd.DataFrame) -> Figure:
    """Seconds of a training step and of a generated token, and memory of a training step, against sequence length."""
    alone = runs[runs["replicas"] == 1]
    batches = sorted(set(alone["batch"]))
    kinds = [(TRAINING, "seconds", "s a training step"), (GENERATION, "seconds", "s a generated token")]
    kinds.append((TRAINING, "memory", "MB a training step"))
    note = "Median over rounds in which the networks took turns."
    wide = runs[runs["spread"] > SPREAD]
    if len(wide):
        note += f" {len(wide)} of {len(runs)} points have an interquartile range above {SPREAD:.0%}."
    shape, room = (len(batches), len(kinds)), {"left": 0.5, "right": 0.95, "bottom": 0.4, "gap": (0.5, 0.4)}
    figure, axes = style.panels(*shape, height=1.4, note=note, **room)  # type: ignore[arg-type]
    for row, batch in enumerate(batches):
        for column, (what, metric, label) in enumerate(kinds):
            ax, part = axes[row, column], alone[(alone["batch"] == batch) & (alone["what"] == what)]
            for network in _networks(part):
                own = part[part["network"] == network].sort_values("length")
                ax.plot(own["length"], own[metric], marker="o", color=COLOURS[network], label=NAMES[network])
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.set_title(f"{label}, B = {batch}")
            style.ticks(ax.xaxis, [float(length) for length in sorted(set(part["length"]))])
            if row == len(batches) - 1:
                ax.set_xlabel("sequence length T")
    axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.03, 1))
    return figure


def _networks(rows: pd.DataFrame) -> list[str]:
    return sorted(set(rows["network"]), key=ORDER.index)


def _blocks(runs: pd.DataFrame) -> dict[str, list[list[str]]]:
    blocks = {}
    alone = runs[runs["replicas"] == 1]
    for what in (TRAINING, GENERATION):
        for batch in sorted(set(alone["batch"])):
            part = alone[(alone["what"] == what) & (alone["batch"] == batch)]
            blocks[f"Milliseconds a {what}, B = {batch}"] = _by_length(part, "seconds", 1e3)
            blocks[f"Where the Transformer's lines cross, a {what}, B = {batch}"] = _crossings(part)
    for batch in sorted(set(alone["batch"])):
        part = alone[(alone["what"] == TRAINING) & (alone["batch"] == batch)]
        blocks[f"Megabytes a training step, B = {batch}"] = _by_length(part, "memory", 1.0)
    return blocks | {"Training steps of a pack: seconds a network alone ÷ in the pack": _packing(runs)}


def _by_length(part: pd.DataFrame, metric: str, unit: float) -> list[list[str]]:
    lengths = sorted(set(part["length"]))
    rows = [["network", "parameters", *(f"T = {length}" for length in lengths)]]
    for network in _networks(part):
        own = part[part["network"] == network].set_index("length")
        values = [float(own.loc[length, metric]) * unit for length in lengths]
        parameters = f"{int(own['parameters'].iloc[0]):,}"
        rows.append([NAMES[network], parameters, *(f"{value:.3g}" if value == value else "–" for value in values)])
    return rows


def _crossings(part: pd.DataFrame) -> list[list[str]]:
    """From which length on each recurrent network is faster than the Transformer, or slower."""
    rows = [["network", "against the Transformer"]]
    if "transformer" not in set(part["network"]):
        return rows
    other = part[part["network"] == "transformer"].set_index("length")["seconds"].sort_index()
    for network in [name for name in _networks(part) if name in CELLS]:
        own = part[part["network"] == network].set_index("length")["seconds"].sort_index()
        rows.append([NAMES[network], crossing(list(own.index), [math.log(own[T] / other[T]) for T in own.index])])
    return rows


def crossing(lengths: list[int], differences: list[float]) -> str:
    """What log-ratios of time (below zero: faster) say at the lengths, interpolated on log axes between them."""
    if all(value < 0 for value in differences):
        return f"faster at every length from {lengths[0]} to {lengths[-1]}"
    if all(value >= 0 for value in differences):
        return f"slower at every length from {lengths[0]} to {lengths[-1]}"
    told = []
    for (low, a), (high, b) in zip(
        zip(lengths, differences, strict=True), zip(lengths[1:], differences[1:], strict=True), strict=False
    ):
        if (a < 0) != (b < 0):
            place = math.exp(math.log(low) + (math.log(high) - math.log(low)) * a / (a - b))
            told.append(f"{'faster' if b < 0 else 'slower'} from T ≈ {place:.0f} on")
    return ", then ".join(told)


def _packing(runs: pd.DataFrame) -> list[list[str]]:
    training = runs[runs["what"] == TRAINING]
    packs = sorted(set(training["replicas"]) - {1})
    points = sorted(set(training[["batch", "length"]].itertuples(index=False, name=None)))
    rows = [["network", "pack", *(f"B = {batch}, T = {length}" for batch, length in points)]]
    keyed = training.set_index(["network", "replicas", "batch", "length"])["seconds"]
    for network in _networks(training[training["replicas"] > 1]):
        for pack in packs:
            gains = [float(keyed[network, 1, *point] / keyed[network, pack, *point]) for point in points]
            rows.append([NAMES[network], str(pack), *(f"{gain:.2g}×" for gain in gains)])
    return rows
