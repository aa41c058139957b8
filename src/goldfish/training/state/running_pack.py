"""A pack in training: the runs of it that still train, and when it writes a checkpoint, ends early and goes on.

For a run that has stopped nothing is computed any more. A state has a row for each run, and a run's bits do not depend
on its pack: so a smaller pack goes on with some rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from goldfish.config.config import Config
from goldfish.tasks.base import Task
from goldfish.training.data import PackData
from goldfish.training.evaluate import Measured, Measurements
from goldfish.training.module import PackModule
from goldfish.training.state import checkpoint, snapshot
from goldfish.training.state.checkpoint import Checkpointing, Interrupted


class RunningPack:
    """A pack in training.

    Args:
        configs: all its runs, of equal pack_key.
        task: theirs.
        device: where they train.
        dtype: of weights and training.

    Attributes:
        rows: which of the runs train; `module`, `data` and `measured` are theirs.
    """

    def __init__(self, configs: Sequence[Config], task: Task, device: torch.device, dtype: torch.dtype) -> None:
        self.configs, self.task = configs, task
        self.device, self.dtype = device, dtype
        self._state: dict[str, Any] = {}  # of all runs, when the last ones were left out
        self._build(range(len(configs)))

    def _build(self, rows: Sequence[int]) -> None:
        self.rows = list(rows)
        chosen = [self.configs[row] for row in rows]
        self.module = PackModule(chosen, self.task, self.dtype, self.device)
        self.data = PackData(self.task, chosen, self.device, self.dtype)
        self.module.data = self.data
        self.measured = Measurements([Measured({}, []) for _ in chosen])

    def state(self) -> dict[str, Any]:
        """What training goes on from, with a row for each run of the pack."""
        now = snapshot.take(self.module, self.measured)
        return snapshot.merge(self._state, now, self.rows) if self._state else now

    def restore(self, state: dict[str, Any], rows: Sequence[int]) -> None:
        """Put all runs where a state left them: run r takes row rows[r]."""
        self._state = {}
        snapshot.restore(self.module, self.measured, state, rows)

    def leave_out_stopped(self) -> None:
        """Go on without the runs that have stopped."""
        self._take_over([row for replica, row in enumerate(self.rows) if not self.module.stopped(replica)])

    def take_in_all(self) -> None:
        """All runs again, each where it stopped."""
        if len(self.rows) < len(self.configs):
            self._take_over(range(len(self.configs)))

    def _take_over(self, rows: Sequence[int]) -> None:
        self._state = self.state()
        self._build(rows)
        snapshot.restore(self.module, self.measured, self._state, rows)


class Checkpoints(pl.Callback):
    """Looks between two training steps, and while evaluating, whether it is time for a checkpoint or to stop.

    Args:
        pack: in training.
        settings: where and how often checkpoints are written; None for none.
        stop: true once training is to end.
        started: unix time in seconds at which this attempt began.
    """

    def __init__(
        self,
        pack: RunningPack,
        settings: Checkpointing | None,
        stop: Callable[[], bool] | None,
        started: float,
    ) -> None:
        self.pack, self.settings, self.stop = pack, settings, stop
        self.last_step: int | None = None  # of the last checkpoint
        self.last_time = time.monotonic()
        self._started, self._spent_before = started, 0.0
        # what decides a run's bits and is no part of its configuration
        self._made = f"torch {torch.__version__}, {pack.device.type}"
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
        found = checkpoint.newest(self.settings, self.pack.configs, self._made)
        if found:
            state, rows = found
            self.pack.restore(state["pack"], rows)
            self._spent_before = state["spent_per_run"] * len(rows)
            self.last_step = self.pack.module.steps_done

    def look(self) -> None:
        """Write a checkpoint where one is due; raise Interrupted where training is to stop."""
        self.halt()
        if self._due():
            self._save()

    def halt(self) -> None:
        """Where training is to stop, write a checkpoint and raise Interrupted."""
        if self.stop and self.stop():
            self._save()
            raise Interrupted(self.pack.module.steps_done)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """After a training step and all that belongs to it; the next one has not begun."""
        self.look()

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
        """A validation that is broken off is done again as a whole."""
        self.halt()

    def _due(self) -> bool:
        step, settings = self.pack.module.steps_done, self.settings
        if settings is None or step in (0, self.last_step):
            return False
        every, minutes = settings.every_steps, settings.minutes
        timely = minutes is not None and time.monotonic() - self.last_time >= 60 * minutes
        return timely or (every is not None and step % every == 0)

    def _save(self) -> None:
        if self.settings is None:
            return
        configs, step = self.pack.configs, self.pack.module.steps_done
        state = {"pack": self.pack.state(), "spent_per_run": self.spent() / len(configs)}
        checkpoint.save(self.settings, configs, self._made, step, state)
        self.last_step, self.last_time = step, time.monotonic()
