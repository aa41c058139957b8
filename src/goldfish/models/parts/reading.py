"""What every model does first and last: words become vectors, and an answer is read at a sequence's last step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goldfish.models.parts.dropout import Dropout
from goldfish.models.parts.embedding import Embedding
from goldfish.models.parts.readout import Readout
from goldfish.models.parts.replicated import Replicated
from goldfish.tasks.base import Task, last_step


class Reading(nn.Module):
    """Words → vectors → a network over all steps → one linear readout, at the last step or at every one.

    Args:
        task: its inputs, outputs and readout.
        network: (R, B, T, D) and (R, B, T) bool, the steps that a sequence has, → (R, B, T, H).
        embedding_size: of words, where the inputs are words.
        hidden_size: H.
        dropout: its probability, on embedded words and before the readout.
        mean: read the mean over a sequence's steps, where one answer is asked; else the last step.
    """

    def __init__(
        self,
        task: Task,
        network: Replicated,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        *,
        mean: bool = False,
    ) -> None:
        super().__init__()
        replicas = network.replicas
        self.embedding = Embedding(task.input_size, embedding_size, replicas) if task.tokens else None
        self.dropout, self.network = Dropout(dropout), network
        self.readout = Readout(hidden_size, task.output_size, replicas)
        self.every, self.mean = task.readout == "every", mean

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """(R, B, T, D) or (R, B, T) → (R, B, O), or (R, B, T, O); the last True of the mask ends a sequence."""
        x = inputs if self.embedding is None else self.dropout(self.embedding(inputs))
        last = last_step(mask).unsqueeze(-1)
        inside = torch.arange(mask.shape[-1], device=mask.device) <= last
        found = self.network(x, inside)
        R, B, T, H = found.shape
        if self.every:
            return self.readout(self.dropout(found).reshape(R, B * T, H)).view(R, B, T, -1)
        if self.mean:
            read = (found * inside.unsqueeze(-1)).sum(2) / (last + 1)
        else:
            read = found.gather(2, last.unsqueeze(-1).expand(R, B, 1, H)).squeeze(2)
        return self.readout(self.dropout(read))


def width(task: Task, embedding_size: int) -> int:
    """D, the size of the vectors that a network reads."""
    return embedding_size if task.tokens else task.input_size


def shifted(x: Tensor, steps: int) -> Tensor:
    """(B, C, T) moved `steps` later, zeros first: what stood at t stands at t + steps."""
    return F.pad(x, (steps, 0))[..., : x.shape[-1]]
