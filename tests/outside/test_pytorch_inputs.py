"""PyTorch's own inputs for RNN, LSTM, GRU and their cells: `Recurrent` gives what they give, or refuses by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from goldfish.recurrent import Recurrent

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of PyTorch's own modules for tests
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

NAMES = {
    kind: name
    for name in ("rnn", "lstm", "gru")
    for kind in (getattr(nn, name.upper()), getattr(nn, f"{name.upper()}Cell"))
}
INFOS = [info for info in module_db if info.module_cls in NAMES]
COVERED: dict[str, Any] = {"bias": True, "bidirectional": False, "proj_size": 0}
each_info = pytest.mark.parametrize("info", INFOS, ids=lambda info: info.module_cls.__name__)
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
each_engine = pytest.mark.parametrize("engine", ["eager", "stepwise", "cpu"])


class ByRecurrent(nn.Module):
    """A module of torch.nn with its own weights and axes, computed by one replica of `Recurrent`."""

    def __init__(self, module: Any, engine: str, dtype: torch.dtype) -> None:
        super().__init__()
        name, layers = NAMES[type(module)], getattr(module, "num_layers", 1)
        arguments = {"nonlinearity": module.nonlinearity} if name == "rnn" else {}
        self.is_cell, self.batch_first = isinstance(module, nn.RNNCellBase), getattr(module, "batch_first", False)
        self.recurrent = Recurrent(
            name, module.input_size, module.hidden_size, num_layers=layers, engine=engine, dtype=dtype, **arguments
        )
        self.recurrent.load_torch(0, module)

    def forward(self, inputs: Any, state: Any = None) -> Any:
        """As the module: a cell takes (D) or (B, D), a network (T, D), (T, B, D) or (B, T, D)."""
        if isinstance(inputs, PackedSequence):
            return self.recurrent(inputs)
        is_batched = inputs.dim() == (2 if self.is_cell else 3)
        if not is_batched:
            inputs = inputs.unsqueeze(0)
        elif not self.is_cell and not self.batch_first:
            inputs = inputs.transpose(0, 1)
        inputs = inputs.unsqueeze(1) if self.is_cell else inputs
        outputs, final = self.recurrent(inputs.unsqueeze(0), self._state(state, is_batched))
        found = tuple(value[0] if is_batched else value[0].squeeze(1) for value in final.values())
        if self.is_cell:
            found = tuple(value.squeeze(0) for value in found)
        last = found if len(found) > 1 else found[0]
        outputs = outputs[0] if is_batched else outputs[0, 0]
        outputs = outputs.transpose(0, 1) if is_batched and not self.batch_first else outputs
        return last if self.is_cell else (outputs, last)

    def _state(self, state: Any, is_batched: bool) -> dict[str, Tensor] | None:
        """(H), (B, H), (L, H) or (L, B, H) of each → (1, L, B, H) by name."""
        if state is None:
            return None
        values = state if isinstance(state, tuple) else (state,)
        if not is_batched:
            values = tuple(value.unsqueeze(-2) for value in values)
        if self.is_cell:
            values = tuple(value.unsqueeze(0) for value in values)
        return {name: value.unsqueeze(0) for name, value in zip(self.recurrent.cell.states, values, strict=True)}


def samples(info: Any, dtype: torch.dtype) -> Iterator[tuple[Any, Any]]:
    """PyTorch's inputs for a module, packed sequences included, and the module that each is for."""
    packed = {} if issubclass(info.module_cls, nn.LSTM) else {"with_packed_sequence": True}
    for sample in info.module_inputs_func(info, "cpu", dtype, requires_grad=True, training=True, **packed):
        given = sample.constructor_input
        yield sample, info.module_cls(*given.args, **given.kwargs, dtype=dtype)


def lacking(module: Any) -> list[str]:
    """The module's options that `Recurrent` does not have."""
    return [option for option, own in COVERED.items() if getattr(module, option, own) != own]


def flat(value: Any) -> list[Tensor]:
    return (
        [value]
        if isinstance(value, Tensor)
        else [tensor for part in value if part is not None for tensor in flat(part)]
    )


def gradients(outputs: Any, leaves: list[Tensor]) -> list[Tensor]:
    """Of a loss that weighs every number of the outputs differently."""
    torch.manual_seed(7)
    weighted = [(tensor * torch.randn_like(tensor)).sum() for tensor in flat(outputs)]
    return list(torch.autograd.grad(torch.stack(weighted).sum(), leaves))


@each_engine
@each_dtype
@each_info
def test_what_is_covered_passes_and_the_rest_is_refused_by_name(info: Any, dtype: torch.dtype, engine: str) -> None:
    torch.manual_seed(0)
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    if dtype == torch.float64:
        close = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-12)
    passed = refused = 0
    for sample, module in samples(info, dtype):
        missing = lacking(module)
        if missing:
            with pytest.raises(ValueError, match=f"^the module has {missing[0]}="):
                ByRecurrent(module, engine, dtype)
            refused += 1
            continue
        own, arguments = ByRecurrent(module, engine, dtype), sample.forward_input.args
        if isinstance(arguments[0], PackedSequence):
            with pytest.raises(TypeError, match=r"^the inputs are a PackedSequence"):
                own(*arguments)
            refused += 1
            continue
        expected, found = module(*arguments), own(*arguments)
        close(found, expected)
        close(sample.reference_fn(own, *arguments), expected)
        leaves = flat(arguments)
        names = [name for name, _ in module.named_parameters()]
        parameters = [own.recurrent.get_parameter(name if "_l" in name else f"{name}_l0") for name in names]
        expected_gradients = gradients(expected, [*leaves, *module.parameters()])
        found_gradients = gradients(found, [*leaves, *parameters])
        found_gradients[len(leaves) :] = [value[0] for value in found_gradients[len(leaves) :]]
        close(found_gradients, expected_gradients)
        passed += 1
    assert passed >= 2
    assert refused >= 2 or issubclass(info.module_cls, nn.RNNCellBase)


@each_dtype
@each_info
def test_what_pytorch_refuses_is_refused(info: Any, dtype: torch.dtype) -> None:
    """A dtype with PyTorch's own words; what cannot be built, and sizes that do not fit, in words of its own."""
    errors = info.module_error_inputs_func(info, "cpu", dtype, requires_grad=False, training=True)
    assert len(errors) >= 4
    for error in errors:
        built, given = error.module_error_input.constructor_input, error.module_error_input.forward_input
        if error.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            arguments = dict(zip(("input_size", "hidden_size", "num_layers"), built.args, strict=False)) | built.kwargs
            with pytest.raises(ValueError, match=r"(expected int|unknown argument)"):
                Recurrent(NAMES[info.module_cls], **arguments)
            continue
        module = info.module_cls(*built.args, **{"dtype": dtype} | built.kwargs)
        if "dtype" in error.error_regex:
            with pytest.raises(error.error_type, match=error.error_regex):
                ByRecurrent(module, "auto", dtype)(*given.args)
        else:
            with pytest.raises(
                (ValueError, RuntimeError), match=r"(has|have) shape .*, expected|^the module has bias="
            ):
                ByRecurrent(module, "auto", dtype)(*given.args)
