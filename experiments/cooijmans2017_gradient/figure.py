"""Our runs beside the paper's, and its instrument: the norm of dL/dh_t, before and after training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from goldfish.figures import style
from goldfish.figures.palette import GREY, OTHERS
from goldfish.papers import figure as beside

ARMS = (("identity", "sequential", "#0072B2"), ("identity", "permuted", OTHERS[0]), ("pytorch", "sequential", GREY))


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the figures into `out`, as PDF and PNG; returns the files written."""
    return [
        *beside.save(Path(__file__).parent, runs, out),
        *style.save(gradient(runs, curves), out / "figure2_gradient"),
    ]


@style.paper()
def gradient(runs: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """log10 of the adjoint's norm by lag, of the joint state (h, c): every seed's median over the probe batch."""
    note = "Lines: every seed, median over 64 sequences, relative to the last step."
    figure, axes = style.panels(1, 2, height=1.8, left=0.5, right=1.3, note=note)
    for ax, phase in zip(axes[0], ("before", "after"), strict=True):
        for init, order, colour in ARMS:
            own = runs[(runs["init"] == init) & (runs["task.order"] == order)]["fingerprint"]
            part = curves[curves["fingerprint"].isin(own) & (curves["phase"] == phase)]
            part = part[part["quantity"] == "gradient/log10_norm_by_lag"]
            for index, (_, line) in enumerate(part.groupby("fingerprint")):
                line = line.sort_values("x")
                first = line["value"].iloc[0]
                label = f"{init}, {order}" if index == 0 else None
                ax.plot(line["x"], line["value"] - first, color=colour, linewidth=0.7, label=label)
        ax.set_title(f"{phase} training")
        ax.set_xlabel("lag T − t")
    axes[0, 0].set_ylabel("log10 ‖dL/d(h, c)_t‖")
    style.share(axes)
    axes[0, 1].legend(loc="upper left", bbox_to_anchor=(1.03, 1))
    return figure
