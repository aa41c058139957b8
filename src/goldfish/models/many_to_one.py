"""Many-to-one: a sequence in, one answer out, read from the last state."""

from __future__ import annotations

from torch import Tensor, nn

from goldfish.models.readout import Readout
from goldfish.recurrent import Recurrent


class ManyToOne(nn.Module):
    """Reads h_T of the top layer: (R, B, T, D) → (R, B, O)."""

    def __init__(self, recurrent: Recurrent, output_size: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.readout = Readout(recurrent.cell.hidden_size, output_size, recurrent.replicas)

    def forward(self, inputs: Tensor) -> Tensor:
        """(R, B, T, D) → (R, B, O)."""
        _, state = self.recurrent(inputs)
        return self.readout(state["h"][:, -1])
