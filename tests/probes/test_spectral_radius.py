"""The spectral radius against closed forms."""

from __future__ import annotations

import pytest
import torch

from goldfish.config import registry
from goldfish.probes.spectral_radius import spectral_radius
from goldfish.recurrent import Recurrent


def network(cell: str, *, replicas: int = 3, layers: int = 1) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, 2, 6, num_layers=layers, replicas=replicas).double()


@pytest.mark.parametrize("cell", registry.names("cell"))
def test_known_matrices_gate_by_gate(cell: str) -> None:
    recurrent = network(cell, layers=2)
    gates = recurrent.cell.gates
    rotation = torch.tensor([[0.0, -2.0], [2.0, 0.0]], dtype=torch.float64)  # ±2i
    with torch.no_grad():
        for index in range(len(gates)):
            block = recurrent.get_parameter("weight_hh_l1")[:, 6 * index : 6 * index + 6]
            block.zero_()
            block[0] = (index + 1) * torch.eye(6)
            block[1] = torch.ones(6, 6).triu(1)  # nilpotent
            block[2, :2, :2] = rotation
    found = spectral_radius(recurrent)
    assert list(found) == list(gates)
    for index, gate in enumerate(gates):
        torch.testing.assert_close(found[gate], torch.tensor([index + 1.0, 0.0, 2.0]).double(), rtol=0, atol=1e-12)


def test_weights_that_are_not_finite() -> None:
    recurrent = network("rnn")
    with torch.no_grad():
        recurrent.get_parameter("weight_hh_l0")[1, 0, 0] = torch.inf
    found = spectral_radius(recurrent)["h"]
    assert found.isnan().tolist() == [False, True, False]


def test_of_a_large_gaussian_matrix() -> None:
    """Girko's circular law: N(0, 1/N) has ρ near 1."""
    recurrent = Recurrent("rnn", 1, 400, replicas=1)
    with torch.no_grad():
        recurrent.get_parameter("weight_hh_l0").normal_(0, 400**-0.5, generator=torch.Generator().manual_seed(0))
    assert float(spectral_radius(recurrent)["h"]) == pytest.approx(1, abs=0.06)
