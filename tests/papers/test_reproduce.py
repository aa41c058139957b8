"""`goldfish reproduce`, `figures`, `status` and `export`: one small sweep is trained, all else follows from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests.papers.study import FILES, README, content

from goldfish.cli import main
from goldfish.config.config import resolve
from goldfish.papers import experiment, reproduce
from goldfish.sweep.progress import Report
from goldfish.tracking.store import Store

DRIVER = """
import sys
from goldfish.cli import main
code = main(sys.argv[1:])
print("heavy:", *sorted({"torch", "mlflow", "datasets", "pytorch_lightning"} & sys.modules.keys()))
sys.exit(code)
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-c", DRIVER, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A working directory in which the experiment was reproduced, and what that printed."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "experiments" / "study").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / "experiments" / "study" / name).write_text(text)
    done = run(folder, "reproduce", "study", "--scale", "smoke")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture
def study(first: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that working directory, and the current one."""
    shutil.copytree(first[0], tmp_path / "study")
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "study"


def test_a_sweep_ends_with_tables_figures_and_the_way_to_the_ui(first: tuple[Path, str]) -> None:
    folder, told = first
    out = folder / "outputs" / "study" / "smoke"
    assert sorted(content(out)) == [
        *("accuracy.png", "curves.parquet", "manifest.json", "runs.csv", "samples.csv", "weights.md")
    ]
    assert told.startswith("3 runs: trained 3 ")
    assert "recall: test accuracy and runs solved" in told
    assert f"Written: {Path('outputs/study/smoke/accuracy.png')}" in told
    assert "MLflow UI: goldfish ui study" in told


def test_the_table_has_a_row_for_each_run(first: tuple[Path, str]) -> None:
    out = first[0] / "outputs" / "study" / "smoke"
    runs, curves = pd.read_csv(out / "runs.csv"), pd.read_parquet(out / "curves.parquet")
    arms = [("gru", "chrono"), ("rnn", "orthogonal"), ("rnn", "pytorch")]
    assert list(zip(runs["cell"], runs["init"], strict=True)) == arms
    assert list(runs.columns[:9]) == [
        *("fingerprint", "outcome", "reason", "cell", "init", "task", "length", "seed", "hidden_size")
    ]
    assert set(runs["tracking.experiment_name"]) == {"study"}
    assert list(curves.columns) == ["fingerprint", "quantity", "phase", "x", "value"]
    assert list(dict.fromkeys(curves["fingerprint"])) == list(runs["fingerprint"])


def test_the_manifest_tells_where_the_table_comes_from(first: tuple[Path, str]) -> None:
    out = first[0] / "outputs" / "study" / "smoke"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["command"] == "goldfish reproduce study --scale smoke"
    assert sum(manifest["runs"].values()) == 3
    assert {"versions", "machine", "python"} <= manifest.keys()
    for name in ("runs.csv", "curves.parquet", "samples.csv"):
        assert manifest["sha256"][name] == hashlib.sha256((out / name).read_bytes()).hexdigest()


def test_samples_are_what_the_recorded_networks_give(study: Path) -> None:
    out = study / "outputs" / "study" / "smoke"
    samples = pd.read_csv(out / "samples.csv").set_index("fingerprint")["weight"]
    assert list(samples.index) == list(pd.read_csv(out / "runs.csv")["fingerprint"])
    store = Store()
    for fingerprint, row in store.finished("study", samples.index).items():
        weights = torch.load(store.run_artifacts(row.run_id) / "weights.pt", weights_only=True)
        assert next(iter(weights.values())).flatten()[0].item() == pytest.approx(samples[fingerprint], rel=1e-6)
    assert len((out / "weights.md").read_text().splitlines()) == 3


def test_said_again_it_only_reports_and_redraws(study: Path) -> None:
    out = study / "outputs" / "study" / "smoke"
    before = content(out)
    (study / "experiments" / "study" / "samples.py").unlink()  # which would look at the networks again
    done = run(study, "reproduce", "study", "--scale", "smoke", "--update-results")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 runs: trained 0 ")
    assert "3 recorded already" in done.stdout
    assert done.stdout.endswith("heavy:\n")  # neither torch nor MLflow
    for name in ("manifest.json", "samples.csv", "weights.md"):  # the first names the commit it was written at
        del before[name]
    assert before.items() <= content(out).items()
    assert content(study / "experiments" / "study" / "results" / "smoke") == content(out)
    weights = (out / "weights.md").read_text()
    assert (study / "experiments" / "study" / "README.md").read_text() == README.replace("old\n", weights)


def test_figures_need_the_table_alone(study: Path) -> None:
    out = study / "outputs" / "study" / "smoke"
    before = content(out)
    (out / "accuracy.png").unlink()
    (study / "mlflow.db").unlink()
    done = run(study, "figures", "study", "--scale", "smoke")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("heavy:\n")
    assert content(out) == before
    assert not (study / "mlflow.db").exists()


def test_figures_are_drawn_from_published_results_too(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, published = study / "outputs", study / "experiments" / "study" / "results" / "smoke"
    image = (out / "study" / "smoke" / "accuracy.png").read_bytes()
    shutil.copytree(out / "study" / "smoke", published)
    shutil.rmtree(out)
    (published / "accuracy.png").unlink()
    assert main(["figures", "study", "--scale", "smoke"]) == 0
    assert content(out)["study/smoke/accuracy.png"] == image
    assert not (published / "accuracy.png").exists()  # what is published changes with --update-results alone
    assert main(["figures", "study", "--scale", "smoke", "--update-results"]) == 0
    assert (published / "accuracy.png").read_bytes() == image
    assert main(["figures", "study"]) == 2
    told = "goldfish: --scale=cpu: study has no table yet; goldfish reproduce study --scale cpu\n"
    assert capsys.readouterr().err == told


def test_status_counts_and_tells_stale_runs(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines() -> list[list[str]]:
        assert main(["status"]) == 0
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    header, counts = lines()
    assert header[:5] == ["experiment", "solved", "unsolved", "diverged", "failed"]
    assert (counts[0], sum(map(int, counts[1:5])), header[-1], counts[-1]) == ("study", 3, "stale", "0")
    monkeypatch.setattr("goldfish.sweep.identity.source_hash", lambda config: config["cell"]["name"])
    assert lines()[1][-1] == "3"


def test_status_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["status"]) == 0
    assert capsys.readouterr().out.startswith("nothing is recorded in ")
    assert list(tmp_path.iterdir()) == []


def test_export_writes_every_run(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--to", "all.csv"]) == 0
    assert capsys.readouterr().out == "all.csv: 3 runs\n"
    assert main(["export", "--to", "all.parquet", "--experiment", "study"]) == 0
    assert sorted(pd.read_parquet("all.parquet")["fingerprint"]) == sorted(pd.read_csv("all.csv")["fingerprint"])
    assert main(["export", "--to", "none.csv", "--experiment", "other"]) == 2
    assert not Path("none.csv").exists()


@pytest.mark.slow
def test_hydras_other_launchers_find_the_same_runs(study: Path) -> None:
    """In processes of their own, joblib's and submitit's jobs compose each run anew: runs that are recorded already.

    One that is not recorded yet is trained there, too.
    """
    base = ["tracking.experiment_name=study", "task.length=5", "cell.hidden_size=4", "init=pytorch,orthogonal"]
    trainer = ["trainer.max_steps=4", "trainer.evaluation_size=8", "trainer.accelerator=cpu"]
    joblib = run(study, "train", "-m", *base, *trainer, "seed=0,5", "hydra/launcher=joblib")  # n_jobs: every core
    told = [joblib.stdout.count(word) for word in ("1 recorded already", "trained 1 (")]
    assert (joblib.returncode, told) == (0, [2, 2]), joblib.stderr
    submitit = run(study, "train", "-m", *base, *trainer, "hydra/launcher=submitit_local")
    logs = [path.read_text() for path in (study / "outputs" / "hydra").rglob("*_log.out")]
    assert (submitit.returncode, sum("1 recorded already" in log for log in logs)) == (0, 2), submitit.stderr


class Stored:
    """A store that holds these rows."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        common = {"run_id": "r", "experiment_name": "study", "sweep": "s", "source_hash": "h", "status": "FINISHED"}
        common |= {"cell": "rnn", "init": "pytorch", "task": "recall", "reason": "", "name": "n"}
        numbers = {"task.length": 40, "cell.hidden_size": 32, "parameters": 9, "packed": 1, "seconds": 1.0, "steps": 4}
        self.frame = pd.DataFrame([common | numbers | row for row in rows])

    def runs(self, name: str) -> pd.DataFrame:
        return self.frame

    def curves(self, run_ids: Any) -> pd.DataFrame:
        return pd.DataFrame(columns=["fingerprint", "quantity", "phase", "x", "value"])


def test_what_was_lost_is_a_row_too() -> None:
    """Newest result before newest failure; a run without a record is missing; other sweeps' runs stay out."""
    rows = [
        {"fingerprint": "a", "outcome": "solved", "started": 1.0, "seed": 0},
        {"fingerprint": "a", "outcome": "failed", "started": 2.0, "seed": 0},
        {"fingerprint": "b", "outcome": "failed", "started": 1.0, "seed": 1},
        {"fingerprint": "x", "outcome": "solved", "started": 1.0, "seed": 7},
        {"fingerprint": "c", "outcome": "", "started": 1.0, "seed": 2},
    ]
    configs = [resolve({"seed": seed}) for seed in range(3)]
    report = Report(3, ("a", "b", "c"))
    runs, _ = reproduce.tables(Stored(rows), "study", configs, report)  # type: ignore[arg-type]
    found = runs.set_index("fingerprint")
    assert dict(found["outcome"]) == {"a": "solved", "b": "failed", "c": "missing"}
    assert dict(found["seed"]) == {"a": 0, "b": 1, "c": 2}
    assert found.loc["c", "length"] == 40


def test_a_failed_run_gives_exit_code_1_and_no_results(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from goldfish.sweep.identity import fingerprint

    def failing(configs: Any, **_: Any) -> Report:
        report = Report(len(configs), tuple(fingerprint(config) for config in configs))
        report.verdicts["failed"] += 1
        report.failures.append(("rnn pytorch", "boom"))
        return report

    monkeypatch.setattr("goldfish.sweep.run.run_sweep", failing)
    assert main(["reproduce", "study", "--scale", "smoke", "--update-results"]) == 1
    told = capsys.readouterr()
    assert "goldfish: rnn pytorch: boom" in told.err
    assert "runs failed, so its results are not updated" in told.err
    assert "MLflow UI" in told.out
    assert not (study / "experiments" / "study" / "results").exists()
    (study / "mlflow.db").unlink()  # nothing at all is recorded
    assert main(["reproduce", "study", "--scale", "smoke"]) == 1
    assert "no run came to a result" in capsys.readouterr().err


def test_every_experiment_is_checked_before_any_starts(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = study / "experiments" / "other"
    other.mkdir()
    (other / "experiment.yaml").write_text("base: {task.length: 0}\nscales: {smoke: {}}\n")
    monkeypatch.setattr("goldfish.sweep.run.run_sweep", lambda *_, **__: pytest.fail("a sweep was started"))
    assert main(["reproduce", "study", "other", "--scale", "smoke"]) == 2
    assert "task.length=0: expected int ≥ 1" in capsys.readouterr().err
    assert experiment.folder("other") == other
