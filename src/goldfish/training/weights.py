"""The network of a pack, and its weights in one tensor: parameters with a replica axis, rows for an optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from goldfish.config import registry
from goldfish.config.config import Config, over_cells
from goldfish.models.parts.stack import Builder
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import Task
from goldfish.training.device import sums
from goldfish.training.generators import generator


def build_model(configs: Sequence[Config], task: Task) -> nn.Module:
    """The network of a pack, every replica initialised from its own seed."""
    chosen, cell = configs[0].model, configs[0].cell
    make = registry.load("model", chosen.name)
    build = Builder(cell.name, len(configs), configs[0].engine, cell.arguments)
    model: nn.Module = make(task, build if over_cells(chosen.name) else len(configs), **chosen.arguments)
    for replica, config in enumerate(configs):
        source = generator(config.seed, "weights")
        init = registry.load("init", config.init.name)
        part: Any
        for part in model.modules():
            if isinstance(part, Recurrent):
                part.initialise(replica, init, source, task.steps(task.length), **config.init.arguments)
            elif hasattr(part, "initialise"):
                part.initialise(replica, source)
    return model


class PackedWeights:
    """All weights of R replicas, (R, N), and their gradient; whatever else is seen of them is a view.

    The network's parameters become views, cut and with a leading replica axis; an optimiser that changes the rows
    changes them.

    Args:
        model: its parameters all have a leading replica axis of size R, one dtype and one device; they keep both.

    Attributes:
        values: (R, N).
        gradient: (R, N), of the last backward pass.
        rows: R leaves, (N,), for an optimiser.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = list(model.parameters())
        self.values = torch.cat([value.detach().flatten(1) for value in self._parameters], dim=1)
        self.gradient = torch.zeros_like(self.values)
        for parameter, value in zip(self._parameters, self._cut(self.values), strict=True):
            parameter.data = value
        self._gradients = self._cut(self.gradient)
        self.rows = [row.requires_grad_() for row in self.values.unbind()]
        for row, gradient in zip(self.rows, self.gradient.unbind(), strict=True):
            row.grad = gradient

    def optimizer(self, configs: Sequence[Config]) -> torch.optim.Optimizer:
        """The runs' optimiser over the rows; those with one learning rate are one parameter group."""
        groups: dict[float, dict[str, Any]] = {}
        for row, config in zip(self.rows, configs, strict=True):
            lr = config.optimizer["lr"]
            groups.setdefault(lr, {"params": [], "lr": lr})["params"].append(row)
        chosen = configs[0].optimizer
        built: torch.optim.Optimizer = registry.load("optimizer", chosen.name)(groups.values(), **chosen.arguments)
        return built

    def _cut(self, flat: Tensor) -> list[Tensor]:
        """(R, N) → views (R, …), one for each parameter."""
        parts = flat.split([value[0].numel() for value in self._parameters], dim=1)
        return [part.unflatten(1, value.shape[1:]) for part, value in zip(parts, self._parameters, strict=True)]

    def backward(
        self, outputs: Tensor, cotangent: Tensor | None = None, also: Sequence[Tensor] = ()
    ) -> tuple[Tensor, ...]:
        """The gradient of a loss, or of outputs given the loss's own to them; zero for a parameter without a part.

        Returns those to the tensors in `also`, which are no parameters.
        """
        asked = [*self._parameters, *also]
        gradients = torch.autograd.grad(outputs, asked, cotangent, allow_unused=True, materialize_grads=True)
        torch._foreach_copy_(self._gradients, gradients[: len(self._parameters)])
        return gradients[len(self._parameters) :]

    def add(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        """Add to the gradient of one parameter, (R, …)."""
        (index,) = (index for index, own in enumerate(self._parameters) if own is parameter)
        self._gradients[index].add_(gradient)

    def norms(self) -> Tensor:
        """The Euclidean norm of each replica's gradient, (R,)."""
        return sums.norms(self.gradient)

    def clip_norm(self, largest: float, norms: Tensor) -> None:
        """Scale each replica's gradient down to at most this norm, as torch.nn.utils.clip_grad_norm_ does for one."""
        self.gradient *= (largest / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1)

    def clip_value(self, largest: float) -> None:
        """Clamp every component of the gradient to ±largest."""
        self.gradient.clamp_(-largest, largest)

    def freeze(self, replica: int) -> None:
        """Take a replica out of training: an optimiser leaves a row without a gradient alone."""
        self.rows[replica].grad = None
