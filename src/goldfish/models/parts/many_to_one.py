"""Many-to-one: a sequence in, one answer out, read from the last state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from goldfish.models.parts.dropout import Dropout
from goldfish.models.parts.embedding import Embedding
from goldfish.models.parts.layers import Layers
from goldfish.models.parts.readout import Readout
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import last_step


class ManyToOne(nn.Module):
    """Reads h of the top layer after each sequence's last step: (R, B, T, D) or (R, B, T) → (R, B, O).

    Args:
        recurrent: one network, for sequences that all end with the last step; or layers, for sequences of any length.
            With two directions, the second one's h after the first step is read as well.
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
        """(R, B, T, D) or (R, B, T) → (R, B, O); layers need the mask (R, B, T), True at each sequence's last step."""
        x = inputs if self.embedding is None else self.dropout(self.embedding(inputs))
        if isinstance(self.recurrent, Recurrent):
            _, state = self.recurrent(x)
            return self.readout(self.dropout(state["h"][:, -1]))
        assert mask is not None
        outputs: Tensor = self.recurrent(x, mask)
        H = self.measured.cell.hidden_size
        last = last_step(mask)[..., None, None].expand(*mask.shape[:-1], 1, H)
        read = [outputs[..., :H].gather(2, last).squeeze(2), outputs[:, :, 0, H:]]  # each direction's end
        return self.readout(self.dropout(torch.cat(read, dim=-1)))
