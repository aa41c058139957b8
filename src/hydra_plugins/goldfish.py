"""The Hydra plugins of goldfish: the sweeper that unites grids, and the launcher that trains packs of runs together.

Hydra imports this module in every application of the environment, so it imports nothing of goldfish before it is used.
"""

# Annotations are not postponed here: Hydra runs the module before it is in sys.modules, where dataclasses would look.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from goldfish.composing.compose import Composer
    from goldfish.composing.overrides import Setting
    from goldfish.config.config import Config


@dataclass
class PackedLauncherConf:
    """`hydra/launcher=packed`: at most `pack_size` runs in a pack, `workers` packs side by side (null: all cores).

    auto: as many runs as goldfish.sweep.packs.replicas finds best. A pack that takes long writes a checkpoint every
    `checkpoint_minutes` and every `checkpoint_steps` training steps (null: none).
    """

    _target_: str = "hydra_plugins.goldfish.PackedLauncher"
    workers: int | None = None
    pack_size: int | str = "auto"
    rerun: str = "missing"
    checkpoint_minutes: float | None = 1.0
    checkpoint_steps: int | None = None


@dataclass
class GoldfishSweeperConf:
    """`hydra/sweeper=goldfish`: `params` as Hydra's own sweeper has them, and `grids` of which the union is taken."""

    _target_: str = "hydra_plugins.goldfish.GoldfishSweeper"
    params: dict[str, Any] = field(default_factory=dict)
    grids: dict[str, Any] = field(default_factory=dict)


_store = ConfigStore.instance()
_store.store(group="hydra/launcher", name="packed", node=PackedLauncherConf, provider="goldfish")
_store.store(group="hydra/sweeper", name="goldfish", node=GoldfishSweeperConf, provider="goldfish")


class PackedLauncher(Launcher):
    """Trains all runs of a sweep in packs, on all cores, and records each once."""

    def __init__(self, **options: Any) -> None:
        self.options = options  # those of PackedLauncherConf
        self.composer: Composer | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before launching."""
        self.composer = _composer(hydra_context)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the runs that another sweeper gives as texts. Raises what `train` raises."""
        assert self.composer is not None
        settings = [[self.composer.setting(line) for line in lines] for lines in job_overrides]
        return self.train([self.composer.config(point) for point in settings])

    def train(self, configs: Sequence["Config"]) -> Sequence[JobReturn]:
        """Train the runs. Raises ConfigError before anything starts, FailedRunsError after everything is done."""
        from goldfish.sweep.launch import launch

        launch(configs, **self.options)
        return [JobReturn(status=JobStatus.COMPLETED) for _ in configs]


class GoldfishSweeper(Sweeper):
    """Composes once per choice of groups and checks every run of the sweep before the first starts."""

    def __init__(self, params: Mapping[str, Any], grids: Mapping[str, Mapping[str, Any]]) -> None:
        self.params, self.grids = params, grids
        self.composer: Composer | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before sweeping."""
        from hydra.core.plugins import Plugins

        self.composer = _composer(hydra_context)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Launch every run of the sweep once. Raises ConfigError before anything starts."""
        from goldfish.sweep.launch import FailedRunsError

        assert self.launcher is not None
        runs = self.runs(arguments)
        if isinstance(self.launcher, PackedLauncher):
            return self.launcher.train([config for _, config in runs])
        results = self.launcher.launch([[str(setting) for setting in point] for point, _ in runs], initial_job_idx=0)
        errors = [result._return_value for result in results if result.status is JobStatus.FAILED]
        if errors:
            raise FailedRunsError([reason for error in errors for reason in _reasons(error)], len(results))
        return results

    def runs(self, arguments: Sequence[str]) -> list[tuple[Sequence["Setting"], "Config"]]:
        """The settings and the configuration of every run, each once however many grids hold it. Raises ConfigError."""
        from goldfish.composing import grids, overrides

        assert self.composer is not None
        options = self.composer.options
        _, own = overrides.split(arguments, options)
        given = {override.key_or_group: overrides.axis(override, options) for override in own}
        united = {name: grids.axes(_plain(f"grids.{name}", grid), options) for name, grid in self.grids.items()}
        return self.composer.distinct(grids.points(grids.axes(_plain("params", self.params), options), united, given))


def _composer(hydra_context: HydraContext) -> "Composer":
    """The composer that has read the command line of `goldfish train`; no other program uses these plugins."""
    from goldfish.composing.command_line import Context

    assert isinstance(hydra_context, Context)
    return hydra_context.composer


def _reasons(error: BaseException) -> list[str]:
    from goldfish.sweep.launch import FailedRunsError

    return error.failures if isinstance(error, FailedRunsError) else [f"{type(error).__name__}: {error}"]


def _plain(key: str, values: Any) -> dict[str, Any]:
    from goldfish.errors import ConfigError

    if not isinstance(values, Mapping):
        raise ConfigError(f"hydra.sweeper.{key}={values}: expected a mapping of keys to their values")
    container = OmegaConf.to_container(OmegaConf.create(dict(values)))
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
