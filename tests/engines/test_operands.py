"""What an engine is given: torch.nn's numbers for whatever is the same to it, and torch.nn's error for all else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pack_sequence

import goldfish
from goldfish.engines import cuda, stepwise
from goldfish.engines.cuda import function
from goldfish.engines.layers import Recorder
from goldfish.errors import ConfigError
from goldfish.recurrent import Recurrent

KINDS: list[tuple[str, dict[str, Any]]] = [("rnn", {}), ("rnn", {"nonlinearity": "relu"}), ("lstm", {}), ("gru", {})]
TORCH: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
NAMES = ("rnn", "lstm", "gru")
LAYOUTS = ("contiguous", "transposed", "sliced", "expanded", "negated")
ODD = ("float64", "float32", "float16", "bfloat16", "int64", "complex64", "meta", "sparse", "longer")


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The same shape in another layout, with numbers that depend on it."""
    backwards = tuple(range(values.dim()))[::-1]
    if layout == "transposed":
        return values.permute(backwards).contiguous().permute(backwards)
    if layout == "sliced":
        return torch.stack([values, torch.full_like(values, torch.nan)], dim=-1)[..., 0]
    if layout == "expanded":
        return values[:1].expand_as(values)
    return torch._neg_view(-values) if layout == "negated" else values


def made_odd(values: Tensor, odd: str) -> Tensor:
    if odd == "meta":
        return values.to("meta")
    if odd == "sparse":
        return values.to_sparse()
    return torch.cat([values, values], dim=-1) if odd == "longer" else values.to(getattr(torch, odd))


@dataclass
class Problem:
    """A network's tensors by name: inputs "x", states, weights; all with the leading replica axis."""

    name: str
    arguments: dict[str, Any]
    sizes: tuple[int, ...]  # R, B, T, D, H, L
    tensors: dict[str, Tensor] = field(repr=False)
    learnt: set[str]

    def own(self, engine: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What Recurrent gives: outputs and final states, and gradients by name."""
        R, _, _, D, H, L = self.sizes
        recurrent = Recurrent(self.name, D, H, num_layers=L, replicas=R, engine=engine, **self.arguments)
        given = self._given(slice(None))
        for name in dict(recurrent.named_parameters()):
            recurrent.register_parameter(name, nn.Parameter(given[name], requires_grad=given[name].requires_grad))
        given |= dict(recurrent.named_parameters())
        outputs, final = recurrent(given["x"], {name: given[name] for name in recurrent.cell.states})
        return self._results({"outputs": outputs, **final}, given)

    def by_torch(self, replica: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What torch.nn gives for one replica."""
        _, _, _, D, H, L = self.sizes
        module, given = TORCH[self.name](D, H, L, batch_first=True, **self.arguments), self._given(replica)
        for name in dict(module.named_parameters()):
            setattr(module, name, nn.Parameter(given[name], requires_grad=given[name].requires_grad))
        given |= dict(module.named_parameters())
        state = (given["h"], given["c"]) if self.name == "lstm" else given["h"]
        outputs, final = module(given["x"], state)
        states = dict(zip("hc", final, strict=True)) if self.name == "lstm" else {"h": final}
        return self._results({"outputs": outputs, **states}, given)

    def _given(self, pick: Any) -> dict[str, Tensor]:
        return {name: value[pick].detach().requires_grad_(name in self.learnt) for name, value in self.tensors.items()}

    def _results(self, found: dict[str, Tensor], given: dict[str, Tensor]) -> Any:
        loss = torch.stack([value.sin().sum() for value in found.values()]).sum()
        leaves = {name: value for name, value in given.items() if value.requires_grad}
        gradients = torch.autograd.grad(loss, list(leaves.values())) if leaves else ()
        return found, dict(zip(leaves, gradients, strict=True))


@st.composite
def problems(draw: st.DrawFn, smallest: int = 0) -> Problem:
    """Any layout and any mixture of what learns, in one dtype on one device."""
    name, arguments = draw(st.sampled_from(KINDS))
    sizes = R, B, T, D, H, L = (
        draw(st.integers(1, 2)), draw(st.integers(smallest, 3)), draw(st.integers(1, 4)),
        draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 5, 16, 17])), draw(st.integers(1, 2)),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    G = {"rnn": 1, "lstm": 4, "gru": 3}[name] * H
    shapes: dict[str, tuple[int, ...]] = {"x": (R, B, T, D)}
    for state in "hc" if name == "lstm" else "h":
        shapes[state] = (R, L, B, H)
    for layer in range(L):
        own = {"weight_ih": (R, G, H if layer else D), "weight_hh": (R, G, H), "bias_ih": (R, G), "bias_hh": (R, G)}
        shapes |= {f"{key}_l{layer}": shape for key, shape in own.items()}
    layouts = draw(st.lists(st.sampled_from(LAYOUTS), min_size=len(shapes), max_size=len(shapes)))
    tensors = {
        key: laid_out(torch.randn(shape, generator=generator, dtype=dtype) / 2, layout)
        for (key, shape), layout in zip(shapes.items(), layouts, strict=True)
    }
    return Problem(name, arguments, sizes, tensors, draw(st.sets(st.sampled_from(list(shapes)))))


