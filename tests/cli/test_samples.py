"""What an experiment shows of its trained networks, and its results in its README."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from goldfish.cli import main
from goldfish.figures.load import read_runs
from goldfish.papers import experiment
from goldfish.papers.readme import embedded

EXPERIMENT = """\
base: {cell: rnn, task.length: 3, cell.hidden_size: 4, trainer.max_steps: 2, trainer.evaluation_size: 8,
       trainer.accelerator: cpu, seed: [0, 1]}
scales: {smoke: {}}
"""
SAMPLES = '''\
"""The first weight of each network."""

import pandas as pd


def samples(runs, network):
    """A row for each run."""
    found = [(f, network(f).weights.values[0, 0].item()) for f in runs["fingerprint"]]
    return pd.DataFrame(found, columns=["fingerprint", "weight"])
'''
FIGURE = '''\
"""What was sampled, as text."""


def draw(runs, curves, out):
    """One file."""
    lines = [f"{row['fingerprint'][:8]} {row['weight']:.9g}" for row in runs.attrs["samples"]]
    (out / "weights.md").write_text("\\n".join(lines) + "\\n")
    return [out / "weights.md"]
'''
README = "# Study\n\n<!-- results/smoke/weights.md -->\nold\n<!-- end -->\n\nlast\n"


def test_samples_are_a_table_that_figures_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from goldfish.tracking.store import Store

    folder = tmp_path / "experiments" / "study"
    folder.mkdir(parents=True)
    files = {"experiment.yaml": EXPERIMENT, "samples.py": SAMPLES, "figure.py": FIGURE, "README.md": README}
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["reproduce", "study", "--scale", "smoke", "--update-results"]) == 0
    out = folder / "results" / "smoke"
    found = pd.read_csv(out / "samples.csv").set_index("fingerprint")["weight"]
    assert list(found.index) == list(read_runs(out / "runs.csv")["fingerprint"])
    store = Store()
    for fingerprint, row in store.finished("study", found.index).items():
        weights = torch.load(store.run_artifacts(row.run_id) / "weights.pt", weights_only=True)
        assert next(iter(weights.values())).flatten()[0].item() == pytest.approx(found[fingerprint], rel=1e-6)
    digest = hashlib.sha256((out / "samples.csv").read_bytes()).hexdigest()
    assert json.loads((out / "manifest.json").read_text())["sha256"]["samples.csv"] == digest
    written = (out / "weights.md").read_text()
    assert len(written.splitlines()) == 2
    assert (folder / "README.md").read_text() == README.replace("old\n", written)


def test_a_block_without_its_file_stays(tmp_path: Path) -> None:
    assert embedded(README, tmp_path) == README


@pytest.mark.parametrize("name", sorted(experiment.folders()))
def test_readmes_say_what_the_results_say(name: str) -> None:
    folder = experiment.folder(name)
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert embedded(text, folder) == text
