"""train(configs) → outcomes: plain Python that a notebook can call; neither Hydra nor MLflow is imported."""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor

from goldfish.ambient import set_aside
from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.config.moments import due
from goldfish.errors import ConfigError
from goldfish.tasks.base import StoredTask, Task
from goldfish.threads import one_thread
from goldfish.training import finite
from goldfish.training.device.deterministic import deterministic
from goldfish.training.estimators import fit_pack
from goldfish.training.evaluate import Measured, Probed, measure_scores, measure_test
from goldfish.training.module import PackModule
from goldfish.training.outcome import Outcome, Verdict
from goldfish.training.pack import pack_key
from goldfish.training.state.checkpoint import Checkpointing
from goldfish.training.state.running_pack import Checkpoints, RunningPack

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


def train_pack(
    configs: Sequence[Config],
    progress: Progress | None = None,
    *,
    checkpointing: Checkpointing | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """Train one pack: runs that differ only in seed, initialisation and learning rate (equal pack_key).

    Args:
        configs: resolved configurations.
        progress: called with the number of training steps newly done, summed over runs.
        checkpointing: training goes on from the newest checkpoint there that has all these runs, of whatever pack, and
            ends with the same bits as without an interruption; it writes its own there.
        stop: asked between training steps and between parts of an evaluation; once it is true, training ends.

    Raises:
        ValueError: when the runs do not fit into one pack.
        ConfigError: when trainer.accelerator=gpu and there is none; when the task's data cannot be trained on; when
            data or initial weights are not finite.
        Interrupted: when `stop` was true. A checkpoint of that step was written, where there is checkpointing.
        CheckpointError: when a checkpoint cannot be written; the one before is still there.
    """
    if len({pack_key(config) for config in configs}) != 1:
        raise ValueError("the runs of a pack may differ only in seed, init and optimizer.lr")
    first, started = configs[0], time.time()
    device = _device(first.trainer.accelerator)
    dtype = torch.float64 if first.trainer.precision == "64-true" else torch.float32
    with set_aside(), one_thread(), deterministic(device) as unsure:
        task: Task = registry.load("task", first.task.name)(**first.task.arguments)
        if isinstance(task, StoredTask):
            task.check()
        if registry.signature("model", first.model.name).constants.get("FITTED"):
            return fit_pack(configs, task, progress)
        running = RunningPack(configs, task, device, dtype)
        finite.check_weights(running.module.model, configs)
        checkpoints = Checkpoints(running, checkpointing, stop, started)
        checkpoints.resume()
        if progress and running.module.steps_done:
            progress(running.module.steps_done * len(configs))
        _fit(running, checkpoints, progress)
        module, data, measured = running.module, running.data, running.measured
        if progress and module.over:
            progress((first.trainer.max_steps - module.steps_done) * len(configs))
        probed = Probed(module, data, checkpoints.look)
        measured.take(probed, "after")
        tested, scores = measure_test(probed), measure_scores(probed)
        seconds = (time.time() - started) / len(configs)
        spent = checkpoints.spent() / len(configs)
        times = {"train/seconds": spent, "train/steps_per_second": module.steps_done / spent}
        for row, test, scored in zip(measured.rows, tested, scores, strict=True):
            row.metrics |= test | scored | times
        weights = {name: value.detach().cpu() for name, value in module.model.named_parameters()}
        outcomes = [
            _outcome(module, replica, row, weights, started, seconds) for replica, row in enumerate(measured.rows)
        ]
    reason = ", ".join(f"{name} has no deterministic implementation" for name in sorted(unsure))
    return [replace(outcome, nondeterministic=reason) for outcome in outcomes]


def _device(accelerator: str) -> torch.device:
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu: no CUDA device here; expected cpu or auto")
    return torch.device("cpu" if accelerator == "cpu" or not torch.cuda.is_available() else "cuda")


class _Probe(pl.Callback):
    """The probes during training."""

    def __init__(self, running: RunningPack) -> None:
        self.running = running

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """After the steps that trainer.probe_at names."""
        assert isinstance(pl_module, PackModule)
        settings = pl_module.configs[0].trainer
        for moment in due(settings.probe_at, pl_module.steps_done, settings.max_steps):
            self.running.measured.take(Probed(pl_module, self.running.data), moment)


class _Signals(pl.Callback):
    """SIGTERM is the caller's: Lightning would end the process."""

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put back what Lightning has just replaced."""
        if threading.current_thread() is threading.main_thread() and self.before is not None:
            signal.signal(signal.SIGTERM, self.before)


class _Report(pl.Callback):
    """Training steps done, summed over runs, those that have stopped as well."""

    def __init__(self, runs: int, progress: Progress) -> None:
        self.runs, self.progress = runs, progress

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """One more step of every replica."""
        self.progress(self.runs)


def _fit(running: RunningPack, checkpoints: Checkpoints, progress: Progress | None) -> None:
    """Train to the last step from wherever the pack stands, and validate where that is due."""
    settings = running.configs[0].trainer
    last, every = settings.max_steps, settings.validate_every
    report = [_Report(len(running.configs), progress)] if progress else []
    callbacks = [_Signals(), _Probe(running), *checkpoints.callbacks, *report]
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    running.measured.take(Probed(running.module, running.data), "before")
    with warnings.catch_warnings():
        # our loaders yield batches that are on the device already; workers would only copy them
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*will run with no optimizer.*")  # the module steps its own
        warnings.filterwarnings("ignore", ".*GPU available but not used.*")  # trainer=cpu asks for that
        warnings.filterwarnings("ignore", ".*dataloader_iter.*")  # it may change, says Lightning
        warnings.filterwarnings("ignore", ".*`srun` command is available.*")  # a hint about jobs of several processes
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning 2.6 on torch 2.13
        _validate(running, callbacks)
        while (done := running.module.steps_done) < last and not running.module.over:
            if running.module.thinned:
                running.leave_out_stopped()
            # Lightning counts from where a fit starts: between two validations, the first one ends at the second
            ahead = every - done % every
            steps = last - done if ahead == every else min(ahead, last - done)
            running.data.start = done
            lightning_trainer(running.device, callbacks, steps, ahead).fit(running.module, datamodule=running.data)
        checkpoints.look()
        _validate(running, callbacks)
    running.take_in_all()


def _validate(running: RunningPack, callbacks: list[pl.Callback]) -> None:
    if running.module.validation_due:
        trainer = lightning_trainer(running.device, callbacks)
        trainer.validate(running.module, datamodule=running.data, verbose=False)


def lightning_trainer(
    device: torch.device, callbacks: list[pl.Callback], steps: int = 1, validate_after: int = 1
) -> pl.Trainer:
    """Lightning's trainer of so many steps, without all that is done here or in the store."""
    return pl.Trainer(
        limit_train_batches=steps,
        max_epochs=1,
        val_check_interval=validate_after,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        inference_mode=False,  # else what a validation leaves behind cannot be written to by the next fit
        accelerator="cpu" if device.type == "cpu" else "gpu",
        devices=1,
        plugins=[LightningEnvironment()],  # one process, also inside a job of SLURM, which it would requeue
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _outcome(
    module: PackModule, replica: int, measured: Measured, weights: dict[str, Tensor], started: float, seconds: float
) -> Outcome:
    """One run's, given all runs' weights, (R, …), on the CPU."""
    config = module.configs[replica]
    solved_at, diverged = module.solved_at[replica], module.diverged.get(replica)
    verdict: Verdict = "diverged" if diverged else "unsolved" if solved_at is None else "solved"
    metrics = {**module.last[replica], "time_to_solve/censored": float(solved_at is None)}
    if "val/loss" in metrics:
        metrics |= {f"val/{name}": value for name, value in module.task.from_loss(metrics["val/loss"]).items()}
    if solved_at is not None:
        metrics["time_to_solve"] = solved_at
    metrics |= measured.metrics
    return Outcome(
        config=config,
        verdict=verdict,
        reason=diverged or "",
        metrics=metrics,
        curves=[*module.curves[replica], *measured.curves],
        state_dict={name: value[replica].clone() for name, value in weights.items()},
        parameters=module.weights.rows[replica].numel(),
        steps=solved_at if module.stopped(replica) and solved_at else config.trainer.max_steps,
        seconds=seconds,
        started=started,
        packed=len(module.configs),
        engine=module.engine,
        content=module.task.content,
    )
