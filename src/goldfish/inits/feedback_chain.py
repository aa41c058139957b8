"""A chain of units with feedback as recurrent weights (Orhan & Pitkow 2020)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt

from goldfish.inits.base import Layer
from goldfish.inits.chain import chain


def feedback_chain(
    layer: Layer,
    generator: torch.Generator,
    *,
    scale: Annotated[float, Gt(0)] = 0.99,
    feedback: Annotated[float, Ge(0)] = 0.04,
    input_scale: Annotated[float, Ge(0)] | None = 0.9,
) -> None:
    """W_hh = scale on the first subdiagonal and feedback on the first superdiagonal: i receives i-1 and i+1.

    Orhan & Pitkow, ICLR 2020, "Improved memory in recurrent neural networks with sequential non-normal dynamics", where
    scale is .99 and feedback is called β. Between the chain, which is far from normal, and a symmetric matrix.

    Replaces W_hh, and W_ih unless input_scale is null, the same in every gate; draws nothing. Biases stay PyTorch's.
    """
    chain(layer, generator, scale=scale, input_scale=input_scale)
    back = torch.diag(torch.ones(layer.hidden_size - 1, dtype=torch.float64), diagonal=1)
    layer.weight_hh += (feedback * back).to(layer.weight_hh)
