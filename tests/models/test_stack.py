"""Stacks of any depth in both directions, against torch.nn on packed sequences, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from goldfish.models.parts.stack import Builder, Stack, reversal
from goldfish.models.recurrent import ManyToMany, ManyToOne
from goldfish.tasks.base import last_step

R, B, T, D, H = 2, 5, 9, 3, 4
LENGTHS = torch.tensor([9, 1, 4, 7, 2])
TORCH = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def build(cell: str, layers: int, *, bidirectional: bool, engine: str = "auto") -> Stack:
    builder = Builder(cell, R, engine, {"hidden_size": H, "num_layers": layers})
    return Stack(builder, D, bidirectional=bidirectional).double()


def in_torch(layers: Stack, replica: int) -> nn.RNNBase:
    """The same weights in one module of torch.nn."""
    two = len(layers.backwards) > 0
    network = layers.top
    module = TORCH[network.name](D, H, len(layers.forwards), batch_first=True, bidirectional=two).double()
    state = {}
    for index in range(len(layers.forwards)):
        for suffix, kind in (("", layers.forwards), ("_reverse", layers.backwards)):
            for name, value in kind[index].named_parameters() if two or not suffix else ():
                state[name.replace("_l0", f"_l{index}{suffix}")] = value[replica].detach()
    module.load_state_dict(state)
    return module


def masks() -> tuple[Tensor, Tensor]:
    """(R, B, T): all steps of each sequence, and its last one."""
    steps = torch.arange(T).expand(R, B, T)
    return steps < LENGTHS.unsqueeze(1), steps == LENGTHS.unsqueeze(1) - 1


@pytest.mark.parametrize("cell", sorted(TORCH))
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_outputs_and_gradients_equal_torch_on_packed_sequences(cell: str, layers: int, bidirectional: bool) -> None:
    torch.manual_seed(0)
    ours = build(cell, layers, bidirectional=bidirectional)
    inputs = torch.randn(R, B, T, D, dtype=torch.float64, requires_grad=True)
    every, last = masks()
    cotangent = torch.randn(R, B, T, H * (1 + bidirectional), dtype=torch.float64) * every.unsqueeze(-1)
    outputs = ours(inputs, last)
    (found,) = torch.autograd.grad((outputs * cotangent).sum(), inputs)
    for replica in range(R):
        theirs = inputs[replica].detach().requires_grad_()
        packed = pack_padded_sequence(theirs, LENGTHS, batch_first=True, enforce_sorted=False)
        expected, _ = pad_packed_sequence(in_torch(ours, replica)(packed)[0], batch_first=True)
        torch.testing.assert_close(outputs[replica] * every[0].unsqueeze(-1), expected, rtol=0, atol=1e-12)
        (gradient,) = torch.autograd.grad((expected * cotangent[replica]).sum(), theirs)
        torch.testing.assert_close(found[replica], gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", sorted(TORCH))
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("model", [ManyToOne, ManyToMany])
def test_padding_changes_nothing(cell: str, bidirectional: bool, model: type[ManyToOne | ManyToMany]) -> None:
    torch.manual_seed(1)
    network = model(build(cell, 2, bidirectional=bidirectional), 3).double()
    nn.init.normal_(network.readout.weight)
    inputs = torch.randn(R, B, T, D, dtype=torch.float64)
    every, last = masks()
    whole = network(inputs, last if model is ManyToOne else every)
    for row, length in enumerate(LENGTHS.tolist()):
        mask = torch.ones(R, 1, length, dtype=torch.bool)
        alone = network(inputs[:, row : row + 1, :length], mask)
        together = whole[:, row : row + 1] if model is ManyToOne else whole[:, row : row + 1, :length]
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_many_to_one_reads_both_ends() -> None:
    torch.manual_seed(2)
    layers = build("gru", 1, bidirectional=True)
    network = ManyToOne(layers, 2).double()
    nn.init.normal_(network.readout.weight)
    inputs, (_, last) = torch.randn(R, B, T, D, dtype=torch.float64), masks()
    found = network(inputs, last)
    for replica in range(R):
        packed = pack_padded_sequence(inputs[replica], LENGTHS, batch_first=True, enforce_sorted=False)
        _, final = in_torch(layers, replica)(packed)
        read = (
            torch.cat([final[0], final[1]], dim=-1) @ network.readout.weight[replica].mT + network.readout.bias[replica]
        )
        torch.testing.assert_close(found[replica], read, rtol=0, atol=1e-12)


def test_turning_round_by_hand() -> None:
    mask = torch.tensor([[False, False, True, False], [True, False, False, False], [True, True, True, True]])
    assert reversal(mask).tolist() == [[2, 1, 0, 3], [0, 1, 2, 3], [3, 2, 1, 0]]
    assert last_step(mask).tolist() == [2, 0, 3]
