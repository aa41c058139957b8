"""A small experiment: how its sweep and its figure are written down."""

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
FIGURE = '''\
"""Accuracy against gradient horizon."""

from matplotlib.figure import Figure


def draw(runs, curves, out):
    """One figure."""
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot(runs["gradient/horizon"], runs["test/accuracy"], "o")
    figure.savefig(out / "accuracy.png", metadata={"Software": None})
    assert set(curves["fingerprint"]) == set(runs["fingerprint"])
    return [out / "accuracy.png"]
'''


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
