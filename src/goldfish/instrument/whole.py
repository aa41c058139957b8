"""A torch.nn.RNN, LSTM or GRU that is called on whole sequences, however they come: packed, batch first, unbatched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from goldfish.instrument import stack
from goldfish.instrument.flow import Measured

KINDS = (nn.RNN, nn.LSTM, nn.GRU)


class Forward:
    """A module's forward while it is watched; `recorder()` gives what takes measurements now."""

    def __init__(self, module: nn.RNNBase, recorder: Callable[[], Callable[[Measured], None]]) -> None:
        self.module, self.recorder = module, recorder

    def __call__(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """As torch.nn.RNN, LSTM and GRU."""
        module = self.module
        if torch.is_autocast_enabled(_data(input).device.type):
            raise RuntimeError("watch measures in the model's own precision: leave autocast inside the context")
        if not isinstance(input, PackedSequence) and input.dim() not in (2, 3):
            raise ValueError(f"{type(module).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        x, start, restore = _opened(module, input, hx)
        outputs, finals = self._run(x, start, restore)
        return restore.outputs(outputs), restore.state(finals)

    def _run(self, x: Tensor, start: list[Tensor], restore: _Restore) -> tuple[Tensor, list[Tensor]]:
        module, cell = self.module, stack.cell_of(self.module)
        recorder = self.recorder()
        directions = 2 if module.bidirectional else 1

        def record(norms: stack.Norms) -> None:
            recorder(Measured(*restore.in_order(norms), directions))

        call = stack.Call(cell, stack.maker(cell, x), directions, restore.lengths, _masks(module, x, restore), record)
        outputs, *finals = stack.run(call, x, [*start, *stack.weights_of(module)])
        return outputs, finals


class _Restore:
    """How inputs came, so that outputs go the same way: packed, batch first, unbatched."""

    def __init__(
        self, module: nn.RNNBase, packed: PackedSequence | None, lengths: Tensor | None, batched: bool
    ) -> None:
        self.module, self.packed, self.batched = module, packed, batched
        self.sizes = lengths
        self.lengths = lengths if lengths is not None and bool((lengths != lengths.max()).any()) else None

    def outputs(self, outputs: Tensor) -> Any:
        """(T, B, H) as the module gives it."""
        if self.packed is not None:
            assert self.sizes is not None
            data = pack_padded_sequence(outputs, self.sizes.cpu()).data
            return PackedSequence(
                data, self.packed.batch_sizes, self.packed.sorted_indices, self.packed.unsorted_indices
            )
        if not self.batched:
            return outputs.squeeze(1)
        return outputs.transpose(0, 1) if self.module.batch_first else outputs

    def state(self, finals: list[Tensor]) -> Any:
        """The final states, each (L · directions, B, H), as the module gives them."""
        if self.packed is not None and self.packed.unsorted_indices is not None:
            finals = [final.index_select(1, self.packed.unsorted_indices) for final in finals]
        if not self.batched:
            finals = [final.squeeze(1) for final in finals]
        return tuple(finals) if len(finals) > 1 else finals[0]

    def in_order(self, norms: stack.Norms) -> tuple[stack.Norms, Tensor | None]:
        """Norms and lengths in the order of the batch as it was given; NaN beyond a sequence's end."""
        lengths = self.lengths
        if lengths is not None:
            T = next(iter(norms.values())).shape[-1]
            beyond = torch.arange(T, device=lengths.device) >= lengths.unsqueeze(1)
            norms = {name: norm.masked_fill(beyond, torch.nan) for name, norm in norms.items()}
        if self.packed is not None and self.packed.unsorted_indices is not None:
            order = self.packed.unsorted_indices
            norms = {name: norm.index_select(1, order) for name, norm in norms.items()}
            lengths = None if lengths is None else lengths[order]
        return norms, lengths


def _opened(module: nn.RNNBase, input: Tensor | PackedSequence, hx: Any) -> tuple[Tensor, list[Tensor], _Restore]:
    """Inputs (T, B, D) and initial states, each (L · directions, B, H); checked as torch does."""
    if isinstance(input, PackedSequence):
        bare = PackedSequence(input.data, input.batch_sizes)
        x, sizes = pad_packed_sequence(bare)
        restore = _Restore(module, input, sizes.to(x.device), True)
        checked, batch_sizes = input.data, input.batch_sizes
    else:
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        x = x.transpose(0, 1) if batched and module.batch_first else x
        restore = _Restore(module, None, None, batched)
        checked, batch_sizes = x.transpose(0, 1) if module.batch_first else x, None
    count = module.num_layers * (2 if module.bidirectional else 1)
    states = 2 if isinstance(module, nn.LSTM) else 1
    if hx is None:
        zeros = x.new_zeros(count, x.shape[1], module.hidden_size)
        start = [zeros] * states
    else:
        start = list(hx) if states == 2 else [hx]
        if not restore.batched:
            start = [state.unsqueeze(1) for state in start]
        if isinstance(input, PackedSequence) and input.sorted_indices is not None:
            start = [state.index_select(1, input.sorted_indices) for state in start]
    module.check_forward_args(checked, tuple(start) if states == 2 else start[0], batch_sizes)  # type: ignore[arg-type]
    return x, start, restore


def _masks(module: nn.RNNBase, x: Tensor, restore: _Restore) -> list[Tensor | None]:
    """What dropout multiplies each layer's outputs with, drawn as torch.nn draws it."""
    if not (module.training and module.dropout and module.num_layers > 1):
        return [None] * module.num_layers
    width = module.hidden_size * (2 if module.bidirectional else 1)
    masks: list[Tensor | None] = []
    for _ in range(module.num_layers - 1):
        if restore.packed is None:
            ones = x.new_ones(*x.shape[:2], width)
            masks.append(nn.functional.dropout(ones, module.dropout))
        else:
            drawn = nn.functional.dropout(x.new_ones(len(restore.packed.data), width), module.dropout)
            masks.append(pad_packed_sequence(PackedSequence(drawn, restore.packed.batch_sizes))[0])
    return [*masks, None]


def _data(input: Tensor | PackedSequence) -> Tensor:
    return input.data if isinstance(input, PackedSequence) else input
