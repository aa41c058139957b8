"""train(configs) → outcomes: plain Python that a notebook can call; neither Hydra nor MLflow is imported."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence

import pytorch_lightning as pl
import torch

from goldfish import registry
from goldfish.config import Config
from goldfish.errors import ConfigError
from goldfish.tasks.base import Task
from goldfish.threads import one_thread
from goldfish.training.data import PackData
from goldfish.training.evaluate import Measured, measure_gradient_flow, measure_probes, measure_recall
from goldfish.training.module import PackModule
from goldfish.training.outcome import Outcome, Verdict
from goldfish.training.pack import pack_key

PACK_SIZE = 16
Progress = Callable[[int], None]


def train(configs: Sequence[Config], progress: Progress | None = None) -> list[Outcome]:
    """Train every run, in packs of at most 16, one after the other in this process.

    Args:
        configs: resolved configurations (goldfish.resolve).
        progress: called with the number of training steps newly done, summed over runs.

    Returns:
        The outcomes, in the order of configs. A diverged run is an outcome; an exception is raised.
    """
    groups: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        groups.setdefault(pack_key(config), []).append(index)
    outcomes: dict[int, Outcome] = {}
    for indices in groups.values():
        for start in range(0, len(indices), PACK_SIZE):
            chosen = indices[start : start + PACK_SIZE]
            trained = train_pack([configs[index] for index in chosen], progress)
            outcomes |= dict(zip(chosen, trained, strict=True))
    return [outcomes[index] for index in range(len(configs))]


def train_pack(configs: Sequence[Config], progress: Progress | None = None) -> list[Outcome]:
    """Train one pack: runs that differ only in seed, initialisation and learning rate (equal pack_key).

    Raises:
        ValueError: when the runs do not fit into one pack.
        ConfigError: when trainer.accelerator=gpu and there is none.
    """
    if len({pack_key(config) for config in configs}) != 1:
        raise ValueError("the runs of a pack may differ only in seed, init and optimizer.lr")
    first, started = configs[0], time.time()
    device = _device(first["trainer"]["accelerator"])
    dtype = torch.float64 if first["trainer"]["precision"] == "64-true" else torch.float32
    with one_thread():
        task: Task = registry.load("task", first["task"]["name"])(**_without_name(first["task"]))
        module = PackModule(configs, task, dtype, device)
        data = PackData(task, configs, device, dtype)
        probe = _Probe(data)
        _fit(module, data, probe, progress)
        recall = measure_recall(module, data)
        seconds = (time.time() - started) / len(configs)
        return [_outcome(module, r, [*probe.measured[r], recall[r]], started, seconds) for r in range(len(configs))]


def _without_name(group: Config) -> Config:
    return {key: value for key, value in group.items() if key != "name"}


def _device(accelerator: str) -> torch.device:
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu: no CUDA device here; expected cpu or auto")
    return torch.device("cpu" if accelerator == "cpu" or not torch.cuda.is_available() else "cuda")


class _Probe(pl.Callback):
    """Gradient flow before training, halfway and at the end."""

    def __init__(self, data: PackData) -> None:
        self.data = data
        self.measured: list[list[Measured]] = []

    def measure(self, module: PackModule, phase: str) -> None:
        """Measure every replica."""
        found = measure_gradient_flow(module, self.data, phase), measure_probes(module, self.data, phase)
        self.measured = self.measured or [[] for _ in module.configs]
        for row, *measured in zip(self.measured, *found, strict=True):
            row.extend(measured)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """Halfway."""
        assert isinstance(pl_module, PackModule)
        steps = pl_module.configs[0]["trainer"]["max_steps"]
        if steps > 1 and trainer.global_step == steps // 2:
            self.measure(pl_module, "half")


class _Report(pl.Callback):
    """Training steps done, summed over runs."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """One more step of every replica."""
        assert isinstance(pl_module, PackModule)
        self.progress(len(pl_module.configs))


def _fit(module: PackModule, data: PackData, probe: _Probe, progress: Progress | None) -> None:
    settings = module.configs[0]["trainer"]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    trainer = pl.Trainer(
        max_steps=settings["max_steps"],
        max_epochs=-1,
        val_check_interval=settings["validate_every"],
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accelerator="cpu" if data.on.type == "cpu" else "gpu",
        devices=1,
        callbacks=[probe, *([_Report(progress)] if progress else [])],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    probe.measure(module, "before")
    with warnings.catch_warnings():
        # our loaders yield batches that are on the device already; workers would only copy them
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning 2.6 on torch 2.13
        trainer.fit(module, datamodule=data)
        if settings["max_steps"] % settings["validate_every"]:
            trainer.validate(module, datamodule=data, verbose=False)
    probe.measure(module, "after")


def _outcome(module: PackModule, replica: int, measured: Sequence[Measured], started: float, seconds: float) -> Outcome:
    config = module.configs[replica]
    steps = config["trainer"]["max_steps"]
    solved_at, diverged = module.solved_at[replica], module.diverged.get(replica)
    verdict: Verdict = "diverged" if diverged else "unsolved" if solved_at is None else "solved"
    metrics = {**module.last[replica], "time_to_solve/censored": float(solved_at is None)}
    if solved_at is not None:
        metrics["time_to_solve"] = solved_at
    for part in measured:
        metrics |= part.metrics
    metrics |= {"train/seconds": seconds, "train/steps_per_second": steps / seconds}
    curves = [*module.curves[replica], *[point for part in measured for point in part.curves]]
    weights = {name: value[replica].detach().cpu().clone() for name, value in module.model.named_parameters()}
    return Outcome(
        config=config,
        verdict=verdict,
        reason=diverged or "",
        metrics=metrics,
        curves=curves,
        state_dict=weights,
        parameters=module.weights.rows[replica].numel(),
        steps=steps,
        seconds=seconds,
        started=started,
        packed=len(module.configs),
    )
