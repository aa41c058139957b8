"""The choice of an engine: `auto` takes the fastest exact one that runs the cell on this machine."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from types import ModuleType

import torch

from goldfish.cells.base import Cell, HandDerivedCell
from goldfish.engines import compiled
from goldfish.errors import ConfigError, nearest

ENGINES = ("auto", "eager", "stepwise", "cpu", "cuda")


def check(engine: str, cell: Cell) -> None:
    """Refuse an engine that cannot run a cell anywhere. Raises ConfigError."""
    if engine not in ENGINES:
        raise ConfigError(f"engine={engine}: {nearest(engine, ENGINES)}")
    if engine not in ("auto", "eager") and not isinstance(cell, HandDerivedCell):
        raise ConfigError(f"engine={engine}: cell={compiled.name(cell)} has no hand-derived adjoint; use engine=eager")


def check_device(device: torch.device) -> None:
    """Refuse Apple's GPU. Raises ConfigError."""
    if device.type == "mps":
        raise ConfigError(
            "device=mps: not supported, for PyTorch's LSTM gradients are wrong there, and it has no float64; use cpu"
        )


def choose(engine: str, cell: Cell, device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The module whose `run` runs a cell on a device.

    `auto` takes `cpu` or `cuda`, by the device, where that engine can run the cell here, otherwise `stepwise`, saying
    once why, and `eager` for a cell that has no hand-derived adjoint, or where torch.jit traces operations. `cuda`
    does so, too, where a cell is too large for it in float64 only.

    Raises:
        ConfigError: when the engine that was asked for cannot run the cell here, or the device is not supported.
    """
    check_device(device)
    if engine == "eager" or not isinstance(cell, HandDerivedCell):
        return _engine("eager")
    if torch.jit.is_tracing():  # a kernel takes numbers, and a trace has none
        if engine != "auto":
            raise ConfigError(f"engine={engine}: torch.jit cannot trace it; use engine=eager")
        return _engine("eager")
    if engine == "stepwise":
        return _engine("stepwise")
    kind = device.type if engine == "auto" else engine
    if kind not in ("cpu", "cuda"):
        return _engine("stepwise")
    if kind != device.type:
        raise ConfigError(f"engine={engine}: the tensors are on {device.type}; use engine=auto")
    module = _engine(kind)
    reason = _reason(module, cell, dtype)
    if not reason:
        return module
    if engine == "cpu" or (engine == "cuda" and not module.only_in_single(cell, dtype)):
        raise ConfigError(f"engine={engine}: {reason}; use engine=auto")
    _say(f"engine={engine} takes stepwise instead of {kind}, which is faster: {reason}")
    return _engine("stepwise")


@cache
def has_own_products(dtype: torch.dtype) -> bool:
    """Whether products on the current CUDA device can be this project's own, whose bits do not depend on the pack."""
    from goldfish.cells.rnn import RNN
    from goldfish.engines import cuda

    reason = _reason(cuda, RNN(hidden_size=8, num_layers=1), dtype)
    if reason:
        _say(f"the readout's last bits depend on the pack's size here: {reason}")
    return not reason


def _reason(module: ModuleType, cell: Cell, dtype: torch.dtype) -> str:
    """Why an engine cannot run a cell here; "" where it can."""
    try:
        return str(module.unavailable(cell, dtype))
    except Exception as error:  # whatever a library of another version, a compiler or a driver raises
        message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        return f"it cannot be loaded: {type(error).__name__}{': ' if message else ''}{message}"


def _engine(name: str) -> ModuleType:
    """An engine's module, imported where it is used: a run needs no more than one."""
    return import_module(f"goldfish.engines.{name}")


@cache
def _say(message: str) -> None:
    logging.getLogger(__name__).warning(message)
