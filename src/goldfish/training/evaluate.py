"""What is measured on a pack beside its training: gradient flow on the probe batch, recall on the test sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.func import functional_call

from goldfish import registry
from goldfish.probes.gradient_flow import Decay, by_lag, decay, gradient_flow
from goldfish.probes.recall import accuracy_by_lag, recall_horizon
from goldfish.training.data import PackData, place
from goldfish.training.module import PackModule
from goldfish.training.outcome import Point

PROBE_SIZE = 64
_SUFFIX = {"before": "_before", "half": "_half", "after": ""}


@dataclass
class Measured:
    """Metrics and curve points of one replica."""

    metrics: dict[str, float]
    curves: list[Point]


@dataclass
class Measurements:
    """What was measured of each replica so far, and at which moments of training."""

    rows: list[Measured]
    phases: list[str] = field(default_factory=list)

    def take(self, module: PackModule, data: PackData, phase: str) -> None:
        """Measure every replica, once in each phase."""
        if phase in self.phases:
            return
        for found in (measure_gradient_flow(module, data, phase), measure_probes(module, data, phase)):
            for row, measured in zip(self.rows, found, strict=True):
                row.metrics |= measured.metrics
                row.curves += measured.curves
        self.phases.append(phase)


def measure_gradient_flow(module: PackModule, data: PackData, phase: str) -> list[Measured]:
    """Gradient flow of every replica on the fixed probe batch of 64 sequences, top layer.

    A separate backward pass from each sample's own loss at its last unmasked step, in float64 whatever the run trains
    in: a gradient that has all but vanished keeps no digit of a float32 pass. Rate and horizon are those of the joint
    state; h and c stand beside it where a cell has more than one state.
    """
    task, recurrent = module.task, module.model.recurrent
    parts: dict[str, list[Tensor]] = {}
    batch = task.evaluation("probe", task.length, PROBE_SIZE)
    placed = place(batch, data.on, torch.float64)
    rows = max(1, min(PROBE_SIZE, 2**18 // (task.steps(task.length) * recurrent.cell.hidden_size)))
    for part in placed.split(rows):
        with torch.enable_grad(), gradient_flow(recurrent) as flow:
            spread = module.spread(part)
            weights = {
                name: value.detach().double().requires_grad_() for name, value in module.model.named_parameters()
            }
            outputs = functional_call(module.model, weights, (spread.inputs,))
            task.last_losses(outputs, spread).sum().backward()
        for name, norm in flow.log2_norm.items():
            parts.setdefault(name, []).append(by_lag(norm[:, -1], part.mask))
    norms = {name: torch.cat(pieces, dim=1) for name, pieces in parts.items()}
    return [
        _summarise({name: norm[replica] for name, norm in norms.items()}, phase)
        for replica in range(len(module.configs))
    ]


def measure_probes(module: PackModule, data: PackData, phase: str) -> list[Measured]:
    """What other packages' probes say of every replica on the probe batch: metrics `<probe>/<name>`.

    A probe is a function (model, batch) → {name: (R,)}; the batch has a replica axis.
    """
    found = [Measured({}, []) for _ in module.configs]
    installed = registry.probes()
    if not installed:
        return found
    batch = place(module.task.evaluation("probe", module.task.length, PROBE_SIZE), data.on, data.dtype)
    model = module.copied()
    for probe, function in installed.items():
        for name, values in function(model, module.spread(batch)).items():
            for measured, value in zip(found, values.tolist(), strict=True):
                measured.metrics[f"{probe}/{name}{_SUFFIX[phase]}"] = value
    return found


def _summarise(norms: dict[str, Tensor], phase: str) -> Measured:
    found = Measured({}, [])
    joint = len(norms) > 2
    for name, norm in norms.items():
        if name == "state" and not joint:
            continue
        summary = decay(norm)
        main = name == ("state" if joint else "h")
        end = _SUFFIX[phase] if main else f"_{name}{_SUFFIX[phase]}"
        if summary is not None:
            _add_decay(found, summary, end, phase, "" if main else f"_{name}", main)
    return found


def _add_decay(found: Measured, summary: Decay, end: str, phase: str, name: str, quartiles: bool) -> None:
    found.metrics[f"gradient/horizon{end}"] = summary.horizon
    found.metrics[f"gradient/horizon_reached_end{end}"] = float(summary.reached_end)
    found.metrics[f"gradient/zero_samples{end}"] = summary.zero_samples
    if summary.decay_rate is not None:
        found.metrics[f"gradient/decay_rate{end}"] = summary.decay_rate
    if summary.half_life is not None:
        found.metrics[f"gradient/half_life{end}"] = summary.half_life
    curves = {"": summary.log10_norm}
    if quartiles:
        curves |= {"_q25": summary.lower, "_q75": summary.upper}
    for suffix, curve in curves.items():
        quantity = f"gradient/log10_norm_by_lag{name}{suffix}"
        found.curves += [Point(quantity, phase, lag, value) for lag, value in enumerate(curve.tolist())]


def measure_recall(module: PackModule, data: PackData, between: Callable[[], None]) -> list[Measured]:
    """Test accuracy and loss at every length of the task, accuracy by lag, and the recall horizon, of every replica.

    Between two lengths, `between` is called: it may raise.
    """
    task = module.task
    found = [Measured({"recall/chance": task.chance}, []) for _ in module.configs]
    lags, right, asked = [], [], []
    for length in task.lengths():
        between()
        correct, questions, losses, lag = _answers(module, data, length)
        accuracy = [float(row.sum() / questions.sum()) for row in correct]
        for replica, value in enumerate(accuracy):
            found[replica].curves.append(Point("recall/accuracy_by_length", "after", length, value))
            if length == task.length:
                found[replica].metrics["test/accuracy"] = value
                found[replica].metrics["test/loss"] = float(losses[replica].mean())
                if lag is not None:
                    found[replica].metrics["recall/lag"] = float(lag.double().median())
        if lag is not None:
            lags.append(lag)
            right.append(correct)
            asked.append(questions)
    if lags:
        _add_recall(found, accuracy_by_lag(torch.cat(lags), torch.cat(right, dim=1), torch.cat(asked)), task.chance)
    return found


def _answers(module: PackModule, data: PackData, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Right answers (R, n), questions (n,), losses (R, n) and lags (n,) on the test set of one length."""
    correct, questions, losses, lags = [], [], [], []
    with torch.no_grad():
        for part in data.evaluation("test", length):
            spread = module.spread(part)
            outputs = module(spread.inputs)
            answers, asked = module.task.correct(outputs, spread)
            correct.append(answers)
            questions.append(asked[0])
            losses.append(module.task.losses(outputs, spread).double())
            if part.lag is not None:
                lags.append(part.lag)
    joined = (torch.cat(correct, dim=1).cpu(), torch.cat(questions).cpu(), torch.cat(losses, dim=1).cpu())
    return *joined, torch.cat(lags).cpu() if lags else None


def _add_recall(found: list[Measured], by_lag: list[tuple[float, list[float]]], chance: float) -> None:
    lags = [lag for lag, _ in by_lag]
    for replica, measured in enumerate(found):
        accuracies = [values[replica] for _, values in by_lag]
        measured.curves += [
            Point("recall/accuracy_by_lag", "after", lag, value) for lag, value in zip(lags, accuracies, strict=True)
        ]
        horizon = recall_horizon(lags, accuracies, chance)
        measured.metrics["recall/horizon"] = horizon.lag
        measured.metrics["recall/horizon_reached_end"] = float(horizon.reached_end)
