"""Reading experiment.yaml, and what its scales expand to."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from goldfish.composing import compose
from goldfish.composing.compose import Composer
from goldfish.config.config import Config, resolve
from goldfish.errors import ConfigError
from goldfish.papers import experiment
from goldfish.papers.experiment import Experiment, _condition
from goldfish.papers.plan import plan

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


def expand(read: Experiment, scale: str, composer: Composer) -> list[Config]:
    """The reported runs of a scale, with the first candidate for every group where there is a selection."""
    planned = plan(read, scale, composer)
    if planned.trials is None:
        return planned.runs({})
    return planned.runs(dict.fromkeys(planned.trials.groups, next(iter(planned.trials.candidates))))


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


def test_a_scale_may_leave_grids_out(study: Path, composer: Composer) -> None:
    study.write_text(STUDY.replace("  cpu:\n", "  cpu: {grids: {gated: false}}\n"))
    assert set(arms(expand(experiment.read("study"), "cpu", composer))) == {("rnn", "pytorch"), ("rnn", "orthogonal")}
    study.write_text(STUDY.replace("  cpu:\n", "  cpu: {grids: {gate: false}}\n"))
    with pytest.raises(ConfigError, match=r"scales.cpu.grids.gate: matches no grid; did you mean 'gated'"):
        experiment.read("study")


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
    if read.has("measure"):
        assert all(read.scale(scale).settings for scale in read.scales)
        with pytest.raises(ConfigError, match=f"{name}: has no runs: its measure.py makes its table"):
            plan(read, "cpu", composer)
        return
    for scale in read.scales:
        configs = expand(read, scale, composer)
        assert configs
        assert {config["tracking"]["experiment_name"] for config in configs} == {name}
    assert (read.folder / experiment.FILE).read_text().startswith(f"# goldfish reproduce {name}\n")


def test_the_headline_sweep(composer: Composer) -> None:
    read = experiment.read("forgetting")
    configs = expand(read, "cpu", composer)
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


def test_the_headline_sweep_selects_on_equal_budgets(composer: Composer) -> None:
    """Every cell × initialisation of a task has the same trials, at each of three learning rates."""
    trials = plan(experiment.read("forgetting"), "cpu", composer).trials
    assert trials is not None
    assert len(trials.candidates) == 3
    budgets: dict[str, set[tuple[tuple[object, ...], ...]]] = {}
    for task, cell, init in trials.groups:
        mine = [trial.config for trial in trials.runs if trial.group == (task, cell, init)]
        has = sorted((c["optimizer"]["lr"], c["task"]["length"], c["seed"], c["trainer"]["max_steps"]) for c in mine)
        budgets.setdefault(task, set()).add(tuple(has))
    assert {task: len(different) for task, different in budgets.items()} == {"recall": 1, "digits": 1}


def test_a_criterion_of_its_own(study: Path) -> None:
    assert experiment.read("study").solved == {}
    study.write_text(STUDY + 'solved: {val/loss: "< 0.04"}\n')
    assert experiment.read("study").solved == {"val/loss": "< 0.04"}
    study.write_text(STUDY + "solved: {val/loss: small}\n")
    with pytest.raises(ConfigError, match=r"solved\.val/loss=small: expected a condition"):
        experiment.read("study")


SELECT = """\
base: {seed: [0, 1], cell.hidden_size: 8}
grids:
  rnn: {cell: rnn, init: "pytorch,orthogonal", task.length: [10, 20]}
  gru: {cell: gru, init: pytorch, task.length: [10, 20], seed: 2}
select:
  candidates: {optimizer.lr: [0.1, 1e-3, 0.02]}
  seed: "100,101"
  per: [cell, init]
  trials: {"*": {task.length: 5}}
scales:
  cpu:
  smoke: {select: {candidates: {optimizer.lr: [0.1, 0.2]}, seed: 7, trials: {gru: {trainer.max_steps: 3}}}}
