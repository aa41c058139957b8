"""The outcome of training one run: everything that is recorded of it, as plain data without torch modules.

As bytes it is sent from a worker to its parent, and it waits on disk while the store cannot be reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

from goldfish.config.config import Config, recorded
from goldfish.training.state import container

KIND = "outcome 2"
WEIGHTS = "weights.pt"
Verdict = Literal["solved", "unsolved", "diverged", "failed"]


class Point(NamedTuple):
    """One point of a curve.

    quantity: "gradient/log10_norm_by_lag" (median over samples; quartiles "…_q25", "…_q75"), "recall/accuracy_by_lag",
        "recall/accuracy_by_length", "val/accuracy", "val/loss", "train/loss", "train/gradient_norm".
    phase: "before", "half", "after" for what is measured at a moment of training; "training" for learning curves.
    x: the lag, the length or the training step.
    """

    quantity: str
    phase: str
    x: float
    value: float


@dataclass
class Record:
    """The record of a run in training: what is known of it so far.

    Attributes:
        curves: its learning curves.
        last: accuracy and loss of its last validation.
        solved_at: the step of the first validation at which the task counts as solved.
        diverged: in which step its loss or its gradient became non-finite, in words, else "".
    """

    curves: list[Point] = field(default_factory=list)
    last: dict[str, float] = field(default_factory=dict)
    solved_at: int | None = None
    diverged: str = ""


@dataclass
class Outcome:
    """The outcome of one run.

    Attributes:
        config: the resolved configuration (goldfish.config.config.resolve).
        verdict: solved, unsolved, diverged (NaN or inf: a result) or failed (a fault).
        reason: one line for diverged ("loss became nan at step 120") and failed (the exception), else "".
        metrics: final scalars by name, such as "test/accuracy", "test/loss", "gradient/horizon", "recall/horizon",
            "gradient/decay_rate", "gradient/horizon_before", "time_to_solve". A metric that a task lacks is absent.
        curves: points of every curve.
        state_dict: the trained model's tensors, replica axis removed (torch.Tensor on CPU).
        parameters: number of trainable parameters.
        steps: training steps done.
        seconds: wall time of the pack divided by its number of runs.
        started: unix time in seconds at which the pack started.
        packed: number of runs in the pack.
        engine: the engine that trained it: eager, stepwise, cpu or cuda.
        nondeterministic: why the same run may have other bits when it is trained again, else "".
        dataset: the run's test set as MLflow records it: name, digest, source, schema, profile.
        content: the hash of the real data that it was trained on (data/sources.py), "" of synthetic data.
    """

    config: Config
    verdict: Verdict
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    curves: list[Point] = field(default_factory=list)
    state_dict: dict[str, Any] = field(default_factory=dict)
    parameters: int = 0
    steps: int = 0
    seconds: float = 0.0
    started: float = 0.0
    packed: int = 1
    engine: str = ""
    nondeterministic: str = ""
    dataset: dict[str, str] = field(default_factory=dict)
    content: str = ""


def dumps(outcome: Outcome) -> bytes:
    """An outcome as bytes; tensors in its state_dict are saved, {"weights.pt": bytes} is taken as it is."""
    header = {item.name: getattr(outcome, item.name) for item in fields(outcome) if item.name != "state_dict"}
    header["config"] = outcome.config.plain()
    header["metrics"] = {name: float(value) for name, value in outcome.metrics.items()}
    header["curves"] = [(p.quantity, p.phase, float(p.x), float(p.value)) for p in outcome.curves]
    weights = outcome.state_dict.get(WEIGHTS, b"")
    if outcome.state_dict and not weights:  # a view would be saved with the whole pack's storage behind it
        weights = container.save({name: value.detach().cpu().clone() for name, value in outcome.state_dict.items()})
    return container.dumps(KIND, header, weights)


def loads(data: bytes) -> Outcome:
    """The outcome, its state_dict {"weights.pt": bytes}, or {} without weights. Raises ValueError for damaged data."""
    return of(*container.loads(KIND, data))


def of(header: Mapping[str, Any], weights: bytes) -> Outcome:
    """Make an outcome from its header and its saved weights."""
    own = {"config": recorded(header["config"]), "curves": [Point(*point) for point in header["curves"]]}
    return Outcome(**{**header, **own}, state_dict={WEIGHTS: weights} if weights else {})


def columns(points: Sequence[Point]) -> dict[str, Any]:
    """Points as tensors, which make a small file that is read quickly."""
    import torch

    curves = list(dict.fromkeys((point.quantity, point.phase) for point in points))
    number = {curve: index for index, curve in enumerate(curves)}
    return {
        "names": [list(curve) for curve in curves],
        "curve": torch.tensor([number[point.quantity, point.phase] for point in points], dtype=torch.int64),
        "whole": torch.tensor([isinstance(point.x, int) for point in points], dtype=torch.bool),
        "x": torch.tensor([point.x for point in points], dtype=torch.float64),
        "value": torch.tensor([point.value for point in points], dtype=torch.float64),
    }


def points(columns: dict[str, Any]) -> list[Point]:
    """The points that `columns` made into tensors."""
    rows = zip(*(columns[name].tolist() for name in ("curve", "whole", "x", "value")), strict=True)
    names = columns["names"]
    return [Point(names[k][0], names[k][1], int(x) if whole else x, value) for k, whole, x, value in rows]
