"""train(configs) → outcomes: plain Python that a notebook can call; neither Hydra nor MLflow is imported."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch import Tensor

from goldfish.ambient import set_aside
from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.errors import ConfigError
from goldfish.tasks.base import StoredTask, Task
from goldfish.threads import one_thread
from goldfish.training import finite
from goldfish.training.callbacks import Checkpoints, Probes, Progress, Signals
from goldfish.training.device.deterministic import deterministic
from goldfish.training.estimators import fit_pack
from goldfish.training.evaluate import Measured, Probed, measure_scores, measure_test
from goldfish.training.module import PackModule
from goldfish.training.outcome import Outcome, Verdict
from goldfish.training.pack import pack_key
from goldfish.training.state.checkpoint import Checkpointing

PACK_SIZE = 16


def train(configs: Sequence[Config], progress: Callable[[int], None] | None = None) -> list[Outcome]:
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
    progress: Callable[[int], None] | None = None,
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
    with set_aside(), one_thread(), deterministic(device) as unsure:
        task: Task = registry.load("task", first.task.name)(**first.task.arguments)
        if isinstance(task, StoredTask):
            task.check()
        if registry.signature("model", first.model.name).constants.get("FITTED"):
            return fit_pack(configs, task, progress)
        dtype = torch.float64 if first.trainer.precision == "64-true" else torch.float32
        module, probes = PackModule(configs, task, dtype, device), Probes(len(configs))
        finite.check_weights(module.model, configs)
        checkpoints = Checkpoints(module, probes, checkpointing, stop, started)
        outcomes = _trained(module, probes, checkpoints, progress)
    reason = ", ".join(f"{name} has no deterministic implementation" for name in sorted(unsure))
    seconds = (time.time() - started) / len(configs)
    return [replace(outcome, started=started, seconds=seconds, nondeterministic=reason) for outcome in outcomes]


def _device(accelerator: str) -> torch.device:
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu: no CUDA device here; expected cpu or auto")
    return torch.device("cpu" if accelerator == "cpu" or not torch.cuda.is_available() else "cuda")


def _trained(
    module: PackModule, probes: Probes, checkpoints: Checkpoints, progress: Callable[[int], None] | None
) -> list[Outcome]:
    """Train from wherever the newest checkpoint stands, and measure."""
    runs, steps = len(module.configs), module.configs[0].trainer.max_steps
    checkpoints.resume()
    if progress and module.steps_done:
        progress(module.steps_done * runs)
    reported = [Progress(runs, progress)] if progress else []
    _fit(module, [Signals(), probes, checkpoints, *reported])
    if progress and module.steps_done < steps:  # every run is solved and asked to stop there
        progress((steps - module.steps_done) * runs)
    probed = Probed(module, module.data, checkpoints.look)
    probed.between()
    probes.measurements.take(probed, "after")
    tested, scores = measure_test(probed), measure_scores(probed)
    spent = checkpoints.spent() / runs
    times = {"train/seconds": spent, "train/steps_per_second": module.steps_done / spent}
    rows = probes.measurements.rows
    for row, test, scored in zip(rows, tested, scores, strict=True):
        row.metrics |= test | scored | times
    weights = {name: value.detach().cpu() for name, value in module.model.named_parameters()}
    return [_outcome(module, replica, row, weights) for replica, row in enumerate(rows)]


def _fit(module: PackModule, callbacks: list[pl.Callback]) -> None:
    """Train to the last step, and validate where that is due."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # our loaders yield batches that are on the device already; workers would only copy them
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*GPU available but not used.*")  # trainer=cpu asks for that
        warnings.filterwarnings("ignore", ".*`srun` command is available.*")  # a hint about jobs of several processes
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")  # Lightning 2.6 on torch 2.13
        settings = module.configs[0].trainer
        loggers = [registry.load("logger", name)() for name in settings.loggers]
        for logger in loggers:
            logger.log_hyperparams({str(run): config.plain() for run, config in enumerate(module.configs)})
        others = [registry.load("callback", name)() for name in settings.callbacks]
        trainer = lightning_trainer(module.data.on, [*callbacks, *others], settings.validate_every, loggers)
        if module.validation_due:  # it was broken off
            trainer.validate(module, datamodule=module.data, verbose=False)
        if not module.over:
            trainer.fit(module, datamodule=module.data)
    module.take_in_all()


def lightning_trainer(
    device: torch.device, callbacks: list[pl.Callback], validate_every: int, loggers: Sequence[Logger] = ()
) -> pl.Trainer:
    """Lightning's trainer, without the features that this project has its own code for."""
    return pl.Trainer(
        max_epochs=1,  # of as many batches as there are training steps
        val_check_interval=validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        inference_mode=False,  # else what a validation leaves behind cannot be written to by the next step
        accelerator="cpu" if device.type == "cpu" else "gpu",
        devices=1,
        plugins=[LightningEnvironment()],  # one process, also inside a job of SLURM, which it would requeue
        callbacks=callbacks,
        logger=list(loggers) or False,
        log_every_n_steps=1,  # what is logged at all is logged when it is there
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _outcome(module: PackModule, replica: int, measured: Measured, weights: dict[str, Tensor]) -> Outcome:
    """One run's outcome, given the weights of all runs, (R, …), on the CPU."""
    config, record = module.configs[replica], module.records[replica]
    verdict: Verdict = "diverged" if record.diverged else "unsolved" if record.solved_at is None else "solved"
    metrics = {**record.last, "time_to_solve/censored": float(record.solved_at is None)}
    if "val/loss" in metrics:
        metrics |= {f"val/{name}": value for name, value in module.task.from_loss(metrics["val/loss"]).items()}
    if record.solved_at is not None:
        metrics["time_to_solve"] = record.solved_at
    metrics |= measured.metrics
    return Outcome(
        config=config,
        verdict=verdict,
        reason=record.diverged,
        metrics=metrics,
        curves=[*record.curves, *measured.curves],
        state_dict={name: value[replica].clone() for name, value in weights.items()},
        parameters=module.weights.rows[replica].numel(),
        steps=record.solved_at if module.stopped(replica) and record.solved_at else config.trainer.max_steps,
        packed=len(module.configs),
        engine=module.engine,
        content=module.task.content,
    )
