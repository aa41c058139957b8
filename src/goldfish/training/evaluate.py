"""What is measured on a pack beside its training: gradient flow on the probe batch, recall on the test sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.probes.gradient_flow import Decay, by_lag, decay, gradient_flow, norms_by_lag
from goldfish.probes.recall import accuracy_by_lag, recall_horizon
from goldfish.probes.spectral_radius import spectral_radius
from goldfish.tasks.base import PAD, Batch, Task
from goldfish.training import finite
from goldfish.training.data import PackData, place
from goldfish.training.module import PackModule, answer
from goldfish.training.outcome import Point

PROBE_SIZE = 64
_SPLITS = {"validation": "val", "test": "test"}
_SUFFIX = {"before": "_before", "half": "_half", "after": ""}


class Pack(Protocol):
    """What answers for R runs: a trained pack, or a fitted one."""

    configs: Sequence[Config]
    task: Task

    def __call__(self, batch: Batch) -> Any:
        """The outputs for a batch with replica axis."""

    def spread(self, batch: Batch) -> Batch:
        """The same sequences for every replica."""

    def predict(self, batch: Batch) -> Tensor:
        """Classes or decoded words for a batch with replica axis."""


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
        """Measure every replica, once in each phase; halfway only those that still train."""
        if phase in self.phases:
            return
        for found in (
            measure_gradient_flow(module, data, phase),
            measure_spectral_radius(module, phase),
            measure_probes(module, data, phase),
        ):
            for replica, (row, measured) in enumerate(zip(self.rows, found, strict=True)):
                if phase == "half" and module.stopped(replica):
                    continue
                row.metrics |= measured.metrics
                row.curves += measured.curves
        self.phases.append(phase)


def measure_gradient_flow(module: PackModule, data: PackData, phase: str) -> list[Measured]:
    """Gradient flow of every replica on the fixed probe batch of 64 sequences, top layer; nothing without a recurrence.

    A separate backward pass from each sample's own loss at its last unmasked step, in float64 whatever the run trains
    in: a gradient that has all but vanished keeps no digit of a float32 pass. Rate and horizon are those of the joint
    state; h and c stand beside it where a cell has more than one state. In an encoder-decoder the lag runs from the
    last target word back to the first, and on through the source.
    """
    if not module.recurrents:
        return [Measured({}, []) for _ in module.configs]
    task = module.task
    parts: dict[str, list[Tensor]] = {}
    batch = task.evaluation("probe", task.length, PROBE_SIZE)
    placed = place(batch, data.on, torch.float64)
    rows = max(1, min(PROBE_SIZE, 2**18 // (task.steps(task.length) * module.recurrents[0].cell.hidden_size)))
    for part in placed.split(rows):
        for name, norm in _norms_by_lag(module, part).items():
            parts.setdefault(name, []).append(norm)
    norms = {name: _joined(pieces).cpu() for name, pieces in parts.items()}
    return [
        _summarise({name: norm[replica] for name, norm in norms.items()}, phase)
        for replica in range(len(module.configs))
    ]


def _norms_by_lag(module: PackModule, part: Batch) -> dict[str, Tensor]:
    """log2 norms of each state's gradient by lag, (R, B, K), of sequences without replica axis."""
    task, model, spread = module.task, module.model, module.spread(part)
    weights = {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}
    decoded = task.readout == "decoded"
    with torch.enable_grad(), ExitStack() as stack:
        flow = stack.enter_context(gradient_flow(model.measured))
        source = stack.enter_context(gradient_flow(model.encoder_measured)) if decoded else None
        outputs = answer(lambda *given: functional_call(model, weights, given), task, spread)
        task.last_losses(outputs, spread).sum().backward()
    if source is None:
        return {name: by_lag(norm[:, -1], part.mask) for name, norm in flow.log2_norm.items()}
    words = part.inputs != PAD
    return {
        name: norms_by_lag(source.log2_norm[name][:, -1], norm[:, -1], words, part.mask)
        for name, norm in flow.log2_norm.items()
    }


