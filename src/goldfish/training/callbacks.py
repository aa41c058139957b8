"""The Lightning callbacks that a pack is trained with: probes, checkpoints, stopping, progress and signals."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import cast

import pytorch_lightning as pl
import torch

from goldfish.config.moments import due
from goldfish.training import generators
from goldfish.training.evaluate import Measurements, Probed
from goldfish.training.module import PackModule
from goldfish.training.state import checkpoint
from goldfish.training.state.checkpoint import Checkpointing, Interrupted


class Probes(pl.Callback):
    """Asks the probes before training and after the steps that trainer.probe_at names.

    Attributes:
        measurements: what they have said.
    """

    def __init__(self, runs: int) -> None:
        self.measurements = Measurements.of(runs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the first step; after a resume this has been asked already."""
        module = cast(PackModule, pl_module)
        self.measurements.take(Probed(module, module.data), "before")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """After the steps that trainer.probe_at names."""
        module = cast(PackModule, pl_module)
        settings = module.configs[0].trainer
        for moment in due(settings.probe_at, module.steps_done, settings.max_steps):
            self.measurements.take(Probed(module, module.data), moment)


class Checkpoints(pl.Callback):
    """Looks between two training steps, and while evaluating, whether it is time for a checkpoint or to stop.

    Args:
        module: in training.
        probes: what they have said is part of a checkpoint.
        settings: where and how often checkpoints are written; None for none.
        stop: true once training is to end.
        started: unix time in seconds at which this attempt began.
    """

    def __init__(
        self,
        module: PackModule,
        probes: Probes,
        settings: Checkpointing | None,
        stop: Callable[[], bool] | None,
        started: float,
    ) -> None:
        self.module, self.probes, self.settings, self.stop = module, probes, settings, stop
        self.configs = list(module.configs)
        self.last_step: int | None = None  # of the last checkpoint
        self.last_time = time.monotonic()
        self._started, self._spent_before = started, 0.0
        # what decides a run's bits and is no part of its configuration
        self._made = f"torch {torch.__version__}, {module.data.on.type}, {checkpoint.LAYOUT}"
        self._made += f", source {settings.source}" if settings and settings.source else ""

    def spent(self) -> float:
        """Seconds of training and measuring so far, those before an interruption included."""
        return self._spent_before + time.time() - self._started

    def resume(self) -> None:
        """Put the module where the newest checkpoint left it; where there is none, leave it as it is."""
        newest = checkpoint.newest(self.settings, self.configs, self._made) if self.settings else None
        if newest:
            state, rows = newest
            self.module.load(state["module"], rows)
            self.probes.measurements.load(state["probes"], rows)
            generators.load(state["generators"])
            self._spent_before = state["spent_per_run"] * len(rows)
            self.last_step = self.module.steps_done

    def look(self) -> None:
        """Write a checkpoint where one is due; raise Interrupted where training is to stop."""
        self.halt()
        if self._due():
            self._save()

    def halt(self) -> None:
        """Where training is to stop, write a checkpoint and raise Interrupted."""
        if self.stop and self.stop():
            self._save()
            raise Interrupted(self.module.steps_done)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """After a training step and all that belongs to it; the next one has not begun."""
        self.look()

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """A validation that is broken off is done again as a whole."""
        self.halt()

    def _due(self) -> bool:
        step, settings = self.module.steps_done, self.settings
        if settings is None or step in (0, self.last_step):
            return False
        every, minutes = settings.every_steps, settings.minutes
        timely = minutes is not None and time.monotonic() - self.last_time >= 60 * minutes
        return timely or (every is not None and step % every == 0)

    def _save(self) -> None:
        if self.settings is None:
            return
        state = {
            "module": self.module.state(),
            "probes": self.probes.measurements.state(),
            "generators": generators.state(),
            "spent_per_run": self.spent() / len(self.configs),
        }
        step = self.module.steps_done
        checkpoint.save(self.settings, self.configs, self._made, step, state)
        self.last_step, self.last_time = step, time.monotonic()


class Progress(pl.Callback):
    """Reports every training step, summed over all runs, including those that have stopped."""

    def __init__(self, runs: int, progress: Callable[[int], None]) -> None:
        self.runs, self.progress = runs, progress

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """One more step of every run."""
        self.progress(self.runs)


class Signals(pl.Callback):
    """Leaves SIGTERM to the caller: Lightning would end the process."""

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put back what Lightning has just replaced."""
        if threading.current_thread() is threading.main_thread() and self.before is not None:
            signal.signal(signal.SIGTERM, self.before)
