"""Recurrent networks for any task: many-to-one, many-to-many or encoder-decoder, as the task asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from goldfish.models.parts.layers import Dropout, Embedding, Readout
from goldfish.models.parts.stack import Builder, Stack
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import Task, last_step

if TYPE_CHECKING:
    from goldfish.models.parts.encoder_decoder import EncoderDecoder

OVER_CELLS = True  # `cell` and `init` say what it is made of
ONLY = {  # argument → the readouts of tasks for which it has a meaning
    "bidirectional": ("last", "every"),
    "teacher_forcing": ("decoded",),
    "reverse_source": ("decoded",),
}


def recurrent(
    task: Task,
    build: Builder,
    *,
    embedding_size: Annotated[int, Ge(1)] | None = None,
    dropout: Annotated[float, Interval(ge=0, le=0.95)] = 0.0,
    bidirectional: bool = False,
    teacher_forcing: Annotated[float, Interval(ge=0, le=1)] = 1.0,
    reverse_source: bool = False,
) -> ManyToOne | ManyToMany | EncoderDecoder:
    """The network for a task: its `readout` says which of the three.

    Args:
        task: whose inputs it reads.
        build: makes its recurrent networks.
        embedding_size: of words; null for as many numbers as there are hidden units.
        dropout: its probability, on embedded words, between layers and before the readout.
        bidirectional: whether a second direction reads from each sequence's end; an encoder-decoder has one.
        teacher_forcing: encoder-decoder: the share of steps at which training feeds the true word, not the network's.
        reverse_source: encoder-decoder: whether the source is read from its end (Sutskever et al. 2014).
    """
    if task.readout == "decoded":
        from goldfish.models.parts.encoder_decoder import EncoderDecoder

        size = embedding_size or build.arguments["hidden_size"]
        return EncoderDecoder(
            build,
            task.input_size,
            task.output_size,
            size,
            dropout=dropout,
            teacher_forcing=teacher_forcing,
            reverse_source=reverse_source,
        )
    size, embedding = task.input_size, None
    if task.tokens:
        size = embedding_size or build.arguments["hidden_size"]
        embedding = Embedding(task.input_size, size, build.replicas)
    several = task.variable_length or bidirectional or (dropout > 0 and build.arguments["num_layers"] > 1)
    network = Stack(build, size, dropout=dropout, bidirectional=bidirectional) if several else build(size)
    architecture = ManyToOne if task.readout == "last" else ManyToMany
    return architecture(network, task.output_size, embedding, dropout)


class _Model(nn.Module):
    """Embedding, dropout, recurrent network, readout.

    Args:
        recurrent: one network, for sequences that all end with the last step; or a stack, for sequences of any length,
            in one direction or in both.
        output_size: O.
        embedding: of the words, where the inputs are words.
        dropout: its probability, on embedded words and before the readout.
    """

    def __init__(
        self, recurrent: Recurrent | Stack, output_size: int, embedding: Embedding | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding, self.dropout, self.recurrent = embedding, Dropout(dropout), recurrent
        width = recurrent.output_size if isinstance(recurrent, Stack) else recurrent.cell.hidden_size
        self.readout = Readout(width, output_size, self.measured.replicas)

    @property
    def measured(self) -> Recurrent:
        """The network whose gradient flow is reported."""
        return self.recurrent.top if isinstance(self.recurrent, Stack) else self.recurrent

    def embedded(self, inputs: Tensor) -> Tensor:
        """Words (R, B, T) as vectors (R, B, T, E); vectors as they are."""
        if self.embedding is None:
            return inputs
        vectors: Tensor = self.dropout(self.embedding(inputs))
        return vectors


class ManyToOne(_Model):
    """Reads h of the top layer after each sequence's last step: (R, B, T, D) or (R, B, T) → (R, B, O).

    With two directions, the second one's h after the first step is read as well.
    """

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(R, B, T, D) or (R, B, T) → (R, B, O); a stack needs the mask (R, B, T), True at a sequence's last step."""
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


class ManyToMany(_Model):
    """Reads h_t of the top layer at every step: (R, B, T, D) or (R, B, T) → (R, B, T, O)."""

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(R, B, T, D) or (R, B, T) → (R, B, T, O); a stack needs the mask (R, B, T), True at each sequence's steps."""
        x = self.embedded(inputs)
        if isinstance(self.recurrent, Recurrent):
            outputs, _ = self.recurrent(x)
        else:
            assert mask is not None
            outputs = self.recurrent(x, mask)
        R, B, T, H = outputs.shape
        return self.readout(self.dropout(outputs).reshape(R, B * T, H)).view(R, B, T, -1)
