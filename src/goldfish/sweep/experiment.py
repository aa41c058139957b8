"""Experiments: experiments/<name>/experiment.yaml, the deltas that make a sweep.

# goldfish reproduce <name>
base:                     # every run: key → value, list, or text in Hydra's sweep syntax; or a list of overrides
  seed: [0, 1, 2, 3]
  optimizer.lr: 0.01
grids:                    # the union of these, each crossed with base; a grid's key replaces that of base
  gated: {cell: "lstm,gru", init: "pytorch,chrono"}
scales:                   # each overrides base and grids; a grid is named as a whole or by a pattern, such as "*"
  smoke: {base: {seed: 0, trainer.max_steps: 20}, grids: {gated: {init: chrono}}}
  cpu: {}
solved: {val/loss: "< 0.04"}   # optional: when a run counts as solved, where the paper has another rule than the task
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import goldfish
from goldfish.config import Config
from goldfish.errors import ConfigError, nearest

if TYPE_CHECKING:
    from goldfish.sweep.compose import Composer

FILE = "experiment.yaml"
Keys = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """What experiment.yaml says, unexpanded; `scales` holds base and grids of each scale, merged.

    `solved` is its own criterion, metric → condition; empty where the task's stands.
    """

    name: str
    folder: Path
    scales: Mapping[str, tuple[Keys, dict[str, Keys]]] = field(default_factory=dict)
    solved: Mapping[str, str] = field(default_factory=dict)

    def scale(self, name: str) -> tuple[Keys, dict[str, Keys]]:
        """Base and grids at a scale. Raises ConfigError where there is no such scale."""
        if name not in self.scales:
            raise ConfigError(f"--scale={name}: {self.name} has no such scale; {nearest(name, self.scales)}")
        return self.scales[name]


def folders() -> dict[str, Path]:
    """Every experiment's folder by name: of the working directory first, then of the repository or the package."""
    package = Path(goldfish.__file__).parent
    places = [package / "experiments", package.parents[1] / "experiments", Path.cwd() / "experiments"]
    return {file.parent.name: file.parent for place in places for file in sorted(place.glob(f"*/{FILE}"))}


def folder(name: str) -> Path:
    """The folder of one experiment. Raises ConfigError naming the nearest."""
    known = folders()
    if name not in known:
        raise ConfigError(f"{name}: no such experiment; {nearest(name, known)}")
    return known[name]


def read(name: str) -> Experiment:
    """Read one experiment. Raises ConfigError for a file that is no experiment."""
    place = folder(name)
    path = place / FILE
    values = _mapping(path, "", _load(path), ("base", "grids", "scales", "solved"))
    base, grids = _keys(path, "base", values.get("base")), _grids(path, "grids", values.get("grids"))
    scales = {}
    for scale, changes in _mapping(path, "scales", values.get("scales")).items():
        inner = _mapping(path, f"scales.{scale}", changes, ("base", "grids"))
        changed = _grids(path, f"scales.{scale}.grids", inner.get("grids"))
        merged = base | _keys(path, f"scales.{scale}.base", inner.get("base"))
        scales[str(scale)] = (merged, _changed(path, scale, grids, changed))
    return Experiment(name, place, scales, _criterion(path, values.get("solved")))


def expand(experiment: Experiment, scale: str, composer: Composer | None = None) -> list[Config]:
    """The resolved configuration of every run at a scale, each once. Raises ConfigError when any of them is wrong."""
    from goldfish.sweep import compose, grids
    from goldfish.sweep.overrides import Setting

    composer = composer or compose.Composer(compose.loader())
    base, united = experiment.scale(scale)
    try:
        axes = {name: grids.axes(grid, composer.options) for name, grid in united.items()}
        common = grids.axes(base, composer.options)
        recorded = Setting("tracking.experiment_name", experiment.name, experiment.name)
        points = [(*point, recorded) for point in grids.points(common, axes, {})]
        return [config for _, config in composer.distinct(points)]
    except ConfigError as error:
        raise ConfigError(f"{experiment.folder / FILE}: {error}") from error


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def _mapping(path: Path, where: str, value: Any, allowed: tuple[str, ...] | None = None) -> Keys:
    """The value as a mapping, nothing as an empty one. Raises ConfigError for anything else, and for unknown keys."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {where or 'the file'}: expected a mapping")
    for key in value:
        if allowed is not None and key not in allowed:
            raise ConfigError(f"{path}: {f'{where}.' if where else ''}{key}: unknown key; {nearest(key, allowed)}")
    return {str(key): item for key, item in value.items()}


def _keys(path: Path, where: str, value: Any) -> Keys:
    """Overrides as a mapping; a list of "key=value" is one too."""
    if not isinstance(value, list):
        return _mapping(path, where, value)
    pairs = [str(line).partition("=") for line in value]
    wrong = [key for key, sign, _ in pairs if not sign]
    if wrong:
        raise ConfigError(f"{path}: {where}: {wrong[0]}: expected key=value")
    return {key: text for key, _, text in pairs}


def _criterion(path: Path, value: Any) -> dict[str, str]:
    """The experiment's own criterion for solved, checked."""
    if value is None:
        return {}
    from goldfish.figures.criterion import parse

    found = {metric: str(condition) for metric, condition in _mapping(path, "solved", value).items()}
    for metric, condition in found.items():
        try:
            parse(metric, condition)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return found


def _grids(path: Path, where: str, value: Any) -> dict[str, Keys]:
    return {name: _keys(path, f"{where}.{name}", grid) for name, grid in _mapping(path, where, value).items()}


def _changed(path: Path, scale: str, grids: dict[str, Keys], changes: dict[str, Keys]) -> dict[str, Keys]:
    """The grids with a scale's changes, in the order of the file; a change whose name is no grid's adds one."""
    merged = copy.deepcopy(grids)
    for name, change in changes.items():
        matching = fnmatch.filter(grids, name)
        if not matching and any(mark in name for mark in "*?["):
            raise ConfigError(f"{path}: scales.{scale}.grids.{name}: matches no grid; {nearest(name, grids)}")
        for grid in matching or [name]:
            merged[grid] = merged.get(grid, {}) | change
    return merged
