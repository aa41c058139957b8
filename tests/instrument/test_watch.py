"""`goldfish.watch` on torch.nn's modules, against loops over single steps under autograd, sample by sample."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import goldfish
from goldfish.engines import stepwise
from goldfish.instrument import stack

KINDS = {"rnn": nn.RNN, "relu": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def module_of(kind: str, *, seed: int = 0, D: int = 3, H: int = 4, **options: Any) -> nn.RNNBase:
    torch.manual_seed(seed)
    extra = {"nonlinearity": "relu"} if kind == "relu" else {}
    return KINDS[kind](D, H, **extra, **options)


def step(module: nn.RNNBase, weights: list[Tensor], x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One step from the definition: the new state, and for the LSTM what dh_t passes on to c_t."""
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    a, b = x @ weight_ih.T + bias_ih, state[0] @ weight_hh.T + bias_hh
    if isinstance(module, nn.LSTM):
        i, f, g, o = (a + b).chunk(4, dim=-1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c, torch.sigmoid(o) * (1 - torch.tanh(c) ** 2)
    if isinstance(module, nn.GRU):
        (a_r, a_z, a_n), (b_r, b_z, b_n) = a.chunk(3, dim=-1), b.chunk(3, dim=-1)
        z = torch.sigmoid(a_z + b_z)
        return ((1 - z) * torch.tanh(a_n + torch.sigmoid(a_r + b_r) * b_n) + z * state[0],)
    return (torch.relu(a + b) if module.nonlinearity == "relu" else torch.tanh(a + b),)


def reference(module, x, start):
    """One sequence (T, D), no dropout: outputs (T, DH), final states (L·D, H), and every state."""
    states = 2 if isinstance(module, nn.LSTM) else 1
    kept: list[Any] = []
    finals: list[Any] = []
    for layer in range(module.num_layers):
        outputs = []
        for suffix in ("", "_reverse")[: 1 + module.bidirectional]:
            weights = [getattr(module, f"weight_{name}_l{layer}{suffix}") for name in ("ih", "hh")]
            width = weights[0].shape[0]
            names = ("ih", "hh") if module.bias else ()
            weights += [getattr(module, f"bias_{name}_l{layer}{suffix}") for name in names] or [x.new_zeros(width)] * 2
            state = tuple(own[len(finals)] for own in start)
            order = range(len(x)) if not suffix else range(len(x) - 1, -1, -1)
            path = {}
            for t in order:
                path[t] = step(module, weights, x[t], state)
                for value in path[t][:states]:
                    value.retain_grad()
                state = path[t][:states]
            kept.append(path)
            finals.append(state)
            outputs.append(torch.stack([path[t][0] for t in range(len(x))]))
        x = torch.cat(outputs, dim=-1)
    return x, [torch.stack([final[k] for final in finals]) for k in range(states)], kept


def exact_norms(path):
    """Norms (T,) of one layer and direction after a backward pass."""
    found: dict[str, list[Tensor]] = {}
    for t in range(len(path)):
        h, *rest = path[t]
        squares = {"h": h.grad.square().sum(), "state": h.grad.square().sum()}
        if rest:
            c, passed = rest
            squares["c"] = c.grad.square().sum()
            squares["state"] = squares["h"] + (c.grad - passed * h.grad).square().sum()
        for name, value in squares.items():
            found.setdefault(name, []).append(value.detach().sqrt())
    return {name: torch.stack(values) for name, values in found.items()}


def loss_of(outputs, finals):
    """A loss in which every output and every final state counts, of one sequence or of many (…, T, H)."""
    return (outputs * torch.arange(1, outputs.shape[-1] + 1)).sin().sum() + sum(
        (2 * final).cos().sum() for final in finals
    )


models = st.fixed_dictionaries({
    "kind": st.sampled_from(sorted(KINDS)),
    "num_layers": st.integers(1, 3),
    "bidirectional": st.booleans(),
    "bias": st.booleans(),
    "batch_first": st.booleans(),
    "seed": st.integers(0, 1000),
})  # fmt: skip


@pytest.fixture(params=["cpu", "stepwise"])
def engine(request, monkeypatch):
    """Both engines that a processor has; without Numba there is only the second."""
    if request.param == "stepwise":
        monkeypatch.setattr(stack, "maker", lambda cell, like: stepwise.Layer)


@given(
    options=models, lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), packed=st.booleans(), hx=st.booleans()
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_norms_outputs_and_gradients_are_those_of_a_loop(engine, options, lengths, packed, hx):
    module = module_of(**options).double()
    twin = copy.deepcopy(module)
    lengths = lengths if packed else [max(lengths)] * len(lengths)
    sequences = [torch.randn(length, 3, dtype=torch.float64) for length in lengths]
    rows = module.num_layers * (1 + module.bidirectional)
    states = 2 if isinstance(module, nn.LSTM) else 1
    start = [hx * torch.randn(rows, len(lengths), 4, dtype=torch.float64) for _ in range(states)]
    given = (tuple(start) if states == 2 else start[0]) if hx else None
    with goldfish.watch(module) as flow:
        if packed:
            outputs, finals = module(pack_sequence(sequences, enforce_sorted=False), given)
            padded, _ = pad_packed_sequence(outputs, batch_first=True)
        else:
            batch = torch.stack(sequences)
            outputs, finals = module(batch if module.batch_first else batch.transpose(0, 1), given)
            padded = outputs if module.batch_first else outputs.transpose(0, 1)
        finals = list(finals) if states == 2 else [finals]
        parts = [loss_of(padded[b, :T], [final[:, b] for final in finals]) for b, T in enumerate(lengths)]
        sum(parts).backward()
    measured = flow[""]
    for b, sequence in enumerate(sequences):
        own, own_finals, kept = reference(twin, sequence, [state[:, b] for state in start])
        torch.testing.assert_close(padded[b, : len(sequence)], own, rtol=1e-12, atol=1e-12)
        loss_of(own, own_finals).backward()
        for row, path in enumerate(kept):
            for name, norms in exact_norms(path).items():
                found = measured.log2_norm[name][row, b]
                torch.testing.assert_close(torch.exp2(found[: len(sequence)]), norms, rtol=1e-11, atol=1e-300)
                assert found[len(sequence) :].isnan().all()
                by_lag = norms if row % 2 and module.bidirectional else norms.flip(0)
                ordered = torch.exp2(measured.by_lag(name)[row, b, : len(sequence)])
                torch.testing.assert_close(ordered, by_lag, rtol=1e-11, atol=1e-300)
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, twin.get_parameter(name).grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_dropout_between_layers_is_the_same_draw(engine, kind, packed, dtype):
    """Outputs, states and gradients of torch's own module after the same seed, both directions, unequal lengths."""
    module = module_of(kind, num_layers=3, dropout=0.4, bidirectional=True).to(dtype)
    twin, inputs = copy.deepcopy(module), torch.randn(6, 4, 3, dtype=dtype)

    def run(own: nn.RNNBase) -> Tensor:
        torch.manual_seed(7)
        given = pack_padded_sequence(inputs, [6, 5, 5, 2]) if packed else inputs
        outputs, finals = own(given)
        outputs = pad_packed_sequence(outputs)[0] if packed else outputs
        loss = loss_of(outputs, list(finals) if isinstance(finals, tuple) else [finals])
        loss.backward()
        return torch.cat([outputs.detach().flatten(), loss.detach().view(1)])

    expected = run(twin)
    with goldfish.watch(module):
        found = run(module)
    tolerance = 1e-12 if dtype is torch.float64 else 3e-6
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for name, parameter in module.named_parameters():
        gradient = twin.get_parameter(name).grad
        assert gradient is not None
        atol = 2 * tolerance * float(gradient.abs().max())
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_thousand_of_a_thousand_steps_are_right_in_float32(kind):
    """Two layers, a loss at the last step: float32 gradients are zero far back, the norms are those of float64."""
    module = module_of(kind, D=2, H=16, num_layers=2)
    inputs = torch.randn(1000, 2, 2)
    twin = copy.deepcopy(module).double()
    with goldfish.watch(module) as flow:
        module(inputs)[0][-1].sum().backward()
    with goldfish.watch(twin) as exact:
        twin(inputs.double())[0][-1].sum().backward()
    found, expected = flow[""].log2_norm["state"], exact[""].log2_norm["state"]
    assert found.isfinite().all()
    assert (found - expected).abs().max() < 2e-5  # of numbers down to 2^-500 and less
    assert expected.min() < -149  # where float32 ends


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_float32_has_the_norms_of_float64(engine, kind):
    module = module_of(kind, num_layers=2, bidirectional=True)
    twin, inputs = copy.deepcopy(module).double(), torch.randn(6, 4, 3)
    with goldfish.watch(module) as single, goldfish.watch(twin) as double:
        for own, given_inputs in ((module, inputs), (twin, inputs.double())):
            own(given_inputs)[0].sin().sum().backward()
    for name, norm in single[""].log2_norm.items():
        torch.testing.assert_close(norm.exp2(), double[""].log2_norm[name].exp2(), rtol=2e-6, atol=1e-9)


def test_unbatched_inputs():
    module, inputs = module_of("lstm", bidirectional=True), torch.randn(5, 3)
    expected, (h, c) = module(inputs)
    with goldfish.watch(module) as flow:
        outputs, state = module(inputs)
        outputs.sum().backward()
    for mine, theirs in zip((outputs, *state), (expected, h, c), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-6, atol=2e-6)
    assert flow[""].log2_norm["h"].shape == (2, 1, 5)


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.ModuleDict({"gru": nn.GRU(3, 4), "lstm": nn.LSTM(4, 4)}), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder["lstm"](self.encoder["gru"](x)[0])[0][-1])


