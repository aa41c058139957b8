"""The gradient flow of any LightningModule, logged while it trains."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from goldfish.errors import ConfigError
from goldfish.instrument.watch import watch


class GradientFlow(pl.Callback):
    """Watch every so many training steps, and log what became of the gradient with whatever logger the Trainer has.

    >>> trainer = pl.Trainer(callbacks=[goldfish.GradientFlow(every_n_steps=100)])

    Metrics: gradient_flow/<module>/l<layer>/decay_rate, half_life and horizon, the backward direction of a
    bidirectional module as l<layer>_reverse. Modules that the step does not use, and gradients of zero, log nothing.

    Args:
        every_n_steps: of the Trainer's global steps, the first one among them.

    Attributes:
        flow: what was seen last.

    Raises:
        ConfigError: for every_n_steps below 1.
        ValueError, RuntimeError: as goldfish.watch.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        if every_n_steps < 1:
            raise ConfigError(f"every_n_steps={every_n_steps}: expected int ≥ 1")
        self.every_n_steps = every_n_steps
        self._open: watch | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Look from here on, where a look is due."""
        if trainer.global_step % self.every_n_steps == 0:
            opened = watch(pl_module)
            self.flow = opened.__enter__()
            self._open = opened

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Log what was seen."""
        if self._open is None:
            return
        opened, self._open = self._open, None
        opened.__exit__(None, None, None)
        metrics: dict[str, float] = {}
        for row in self.flow.summary():
            name = f"gradient_flow/{row.pop('module') or 'model'}/l{row.pop('layer')}"
            name += "_reverse" if row.pop("direction") else ""
            metrics |= {f"{name}/{key}": float(value) for key, value in row.items() if value is not None}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave nothing behind."""
        if self._open is not None:
            opened, self._open = self._open, None
            opened.__exit__(type(exception), exception, exception.__traceback__)
