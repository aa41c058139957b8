"""Reading an experiment's table back and redrawing its figures from it: no training, no store, no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd

from goldfish.errors import ConfigError

NAMES = ("fingerprint", "outcome", "reason", "cell", "init", "task", "engine", "source_hash")
CURVES = ["fingerprint", "quantity", "phase", "x", "value"]


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read runs.csv and curves.parquet of `outputs/<name>/<scale>` or `experiments/<name>/results/<scale>`.

    Returns runs, one row per run, and curves with columns fingerprint, quantity, phase, x, value.
    Raises ConfigError naming the command that makes them where they are not there, or are not those that the folder's
    manifest.json, if it has one, was written with.
    """
    for name in ("runs.csv", "curves.parquet"):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder / name}: no such table; `{_command(folder)}` makes it")
    if (folder / "manifest.json").is_file():
        _check(folder)
    return read_runs(folder / "runs.csv"), pd.read_parquet(folder / "curves.parquet")[CURVES].reset_index(drop=True)


def _check(folder: Path) -> None:
    """Compare the tables with the checksums in the manifest. Raises ConfigError where they differ."""
    manifest = folder / "manifest.json"
    try:
        sums = json.loads(manifest.read_bytes())["sha256"]
        expected = {name: str(sums[name]) for name in sums}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{manifest}: damaged; `{_command(folder)}` makes it again") from error
    for name in sorted({*expected, "runs.csv", "curves.parquet"}):
        path = folder / Path(name).name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected.get(name):
            raise ConfigError(f"{path}: not the table that manifest.json tells of; `{_command(folder)}` makes it again")


def read_runs(path: Path) -> pd.DataFrame:
    """Read a table of runs: names as text, an empty reason as "", numbers to the last bit, inf and NaN as they were."""
    header = pd.read_csv(path, nrows=0).columns
    names = [name for name in header if name in NAMES or name.endswith(".name")]
    runs = pd.read_csv(path, dtype=dict.fromkeys(names, str))
    if "reason" in runs:
        runs["reason"] = runs["reason"].fillna("")
    return runs


def redraw(experiment: Path, folder: Path) -> list[Path]:
    """Draw an experiment's figures from the table in `folder`, into that folder; returns the files written.

    experiment: the folder that holds figure.py, which defines draw(runs, curves, out).
    Raises ConfigError where figure.py or the table is not there.
    """
    module = figure_module(experiment)
    runs, curves = read(folder)
    return list(module.draw(runs, curves, folder))


def figure_module(experiment: Path) -> ModuleType:
    """Import an experiment's figure.py by its path. Raises ConfigError where it is not there or defines no draw."""
    return _module(experiment, "figure", "draw(runs, curves, out)")


def measure_module(experiment: Path) -> ModuleType:
    """Import an experiment's measure.py by its path. Raises ConfigError where it is not there or defines no measure."""
    return _module(experiment, "measure", "measure(settings, out)")


def samples_module(experiment: Path) -> ModuleType:
    """Import an experiment's samples.py by its path. Raises ConfigError where it is not there or defines no samples."""
    return _module(experiment, "samples", "samples(runs, network)")


def _module(experiment: Path, name: str, function: str) -> ModuleType:
    path = experiment / f"{name}.py"
    spec = (
        importlib.util.spec_from_file_location(f"goldfish_{name}_{experiment.name}", path) if path.is_file() else None
    )
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: no such file; it would define {function}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where a dataclass looks for its module
    spec.loader.exec_module(module)
    if not hasattr(module, function.partition("(")[0]):
        raise ConfigError(f"{path}: defines no {function}")
    return module


def _command(folder: Path) -> str:
    parent = folder.parent.parent if folder.parent.name == "results" else folder.parent
    return f"goldfish reproduce {parent.name} --scale {folder.name}"
