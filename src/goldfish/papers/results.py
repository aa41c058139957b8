"""An experiment's results on disk, in outputs/<name>/<scale>/: runs.csv, curves.parquet, manifest.json and figures.

Where trials selected what the runs were trained with, selection.csv holds every candidate's score; samples.csv is what
an experiment's samples.py took from trained networks. A figure is a function of these tables: they are always read back
from disk before anything is drawn.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish import files
from goldfish.errors import ConfigError
from goldfish.papers import readme
from goldfish.papers.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

RUNS, CURVES, SELECTION, SAMPLES = "runs.csv", "curves.parquet", "selection.csv", "samples.csv"
MANIFEST = "manifest.json"
MORE = (SELECTION, SAMPLES)  # tables that only some experiments have
_ORDER = ["task", "cell", "init", "length", "seed", "fingerprint"]


def output(experiment: Experiment, scale: str) -> Path:
    """The folder that results are written to, below the working directory."""
    return Path("outputs") / experiment.name / scale


def published(experiment: Experiment, scale: str) -> Path:
    """The folder of the results that are kept with the experiment."""
    return experiment.folder / "results" / scale


def write(
    out: Path, runs: pd.DataFrame, curves: pd.DataFrame, more: Mapping[str, pd.DataFrame | None], command: str
) -> None:
    """Write the tables, in an order that does not depend on when a run was made, and at last what made them.

    `more` are further tables by file, such as the candidates' scores of a selection, if there was one. Tables without a
    manifest are not complete.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, *MORE):
        (out / name).unlink(missing_ok=True)
    runs = runs.sort_values(_ORDER, kind="stable")
    place = {fingerprint: index for index, fingerprint in enumerate(runs["fingerprint"])}
    order = curves.assign(place=curves["fingerprint"].map(place))
    curves = order.sort_values(["place", "quantity", "phase", "x"], kind="stable").drop(columns="place")
    runs.to_csv(out / RUNS, index=False)
    curves.to_parquet(out / CURVES, index=False, compression="zstd")
    for name, table in more.items():
        if table is not None:
            table.to_csv(out / name, index=False)
    _write_manifest(out, command, runs)


def write_measured(out: Path, table: pd.DataFrame, command: str) -> None:
    """Write what an experiment's measure.py returned, as the table of runs it stands for; there are no curves."""
    import pandas as pd

    from goldfish.figures.load import CURVES as COLUMNS

    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    table.to_csv(out / RUNS, index=False)
    pd.DataFrame({name: pd.Series(dtype=object) for name in COLUMNS}).to_parquet(out / CURVES, index=False)
    _write_manifest(out, command, table)


def read(place: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables in a folder. What figures and tables print beside the runs is in their `attrs`: "selected", how they
    were, and "samples", a dictionary for each row of samples.csv.
    """
    import pandas as pd

    from goldfish.figures import load
    from goldfish.papers import selection

    runs, curves = load.read(place)
    if (place / SELECTION).is_file():
        runs.attrs["selected"] = selection.note(selection.read(place / SELECTION))
    if (place / SAMPLES).is_file():
        samples = pd.read_csv(place / SAMPLES, keep_default_na=False, na_values=[""])
        texts = {name: "" for name in samples if not pd.api.types.is_numeric_dtype(samples[name])}
        runs.attrs["samples"] = samples.fillna(texts).to_dict("records")
    return runs, curves


def find(experiment: Experiment, scale: str) -> Path:
    """The folder of the tables: those of the working directory, else those kept with the experiment."""
    place = output(experiment, scale)
    return place if (place / MANIFEST).is_file() else kept(experiment, scale)


def kept(experiment: Experiment, scale: str) -> Path:
    """The folder of the tables kept with the experiment. Raises ConfigError where there are none."""
    place = published(experiment, scale)
    if (place / MANIFEST).is_file():
        return place
    raise ConfigError(
        f"--scale={scale}: {experiment.name} has no table yet; goldfish reproduce {experiment.name} --scale {scale}"
    )


def draw(experiment: Experiment, runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> tuple[list[Path], str]:
    """Draw the experiment's figures into `out`, and return their files and the table of what the runs came to.

    Both are the business of the experiment's figure.py, `draw` and `table`; without a `table` there is a general one.
    Without a figure.py our runs are drawn beside the published values of published.csv; without those, nothing is.
    """
    from goldfish.figures.load import figure_module
    from goldfish.figures.table import text

    out.mkdir(parents=True, exist_ok=True)
    if not (experiment.folder / "figure.py").is_file():
        return _beside_published(experiment.folder, runs, out) or ([], text(runs))
    module = figure_module(experiment.folder)
    files = [Path(path) for path in module.draw(runs, curves, out)]
    return files, module.table(runs) if hasattr(module, "table") else text(runs)


def _beside_published(folder: Path, runs: pd.DataFrame, out: Path) -> tuple[list[Path], str] | None:
    from goldfish.papers import figure
    from goldfish.papers.published import read

    return (figure.save(folder, runs, out), figure.text(folder, runs)) if read(folder) else None


def _write_manifest(out: Path, command: str, runs: pd.DataFrame) -> None:
    """Write what made the tables: command, commit, versions, machine; the runs by outcome; the tables' sha256."""
    from goldfish.tracking.provenance import collect

    contents: dict[str, Any] = collect() | {
        "command": command,
        "runs": {str(outcome): int(count) for outcome, count in _outcomes(runs).items()},
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tables(out)},
    }
    files.write(out / MANIFEST, f"{json.dumps(contents, indent=2, sort_keys=True)}\n".encode())


def _outcomes(runs: pd.DataFrame) -> dict[str, int]:
    return dict(runs["outcome"].value_counts()) if "outcome" in runs else {"rows": len(runs)}


def tables(out: Path) -> list[Path]:
    """The tables that are in a folder."""
    return [out / name for name in (RUNS, CURVES, *MORE) if (out / name).is_file()]


def publish(experiment: Experiment, scale: str, files: Sequence[Path]) -> Path:
    """Replace the results kept with the experiment by these files, also in its README; return their folder."""
    place = published(experiment, scale)
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    for file in files:
        shutil.copy2(file, place / file.name)
    readme.embed(experiment.folder)
    return place
