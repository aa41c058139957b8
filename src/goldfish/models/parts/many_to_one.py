"""Many-to-one: a sequence in, one answer out, read from the last state."""

from __future__ import annotations

import torch
from torch import Tensor

from goldfish.models.parts.reader import Reader
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import last_step


class ManyToOne(Reader):
    """Reads h of the top layer after each sequence's last step: (R, B, T, D) or (R, B, T) → (R, B, O).

    With two directions, the second one's h after the first step is read as well.
    """

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(R, B, T, D) or (R, B, T) → (R, B, O); layers need the mask (R, B, T), True at each sequence's last step."""
        x = self.embedded(inputs)
        if isinstance(self.recurrent, Recurrent):
            _, state = self.recurrent(x)
            return self.readout(self.dropout(state["h"][:, -1]))
        assert mask is not None
        outputs: Tensor = self.recurrent(x, mask)
        H = self.measured.cell.hidden_size
        last = last_step(mask)[..., None, None].expand(*mask.shape[:-1], 1, H)
        read = [outputs[..., :H].gather(2, last).squeeze(2), outputs[:, :, 0, H:]]  # each direction's end
        return self.readout(self.dropout(torch.cat(read, dim=-1)))
