"""Tables come back as they were written, and figures are redrawn from them alone."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tests.figures.sweeps import make_holed_sweep
from tests.papers.study import README

from goldfish.errors import ConfigError
from goldfish.papers import experiment, results
from goldfish.papers.experiment import Experiment

Tables = tuple[pd.DataFrame, pd.DataFrame]
FILES = ["table.md", "horizons.md"] + [
    f"figure{number}_{name}.{kind}"
    for number, name in ((1, "gradient_norm"), (2, "accuracy_by_length"), (3, "horizons"))
    for kind in ("pdf", "png")
]
REDRAW = """
import json, sys
from pathlib import Path
from goldfish.papers import experiment, results
files, table = results.draw(experiment.read("forgetting"), *results.read(Path(sys.argv[1])), Path(sys.argv[1]))
print(json.dumps({"files": [file.name for file in files], "table": table, "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module")
def holed() -> Tables:
    return make_holed_sweep()


@pytest.fixture
def folder(holed: Tables, tmp_path: Path) -> Path:
    """outputs/forgetting/cpu with the table of the holed sweep."""
    place = tmp_path / "outputs" / "forgetting" / "cpu"
    place.mkdir(parents=True)
    results.write(place, {"runs.csv": holed[0], "curves.parquet": holed[1]}, "made up")
    return place


def test_tables_come_back_as_they_were(holed: Tables, folder: Path):
    runs, curves = results.read(folder)
    pd.testing.assert_frame_equal(runs, holed[0], check_dtype=False, check_exact=True)
    pd.testing.assert_frame_equal(curves, holed[1][results.CURVE].reset_index(drop=True), check_exact=True)
    assert runs["length"].dtype == runs["seed"].dtype == "int64"
    assert curves["value"].isin([-math.inf]).sum() == 10


def test_names_that_look_like_numbers_stay_names_and_reasons_are_never_nan(tmp_path: Path):
    path = tmp_path / "runs.csv"
    path.write_text("fingerprint,reason,init,test/loss\n00012,,10,inf\n00013,loss became nan at step 3,1e2,0.1\n")
    runs = results.read_runs(path)
    assert runs["fingerprint"].tolist() == ["00012", "00013"]
    assert runs["init"].tolist() == ["10", "1e2"]
    assert runs["reason"].tolist() == ["", "loss became nan at step 3"]
    assert runs["test/loss"].tolist() == [math.inf, 0.1]


@pytest.mark.parametrize("below", ["outputs/forgetting/cpu", "experiments/forgetting/results/cpu"])
def test_a_table_that_is_not_there_names_the_command_that_makes_it(tmp_path: Path, below: str):
    said = r"manifest\.json: missing or damaged; `goldfish reproduce forgetting --scale cpu` makes it again"
    with pytest.raises(ConfigError, match=said):
        results.read(tmp_path / below)


def test_a_figure_file_that_draws_nothing_is_named(holed: Tables, tmp_path: Path):
    (tmp_path / "figure.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match=r"figure\.py: defines no draw\(runs, curves, out\)"):
        results.draw(Experiment("study", tmp_path), *holed, tmp_path)


def redraw(folder: Path, hash_seed: str) -> dict[str, list[str]]:
    """Redraw in a process of its own, with another order of sets and dictionaries of strings."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", REDRAW, str(folder)],
        env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_forgetting_is_redrawn_byte_for_byte_without_torch_or_mlflow(folder: Path, tmp_path: Path):
    said = redraw(folder, "1")
    assert said["files"] == FILES
    heavy = {name.partition(".")[0] for name in said["modules"]} & {"torch", "mlflow", "datasets", "sklearn", "hydra"}
    assert heavy == set()
    assert "recall: gradients at length 160" in said["table"]
    again = tmp_path / "again" / "forgetting" / "cpu"
    shutil.copytree(folder, again, ignore=shutil.ignore_patterns("*.pdf", "*.png"))
    runs, curves = results.read(folder)
    shuffled = runs.sample(frac=1, random_state=3)  # the order in which runs were recorded is no part of a figure
    results.write(again, {"runs.csv": shuffled, "curves.parquet": curves}, "made up")
    redraw(again, "2")
    for name in FILES:
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name
        assert (folder / name).stat().st_size > (500 if name == "horizons.md" else 10_000)


def test_a_block_without_its_file_stays(tmp_path: Path) -> None:
    assert results.embedded(README, tmp_path) == README


@pytest.mark.parametrize("name", sorted(experiment.folders()))
def test_readmes_say_what_the_results_say(name: str) -> None:
    folder = experiment.folder(name)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert results.embedded(text, folder) == text
