"""The contestants do what their names say."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from benchmarks import contestants
from benchmarks.interleave import Contestant, NotRun
from benchmarks.peers import alone, by_hand, torch_nn, triton_kernels
from benchmarks.peers.processes import Processes
from benchmarks.problem import CELLS, Shape, draw
from goldfish.training.device.graph import GraphedStep, Replay, Step

SMALL = [Shape(cell, hidden=5, batch=3, length=4, inputs=2) for cell in CELLS]


def test_the_problem_is_the_same_for_all() -> None:
    inputs, cotangent = draw(SMALL[0], "cpu")
    again, _ = draw(SMALL[0], "cpu")
    assert torch.equal(inputs, again)
    assert inputs.shape == (1, 3, 4, 2)
    assert cotangent.shape == (1, 3, 4, 5)


def test_a_plain_loop_is_the_cell() -> None:
    for shape in SMALL:
        plain = by_hand._Plain(shape)
        x = torch.randn(shape.length, shape.batch, shape.inputs)
        assert torch.allclose(plain(x), torch.stack(by_hand.states(plain.cell, x)), atol=1e-6), shape


def test_the_loop_over_cells_is_torch_nn() -> None:
    for shape in SMALL:
        cell = by_hand.MODULES[shape.cell](shape.inputs, shape.hidden)
        whole = alone.MODULES[shape.cell](shape.inputs, shape.hidden)
        whole.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
        x = torch.randn(shape.length, shape.batch, shape.inputs)
        assert torch.allclose(whole(x)[0], torch.stack(by_hand.states(cell, x)), atol=1e-6), shape


@pytest.mark.slow
def test_every_contestant_runs() -> None:
    for shape in SMALL:
        entrants = [
            entrant for name, entrant in contestants.steps(shape, "cpu") if "auto" in name or "stepwise" in name
        ]
        entrants += [run for _, run in torch_nn.steps(shape, "cpu")]
        entrants += [build(shape, "cpu") for build in (by_hand.retain_grad, by_hand.autograd_grad, by_hand.stacked)]
        models = []
        for contestant in entrants:
            assert isinstance(contestant, Contestant)
            contestant.run(2)
            models.append(contestant.models)
        assert models[-3:] == [1, 1, by_hand.STACKED]


def test_engines_of_another_device_are_not_asked() -> None:
    assert contestants.engines("cpu")[0] == "auto"
    assert "cuda" not in contestants.engines("cpu")
    assert "cpu" not in contestants.engines("cuda")


def test_what_auto_takes() -> None:
    taken = dict(part.split(": ") for part in contestants.auto("cpu").split(", "))
    assert list(taken) == list(CELLS)
    assert set(taken.values()) <= {"cpu", "stepwise"}


def test_a_pack_trains_every_run() -> None:
    pack = contestants.Pack(Shape("gru", hidden=5, batch=3, length=4, inputs=2, replicas=3), "cpu", instrumented=True)
    before = [leaf.detach().clone() for leaf in pack.weights.rows]
    pack.step()
    for leaf, was in zip(pack.weights.rows, before, strict=True):
        assert float((leaf - was).detach().abs().max()) == pytest.approx(1e-3, rel=1e-2)  # Adam's first step is lr


def test_a_pack_that_is_replayed_trains_the_same_runs() -> None:
    """With a step again in place of a CUDA graph."""
    shape = Shape("lstm", hidden=5, batch=3, length=4, inputs=2, replicas=3)
    plain, replayed = (contestants.Pack(shape, "cpu", instrumented=True) for _ in range(2))

    def record(step: Step, batch: Sequence[Tensor], found: Tensor) -> Replay:
        def replay() -> None:
            found.copy_(step(*batch))

        return replay

    step = GraphedStep(replayed.plain, replayed.changed, record)
    for _ in range(6):
        assert torch.equal(step(), plain.step())
    assert torch.equal(replayed.weights.values, plain.weights.values)
    assert step._replay is not None


@pytest.mark.slow
def test_processes_train_side_by_side() -> None:
    with Processes(2, 1) as processes:
        contestant = processes.training(SMALL[0], "cpu")
        contestant.run(1)
        contestant.run(2)
        processes.training(SMALL[1], "cpu").run(1)
        assert contestant.models == 2
        running = processes.running
    assert [process.returncode for process in running] == [0, 0]


def test_what_is_not_installed_is_told() -> None:
    for name, entrant in triton_kernels.all_kernels(SMALL[0], "cpu"):
        assert isinstance(entrant, NotRun), name
        assert "LSTM" in entrant.reason or "triton" in entrant.reason


IN_TRITON = """
import torch
from benchmarks.peers import triton_rnn

torch.manual_seed(0)
R, T, B, D, H = 2, 7, 19, 5, 32
inputs, cotangent = torch.randn(R, T, B, D), torch.randn(R, T, B, H)
weights = {"weight_ih": torch.randn(R, H, D) / 5, "weight_hh": torch.randn(R, H, H) / 5, "bias": torch.randn(R, H) / 5}
found = triton_rnn.train(inputs, cotangent, weights, "ieee")
for r in range(R):
    module = torch.nn.RNNCell(D, H, dtype=torch.float64)
    given = {name.replace("bias", "bias_ih"): value[r] for name, value in weights.items()}
    module.load_state_dict({"bias_hh": torch.zeros(H), **given})
    states, h = [], torch.zeros(B, H, dtype=torch.float64)
    for t in range(T):
        h = module(inputs[r, t].double(), h)
        h.retain_grad()
        states.append(h)
    torch.stack(states).backward(cotangent[r].double())
    expected = {"outputs": torch.stack(states), "squares": torch.stack([h.grad.square().sum(-1) for h in states])}
    expected |= {name: module.get_parameter(name.replace("bias", "bias_ih")).grad for name in weights}
    for name, value in expected.items():
        error = float((found[name][r] - value).abs().max() / value.abs().max())
        assert error <= 2e-6, (name, error)
"""


@pytest.mark.slow
def test_the_rnn_in_triton() -> None:
    """In Triton's interpreter, against float64 cells of torch.nn."""
    pytest.importorskip("triton", reason="triton is not installed", exc_type=ImportError)
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", IN_TRITON], env=environment, capture_output=True, text=True)
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("this Triton's interpreter cannot count to T with this numpy")
    assert done.returncode == 0, done.stderr
