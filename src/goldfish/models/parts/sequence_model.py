"""The base of models without recurrence: a network over all steps at once, between an embedding and a readout."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from goldfish.models.parts.layers import Dropout, Embedding, Readout
from goldfish.tasks.base import Task, last_step


class SequenceModel(nn.Module):
    """Words → vectors → a network over all steps → one linear readout, at the last step or at every one.

    Args:
        task: its inputs, outputs and readout.
        replicas: R.
        network: makes the network of one replica that reads vectors of D numbers: (B, T, D) and (B, T) bool, the steps
            that a sequence has, → (B, T, H).
        embedding_size: of words, where the inputs are words.
        hidden_size: H.
        dropout: its probability, on embedded words and before the readout.
        mean: read the mean over a sequence's steps, where one answer is asked; else the last step.
    """

    def __init__(
        self,
        task: Task,
        replicas: int,
        network: Callable[[int], nn.Module],
        *,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        mean: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = Embedding(task.input_size, embedding_size, replicas) if task.tokens else None
        size = embedding_size if task.tokens else task.input_size
        self.dropout, self.network = Dropout(dropout), Replicated(lambda: network(size), replicas)
        self.readout = Readout(hidden_size, task.output_size, replicas)
        self.every, self.mean = task.readout == "every", mean

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """(R, B, T, D) or (R, B, T) → (R, B, O), or (R, B, T, O); the last True of the mask ends a sequence."""
        x = inputs if self.embedding is None else self.dropout(self.embedding(inputs))
        last = last_step(mask).unsqueeze(-1)
        inside = torch.arange(mask.shape[-1], device=mask.device) <= last
        hidden = self.network(x, inside)
        R, B, T, H = hidden.shape
        if self.every:
            return self.readout(self.dropout(hidden).reshape(R, B * T, H)).view(R, B, T, -1)
        if self.mean:
            read = (hidden * inside.unsqueeze(-1)).sum(2) / (last + 1)
        else:
            read = hidden.gather(2, last.unsqueeze(-1).expand(R, B, 1, H)).squeeze(2)
        return self.readout(self.dropout(read))


class Replicated(nn.Module):
    """The parameters of R equal modules, stacked: (R, …), under the module's own names with "/" for ".".

    Each replica goes through the module alone, on its own slices. That is slower than one product for all, and leaves
    torch's own modules, with their own kernels, as they are.

    Args:
        make: makes the module of one replica.
        replicas: R.
    """

    def __init__(self, make: Callable[[], nn.Module], replicas: int) -> None:
        super().__init__()
        self._make, self.replicas = make, replicas
        with torch.device("meta"):
            module = make()
        self._bare = (module,)  # in a tuple it is no child: it has no weights of its own
        for name, value in module.named_parameters():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(torch.zeros(replicas, *value.shape)))

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """Initialise as the module does, from this generator; torch's own random numbers stay as they are."""
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            for name, value in self._make().named_parameters():
                self.get_parameter(name.replace(".", "/"))[replica] = value

    def forward(self, *tensors: Tensor) -> Tensor:
        """Every tensor has a leading replica axis, and so has what comes out."""
        module, stacked = self._bare[0], dict(self.named_parameters())
        outputs = []
        for replica in range(self.replicas):
            weights = {name.replace("/", "."): value[replica] for name, value in stacked.items()}
            outputs.append(functional_call(module, weights, tuple(tensor[replica] for tensor in tensors)))
        return torch.stack(outputs)
