"""Experiments: experiments/<name>/experiment.yaml, the deltas that make a sweep.

# goldfish reproduce <name>
base:                     # every run: key → value, list, or text in Hydra's sweep syntax; or a list of overrides
  seed: [0, 1, 2, 3]
  optimizer.lr: 0.01
grids:                    # the union of these, each crossed with base; a grid's key replaces that of base
  gated: {cell: "lstm,gru", init: "pytorch,chrono"}
scales:                   # each overrides base and grids; a grid is named as a whole or by a pattern, such as "*"
  smoke: {base: {seed: 0, trainer.max_steps: 20}, grids: {gated: {init: chrono}}}  # a grid that is false is left out
  cpu: {}
settings: {lengths: [16, 64]}   # in place of base and grids, where the folder has a measure.py: what it is called with
solved: {val/loss: "< 0.04"}   # optional: when a run counts as solved, where the paper has another rule than the task
select:                   # optional: trials come first, and choose on validation what reported runs are trained with
  candidates: {optimizer.lr: [0.003, 0.01, 0.03]}   # several keys are crossed
  seed: [100, 101]        # the trials' own, none that is reported
  per: [cell, init]       # one choice for each; by default for each point, whatever varies but the seed
  trials: {gated: {task.length: 40}}   # what trials have otherwise than the reported runs of a grid
  by: val/accuracy        # the highest mean over trials, for val/loss the lowest; of equals the smallest candidate
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

import goldfish
from goldfish.errors import ConfigError, nearest

FILE = "experiment.yaml"
METRICS = ("val/accuracy", "val/loss")  # what trials can be compared by
SWEEP = ("base", "grids", "select", "settings")
MEASURE = "measure.py"
SELECT = ("candidates", "seed", "per", "trials", "by")
Keys = dict[str, Any]


@dataclass(frozen=True)
class Select:
    """What trials choose: the best of the candidates by a validation metric, once for each value of the keys `per`.

    `trials` holds, by grid, what trials have otherwise than reported runs. An empty `per` means each point.
    """

    candidates: Keys
    seed: Any
    trials: dict[str, Keys] = field(default_factory=dict)
    per: tuple[str, ...] = ()
    by: str = "val/accuracy"


@dataclass(frozen=True)
class Scale:
    """A sweep, unexpanded: base, grids and selection, with the changes of a scale merged in."""

    base: Keys
    grids: dict[str, Keys]
    select: Select | None = None
    settings: Keys = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What experiment.yaml says.

    `solved` is its own criterion, metric → condition; empty where the task's stands.
    """

    name: str
    folder: Path
    scales: Mapping[str, Scale] = field(default_factory=dict)
    solved: Mapping[str, str] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether its table is what its measure.py returns, not that of a sweep."""
        return (self.folder / MEASURE).is_file()

    def scale(self, name: str) -> Scale:
        """The sweep at a scale. Raises ConfigError where there is no such scale."""
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
    values = _mapping(path, "", _load(path), (*SWEEP, "scales", "solved"))
    common, scales = _merged(path, "", Scale({}, {}), values), {}
    for scale, changes in _mapping(path, "scales", values.get("scales")).items():
        inner = _mapping(path, f"scales.{scale}", changes, SWEEP)
        scales[str(scale)] = _merged(path, f"scales.{scale}.", common, inner)
    return Experiment(name, place, scales, _criterion(path, values.get("solved")))


def _merged(path: Path, head: str, before: Scale, changes: Keys) -> Scale:
    """A sweep with the changes that stand below `head`."""
    base = before.base | _keys(path, f"{head}base", changes.get("base"))
    grids = _changed(path, f"{head}grids", before.grids, _grids(path, f"{head}grids", changes.get("grids")))
    settings = before.settings | _mapping(path, f"{head}settings", changes.get("settings"))
    return Scale(base, grids, _selection(path, f"{head}select", before.select, grids, changes.get("select")), settings)


def _selection(path: Path, where: str, before: Select | None, grids: Mapping[str, Keys], changes: Any) -> Select | None:
    """A selection with changes; None where there is none."""
    given = _mapping(path, where, changes, SELECT)
    if before is None and not given:
        return None
    before = before or Select({}, None)
    candidates = _keys(path, f"{where}.candidates", given.get("candidates")) or before.candidates
    seed, per, by = (given.get(key, getattr(before, key)) for key in ("seed", "per", "by"))
    trials = {name: before.trials.get(name, {}) for name in grids}
    trials = _changed(path, f"{where}.trials", trials, _grids(path, f"{where}.trials", given.get("trials")), add=False)
    if not candidates or seed is None:
        raise ConfigError(f"{path}: {where}.{'seed' if candidates else 'candidates'}: a value is required")
    if not isinstance(per, (list, tuple)):
        raise ConfigError(f"{path}: {where}.per={per}: expected a list of keys")
    if by not in METRICS:
        raise ConfigError(f"{path}: {where}.by={by}: {nearest(by, METRICS)}")
    return Select(candidates, seed, trials, tuple(str(key) for key in per), by)


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a number of thousands of digits
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
    from goldfish.papers.criterion import parse

    found = {metric: str(condition) for metric, condition in _mapping(path, "solved", value).items()}
    for metric, condition in found.items():
        try:
            parse(metric, condition)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
    return found


def _grids(path: Path, where: str, value: Any) -> dict[str, Keys | None]:
    """The grids by name, None for one that is left out."""
    grids = _mapping(path, where, value)
    return {name: None if grid is False else _keys(path, f"{where}.{name}", grid) for name, grid in grids.items()}


def _changed(
    path: Path, where: str, grids: Mapping[str, Keys], changes: Mapping[str, Keys | None], *, add: bool = True
) -> dict[str, Keys]:
    """The grids with the changes at `where`, in the order of the file; a new name adds a grid, if it may."""
    merged = {name: dict(grid) for name, grid in grids.items()}
    for name, change in changes.items():
        matching = fnmatch.filter(grids, name)
        if not matching and (not add or change is None or any(mark in name for mark in "*?[")):
            raise ConfigError(f"{path}: {where}.{name}: matches no grid; {nearest(name, grids)}")
        for grid in matching or [name]:
            if change is None:
                merged.pop(grid, None)
            else:
                merged[grid] = merged.get(grid, {}) | change
    return merged
