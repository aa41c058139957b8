"""Recall: the accuracy at every lag, and the largest lag up to which the network still recalls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from goldfish.probes.base import Measurement, Pack

MOMENTS = ("after",)
BINS = 12


def measure(pack: Pack) -> list[Measurement]:
    """Test accuracy at every length of the task, accuracy by lag, and the recall horizon, of every replica."""
    task = pack.task
    measurements = [Measurement({"recall/chance": task.chance}) for _ in range(pack.replicas)]
    by_length = {length: pack.answers(length) for length in task.lengths()}
    for replica, measured in enumerate(measurements):
        measured.curves["recall/accuracy_by_length"] = [
            (length, float(given.correct[replica].sum() / given.asked.sum())) for length, given in by_length.items()
        ]
    with_lags = [(given, given.lags) for given in by_length.values() if given.lags is not None]
    if not with_lags:
        return measurements
    own = by_length[task.length].lags
    lags = torch.cat([lags for _, lags in with_lags])
    correct = torch.cat([given.correct for given, _ in with_lags], dim=1)
    bins = accuracy_by_lag(lags, correct, torch.cat([given.asked for given, _ in with_lags]))
    for replica, measured in enumerate(measurements):
        points = [(lag, values[replica]) for lag, values in bins]
        measured.curves["recall/accuracy_by_lag"] = points
        horizon = recall_horizon([lag for lag, _ in points], [value for _, value in points], task.chance)
        measured.metrics["recall/horizon"] = horizon.lag
        measured.metrics["recall/horizon_reached_end"] = float(horizon.reached_end)
        if own is not None:
            measured.metrics["recall/lag"] = float(own.double().median())
    return measurements


class Horizon(NamedTuple):
    """The largest lag up to which every lag passes, and whether that is the longest one asked."""

    lag: float
    reached_end: bool


def recall_horizon(lags: Sequence[float], accuracies: Sequence[float], chance: float) -> Horizon:
    """The largest lag such that accuracy is above the midpoint of chance and 1 at it and every smaller lag asked.

    0 when the smallest lag fails. `lags` are ascending.
    """
    passed = [accuracy > (1 + chance) / 2 for accuracy in accuracies]
    count = passed.index(False) if False in passed else len(passed)
    return Horizon(lags[count - 1] if count else 0, count == len(passed))


def accuracy_by_lag(lags: Tensor, correct: Tensor, asked: Tensor) -> list[tuple[float, list[float]]]:
    """Accuracy by lag, over at most a dozen bins named after their largest lag.

    Args:
        lags: (N,), the lag of each sequence.
        correct: (R, N), right answers of each sequence.
        asked: (N,), questions of each sequence.

    Returns:
        (largest lag of the bin, accuracy of each replica), ascending by lag.
    """
    distinct = lags.unique()
    if len(distinct) > BINS:
        edges = torch.linspace(float(distinct[0]), float(distinct[-1]), BINS + 1)[1:].round()
    else:
        edges = distinct.float()
    index = torch.bucketize(lags.float(), edges)
    bins = []
    for bin_index, edge in enumerate(edges.tolist()):
        inside = index == bin_index
        if inside.any():
            share = correct[:, inside].sum(-1) / asked[inside].sum()
            bins.append((edge, share.tolist()))
    return bins
