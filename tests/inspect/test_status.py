"""status and explain: every state of a run, told from store, claims, checkpoints and spool, without torch."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tracking.outcomes import make_outcome

from goldfish.cli import main
from goldfish.config.config import Config, resolve
from goldfish.errors import ConfigError
from goldfish.inspect import ledger, picture, status
from goldfish.sweep.claims import Claims
from goldfish.sweep.identity import fingerprint, source_hash
from goldfish.tracking.store import Store
from goldfish.training.state.checkpoint import Checkpoint

EXPERIMENT = """
base: {task: recall, task.length: 10, trainer.max_steps: 2}
grids: {gated: {cell: "rnn,lstm", seed: "range(4)"}}
scales: {cpu: {}, smoke: {base: {seed: 0}, grids: {gated: {seed: 0}}}}
"""
Put = Callable[..., str]


@pytest.fixture
def put(store: Store) -> Put:
    """Record an outcome; give its fingerprint. `source` is today's unless another is given."""

    def record(seed: int = 0, cell: str = "lstm", source: str | None = None, **options: Any) -> str:
        outcome = make_outcome(cell, "pytorch", 40, seed, **options)
        made = fingerprint(outcome.config)
        store.record(
            outcome,
            experiment_name=outcome.config["tracking"]["experiment_name"],
            sweep="s",
            fingerprint=made,
            source_hash=source or source_hash(outcome.config),
            provenance={},
        )
        return made

    return record


def tag(store: Store, made: str, state: str, **tags: str) -> None:
    """A run that came to nothing: an MLflow run in that state, with the settings of the fingerprint's other runs."""
    client = store.client
    run = client.create_run(store.experiment("study"), run_name="cut short")
    client.set_tag(run.info.run_id, "goldfish.fingerprint", made)
    for key, value in tags.items():
        client.set_tag(run.info.run_id, f"goldfish.{key}", value)
    if state != "RUNNING":
        client.set_terminated(run.info.run_id, state)


def of(seed: int, cell: str = "lstm") -> str:
    """The fingerprint of a run of the study."""
    return fingerprint(make_outcome(cell, "pytorch", 40, seed).config)


def take(store: Store, seeds: list[int], **changes: Any) -> Claims:
    """Claim runs, for another process where `changes` say so; they last as long as what is returned."""
    claims = Claims(store.state / "claims")
    label = "task=recall task.length=40 cell=lstm init=pytorch seed"
    wanted = [claims.of(("study", of(seed)), f"{label}={seed}", "s") for seed in seeds]
    claims.take([item._replace(**changes) for item in wanted])
    return claims


def words(store: Store) -> dict[int, str]:
    known = ledger.read(store)
    return {seed: known.state(("study", of(seed))).word for seed in range(10)}


