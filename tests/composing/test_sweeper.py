"""Hydra's plugins: which jobs a sweep has, that nothing starts when one is wrong, and what launchers make of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import OmegaConf

from goldfish.composing.compose import Composer
from goldfish.config.config import Config, resolve
from goldfish.errors import ConfigError
from goldfish.sweep.launch import FailedRunsError
from hydra_plugins.goldfish import GoldfishSweeper, PackedLauncher

GRIDS = {
    "rnn": {"cell": "rnn", "init": "pytorch,orthogonal"},
    "gated": {"cell": "lstm,gru", "init": "pytorch,chrono"},
}


class Recording(Launcher):
    """A launcher that keeps its jobs, and fails those whose overrides hold `failing`."""

    def __init__(self, failing: str = "nothing", error: Exception | None = None) -> None:
        self.jobs: list[list[str]] = []
        self.failing, self.error = failing, error

    def setup(self, **_: Any) -> None:
        """Nothing to do."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.jobs += [list(lines) for lines in job_overrides]
        return [self._returned(lines) for lines in job_overrides]

    def _returned(self, lines: Sequence[str]) -> JobReturn:
        done = JobReturn(overrides=lines, status=JobStatus.COMPLETED)
        if self.failing in lines:
            done.status, done.return_value = JobStatus.FAILED, self.error
        return done


def sweeper(
    composer: Composer, params: Mapping[str, Any] | None = None, grids: Mapping[str, Any] | None = None, **fail: Any
) -> tuple[GoldfishSweeper, Recording]:
    made, launcher = GoldfishSweeper(params or {}, grids or {}), Recording(**fail)
    made.composer, made.launcher = composer, launcher
    return made, launcher


def configs(composer: Composer, jobs: Sequence[Sequence[str]]) -> list[Config]:
    return [composer.config([composer.setting(line) for line in lines]) for lines in jobs]


def test_every_combination_once(composer: Composer) -> None:
    made, launcher = sweeper(composer)
    line = "cell=rnn,lstm,gru init=pytorch,orthogonal task=adding task.length=20,40 seed=0,1 trainer.max_steps=50"
    assert len(made.sweep(line.split())) == 24
    expected = [
        resolve(
            {"cell": c, "init": i, "task": {"name": "adding", "length": n}, "seed": s, "trainer": {"max_steps": 50}}
        )
        for c, i, n, s in itertools.product(("rnn", "lstm", "gru"), ("pytorch", "orthogonal"), (20, 40), (0, 1))
    ]
    assert configs(composer, launcher.jobs) == expected


def test_hydra_composes_every_job_to_what_was_checked(composer: Composer) -> None:
    """joblib's and submitit's launchers let Hydra compose each job anew."""
    made, launcher = sweeper(composer, {"seed": "0,1"}, GRIDS)
    made.sweep(["tracking.experiment_name='a,b=c d'", "task.length=${cell.hidden_size}", "trainer={max_steps:7}"])
    assert len(launcher.jobs) == 12
    for lines, checked in zip(launcher.jobs, configs(composer, launcher.jobs), strict=True):
        loaded = composer.loader.load_configuration("config", lines, RunMode.RUN)
        OmegaConf.set_struct(loaded, False)
        loaded.pop("hydra")
        container = OmegaConf.to_container(loaded, resolve=True)
        assert isinstance(container, dict)
        assert resolve({str(key): value for key, value in container.items()}) == checked
        assert checked["tracking"]["experiment_name"] == "a,b=c d"


def test_grids_are_filtered_by_the_command_line(composer: Composer) -> None:
    made, launcher = sweeper(composer, {"seed": "0,1"}, GRIDS)
    made.sweep(["init=chrono", "seed=5"])
    assert [sorted(lines) for lines in launcher.jobs] == [
        [f"cell={cell}", "init=chrono", "seed=5"] for cell in ("lstm", "gru")
    ]


def test_grids_that_overlap_share_their_runs(composer: Composer) -> None:
    made, launcher = sweeper(composer, {}, {"a": {"cell": "rnn,lstm"}, "b": {"cell": "lstm,gru", "init": "pytorch"}})
    made.sweep([])
    assert [config["cell"]["name"] for config in configs(composer, launcher.jobs)] == ["rnn", "lstm", "gru"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cell=lstm,rnn", "init=chrono"], "^init=chrono: does not suit cell=rnn"),
        (["cell=rnn,lstm", "cell.nonlinearity=relu"], "^cell.nonlinearity=relu: cell=lstm has no argument"),
        (["seed=0,1,-1"], "^seed=-1: expected int ≥ 0"),
        (["task.length=10,${nope}"], "Interpolation key 'nope' not found"),
        (["seed=interval(0,1)"], "an interval holds no list"),
        (["cell=rnn,lstn"], "did you mean 'lstm'"),
        (["optimizer.lr=1e-3,nan"], "^optimizer.lr=nan"),
    ],
)
def test_one_bad_point_starts_nothing(composer: Composer, arguments: list[str], told: str) -> None:
    made, launcher = sweeper(composer, {"seed": "0,1"})
    with pytest.raises(ConfigError, match=told):
        made.sweep(arguments)
    assert launcher.jobs == []


def test_a_filter_that_leaves_nothing_starts_nothing(composer: Composer) -> None:
    made, launcher = sweeper(composer, {}, GRIDS)
    with pytest.raises(ConfigError, match=r"^init=identity: the sweep's grids hold none of it"):
        made.sweep(["init=identity"])
    assert launcher.jobs == []


def test_a_failed_job_is_told_after_all_others_ran(composer: Composer) -> None:
    failed = FailedRunsError(["cell=rnn seed=1: boom"], 1)
    made, launcher = sweeper(composer, failing="seed=1", error=failed)
    with pytest.raises(FailedRunsError, match=r"^1 of 3 runs failed\n  cell=rnn seed=1: boom$"):
        made.sweep(["seed=0,1,2"])
    assert len(launcher.jobs) == 3
    made, _ = sweeper(composer, failing="seed=1", error=OSError("disk full"))
    with pytest.raises(FailedRunsError, match=r"OSError: disk full"):
        made.sweep(["seed=0,1,2"])


def test_the_packed_launcher_trains_all_jobs_in_one_sweep(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[list[Config], dict[str, Any]]] = []
    monkeypatch.setattr("goldfish.sweep.launch.launch", lambda configs, **options: calls.append((configs, options)))
    launcher = PackedLauncher(workers=1, pack_size=4, rerun="stale")
    launcher.composer = composer
    returned = launcher.launch([["seed=3"], ["cell=gru"]], 0)
    assert calls == [
        ([resolve({"seed": 3}), resolve({"cell": "gru"})], {"workers": 1, "pack_size": 4, "rerun": "stale"})
    ]
    assert [job.status for job in returned] == [JobStatus.COMPLETED] * 2
    with pytest.raises(ConfigError):
        launcher.launch([["seed=3"], ["seed=-3"]], 0)
    assert len(calls) == 1


def test_a_thousand_runs_are_composed_a_dozen_times(composer: Composer, counted: list[list[str]]) -> None:
    made, launcher = sweeper(Composer(composer.loader))
    inits = "init=pytorch,orthogonal,identity"
    made.sweep(["cell=rnn,lstm,gru", inits, "task=recall,adding", "task.length=80,90", "seed=range(28)"])
    assert len(launcher.jobs) == 1008
    assert len(counted) == 1 + 3 + 3 + 2
