"""Gradient flow: the exact norm of the gradient that reaches every state at every time step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor
from torch.func import functional_call

from goldfish.engines import subnormals
from goldfish.engines.layers import Recorder
from goldfish.probes.base import Measurement, Pack
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import PAD, Batch, last_step

_STATES = 2**18  # numbers in the states of the sequences that are taken at once


def measure(pack: Pack, *, samples: Annotated[int, Ge(1)] = 64) -> list[Measurement]:
    """Gradient flow of every replica on the fixed probe batch, top layer; nothing without a recurrence.

    A separate backward pass from each sample's own loss at its last unmasked step, in float64 whatever the run trains
    in: a gradient that has all but vanished keeps no digit of a float32 pass. Rate and horizon are those of the joint
    state; h and c stand beside it where a cell has more than one state. In an encoder-decoder the lag runs from the
    last target word back to the first, and on through the source.
    """
    if not pack.recurrents:
        return []
    task = pack.task
    rows = max(1, min(samples, _STATES // (task.steps(task.length) * pack.recurrents[0].cell.hidden_size)))
    parts: dict[str, list[Tensor]] = {}
    for part in pack.batch(samples, torch.float64).split(rows):
        for name, norm in _norms_by_lag(pack, part).items():
            parts.setdefault(name, []).append(norm)
    norms = {name: _joined(pieces).cpu() for name, pieces in parts.items()}
    return [_summary({name: norm[replica] for name, norm in norms.items()}) for replica in range(pack.replicas)]


def _norms_by_lag(pack: Pack, part: Batch) -> dict[str, Tensor]:
    """log2 norms of each state's gradient by lag, (R, B, K), of sequences without replica axis."""
    task, model, spread = pack.task, pack.model, pack.spread(part)
    weights = {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}
    decoded = task.readout == "decoded"
    with torch.enable_grad(), ExitStack() as stack:
        flow = stack.enter_context(gradient_flow(model.measured))
        source = stack.enter_context(gradient_flow(model.encoder_measured)) if decoded else None
        outputs = task.ask(lambda *given: functional_call(model, weights, given), spread)
        task.last_losses(outputs, spread).sum().backward()
    if source is None:
        return {name: by_lag(norm[:, -1], part.mask) for name, norm in flow.log2_norm.items()}
    words = part.inputs != PAD
    return {
        name: norms_by_lag(source.log2_norm[name][:, -1], norm[:, -1], words, part.mask)
        for name, norm in flow.log2_norm.items()
    }


def _joined(pieces: list[Tensor]) -> Tensor:
    """Put sequences together whose longest lags differ: NaN beyond the start."""
    longest = max(piece.shape[-1] for piece in pieces)
    return torch.cat([F.pad(piece, (0, longest - piece.shape[-1]), value=torch.nan) for piece in pieces], dim=1)


def _summary(norms: dict[str, Tensor]) -> Measurement:
    """One replica's decay: of the joint state, and of each state where there are more."""
    measurement = Measurement()
    main = "state" if len(norms) > 2 else "h"
    for name, norm in norms.items():
        if (name == "state" and name != main) or (summary := decay(norm)) is None:
            continue
        end = "" if name == main else f"_{name}"
        measurement.metrics |= {f"gradient/{key}{end}": value for key, value in summary.numbers().items()}
        curves = {"": summary.log10_norm}
        if name == main:
            curves |= {"_q25": summary.lower, "_q75": summary.upper}
        for suffix, curve in curves.items():
            measurement.curves[f"gradient/log10_norm_by_lag{end}{suffix}"] = list(enumerate(curve.tolist()))
    return measurement