def test_a_model_is_as_before_afterwards():
    model, inputs = Reader(), torch.randn(6, 2, 3)
    before = model(inputs)
    with pytest.raises(IndexError), goldfish.watch(model):
        model(inputs)[7].sum().backward()
    assert all("forward" not in module.__dict__ for module in model.modules())
    assert torch.equal(model(inputs), before)
    assert torch.equal(pickle.loads(pickle.dumps(copy.deepcopy(model)))(inputs), before)


def test_nested_and_repeated_watches_see_the_same():
    model, inputs = Reader(), torch.randn(6, 2, 3)
    with goldfish.watch(model) as outer:
        with goldfish.watch(model.encoder["lstm"]) as inner:
            model(inputs).sum().backward()
        model(inputs).sum().backward()
    assert len(outer.calls("encoder.lstm")) == len(outer.calls("encoder.gru")) == 2
    assert len(inner.calls("")) == 1
    for other in (outer.calls("encoder.lstm")[1], inner[""]):
        assert torch.equal(outer.calls("encoder.lstm")[0].log2_norm["h"], other.log2_norm["h"])
    with goldfish.watch(model) as again:
        model(inputs).sum().backward()
    assert torch.equal(again["encoder.gru"].log2_norm["h"], outer["encoder.gru"].log2_norm["h"])


