"""An experiment, as experiments/<name>/experiment.yaml describes it: the changes to the defaults that make a sweep.

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
import importlib.util
import math
import operator
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import yaml

import goldfish
from goldfish.errors import ConfigError, nearest

if TYPE_CHECKING:
    import pandas as pd

FILE = "experiment.yaml"
METRICS = ("val/accuracy", "val/loss")  # what trials can be compared by, and what a criterion can be about
SWEEP = ("base", "grids", "select", "settings")
SELECT = ("candidates", "seed", "per", "trials", "by")
CODE = {  # what an experiment's own files define
    "figure": "draw(runs, curves, out)",
    "measure": "measure(settings, out)",
    "samples": "samples(runs, network)",
}
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
Keys = dict[str, Any]


@dataclass(frozen=True)
class Select:
    """The rule by which trials select: the best candidate by a validation metric, for each value of the keys `per`.

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
    """The content of experiment.yaml.

    `solved` is its own criterion, metric → condition; empty where the task's stands.
    """

    name: str
    folder: Path
    scales: Mapping[str, Scale] = field(default_factory=dict)
    solved: Mapping[str, str] = field(default_factory=dict)

    def has(self, kind: str) -> bool:
        """Whether it has a file of its own of this kind: with a measure.py its table is not that of a sweep."""
        return (self.folder / f"{kind}.py").is_file()

    def module(self, kind: str) -> ModuleType:
        """Import its figure.py, measure.py or samples.py. Raises ConfigError where its function is not defined."""
        path = self.folder / f"{kind}.py"
        spec = importlib.util.spec_from_file_location(f"goldfish_{kind}_{self.name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where a dataclass looks for its module
        spec.loader.exec_module(module)
        if not hasattr(module, CODE[kind].partition("(")[0]):
            raise ConfigError(f"{path}: defines no {CODE[kind]}")
        return module

    def scale(self, name: str) -> Scale:
        """The sweep at a scale. Raises ConfigError where there is no such scale."""
        if name not in self.scales:
            raise ConfigError(f"--scale={name}: {self.name} has no such scale; {nearest(name, self.scales)}")
        return self.scales[name]

    def judged(self, runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
        """The runs with outcome and time-to-solve by its criterion; as they are where it has none.

        Time-to-solve is the training step of the first validation that meets every condition. What diverged, failed or
        is missing stays. The criterion is a reading of a run, not part of its identity: no run is repeated for it.
        """
        if not self.solved:
            return runs
        learning = curves[(curves["phase"] == "training") & curves["quantity"].isin(self.solved)]
        values = learning.pivot(index=["fingerprint", "x"], columns="quantity", values="value")
        values = values.reindex(columns=list(self.solved))
        for metric, condition in self.solved.items():
            sign, threshold = _condition(metric, condition)
            values = values[_COMPARE[sign](values[metric], threshold)]
        first = values.index.to_frame(index=False).groupby("fingerprint")["x"].min()
        steps = runs["fingerprint"].map(first)
        ended = runs["outcome"].isin(("solved", "unsolved"))
        outcome = steps.notna().map({True: "solved", False: "unsolved"})
        return runs.assign(
            outcome=runs["outcome"].where(~ended, outcome),
            time_to_solve=steps.where(ended, math.nan),
            **{"time_to_solve/censored": steps.isna().astype(float).where(ended, math.nan)},
        )


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
    try:
        values = _mapping("", yaml.safe_load(path.read_text(encoding="utf-8")), (*SWEEP, "scales", "solved"))
        common, scales = _merged("", Scale({}, {}), values), {}
        for scale, changes in _mapping("scales", values.get("scales")).items():
            scales[scale] = _merged(f"scales.{scale}.", common, _mapping(f"scales.{scale}", changes, SWEEP))
        solved = {metric: str(condition) for metric, condition in _mapping("solved", values.get("solved")).items()}
        for metric, condition in solved.items():
            _condition(metric, condition)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: ours, no UTF-8, or a number of thousands of digits
        raise ConfigError(f"{path}: {error}") from error
    return Experiment(name, place, scales, solved)


def _merged(head: str, before: Scale, changes: Keys) -> Scale:
    """A sweep with the changes that stand below `head`."""
    grids = _changed(f"{head}grids", before.grids, changes.get("grids"))
    return Scale(
        before.base | _keys(f"{head}base", changes.get("base")),
        grids,
        _selection(f"{head}select", before.select, grids, changes.get("select")),
        before.settings | _mapping(f"{head}settings", changes.get("settings")),
    )


def _selection(where: str, before: Select | None, grids: Mapping[str, Keys], changes: Any) -> Select | None:
    """A selection with changes; None where there is none."""
    given = _mapping(where, changes, SELECT)
    if before is None and not given:
        return None
    before = before or Select({}, None)
    candidates = _keys(f"{where}.candidates", given.get("candidates")) or before.candidates
    seed, per, by = (given.get(key, getattr(before, key)) for key in ("seed", "per", "by"))
    trials = {name: before.trials.get(name, {}) for name in grids}
    trials = _changed(f"{where}.trials", trials, given.get("trials"), add=False)
    if not candidates or seed is None:
        raise ConfigError(f"{where}.{'seed' if candidates else 'candidates'}: a value is required")
    if not isinstance(per, (list, tuple)):
        raise ConfigError(f"{where}.per={per}: expected a list of keys")
    if by not in METRICS:
        raise ConfigError(f"{where}.by={by}: {nearest(by, METRICS)}")
    return Select(candidates, seed, trials, tuple(str(key) for key in per), by)


def _mapping(where: str, value: Any, allowed: tuple[str, ...] | None = None) -> Keys:
    """The value as a mapping, nothing as an empty one. Raises ConfigError for anything else, and for unknown keys."""
    value = {} if value is None else value
    if not isinstance(value, dict):
        raise ConfigError(f"{where or 'the file'}: expected a mapping")
    for key in value:
        if allowed is not None and key not in allowed:
            raise ConfigError(f"{where}.{key}: unknown key; {nearest(key, allowed)}".removeprefix("."))
    return {str(key): item for key, item in value.items()}


def _keys(where: str, value: Any) -> Keys:
    """Overrides as a mapping; a list of "key=value" is one too."""
    if not isinstance(value, list):
        return _mapping(where, value)
    pairs = [str(line).partition("=") for line in value]
    for key, sign, _ in pairs:
        if not sign:
            raise ConfigError(f"{where}: {key}: expected key=value")
    return {key: text for key, _, text in pairs}


def _changed(where: str, grids: Mapping[str, Keys], changes: Any, *, add: bool = True) -> dict[str, Keys]:
    """The grids with the changes at `where`, in the order of the file; a new name adds a grid, if it may.

    A change that is false leaves the grids of that name, or pattern, out.
    """
    merged = {name: dict(grid) for name, grid in grids.items()}
    for name, change in _mapping(where, changes).items():
        matching = fnmatch.filter(grids, name)
        if not matching and (not add or change is False or any(mark in name for mark in "*?[")):
            raise ConfigError(f"{where}.{name}: matches no grid; {nearest(name, grids)}")
        for grid in matching or [name]:
            if change is False:
                merged.pop(grid, None)
            else:
                merged[grid] = merged.get(grid, {}) | _keys(f"{where}.{name}", change)
    return merged


def _condition(metric: str, condition: str) -> tuple[str, float]:
    """Split "< 0.04" into its comparison and its threshold.

    Raises ConfigError for an unknown metric and for what is no condition.
    """
    if metric not in METRICS:
        raise ConfigError(f"solved.{metric}: unknown metric; choices: {', '.join(METRICS)}")
    match = re.fullmatch(r"\s*(<=|>=|<|>)\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*", condition)
    if match is None:
        raise ConfigError(f"solved.{metric}={condition}: expected a condition such as '< 0.04'")
    return match[1], float(match[2])
