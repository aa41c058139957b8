"""Reading experiment.yaml, and what its scales expand to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from goldfish.config import Config, resolve
from goldfish.errors import ConfigError
from goldfish.sweep import compose, experiment
from goldfish.sweep.compose import Composer
from goldfish.sweep.experiment import expand

STUDY = """\
# goldfish reproduce study
base: {seed: [0, 1], cell.hidden_size: 8, task.length: 10}
grids:
  rnn: {cell: rnn, init: "pytorch,orthogonal", optimizer.lr: 1e-2}
  gated: {cell: [lstm, gru], init: [pytorch, chrono]}
scales:
  smoke:
    base: [seed=0, trainer.max_steps=5]
    grids:
      "*": {task.length: 4}
      gated: {init: chrono}
  cpu:
  wide: {grids: {deep: {cell: rnn, cell.num_layers: 3}}}
"""


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(compose.loader())


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an experiment of its own; returns the experiment's file."""
    file = tmp_path / "experiments" / "study" / "experiment.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return file


def arms(configs: list[Config]) -> Counter[tuple[str, str]]:
    return Counter((config["cell"]["name"], config["init"]["name"]) for config in configs)


def test_a_scale_without_changes(study: Path, composer: Composer) -> None:
    configs = expand(experiment.read("study"), "cpu", composer)
    expected = [("rnn", "pytorch"), ("rnn", "orthogonal")]
    expected += [(cell, init) for cell in ("lstm", "gru") for init in ("pytorch", "chrono")]
    assert arms(configs) == dict.fromkeys(expected, 2)
    assert configs[0] == resolve(
        {
            "cell": {"name": "rnn", "hidden_size": 8},
            "init": "pytorch",
            "task": {"length": 10},
            "optimizer": {"lr": 0.01},
            "tracking": {"experiment_name": "study"},
        }
    )


def test_a_scale_overrides_base_and_grids(study: Path, composer: Composer) -> None:
    configs = expand(experiment.read("study"), "smoke", composer)
    expected = [("rnn", "pytorch"), ("rnn", "orthogonal"), ("lstm", "chrono"), ("gru", "chrono")]
    assert arms(configs) == dict.fromkeys(expected, 1)
    assert {(config["task"]["length"], config["trainer"]["max_steps"]) for config in configs} == {(4, 5)}
    assert {config["cell"]["hidden_size"] for config in configs} == {8}  # of base, untouched


def test_a_scale_may_add_a_grid(study: Path, composer: Composer) -> None:
    configs = expand(experiment.read("study"), "wide", composer)
    assert Counter(config["cell"]["num_layers"] for config in configs) == {1: 12, 3: 2}


def test_scale_is_no_part_of_a_run(study: Path, composer: Composer) -> None:
    """What two scales share is the same run."""
    cpu, wide = (expand(experiment.read("study"), scale, composer) for scale in ("cpu", "wide"))
    assert all(config in wide for config in cpu)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("grid: {}", "grid: unknown key; did you mean 'grids'"),
        ("base: 3", "base: expected a mapping"),
        ("base: [seed]", "base: seed: expected key=value"),
        ("grids: {a: 3}", "grids.a: expected a mapping"),
        ("scales: {cpu: {grid: {}}}", "scales.cpu.grid: unknown key"),
        ("scales: {cpu: {grids: {'x*': {seed: 1}}}}", r"scales.cpu.grids.x\*: matches no grid"),
        ("base: {seed: 1", "expected ',' or '}'"),
        ("- base", "the file: expected a mapping"),
    ],
)
def test_a_file_that_is_no_experiment(study: Path, text: str, told: str) -> None:
    study.write_text(text)
    with pytest.raises(ConfigError, match=rf"experiment\.yaml: .*{told}"):
        experiment.read("study")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("base: {cell: lstn}", "cell=lstn: did you mean 'lstm'"),
        ("base: {task.length: [10, 0]}", "task.length=0: expected int ≥ 1"),
        ("grids: {a: {cell: rnn, init: chrono}}", "init=chrono: does not suit cell=rnn"),
        ("base: {hidden: 3}", "hidden=3: unknown key"),
        ("base: {seed: 'interval(0,1)'}", ".*an interval holds no list"),
    ],
)
def test_one_bad_point_spoils_the_sweep(study: Path, composer: Composer, text: str, told: str) -> None:
    study.write_text(f"{text}\nscales: {{cpu: }}\n")
    with pytest.raises(ConfigError, match=rf"experiment\.yaml: {told}"):
        expand(experiment.read("study"), "cpu", composer)


def test_names_are_looked_up_in_the_working_directory_too(study: Path) -> None:
    assert experiment.folder("study") == study.parent
    assert experiment.folder("forgetting").name == "forgetting"
    with pytest.raises(ConfigError, match=r"^studdy: no such experiment; did you mean 'study'"):
        experiment.folder("studdy")
    with pytest.raises(ConfigError, match=r"^--scale=cup: study has no such scale; did you mean 'cpu'"):
        experiment.read("study").scale("cup")


def test_the_working_directory_comes_first(study: Path, composer: Composer) -> None:
    own = study.parents[1] / "forgetting"
    study.parent.rename(own)
    assert experiment.folder("forgetting") == own


@pytest.mark.parametrize("name", sorted(experiment.folders()))
def test_every_experiment_expands(composer: Composer, name: str) -> None:
    read = experiment.read(name)
    assert {"smoke", "cpu", "gpu"} <= set(read.scales)
    for scale in read.scales:
        configs = expand(read, scale, composer)
        assert configs
        assert {config["tracking"]["experiment_name"] for config in configs} == {name}
    assert (read.folder / experiment.FILE).read_text().startswith(f"# goldfish reproduce {name}\n")


def test_the_headline_sweep(composer: Composer) -> None:
    configs = expand(experiment.read("forgetting"), "cpu", composer)
    by_task = Counter(config["task"]["name"] for config in configs)
    lengths = {task: {c["task"]["length"] for c in configs if c["task"]["name"] == task} for task in by_task}
    cells = {cell for cell, _ in arms(configs)}
    assert cells == {"rnn", "lstm", "gru"}
    assert all(len({init for other, init in arms(configs) if other == cell}) >= 4 for cell in cells)
    assert all(len(points) >= 4 for points in lengths.values())
    seeds = {config["seed"] for config in configs}
    assert len(seeds) >= 4
    for task, points in lengths.items():
        assert by_task[task] == len(arms(configs)) * len(points) * len(seeds)


def test_a_criterion_of_its_own(study: Path) -> None:
    assert experiment.read("study").solved == {}
    study.write_text(STUDY + 'solved: {val/loss: "< 0.04"}\n')
    assert experiment.read("study").solved == {"val/loss": "< 0.04"}
    study.write_text(STUDY + "solved: {val/loss: small}\n")
    with pytest.raises(ConfigError, match=r"solved\.val/loss=small: expected a condition"):
        experiment.read("study")
