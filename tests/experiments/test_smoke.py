"""Every experiment runs from end to end at its smallest scale, and said again trains nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from goldfish.sweep import experiment
from goldfish.sweep.plan import plan

ROOT = Path(__file__).parents[2]


def goldfish(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-m", "goldfish", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    return done


MEASURED = [name for name in sorted(experiment.folders()) if experiment.read(name).measured]


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_experiment_from_end_to_end(name: str, tmp_path: Path) -> None:
    goldfish(tmp_path, "reproduce", name, "--scale", "smoke")
    out = tmp_path / "outputs" / name / "smoke"
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["command"] == f"goldfish reproduce {name} --scale smoke"
    assert manifest["runs"] == {"rows": len(pd.read_csv(out / "runs.csv"))}
    pictures = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".pdf", ".png", ".md")}
    assert len(pictures) >= 3
    goldfish(tmp_path, "figures", name, "--scale", "smoke")
    assert pictures == {path: (out / path).read_bytes() for path in pictures}
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("name", sorted(set(experiment.folders()) - set(MEASURED)))
def test_an_experiment_from_end_to_end(name: str, tmp_path: Path) -> None:
    first = goldfish(tmp_path, "reproduce", name, "--scale", "smoke")
    out = tmp_path / "outputs" / name / "smoke"
    runs = pd.read_csv(out / "runs.csv")
    assert f"{len(runs)} runs: trained {len(runs)}" in first.stdout
    assert runs["fingerprint"].is_unique
    assert set(runs["outcome"]) <= {"solved", "unsolved", "diverged"}
    _check_selection(name, out, runs)
    curves = pd.read_parquet(out / "curves.parquet")
    assert set(curves["fingerprint"]) == set(runs["fingerprint"])
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["command"] == f"goldfish reproduce {name} --scale smoke"
    pictures = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".pdf", ".png")}
    assert pictures
    again = goldfish(tmp_path, "reproduce", name, "--scale", "smoke")
    assert set(re.findall(r"trained (\d+)", again.stdout)) == {"0"}
    goldfish(tmp_path, "figures", name, "--scale", "smoke")
    assert pictures == {path: (out / path).read_bytes() for path in pictures}


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


def test_the_readmes_multirun_records_each_run_once(tmp_path: Path) -> None:
    command = "cell=rnn,lstm,gru init=pytorch,orthogonal task=adding task.length=20,40 seed=0,1 trainer.max_steps=50"
    assert "24 runs: trained 24 " in goldfish(tmp_path, "train", "-m", *command.split()).stdout
    assert "24 runs: trained 0 " in goldfish(tmp_path, "train", "-m", *command.split()).stdout
    goldfish(tmp_path, "export", "--to", "runs.csv")
    runs = pd.read_csv(tmp_path / "runs.csv")
    assert len(runs) == runs["fingerprint"].nunique() == 24
    assert runs.groupby(["cell", "init", "length", "seed"]).size().eq(1).all()
