"""A Transformer: every step attends to every other at once (Vaswani et al. 2017)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from goldfish.errors import ConfigError
from goldfish.models.parts.sequence_model import SequenceModel
from goldfish.tasks.base import Task

READOUTS = ("last", "every")  # what a task may ask for


class Transformer(SequenceModel):
    """torch.nn.TransformerEncoder with sinusoidal positions; layer norm first, then attention or feedforward.

    causal: a step sees itself and those before it, and one answer is read at the last step. Otherwise it is an encoder:
    a step sees all of its sequence, and one answer is read from the mean over its steps.

    Args:
        task: any that is not decoded.
        replicas: R.
        model_size: of the vectors between layers.
        heads: of attention; they divide model_size.
        layers: their number.
        feedforward_size: hidden units of each layer's feedforward part.
        causal: whether the future is hidden.
        dropout: its probability, on embedded words and before the readout, not inside.

    Raises:
        ConfigError: where the heads do not divide the size.
    """

    def __init__(
        self,
        task: Task,
        replicas: int,
        *,
        model_size: Annotated[int, Ge(2)] = 64,
        heads: Annotated[int, Ge(1)] = 4,
        layers: Annotated[int, Ge(1)] = 2,
        feedforward_size: Annotated[int, Ge(1)] = 128,
        causal: bool = True,
        dropout: Annotated[float, Interval(ge=0, le=0.95)] = 0.0,
    ) -> None:
        if model_size % (2 * heads):
            raise ConfigError(f"model.heads={heads}: expected a divisor of model.model_size={model_size} over 2")
        super().__init__(
            task,
            replicas,
            lambda size: _Encoder(size, model_size, heads, layers, feedforward_size, causal),
            embedding_size=model_size,
            hidden_size=model_size,
            dropout=dropout,
            mean=not causal,
        )


class _Encoder(nn.Module):
    def __init__(
        self, input_size: int, size: int, heads: int, layers: int, feedforward_size: int, causal: bool
    ) -> None:
        super().__init__()
        self.causal, self.scale = causal, math.sqrt(size)
        self.enter = nn.Linear(input_size, size) if input_size != size else nn.Identity()
        layer = nn.TransformerEncoderLayer(
            size, heads, feedforward_size, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(size), enable_nested_tensor=False)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """(B, T, D) → (B, T, H)."""
        T = x.shape[1]
        y = self.enter(x)
        y = y + positions(T, y.shape[-1]).to(y)
        hidden = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1) if self.causal else None
        # what follows a causal sequence's end is never seen before it
        padding = None if self.causal else ~inside
        encoded: Tensor = self.encoder(y, mask=hidden, src_key_padding_mask=padding)
        return encoded


def positions(steps: int, size: int) -> Tensor:
    """sin and cos of t / 10000^(2i / size): (T, size)."""
    rates = torch.exp(-math.log(10_000) * torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.arange(steps, dtype=torch.float64).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