def test_every_state(store: Store, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put(0, verdict="solved")
    put(1, verdict="unsolved")
    put(2, verdict="diverged", reason="loss became nan at step 3")
    put(3, verdict="failed", reason="ValueError: boom", source="0" * 64)
    put(4, verdict="solved", source="0" * 64)
    tag(store, of(5), "KILLED", interrupted="SIGTERM")
    kept = take(store, [6])
    take(store, [7])  # of a process that is gone
    monkeypatch.setattr(
        "goldfish.training.state.checkpoint.find", lambda folder: [Checkpoint(Path("x"), (f"study/{of(8)}",), 300)]
    )
    expected = [
        "solved",
        "unsolved",
        "diverged",
        "failed",
        "stale",
        *("interrupted", "running"),
        "interrupted",
        "interrupted",
        "missing",
    ]
    assert words(store) == dict(enumerate(expected))
    states = {seed: ledger.read(store).state(("study", of(seed))) for seed in range(9)}
    assert states[8].step == 300
    assert states[5].reason == "SIGTERM"
    assert states[7].reason == "its process is gone"
    assert states[6].claim is not None
    assert states[6].claim.pid == os.getpid()
    kept.close()


def test_the_newest_attempt_counts(store: Store, put: Put) -> None:
    tag(store, of(0), "RUNNING")  # of a process that was killed
    tag(store, of(1), "KILLED", interrupted="SIGTERM", superseded="true")
    tag(store, of(2), "KILLED", interrupted="SIGTERM", superseded="true")
    put(1, verdict="solved")
    put(3, verdict="solved", started=1.8e9)
    put(3, verdict="failed", reason="later", started=1.9e9)
    assert {seed: word for seed, word in words(store).items() if seed < 4} == {
        0: "interrupted",
        1: "solved",
        2: "missing",
        3: "solved",
    }


def test_what_waits_to_be_recorded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goldfish.tracking.spool.keys", lambda state: {("study", of(0))})
    assert words(store)[0] == "waiting"
    assert "waiting" in status.status()[0][0]


def test_counts_by_experiment(store: Store, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put(0, verdict="solved")
    put(1, verdict="solved", source="0" * 64)
    put(2, verdict="failed", reason="boom")
    put(0, verdict="unsolved", experiment_name="other")
    claims = take(store, [3, 4])
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {
        line.split()[0]: dict(zip(lines[0].split()[1:], map(int, line.split()[1:]), strict=True)) for line in lines[1:3]
    }
    none = dict.fromkeys(status.COLUMNS, 0)
    assert table == {
        "other": none | {"unsolved": 1},
        "study": none | {"solved": 2, "failed": 1, "running": 2, "stale": 1},
    }
    assert lines[3].startswith(f"study: running: 2 on {platform.node()}, process {os.getpid()}, for ")
    claims.close()


def test_nothing_recorded(store: Store) -> None:
    assert status.status() == ([], [f"nothing is recorded in {store.uri}"])


@pytest.fixture
def study(store: Store, tmp_path: Path) -> list[Config]:
    """An experiment of this folder, and the configurations of its scale cpu."""
    place = tmp_path / "experiments" / "study"
    place.mkdir(parents=True)
    (place / "experiment.yaml").write_text(EXPERIMENT)
    return [
        resolve(
            {
                "cell": cell,
                "seed": seed,
                "task": {"name": "recall", "length": 10},
                "trainer": {"max_steps": 2},
                "tracking": {"experiment_name": "study"},
            }
        )
        for cell in ("rnn", "lstm")
        for seed in range(4)
    ]


def test_a_picture(store: Store, study: list[Config], capsys: pytest.CaptureFixture[str]) -> None:
    for config, verdict in zip(study[:3], ("solved", "unsolved", "failed"), strict=True):
        outcome = make_outcome(verdict=verdict, reason="ValueError: boom" if verdict == "failed" else "")  # type: ignore[arg-type]
        outcome.config = config
        made, source = fingerprint(config), source_hash(config)
        store.record(outcome, experiment_name="study", sweep="s", fingerprint=made, source_hash=source, provenance={})
    claims = Claims(store.state / "claims")
    claims.take([claims.of(("study", fingerprint(study[4])), "seed=0", "s")])
    assert main(["status", "study"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "study --scale cpu: 8 runs (1 solved, 1 unsolved, 1 running, 1 failed, 4 missing)",
        "  recall T=10 rnn·pytorch   #-x.",
        "  recall T=10 lstm·pytorch  >...",
        "  (# solved, - unsolved, > running, x failed, . missing; a mark is a seed)",
    ]
    assert lines[4].startswith(f"running: 1 on {platform.node()}, process {os.getpid()}, for ")
    assert lines[5:] == [
        "failed: 1 × ValueError: boom",
        "goldfish reproduce study --scale cpu trains 5: 1 failed, 4 missing",
    ]
    assert main(["status", "study", "--scale", "smoke"]) == 0
    assert capsys.readouterr().out.startswith("study --scale smoke: 2 runs (1 solved, 1 running)")


def test_a_picture_of_what_is_recorded(store: Store, put: Put) -> None:
    put(0, verdict="solved")
    put(2, verdict="unsolved")
    put(0, cell="gru", verdict="solved")
    claims = take(store, [1])
    assert status.of_experiment("study", "cpu")[:4] == [
        "study, as recorded: 4 runs (2 solved, 1 unsolved, 1 running)",
        "  recall T=40 gru·pytorch   #",
        "  recall T=40 lstm·pytorch  #>-",
        "  (# solved, - unsolved, > running; a mark is a seed)",
    ]
    claims.close()


def test_no_such_experiment(store: Store, put: Put) -> None:
    put(0)
    with pytest.raises(ConfigError, match=r"^studdy: no such experiment; did you mean 'study'"):
        status.of_experiment("studdy", "cpu")


def settings(cell: str, seed: int, **more: str) -> dict[str, str]:
    return {"task": "recall", "task.length": "10", "cell": cell, "init": "pytorch", "seed": str(seed), **more}


def test_groups_split_by_what_varies() -> None:
    runs = [
        (settings("rnn", seed, **{"optimizer.lr": lr, "trainer.accelerator": lr}), ledger.State(word))
        for seed in (1, 0)
        for lr, word in (("0.1", "solved"), ("0.2", "missing"))
    ]
    assert picture.draw(runs)[:2] == [
        "  recall T=10 rnn·pytorch optimizer.lr=0.1  ##",
        "  recall T=10 rnn·pytorch optimizer.lr=0.2  ..",
    ]


def test_a_large_sweep_is_folded() -> None:
    """A thousand runs stay a picture: groups that are alike are one line."""
    runs = [
        (settings(f"cell{group}", seed), ledger.State("missing" if group > 60 else "solved"))
        for group in range(100)
        for seed in range(10)
    ]
    runs[15] = (runs[15][0], ledger.State("failed"))
    assert picture.draw(runs) == [
        "  recall T=10 cell1·pytorch  #####x####",
        "  60 groups alike: 600 solved",
        "  39 groups alike: 390 missing",
        "  (# solved, x failed; a mark is a seed)",
    ]


def test_many_seeds_are_counted() -> None:
    runs = [(settings("rnn", seed), ledger.State("solved" if seed else "missing")) for seed in range(100)]
    assert picture.draw(runs) == ["  recall T=10 rnn·pytorch  99 solved, 1 missing"]


def test_a_dead_claim_of_another_host_stands(store: Store) -> None:
    take(store, [0])
    take(store, [1], host="elsewhere")  # of which nothing is known
    assert [words(store)[seed] for seed in (0, 1)] == ["interrupted", "running"]
    assert "1 on elsewhere" in status.status()[1][0]


def test_neither_torch_nor_mlflow_is_imported(store: Store, put: Put, study: list[Config]) -> None:
    put(0, verdict="solved")
    code = (
        "import sys; from goldfish.cli import main\n"
        "codes = [main(words) for words in (['status'], ['status', 'study'], ['explain', 'seed=1'], ['doctor'])]\n"
        "print(codes, sorted({'torch', 'mlflow', 'pytorch_lightning', 'datasets'} & sys.modules.keys()))"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    print(f"{time.monotonic() - started:.2f} s")
    assert done.stdout.splitlines()[-1] == "[0, 0, 0, 0] []"
