"""The training of a pack: R replicas side by side, each with its own loss, clipping, learning rate and metrics."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call

from goldfish import registry
from goldfish.config import Config
from goldfish.models.many_to_many import ManyToMany
from goldfish.models.many_to_one import ManyToOne
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import Batch, Task
from goldfish.training.metrics import ReplicaMean
from goldfish.training.outcome import Point
from goldfish.training.random import generator


def build_model(configs: Sequence[Config], task: Task) -> ManyToOne | ManyToMany:
    """The network of a pack, every replica initialised from its own seed."""
    cell = configs[0]["cell"]
    recurrent = Recurrent(
        cell["name"], task.input_size, replicas=len(configs), engine=configs[0]["engine"], **_arguments(cell)
    )
    model = (ManyToOne if task.readout == "last" else ManyToMany)(recurrent, task.output_size)
    for replica, config in enumerate(configs):
        source = generator(config["seed"], "weights")
        init = registry.load("init", config["init"]["name"])
        recurrent.initialise(replica, init, source, task.steps(task.length), **_arguments(config["init"]))
        model.readout.initialise(replica, source)
    return model


def _arguments(group: Config) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "name"}


class PackModule(pl.LightningModule):
    """R replicas as one LightningModule.

    Each replica's weights are one flat leaf tensor with a parameter group of its own; stacked and cut into the
    network's parameters they have a leading replica axis. The sum of the replicas' losses is optimised, so that
    replicas never touch; one that turns non-finite stops, keeps its last weights, and leaves the others unharmed.
    """

    model: ManyToOne | ManyToMany

    def __init__(self, configs: Sequence[Config], task: Task, dtype: torch.dtype) -> None:
        super().__init__()
        self.configs, self.task = configs, task
        model = build_model(configs, task)
        self.shapes = {name: value.shape[1:] for name, value in model.named_parameters()}
        flat = torch.cat([value.detach().flatten(1) for value in model.parameters()], dim=1)
        self.replicas = nn.ParameterList([nn.Parameter(row.to(dtype, copy=True)) for row in flat])
        self.__dict__["model"] = model  # not a submodule: its own parameters are only shapes
        self.accuracy, self.val_loss = ReplicaMean(len(configs)), ReplicaMean(len(configs))
        self.curves: list[list[Point]] = [[] for _ in configs]
        self.last: list[dict[str, float]] = [{} for _ in configs]
        self.solved_at: list[int | None] = [None] * len(configs)
        self.diverged: dict[int, str] = {}
        self._running: list[tuple[Tensor, Tensor]] = []

    def weights(self, detached: bool = False) -> dict[str, Tensor]:
        """The network's parameters, name → (R, …), as views of the stacked leaves."""
        flat = torch.stack([leaf.detach() if detached else leaf for leaf in self.replicas])
        if detached:
            flat.requires_grad_()
        parts = flat.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {name: part.unflatten(1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def materialised(self) -> ManyToOne | ManyToMany:
        """A copy of the network that holds the current weights as parameters of its own."""
        model = copy.deepcopy(self.model)
        for name, value in self.weights(detached=True).items():
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, nn.Parameter(value.detach().clone()))
        return model

    def forward(self, inputs: Tensor) -> Tensor:
        """(R, n, T, D) → the readout's outputs."""
        return functional_call(self.model, self.weights(), (inputs,))

    def spread(self, batch: Batch) -> Batch:
        """The same sequences for every replica: (n, …) → (R, n, …), without a copy."""
        return batch.map(lambda value: value.expand(len(self.configs), *value.shape))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser, one parameter group for each replica."""
        optimizer = self.configs[0]["optimizer"]
        groups = [
            {"params": [leaf], "lr": config["optimizer"]["lr"]}
            for leaf, config in zip(self.replicas, self.configs, strict=True)
        ]
        return registry.load("optimizer", optimizer["name"])(groups, **_arguments(optimizer))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum over replicas of each one's mean loss."""
        losses = self.task.losses(self(batch.inputs), batch)
        self._losses = torch.stack([row.mean() for row in losses])  # row by row: see ReplicaMean
        return self._losses.sum()

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Clip replica by replica, and take the non-finite out of training."""
        trainer = self.configs[0]["trainer"]
        leaves = list(self.replicas)
        norms = torch.stack([torch.linalg.vector_norm(_gradient(leaf)) for leaf in leaves])
        losses = self._losses.detach()
        self._running.append((losses, norms))
        finite = (torch.isfinite(losses) & torch.isfinite(norms)).tolist()
        for replica, (leaf, fine) in enumerate(zip(leaves, finite, strict=True)):
            if not fine and replica not in self.diverged:
                what = "gradient" if torch.isfinite(losses[replica]) else "loss"
                self.diverged[replica] = f"{what} became non-finite at step {self.global_step + 1}"
            if replica in self.diverged:
                leaf.grad = None  # the optimiser leaves it alone
        clip = trainer["gradient_clip_val"]
        active = [leaf for leaf in leaves if leaf.grad is not None]
        if clip is None:
            return
        for leaf in active:
            if trainer["gradient_clip_algorithm"] == "norm":
                torch.nn.utils.clip_grad_norm_([leaf], clip)
            else:
                torch.nn.utils.clip_grad_value_([leaf], clip)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Accuracy and loss of every replica on a part of the validation set."""
        spread = self.spread(batch)
        outputs = self(spread.inputs)
        self.accuracy.update(*self.task.correct(outputs, spread))
        losses = self.task.losses(outputs, spread)
        self.val_loss.update(losses, torch.ones_like(losses))

    def on_validation_epoch_end(self) -> None:
        """One point of every learning curve; the first step at which the task counts as solved."""
        step = self.global_step
        values = {"val/accuracy": self.accuracy.compute(), "val/loss": self.val_loss.compute()}
        if self._running:
            losses, norms = (torch.stack(column).double() for column in zip(*self._running, strict=True))
            values |= {"train/loss": _column_means(losses), "train/gradient_norm": _column_means(norms)}
            self._running = []
        self.accuracy.reset()
        self.val_loss.reset()
        # torchmetrics squeezes a single replica's axis away
        rows = {name: value.reshape(-1).tolist() for name, value in values.items()}
        for replica in range(len(self.configs)):
            if replica in self.diverged:
                continue
            now = {name: row[replica] for name, row in rows.items()}
            self.curves[replica] += [Point(name, "training", step, value) for name, value in now.items()]
            self.last[replica] = {name: now[name] for name in ("val/accuracy", "val/loss")}
            metrics = {"accuracy": now["val/accuracy"], "loss": now["val/loss"]}
            if self.solved_at[replica] is None and self.task.solved(metrics):
                self.solved_at[replica] = step


def _gradient(leaf: nn.Parameter) -> Tensor:
    assert leaf.grad is not None  # every leaf is part of the loss, even that of a diverged replica
    return leaf.grad


def _column_means(values: Tensor) -> Tensor:
    return torch.stack([column.contiguous().mean() for column in values.unbind(1)])
