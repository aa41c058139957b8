"""The plan of an experiment at a scale: its reported runs, and before them the trials that select their settings.

A trial is a run of one candidate, with a seed that no reported run has. Trials that agree in the keys `per` form a
group; what its best candidate sets is set for every reported run of the group.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from goldfish.composing import compose, grids
from goldfish.composing.compose import Composer
from goldfish.composing.grids import Axes, Point
from goldfish.composing.overrides import Options, Setting
from goldfish.config.config import Config
from goldfish.errors import ConfigError, nearest
from goldfish.papers.experiment import FILE, Experiment, Scale, Select
from goldfish.tracking.names import flatten

if TYPE_CHECKING:
    import pandas as pd

Group = tuple[Any, ...]  # the values of the keys `per`, "" for a key that the run does not have


@dataclass(frozen=True)
class Trial:
    """A run that helps to select: of which group, and with which candidate, such as "optimizer.lr=0.01"."""

    config: Config
    group: Group
    candidate: str


@dataclass(frozen=True)
class Trials:
    """The first stage: all trials, the keys that make a group, the candidates by name, smallest first, the metric."""

    runs: list[Trial]
    per: list[str]
    candidates: dict[str, Point]
    by: str

    @property
    def groups(self) -> list[Group]:
        """Every group once."""
        return list(dict.fromkeys(trial.group for trial in self.runs))

    @property
    def experiment_name(self) -> str:
        """The MLflow experiment that trials are recorded in."""
        return self.runs[0].config.tracking.experiment_name

    def scores(self, table: pd.DataFrame, fingerprints: Sequence[str]) -> pd.DataFrame:
        """Every candidate's score in every group, of a table of the trials' runs; `fingerprints` are in their order."""
        from goldfish.papers import selection

        rows = table.set_index("fingerprint").loc[list(fingerprints)].reset_index()
        groups = dict(zip(self.per, zip(*(trial.group for trial in self.runs), strict=True), strict=True))
        rows = rows.assign(**groups, candidate=[trial.candidate for trial in self.runs])
        return selection.score(rows, self.per, list(self.candidates), self.by)


@dataclass(frozen=True)
class Plan:
    """The runs of an experiment at a scale."""

    points: list[Point]
    composer: Composer
    trials: Trials | None = None

    def runs(self, chosen: Mapping[Group, str]) -> list[Config]:
        """The reported runs, each once, with the candidate chosen for each group; `chosen` is empty without trials."""
        if self.trials is None:
            return _configs(self.composer, self.points)
        per, candidates = self.trials.per, self.trials.candidates
        first = next(iter(candidates.values()))
        named = [chosen[_group(self.composer.config((*point, *first)), per)] for point in self.points]
        return _configs(self.composer, ((*p, *candidates[name]) for p, name in zip(self.points, named, strict=True)))


def plan(experiment: Experiment, scale: str, composer: Composer | None = None) -> Plan:
    """Everything an experiment trains at a scale. Raises ConfigError when a run, or the selection, is wrong."""
    if experiment.has("measure"):
        raise ConfigError(f"{experiment.name}: has no runs: its measure.py makes its table")
    composer = composer or Composer(compose.loader())
    try:
        return _plan(experiment.name, experiment.scale(scale), composer)
    except ConfigError as error:
        raise ConfigError(f"{experiment.folder / FILE}: {error}") from error


def _plan(name: str, scale: Scale, composer: Composer) -> Plan:
    base = grids.axes(scale.base, composer.options)
    axes = {grid: grids.axes(keys, composer.options) for grid, keys in scale.grids.items()}
    points = _recorded(grids.points(base, axes, {}), name)
    if scale.select is None:
        _configs(composer, points)
        return Plan(points, composer)
    candidates = _candidates(scale.select, composer.options)
    keys = {setting.key for point in candidates.values() for setting in point}
    _refuse_given(keys, {"base": base} | {f"grids.{grid}": grid_axes for grid, grid_axes in axes.items()})
    first = next(iter(candidates.values()))
    reported = _configs(composer, ((*point, *first) for point in points))
    per = _per(scale.select, reported, keys)
    trials = _trials(name, scale.select, base, axes, composer)
    runs = [
        Trial(config, _group(config, per), candidate)
        for candidate, point in candidates.items()
        for config in _configs(composer, ((*trial, *point) for trial in trials))
    ]
    _check_seeds(runs, reported)
    _check_groups(runs, reported, per)
    return Plan(points, composer, Trials(runs, per, candidates, scale.select.by))


def _recorded(points: Iterable[Point], name: str) -> list[Point]:
    """The points, to be recorded in the MLflow experiment of that name."""
    return [(*point, Setting("tracking.experiment_name", name, name)) for point in points]


def _configs(composer: Composer, points: Iterable[Point]) -> list[Config]:
    return [config for _, config in composer.distinct(points)]


def _group(config: Config, per: Sequence[str]) -> Group:
    flat = flatten(config)
    return tuple("" if flat.get(key) is None else flat[key] for key in per)


def _candidates(select: Select, options: Options) -> dict[str, Point]:
    """The candidates by name; numbers in ascending order, so that the first of equals is the smallest."""
    axes = grids.axes(select.candidates, options)
    if "seed" in axes:
        raise ConfigError("select.candidates.seed: a seed is never selected")
    for key, settings in axes.items():
        if all(isinstance(setting.value, (int, float)) for setting in settings):
            axes[key] = sorted(settings, key=lambda setting: setting.value)
    points = list(itertools.product(*axes.values()))
    if len(points) < 2:
        raise ConfigError(f"select.candidates: {', '.join(axes)}: expected two values at least")
    return {" ".join(str(setting) for setting in point): point for point in points}


def _trials(name: str, select: Select, base: Axes, written: Mapping[str, Axes], composer: Composer) -> list[Point]:
    """The trials' points, without a candidate; their MLflow experiment is their own, so that no view mixes them in."""
    seeds = grids.axes({"seed": select.seed}, composer.options)
    changes = {grid: grids.axes(keys, composer.options) for grid, keys in select.trials.items()}
    keys = set(grids.axes(select.candidates, composer.options)) | {"seed"}
    _refuse_given(keys, {f"select.trials.{grid}": axes for grid, axes in changes.items()})
    trials = {grid: axes | changes.get(grid, {}) | seeds for grid, axes in written.items()}
    return _recorded(grids.points(base | seeds, trials, {}), f"{name}-selection")


