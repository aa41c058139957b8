"""Gradient flow: the exact norm of the gradient that reaches every state at every time step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from goldfish.engines import subnormals
from goldfish.engines.scaled import Recorder
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import last_step


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


def by_lag(log2_norm: Tensor, mask: Tensor) -> Tensor:
    """Order norms (…, B, T) by lag from the last unmasked step, mask (B, T): (…, B, K), NaN beyond the start."""
    last = last_step(mask)
    steps = last.unsqueeze(-1) - torch.arange(int(last.max()) + 1, device=mask.device)
    found = log2_norm.gather(-1, steps.clamp(min=0).expand(*log2_norm.shape[:-1], -1))
    return found.masked_fill(steps < 0, torch.nan)


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
    found = joined.gather(-1, index.expand(*joined.shape[:-1], -1))
    return found.masked_fill((in_target < 0) & (in_source < 0), torch.nan)


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
