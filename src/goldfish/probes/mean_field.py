"""Mean-field theory of the vanilla tanh RNN with Gaussian weights: how fast its gradient vanishes or explodes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from goldfish.inits.critical import tanh_moments
from goldfish.probes.base import Measurement, Pack
from goldfish.recurrent import Recurrent

_TOLERANCE, _ROUNDS = 1e-13, 100_000


@torch.no_grad()
def measure(pack: Pack) -> list[Measurement]:
    """The theory at the current weights: mean_field/q, mean_field/chi and mean_field/decay_rate.

    σ_w² is H times the mean square of W_hh, R the mean square of W_ih x_t + b on the probe batch. Of a vanilla tanh RNN
    of one layer in one direction.
    """
    if len(pack.recurrents) != 1 or pack.recurrents[0].name != "rnn":
        return []
    (recurrent,) = pack.recurrents
    if recurrent.cell.num_layers > 1 or recurrent.cell.nonlinearity != "tanh":
        return []
    measurements = []
    for weights, drive in zip(recurrent.get_parameter("weight_hh_l0").double(), _drive(pack, recurrent), strict=True):
        theory = mean_field(math.sqrt(recurrent.cell.hidden_size * float(weights.square().mean())), drive)
        measurements.append(_named(theory))
    return measurements


def _named(theory: MeanField) -> Measurement:
    numbers = {"q": theory.q, "chi": theory.chi, "decay_rate": theory.slope}
    return Measurement({f"mean_field/{name}": value for name, value in numbers.items()})


def _drive(pack: Pack, recurrent: Recurrent) -> list[float]:
    """The mean square of W_ih x_t + b of each replica."""
    seen: list[torch.Tensor] = []
    hook = recurrent.register_forward_pre_hook(lambda module, given: seen.append(given[0].double()))
    try:
        pack.task.ask(pack.model, pack.spread(pack.batch()))
    finally:
        hook.remove()
    weight_ih, _, bias_ih, bias_hh = (weight.double() for weight in recurrent.layer_weights(0))
    bias = (bias_ih + bias_hh)[:, None, None]
    return (torch.einsum("rbtd,rhd->rbth", seen[0], weight_ih) + bias).square().flatten(1).mean(1).tolist()


class MeanField(NamedTuple):
    """The fixed point q of the pre-activations' variance, and χ, the mean square of a step's gain there."""

    q: float
    chi: float

    @property
    def slope(self) -> float:
        """Change of the gradient's ln norm per step, ½ ln χ."""
        return math.log(self.chi) / 2

    @property
    def depth(self) -> float:
        """ξ = -1/ln χ, the depth scale in steps; infinite from the critical line χ = 1 on."""
        return -1 / math.log(self.chi) if self.chi < 1 else math.inf


def mean_field(sigma_w: float, input_variance: float) -> MeanField:
    """q = σ_w² E[tanh²(√q z)] + R and χ = σ_w² E[(1 - tanh²(√q z))²], z ~ N(0, 1).

    Chen, Pennington, Schoenholz, ICML 2018, "Dynamical isometry and a mean field theory of RNNs". By iteration from
    q = σ_w² + R, which falls monotonically to the largest fixed point.

    Args:
        sigma_w: W_hh has variance σ_w²/H.
        input_variance: R, that of W_ih x_t + b per unit.
    """
    q = sigma_w**2 + input_variance
    for _ in range(_ROUNDS):
        before, q = q, sigma_w**2 * tanh_moments(q)[0] + input_variance
        if abs(before - q) <= _TOLERANCE * max(q, 1e-300):
            break
    return MeanField(q, sigma_w**2 * tanh_moments(q)[1])
