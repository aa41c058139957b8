"""Measurements of a pack beside its training: its probes, and its answers to the validation and test sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.config.moments import NAMED
from goldfish.probes.base import Answers
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import Batch, Task
from goldfish.training import finite
from goldfish.training.data import PackData, place
from goldfish.training.outcome import Point, columns, points

_SPLITS = {"validation": "val", "test": "test"}


class Pack(Protocol):
    """R runs that answer together: a trained pack, or a fitted one."""

    configs: Sequence[Config]
    rows: Sequence[int]  # which runs these are, where others have stopped
    task: Task
    model: Any

    def __call__(self, batch: Batch) -> Any:
        """The outputs for a batch with replica axis."""

    @property
    def recurrents(self) -> list[Recurrent]:
        """The recurrent networks in it."""

    def copied(self) -> nn.Module:
        """A copy of the network."""

    def spread(self, batch: Batch) -> Batch:
        """The same sequences for every replica."""

    def predict(self, batch: Batch) -> Tensor:
        """Classes or decoded words for a batch with replica axis."""

    def stopped(self, replica: int) -> bool:
        """True for a run that trains no more."""


def _go_on() -> None:
    """Do nothing: the default of what is called between two parts of an evaluation."""


class Probed:
    """A pack as its probes see it (probes/base.py) while its weights stay as they are.

    Args:
        pack: trained or fitted.
        data: its evaluation sets.
        between: called between two evaluation sets, or parts of one: it may raise.
    """

    def __init__(self, pack: Pack, data: PackData, between: Callable[[], None] = _go_on) -> None:
        self.pack, self.data, self.between = pack, data, between
        self.task, self.replicas = pack.task, len(pack.configs)
        self.copied, self.spread = pack.copied, pack.spread
        self._answers: dict[tuple[str, int], Answers] = {}

    @property
    def model(self) -> Any:
        """The network itself."""
        return self.pack.model

    @property
    def recurrents(self) -> list[Recurrent]:
        """The recurrent networks in it."""
        return self.pack.recurrents

    def batch(self, size: int = 64, dtype: torch.dtype | None = None) -> Batch:
        """The fixed probe batch, (n, T, …)."""
        return place(self.task.evaluation("probe", self.task.length, size), self.data.on, dtype or self.data.dtype)

    def answers(self, length: int, split: str = "test") -> Answers:
        """The network's answers to a set, asked once. Raises ConfigError where the data are not finite."""
        if (split, length) not in self._answers:
            self.between()
            self._answers[split, length] = self._asked(length, split)
        return self._answers[split, length]

    def _asked(self, length: int, split: str) -> Answers:
        correct, questions, losses, lags = [], [], [], []
        with torch.no_grad():
            for part in self.data.evaluation(split, length):
                spread = self.spread(part)
                outputs = self.pack(spread)
                answers, asked = self.task.correct(outputs, spread)
                correct.append(answers)
                questions.append(asked[0])
                losses.append(self.task.losses(outputs, spread).double())
                if part.lag is not None:
                    lags.append(part.lag)
        joined = (torch.cat(correct, dim=1).cpu(), torch.cat(questions).cpu(), torch.cat(losses, dim=1).cpu())
        if not joined[2].isfinite().all():
            for part in self.data.evaluation(split, length):
                finite.check_batch(part, f"the {split} set at length {length}")
        return Answers(*joined, torch.cat(lags).cpu() if lags else None)


@dataclass
class Measured:
    """Metrics and curve points of one replica."""

    metrics: dict[str, float]
    curves: list[Point]


@dataclass
class Measurements:
    """The measurements of each run so far.

    Attributes:
        rows: one for each run.
        phases: "<probe> <moment>" of each probe that has been asked.
    """

    rows: list[Measured]
    phases: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, runs: int) -> Measurements:
        """Empty measurements of so many runs."""
        return cls([Measured({}, []) for _ in range(runs)])

    def take(self, probed: Probed, moment: str) -> None:
        """Ask every probe that the runs have at this moment, each once; during training of those that still train."""
        pack = probed.pack
        config = pack.configs[0]
        if moment in NAMED and moment not in config.trainer.probe_at:
            return
        suffix = "" if moment == "after" else f"_{moment}"
        for name, arguments in config.probe.items():
            moments = registry.signature("probe", name).constants.get("MOMENTS", (moment,))
            if moment not in moments or f"{name} {moment}" in self.phases:
                continue
            measurements = registry.load("probe", name)(probed, **arguments)
            for replica, (row, measured) in enumerate(
                zip(pack.rows, measurements, strict=True) if measurements else ()
            ):
                if moment in ("before", "after") or not pack.stopped(replica):
                    metrics = {f"{metric}{suffix}": value for metric, value in measured.metrics.items()}
                    self.rows[row].metrics |= metrics
                    for quantity, values in measured.curves.items():
                        self.rows[row].curves += [Point(quantity, moment, x, value) for x, value in values]
            self.phases.append(f"{name} {moment}")

    def state(self) -> dict[str, Any]:
        """Return the state that a checkpoint keeps, with a row for each run."""
        rows = [{"metrics": row.metrics, "curves": columns(row.curves)} for row in self.rows]
        return {"phases": self.phases, "rows": rows}

    def load(self, state: dict[str, Any], rows: Sequence[int]) -> None:
        """Go on from a state: run r takes row rows[r]."""
        self.phases = list(state["phases"])
        kept = [state["rows"][row] for row in rows]
        self.rows = [Measured(dict(row["metrics"]), points(row["curves"])) for row in kept]


def measure_test(probed: Probed) -> list[dict[str, float]]:
    """Accuracy, loss and what the loss says of every replica on the test set: `test/<name>`."""
    metrics = []
    for accuracy, loss in _means(probed.answers(probed.task.length)):
        others = {f"test/{name}": value for name, value in probed.task.from_loss(loss).items()}
        metrics.append({"test/accuracy": accuracy, "test/loss": loss} | others)
    return metrics


def measure_validation(probed: Probed) -> list[dict[str, float]]:
    """Accuracy and loss of every replica on the validation set, for a model without a learning curve."""
    means = _means(probed.answers(probed.task.length, "validation"))
    return [{"val/accuracy": accuracy, "val/loss": loss} for accuracy, loss in means]


def _means(answers: Answers) -> list[tuple[float, float]]:
    """Accuracy and loss of each replica."""
    accuracies = [float(row.sum() / answers.asked.sum()) for row in answers.correct]
    return list(zip(accuracies, [float(row.mean()) for row in answers.losses], strict=True))


def measure_scores(probed: Probed) -> list[dict[str, float]]:
    """The task's further metrics, such as F1 or BLEU, of every replica on validation and test set: `test/<name>`."""
    task = probed.task
    scores: list[dict[str, float]] = [{} for _ in range(probed.replicas)]
    if type(task).scores is Task.scores:
        return scores
    for split in ("validation", "test"):
        whole = probed.data.ordered(split, task.length)
        steps, predicted = whole.mask.shape[-1], []
        for part in probed.data.evaluation(split, task.length):
            probed.between()
            with torch.no_grad():
                answers = probed.pack.predict(probed.spread(part)).cpu()
            predicted.append(F.pad(answers, (0, steps - answers.shape[-1])) if answers.dim() > 2 else answers)
        for metrics, answers in zip(scores, torch.cat(predicted, dim=1), strict=True):
            metrics |= {f"{_SPLITS[split]}/{name}": value for name, value in task.scores(answers, whole).items()}
    return scores
