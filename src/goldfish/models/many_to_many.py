"""Many-to-many: a sequence in, an answer at every step."""

from __future__ import annotations

from torch import Tensor, nn

from goldfish.models.readout import Readout
from goldfish.recurrent import Recurrent


class ManyToMany(nn.Module):
    """Reads h_t of the top layer at every step: (R, B, T, D) → (R, B, T, O)."""

    def __init__(self, recurrent: Recurrent, output_size: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.readout = Readout(recurrent.cell.hidden_size, output_size, recurrent.replicas)

    def forward(self, inputs: Tensor) -> Tensor:
        """(R, B, T, D) → (R, B, T, O)."""
        outputs, _ = self.recurrent(inputs)
        R, B, T, H = outputs.shape
        return self.readout(outputs.reshape(R, B * T, H)).view(R, B, T, -1)
