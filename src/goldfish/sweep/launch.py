"""Launching a sweep, whichever command asks for it: the runs are trained and recorded, and their counts are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from annotated_types import Ge, Gt

from goldfish.config.config import Config
from goldfish.config.signatures import Parameter
from goldfish.errors import ConfigError, nearest
from goldfish.sweep import machine

if TYPE_CHECKING:
    from goldfish.sweep.progress import Report
    from goldfish.sweep.run import Rerun

RERUN = ("missing", "stale", "all")
AUTO = "auto"  # a pack size by the model of goldfish.sweep.packs.replicas
OPTIONS = {
    "rerun": Parameter("rerun", str, default="missing", choices=RERUN),
    "workers": Parameter("workers", int, optional=True, bound=Ge(1)),
    "checkpoint_minutes": Parameter("checkpoint_minutes", float, default=1.0, optional=True, bound=Gt(0)),
    "checkpoint_steps": Parameter("checkpoint_steps", int, optional=True, bound=Ge(1)),
    "pack_size": Parameter("pack_size", int, default=AUTO, bound=Ge(1)),
}


class FailedRunsError(RuntimeError):
    """Some runs failed or could not be recorded; `failures` has a line on each. The exit code is 1."""

    def __init__(self, failures: Sequence[str], total: int) -> None:
        super().__init__(failures, total)
        self.failures, self.total = list(failures), total

    def __str__(self) -> str:
        return "\n  ".join([f"{len(self.failures)} of {self.total} runs failed", *self.failures])


def check(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for a wrong option of the packed launcher, `hydra.launcher.<option>`."""
    for name, parameter in OPTIONS.items():
        value = options[name]
        if name == "pack_size" and isinstance(value, str):
            if value != AUTO:
                raise ConfigError(f"hydra.launcher.pack_size={value}: {nearest(value, (AUTO, 'a number ≥ 1'))}")
        else:
            parameter.check(f"hydra.launcher.{name}", value)


def launch(configs: Sequence[Config], *, rerun: Rerun = "missing", **options: Any) -> Report:
    """Train what is not recorded yet, in the store of the working directory or of MLFLOW_TRACKING_URI.

    `options` are those of goldfish.sweep.run.run_sweep. Raises FailedRunsError after the last run when one failed.
    """
    machine.check_system()
    from goldfish.sweep.run import run_sweep
    from goldfish.tracking.store import Store

    report = run_sweep(configs, store=Store(), rerun=rerun, **options)
    print(report.summary())
    if report.exit_code:
        raise FailedRunsError(failures(report), report.total)
    return report


def failures(report: Report) -> list[str]:
    """Each failed run and its reason, each run that could not be recorded and why."""
    lost = [f"{name}: trained, but not recorded: {reason}" for name, reason in report.unrecorded]
    return [f"{name}: {reason}" for name, reason in report.failures] + lost
