"""The training of a pack: R replicas side by side, each with its own loss, clipping, learning rate and metrics."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from goldfish import registry
from goldfish.config import Config, over_cells
from goldfish.engines import select
from goldfish.models.parts.layers import Builder
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import Batch, Task
from goldfish.training import graph
from goldfish.training.metrics import ReplicaMean
from goldfish.training.omega import omega_gradient
from goldfish.training.outcome import Point
from goldfish.training.packed import PackedWeights
from goldfish.training.random import generator


def build_model(configs: Sequence[Config], task: Task) -> nn.Module:
    """The network of a pack, every replica initialised from its own seed."""
    chosen = configs[0]["model"]
    make = registry.load("model", chosen["name"])
    cell = configs[0]["cell"]
    build = Builder(cell["name"], len(configs), configs[0]["engine"], _arguments(cell))
    model: nn.Module = make(task, build if over_cells(chosen["name"]) else len(configs), **_arguments(chosen))
    for replica, config in enumerate(configs):
        source = generator(config["seed"], "weights")
        init = registry.load("init", config["init"]["name"])
        part: Any
        for part in model.modules():
            if isinstance(part, Recurrent):
                part.initialise(replica, init, source, task.steps(task.length), **_arguments(config["init"]))
            elif hasattr(part, "initialise"):
                part.initialise(replica, source)
    return model


def _arguments(group: Config) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "name"}


class PackModule(pl.LightningModule):
    """R replicas as one LightningModule.

    The sum of the replicas' losses is optimised, so that replicas never touch, and the optimiser sees the weights of
    each as a leaf of its own; a replica that turns non-finite stops, keeps its last weights, and leaves the others
    unharmed. Lightning's automatic optimisation would add a millisecond to every step, for what is not used here.

    Args:
        configs: the runs, of equal pack_key.
        task: theirs.
        dtype: of weights and training.
        device: where they live; moved later, the weights would lose what joins them.
    """

    def __init__(self, configs: Sequence[Config], task: Task, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.configs, self.task = configs, task
        self.model: Any = build_model(configs, task).to(device, dtype)
        self._step: Callable[[Batch], None] | None = None
        self._noisy: list[Any] = [part for part in self.model.modules() if hasattr(part, "generators")]
        self.weights = PackedWeights(self.model)
        self.accuracy, self.val_loss = ReplicaMean(len(configs)), ReplicaMean(len(configs))
        self.curves: list[list[Point]] = [[] for _ in configs]
        self.last: list[dict[str, float]] = [{} for _ in configs]
        self.solved_at: list[int | None] = [None] * len(configs)
        self.diverged: dict[int, str] = {}
        self.running = _Running()
        self.steps_done, self.validated = 0, 0  # training steps; those done at the last validation
        self.optimizer = self._build_optimizer()

    def forward(self, batch: Batch) -> Tensor:
        """The readout's outputs: (R, n, O), or (R, n, T, O); of a task that is decoded, given the true words."""
        outputs: Tensor = answer(self.model, self.task, batch)
        return outputs

    def predict(self, batch: Batch) -> Tensor:
        """Classes, (R, n) or (R, n, T); or decoded words, (R, n, T), as many as the true ones at most."""
        if self.task.readout == "decoded":
            words: Tensor = self.model.decode(batch.inputs, batch.targets.shape[-1])
            return words
        return cast(Tensor, self(batch)).argmax(-1)

    @property
    def recurrents(self) -> list[Recurrent]:
        """The recurrent networks in the model."""
        return [part for part in self.model.modules() if isinstance(part, Recurrent)]

    def copied(self) -> nn.Module:
        """A copy of the network with weights of its own, which a probe may treat as it likes."""
        # the engines' buffers are not worth a copy
        return copy.deepcopy(self.model, {id(recurrent._pool): {} for recurrent in self.recurrents})

    @property
    def engine(self) -> str:
        """The engine that runs the network, such as "cpu"; "torch" where it has no recurrent one."""
        values = self.weights.values
        for recurrent in self.recurrents:
            engine = select.choose(recurrent.engine, recurrent.cell, values.device, values.dtype)
            return engine.__name__.rpartition(".")[2]
        return "torch"

    def spread(self, batch: Batch) -> Batch:
        """The same sequences for every replica: (n, …) → (R, n, …), without a copy."""
        return batch.map(lambda value: value.expand(len(self.configs), *value.shape))

    @property
    def validation_due(self) -> bool:
        """True where the weights of this step belong to a learning curve and were not validated yet."""
        trainer = self.configs[0]["trainer"]
        on_curve = self.steps_done % trainer["validate_every"] == 0 or self.steps_done == trainer["max_steps"]
        return on_curve and self.validated < self.steps_done

    def stopped(self, replica: int) -> bool:
        """True for a run that is solved and asked to stop there: it keeps the weights that it had."""
        return bool(self.configs[0]["trainer"]["stop_when_solved"]) and self.solved_at[replica] is not None

    @property
    def over(self) -> bool:
        """True where further training steps would change nothing, because every run is solved and asked to stop."""
        return all(self.stopped(replica) for replica in range(len(self.configs)))

    @property
    def thinned(self) -> bool:
        """True where a quarter of the runs have stopped: from here on it is faster to go on without them."""
        stopped = sum(self.stopped(replica) for replica in range(len(self.configs)))
        return 4 * stopped >= len(self.configs)

    def cpu(self) -> Self:
        """Nothing: Lightning would move the network after every fit, and its weights would lose what joins them."""
        return self

    def configure_optimizers(self) -> None:
        """None that Lightning could step: `optimizer`, whose state every fit goes on with, may step inside a graph."""

    def _build_optimizer(self) -> torch.optim.Optimizer:
        """Replicas with one learning rate are one parameter group."""
        groups: dict[float, dict[str, Any]] = {}
        for row, config in zip(self.weights.rows, self.configs, strict=True):
            lr = config["optimizer"]["lr"]
            groups.setdefault(lr, {"params": [], "lr": lr})["params"].append(row)
        optimizer = self.configs[0]["optimizer"]
        built: torch.optim.Optimizer = registry.load("optimizer", optimizer["name"])(
            groups.values(), **_arguments(optimizer)
        )
        return built

    def training_step(self, dataloader_iter: Iterator[tuple[Batch, int, int]]) -> None:
        """One step of the optimiser down the sum over replicas of each one's mean loss.

        It is given an iterator because Lightning spends time on moving a batch, even on one that is where it should be.
        """
        batch, _, _ = next(dataloader_iter)
        self._step = self._step or self._chosen_step(batch)
        self._step(batch)
        self.steps_done += 1

    def _chosen_step(self, like: Batch) -> Callable[[Batch], None]:
        """A CUDA graph where the device alone makes a step: by compiled kernels, without random numbers of the host."""
        if self.engine != "cuda" or any(part.draws for part in self._noisy):
            return self._plain
        replayed = graph.of_batches(self._unwatched, self._changed, like)

        def step(batch: Batch) -> None:
            found = replayed(batch)
            self._watch(found[:, :-1], found[:, -1])

        return step

    def _plain(self, batch: Batch) -> None:
        """A step, operation by operation."""
        losses, norms = self._backpropagate(batch), self.weights.norms()
        self._watch(losses, norms)
        self._clip(norms)
        self.optimizer.step()

    def _unwatched(self, batch: Batch) -> Tensor:
        """A step that asks nothing of the host: losses and norms, (R, B + 1); a run that turns non-finite stays put."""
        losses, norms = self._backpropagate(batch), self.weights.norms()
        self._clip(norms)
        before = self.weights.values.clone()
        self.optimizer.step()
        fine = torch.isfinite(losses).all(-1) & torch.isfinite(norms)
        self.weights.values.copy_(torch.where(fine.unsqueeze(1), self.weights.values, before))
        return torch.cat([losses, norms.unsqueeze(1)], dim=1)

    def _changed(self) -> list[Tensor]:
        """What a step changes."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        return [self.weights.values, self.weights.gradient, *(m for m in moments if isinstance(m, Tensor))]

    def _backpropagate(self, batch: Batch) -> Tensor:
        """The losses, (R, B); each replica's gradient of their mean is left in the weights."""
        weight = self.configs[0]["trainer"]["omega"]
        with self._noise(), _states(self.recurrents if weight else []) as states:
            outputs = self(batch)
        losses = self.task.losses(outputs, batch)
        direct = self.weights.backward((losses / losses.shape[-1]).sum(), also=states)
        if weight:
            self._add_omega(weight, states[0].detach(), *direct)
        return losses.detach()

    def _add_omega(self, weight: float, h: Tensor, direct: Tensor, final: Tensor) -> None:
        """Add the derivative of Ω to the gradient; the loss may see the last state as an output or as the final one."""
        (recurrent,) = self.recurrents
        direct[:, :, -1] += final[:, -1]
        own = recurrent.get_parameter("weight_hh_l0")
        self.weights.add(own, weight * omega_gradient(own.detach(), h, direct, recurrent.cell.nonlinearity))

    @contextmanager
    def _noise(self) -> Iterator[None]:
        """Give whatever draws in training random numbers that depend on a run's seed and the step alone."""
        drawing = [(index, part) for index, part in enumerate(self._noisy) if part.draws]
        for index, part in drawing:
            part.generators = [generator(config["seed"], f"noise/{index}", self.steps_done) for config in self.configs]
        try:
            yield
        finally:
            for _, part in drawing:
                part.generators = ()

    def _watch(self, losses: Tensor, norms: Tensor) -> None:
        """Add to the running means, and take the non-finite out of training; losses (R, B), norms (R,)."""
        self.running.add(losses, norms)
        if not math.isfinite(losses.sum() + norms.sum()):  # one look at all is cheaper than one at each
            self._take_out(torch.isfinite(losses).all(-1), torch.isfinite(norms))

    def _clip(self, norms: Tensor) -> None:
        """Clip replica by replica."""
        trainer = self.configs[0]["trainer"]
        clip = trainer["gradient_clip_val"]
        if clip is None:
            return
        if trainer["gradient_clip_algorithm"] == "norm":
            self.weights.clip_norm(clip, norms)
        else:
            self.weights.clip_value(clip)

    def _take_out(self, fine_losses: Tensor, fine_norms: Tensor) -> None:
        for replica, fine in enumerate((fine_losses & fine_norms).tolist()):
            if not fine and replica not in self.diverged:
                what = "gradient" if fine_losses[replica] else "loss"
                self.diverged[replica] = f"{what} became non-finite at step {self.steps_done + 1}"
                self._freeze(replica)

    def _freeze(self, replica: int) -> None:
        self.weights.freeze(replica)
        self._step = None  # a graph would go on to move its weights

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Accuracy and loss of every replica on a part of the validation set."""
        spread = self.spread(batch)
        outputs = self(spread)
        self.accuracy.update(*self.task.correct(outputs, spread))
        losses = self.task.losses(outputs, spread)
        self.val_loss.update(losses, torch.ones_like(losses))

    def on_validation_epoch_end(self) -> None:
        """One point of every learning curve; the first step at which the task counts as solved."""
        step = self.validated = self.steps_done
        values = {"val/accuracy": self.accuracy.compute(), "val/loss": self.val_loss.compute()}
        values |= self.running.means()
        self.running = _Running()
        self.accuracy.reset()
        self.val_loss.reset()
        # torchmetrics squeezes a single replica's axis away
        rows = {name: value.reshape(-1).tolist() for name, value in values.items()}
        for replica in range(len(self.configs)):
            if replica in self.diverged or self.stopped(replica):
                continue
            now = {name: row[replica] for name, row in rows.items()}
            self.curves[replica] += [Point(name, "training", step, value) for name, value in now.items()]
            self.last[replica] = {name: now[name] for name in ("val/accuracy", "val/loss")}
            metrics = {"accuracy": now["val/accuracy"], "loss": now["val/loss"]}
            if self.solved_at[replica] is None and self.task.solved(metrics):
                self.solved_at[replica] = step
            if self.stopped(replica):
                self._freeze(replica)
        if self.thinned:
            self.trainer.should_stop = True


def answer(model: Callable[..., Any], task: Task, batch: Batch) -> Any:
    """What a model says of a batch: an encoder-decoder is given the true words, any other model the mask."""
    return model(batch.inputs, batch.targets if task.readout == "decoded" else batch.mask)


@contextmanager
def _states(recurrents: Sequence[Recurrent]) -> Iterator[list[Tensor]]:
    """The top layer's states, (R, B, T, H), and the final ones, (R, L, B, H), of every forward pass inside."""
    found: list[Tensor] = []
    handles = [
        part.register_forward_hook(lambda module, given, out: found.extend((out[0], out[1]["h"])))
        for part in recurrents
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


class _Running:
    """Means of the training loss and the gradient norm since the last validation."""

    def __init__(self) -> None:
        self.losses: Tensor | float = 0.0
        self.norms: Tensor | float = 0.0
        self.steps = 0

    def add(self, losses: Tensor, norms: Tensor) -> None:
        """Add a step's: losses (R, B), norms (R,)."""
        self.losses = losses.double() + self.losses
        self.norms = norms.double() + self.norms
        self.steps += 1

    def means(self) -> dict[str, Tensor]:
        """Name → (R,); nothing where there was no step."""
        if not isinstance(self.losses, Tensor) or not isinstance(self.norms, Tensor):
            return {}
        losses = torch.stack([row.mean() for row in self.losses])  # row by row: see ReplicaMean
        return {"train/loss": losses / self.steps, "train/gradient_norm": self.norms / self.steps}
