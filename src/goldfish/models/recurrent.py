"""Recurrent networks for any task: many-to-one, many-to-many or encoder-decoder, as the task asks."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Interval

from goldfish.models.parts.embedding import Embedding
from goldfish.models.parts.encoder_decoder import EncoderDecoder
from goldfish.models.parts.layers import Builder, Layers
from goldfish.models.parts.many_to_many import ManyToMany
from goldfish.models.parts.many_to_one import ManyToOne
from goldfish.tasks.base import Task

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
    network = Layers(build, size, dropout=dropout, bidirectional=bidirectional) if several else build(size)
    architecture = ManyToOne if task.readout == "last" else ManyToMany
    return architecture(network, task.output_size, embedding, dropout)
