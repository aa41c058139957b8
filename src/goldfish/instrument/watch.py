"""`goldfish.watch(model)`: the gradient that reaches every hidden state of a model's recurrent modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from goldfish.engines import subnormals
from goldfish.errors import nearest
from goldfish.instrument import stack
from goldfish.instrument.flow import Flow, Measured
from goldfish.instrument.steps import Forward

_KINDS = (nn.RNN, nn.LSTM, nn.GRU)
_WATCHES: WeakKeyDictionary[nn.Module, list[watch]] = WeakKeyDictionary()  # who looks at a module now


class watch:  # noqa: N801  it is called as a function is
    """Measure the gradient at every step of every torch.nn.RNN, LSTM and GRU in a model, while the context is open.

    >>> with goldfish.watch(model) as flow:
    ...     loss = model(x).sum()
    ...     loss.backward()
    >>> flow["encoder.lstm"].log2_norm["h"]   # (layers · directions, B, T): log₂ of ‖dL/dh_t‖, through all later steps

    Meanwhile the modules run on this project's engines, with outputs and gradients equal to torch's to rounding; all
    layers, both directions, dropout between layers, packed and unbatched sequences. Afterwards nothing is left behind.
    The same module may be called several times, and there may be several backward passes.

    nn.RNNCell, nn.LSTMCell and nn.GRUCell in a loop are measured too, and so is any module named in `steps` that is
    called as module(x, state) and returns the next state, a tensor or a tuple of them.

    Args:
        model: any module; the recurrent modules are found by type, at any depth.
        steps: names of further modules that take one step each, as model.named_modules() has them.

    Raises:
        ValueError: where there is nothing to measure; for proj_size, for a class of one's own that overrides
            torch's forward, for DataParallel, and for models of torch.compile and torch.jit.
        RuntimeError: at the end, when no backward pass has reached any of the modules.
    """

    def __init__(self, model: nn.Module, *, steps: Collection[str] = ()) -> None:
        self.modules = dict(_recurrent(model, steps))
        self.flow = Flow(list(self.modules))

    def __enter__(self) -> Flow:
        subnormals.check()
        for module in self.modules.values():
            watches = _WATCHES.setdefault(module, [])
            if not watches:
                module.forward = _forward(module)
            watches.append(self)
        return self.flow

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module in self.modules.values():
            _WATCHES[module].remove(self)
            if not _WATCHES[module]:
                del _WATCHES[module], module.forward
        if kind is None:
            self.flow.check()

    def recorder(self, module: nn.Module) -> Callable[[Measured], None]:
        """What takes the measurements of one module."""
        name = next(name for name, own in self.modules.items() if own is module)
        return lambda measured: self.flow.add(name, measured)


def _forward(module: nn.Module) -> Callable[..., Any]:
    """A module's forward while it is watched."""
    if isinstance(module, _KINDS):
        return _Forward(module)
    return Forward(module, lambda: _all(module))


def _all(module: nn.Module) -> Callable[[Measured], None]:
    """What takes a measurement for everybody who looks at a module now."""
    recorders = [own.recorder(module) for own in _WATCHES[module]]

    def record(measured: Measured) -> None:
        for recorder in recorders:
            recorder(measured)

    return record


def _recurrent(model: nn.Module, steps: Collection[str]) -> Iterator[tuple[str, nn.Module]]:
    """The modules that can be measured, by name. Raises ValueError as `watch`."""
    refused = {"OptimizedModule": "torch.compile", "DataParallel": "DataParallel", "ScriptModule": "torch.jit"}
    seen = False
    names = {name for name, _ in model.named_modules()}
    for name in steps:
        if name not in names:
            raise ValueError(f"steps={name}: the model has no such module; {nearest(name, names)}")
    for name, module in model.named_modules():
        told = f"'{name}'" if name else "the model"
        for kind in type(module).__mro__:
            if kind.__name__ in refused:
                raise ValueError(
                    f"{told} is a {kind.__name__}: watch the model as it was before {refused[kind.__name__]}"
                )
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise ValueError(f"{told} is compiled in place: watch the model as it was before its compile()")
        if name in steps or isinstance(module, nn.RNNCellBase):
            seen = True
            yield name, module
        if not isinstance(module, _KINDS):
            continue
        if type(module).forward not in (nn.RNN.forward, nn.LSTM.forward, nn.GRU.forward):
            raise ValueError(f"{told} is a {type(module).__name__} with a forward of its own, which cannot be measured")
        if module.proj_size:
            raise ValueError(f"{told} has proj_size={module.proj_size}: expected 0, for projections are not measured")
        seen = True
        yield name, module
    if not seen:
        raise ValueError("the model has no torch.nn.RNN, LSTM or GRU to watch, nor one of their cells")


class _Forward:
    """A module's forward while it is watched."""

    def __init__(self, module: nn.RNNBase) -> None:
        self.module = module

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
        recorder = _all(module)
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
