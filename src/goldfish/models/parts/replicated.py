"""R copies of any torch module, each run alone: what a replica computes does not depend on its pack."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call


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
        """As the module does it, from this generator; torch's own random numbers stay as they are."""
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            for name, value in self._make().named_parameters():
                self.get_parameter(name.replace(".", "/"))[replica] = value

    def forward(self, *tensors: Tensor) -> Tensor:
        """Every tensor has a leading replica axis, and so has what comes out."""
        module, stacked = self._bare[0], dict(self.named_parameters())
        found = []
        for replica in range(self.replicas):
            weights = {name.replace("/", "."): value[replica] for name, value in stacked.items()}
            found.append(functional_call(module, weights, tuple(tensor[replica] for tensor in tensors)))
        return torch.stack(found)
