"""The module: torch.nn's weights and outputs, its errors, its state, and a cell that has nothing but a step."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engines.reference import Case, Unrolled, each_case, gradient, relative, relative_log2
from torch import Tensor, nn

import goldfish
from goldfish.cells.base import Cell, HandDerivedCell, State
from goldfish.config import registry
from goldfish.engines import cpu, eager, select, stepwise
from goldfish.errors import ConfigError
from goldfish.recurrent import Recurrent

TORCH: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
HAND_DERIVED = [name for name in registry.names("cell") if issubclass(registry.load("cell", name), HandDerivedCell)]


def _inputs(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


# torch.nn


def _torch_final(name: str, final: Any) -> dict[str, Tensor]:
    return dict(zip("hc", final, strict=True)) if name == "lstm" else {"h": final}


@pytest.mark.parametrize("engine", ["eager", "stepwise", "cpu"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize(
    ("name", "arguments"), [("rnn", {}), ("rnn", {"nonlinearity": "relu"}), ("lstm", {}), ("gru", {})]
)
def test_torch_modules_go_in_and_come_out(name: str, arguments: Any, layers: int, engine: str) -> None:
    """load_torch, then the module's outputs and final state; to_torch, then its weights, bit for bit."""
    torch.manual_seed(0)
    modules = [TORCH[name](3, 5, layers, batch_first=True, dtype=torch.float64, **arguments) for _ in range(2)]
    recurrent = Recurrent(name, 3, 5, num_layers=layers, replicas=2, engine=engine, dtype=torch.float64, **arguments)
    for r, module in enumerate(modules):
        recurrent.load_torch(r, module)
    inputs = _inputs(2, 4, 6, 3, dtype=torch.float64)
    state = {key: _inputs(2, layers, 4, 5, dtype=torch.float64) for key in recurrent.cell.states}
    outputs, final = recurrent(inputs, state)
    for r, module in enumerate(modules):
        given = tuple(value[r] for value in state.values())
        expected, expected_final = module(inputs[r], given if name == "lstm" else given[0])
        torch.testing.assert_close(outputs[r], expected, rtol=1e-12, atol=1e-13)
        for key, value in _torch_final(name, expected_final).items():
            torch.testing.assert_close(final[key][r], value, rtol=1e-12, atol=1e-13)
        back = recurrent.to_torch(r)
        assert type(back) is type(module)
        assert back.state_dict().keys() == module.state_dict().keys()
        for key, value in back.state_dict().items():
            assert torch.equal(value, module.state_dict()[key])
        assert torch.equal(back(inputs[r])[0], module(inputs[r])[0])


@pytest.mark.parametrize("name", TORCH)
def test_state_dict_is_named_as_in_torch(name: str) -> None:
    recurrent, module = Recurrent(name, 3, 5, num_layers=2, replicas=4), TORCH[name](3, 5, 2)
    shapes = {key: (4, *value.shape) for key, value in module.state_dict().items()}
    assert {key: tuple(value.shape) for key, value in recurrent.state_dict().items()} == shapes


def test_load_torch_refuses_what_does_not_fit() -> None:
    recurrent = Recurrent("rnn", 3, 5, replicas=2)
    before = {key: value.clone() for key, value in recurrent.state_dict().items()}
    for module, message in (
        (nn.RNN(4, 5), r"weight_ih_l0 has shape \(5, 4\), expected \(5, 3\)"),
        (nn.GRU(3, 5), r"weight_ih_l0 has shape \(15, 3\), expected \(5, 3\)"),
        (nn.RNN(3, 5, 2), "the module has the weights"),
        (nn.RNN(3, 5, 2, dropout=0.5), r"the module has dropout=0\.5, and Recurrent covers dropout=0 alone"),
        (nn.RNN(3, 5, nonlinearity="relu"), "the module has nonlinearity relu, expected tanh"),
    ):
        with pytest.raises(ValueError, match=message):
            recurrent.load_torch(0, module)
    for key, value in recurrent.state_dict().items():
        assert torch.equal(value, before[key]), "refused, yet written"


