"""Models that are fitted at once, not trained step by step: a bag of words with logistic regression.

They get the data that a trained run with the same settings gets: the whole training split of stored examples, or as
many fresh sequences as that run is trained on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import Batch, StoredTask, Task
from goldfish.training.data import PackData
from goldfish.training.evaluate import (
    Measured,
    Measurements,
    Probed,
    measure_scores,
    measure_test,
    measure_validation,
)
from goldfish.training.generators import generator
from goldfish.training.outcome import Outcome


class FittedPack:
    """R fitted models that answer like a trained pack.

    Args:
        configs: the runs.
        task: theirs.
    """

    def __init__(self, configs: Sequence[Config], task: Task) -> None:
        self.configs, self.task = configs, task
        self.rows: Sequence[int] = range(len(configs))
        self.model, self.recurrents = nn.Module(), list[Recurrent]()  # no network that a probe could look at
        self.models = [self._fit(config) for config in configs]

    def _fit(self, config: Config) -> Any:
        model = registry.load("model", config.model.name)(self.task, **config.model.arguments)
        model.fit(training_set(config, self.task))
        return model

    def __call__(self, batch: Batch) -> Tensor:
        """Log-probabilities, (R, n, O), of a batch with replica axis."""
        return torch.stack([model.log_probabilities(batch.at(r)) for r, model in enumerate(self.models)])

    def predict(self, batch: Batch) -> Tensor:
        """Classes, (R, n)."""
        return self(batch).argmax(-1)

    def copied(self) -> nn.Module:
        """A network without parts."""
        return self.model

    def stopped(self, replica: int) -> bool:
        """False: a model that is fitted at once does not stop."""
        return False

    def spread(self, batch: Batch) -> Batch:
        """The same sequences for every replica: (n, …) → (R, n, …), without a copy."""
        return batch.map(lambda value: value.expand(len(self.configs), *value.shape))


def training_set(config: Config, task: Task) -> Batch:
    """All sequences that a run is fitted on, without replica axis."""
    trainer, fixed = config.trainer, config.task.get("train_size", 0)
    if isinstance(task, StoredTask):
        return task.examples("train", torch.arange(task.size("train")), task.length)
    n = fixed or trainer.max_steps * trainer.batch_size
    return task.sample(n, task.length, generator(config.seed, "train"), "train")


def fit_pack(configs: Sequence[Config], task: Task, progress: Callable[[int], None] | None = None) -> list[Outcome]:
    """Fit every run of a pack and measure it as a trained one is; there is no network, and no learning curve."""
    started, steps = time.time(), configs[0].trainer.max_steps
    pack = FittedPack(configs, task)
    spent = (time.time() - started) / len(configs)
    probed = Probed(pack, PackData(task, configs, torch.device("cpu"), torch.float32))
    rows = [Measured(metrics, []) for metrics in measure_validation(probed)]
    Measurements(rows).take(probed, "after")
    for row, test, scores in zip(rows, measure_test(probed), measure_scores(probed), strict=True):
        row.metrics |= test | scores
    if progress:
        progress(steps * len(configs))
    seconds = (time.time() - started) / len(configs)
    return [_outcome(pack, replica, row, started, seconds, spent) for replica, row in enumerate(rows)]


def _outcome(pack: FittedPack, replica: int, row: Measured, started: float, seconds: float, spent: float) -> Outcome:
    config, model = pack.configs[replica], pack.models[replica]
    validation = {"accuracy": row.metrics["val/accuracy"], "loss": row.metrics["val/loss"]}
    solved, steps = pack.task.solved(validation), config.trainer.max_steps
    row.metrics |= {"time_to_solve/censored": float(not solved), "train/seconds": spent}
    if solved:
        row.metrics["time_to_solve"] = steps  # it has seen the data of as many
    return Outcome(
        config=config,
        verdict="solved" if solved else "unsolved",
        reason="",
        metrics=row.metrics,
        curves=row.curves,
        state_dict=model.state_dict(),
        parameters=model.parameters,
        steps=steps,
        seconds=seconds,
        started=started,
        packed=len(pack.configs),
        engine="scikit-learn",
        content=pack.task.content,
    )
