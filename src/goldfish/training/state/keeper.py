"""When a pack in training writes a checkpoint, ends early, and goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytorch_lightning as pl
import torch

from goldfish.training.state import checkpoint
from goldfish.training.state.active import Active
from goldfish.training.state.checkpoint import Checkpointing, Interrupted


class Keeper(pl.Callback):
    """Looks between two training steps, and while evaluating, whether it is time for a checkpoint or to stop.

    Args:
        active: the pack.
        settings: where and how often checkpoints are written; None for none.
        stop: true once training is to end.
        started: unix time in seconds at which this attempt began.
    """

    def __init__(
        self,
        active: Active,
        settings: Checkpointing | None,
        stop: Callable[[], bool] | None,
        started: float,
    ) -> None:
        self.active, self.settings, self.stop = active, settings, stop
        self.last_step: int | None = None  # of the last checkpoint
        self.last_time = time.monotonic()
        self._started, self._spent_before = started, 0.0
        # what decides a run's bits and is no part of its configuration
        self._made = f"torch {torch.__version__}, {active.device.type}"
        self._made += f", source {settings.source}" if settings and settings.source else ""

    @property
    def callbacks(self) -> list[pl.Callback]:
        """Itself, where there is anything to look for."""
        return [self] if self.settings or self.stop else []

    def spent(self) -> float:
        """Seconds of training and measuring so far, those before an interruption included."""
        return self._spent_before + time.time() - self._started

    def resume(self) -> None:
        """Put the module where the newest checkpoint left it; where there is none, leave it as it is."""
        if self.settings is None:
            return
        found = checkpoint.newest(self.settings, self.active.configs, self._made)
        if found:
            state, rows = found
            self.active.restore(state["pack"], rows)
            self._spent_before = state["spent_per_run"] * len(rows)
            self.last_step = self.active.module.steps_done

    def look(self) -> None:
        """Write a checkpoint where one is due; raise Interrupted where training is to stop."""
        self.halt()
        if self._due():
            self._save()

    def halt(self) -> None:
        """Where training is to stop, write a checkpoint and raise Interrupted."""
        if self.stop and self.stop():
            self._save()
            raise Interrupted(self.active.module.steps_done)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """After a training step and all that belongs to it; the next one has not begun."""
        self.look()

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """A validation that is broken off is done again as a whole."""
        self.halt()

    def _due(self) -> bool:
        step, settings = self.active.module.steps_done, self.settings
        if settings is None or step in (0, self.last_step):
            return False
        every, minutes = settings.every_steps, settings.minutes
        timely = minutes is not None and time.monotonic() - self.last_time >= 60 * minutes
        return timely or (every is not None and step % every == 0)

    def _save(self) -> None:
        if self.settings is None:
            return
        configs, step = self.active.configs, self.active.module.steps_done
        state = {"pack": self.active.state(), "spent_per_run": self.spent() / len(configs)}
        checkpoint.save(self.settings, configs, self._made, step, state)
        self.last_step, self.last_time = step, time.monotonic()
