"""`goldfish.watch(model)`: the gradient that reaches every hidden state of a model's recurrent modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from goldfish.engines import subnormals
from goldfish.errors import nearest
from goldfish.instrument import steps, whole
from goldfish.instrument.flow import Flow, Measured

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
    if isinstance(module, whole.KINDS):
        return whole.Forward(module, lambda: _all(module))
    return steps.Forward(module, lambda: _all(module))


def _all(module: nn.Module) -> Callable[[Measured], None]:
    """What takes a measurement for everybody who looks at a module now."""
    recorders = [own.recorder(module) for own in _WATCHES[module]]

    def record(measured: Measured) -> None:
        for recorder in recorders:
            recorder(measured)

    return record


def _recurrent(model: nn.Module, named: Collection[str]) -> Iterator[tuple[str, nn.Module]]:
    """The modules that can be measured, by name. Raises ValueError as `watch`."""
    refused = {"OptimizedModule": "torch.compile", "DataParallel": "DataParallel", "ScriptModule": "torch.jit"}
    seen = False
    names = {name for name, _ in model.named_modules()}
    for name in named:
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
        if not isinstance(module, (*whole.KINDS, nn.RNNCellBase)) and name not in named:
            continue
        seen = True
        if "forward" in vars(module) and module not in _WATCHES:
            raise ValueError(f"{told} has had its forward replaced, which cannot be measured")
        if not isinstance(module, whole.KINDS):
            yield name, module
            continue
        if type(module).forward not in (nn.RNN.forward, nn.LSTM.forward, nn.GRU.forward):
            raise ValueError(f"{told} is a {type(module).__name__} with a forward of its own, which cannot be measured")
        if module.proj_size:
            raise ValueError(f"{told} has proj_size={module.proj_size}: expected 0, for projections are not measured")
        yield name, module
    if not seen:
        raise ValueError("the model has no torch.nn.RNN, LSTM or GRU to watch, nor one of their cells")
