"""The network of a recorded run, rebuilt with its final weights."""

from __future__ import annotations

from pathlib import Path

import torch

from goldfish.ambient import set_aside
from goldfish.config import registry
from goldfish.config.config import recorded
from goldfish.errors import ConfigError
from goldfish.tasks.base import Task
from goldfish.training.module import PackModule


@set_aside()
def trained(folder: Path | str) -> PackModule:
    """Rebuild a run's network from its artifacts, config.yaml and weights.pt: R = 1, on the CPU.

    `module(batch)` gives the outputs, `module.predict(batch)` the answers, `module.task` and
    `module.task.evaluation("test", length, size)` what it was tested on; batches get their replica axis from
    `module.spread`.

    Args:
        folder: that of the run's artifacts, such as Store().run_artifacts(run_id).

    Raises:
        ConfigError: where a file is missing, as weights.pt is of a model that is fitted in closed form or by
            scikit-learn; where the task's data cannot be reached, or are others than the run was trained on, which
            data.sha256 says of runs that have it.
    """
    import yaml

    for name in ("config.yaml", "weights.pt"):
        if not (Path(folder) / name).is_file():
            raise ConfigError(f"{Path(folder) / name}: no such file; this run recorded no network")
    config = recorded(yaml.safe_load((Path(folder) / "config.yaml").read_text(encoding="utf-8")))
    weights = torch.load(Path(folder) / "weights.pt", weights_only=True)
    task: Task = registry.load("task", config.task.name)(**config.task.arguments)
    _same_data(Path(folder) / "data.sha256", task)
    dtype = torch.float64 if config.trainer.precision == "64-true" else torch.float32
    module = PackModule([config], task, dtype, torch.device("cpu"))
    with torch.no_grad():
        for name, parameter in module.model.named_parameters():
            parameter.copy_(weights[name].unsqueeze(0))
    return module.eval()


def _same_data(recorded: Path, task: Task) -> None:
    """Refuse other data: their words and classes may be numbered differently."""
    if recorded.is_file():
        then = recorded.read_text(encoding="utf-8").strip()
        if task.content != then:
            raise ConfigError(
                f"task.data: the data have changed since this run was trained on them (content {task.content[:12]}, "
                f"then {then[:12]}); expected those it was trained on"
            )
