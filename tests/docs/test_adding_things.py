"""The pages on adding things do what they say: their code is added and run."""

from __future__ import annotations

import csv
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from goldfish.config import registry
from goldfish.config.config import resolve
from goldfish.errors import ConfigError
from goldfish.training.evaluate import Measurements, Probed
from goldfish.training.module import PackModule

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```\w+ (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ["trainer.max_steps=2", "trainer.evaluation_size=8", "task.length=6"]


def blocks(page: str) -> dict[str, str]:
    """The page's files: name → text."""
    return dict(BLOCK.findall((DOCS / page).read_text(encoding="utf-8")))


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = str(folder)
    command = [sys.executable, "-m", "goldfish", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def install(folder: Path, entry: str, module: str, text: str) -> None:
    """What a package with one entry point looks like on disk."""
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    info = folder / "addition-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: addition\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[goldfish]\n{entry} = {module}\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "entry", "overrides"),
    [
        ("adding_a_cell.md", "cell.mgu", ["cell=mgu", "cell.hidden_size=5"]),
        pytest.param(
            "adding_an_initialisation.md",
            "init.scaled_identity",
            ["cell=gru", "init=scaled_identity", "init.scale=0.5"],
            marks=pytest.mark.slow,
        ),
        pytest.param("adding_a_task.md", "task.first_sign", ["task=first_sign"], marks=pytest.mark.slow),
    ],
)
def test_a_page_adds_a_thing_that_trains(tmp_path: Path, page: str, entry: str, overrides: list[str]) -> None:
    ((name, text),) = blocks(page).items()
    install(tmp_path, entry, Path(name).stem, text)
    done = run(tmp_path, "train", *overrides, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "1 " in run(tmp_path, "status").stdout
    bounds = run(tmp_path, "train", *overrides[:-1], f"{entry.partition('.')[0]}.nonsense=1")
    assert bounds.returncode == 2


@pytest.mark.slow
def test_a_page_adds_a_probe_that_is_measured(tmp_path: Path) -> None:
    ((name, text),) = blocks("measuring.md").items()
    install(tmp_path, "probe.first_gate", Path(name).stem, text)
    chosen = ["probe=[first_gate]", "probe.first_gate.power=2", "trainer.probe_at=[before,after,1]"]
    done = run(tmp_path, "train", "cell=rnn", "init=identity", "init.scale=0.5", *chosen, *QUICK)
    assert done.returncode == 0, done.stderr
    run(tmp_path, "export", "--to", "runs.csv")
    header, row = csv.reader((tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines())
    recorded = dict(zip(header, row, strict=True))
    assert (recorded["probe"], recorded["trainer.probe_at"]) == ('["first_gate"]', '["before", "after", 1]')
    assert recorded["probe.first_gate.power"] == "2.0"
    assert float(recorded["first_gate/radius_before"]) == pytest.approx(0.25, rel=1e-6)
    assert {"first_gate/radius", "first_gate/radius_step1", "test/accuracy"} <= set(header)
    assert not {"rho/h", "recall/horizon", "gradient/horizon", "first_gate/radius_half"} & set(header)
    told = run(tmp_path, "explain", recorded["fingerprint"]).stdout
    assert "another run today" not in told
    assert "does not take" not in told
    refused = run(tmp_path, "train", "probe=[first_gate]", "probe.first_gate.power=0", *QUICK)
    assert (refused.returncode, refused.stderr.strip()) == (
        2,
        "goldfish: probe.first_gate.power=0.0: expected float > 0",
    )


def test_a_page_adds_a_callback_and_a_logger(tmp_path: Path) -> None:
    """On a pack of two runs: every hook at every step, every run's numbers in the logger's file."""
    callback, logger = blocks("adding_a_callback.md").items()
    install(tmp_path, f"callback.{Path(callback[0]).stem}", Path(callback[0]).stem, callback[1])
    (tmp_path / logger[0]).write_text(logger[1], encoding="utf-8")
    with (tmp_path / "addition-1.0.dist-info" / "entry_points.txt").open("a", encoding="utf-8") as file:
        file.write(f"logger.{Path(logger[0]).stem} = {Path(logger[0]).stem}\n")
    chosen = ["trainer.callbacks=[step_counter]", "trainer.loggers=[csv_files]"]
    steps = ["trainer.max_steps=5", "trainer.validate_every=2", "trainer.evaluation_size=8", "task.length=6"]
    done = run(tmp_path, "train", "-m", "seed=0,1", *chosen, *steps, "hydra.launcher.workers=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "steps.txt").read_text(encoding="utf-8").split() == ["5", "steps,", "3", "validations"]
    (table,) = (tmp_path / "logs").rglob("metrics.csv")
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert [row["step"] for row in rows] == ["1", "3", "4"]  # Lightning counts from 0
    for row in rows:
        pair = [float(row["val/loss/0"]), float(row["val/loss/1"])]
        assert pair[0] != pair[1]
        assert float(row["val/loss"]) == pytest.approx(sum(pair) / 2, rel=1e-6)
    run(tmp_path, "export", "--to", "runs.csv")
    (first, second) = csv.DictReader((tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines())
    assert sorted([float(first["val/loss"]), float(second["val/loss"])]) == pytest.approx(sorted(pair), rel=1e-6)
    assert first["trainer.callbacks"] == '["step_counter"]'
    refused = run(tmp_path, "train", "trainer.callbacks=[step_count]", *QUICK)
    told = "did you mean 'step_counter'? (choices: step_counter)"
    assert (refused.returncode, refused.stderr.strip()) == (2, f"goldfish: trainer.callbacks=step_count: {told}")


def tasks() -> list[str | dict[str, Any]]:
    """Every task, as far as it needs no data from elsewhere."""
    with_words: list[str | dict[str, Any]] = [
        {"name": "translation", "dataset": "numerals"},
        {"name": "characters", "dataset": "python_docs", "length": 12},
    ]
    hub = {"HUB_ID", "HUB_IDS"}
    return with_words + [
        name for name in registry.names("task") if not hub & registry.signature("task", name).constants.keys()
    ]


@pytest.mark.parametrize("task", tasks(), ids=lambda task: task if isinstance(task, str) else task["name"])
def test_every_probe_measures_every_model_on_every_task(task: Any) -> None:
    measured = 0
    for model in registry.names("model"):
        if registry.signature("model", model).constants.get("FITTED"):
            continue  # no network, and no moments of training
        try:
            config = resolve({"task": task, "model": model, "probe": registry.names("probe")})
        except ConfigError:
            continue  # the model does not suit the task
        given = {key: value for key, value in config["task"].items() if key != "name"}
        made = registry.load("task", config["task"]["name"])(**given)
        module = PackModule([config] * 2, made, torch.float32, torch.device("cpu"))
        measurements = Measurements.of(2)
        measurements.take(Probed(module, module.data), "before")
        for row in measurements.rows:
            kinds = {name.partition("/")[0] for name in row.metrics}
            one = {"mean_field"} if len(module.recurrents) == 1 else set()  # in an encoder-decoder there are two
            every = {"gradient", "rho", "jacobian", "lyapunov", "fisher_memory"}
            assert kinds == (every | one if module.recurrents else set())
            assert all(name.endswith("_before") and math.isfinite(value) for name, value in row.metrics.items())
            assert {point.phase for point in row.curves} <= {"before"}
            measured += len(row.metrics)
    assert measured >= 2  # model=recurrent at least


def test_the_readmes_notebook_runs() -> None:
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), found)
    assert found["flow"].log2_norm["h"].shape == (4, 1, 16, 1000)
    assert found["flow"].log2_norm["h"].isfinite().all()
    assert len(found["outcomes"]) == 4


@pytest.mark.slow
def test_a_page_adds_an_experiment_that_is_reproduced(tmp_path: Path) -> None:
    for name, text in blocks("adding_an_experiment.md").items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    with (tmp_path / "experiments" / "short_recall" / "experiment.yaml").open("a", encoding="utf-8") as file:
        file.write('solved: {val/loss: "< 100"}\n')  # which every run meets at its first validation
    done = run(tmp_path, "reproduce", "short_recall", "--scale", "smoke")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "outputs" / "short_recall" / "smoke"
    assert {"runs.csv", "curves.parquet", "manifest.json", "accuracy.pdf", "accuracy.png"} <= {
        path.name for path in out.iterdir()
    }
    rows = list(csv.DictReader((out / "runs.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 16
    assert {(row["outcome"], float(row["time_to_solve"])) for row in rows} == {("solved", 4.0)}


@pytest.mark.filterwarnings("ignore:.*tensorboardX.*")
def test_the_page_on_watching_runs() -> None:
    code = re.findall(
        r"^```python\n(.*?)^```$", (DOCS / "watch.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    found: dict[str, Any] = {}
    exec(compile("\n".join(code), "watch.md", "exec"), found)
    assert found["norms"].shape == (4, 16, 200)
    assert len(found["table"]) == 4 * 16 * 200 * 3
    assert [(row["layer"], row["direction"]) for row in found["rows"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
