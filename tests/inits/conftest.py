"""A layer to initialise, filled with NaN, so that what an initialisation leaves alone is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from goldfish.config import registry
from goldfish.inits.base import Layer

MakeLayer = Callable[..., Layer]


@pytest.fixture(scope="session")
def make_layer() -> MakeLayer:
    """make_layer(cell, hidden_size, input_size, dtype, …) → Layer of NaN."""

    def make(
        cell: str = "rnn",
        hidden_size: int = 24,
        input_size: int = 3,
        dtype: torch.dtype = torch.float64,
        *,
        nonlinearity: str = "tanh",
        sequence_length: int | None = 50,
    ) -> Layer:
        gates = registry.load("cell", cell).gates
        G, H, D = len(gates), hidden_size, input_size
        shapes = ((G, H, D), (G, H, H), (G, H), (G, H))
        weights = (torch.full(shape, torch.nan, dtype=dtype) for shape in shapes)
        return Layer(cell, gates, nonlinearity, sequence_length, *weights)

    return make


@pytest.fixture(scope="session")
def generator() -> Callable[[int], torch.Generator]:
    """generator(seed) → a torch.Generator."""

    def make(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    return make
