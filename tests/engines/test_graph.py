"""What autograd may do with an engine's graph: run it later, twice, never; and what it must refuse."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from tests.engines.reference import Case, Tensors, each_case, gradient
from torch import Tensor

from goldfish.recurrent import Recurrent

R, B, T, D, H = 2, 3, 6, 4, 5


def _problem(case: Case, layers: int = 2) -> tuple[Recurrent, Tensor]:
    torch.manual_seed(3)
    return case.build(D, H, num_layers=layers, replicas=R, dtype=torch.float64), torch.randn(R, B, T, D).double()


def _loss(recurrent: Recurrent, inputs: Tensor) -> Tensor:
    outputs, final = recurrent(inputs)
    return outputs.square().sum() + torch.stack([value.sin().sum() for value in final.values()]).sum()


def _gradients(recurrent: Recurrent) -> Tensors:
    found = {name: gradient(parameter).clone() for name, parameter in recurrent.named_parameters()}
    recurrent.zero_grad()
    return found


def _assert_same(found: Tensors, expected: Tensors) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


@each_case
def test_two_forward_passes_before_the_backward_ones(case: Case) -> None:
    """Graphs that live together share no buffer, in whichever order they are run back."""
    recurrent, inputs = _problem(case)
    others = inputs.flip(0) * 2
    expected = []
    for given in (inputs, others):
        _loss(recurrent, given).backward()
        expected.append(_gradients(recurrent))
    first, second = _loss(recurrent, inputs), _loss(recurrent, others)
    with torch.no_grad():
        recurrent(others)  # an evaluation in between
    first.backward()
    _assert_same(_gradients(recurrent), expected[0])
    _loss(recurrent, inputs).backward()  # the first graph's buffers may now be used again
    _assert_same(_gradients(recurrent), expected[0])
    second.backward()
    _assert_same(_gradients(recurrent), expected[1])


@each_case
def test_the_same_graph_twice(case: Case) -> None:
    recurrent, inputs = _problem(case)
    loss = _loss(recurrent, inputs)
    loss.backward(retain_graph=True)
    first = _gradients(recurrent)
    loss.backward()
    _assert_same(_gradients(recurrent), first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@each_case
def test_outputs_written_over_are_noticed(case: Case) -> None:
    """The backward pass reads them: autograd must refuse, not compute nonsense."""
    recurrent, inputs = _problem(case)
    outputs, _ = recurrent(inputs)

    def spoil() -> None:
        outputs.mul_(2)
        outputs.sum().backward()

    with pytest.raises(RuntimeError, match=r"modified|inplace"):
        spoil()


@each_case
def test_weights_changed_before_the_backward_pass_are_noticed(case: Case) -> None:
    recurrent, inputs = _problem(case)
    loss = _loss(recurrent, inputs)
    with torch.no_grad():
        recurrent.get_parameter("weight_hh_l0").mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@each_case
def test_outputs_are_the_callers_own(case: Case) -> None:
    """A later pass over the same shapes writes into none of them."""
    recurrent, inputs = _problem(case)
    for learn in (False, True):
        with torch.set_grad_enabled(learn):
            outputs, final = recurrent(inputs)
            kept = [value.detach() for value in (outputs, *final.values())]
            before = [value.clone() for value in kept]
            del outputs, final
            recurrent(inputs * 3)
        for value, expected in zip(kept, before, strict=True):
            assert torch.equal(value, expected)


@each_case
def test_graphs_die_at_once(case: Case) -> None:
    """By reference counting alone: a cycle would hold a graph's buffers until the collector comes by."""
    recurrent, inputs = _problem(case)
    gc.collect()
    gc.disable()
    try:
        for backward in (True, False):
            outputs, final = recurrent(inputs)
            engine = weakref.ref(outputs.grad_fn.next_functions[0][0])
            assert engine() is not None
            if backward:
                outputs.sum().backward()
            del outputs, final
            assert engine() is None
    finally:
        gc.enable()


@pytest.mark.slow
@each_case
def test_memory_does_not_grow(case: Case) -> None:
    """Fifty training steps hold no more tensors and lend no more buffers than three."""
    recurrent, inputs = _problem(case)

    def held() -> tuple[int, int]:
        gc.collect()
        buffers = sum(len(free) for free in recurrent._pool.values())
        return sum(issubclass(type(item), Tensor) for item in gc.get_objects()), buffers

    counts = []
    for iteration in range(50):
        loss = _loss(recurrent, inputs)
        loss.backward()
        with torch.no_grad():
            recurrent(inputs)
        if iteration in (2, 49):
            counts.append(held())
    assert counts[0] == counts[1]


@each_case
def test_buffers_are_lent_again(case: Case) -> None:
    """The fast engines allocate their sequence buffers in the first step only; eager has none."""
    recurrent, inputs = _problem(case)

    def addresses() -> set[int]:
        return {buffer.data_ptr() for free in recurrent._pool.values() for buffer in free}

    _loss(recurrent, inputs).backward()
    first = addresses()
    assert bool(first) == (case.engine != "eager")
    for _ in range(3):
        loss = _loss(recurrent, inputs)
        assert len(addresses()) < max(len(first), 1)  # lent out while the graph lives
        loss.backward()
        del loss
        assert addresses() == first


@pytest.mark.parametrize("case", [Case("lstm", None, "stepwise"), Case("lstm", None, "cpu")], ids=str)
def test_no_second_derivative(case: Case) -> None:
    """The hand-derived backward passes have none and say so."""
    recurrent, inputs = _problem(case)
    (found,) = torch.autograd.grad(_loss(recurrent, inputs), recurrent.get_parameter("weight_hh_l0"), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        found.sum().backward()


@each_case
def test_gradcheck(case: Case) -> None:
    """torch's own finite differences, in float64, on tiny shapes."""
    torch.manual_seed(4)
    recurrent = case.build(2, 3, num_layers=2, replicas=2, dtype=torch.float64)
    names = recurrent.cell.states
    # ReLU's kink is nowhere near: finite differences step 1e-6
    inputs = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    state = [torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True) for _ in names]
    parameters = [name for name, _ in recurrent.named_parameters()]

    def run(inputs: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        initial = dict(zip(names, others, strict=False))
        weights = dict(zip(parameters, others[len(names) :], strict=True))
        outputs, final = torch.func.functional_call(recurrent, weights, (inputs, initial))
        return outputs, *final.values()

    values = [parameter.detach().clone().requires_grad_() for parameter in recurrent.parameters()]
    assert torch.autograd.gradcheck(run, (inputs, *state, *values))


@each_case
def test_without_gradients(case: Case) -> None:
    """The same bits, and no graph, under no_grad and in inference mode; afterwards training goes on."""
    recurrent, inputs = _problem(case)
    expected, final = recurrent(inputs)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            outputs, states = recurrent(inputs)
        assert not outputs.requires_grad
        assert torch.equal(outputs, expected)
        for name, value in states.items():
            assert torch.equal(value, final[name])
    _loss(recurrent, inputs).backward()
    assert all(gradient(parameter).abs().sum() > 0 for parameter in recurrent.parameters())
