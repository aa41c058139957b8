"""Many-to-many: a sequence in, an answer at every step."""

from __future__ import annotations

from torch import Tensor

from goldfish.models.parts.reader import Reader
from goldfish.recurrent import Recurrent


class ManyToMany(Reader):
    """Reads h_t of the top layer at every step: (R, B, T, D) or (R, B, T) → (R, B, T, O)."""

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(R, B, T, D) or (R, B, T) → (R, B, T, O); layers need the mask (R, B, T), True at each sequence's steps."""
        x = self.embedded(inputs)
        if isinstance(self.recurrent, Recurrent):
            outputs, _ = self.recurrent(x)
        else:
            assert mask is not None
            outputs = self.recurrent(x, mask)
        R, B, T, H = outputs.shape
        return self.readout(self.dropout(outputs).reshape(R, B * T, H)).view(R, B, T, -1)