def _joined(pieces: list[Tensor]) -> Tensor:
    """Put sequences together whose longest lags differ: NaN beyond the start."""
    longest = max(piece.shape[-1] for piece in pieces)
    return torch.cat([F.pad(piece, (0, longest - piece.shape[-1]), value=torch.nan) for piece in pieces], dim=1)


def measure_spectral_radius(module: PackModule, phase: str) -> list[Measured]:
    """ρ of each gate's recurrent weights in the network whose gradient flow is reported, top layer: rho/<gate>."""
    if not module.recurrents:
        return [Measured({}, []) for _ in module.configs]
    radii = {gate: values.tolist() for gate, values in spectral_radius(module.model.measured).items()}
    return [
        Measured({f"rho/{gate}{_SUFFIX[phase]}": values[replica] for gate, values in radii.items()}, [])
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
    found.metrics[f"gradient/far_horizon{end}"] = summary.far_horizon
    found.metrics[f"gradient/far_horizon_reached_end{end}"] = float(summary.far_reached_end)
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


def measure_recall(module: Pack, data: PackData, between: Callable[[], None]) -> list[Measured]:
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
                loss = found[replica].metrics["test/loss"] = float(losses[replica].mean())
                found[replica].metrics |= {f"test/{name}": value for name, value in task.from_loss(loss).items()}
                if lag is not None:
                    found[replica].metrics["recall/lag"] = float(lag.double().median())
        if lag is not None:
            lags.append(lag)
            right.append(correct)
            asked.append(questions)
    if lags:
        _add_recall(found, accuracy_by_lag(torch.cat(lags), torch.cat(right, dim=1), torch.cat(asked)), task.chance)
    return found


def measure_scores(module: Pack, data: PackData, between: Callable[[], None]) -> list[Measured]:
    """The task's further metrics, such as F1 or BLEU, of every replica on validation and test set: `test/<name>`.

    Between two parts of a set, `between` is called: it may raise.
    """
    task = module.task
    found = [Measured({}, []) for _ in module.configs]
    if type(task).scores is Task.scores:
        return found
    for split in ("validation", "test"):
        whole = data.ordered(split, task.length)
        steps, predicted = whole.mask.shape[-1], []
        for part in data.evaluation(split, task.length):
            between()
            with torch.no_grad():
                answers = module.predict(module.spread(part)).cpu()
            predicted.append(F.pad(answers, (0, steps - answers.shape[-1])) if answers.dim() > 2 else answers)
        for measured, answers in zip(found, torch.cat(predicted, dim=1), strict=True):
            scores = task.scores(answers, whole)
            measured.metrics |= {f"{_SPLITS[split]}/{name}": value for name, value in scores.items()}
    return found


def measure_validation(module: Pack, data: PackData) -> list[Measured]:
    """Accuracy and loss of every replica on the validation set, for a model without a learning curve."""
    correct, questions, losses, _ = _answers(module, data, module.task.length, "validation")
    accuracies = [float(row.sum() / questions.sum()) for row in correct]
    means = [float(row.mean()) for row in losses]
    return [Measured({"val/accuracy": a, "val/loss": b}, []) for a, b in zip(accuracies, means, strict=True)]


def _answers(
    module: Pack, data: PackData, length: int, split: str = "test"
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Right answers (R, n), questions (n,), losses (R, n) and lags (n,) on the test set of one length."""
    correct, questions, losses, lags = [], [], [], []
    with torch.no_grad():
        for part in data.evaluation(split, length):
            spread = module.spread(part)
            outputs = module(spread)
            answers, asked = module.task.correct(outputs, spread)
            correct.append(answers)
            questions.append(asked[0])
            losses.append(module.task.losses(outputs, spread).double())
            if part.lag is not None:
                lags.append(part.lag)
    joined = (torch.cat(correct, dim=1).cpu(), torch.cat(questions).cpu(), torch.cat(losses, dim=1).cpu())
    if not joined[2].isfinite().all():
        for part in data.evaluation(split, length):
            finite.check_batch(part, f"the {split} set at length {length}")
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
