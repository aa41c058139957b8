"""Many-to-many: a sequence in, an answer at every step."""

from __future__ import annotations

from torch import Tensor, nn

from goldfish.models.parts.dropout import Dropout
from goldfish.models.parts.embedding import Embedding
from goldfish.models.parts.layers import Layers
from goldfish.models.parts.readout import Readout
from goldfish.recurrent import Recurrent


class ManyToMany(nn.Module):
    """Reads h_t of the top layer at every step: (R, B, T, D) or (R, B, T) → (R, B, T, O).

    Args:
        recurrent: one network; or layers, which may read in both directions.
        output_size: O.
        embedding: of the words, where the inputs are words.
        dropout: its probability, on embedded words and before the readout.
    """

    def __init__(
        self, recurrent: Recurrent | Layers, output_size: int, embedding: Embedding | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding, self.dropout, self.recurrent = embedding, Dropout(dropout), recurrent
        width = recurrent.output_size if isinstance(recurrent, Layers) else recurrent.cell.hidden_size
        self.readout = Readout(width, output_size, self.measured.replicas)

    @property
    def measured(self) -> Recurrent:
        """The network whose gradient flow is reported."""
        return self.recurrent.top if isinstance(self.recurrent, Layers) else self.recurrent

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(R, B, T, D) or (R, B, T) → (R, B, T, O); layers need the mask (R, B, T), True at each sequence's steps."""
        x = inputs if self.embedding is None else self.dropout(self.embedding(inputs))
        if isinstance(self.recurrent, Recurrent):
            outputs, _ = self.recurrent(x)
        else:
            assert mask is not None
            outputs = self.recurrent(x, mask)
        R, B, T, H = outputs.shape
        return self.readout(self.dropout(outputs).reshape(R, B * T, H)).view(R, B, T, -1)
