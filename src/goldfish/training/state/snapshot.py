"""The state of a pack in training as plain tensors, numbers and strings, and back, bit for bit.

The data streams are not in it: they are functions of the seed and the step (see `data`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goldfish.training.evaluate import Measured, Measurements
from goldfish.training.module import PackModule
from goldfish.training.outcome import Point


def take(module: PackModule, measured: Measurements) -> dict[str, Any]:
    """What training goes on from: lists and tensors have a row for each replica."""
    module.look()
    running = module.running
    moments = _moments(module)
    return {
        "steps_done": module.steps_done,
        "validated": module.validated,
        "weights": module.weights.values.detach().cpu(),
        "optimizer": [moments[index] for index in _order(module)],
        "curves": [_columns(points) for points in module.curves],
        "last": module.last,
        "solved_at": module.solved_at,
        "diverged": [module.diverged.get(replica) for replica in range(len(module.configs))],
        "running": {
            "losses": running.losses.cpu() if running.losses is not None and running.steps else None,
            "norms": running.norms.cpu() if running.norms is not None and running.steps else None,
            "steps": running.steps,
        },
        "phases": measured.phases,
        "measured": [{"metrics": row.metrics, "curves": _columns(row.curves)} for row in measured.rows],
        "random": _global_generators(),
    }


def merge(whole: dict[str, Any], part: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """The state of a pack of which the runs `rows` went on as one of their own, to the state `part`."""
    places = torch.tensor(rows)
    merged = part | {"weights": whole["weights"].index_copy(0, places, part["weights"])}
    for name in ("optimizer", "curves", "last", "solved_at", "diverged", "measured"):
        now = dict(zip(rows, part[name], strict=True))
        merged[name] = [now.get(row, before) for row, before in enumerate(whole[name])]
    merged["running"] = dict(part["running"])
    for name in ("losses", "norms"):
        sums: Tensor | None = part["running"][name]
        if sums is not None:  # of runs that have stopped nobody asks for it
            merged["running"][name] = sums.new_zeros(len(whole["last"]), *sums.shape[1:]).index_copy(0, places, sums)
    return merged


def restore(module: PackModule, measured: Measurements, state: dict[str, Any], rows: Sequence[int]) -> None:
    """Put a state back into a fresh module: replica r takes row rows[r]."""
    module.steps_done, module.validated = state["steps_done"], state["validated"]
    with torch.no_grad():
        module.weights.values.copy_(state["weights"][list(rows)])
    order = _order(module)
    content = module.optimizer.state_dict()
    content["state"] = {order[replica]: state["optimizer"][row] for replica, row in enumerate(rows)}
    content["state"] = {index: moments for index, moments in content["state"].items() if moments}
    module.optimizer.load_state_dict(content)
    for replica, row in enumerate(rows):
        module.curves[replica] = _points(state["curves"][row])
        module.last[replica] = dict(state["last"][row])
        module.solved_at[replica] = state["solved_at"][row]
        if state["diverged"][row] is not None:
            module.diverged[replica] = state["diverged"][row]
        if replica in module.diverged or module.stopped(replica):
            module.take_out(replica)
    if state["running"]["steps"]:
        losses, norms = (state["running"][name][list(rows)] for name in ("losses", "norms"))
        device = module.weights.values.device
        module.running.losses, module.running.norms = losses.to(device), norms.to(device)
        module.running.steps = state["running"]["steps"]
    measured.phases = list(state["phases"])
    found = [state["measured"][row] for row in rows]
    measured.rows = [Measured(dict(row["metrics"]), _points(row["curves"])) for row in found]
    _restore_global_generators(state["random"])


def _order(module: PackModule) -> list[int]:
    """The optimiser's number of each replica's row; its parameter groups have one learning rate each."""
    rows = [row for group in module.optimizer.param_groups for row in group["params"]]
    number = {id(row): index for index, row in enumerate(rows)}
    return [number[id(row)] for row in module.weights.rows]


def _moments(module: PackModule) -> dict[int, dict[str, Any]]:
    """The optimiser's state of each of its rows; empty for one that has never made a step."""
    state = module.optimizer.state_dict()["state"]
    return {
        index: {
            name: value.cpu() if isinstance(value, Tensor) else value for name, value in state.get(index, {}).items()
        }
        for index in _order(module)
    }


def _columns(points: Sequence[Point]) -> dict[str, Any]:
    """Points as tensors: the file is small, and read at once."""
    curves = list(dict.fromkeys((point.quantity, point.phase) for point in points))
    number = {curve: index for index, curve in enumerate(curves)}
    return {
        "names": [list(curve) for curve in curves],
        "curve": torch.tensor([number[point.quantity, point.phase] for point in points], dtype=torch.int64),
        "whole": torch.tensor([isinstance(point.x, int) for point in points], dtype=torch.bool),
        "x": torch.tensor([point.x for point in points], dtype=torch.float64),
        "value": torch.tensor([point.value for point in points], dtype=torch.float64),
    }


def _points(columns: dict[str, Any]) -> list[Point]:
    rows = zip(*(columns[name].tolist() for name in ("curve", "whole", "x", "value")), strict=True)
    names = columns["names"]
    return [Point(names[k][0], names[k][1], int(x) if whole else x, value) for k, whole, x, value in rows]


def _global_generators() -> dict[str, Any]:
    """The generators that no seed of ours feeds; another package's probe may draw from them."""
    version, keys, gauss = random.getstate()
    mersenne = np.random.get_state(legacy=False)
    return {
        "python": [version, torch.tensor(keys), gauss],
        "numpy": [torch.from_numpy(mersenne["state"]["key"].astype(np.int64)), int(mersenne["state"]["pos"])],
        "numpy_normal": [int(mersenne["has_gauss"]), float(mersenne["gauss"])],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def _restore_global_generators(state: dict[str, Any]) -> None:
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys.tolist()), gauss))
    numpy_keys, position = state["numpy"]
    np.random.set_state(("MT19937", numpy_keys.numpy().astype(np.uint32), position, *state["numpy_normal"]))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
