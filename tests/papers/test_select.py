"""`goldfish reproduce` of an experiment whose trials select what the reported runs are trained with."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.papers.study import EXPERIMENT, content

from goldfish.cli import main
from goldfish.config.config import Config
from goldfish.papers import reproduce
from goldfish.sweep.progress import Report
from goldfish.training.outcome import Verdict

SELECT = """
select:
  candidates: {optimizer.lr: [0.01, 0.02]}
  seed: [100, 101]
  per: [cell, init]
  trials: {"*": {task.length: 3}}
"""
RUNS = {"rnn": {"pytorch": 0.02, "orthogonal": 0.01}, "gru": {"chrono": 0.02}}  # what validates best, by stand-in


class Trained:
    """Sweeps that take no time: a store, and a run_sweep that records what is not recorded yet."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.sweeps: list[list[Config]] = []  # what each call trained
        self.verdict: Callable[[Config], Verdict] = lambda config: "unsolved"
        self.interrupts = 0  # raise KeyboardInterrupt after this many further runs

    def run_sweep(self, configs: list[Config], **_: Any) -> Report:
        from goldfish.sweep.identity import fingerprint

        report = Report(len(configs), tuple(fingerprint(config) for config in configs))
        known = {(row["experiment_name"], row["fingerprint"]) for row in self.rows if row["outcome"] != "failed"}
        self.sweeps.append([])
        for config, digest in zip(configs, report.fingerprints, strict=True):
            if (config["tracking"]["experiment_name"], digest) in known:
                report.skipped += 1
                continue
            self.interrupts -= 1
            if self.interrupts == 0:
                raise KeyboardInterrupt
            self.sweeps[-1].append(config)
            self._record(config, digest, report)
        return report

    def _record(self, config: Config, digest: str, report: Report) -> None:
        outcome = self.verdict(config)
        report.verdicts[outcome] += 1
        report.failures += [("run", "boom")] if outcome == "failed" else []
        good = RUNS[config["cell"]["name"]][config["init"]["name"]] == config["optimizer"]["lr"]
        values = {"val/accuracy": 0.75 if good else 0.5, "test/accuracy": 0.25 if good else 1.0}
        row = reproduce.flatten(config) | ({} if outcome in ("failed", "diverged") else values)
        common = {
            "run_id": digest[:8],
            "reason": "",
            "sweep": "s",
            "source_hash": "h",
            "status": "FINISHED",
            "name": "",
        }
        counts = {"parameters": 9, "packed": 1, "seconds": 1.0, "steps": 4, "started": 1.0, "recall/chance": 0.125}
        where = {"experiment_name": config["tracking"]["experiment_name"], "fingerprint": digest, "outcome": outcome}
        self.rows.append(row | common | counts | where)

    def runs(self, name: str) -> pd.DataFrame:
        found = [row for row in self.rows if row["experiment_name"] == name]
        return pd.DataFrame(found or self.rows[:0], columns=None if found else ["fingerprint", "outcome"])

    def curves(self, run_ids: Any) -> pd.DataFrame:
        return pd.DataFrame(columns=["fingerprint", "quantity", "phase", "x", "value"])


