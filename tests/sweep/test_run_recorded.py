"""A sweep with the real trainer and store: trained in packs, recorded once, and the parent imports no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from goldfish.config.config import Config, resolve
from goldfish.data.sources import describe_test_set
from goldfish.sweep.identity import fingerprint
from goldfish.tracking.store import Store
from goldfish.training.train import train

SCRIPT = """
import json, sys
from goldfish.config.config import resolve
from goldfish.sweep.run import run_sweep
from goldfish.tracking.store import Store
configs = [resolve(values) for values in json.loads(sys.argv[1])]
report = run_sweep(configs, store=Store(), sweep_name="study", rerun=sys.argv[2], workers=1)
torch = "torch" in sys.modules
print(json.dumps([report.done, report.skipped, report.failures, report.unrecorded, report.stale, torch]))
"""


def configs() -> list[Config]:
    shared = {"cell": {"name": "gru", "hidden_size": 5}, "task": {"name": "recall", "length": 4}}
    trainer = {"max_steps": 6, "batch_size": 4, "validate_every": 3, "evaluation_size": 8, "accelerator": "cpu"}
    inits: list[dict[str, Any]] = [{"name": "pytorch"}, {"name": "orthogonal", "gain": 0.9}]
    return [resolve({**shared, "trainer": trainer, "init": init, "seed": seed}) for init in inits for seed in (0, 1)]


def sweep(folder: Path, *, rerun: str = "missing") -> list[Any]:
    command = [sys.executable, "-c", SCRIPT, json.dumps([config.plain() for config in configs()]), rerun]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_what_is_recorded_is_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert sweep(tmp_path) == [4, 0, [], [], 0, False]
    assert sweep(tmp_path) == [0, 4, [], [], 0, False]
    store = Store(root=tmp_path)
    runs = store.runs("runs").set_index("fingerprint")
    assert len(runs) == 4
    assert set(runs["sweep"]) == {"study"}
    described = describe_test_set(configs()[0])
    for config in configs():
        (alone,) = train([config])  # in this process, in a pack of its own: the same to the last bit
        row = runs.loc[fingerprint(config)]
        assert row["outcome"] == alone.verdict
        assert row["packed"] == 4
        for name in ("test/loss", "val/loss", "gradient/decay_rate", "gradient/decay_rate_before"):
            assert row[name] == alone.metrics[name]
        inputs = store.client.get_run(row["run_id"]).inputs
        assert inputs is not None
        (used,) = inputs.dataset_inputs
        assert (used.dataset.name, used.dataset.digest) == (described["name"], described["digest"])
        artifact = next((tmp_path / "mlruns").rglob(f"{row['run_id']}/artifacts/weights.pt"))
        weights = torch.load(artifact, weights_only=True)
        assert weights.keys() == alone.state_dict.keys()
        assert all(torch.equal(weights[name], alone.state_dict[name]) for name in weights)