def test_what_has_been_seen_as_table_summary_and_figure():
    model = Reader()
    with goldfish.watch(model) as flow:
        model(torch.randn(6, 2, 3)).sum().backward()
    table = flow.to_frame()
    assert len(table) == 2 * 6 * (2 + 3)  # samples, lags, states of the GRU and of the LSTM
    one = table.query("module == 'encoder.lstm' and state == 'c' and sample == 1 and lag == 2")["log10_norm"].item()
    assert one == pytest.approx(float(flow["encoder.lstm"].log2_norm["c"][0, 1, 3]) * 0.30102999566)
    assert [row["module"] for row in flow.summary()] == ["encoder.gru", "encoder.lstm"]
    assert all(row["decay_rate"] < 0 <= row["horizon"] for row in flow.summary())
    lines = flow.plot().axes[0].get_lines()
    assert [np.size(line.get_ydata()) for line in lines] == [6, 6]


class Dropped(nn.LSTM):
    def forward(self, x):  # type: ignore[override]
        return super().forward(nn.functional.dropout(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2), "the model has no torch.nn.RNN, LSTM or GRU to watch"),
        (nn.Sequential(nn.LSTM(2, 4, proj_size=2)), "'0' has proj_size=2: expected 0"),
        (Dropped(2, 4), "the model is a Dropped with a forward of its own"),
        (nn.DataParallel(nn.LSTM(2, 4)), "the model is a DataParallel: watch the model as it was before"),
        (
            torch.compile(nn.LSTM(2, 4), backend="eager"),
            "the model is a OptimizedModule: watch the model as it was before torch.compile",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(model, message):
    with pytest.raises(ValueError, match=message):
        goldfish.watch(model)


def test_a_forward_that_somebody_has_replaced_is_refused():
    """It would be bypassed, and lost at the end."""
    module = nn.LSTM(2, 4)
    module.forward = module.forward  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="the model has had its forward replaced"):
        goldfish.watch(module)


def test_without_a_backward_pass_the_end_says_so():
    model = Reader()
    message = "no backward pass went through a watched module"
    with pytest.raises(RuntimeError, match=message), goldfish.watch(model), torch.no_grad():
        model(torch.randn(6, 2, 3))
    with goldfish.watch(model) as flow:
        model(torch.randn(6, 2, 3)).sum().backward()
        with pytest.raises(KeyError, match=r"'lstm' is not watched; there are 'encoder.gru', 'encoder.lstm'"):
            flow["lstm"]


def test_autocast_is_refused_inside():
    module = nn.LSTM(2, 4)
    lowered = torch.autocast("cpu", torch.bfloat16)
    with pytest.raises(RuntimeError, match="leave autocast"), goldfish.watch(module), lowered:
        module(torch.randn(3, 1, 2))
    assert "forward" not in module.__dict__
