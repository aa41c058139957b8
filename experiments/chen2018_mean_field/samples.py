"""Measured slopes beside the theory's, and how long sequences a network of each σ_w learns, in units of 6 ξ."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from goldfish.probes.mean_field import mean_field

SYMBOLS = {"temporal_order": 6, "recall": 10}  # D: one-hot inputs have mean square 1/D
MULTIPLE = 6  # of ξ, up to which the paper finds networks trainable


def samples(runs: pd.DataFrame, network: Callable[[str], Any]) -> pd.DataFrame:
    """Rows of kind slope (one for each run) limit or outside (one for each σ_w of the map and seed)
    and limits (the mean over σ_w, one for each seed)."""
    drawn = runs[(runs["init"] == "gaussian") & ~runs["outcome"].isin(("failed", "missing"))].copy()
    drawn["R"] = [(u**2 / SYMBOLS[task]) for u, task in zip(drawn["init.sigma_u"], drawn["task"], strict=True)]
    return pd.DataFrame(
        [*_slopes(drawn[drawn["task"] == "temporal_order"]), *_limits(drawn[drawn["task"] == "recall"])]
    )


def _slopes(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The slope of ln‖dL/dh_t‖ over lag before training, and ½ ln χ."""
    slopes = []
    for row in rows.to_dict("records"):
        theory = mean_field(row["init.sigma_w"], row["R"])
        slope = row["gradient/decay_rate_before"]
        told = {"kind": "slope", "sigma_w": row["init.sigma_w"], "R": round(row["R"], 6), "seed": row["seed"]}
        told |= {"slope": slope, "theory": theory.slope, "residual": slope - theory.slope, "chi": theory.chi}
        slopes.append(told)
    return slopes


def _limits(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The longest T up to which every length was solved, and its log2 ratio to 6 ξ; outside where that is off the map.

    Half the shortest length stands for none. A σ_w and seed that lacks the run of some length says nothing.
    """
    limits = []
    lengths = sorted(set(rows["length"]))
    for (sigma_w, R, seed), own in rows.groupby(["init.sigma_w", "R", "seed"]):
        solved = own.set_index("length")["outcome"] == "solved"
        if sorted(solved.index) != lengths:
            continue
        longest = lengths[0] / 2
        for length in lengths:
            if not bool(solved[length]):
                break
            longest = float(length)
        scale = MULTIPLE * mean_field(float(sigma_w), float(R)).depth
        inside = lengths[0] <= scale <= lengths[-1]
        told = {"kind": "limit" if inside else "outside", "sigma_w": sigma_w, "R": round(float(R), 6), "seed": seed}
        limits.append(told | {"longest": longest, "scale": scale, "log2_longest_over_6xi": math.log2(longest / scale)})
    inner = pd.DataFrame([row for row in limits if row["kind"] == "limit"])
    means = inner.groupby("seed")["log2_longest_over_6xi"].mean() if len(inner) else {}
    return [*limits, *({"kind": "limits", "seed": s, "log2_longest_over_6xi": m} for s, m in dict(means).items())]
