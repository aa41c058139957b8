"""How much of a cell state survives k steps along the cell path, in untrained networks, beside the closed forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from goldfish.config import registry
from goldfish.probes.jacobian import trajectories
from goldfish.recurrent import Recurrent
from goldfish.theory import survival

KEEPS = {"lstm": "f", "gru": "z"}


def measure(settings: Mapping[str, Any], out: Path) -> pd.DataFrame:
    """Measure every cell under every law, with each size of inputs.

    The survival after k steps is the product of the keeping gate over k steps, averaged over units: what is left of
    the cell state if nothing else adds to it. Inputs are Gaussian; everything but the bias is as PyTorch draws it.

    Returns:
        A row for each cell, law, standard deviation of the inputs, seed and lag k: log10 of the survival, and of the
        closed form.
    """
    rows = []
    lags = np.unique(np.geomspace(1, settings["steps"], 60).round().astype(int))
    for cell in settings["cells"]:
        for law, arguments in settings["laws"].items():
            closed = np.log10(np.maximum(_closed(law, lags, arguments, settings["hidden_size"]), 1e-320))
            for size in settings["inputs"]:
                measured = _survival(cell, law, arguments, size, settings).log10()[:, lags - 1]
                for seed, curve in enumerate(measured.tolist()):
                    rows += [
                        {
                            "cell": cell,
                            "law": law,
                            "inputs": size,
                            "seed": seed,
                            "k": int(k),
                            "survival": s,
                            "closed": c,
                        }
                        for k, s, c in zip(lags, curve, closed, strict=True)
                    ]
    return pd.DataFrame(rows).rename(columns={"survival": "log10_survival", "closed": "log10_closed_form"})


def _survival(cell: str, law: str, arguments: Mapping[str, Any], size: float, settings: Mapping[str, Any]) -> Tensor:
    """The mean over units of the keeping gate's product over the first k steps after the warm-up: (seeds, steps)."""
    H, D, seeds = settings["hidden_size"], settings["input_size"], settings["seeds"]
    kept = []
    for seed in range(seeds):  # one after the other: a trajectory of all would need gigabytes
        source = torch.Generator().manual_seed(seed)
        recurrent = Recurrent(cell, D, H)
        recurrent.initialise(0, registry.load("init", law), source, **arguments)
        inputs = size * torch.randn(1, 1, settings["warm_up"] + settings["steps"], D, generator=source)
        layer = trajectories(recurrent, inputs)[0]
        gate = recurrent.cell.gates.index(KEEPS[cell])
        wanted = slice(gate * H, (gate + 1) * H)
        recurrence = layer.states[0][:, :-1] @ layer.weights.weight_hh[:, None, wanted].mT
        activation = layer.projected[..., wanted] + recurrence + layer.weights.bias_hh[:, None, None, wanted]
        logs = torch.nn.functional.logsigmoid(activation)[0, settings["warm_up"] :, 0].cumsum(0)
        kept.append(torch.logsumexp(logs, dim=-1) - math.log(H))
    return torch.exp(torch.stack(kept)).clamp(min=1e-320)


def _closed(law: str, k: np.ndarray, arguments: Mapping[str, Any], hidden_size: int) -> survival.Survival:
    """The law's closed form, of the gate's bias alone."""
    if law == "pytorch":
        return survival.constant(k, 0.0)
    if law == "unit_forget":
        return survival.constant(k, arguments["b_f"])
    if law == "uniform_gate":
        return survival.uniform(k, hidden_size)
    if law == "power_law":
        return survival.inverse_gamma(k, arguments["alpha"])
    return survival.chrono(k, arguments["t_max"])
