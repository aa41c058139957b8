"""Every experiment runs from end to end at its smallest scale, and said again trains nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from goldfish.cli import main
from goldfish.papers import experiment
from goldfish.papers.plan import plan

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def goldfish(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "goldfish", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    return done


MEASURED = [name for name in sorted(experiment.folders()) if experiment.read(name).has("measure")]
SWEPT = sorted(set(experiment.folders()) - set(MEASURED))
PICTURES = (".pdf", ".png")


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_experiment_from_end_to_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goldfish(tmp_path, "reproduce", name, "--scale", "smoke")
    out = tmp_path / "outputs" / name / "smoke"
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["command"] == f"goldfish reproduce {name} --scale smoke"
    assert manifest["runs"] == {"rows": len(pd.read_csv(out / "runs.csv"))}
    pictures = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (*PICTURES, ".md")}
    assert len(pictures) >= 3
    monkeypatch.chdir(tmp_path)
    assert main(["figures", name, "--scale", "smoke"]) == 0
    assert pictures == {path: (out / path).read_bytes() for path in pictures}
    assert not (tmp_path / "mlflow.db").exists()


class Swept(NamedTuple):
    """All experiments in one folder: reproduced, and reproduced once more."""

    folder: Path
    told: dict[str, str]  # by experiment, while it was trained
    told_again: str
    pictures: dict[Path, bytes]  # after the first time


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """One process for each step: starting one takes longer than most of the sweeps."""
    folder = tmp_path_factory.mktemp("smoke")
    first = goldfish(folder, "reproduce", *SWEPT, "--scale", "smoke").stdout
    texts = re.split(r"^MLflow UI: goldfish ui (\S+)$", first, flags=re.MULTILINE)
    pictures = {path: path.read_bytes() for path in folder.rglob("outputs/*/smoke/*") if path.suffix in PICTURES}
    again = goldfish(folder, "reproduce", *SWEPT, "--scale", "smoke").stdout  # draws again, too
    return Swept(folder, dict(zip(texts[1::2], texts[0::2], strict=False)), again, pictures)


@pytest.mark.parametrize("name", SWEPT)
def test_an_experiment_from_end_to_end(name: str, swept: Swept) -> None:
    out = swept.folder / "outputs" / name / "smoke"
    runs = pd.read_csv(out / "runs.csv")
    assert f"{len(runs)} runs: trained {len(runs)}" in swept.told[name]
    assert runs["fingerprint"].is_unique
    assert set(runs["outcome"]) <= {"solved", "unsolved", "diverged"}
    _check_selection(name, out, runs)
    curves = pd.read_parquet(out / "curves.parquet")
    assert set(curves["fingerprint"]) == set(runs["fingerprint"])
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["command"] == f"goldfish reproduce {name} --scale smoke"


def test_said_again_it_trains_nothing(swept: Swept) -> None:
    assert set(re.findall(r"trained (\d+)", swept.told_again)) == {"0"}


@pytest.mark.parametrize("name", SWEPT)
def test_figures_drawn_again_are_the_same(name: str, swept: Swept) -> None:
    own = {path: content for path, content in swept.pictures.items() if path.parent.parent.name == name}
    assert own
    assert own == {path: path.read_bytes() for path in own}


def _check_selection(name: str, out: Path, runs: pd.DataFrame) -> None:
    """Every run has what its group's trials chose, and none of their seeds."""
    planned = plan(experiment.read(name), "smoke")
    if planned.trials is None:
        assert not (out / "selection.csv").exists()
        return
    scores = pd.read_csv(out / "selection.csv")
    assert len(scores) == len(planned.trials.groups) * len(planned.trials.candidates)
    best = scores[scores["chosen"]].set_index(planned.trials.per)["candidate"]
    for row in runs.to_dict("records"):
        for setting in best[tuple(row[key] for key in planned.trials.per)].split(" "):
            key, _, value = setting.partition("=")
            assert row[key] == float(value)
    assert not {trial.config["seed"] for trial in planned.trials.runs} & set(runs["seed"])


def test_the_readmes_multirun_records_each_run_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "cell=rnn,lstm,gru init=pytorch,orthogonal task=adding task.length=20,40 seed=0,1 trainer.max_steps=50"
    assert "24 runs: trained 24 " in goldfish(tmp_path, "train", "-m", *command.split()).stdout
    assert "24 runs: trained 0 " in goldfish(tmp_path, "train", "-m", *command.split()).stdout
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["export", "--to", "runs.csv"]) == 0
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert len(runs) == runs["fingerprint"].nunique() == 24
    assert runs.groupby(["cell", "init", "length", "seed"]).size().eq(1).all()