class GradientFlow:
    """The norms of one backward pass."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def log2_norm(self) -> dict[str, Tensor]:
        """log2 of the adjoint's Euclidean norm: name → (R, L, B, T), float64, -inf only where the gradient is zero.

        "h": total dL/dh_t, through all later steps. "c" (LSTM): total dL/dc_t, its path through h_t included.
        "state": the joint norm of ∂L/∂h_t and, for the LSTM, ∂L/∂c_t at fixed h_t.

        Raises:
            RuntimeError: when no backward pass has gone through the network inside the context.
        """
        if not self._recorder.log2_norm:
            raise RuntimeError("no backward pass went through the recurrent network inside gradient_flow")
        return self._recorder.log2_norm


@contextmanager
def gradient_flow(recurrent: Recurrent) -> Iterator[GradientFlow]:
    """Record the norms of the one backward pass that runs inside the context.

    >>> with gradient_flow(recurrent) as flow:
    ...     loss.backward()
    >>> flow.log2_norm["h"]  # (R, L, B, T)

    Per sample, the norms are those of the loss that was given: a sum over samples keeps them apart. Parameters'
    gradients are the same bits with and without it.

    The norms have the digits of the network's dtype. Those of a loss many vanishing steps away are ill-conditioned: in
    float32 they are good to 1e-7 for a loss at every step, to 1e-4 at worst for one at the last of hundreds. Call
    `recurrent.double()` first for all digits, as `train` does.

    Raises:
        ConfigError: where numbers below the normal range are flushed to zero.
    """
    if recurrent.recorder.active:
        raise RuntimeError("gradient_flow is already open on this network")
    subnormals.check()
    recorder = recurrent.recorder
    recorder.active, recorder.log2_norm = True, {}
    flow = GradientFlow(recorder)
    try:
        yield flow
    finally:
        flow._recorder = Recorder(log2_norm=recorder.log2_norm)
        recorder.active, recorder.log2_norm = False, {}


@dataclass
class Decay:
    """How one run's gradient falls with the lag k = T - t, from its probe batch.

    Attributes:
        log10_norm: median over samples, by lag; `lower` and `upper` are the quartiles. -inf where it is zero.
        decay_rate: slope of ln‖g‖ over lag, by least squares on the median curve up to its first zero; per step.
        half_life: steps in which the norm halves; None when it does not fall.
        horizon: the largest k such that the median of ‖g_{T-j}‖ / ‖g_T‖ is at least 1 % for every j ≤ k.
        reached_end: whether the horizon is the longest lag there is.
        far_horizon: the same with 1e-6 in place of 1 %.
        far_reached_end: whether that is the longest lag there is.
        zero_samples: samples whose final gradient is exactly zero; they are left out.
    """

    log10_norm: Tensor
    lower: Tensor
    upper: Tensor
    decay_rate: float | None
    half_life: float | None
    horizon: int
    reached_end: bool
    far_horizon: int
    far_reached_end: bool
    zero_samples: int

    def numbers(self) -> dict[str, float]:
        """Every number that is known, by the name of its metric."""
        values = {
            "horizon": self.horizon,
            "horizon_reached_end": float(self.reached_end),
            "far_horizon": self.far_horizon,
            "far_horizon_reached_end": float(self.far_reached_end),
            "zero_samples": self.zero_samples,
            "decay_rate": self.decay_rate,
            "half_life": self.half_life,
        }
        return {name: value for name, value in values.items() if value is not None}


def by_lag(log2_norm: Tensor, mask: Tensor) -> Tensor:
    """Order norms (…, B, T) by lag from the last unmasked step, mask (B, T): (…, B, K), NaN beyond the start."""
    last = last_step(mask)
    steps = last.unsqueeze(-1) - torch.arange(int(last.max()) + 1, device=mask.device)
    ordered = log2_norm.gather(-1, steps.clamp(min=0).expand(*log2_norm.shape[:-1], -1))
    return ordered.masked_fill(steps < 0, torch.nan)


def norms_by_lag(source: Tensor, target: Tensor, source_mask: Tensor, target_mask: Tensor) -> Tensor:
    """Order an encoder-decoder's norms by lag from the last target word: back to the first, then through the source.

    Args:
        source: the encoder's norms, (…, B, S).
        target: the decoder's norms, (…, B, T).
        source_mask: (B, S), True at the words.
        target_mask: (B, T).

    Returns:
        (…, B, K), NaN beyond the start of the source.
    """
    spoken, read = last_step(target_mask).unsqueeze(-1), last_step(source_mask).unsqueeze(-1)
    lags = torch.arange(int((spoken + read).max()) + 2, device=target.device)
    in_target, in_source = spoken - lags, read - (lags - spoken - 1)
    joined = torch.cat([target, source], dim=-1)
    index = torch.where(in_target >= 0, in_target, target.shape[-1] + in_source.clamp(min=0))
    ordered = joined.gather(-1, index.expand(*joined.shape[:-1], -1))
    return ordered.masked_fill((in_target < 0) & (in_source < 0), torch.nan)


def decay(log2_norms: Tensor) -> Decay | None:
    """Summarise one run's norms by lag, (B, K); None when no sample has a finite final gradient."""
    norms = log2_norms.detach().cpu()
    alive = torch.isfinite(norms[:, 0])
    zero = int((norms[:, 0] == -torch.inf).sum())
    if not alive.any() or norms[alive].isposinf().any():
        return None
    norms = norms[alive] * math.log10(2)
    lower, median, upper = _quantiles(norms, 0.25, 0.5, 0.75)
    rate = _slope(median * math.log(10))
    ratios = _quantiles(norms - norms[:, :1], 0.5)[0]
    horizon, far = (int((ratios >= least - 1e-12).to(torch.int64).cumprod(0).sum()) - 1 for least in (-2, -6))
    end = len(ratios) - 1
    half_life = -math.log(2) / rate if rate is not None and rate < 0 else None
    return Decay(median, lower, upper, rate, half_life, horizon, horizon == end, far, far == end, zero)


def _quantiles(values: Tensor, *q: float) -> Tensor:
    """Quantiles over samples (lower of the two neighbours, so that -inf stays -inf), NaN left out: (B, K) → (q, K)."""
    return torch.nanquantile(values, values.new_tensor(q), dim=0, interpolation="lower")


def _slope(curve: Tensor) -> float | None:
    finite = torch.isfinite(curve).to(torch.int64).cumprod(0).bool()
    y = curve[finite].double()
    if len(y) < 2:
        return None
    x = torch.arange(len(y), dtype=torch.float64)
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())
