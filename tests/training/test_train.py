"""Training itself: against a plain torch.nn loop, divergence, data streams, and what comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.tasks.base import Batch
from goldfish.training.data import TrainingStream
from goldfish.training.module import PackModule
from goldfish.training.train import train, train_pack

CPU = torch.device("cpu")


def task_of(config: Config):
    arguments = {key: value for key, value in config["task"].items() if key != "name"}
    return registry.load("task", config["task"]["name"])(**arguments)


@pytest.mark.parametrize("algorithm", ["norm", "value", None])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_training_equals_a_plain_torch_loop(small: Callable[..., Config], cell: str, algorithm: str | None) -> None:
    """Same data, same initial weights: torch.nn, Adam and clip_grad_* in float64 end at the same weights."""
    clip = (
        {"gradient_clip_val": 0.05, "gradient_clip_algorithm": algorithm} if algorithm else {"gradient_clip_val": None}
    )
    config = small(cell, steps=5, trainer={"precision": "64-true", "max_steps": 5, **clip})
    task = task_of(config)
    start = PackModule([config], task, torch.float64, CPU)
    recurrent = start.model.recurrent.to_torch(0)
    readout = nn.Linear(config["cell"]["hidden_size"], task.output_size, dtype=torch.float64)
    readout.load_state_dict({name: value[0] for name, value in start.model.readout.state_dict().items()})
    parameters = [*recurrent.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    stream = iter(TrainingStream(task, [config], CPU, torch.float64))
    for _ in range(5):
        batch = next(stream)
        optimizer.zero_grad()
        outputs, _ = recurrent(batch.inputs[0])
        nn.functional.cross_entropy(readout(outputs[:, -1]), batch.targets[0]).backward()
        if algorithm == "norm":
            nn.utils.clip_grad_norm_(parameters, 0.05)
        elif algorithm == "value":
            nn.utils.clip_grad_value_(parameters, 0.05)
        optimizer.step()
    (outcome,) = train_pack([config])
    for name, value in recurrent.state_dict().items():
        torch.testing.assert_close(outcome.state_dict[f"recurrent.{name}"], value, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(outcome.state_dict["readout.weight"], readout.weight.detach(), rtol=1e-9, atol=1e-11)


def test_a_diverging_replica_stops_and_leaves_the_others_unharmed(small: Callable[..., Config]) -> None:
    rates = [0.01, 1e30, 0.01]
    arguments = {"steps": 40, "trainer": {"gradient_clip_val": None, "max_steps": 40}}
    cell = {"name": "rnn", "hidden_size": 8, "nonlinearity": "relu"}
    configs = [
        small(seed=k, optimizer={"name": "sgd", "lr": rate}, **arguments) | {"cell": cell | {"num_layers": 1}}
        for k, rate in enumerate(rates)
    ]
    outcomes = train_pack(configs)
    assert [outcome.verdict for outcome in outcomes] == ["unsolved", "diverged", "unsolved"]
    assert "non-finite at step" in outcomes[1].reason
    stopped = int(outcomes[1].reason.split()[-1])
    assert 1 < stopped < 40
    assert all(value.isfinite().all() for value in outcomes[1].state_dict.values())  # its last weights
    (alone,) = train_pack([configs[2]])
    assert all(torch.equal(alone.state_dict[name], outcomes[2].state_dict[name]) for name in alone.state_dict)


def test_what_comes_back(small: Callable[..., Config]) -> None:
    steps_seen: list[int] = []
    (outcome,) = train([small("lstm", steps=7)], progress=steps_seen.append)
    assert sum(steps_seen) == 7
    assert outcome.parameters == 4 * 8 * (10 + 8 + 2) + 8 * 8 + 8
    curves = {(point.quantity, point.phase) for point in outcome.curves}
    for phase in ("before", "half", "after"):
        for end in ("", "_q25", "_q75", "_h", "_c"):
            assert (f"gradient/log10_norm_by_lag{end}", phase) in curves
    assert ("recall/accuracy_by_lag", "after") in curves
    learning = [point.x for point in outcome.curves if point.quantity == "val/accuracy"]
    assert learning == [3, 6, 7]  # the last step is always validated
    for name in (
        "gradient/decay_rate_before",
        "gradient/horizon_half",
        "gradient/horizon",
        "test/accuracy",
        "test/loss",
    ):
        assert name in outcome.metrics
    lags = [p.x for p in outcome.curves if p.quantity == "gradient/log10_norm_by_lag" and p.phase == "after"]
    assert lags == list(range(7))


def test_fixed_training_data_is_seen_once_an_epoch(small: Callable[..., Config]) -> None:
    config = small(batch=4, task={"name": "recall", "length": 30, "train_size": 12})
    stream = iter(TrainingStream(task_of(config), [config, config | {"seed": 1}], CPU, torch.float32))
    epochs = [[next(stream) for _ in range(3)] for _ in range(2)]

    def rows(batches: list[Batch], replica: int) -> list[bytes]:
        return [row.numpy().tobytes() for batch in batches for row in batch.inputs[replica]]

    assert sorted(rows(epochs[0], 0)) == sorted(rows(epochs[1], 0))
    assert len(set(rows(epochs[0], 0))) == 12
    assert rows(epochs[0], 0) != rows(epochs[1], 0)
    assert set(rows(epochs[0], 0)).isdisjoint(rows(epochs[0], 1))


def test_every_seed_has_a_stream_of_its_own(small: Callable[..., Config]) -> None:
    configs = [small(batch=4, seed=seed, task={"name": "recall", "length": 40}) for seed in (0, 1)]
    batch = next(iter(TrainingStream(task_of(configs[0]), configs, CPU, torch.float32)))
    assert not torch.equal(batch.inputs[0], batch.inputs[1])
    alone = next(iter(TrainingStream(task_of(configs[0]), configs[1:], CPU, torch.float32)))
    assert torch.equal(batch.inputs[1], alone.inputs[0])


def test_time_to_solve_is_the_first_validation_that_meets_the_criterion(small: Callable[..., Config]) -> None:
    trainer = {"validate_every": 2, "evaluation_size": 64}
    task = {"name": "recall", "length": 2, "symbols": 3}
    (outcome,) = train([small("gru", hidden=16, steps=40, batch=16, task=task, trainer=trainer)])
    met = [p.x for p in outcome.curves if p.quantity == "val/accuracy" and p.value >= 0.99]
    assert outcome.verdict == "solved"
    assert outcome.metrics["time_to_solve"] == met[0] > 2
    assert outcome.metrics["time_to_solve/censored"] == 0
    (unsolved,) = train([small("gru", steps=4)])
    assert unsolved.verdict == "unsolved"
    assert "time_to_solve" not in unsolved.metrics
    assert unsolved.metrics["time_to_solve/censored"] == 1


def test_a_pack_stays_where_it_is(small: Callable[..., Config]) -> None:
    """Lightning moves a module to the CPU after every fit; what joins the weights would be lost."""
    module = PackModule([small()], task_of(small()), torch.float32, torch.device("meta"))
    assert module.cpu() is module
    assert all(value.is_meta for value in module.parameters())


def test_a_job_of_slurm_is_no_matter_of_ours(small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning would see four tasks, and requeue the job by itself."""
    for name, value in {"NTASKS": "4", "JOB_NAME": "sweep", "JOB_ID": "1", "PROCID": "3", "LOCALID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    (outcome,) = train([small()])
    assert outcome.verdict == "unsolved"


def test_online_data_never_repeats(small: Callable[..., Config]) -> None:
    config = small(batch=4, task={"name": "recall", "length": 40})
    stream = iter(TrainingStream(task_of(config), [config], CPU, torch.float32))
    seen = [row.numpy().tobytes() for _ in range(200) for row in next(stream).inputs[0]]
    assert len(set(seen)) == len(seen)


def test_training_imports_neither_hydra_nor_mlflow() -> None:
    code = (
        "import sys, goldfish\n"
        "trainer = {'max_steps': 2, 'evaluation_size': 4}\n"
        "goldfish.train([goldfish.resolve({'task': {'name': 'recall', 'length': 3}, 'trainer': trainer})])\n"
        "print(sorted({'hydra', 'mlflow', 'datasets'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("engine", "ran"), [("auto", "cpu"), ("stepwise", "stepwise"), ("eager", "eager")])
def test_an_outcome_names_the_engine_that_ran(small: Callable[..., Config], engine: str, ran: str) -> None:
    assert train_pack([small(engine=engine, steps=1)])[0].engine == ran


def test_a_machine_with_slurm_gets_no_hints(
    small: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would warn at every validation that `srun` is there and not used; a warning is an error in tests."""
    program = tmp_path / "srun"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (outcome,) = train([small()])
    assert outcome.verdict in ("solved", "unsolved")
