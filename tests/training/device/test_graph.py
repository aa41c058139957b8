"""A replayed training step: trusted when its bits are those of the plain step, given up with one warning otherwise."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.training.exactness import essence
from torch import Tensor
from torch.overrides import TorchFunctionMode

from goldfish.config import registry
from goldfish.config.config import Config, resolve
from goldfish.training.data import TrainingStream
from goldfish.training.device import graph
from goldfish.training.device.graph import WARM_UP, GraphedStep, Replay, Step
from goldfish.training.module import PackModule
from goldfish.training.outcome import Outcome
from goldfish.training.train import train_pack


class Training:
    """Linear regression with momentum by hand, every change in place."""

    def __init__(self) -> None:
        self.weight, self.momentum, self.calls = torch.zeros(3), torch.zeros(3), 0

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        error = x @ self.weight - y
        self.momentum.mul_(0.9).add_(x.mT @ error / len(x))
        self.weight.sub_(0.1 * self.momentum)
        return error.square().mean()

    def state(self) -> list[Tensor]:
        return [self.weight, self.momentum]


def batches(count: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    xs = [torch.randn(size, 3, generator=generator) for _ in range(count)]
    return [(x, x @ torch.tensor([1.0, -2.0, 0.5])) for x in xs]


def record(step: Step, batch: Sequence[Tensor], loss: Tensor) -> Replay:
    """What a CUDA graph does, without one: the step again, on the tensors that it was given."""

    def replay() -> None:
        loss.copy_(step(*batch))

    return replay


def plain(given: Sequence[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    training = Training()
    return [training.step(*batch).clone() for batch in given], training.state()


def test_replays_and_other_shapes_give_the_plain_bits() -> None:
    given = [*batches(8), *batches(1, size=5), *batches(2)]
    training = Training()
    step = GraphedStep(training.step, training.state, record)
    losses = [step(*batch) for batch in given]
    expected, state = plain(given)
    for a, b in zip([*losses, *training.state()], [*expected, *state], strict=True):
        assert torch.equal(a, b)
    assert training.calls == len(given) + 1  # the first replay was beside a plain step
    assert step._replay is not None


def fails(step: Step, batch: Sequence[Tensor], loss: Tensor) -> Replay:
    step(*batch)  # what was done before the failure must be undone
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def fails_in_the_driver(step: Step, batch: Sequence[Tensor], loss: Tensor) -> Replay:
    class CUDAError(Exception):
        """As cuda-core's, no RuntimeError."""

    raise CUDAError


def wrong(step: Step, batch: Sequence[Tensor], loss: Tensor) -> Replay:
    def replay() -> None:
        loss.copy_(step(*batch))
        loss.add_(1e-6)

    return replay


def stale(step: Step, batch: Sequence[Tensor], loss: Tensor) -> Replay:
    """Its optimiser's step was baked in: the state moves twice."""

    def replay() -> None:
        loss.copy_(step(*batch))
        step(*batch)

    return replay


