"""An experiment's own criterion for `solved`, where its paper has another than the task: read off the learning curves.

    solved: {val/loss: "< 0.04"}        # experiment.yaml; several conditions must hold at the same validation

The criterion is a reading of a run, not part of its identity: no run is repeated for it.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping

import pandas as pd

from goldfish.errors import ConfigError

METRICS = ("val/accuracy", "val/loss")
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def parse(metric: str, condition: str) -> tuple[str, float]:
    """Split "< 0.04" into its comparison and its threshold.

    Raises ConfigError for an unknown metric and for what is no condition.
    """
    if metric not in METRICS:
        raise ConfigError(f"solved.{metric}: unknown metric; choices: {', '.join(METRICS)}")
    match = re.fullmatch(r"\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*", str(condition))
    try:
        return (match[1], float(match[2])) if match else _refuse(metric, condition)
    except ValueError:
        return _refuse(metric, condition)


def _refuse(metric: str, condition: str) -> tuple[str, float]:
    raise ConfigError(f"solved.{metric}={condition}: expected a condition such as '< 0.04'")


def judge(runs: pd.DataFrame, curves: pd.DataFrame, criterion: Mapping[str, str]) -> pd.DataFrame:
    """The runs with outcome and time-to-solve by the criterion; as they are where there is none.

    Time-to-solve is the training step of the first validation that meets it. What diverged, failed or is missing stays.
    """
    if not criterion:
        return runs
    learning = curves[(curves["phase"] == "training") & curves["quantity"].isin(criterion)]
    values = learning.pivot(index=["fingerprint", "x"], columns="quantity", values="value").reindex(
        columns=list(criterion)
    )
    met = pd.Series(True, index=values.index)
    for metric, condition in criterion.items():
        sign, threshold = parse(metric, condition)
        met &= _COMPARE[sign](values[metric], threshold)
    first = values.index[met].to_frame(index=False).groupby("fingerprint")["x"].min()
    judged = runs.copy()
    steps = judged["fingerprint"].map(first)
    came_to_an_end = judged["outcome"].isin(("solved", "unsolved"))
    judged.loc[came_to_an_end, "outcome"] = steps.notna().map({True: "solved", False: "unsolved"})[came_to_an_end]
    judged["time_to_solve"] = steps.where(came_to_an_end, math.nan)
    judged["time_to_solve/censored"] = steps.isna().astype(float).where(came_to_an_end, math.nan)
    return judged