@pytest.fixture
def selecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The experiment with a selection, in the working directory; its sweeps take no time."""
    place = tmp_path / "experiments" / "study"
    place.mkdir(parents=True)
    (place / "experiment.yaml").write_text(EXPERIMENT + SELECT)
    monkeypatch.chdir(tmp_path)
    trained = Trained()
    monkeypatch.setattr("goldfish.sweep.run.run_sweep", trained.run_sweep)
    monkeypatch.setattr("goldfish.tracking.store.Store", lambda: trained)
    return trained


def test_trials_select_what_is_reported(selecting: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "study", "--scale", "smoke", "--update-results"]) == 0
    trials, reported = selecting.sweeps
    assert {(c["seed"], c["task"]["length"], c["optimizer"]["lr"]) for c in trials} == {
        (seed, 3, rate) for seed in (100, 101) for rate in (0.01, 0.02)
    }
    assert {c["tracking"]["experiment_name"] for c in trials} == {"study-selection"}
    assert {(c["cell"]["name"], c["init"]["name"]): c["optimizer"]["lr"] for c in reported} == {
        (cell, init): rate for cell, inits in RUNS.items() for init, rate in inits.items()
    }
    assert {(c["seed"], c["task"]["length"]) for c in reported} == {(0, 5)}
    told = capsys.readouterr().out
    assert told.index("Trials, recorded as study-selection:\n12 runs: trained 12") == 0
    assert "Reported runs, each with what its trials select:\n3 runs: trained 3" in told
    assert "Selected per cell × init from optimizer.lr=0.01 (1×), optimizer.lr=0.02 (2×)" in told


def test_the_tables_of_a_selection(selecting: Trained) -> None:
    assert main(["reproduce", "study", "--scale", "smoke", "--update-results"]) == 0
    out = Path("outputs/study/smoke")
    runs, scores = pd.read_csv(out / "runs.csv"), pd.read_csv(out / "selection.csv")
    assert set(runs["seed"]) == {0}
    assert len(runs) == 3
    best = scores[scores["chosen"]]
    assert list(best.columns[:5]) == ["cell", "init", "candidate", "metric", "score"]
    assert {(row.cell, row.init): row.candidate for row in best.itertuples()} == {
        (cell, init): f"optimizer.lr={rate}" for cell, inits in RUNS.items() for init, rate in inits.items()
    }
    assert set(best["score"]) == {0.75}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["sha256"]["selection.csv"] == hashlib.sha256((out / "selection.csv").read_bytes()).hexdigest()
    assert content(Path("experiments/study/results/smoke")) == content(out)


def test_figures_of_a_selection_need_the_tables_alone(selecting: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "study", "--scale", "smoke", "--update-results"]) == 0
    shutil.rmtree("outputs")
    selecting.rows.clear()
    capsys.readouterr()
    assert main(["figures", "study", "--scale", "smoke"]) == 0
    assert "from optimizer.lr=0.01 (1×), optimizer.lr=0.02 (2×)" in capsys.readouterr().out
    assert len(selecting.sweeps) == 2


def test_a_selection_said_again_trains_nothing(selecting: Trained) -> None:
    assert main(["reproduce", "study", "--scale", "smoke"]) == 0
    before = content(Path("outputs"))
    assert main(["reproduce", "study", "--scale", "smoke"]) == 0
    assert selecting.sweeps[2:] == [[], []]
    assert content(Path("outputs")) == before


@pytest.mark.parametrize("done", [0, 5, 12, 14])
def test_an_interrupted_selection_goes_on(selecting: Trained, done: int) -> None:
    """Within the trials, between the stages, within the reported runs: every run is trained once."""
    selecting.interrupts = done + 1
    with pytest.raises(KeyboardInterrupt):
        reproduce.reproduce(["study"], scale="smoke", rerun="missing", update_results=False)
    assert sum(map(len, selecting.sweeps)) == done
    assert main(["reproduce", "study", "--scale", "smoke"]) == 0
    assert sum(map(len, selecting.sweeps)) == 15
    assert len({row["fingerprint"] for row in selecting.rows}) == 15
    assert len(pd.read_csv("outputs/study/smoke/runs.csv")) == 3


def test_a_failed_trial_is_missing_from_its_score(selecting: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    """The others choose, the exit code tells, and results are not updated; said again it is trained anew."""
    selecting.verdict = lambda config: "failed" if config["seed"] == 100 else "unsolved"
    assert main(["reproduce", "study", "--scale", "smoke", "--update-results"]) == 1
    scores = pd.read_csv("outputs/study/smoke/selection.csv")
    assert list(scores["failed"]) == [1] * 6
    assert set(scores[scores["chosen"]]["score"]) == {0.75}
    assert "goldfish: run: boom" in capsys.readouterr().err
    assert not Path("experiments/study/results").exists()
    selecting.verdict = lambda config: "unsolved"
    assert main(["reproduce", "study", "--scale", "smoke", "--update-results"]) == 0
    assert [len(sweep) for sweep in selecting.sweeps[2:]] == [6, 0]


def test_nothing_is_reported_where_nothing_can_be_selected(
    selecting: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    selecting.verdict = lambda config: "failed" if config["init"]["name"] == "chrono" else "unsolved"
    assert main(["reproduce", "study", "--scale", "smoke"]) == 1
    assert len(selecting.sweeps) == 1
    told = "goldfish: no trial of cell=gru init=chrono has val/accuracy, so nothing can be selected\n"
    assert told in capsys.readouterr().err
    assert not Path("outputs").exists()


def test_an_experiment_that_selects_no_longer_keeps_no_selection(selecting: Trained) -> None:
    assert main(["reproduce", "study", "--scale", "smoke"]) == 0
    Path("experiments/study/experiment.yaml").write_text(EXPERIMENT)
    assert main(["reproduce", "study", "--scale", "smoke"]) == 0
    assert not Path("outputs/study/smoke/selection.csv").exists()


def test_seeds_that_select_and_are_reported_are_refused(selecting: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("experiments/study/experiment.yaml")
    path.write_text(path.read_text().replace("seed: [100, 101]", "seed: [0, 101]"))
    assert main(["reproduce", "study", "--scale", "smoke"]) == 2
    told = capsys.readouterr().err
    assert told.endswith("select.seed=0: reported runs have it too; trials need seeds of their own\n")
    assert told.count("\n") == 1
    assert selecting.sweeps == []