@pytest.mark.parametrize(
    ("capture", "reason"),
    [
        (fails, "cannot be captured: operation"),
        (fails_in_the_driver, "cannot be captured: CUDAError"),
        (wrong, "other bits"),
        (stale, "other bits"),
    ],
)
def test_a_graph_that_is_not_trusted(capture: object, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    given, training = batches(10), Training()
    step = GraphedStep(training.step, training.state, capture)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        losses = [step(*batch) for batch in given]
    expected, state = plain(given)
    for a, b in zip([*losses, *training.state()], [*expected, *state], strict=True):
        assert torch.equal(a, b)
    assert len(caplog.records) == 1
    assert reason in caplog.text
    assert "\n" not in caplog.records[0].getMessage()


class FakeCuda:
    """What torch.cuda has for a capture, with a current stream; its graph, as torch's, loses the stream in an error."""

    def __init__(self, breaks: str) -> None:
        self.breaks, self.current = breaks, "default"

    @contextmanager
    def stream(self, stream: str) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: object, stream: str, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"  # other threads, which draw ahead, may use the GPU meanwhile
        self.current = stream
        if self.breaks == "begin":
            raise RuntimeError("capture_begin")
        yield
        if self.breaks == "end":
            raise RuntimeError("capture_end")
        self.current = "default"


@pytest.mark.parametrize("breaks", ["", "begin", "step", "end"])
def test_the_capture_stream_is_left(breaks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, used = FakeCuda(breaks), []

    def step(x: Tensor) -> Tensor:
        used.append(cuda.current)
        if breaks == "step":
            raise RuntimeError("step")
        return x.sum()

    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: "capture")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    with pytest.raises(RuntimeError) if breaks else nullcontext():
        graph._capture(step, [torch.ones(3)], torch.zeros(()))
    assert cuda.current == "default"
    assert used == ([] if breaks == "begin" else ["capture"])


def test_nothing_is_captured_before_the_warm_up() -> None:
    training, captured = Training(), []

    def counted(step: Step, batch: Sequence[Tensor], loss: Tensor) -> Replay:
        captured.append(training.calls)
        return record(step, batch, loss)

    step = GraphedStep(training.step, training.state, counted)
    for batch in batches(6):
        step(*batch)
    assert captured == [WARM_UP + 1]


def test_a_diverged_step_is_the_same_bits() -> None:
    """NaN is a result, not a difference."""
    training = Training()
    training.weight.fill_(torch.nan)
    step = GraphedStep(training.step, training.state, record)
    for batch in batches(6):
        assert step(*batch).isnan()
    assert step._replay is not None


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps are replayed on the CPU, as they would be with compiled kernels on a GPU; the replays are counted."""
    found: list[int] = []

    def counted(step: Step, batch: Sequence[Tensor], loss: Tensor) -> Replay:
        replay = record(step, batch, loss)

        def again() -> None:
            found.append(1)
            replay()

        return again

    monkeypatch.setattr(graph, "_capture", counted)
    monkeypatch.setattr(PackModule, "engine", property(lambda module: "cuda"))
    monkeypatch.setattr(PackModule, "asynchronous", True)
    return found


def pack(count: int = 2, **values: Any) -> list[Config]:
    trainer = {"max_steps": 12, "validate_every": 5, "evaluation_size": 8, "accelerator": "cpu"}
    shared = {"cell": {"name": "rnn", "hidden_size": 8}, "task": {"name": "recall", "length": 5}} | values
    shared["trainer"] = trainer | values.get("trainer", {})
    return [resolve(shared | {"seed": seed}) for seed in range(count)]


def plainly(configs: Sequence[Config], monkeypatch: pytest.MonkeyPatch) -> list[Outcome]:
    with monkeypatch.context() as patch:
        patch.setattr(PackModule, "asynchronous", False)
        return train_pack(configs)


@pytest.mark.parametrize(
    "values",
    [
        *({"cell": {"name": cell, "hidden_size": 8}} for cell in ("rnn", "lstm", "gru")),
        *({"optimizer": {"name": name}} for name in registry.names("optimizer")),
        {"trainer": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}},
        {"trainer": {"gradient_clip_val": None}},
    ],
    ids=str,
)
def test_a_pack_that_is_replayed_trains_to_the_same_bits(
    values: dict[str, Any], replayed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [essence(outcome) for outcome in plainly(pack(**values), monkeypatch)]
    assert not replayed
    assert [essence(outcome) for outcome in train_pack(pack(**values))] == expected
    assert len(replayed) == 12 - WARM_UP


def test_a_run_that_diverges_in_a_replay(replayed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the weights of the step before, and the others go on as if it were not there."""
    task = registry.load("task", "recall")
    losses = task.losses

    def spoiled(self: Any, outputs: Tensor, batch: Any) -> Tensor:
        found: Tensor = losses(self, outputs, batch)
        if batch.inputs.shape == bad.shape and torch.equal(batch.inputs[1], bad[1]):
            found = found * torch.tensor([1.0, torch.nan, 1.0]).unsqueeze(1)
        return found

    configs = pack(3)
    stream = iter(TrainingStream(task(length=5), configs, torch.device("cpu"), torch.float32))
    bad = [next(stream).inputs for _ in range(7)][-1]
    monkeypatch.setattr(task, "losses", spoiled)
    expected = plainly(configs, monkeypatch)
    assert [outcome.verdict == "diverged" for outcome in expected] == [False, True, False]
    assert expected[1].reason == "loss became non-finite at step 7"
    found = train_pack(configs)
    assert [essence(outcome) for outcome in found] == [essence(outcome) for outcome in expected]
    assert len(replayed) == 12 - WARM_UP  # the same recording goes on: a mask keeps the run where it is


def test_runs_that_stop_are_not_moved_by_a_replay(replayed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = {"max_steps": 60, "validate_every": 5, "stop_when_solved": True}
    values = {"task": {"name": "recall", "length": 3}, "trainer": trainer, "optimizer": {"name": "adam", "lr": 0.1}}
    expected = plainly(pack(8, **values), monkeypatch)
    assert len({outcome.steps for outcome in expected}) > 2
    assert [essence(one) for one in train_pack(pack(8, **values))] == [essence(one) for one in expected]
    assert replayed


HOST = {"item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "equal", "nonzero"}


class Looks(TorchFunctionMode):
    """Counts what makes the host wait for a GPU, by training step."""

    def __init__(self, module: PackModule) -> None:
        super().__init__()
        self.module, self.found = module, Counter[int]()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in HOST:
            self.found[self.module.steps_done + 1] += 1
        return function(*args, **(kwargs or {}))


def looks(module: PackModule, steps: int) -> Counter[int]:
    stream = iter(TrainingStream(module.task, module.configs, torch.device("cpu"), torch.float32))
    with Looks(module) as mode:
        for _ in range(steps):
            module.step(next(stream))
    return mode.found


def test_a_step_asks_nothing_of_the_host(replayed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the one in which the first replay is compared."""
    configs = pack(3)
    task = registry.load("task", "recall")(length=5)
    module = PackModule(configs, task, torch.float32, torch.device("cpu"))
    assert set(looks(module, 10)) == {WARM_UP + 1}
    assert len(replayed) == 10 - WARM_UP
    monkeypatch.setattr(PackModule, "asynchronous", False)  # as on a CPU: one look a step
    module = PackModule(configs, task, torch.float32, torch.device("cpu"))
    assert looks(module, 3) == {1: 1, 2: 1, 3: 1}


def test_who_draws_random_numbers_is_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"task": {"name": "recall", "length": 5}, "trainer": {"max_steps": 6, "accelerator": "cpu"}}
    monkeypatch.setattr(graph, "_capture", lambda *_: pytest.fail("dropout's masks would be the same in each step"))
    monkeypatch.setattr(PackModule, "engine", property(lambda module: "cuda"))
    monkeypatch.setattr(PackModule, "asynchronous", True)
    train_pack([resolve(values | {"model": {"dropout": 0.2}})])