"""


def test_trials_of_every_group_with_every_candidate(study: Path, composer: Composer) -> None:
    study.write_text(SELECT)
    trials = plan(experiment.read("study"), "cpu", composer).trials
    assert trials is not None
    assert list(trials.candidates) == ["optimizer.lr=0.001", "optimizer.lr=0.02", "optimizer.lr=0.1"]  # ascending
    groups = [("rnn", "pytorch"), ("rnn", "orthogonal"), ("gru", "pytorch")]
    assert (trials.groups, trials.per, trials.by) == (groups, ["cell", "init"], "val/accuracy")
    found = Counter((t.group, t.candidate, t.config["optimizer"]["lr"], t.config["seed"]) for t in trials.runs)
    rates = zip(trials.candidates, (0.001, 0.02, 0.1), strict=True)
    assert found == {(g, name, lr, s): 1 for name, lr in rates for g in groups for s in (100, 101)}
    assert {trial.config["task"]["length"] for trial in trials.runs} == {5}
    assert {trial.config["cell"]["hidden_size"] for trial in trials.runs} == {8}
    assert {trial.config["tracking"]["experiment_name"] for trial in trials.runs} == {"study-selection"}


def test_reported_runs_have_what_their_group_selects(study: Path, composer: Composer) -> None:
    study.write_text(SELECT)
    planned = plan(experiment.read("study"), "cpu", composer)
    best = {("rnn", "pytorch"): "optimizer.lr=0.02", ("rnn", "orthogonal"): "optimizer.lr=0.1"}
    configs = planned.runs(best | {("gru", "pytorch"): "optimizer.lr=0.001"})
    found = Counter((c["cell"]["name"], c["init"]["name"], c["optimizer"]["lr"]) for c in configs)
    assert found == {("rnn", "pytorch", 0.02): 4, ("rnn", "orthogonal", 0.1): 4, ("gru", "pytorch", 0.001): 2}
    assert {config["seed"] for config in configs} == {0, 1, 2}
    assert {config["tracking"]["experiment_name"] for config in configs} == {"study"}


def test_a_scale_changes_the_selection(study: Path, composer: Composer) -> None:
    study.write_text(SELECT)
    trials = plan(experiment.read("study"), "smoke", composer).trials
    assert trials is not None
    assert list(trials.candidates) == ["optimizer.lr=0.1", "optimizer.lr=0.2"]
    assert {(t.config["cell"]["name"], t.config["task"]["length"]) for t in trials.runs} == {("rnn", 5), ("gru", 5)}
    assert {(t.config["cell"]["name"], t.config["trainer"]["max_steps"]) for t in trials.runs} == {
        ("rnn", 1000),
        ("gru", 3),
    }
    assert {trial.config["seed"] for trial in trials.runs} == {7}


def test_without_per_each_point_selects_for_itself(study: Path, composer: Composer) -> None:
    """A point is whatever varies over the reported runs but the seed."""
    study.write_text(SELECT.replace("  per: [cell, init]\n", "").replace('  trials: {"*": {task.length: 5}}\n', ""))
    planned = plan(experiment.read("study"), "cpu", composer)
    assert planned.trials is not None
    assert {"cell", "init", "task.length"} <= set(planned.trials.per)
    assert not {"seed", "optimizer.lr", "cell.hidden_size"} & set(planned.trials.per)
    at = [planned.trials.per.index(key) for key in ("cell", "init", "task.length")]
    arms = [("rnn", "pytorch"), ("rnn", "orthogonal"), ("gru", "pytorch")]
    points = Counter(tuple(group[i] for i in at) for group in planned.trials.groups)
    assert points == {(*arm, length): 1 for arm in arms for length in (10, 20)}
    assert len(planned.runs(dict.fromkeys(planned.trials.groups, "optimizer.lr=0.02"))) == 10


def test_a_single_point_selects_too(study: Path, composer: Composer) -> None:
    study.write_text("select: {candidates: {optimizer.lr: [0.1, 0.2]}, seed: 7}\nscales: {cpu: }\n")
    trials = plan(experiment.read("study"), "cpu", composer).trials
    assert trials is not None
    assert (trials.per, trials.groups) == (["cell", "init", "task"], [("rnn", "pytorch", "recall")])
    assert [trial.candidate for trial in trials.runs] == ["optimizer.lr=0.1", "optimizer.lr=0.2"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('seed: "100,101"', "seeds: 3", "select.seeds: unknown key; did you mean 'seed'"),
        ('seed: "100,101"', "seed: [1, 100, 2]", "select.seed=1,2: reported runs have it too"),
        ('  seed: "100,101"\n', "", "select.seed: a value is required"),
        ("{optimizer.lr: [0.1, 1e-3, 0.02]}", "{}", "select.candidates: a value is required"),
        ("[0.1, 1e-3, 0.02]", "0.1", "select.candidates: optimizer.lr: expected two values at least"),
        ("optimizer.lr: [0.1, 1e-3, 0.02]", "optimizer.rate: [1, 2]", "optimizer.rate=1: unknown key"),
        ("optimizer.lr: [0.1, 1e-3, 0.02]", "seed: [8, 9]", "select.candidates.seed: a seed is never selected"),
        ("[0.1, 1e-3, 0.02]", "[0.1, -1]", "optimizer.lr=-1.0: expected"),
        ("seed: 2}", "optimizer.lr: 0.1}", "grids.gru.optimizer.lr: 'select' sets it"),
        ("{task.length: 5}", "{seed: 5}", "select.trials.rnn.seed: 'select' sets it"),
        (
            "{task.length: 5}",
            "{init: pytorch}",
            "select.trials: none for the reported runs of cell=rnn init=orthogonal",
        ),
        ("{task.length: 5}", "{cell: lstm, init: pytorch}", "select.trials: none for the reported runs of cell=rnn"),
        ("per: [cell, init]", "per: [cell, unit]", "select.per=unit: did you mean 'init'"),
        ("per: [cell, init]", "per: cell", "select.per=cell: expected a list of keys"),
        ("per: [cell, init]", "by: test/accuracy", "select.by=test/accuracy: did you mean 'val/accuracy'"),
        ('{"*": {task.length: 5}}', "{lstm: {task.length: 5}}", "select.trials.lstm: matches no grid"),
    ],
)
def test_a_selection_that_cannot_be(study: Path, composer: Composer, old: str, new: str, told: str) -> None:
    assert old in SELECT
    study.write_text(SELECT.replace(old, new, 1))
    with pytest.raises(ConfigError, match=rf"experiment\.yaml: {told}") as caught:
        plan(experiment.read("study"), "cpu", composer)
    assert "\n" not in str(caught.value)


def test_a_trial_that_stands_for_no_reported_run(study: Path, composer: Composer) -> None:
    study.write_text(SELECT.replace("{task.length: 5}", "{init: 'pytorch,orthogonal'}"))
    with pytest.raises(ConfigError, match=r"select\.trials: cell=gru init=orthogonal: no reported run is of this kind"):
        plan(experiment.read("study"), "cpu", composer)


def test_the_selection_of_the_documentation(study: Path, composer: Composer) -> None:
    page = Path(__file__).parents[2] / "docs" / "adding_an_experiment.md"
    first, select = re.findall(r"^```yaml.*?\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    study.write_text(first.replace("  - optimizer.lr=0.01\n", "") + select)
    planned = plan(experiment.read("study"), "cpu", composer)
    assert planned.trials is not None
    assert len(planned.trials.groups) == 4
    assert len(planned.trials.runs) == 4 * 3 * 2
    assert len(planned.runs(dict.fromkeys(planned.trials.groups, "optimizer.lr=0.01"))) == 16
    study.write_text(first + select)
    with pytest.raises(ConfigError, match=r"base\.optimizer\.lr: 'select' sets it"):
        plan(experiment.read("study"), "cpu", composer)


def test_single_runs_are_not_mixed_with_those_of_an_experiment() -> None:
    default = resolve({})["tracking"]["experiment_name"]
    assert default not in {name for folder in experiment.folders() for name in (folder, f"{folder}-selection")}


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Four runs validated at steps 10, 20 and 30; by the task's own criterion a alone is solved, at step 30."""
    outcomes = {"a": "solved", "b": "unsolved", "c": "diverged", "d": "failed"}
    runs = pd.DataFrame({"fingerprint": list(outcomes), "outcome": list(outcomes.values())})
    runs["time_to_solve"] = [30.0, None, None, None]
    runs["time_to_solve/censored"] = [0.0, 1.0, 1.0, None]
    losses = {"a": [0.5, 0.03, 0.005], "b": [0.5, 0.06, 0.04], "c": [0.01, 0.01, 0.01]}
    accuracies = {"a": [0.1, 0.8, 1.0], "b": [0.1, 0.9, 0.95], "c": [1.0, 1.0, 1.0]}
    points = [
        (name, quantity, "training", step, value)
        for quantity, rows in (("val/loss", losses), ("val/accuracy", accuracies))
        for name, row in rows.items()
        for step, value in zip((10.0, 20.0, 30.0), row, strict=True)
    ]
    return runs, pd.DataFrame(points, columns=["fingerprint", "quantity", "phase", "x", "value"])