def _refuse_given(keys: Iterable[str], places: Mapping[str, Axes]) -> None:
    """Refuse keys that are selected, and given as well."""
    for where, axes in places.items():
        for key in sorted(set(keys) & axes.keys()):
            raise ConfigError(f"{where}.{key}: 'select' sets it; leave it out here")


def _per(select: Select, reported: Sequence[Config], candidates: set[str]) -> list[str]:
    """The keys that make a group: those written, or task, cell, init and all that varies but the seed."""
    flat = [flatten(config) for config in reported]
    known = dict.fromkeys(key for values in flat for key in values if key != "seed" and key not in candidates)
    for key in select.per:
        if key not in known:
            raise ConfigError(f"select.per={key}: {nearest(key, known)}")
    varying = {key for key in known if len({repr(values.get(key)) for values in flat}) > 1}
    return list(select.per) or [key for key in known if key in varying | {"task", "cell", "init"}]


def _check_seeds(trials: Sequence[Trial], reported: Sequence[Config]) -> None:
    """Refuse seeds that are both a trial's and a reported run's: the choice would be made on what is reported."""
    both = {trial.config.seed for trial in trials} & {config.seed for config in reported}
    if both:
        listed = ",".join(str(seed) for seed in sorted(both))
        raise ConfigError(f"select.seed={listed}: reported runs have it too; trials need seeds of their own")


def _check_groups(trials: Sequence[Trial], reported: Sequence[Config], per: Sequence[str]) -> None:
    """Refuse reported runs that no trial stands for, and trials that stand for no reported run."""
    tried = dict.fromkeys(trial.group for trial in trials)
    wanted = dict.fromkeys(_group(config, per) for config in reported)
    for group in [*wanted, *tried]:
        if group not in tried:
            raise ConfigError(f"select.trials: none for the reported runs of {written(per, group)}")
        if group not in wanted:
            raise ConfigError(f"select.trials: {written(per, group)}: no reported run is of this kind")


def written(per: Sequence[str], group: Group) -> str:
    """A group in words, such as "task=recall cell=gru"."""
    return " ".join(f"{key}={value}" for key, value in zip(per, group, strict=True))
