"""The contestants do what their names say."""

from __future__ import annotations

import pytest
import torch

from goldfish.bench import own
from goldfish.bench.interleave import Contestant, NotRun
from goldfish.bench.peers import alone, by_hand, torch_nn, triton_kernels
from goldfish.bench.peers.processes import Processes
from goldfish.bench.problem import CELLS, Shape, draw

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


def test_every_contestant_runs() -> None:
    for shape in SMALL:
        contestants = [entrant for name, entrant in own.steps(shape, "cpu") if "auto" in name or "stepwise" in name]
        contestants += [run for _, run in torch_nn.steps(shape, "cpu")]
        contestants += [build(shape, "cpu") for build in (by_hand.retain_grad, by_hand.autograd_grad, by_hand.stacked)]
        models = []
        for contestant in contestants:
            assert isinstance(contestant, Contestant)
            contestant.run(2)
            models.append(contestant.models)
        assert models[-3:] == [1, 1, by_hand.STACKED]


def test_engines_of_another_device_are_not_asked() -> None:
    assert own.engines("cpu")[0] == "auto"
    assert "cuda" not in own.engines("cpu")
    assert "cpu" not in own.engines("cuda")


def test_what_auto_takes() -> None:
    taken = dict(part.split(": ") for part in own.auto("cpu").split(", "))
    assert list(taken) == list(CELLS)
    assert set(taken.values()) <= {"cpu", "stepwise"}


def test_a_pack_trains_every_run() -> None:
    pack = own.Pack(Shape("gru", hidden=5, batch=3, length=4, inputs=2, replicas=3), "cpu", instrumented=True)
    before = [leaf.detach().clone() for leaf in pack.weights.rows]
    pack.step()
    for leaf, was in zip(pack.weights.rows, before, strict=True):
        assert float((leaf - was).detach().abs().max()) == pytest.approx(1e-3, rel=1e-2)  # Adam's first step is lr


def test_processes_train_side_by_side() -> None:
    with Processes(2, 1) as processes:
        contestant = processes.training(SMALL[0], "cpu")
        contestant.run(1)
        contestant.run(2)
        processes.training(SMALL[1], "cpu").run(1)
        assert contestant.models == 2
        running = processes._running
    assert [process.returncode for process in running] == [0, 0]


def test_what_is_not_installed_is_told() -> None:
    for name, entrant in triton_kernels.all_kernels(SMALL[0], "cpu"):
        assert isinstance(entrant, NotRun), name
        assert "have LSTM" in entrant.reason
