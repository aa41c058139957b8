"""What many-to-one and many-to-many share: words become vectors, a recurrent network reads them, a readout answers."""

from __future__ import annotations

from torch import Tensor, nn

from goldfish.models.parts.dropout import Dropout
from goldfish.models.parts.embedding import Embedding
from goldfish.models.parts.layers import Layers
from goldfish.models.parts.readout import Readout
from goldfish.recurrent import Recurrent


class Reader(nn.Module):
    """Embedding, dropout, recurrent network, readout.

    Args:
        recurrent: one network, for sequences that all end with the last step; or layers, for sequences of any length,
            in one direction or in both.
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

    def embedded(self, inputs: Tensor) -> Tensor:
        """Words (R, B, T) as vectors (R, B, T, E); vectors as they are."""
        if self.embedding is None:
            return inputs
        vectors: Tensor = self.dropout(self.embedding(inputs))
        return vectors
