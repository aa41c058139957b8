"""Ten secrets in the environment: none of them reaches the store, an artifact or anything that is printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "HF_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "WANDB_API_KEY",
    "GITHUB_TOKEN",
    "DATABASE_URL",
    "SLURM_JWT",
    "MY_PASSWORD",
)
QUICK = ["trainer.max_steps=2", "trainer.evaluation_size=4", "task.length=4", "cell.hidden_size=4"]


@pytest.mark.slow
def test_no_secret_of_the_environment_is_kept_or_printed(tmp_path: Path) -> None:
    secrets = {name: f"planted-{index}-s3cr3t" for index, name in enumerate(NAMES)}
    secrets["DATABASE_URL"] = "postgresql://me:planted-7-s3cr3t@db/x"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | secrets
    command = [sys.executable, "-m", "goldfish", "train", *QUICK, "trainer.accelerator=cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    texts = {"output": (done.stdout + done.stderr).encode()}
    texts |= {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.endswith("mlflow.db") for path in texts)
    assert any(path.endswith("weights.pt") for path in texts)
    found = [(path, index) for path, text in texts.items() for index in range(10) if b"planted-%d-" % index in text]
    assert found == []


def test_the_password_in_a_servers_address_is_not_shown(tmp_path: Path) -> None:
    environment = os.environ | {"MLFLOW_TRACKING_URI": "http://me:planted-0-s3cr3t@127.0.0.1:9"}
    command = [sys.executable, "-m", "goldfish", "train", *QUICK]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "does not answer" in done.stderr
    assert "planted" not in done.stdout + done.stderr
