"""The spectral radius of the recurrent weights, by which textbooks judge a network's memory."""

from __future__ import annotations

import torch
from torch import Tensor

from goldfish.probes.base import Measurement, Pack, numbers
from goldfish.recurrent import Recurrent


def measure(pack: Pack) -> list[Measurement]:
    """ρ of each gate's recurrent weights in the network whose gradient flow is reported, top layer: rho/<gate>."""
    if not pack.recurrents:
        return []
    return numbers({f"rho/{gate}": values for gate, values in spectral_radius(pack.model.measured).items()})


def spectral_radius(recurrent: Recurrent) -> dict[str, Tensor]:
    """ρ(W_hh) of the top layer: gate → (R,), float64; NaN where weights are not finite.

    For a vanilla RNN with |tanh'| ≤ 1, a largest singular value below one makes every gradient vanish (Pascanu et al.
    2013, section 2.1); ρ is at most that. In an LSTM or a GRU no single matrix decides, and none of these is a bound.
    """
    top = recurrent.layer_weights(recurrent.cell.num_layers - 1).weight_hh.detach().double().cpu()
    by_gate = {}
    for gate, weights in zip(recurrent.cell.gates, top.chunk(len(recurrent.cell.gates), dim=1), strict=True):
        finite = torch.isfinite(weights).flatten(1).all(1)
        radii = [
            torch.linalg.eigvals(own).abs().max() if fine else torch.tensor(torch.nan, dtype=torch.float64)
            for own, fine in zip(weights, finite.tolist(), strict=True)
        ]
        by_gate[gate] = torch.stack(radii)
    return by_gate
