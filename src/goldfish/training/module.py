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

from goldfish.config import registry
from goldfish.config.config import Config, over_cells
from goldfish.engines import select
from goldfish.models.parts.layers import Builder
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import Batch, Task
from goldfish.training import finite
from goldfish.training.data import PackData
from goldfish.training.device import graph, sums
from goldfish.training.device.alive import Alive, told
from goldfish.training.metrics import ReplicaMean
from goldfish.training.omega import omega_gradient
from goldfish.training.outcome import Point
from goldfish.training.random import generator
from goldfish.training.weights import PackedWeights


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

    Attributes:
        data: what it is trained on, set by whoever trains it: looked at once more where a number is not finite.
    """

    def __init__(self, configs: Sequence[Config], task: Task, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.configs, self.task = configs, task
        self.model: Any = build_model(configs, task).to(device, dtype)
        self._step: Callable[[Batch], object] | None = None
        self._noisy: list[Any] = [part for part in self.model.modules() if hasattr(part, "generators")]
        self.weights = PackedWeights(self.model)
        self.accuracy, self.val_loss = ReplicaMean(len(configs)), ReplicaMean(len(configs))
        self.curves: list[list[Point]] = [[] for _ in configs]
        self.last: list[dict[str, float]] = [{} for _ in configs]
        self.solved_at: list[int | None] = [None] * len(configs)
        self.diverged: dict[int, str] = {}
        self.running = _Running()
        self.alive = Alive(len(configs), device)
        self.data: PackData | None = None
        self.steps_done, self.validated = 0, 0  # training steps; those done at the last validation
        self.optimizer = self._build_optimizer()

    def forward(self, batch: Batch) -> Tensor:
        """The readout's outputs: (R, n, O), or (R, n, T, O); of a task that is decoded, given the true words."""
        outputs: Tensor = self.task.ask(self.model, batch)
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
        trainer = self.configs[0].trainer
        on_curve = self.steps_done % trainer.validate_every == 0 or self.steps_done == trainer.max_steps
        return on_curve and self.validated < self.steps_done

    def stopped(self, replica: int) -> bool:
        """True for a run that is solved and asked to stop there: it keeps the weights that it had."""
        return self.configs[0].trainer.stop_when_solved and self.solved_at[replica] is not None

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
            lr = config.optimizer["lr"]
            groups.setdefault(lr, {"params": [], "lr": lr})["params"].append(row)
        optimizer = self.configs[0].optimizer
        built: torch.optim.Optimizer = registry.load("optimizer", optimizer.name)(
            groups.values(), **optimizer.arguments
        )
        return built

    def training_step(self, dataloader_iter: Iterator[tuple[Batch, int, int]]) -> None:
        """One step of the optimiser down the sum over replicas of each one's mean loss.

        It is given an iterator because Lightning spends time on moving a batch, even on one that is where it should be.
        """
        batch, _, _ = next(dataloader_iter)
        self.step(batch)

    def step(self, batch: Batch) -> None:
        """One training step on a batch (R, B, T, …) that is where the module is; on a GPU it is only started."""
        self._step = self._step or self._chosen_step(batch)
        self._step(batch)
        self.steps_done += 1
        self.running.steps += 1

    @property
    def asynchronous(self) -> bool:
        """True where a step is only started, as on a GPU: the host then looks at what became of it now and then."""
        return self.weights.values.device.type != "cpu"

    def _chosen_step(self, like: Batch) -> Callable[[Batch], object]:
        """A CUDA graph where the device alone makes a step: by compiled kernels, without random numbers of the host."""
        if not self.asynchronous:
            return self._plain
        self.alive.step.fill_(self.steps_done)
        if self.engine != "cuda" or any(part.draws for part in self._noisy):
            return self._unwatched
        return graph.of_batches(self._unwatched, self._changed, like)

    def _plain(self, batch: Batch) -> None:
        """A step, operation by operation, that takes out a run in the step in which it turns non-finite."""
        losses, norms = self._backpropagate(batch), self.weights.norms()
        self.running.add(losses, norms)
        if not math.isfinite(losses.sum() + norms.sum()):  # one look at all is cheaper than one at each
            self.alive.step.fill_(self.steps_done)
            self.alive.add(losses, norms)
            self.look()
        self._clip(norms)
        self.optimizer.step()

    def _unwatched(self, batch: Batch) -> Tensor:
        """A step that asks nothing of the host: losses and norms, (R, B + 1); a run that turns non-finite stays put."""
        losses, norms = self._backpropagate(batch), self.weights.norms()
        self.running.add(losses, norms)
        self.alive.add(losses, norms)
        self._clip(norms)
        before = self.weights.values.clone()
        self.optimizer.step()
        self.alive.keep(self.weights.values, before)
        return torch.cat([losses, norms.unsqueeze(1)], dim=1)

    def _changed(self) -> list[Tensor]:
        """What a step changes."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        own = [self.weights.values, self.weights.gradient, *self.alive.tensors, *self.running.tensors]
        return [*own, *(moment for moment in moments if isinstance(moment, Tensor))]

    def _backpropagate(self, batch: Batch) -> Tensor:
        """The losses, (R, B); each replica's gradient of their mean is left in the weights."""
        weight = self.configs[0].trainer.omega
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
            part.generators = [generator(config.seed, f"noise/{index}", self.steps_done) for config in self.configs]
        try:
            yield
        finally:
            for _, part in drawing:
                part.generators = ()

    def _clip(self, norms: Tensor) -> None:
        """Clip replica by replica."""
        trainer = self.configs[0].trainer
        clip = trainer.gradient_clip_val
        if clip is None:
            return
        if trainer.gradient_clip_algorithm == "norm":
            self.weights.clip_norm(clip, norms)
        else:
            self.weights.clip_value(clip)

    def look(self) -> None:
        """Take note of the runs that have turned non-finite, wherever they train."""
        self._note(self.alive.ended.tolist())

    def _note(self, ended: Sequence[int]) -> None:
        for replica, (step, what) in told(ended, self.diverged).items():
            if self.data is not None:  # numbers that were not finite to begin with are a fault of the data
                seed = self.configs[replica].seed
                finite.check_batch(self.data.redrawn(step).at(replica), f"training step {step} of seed {seed}")
            self.diverged[replica] = f"{what} became non-finite at step {step}"
            self.take_out(replica)

    def take_out(self, replica: int) -> None:
        """Take a run out of training: it keeps the weights that it has."""
        self.weights.freeze(replica)
        self.alive.stop(replica)

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
        columns = [*values.values(), self.alive.ended]
        # torchmetrics squeezes a single replica's axis away; all at once, because a look at a GPU waits for it
        *found, ended = torch.stack([value.reshape(-1).double() for value in columns]).tolist()
        rows = dict(zip(values, found, strict=True))
        self._note([int(step) for step in ended])
        self.running.reset()
        self.accuracy.reset()
        self.val_loss.reset()
        for replica in range(len(self.configs)):
            if replica in self.diverged or self.stopped(replica):
                continue
            now = {name: row[replica] for name, row in rows.items()}
            if not math.isfinite(now["val/loss"]):
                self._check_validation()
            self.curves[replica] += [Point(name, "training", step, value) for name, value in now.items()]
            self.last[replica] = {name: now[name] for name in ("val/accuracy", "val/loss")}
            metrics = {"accuracy": now["val/accuracy"], "loss": now["val/loss"]}
            if self.solved_at[replica] is None and self.task.solved(metrics):
                self.solved_at[replica] = step
            if self.stopped(replica):
                self.take_out(replica)
        if self.thinned:
            self.trainer.should_stop = True

    def _check_validation(self) -> None:
        """Raise ConfigError where the validation set is not finite."""
        for part in self.data.evaluation("validation", self.task.length) if self.data else ():
            finite.check_batch(part, "the validation set")


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
    """Sums of the training loss and the gradient norm since the last validation, in float64, added to in place.

    Attributes:
        losses: (R, B); None before the first step.
        norms: (R,); likewise.
        steps: how many were added.
    """

    def __init__(self) -> None:
        self.losses: Tensor | None = None
        self.norms: Tensor | None = None
        self.steps = 0

    @property
    def tensors(self) -> list[Tensor]:
        """What a step changes."""
        return [value for value in (self.losses, self.norms) if value is not None]

    def add(self, losses: Tensor, norms: Tensor) -> None:
        """Add those of a step, which whoever makes it counts: losses (R, B), norms (R,)."""
        if self.losses is None or self.norms is None:
            self.losses = torch.zeros_like(losses, dtype=torch.float64)
            self.norms = torch.zeros_like(norms, dtype=torch.float64)
        self.losses += losses
        self.norms += norms

    def means(self) -> dict[str, Tensor]:
        """Name → (R,); nothing where there was no step."""
        if self.losses is None or self.norms is None or not self.steps:
            return {}
        losses = sums.means(self.losses)
        return {"train/loss": losses / self.steps, "train/gradient_norm": self.norms / self.steps}

    def reset(self) -> None:
        """Begin anew."""
        for value in self.tensors:
            value.zero_()
        self.steps = 0
