"""The runs of a pack that still train, as a pack of their own: for one that has stopped nothing is computed any more.

A state has a row for each run, and a run's bits do not depend on its pack: so a smaller pack goes on with some rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from goldfish.config.config import Config
from goldfish.tasks.base import Task
from goldfish.training.data import PackData
from goldfish.training.evaluate import Measured, Measurements
from goldfish.training.module import PackModule
from goldfish.training.state import snapshot


class Active:
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
