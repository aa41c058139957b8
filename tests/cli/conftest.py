"""A stand-in for training and recording."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from goldfish.config.config import Config
from goldfish.sweep.progress import Report


@dataclass
class Trained:
    """What a command asked to be trained: the configurations and the options of each sweep."""

    sweeps: list[tuple[list[Config], dict[str, Any]]] = field(default_factory=list)
    fails: Callable[[Config], bool] = lambda config: False

    @property
    def configs(self) -> list[Config]:
        return [config for configs, _ in self.sweeps for config in configs]

    def run_sweep(self, configs: list[Config], *, store: Any, **options: Any) -> Report:
        self.sweeps.append((list(configs), options))
        report = Report(total=len(configs))
        for config in configs:
            failed = self.fails(config)
            report.verdicts["failed" if failed else "unsolved"] += 1
            report.failures += [(f"seed={config['seed']}", "boom")] if failed else []
        return report


@pytest.fixture
def trained(here: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Commands train and record nothing; what they would have is here."""
    stand_in = Trained()
    monkeypatch.setattr("goldfish.sweep.run.run_sweep", stand_in.run_sweep)
    return stand_in