@pytest.mark.parametrize(
    ("criterion", "outcomes", "steps"),
    [
        ({"val/loss": "< 0.04"}, ["solved", "unsolved"], [20, None]),
        ({"val/loss": "<= 0.04"}, ["solved", "solved"], [20, 30]),
        ({"val/loss": "<= 0.06", "val/accuracy": ">= .95"}, ["solved", "solved"], [30, 30]),
        ({"val/accuracy": "> 1"}, ["unsolved", "unsolved"], [None, None]),
    ],
)
def test_the_first_validation_that_meets_every_condition(
    criterion: dict[str, str], outcomes: list[str], steps: list[float | None]
) -> None:
    judged = Experiment("study", Path(), solved=criterion).judged(*tables())
    assert judged["outcome"].tolist() == [*outcomes, "diverged", "failed"]
    found = judged["time_to_solve"].tolist()
    assert [None if pd.isna(step) else step for step in found] == [*steps, None, None]
    assert judged["time_to_solve/censored"].tolist()[:2] == [float(step is None) for step in steps]


def test_without_a_criterion_the_tasks_own_stands() -> None:
    runs, curves = tables()
    assert Experiment("study", Path()).judged(runs, curves) is runs


@pytest.mark.parametrize(("metric", "condition"), [("test/loss", "< 1"), ("val/loss", "0.04"), ("val/loss", "< -")])
def test_what_is_no_criterion_is_refused(metric: str, condition: str) -> None:
    with pytest.raises(ConfigError, match=r"^solved\."):
        _condition(metric, condition)