@settings(max_examples=120, deadline=None)
@given(problem=problems(), engine=st.sampled_from(["eager", "stepwise", "auto"]))
def test_any_layout_and_no_sequences(problem: Problem, engine: str) -> None:
    """Outputs, final states and gradients are those of torch.nn, whatever the strides and whatever learns."""
    found, gradients = problem.own(engine)
    for replica in range(problem.sizes[0]):
        expected, expected_gradients = problem.by_torch(replica)
        assert gradients.keys() == expected_gradients.keys()
        for own, others in ((found, expected), (gradients, expected_gradients)):
            for key, value in others.items():
                close(own[key][replica], value, key)


def close(found: Tensor, expected: Tensor, key: str) -> None:
    """To what rounding leaves of a tensor's largest number."""
    found, expected = found.detach(), expected.detach()
    assert found.shape == expected.shape, key
    largest = float(torch.cat([expected.flatten().abs(), expected.new_ones(1)]).max())
    tolerance = (2e-4 if expected.dtype == torch.float32 else 1e-9) * largest
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance, msg=lambda message: f"{key}: {message}")


@settings(max_examples=120, deadline=None)
@given(problem=problems(smallest=1), engine=st.sampled_from(["stepwise", "auto"]), data=st.data())
def test_one_tensor_that_does_not_fit(problem: Problem, engine: str, data: st.DataObject) -> None:
    """Of another dtype, on another device, sparse or too long: torch.nn's error, or ours where torch.nn looks away."""
    which, odd = data.draw(st.sampled_from(sorted(problem.tensors))), data.draw(st.sampled_from(ODD))
    right = problem.tensors[which]
    problem.tensors[which] = made_odd(right, odd)
    problem.learnt = set()
    if problem.tensors[which].dtype == right.dtype and odd.startswith("float"):
        problem.own(engine)
        return
    expected: type[Exception] = RuntimeError  # oneDNN reads beyond weights that are too short, and mixes dtypes
    if odd != "longer":
        try:
            problem.by_torch(0)
        except ValueError:
            expected = ValueError
        except RuntimeError:
            pass
    with pytest.raises(expected) as raised:
        problem.own(engine)
    assert isinstance(raised.value, ValueError) == (expected is ValueError)


@pytest.mark.parametrize("engine", ["eager", "stepwise", "auto"])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_sequences_is_measured(name: str, engine: str) -> None:
    recurrent = Recurrent(name, 3, 4, num_layers=2, replicas=2, engine=engine)
    outputs, final = recurrent(torch.zeros(2, 0, 5, 3))
    with goldfish.gradient_flow(recurrent) as flow:
        outputs.sum().backward()
    assert outputs.shape == (2, 0, 5, 4)
    assert final["h"].shape == (2, 2, 0, 4)
    assert flow.log2_norm["state"].shape == (2, 2, 0, 5)
    for parameter in recurrent.parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_a_meta_network_has_shapes(name: str) -> None:
    recurrent = Recurrent(name, 3, 4, device="meta")
    outputs, final = recurrent(torch.zeros(1, 2, 5, 3, device="meta"))
    assert outputs.is_meta
    assert outputs.shape == (1, 2, 5, 4)
    assert final["h"].shape == (1, 1, 2, 4)
    with pytest.raises(
        RuntimeError, match=r"^Input and parameter tensors are not at the same device: the inputs are on"
    ):
        recurrent(torch.zeros(1, 2, 5, 3))


# Between the forward and the backward pass


