"""An experiment's results on disk: its tables, a manifest of their origin, its figures, and the excerpts in its README.

They lie in outputs/<name>/<scale>/ and, where they are kept, in the experiment's results/<scale>/: runs.csv,
curves.parquet, manifest.json and figures. Where trials selected what the runs were trained with, selection.csv holds
every candidate's score; samples.csv is what an experiment's samples.py took from trained networks. A figure is a
function of these tables: they are always read back from disk before anything is drawn.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish import files
from goldfish.errors import ConfigError
from goldfish.papers.experiment import Experiment

if TYPE_CHECKING:
    import pandas as pd

RUNS, CURVES, SELECTION, SAMPLES = "runs.csv", "curves.parquet", "selection.csv", "samples.csv"
TABLES = (RUNS, CURVES, SELECTION, SAMPLES)
MANIFEST = "manifest.json"
CURVE = ["fingerprint", "quantity", "phase", "x", "value"]  # the columns of the curves
_ORDER = ["task", "cell", "init", "length", "seed", "fingerprint"]
_TEXTS = ("fingerprint", "outcome", "reason", "cell", "init", "task", "engine", "source_hash")
_BLOCK = re.compile(r"(<!-- (results/\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def output(experiment: Experiment, scale: str) -> Path:
    """The folder that results are written to, below the working directory."""
    return Path("outputs") / experiment.name / scale


def published(experiment: Experiment, scale: str) -> Path:
    """The folder of the results that are kept with the experiment."""
    return experiment.folder / "results" / scale


def find(experiment: Experiment, scale: str, *, kept: bool = False) -> Path:
    """The folder of the tables: those of the working directory, else, or with `kept`, those kept with the experiment.

    Raises ConfigError naming the command that makes them where there are none.
    """
    here = published(experiment, scale)
    for place in [here] if kept else [output(experiment, scale), here]:
        if (place / MANIFEST).is_file():
            return place
    raise ConfigError(
        f"--scale={scale}: {experiment.name} has no table yet; goldfish reproduce {experiment.name} --scale {scale}"
    )


def ordered(runs: pd.DataFrame, curves: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs and curves in an order that does not depend on when a run was made."""
    runs = runs.sort_values(_ORDER, kind="stable")
    place = {fingerprint: index for index, fingerprint in enumerate(runs["fingerprint"])}
    order = curves.assign(place=curves["fingerprint"].map(place))
    return runs, order.sort_values(["place", "quantity", "phase", "x"], kind="stable").drop(columns="place")


def write(out: Path, tables: Mapping[str, pd.DataFrame | None], command: str) -> None:
    """Write the tables by file, and at last the manifest: without one they are not complete.

    The manifest says what made them: command, commit, versions, machine; the runs by outcome; the tables' sha256.
    """
    from goldfish.tracking.provenance import collect

    out.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, *TABLES):
        (out / name).unlink(missing_ok=True)
    for name, table in tables.items():
        if table is not None and name == CURVES:
            table[CURVE].to_parquet(out / name, index=False, compression="zstd")
        elif table is not None:
            table.to_csv(out / name, index=False)
    runs = tables[RUNS]
    assert runs is not None
    counts = runs["outcome"].value_counts() if "outcome" in runs else {"rows": len(runs)}
    manifest: dict[str, Any] = collect() | {
        "command": command,
        "runs": {str(outcome): int(count) for outcome, count in counts.items()},
        "sha256": {path.name: _digest(path) for path in written(out)},
    }
    files.write(out / MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())


def written(out: Path) -> list[Path]:
    """The tables that are in a folder."""
    return [out / name for name in TABLES if (out / name).is_file()]


def read(place: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs and their curves: columns fingerprint, quantity, phase, x, value; none where nothing was trained.

    What figures and tables print beside the runs is in their `attrs`: "selected", how they were, and "samples", a
    dictionary for each row of samples.csv. Raises ConfigError naming the command that makes the tables where they are
    not those that manifest.json was written with.
    """
    import pandas as pd

    from goldfish.papers import selection

    _check(place)
    runs = read_runs(place / RUNS)
    curves = pd.read_parquet(place / CURVES)[CURVE] if (place / CURVES).is_file() else pd.DataFrame(columns=CURVE)
    if (place / SELECTION).is_file():
        runs.attrs["selected"] = selection.note(selection.read(place / SELECTION))
    if (place / SAMPLES).is_file():
        samples = pd.read_csv(place / SAMPLES, keep_default_na=False, na_values=[""])
        texts = {name: "" for name in samples if not pd.api.types.is_numeric_dtype(samples[name])}
        runs.attrs["samples"] = samples.fillna(texts).to_dict("records")
    return runs, curves


def read_runs(path: Path) -> pd.DataFrame:
    """Read a table of runs: names as text, an empty reason as "", numbers to the last bit, inf and NaN as they were."""
    import pandas as pd

    header = pd.read_csv(path, nrows=0).columns
    texts = [name for name in header if name in _TEXTS or name.endswith(".name")]
    runs = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    return runs.fillna({"reason": ""})


def _check(place: Path) -> None:
    """Compare the tables with the checksums in the manifest. Raises ConfigError where they differ."""
    folder = place.parent.parent if place.parent.name == "results" else place.parent
    again = f"`goldfish reproduce {folder.name} --scale {place.name}` makes it again"
    try:
        sums = json.loads((place / MANIFEST).read_bytes())["sha256"]
        expected = {RUNS: sums[RUNS]} | {Path(table).name: sums[table] for table in sums}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{place / MANIFEST}: missing or damaged; {again}") from error
    for path in [place / table for table in expected]:
        if not path.is_file() or _digest(path) != expected[path.name]:
            raise ConfigError(f"{path}: not the table that {MANIFEST} describes; {again}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def draw(experiment: Experiment, runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> tuple[list[Path], str]:
    """Draw the experiment's figures into `out`, and return their files and the table of what the runs came to.

    Both are left to the experiment's figure.py, `draw` and `table`. Without them, our runs are drawn beside the
    claims of published.csv and their verdicts told; without claims nothing is drawn, and there is a general table.
    """
    from goldfish.figures import table
    from goldfish.papers import figure
    from goldfish.papers import published as claims

    out.mkdir(parents=True, exist_ok=True)
    module = experiment.module("figure") if experiment.has("figure") else None
    judged = claims.verdicts(experiment.folder, runs)
    drawn: list[Path] = []
    if module is not None:
        drawn = [Path(path) for path in module.draw(runs, curves, out)]
    elif judged:
        drawn = figure.save(experiment.folder, runs, out)
    if module is not None and hasattr(module, "table"):
        return drawn, module.table(runs)
    return drawn, claims.text(judged) if judged else table.text(runs)


def publish(experiment: Experiment, scale: str, written: Sequence[Path]) -> Path:
    """Replace the results kept with the experiment by these files, also in its README; return their folder."""
    place = published(experiment, scale)
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    for file in written:
        shutil.copy2(file, place / file.name)
    embed(experiment.folder)
    return place


def embed(folder: Path) -> None:
    """Bring an experiment's README.md up to date with its results."""
    readme = folder / "README.md"
    if readme.is_file():
        readme.write_text(embedded(readme.read_text(encoding="utf-8"), folder), encoding="utf-8")


def embedded(text: str, folder: Path) -> str:
    """The text with what each file says between `<!-- results/… -->` and `<!-- end -->`, where there is that file."""

    def block(match: re.Match[str]) -> str:
        file = folder / match[2]
        return f"{match[1]}{file.read_text(encoding='utf-8')}{match[3]}" if file.is_file() else match[0]

    return _BLOCK.sub(block, text)
