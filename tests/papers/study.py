"""A small experiment: how its sweep, its samples, its figures and its README are written down."""

from __future__ import annotations

from pathlib import Path

EXPERIMENT = """\
# goldfish reproduce study
base: {task.length: 5, cell.hidden_size: 4, trainer.max_steps: 4, trainer.evaluation_size: 8, trainer.accelerator: cpu}
grids:
  rnn: {cell: rnn, init: "pytorch,orthogonal"}
  gated: {cell: gru, init: chrono}
scales:
  smoke: {base: {seed: 0}}
  cpu: {base: {seed: [0, 1, 2, 3]}}
  gpu: {}
"""
SAMPLES = '''\
"""The first weight of each network."""

import pandas as pd


def samples(runs, network):
    """A row for each run."""
    rows = [(name, network(name).weights.values[0, 0].item()) for name in runs["fingerprint"]]
    return pd.DataFrame(rows, columns=["fingerprint", "weight"])
'''
FIGURE = '''\
"""Accuracy against gradient horizon, and what was sampled, as text."""

from matplotlib.figure import Figure


def draw(runs, curves, out):
    """One figure and one text."""
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot(runs["gradient/horizon"], runs["test/accuracy"], "o")
    figure.savefig(out / "accuracy.png", metadata={"Software": None})
    assert set(curves["fingerprint"]) == set(runs["fingerprint"])
    lines = [f"{row['fingerprint'][:8]} {row['weight']:.9g}" for row in runs.attrs.get("samples", ())]
    (out / "weights.md").write_text("\\n".join(lines) + "\\n")
    return [out / "accuracy.png", out / "weights.md"]
'''
README = "# Study\n\n<!-- results/smoke/weights.md -->\nold\n<!-- end -->\n\nlast\n"
FILES = {"experiment.yaml": EXPERIMENT, "samples.py": SAMPLES, "figure.py": FIGURE, "README.md": README}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