def _gradients(name: str, between: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Of the weights, with nothing and with something done between forward and backward."""
    found = []
    for is_done in (False, True):
        torch.manual_seed(0)
        recurrent, inputs = Recurrent(name, 3, 16, engine="cpu"), torch.randn(1, 9, 50, 3)
        parameters = list(recurrent.parameters())
        outputs, _ = recurrent(inputs)
        if is_done:
            between(recurrent, inputs)
        found.append(list(torch.autograd.grad(outputs.sin().sum(), parameters)))
    return found[0], found[1]


def _other_weights(recurrent: Recurrent, inputs: Tensor) -> None:
    for parameter in recurrent.parameters():
        parameter.data = torch.zeros(1)


def _other_inputs(recurrent: Recurrent, inputs: Tensor) -> None:
    inputs.data = torch.zeros(1)


@pytest.mark.parametrize("between", [_other_weights, _other_inputs])
@pytest.mark.parametrize("name", NAMES)
def test_data_that_is_replaced_before_the_backward_pass(name: str, between: Any) -> None:
    """The gradient is that of the forward pass: its memory is still held."""
    expected, found = _gradients(name, between)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


def test_a_network_that_becomes_double_before_the_backward_pass() -> None:
    recurrent, inputs = Recurrent("gru", 3, 16, engine="cpu"), torch.randn(1, 2, 5, 3)
    outputs, _ = recurrent(inputs)
    expected = torch.autograd.grad(outputs.sum(), recurrent.get_parameter("weight_hh_l0"))[0]
    outputs, _ = recurrent(inputs)
    recurrent.double()
    outputs.sum().backward()
    found = recurrent.get_parameter("weight_hh_l0").grad
    assert found is not None
    assert torch.equal(found.float(), expected)


def test_memory_that_was_freed_is_not_read() -> None:
    recurrent, inputs = Recurrent("rnn", 3, 16, engine="cpu"), torch.randn(1, 2, 5, 3)
    outputs, _ = recurrent(inputs)
    inputs.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=r"^a tensor of shape \(1, 5, 2, 3\) has no memory"):
        outputs.sum().backward()


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor:UserWarning")
def test_fake_tensors_have_no_memory() -> None:
    with FakeTensorMode(), pytest.raises(RuntimeError, match="has no memory: it is fake"):
        Recurrent("lstm", 3, 4, engine="cpu")(torch.zeros(1, 2, 5, 3))


# What is no tensor, or no network


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_trace_takes_eager() -> None:
    recurrent, inputs = Recurrent("rnn", 3, 4).requires_grad_(False), torch.randn(1, 2, 5, 3)
    traced = torch.jit.trace(lambda x: recurrent(x)[0], (inputs,), check_trace=False)
    torch.testing.assert_close(traced(2 * inputs), recurrent(2 * inputs)[0])
    with pytest.raises(ConfigError, match=r"^engine=cpu: torch\.jit cannot trace it; use engine=eager$"):
        torch.jit.trace(lambda x: Recurrent("rnn", 3, 4, engine="cpu")(x)[0], (inputs,))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_what_is_no_tensor() -> None:
    recurrent, inputs = Recurrent("lstm", 3, 4), torch.zeros(1, 2, 5, 3)
    nested = torch.nested.nested_tensor([inputs[0, 0], inputs[0, 1, :2]])
    for wrong, kind in ((np.zeros((1, 2, 5, 3)), "ndarray"), (nested, "nested tensor")):
        with pytest.raises(TypeError, match=f"^the inputs are a {kind}, expected a tensor"):
            recurrent(wrong)
    with pytest.raises(TypeError, match=r"^the inputs are a PackedSequence, expected a tensor"):
        recurrent(pack_sequence([inputs[0, 0], inputs[0, 1, :2]]))
    message = r"^the state is a tuple, expected a dictionary {'h': …, 'c': …} of tensors \(R, L, B, H\)$"
    with pytest.raises(TypeError, match=message):
        recurrent(inputs, (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 0}, "input_size=0: expected int ≥ 1"),
        ({"input_size": -1}, "input_size=-1: expected int ≥ 1"),
        ({"input_size": 2.0}, r"input_size=2\.0: expected int ≥ 1"),
        ({"replicas": 0}, "replicas=0: expected int ≥ 1"),
        ({"hidden_size": -2}, "cell.hidden_size=-2: expected int"),
        ({"dtype": torch.complex64}, "dtype=torch.complex64: expected real floating-point numbers"),
        ({"dtype": torch.int64}, "dtype=torch.int64: expected real floating-point numbers"),
    ],
)
def test_networks_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recurrent("gru", **{"input_size": 3, **arguments})


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning")
def test_a_network_that_becomes_complex() -> None:
    recurrent = Recurrent("rnn", 3, 4).to(torch.complex64)
    with pytest.raises(RuntimeError, match=r"^the weights are torch\.complex64: expected real floating-point numbers$"):
        recurrent(torch.zeros(1, 2, 5, 3, dtype=torch.complex64))


# The CUDA engine, as far as it goes without a device


def _run(engine: Any, inputs: Tensor) -> Tensor:
    recurrent = Recurrent("gru", 3, 4)
    initial = [(torch.zeros(1, inputs.shape[2], 4),)]
    return engine.run(recurrent.cell, inputs, [recurrent.layer_weights(0)], initial, Recorder(), {})[0]


def test_cuda_checks_before_it_starts_a_kernel() -> None:
    with pytest.raises(ValueError, match=r"^RNN input dtype \(torch.float64\) does not match weight dtype"):
        _run(cuda, torch.zeros(1, 5, 2, 3, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"^Input and parameter tensors are not at the same device"):
        _run(function, torch.zeros(1, 5, 2, 3, device="meta"))


def test_cuda_starts_no_kernel_without_sequences() -> None:
    inputs = torch.zeros(1, 5, 0, 3)
    assert torch.equal(_run(cuda, inputs), _run(stepwise, inputs))