def test_to_torch_refuses_what_torch_has_not() -> None:
    with pytest.raises(ValueError, match=r"torch\.nn has no rnn with nonlinearity identity"):
        Recurrent("rnn", 3, 5, nonlinearity="identity").to_torch(0)


# Errors


@pytest.mark.parametrize(
    ("cell", "arguments", "message"),
    [
        ("lstn", {}, r"cell=lstn: did you mean 'lstm'\?"),
        ("lstm", {"engine": "stepwize"}, r"engine=stepwize: did you mean 'stepwise'\?"),
        ("rnn", {"nonlinearity": "softplus"}, "cell.nonlinearity=softplus: .*identity, relu, sigmoid, tanh"),
        ("rnn", {"non_linearity": "relu"}, r"cell.non_linearity=relu: .*did you mean 'nonlinearity'\?"),
        ("gru", {"nonlinearity": "relu"}, "cell.nonlinearity=relu: unknown argument of gru"),
        ("rnn", {"hidden_size": 0}, "cell.hidden_size=0: expected int"),
        ("rnn", {"num_layers": 0}, "cell.num_layers=0: expected int"),
        ("rnn", {"hidden_size": 1.5}, "cell.hidden_size=1.5: expected int"),
    ],
)
def test_bad_arguments(cell: str, arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recurrent(cell, 3, **arguments)


def test_bad_shapes() -> None:
    recurrent = Recurrent("lstm", 3, 5, num_layers=2, replicas=2)
    good, state = _inputs(2, 4, 6, 3), {"h": _inputs(2, 2, 4, 5), "c": _inputs(2, 2, 4, 5)}
    recurrent(good, state)
    for inputs, error in ((_inputs(4, 6, 3), ValueError), (_inputs(1, 4, 6, 3), RuntimeError)):
        with pytest.raises(error, match=r"expected \(2, B, T, 3\)"):
            recurrent(inputs)
    with pytest.raises(RuntimeError, match=r"expected \(2, B, T, 3\)"):
        recurrent(_inputs(2, 4, 6, 2))
    with pytest.raises(RuntimeError, match="no time steps"):
        recurrent(_inputs(2, 4, 0, 3))
    with pytest.raises(ValueError, match=r"the state has \['h'\], expected \['c', 'h'\]"):
        recurrent(good, {"h": state["h"]})
    for wrong in (_inputs(2, 1, 4, 5), _inputs(1, 2, 4, 5), _inputs(2, 2, 1, 5), _inputs(2, 4, 5)):
        with pytest.raises(RuntimeError, match=r"the state's c has shape .*, expected \(2, 2, 4, 5\)"):
            recurrent(good, state | {"c": wrong})


# States


@each_case
def test_two_halves_equal_the_whole(case: Case) -> None:
    """Outputs, final state and gradients, the state carried across; also one step at a time."""
    torch.manual_seed(1)
    recurrent = case.build(3, 5, num_layers=2, replicas=2, dtype=torch.float64)
    inputs = _inputs(2, 3, 9, 3, dtype=torch.float64)
    whole, final = recurrent(inputs)
    (whole.square().sum() + final["h"].sum()).backward()
    expected = [gradient(parameter).clone() for parameter in recurrent.parameters()]
    for cuts in ([4, 5], [1] * 9):
        recurrent.zero_grad()
        pieces: list[Tensor] = []
        state = None
        for chunk in inputs.split(cuts, dim=2):
            outputs, state = recurrent(chunk, state)
            pieces.append(outputs)
        assert state is not None
        joined = torch.cat(pieces, dim=2)
        torch.testing.assert_close(joined, whole, rtol=1e-12, atol=1e-14)
        for name, value in state.items():
            torch.testing.assert_close(value, final[name], rtol=1e-12, atol=1e-14)
        (joined.square().sum() + state["h"].sum()).backward()
        for parameter, value in zip(recurrent.parameters(), expected, strict=True):
            torch.testing.assert_close(gradient(parameter), value, rtol=1e-10, atol=1e-12)


@each_case
def test_final_state(case: Case) -> None:
    """The top layer's final h is the last output; without a given state it starts at zero."""
    torch.manual_seed(2)
    recurrent = case.build(3, 5, num_layers=2, replicas=2)
    inputs = _inputs(2, 3, 9, 3)
    outputs, final = recurrent(inputs)
    assert torch.equal(final["h"][:, -1], outputs[:, :, -1])
    zeros = {name: torch.zeros(2, 2, 3, 5) for name in recurrent.cell.states}
    assert torch.equal(recurrent(inputs, zeros)[0], outputs)


@given(
    name=st.sampled_from(HAND_DERIVED),
    shape=st.tuples(*[st.integers(1, high) for high in (3, 4, 7, 4, 6, 3)]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_stepwise_equals_eager(name: str, shape: tuple[int, ...], seed: int) -> None:
    """Whatever R, B, T, D, H, L: outputs, final state, gradients and norms."""
    R, B, T, D, H, L = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    by_hand = Recurrent(name, D, H, num_layers=L, replicas=R, engine="stepwise", dtype=torch.float64)
    plain = Recurrent(name, D, H, num_layers=L, replicas=R, engine="eager", dtype=torch.float64)
    with torch.no_grad():
        for parameter in by_hand.parameters():
            parameter.copy_(draw(*parameter.shape))
    plain.load_state_dict(by_hand.state_dict())
    inputs, on_outputs = draw(R, B, T, D), draw(R, B, T, H)
    state = {key: draw(R, L, B, H) for key in plain.cell.states}
    results: list[dict[str, Tensor]] = []
    for recurrent in (by_hand, plain):
        leaves = {"x": inputs.clone().requires_grad_()}
        leaves |= {key: value.clone().requires_grad_() for key, value in state.items()}
        outputs, final = recurrent(leaves["x"], {key: leaves[key] for key in state})
        loss = (outputs * on_outputs).sum() + torch.stack([value.square().sum() for value in final.values()]).sum()
        with goldfish.gradient_flow(recurrent) as flow:
            loss.backward()
        leaves |= dict(recurrent.named_parameters())
        found = {"outputs": outputs, **{f"final {key}": value for key, value in final.items()}, **flow.log2_norm}
        results.append(found | {f"gradient of {key}": gradient(leaf) for key, leaf in leaves.items()})
    for key, value in results[0].items():
        torch.testing.assert_close(value, results[1][key], rtol=1e-9, atol=1e-10, msg=key)


# A cell that has nothing but a step


class MinimalGatedUnit(Cell):
    """Zhou et al. 2016: f = σ(…), n = tanh(W_n x + b + f (U_n h + b')), h' = (1 - f) h + f n."""

    gates = ("f", "n")

    def step(self, wx: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor) -> State:
        (h,) = state
        H = h.shape[-1]
        wh = torch.baddbmm(bias_hh.unsqueeze(1), h, weight_hh.mT)
        f = torch.sigmoid((wx + wh)[..., :H])
        n = torch.tanh(wx[..., H:] + f * wh[..., H:])
        return ((1 - f) * h + f * n,)


class Leaky(Cell):
    """Two states, the second one never read by the first: its adjoint is its own."""

    states = ("h", "average")

    def step(self, wx: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor) -> State:
        h = torch.tanh(wx + torch.baddbmm(bias_hh.unsqueeze(1), state[0], weight_hh.mT))
        return h, 0.9 * state[1] + 0.1 * h


@pytest.mark.parametrize("kind", [MinimalGatedUnit, Leaky])
def test_a_cell_with_only_a_step_runs_and_is_measured(kind: type[Cell]) -> None:
    """auto takes eager; outputs, gradients and norms are those of its step unrolled in float64."""
    torch.manual_seed(3)
    recurrent = Recurrent(kind(hidden_size=6, num_layers=2), 3, replicas=1, dtype=torch.float64)
    assert select.choose("auto", recurrent.cell, torch.device("cpu"), torch.float64) is eager
    assert recurrent.name == kind.__name__.lower()
    inputs = _inputs(1, 4, 20, 3, dtype=torch.float64)
    outputs, final = recurrent(inputs)
    loss = outputs[:, :, -1].sum() + torch.stack([value.sum() for value in final.values()]).sum()
    with goldfish.gradient_flow(recurrent) as flow:
        loss.backward()
    zeros = {name: torch.zeros(2, 4, 6) for name in recurrent.cell.states}
    unrolled = Unrolled(recurrent, 0, inputs[0], zeros)
    (unrolled.outputs[:, -1].sum() + torch.stack([value.sum() for value in unrolled.final.values()]).sum()).backward()
    assert relative(outputs[0], unrolled.outputs) <= 1e-12
    for name, expected in unrolled.weight_gradients().items():
        assert relative(gradient(recurrent.get_parameter(name))[0], expected, expected.dim()) <= 1e-12
    for name, norm in unrolled.log2_norms().items():
        assert relative_log2(flow.log2_norm[name][0], norm) <= 1e-12


def test_a_cell_with_only_a_step_has_no_stepwise_engine() -> None:
    with pytest.raises(ConfigError, match="engine=stepwise: cell=minimalgatedunit has no hand-derived adjoint"):
        Recurrent(MinimalGatedUnit(hidden_size=4, num_layers=1), 3, engine="stepwise")


def _chosen(engine: str, name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> ModuleType:
    return select.choose(engine, Recurrent(name, 3, 4).cell, torch.device(device), dtype)


@pytest.mark.parametrize("name", HAND_DERIVED)
def test_auto_takes_the_compiled_engine_where_it_can(name: str) -> None:
    assert _chosen("auto", name) is cpu
    assert _chosen("auto", name, device="meta") is stepwise
    assert _chosen("eager", name) is eager


def test_auto_says_once_why_it_took_stepwise(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        assert _chosen("auto", "lstm", dtype=torch.bfloat16) is stepwise
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "stepwise instead of cpu, which is faster: it computes in float32 and float64, not in bfloat16"
    )


def test_an_engine_that_cannot_run_here_is_refused() -> None:
    with pytest.raises(ConfigError, match="engine=cpu: it computes in float32 and float64, not in float16"):
        _chosen("cpu", "rnn", dtype=torch.float16)
    with pytest.raises(ConfigError, match="engine=cuda: the tensors are on cpu; use engine=auto"):
        _chosen("cuda", "rnn")


# Initialisation


@pytest.mark.parametrize("name", registry.names("cell"))
def test_weights_are_drawn_as_torch_draws_them(name: str) -> None:
    """U(±1/√H), every one of them, when made and by `initialise`; the seed alone decides, not the pack."""
    H = 16
    recurrent = Recurrent(name, 3, H, num_layers=2, replicas=3)
    for replica in range(3):
        recurrent.initialise(replica, lambda layer, generator: None, torch.Generator().manual_seed(7))
    alone = Recurrent(name, 3, H, num_layers=2)
    alone.initialise(0, lambda layer, generator: None, torch.Generator().manual_seed(7))
    for made in (recurrent, Recurrent(name, 3, H, num_layers=2, replicas=3)):
        values = torch.cat([parameter.detach().flatten() for parameter in made.parameters()])
        assert values.abs().max() <= H**-0.5
        assert float(values.std()) == pytest.approx((H * 3) ** -0.5, rel=0.03)
    for key, value in recurrent.state_dict().items():
        assert torch.equal(value, alone.state_dict()[key].expand_as(value))


def test_initialise_shows_each_layer_gate_by_gate() -> None:
    recurrent = Recurrent("lstm", 3, 4, num_layers=2, replicas=2)
    seen = []

    def forget_one(layer: Any, generator: torch.Generator, *, value: float) -> None:
        seen.append((layer.cell, layer.gates, layer.hidden_size, layer.sequence_length, tuple(layer.weight_ih.shape)))
        layer.set_bias("f", value)

    before = recurrent.get_parameter("bias_ih_l0")[0].clone()
    recurrent.initialise(1, forget_one, torch.Generator().manual_seed(0), sequence_length=30, value=2.5)
    gates = ("i", "f", "g", "o")
    assert seen == [("lstm", gates, 4, 30, (4, 4, 3)), ("lstm", gates, 4, 30, (4, 4, 4))]
    for layer in range(2):
        total = recurrent.get_parameter(f"bias_ih_l{layer}") + recurrent.get_parameter(f"bias_hh_l{layer}")
        assert torch.equal(total[1, 4:8], torch.full((4,), 2.5))
    assert torch.equal(recurrent.get_parameter("bias_ih_l0")[0], before)
