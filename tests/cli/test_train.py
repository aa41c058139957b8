"""`goldfish train`: what Hydra's command line comes to, with a stand-in for training."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from goldfish.cli import main
from goldfish.composing import overrides
from goldfish.config.config import resolve

EXAMPLE = "cell=rnn,lstm,gru init=pytorch,orthogonal task=adding task.length=20,40 seed=0,1 trainer.max_steps=50"


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_one_run(here, trained) -> None:
    assert main(["train", "cell=lstm", "init=chrono", "task.length=${cell.hidden_size}", "seed=3"]) == 0
    assert trained.configs == [resolve({"cell": "lstm", "init": "chrono", "task": {"length": 32}, "seed": 3})]
    assert left(here) == []  # Hydra leaves no folder of its own


def test_options_and_overrides_in_any_order(trained) -> None:
    assert main(["train", "seed=1,2", "--multirun", "cell=gru"]) == 0
    assert trained.configs == [resolve({"cell": "gru", "seed": seed}) for seed in (1, 2)]


def test_every_combination_is_one_sweep(here, trained) -> None:
    assert main(["train", "-m", *EXAMPLE.split()]) == 0
    ((configs, options),) = trained.sweeps
    points = itertools.product(("rnn", "lstm", "gru"), ("pytorch", "orthogonal"), (20, 40), (0, 1))
    assert configs == [
        resolve(
            {"cell": c, "init": i, "task": {"name": "adding", "length": n}, "seed": s, "trainer": {"max_steps": 50}}
        )
        for c, i, n, s in points
    ]
    assert options == {
        "rerun": "missing",
        "workers": None,
        "pack_size": "auto",
        "checkpoint_minutes": 1.0,
        "checkpoint_steps": None,
    }
    assert left(here) == []


@pytest.mark.parametrize("words", [["optimizer.lr=0.0123"], ["-m", "optimizer.lr=0.0123,0.0456", "seed=0,1,2"]])
def test_a_value_is_read_once_and_checked_once_for_each_run(
    trained, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """From the command line to the sweep no value becomes a text again, and no configuration is resolved twice."""
    parsed: list[str] = []
    resolved: list[Any] = []
    parse = OverridesParser.parse_overrides

    def parsing(self: OverridesParser, overrides: list[str]) -> Any:
        parsed.extend(line for line in overrides if "lr=" in line)
        return parse(self, overrides)

    def resolving(values: Any) -> Any:
        resolved.append(values["optimizer"]["lr"])
        return resolve(values)

    overrides.parse.cache_clear()
    monkeypatch.setattr(OverridesParser, "parse_overrides", parsing)
    monkeypatch.setattr("goldfish.config.config.resolve", resolving)
    assert main(["train", *words]) == 0
    assert parsed == [word for word in words if "lr=" in word]
    assert len(resolved) == len(trained.configs)
    assert all(isinstance(rate, float) for rate in resolved)


def test_a_fixed_key_may_belong_to_a_choice_that_is_swept(trained) -> None:
    """Hydra alone refuses: the default choice, which no run has, lacks the key."""
    assert main(["train", "-m", "init=orthogonal,kaiming", "init.gain=2"]) == 0
    assert trained.configs == [resolve({"init": {"name": name, "gain": 2}}) for name in ("orthogonal", "kaiming")]
    assert main(["train", "-m", "task=temporal_order", "task.symbols=2,3", "tracking.experiment_name='a, b'"]) == 0
    assert {config["tracking"]["experiment_name"] for config in trained.sweeps[1][0]} == {"a, b"}


def test_grids_in_a_file(here, trained) -> None:
    """A union of grids beside Hydra's own params, in somebody's own config folder."""
    (here / "mine" / "study").mkdir(parents=True)
    (here / "mine" / "study" / "headline.yaml").write_text(
        "# @package _global_\n"
        "hydra:\n  sweeper:\n    params: {seed: '0,1', task.length: 10}\n    grids:\n"
        "      rnn: {cell: rnn, init: 'pytorch,orthogonal'}\n      gated: {cell: 'lstm,gru', init: chrono}\n"
    )
    command = ["train", "-m", "--config-dir", "mine", "+study=headline"]
    assert main(command) == 0
    arms = [("rnn", "pytorch"), ("rnn", "orthogonal"), ("lstm", "chrono"), ("gru", "chrono")]
    expected = [resolve({"cell": c, "init": i, "task": {"length": 10}, "seed": s}) for c, i in arms for s in (0, 1)]
    assert len(trained.configs) == 8
    assert all(config in trained.configs for config in expected)
    assert main([*command, "seed=7", "init=chrono"]) == 0
    assert trained.sweeps[1][0] == [
        resolve({"cell": cell, "init": "chrono", "task": {"length": 10}, "seed": 7}) for cell in ("lstm", "gru")
    ]


def test_the_launchers_options_arrive(trained) -> None:
    given = {"workers": 1, "pack_size": 4, "rerun": "stale", "checkpoint_minutes": None, "checkpoint_steps": 50}
    launcher = [f"hydra.launcher.{name}={'null' if value is None else value}" for name, value in given.items()]
    assert main(["train", "-m", "seed=0,1", *launcher]) == 0
    assert trained.sweeps[0][1] == given
    assert main(["train", "hydra.launcher.rerun=all"]) == 0
    assert trained.sweeps[1][1]["rerun"] == "all"


def test_hydras_own_mode_is_honoured(trained) -> None:
    assert main(["train", "hydra.mode=MULTIRUN", "seed=0,1"]) == 0
    assert len(trained.sweeps[0][0]) == 2


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_other_launchers_train_run_by_run(here, trained, launcher: str) -> None:
    one_process = ["hydra.launcher.n_jobs=1"] if launcher == "joblib" else []
    assert main(["train", "-m", f"hydra/launcher={launcher}", *one_process, "seed=0,1", "cell=lstm"]) == 0
    assert trained.configs == [resolve({"cell": "lstm", "seed": seed}) for seed in (0, 1)]
    assert [len(configs) for configs, _ in trained.sweeps] == [1, 1]
    assert left(here) == ["outputs", "outputs/hydra"]


def test_hydras_own_sweeper_still_works(here, trained, capsys) -> None:
    assert main(["train", "-m", "hydra/sweeper=basic", "seed=0,1", "cell=lstm"]) == 0
    assert len(trained.sweeps[0][0]) == 2
    assert main(["train", "-m", "hydra/sweeper=basic", "seed=0,-1"]) == 2
    assert capsys.readouterr().err == "goldfish: seed=-1: expected int ≥ 0\n"


@pytest.mark.parametrize("launcher", ["packed", "basic"])
def test_failed_runs_give_exit_code_1(trained, capsys, launcher: str) -> None:
    trained.fails = lambda config: config["seed"] == 1
    assert main(["train", "-m", f"hydra/launcher={launcher}", "seed=0,1,2"]) == 1
    assert "1 of 3 runs failed\n  seed=1: boom" in capsys.readouterr().err
    assert len(trained.configs) == 3
    assert main(["train", "seed=1"]) == 1
    assert capsys.readouterr().err == "goldfish: 1 of 1 runs failed\n  seed=1: boom\n"


def test_help_shows_the_knobs_and_the_choices(trained, capsys) -> None:
    assert run_and_exit(["train", "cell=lstm", "--help"]) == 0
    told = capsys.readouterr().out
    assert "cell: gru, lstm, rnn" in told
    assert "  hidden_size: 32" in told
    assert "name: lstm" in told
    for knob in ("max_steps", "batch_size", "gradient_clip_val", "length", "lr", "seed", "engine", "experiment_name"):
        assert f"{knob}: " in told
    assert "$(goldfish train -sc install=bash)" in told


def run_and_exit(arguments: list[str]) -> int:
    """Hydra answers some questions and exits by itself."""
    try:
        return main(arguments)
    except SystemExit as exit_:
        return int(exit_.code or 0)


def test_cfg_shows_a_job_without_training(here, trained, capsys) -> None:
    assert main(["train", "--cfg", "job", "cell=gru", "task.length=${seed}", "seed=9"]) == 0
    told = capsys.readouterr().out
    assert "name: gru" in told
    assert "length: ${seed}" in told
    assert "hydra:" not in told
    assert main(["train", "--cfg", "job", "--resolve", "--package", "task", "task.length=${seed}", "seed=9"]) == 0
    assert "length: 9" in capsys.readouterr().out
    assert (trained.sweeps, left(here)) == ([], [])


def test_info_and_hydra_help_are_hydras(trained, capsys) -> None:
    assert run_and_exit(["train", "--info", "defaults"]) == 0
    assert "hydra/launcher/packed" in capsys.readouterr().out
    assert run_and_exit(["train", "--hydra-help"]) == 0
    assert "--multirun" in capsys.readouterr().out
