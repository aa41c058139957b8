"""The training of a pack: R replicas side by side, each with its own loss, clipping, learning rate and metrics."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Self, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from goldfish.config.config import Config
from goldfish.engines import select
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import Batch, Task
from goldfish.training import finite
from goldfish.training.data import PackData
from goldfish.training.device import graph
from goldfish.training.device.alive import Alive, told
from goldfish.training.generators import generator
from goldfish.training.metrics import ReplicaMean, RunningMeans
from goldfish.training.omega import omega_gradient, top_states
from goldfish.training.outcome import Point, Record, columns, points
from goldfish.training.weights import PackedWeights, build_model

State = dict[str, Any]


class PackModule(pl.LightningModule):
    """R replicas as one LightningModule.

    The sum of the replicas' losses is optimised, so that replicas never touch, and the optimiser sees the weights of
    each as a leaf of its own; a replica that turns non-finite stops, keeps its last weights, and leaves the others
    unharmed. Optimisation is manual: clipping is per replica, and a step on a GPU is one graph. Where a quarter of the
    replicas have stopped, the module goes on without them.

    Args:
        configs: the runs, of equal pack_key.
        task: theirs.
        dtype: of weights and training.
        device: where they live; moved later, the weights would lose what joins them.

    Attributes:
        rows: which of the runs the replicas are: all, or those that still train.
        configs: the replicas' configurations.
        data: what they are trained and validated on.
        records: of every run.
    """

    def __init__(self, configs: Sequence[Config], task: Task, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.task = task
        self.records = [Record() for _ in configs]
        self.steps_done, self.validated = 0, 0  # training steps; those done at the last validation
        self._runs = configs
        self._held: list[State] = [{} for _ in configs]  # weights and moments of a run, when it was last looked at
        self.data = PackData(task, configs, device, dtype)
        self._build(range(len(configs)))

    def _build(self, rows: Sequence[int]) -> None:
        """Make everything that has a row for each replica; these are the runs `rows`."""
        self.rows = rows
        self.configs: Sequence[Config] = [self._runs[row] for row in rows]
        self.data.configs = self.configs
        device = self.data.on
        self.model: Any = build_model(self.configs, self.task).to(device, self.data.dtype)
        self.weights = PackedWeights(self.model)
        self.optimizer = self.weights.optimizer(self.configs)
        self.accuracy, self.val_loss = ReplicaMean(len(rows)), ReplicaMean(len(rows))
        self.running = RunningMeans()
        self.alive = Alive(len(rows), device)
        self._noisy: list[Any] = [part for part in self.model.modules() if hasattr(part, "generators")]
        self._step: Callable[[Batch], object] | None = None

    def state(self) -> State:
        """Return the state from which training goes on bit for bit: on the CPU, with a row for each run."""
        self.look()
        self._hold()
        rows = [
            held | asdict(record) | {"curves": columns(record.curves)}
            for held, record in zip(self._held, self.records, strict=True)
        ]
        return {"steps_done": self.steps_done, "validated": self.validated, "added": self.running.steps, "rows": rows}

    def load(self, state: State, rows: Sequence[int]) -> None:
        """Go on from a state, in a module that has not trained yet: run r takes row rows[r]."""
        self.steps_done, self.validated = state["steps_done"], state["validated"]
        self.data.start = self.steps_done
        self.running.steps = state["added"]
        for run, row in enumerate(state["rows"][row] for row in rows):
            self._held[run] = {name: row[name] for name in ("weights", "moments", "sums")}
            last, solved_at, diverged = dict(row["last"]), row["solved_at"], row["diverged"]
            self.records[run] = Record(points(row["curves"]), last, solved_at, diverged)
        self._restore()
        self._leave_out_stopped()

    def _leave_out_stopped(self) -> None:
        """Where a quarter of the runs have stopped, go on without them: it is faster from there on."""
        going = [row for replica, row in enumerate(self.rows) if not self.stopped(replica)]
        if going and 4 * len(going) <= 3 * len(self.rows):
            self._go_on_with(going)

    def take_in_all(self) -> None:
        """All runs again, each where it stopped."""
        if len(self.rows) < len(self._runs):
            self._go_on_with(range(len(self._runs)))

    def _go_on_with(self, rows: Sequence[int]) -> None:
        self._hold()
        steps = self.running.steps
        self._build(rows)
        self.running.steps = steps
        self._restore()

    def _hold(self) -> None:
        """Keep what the replicas' runs would go on from."""
        weights, sums = self.weights.values.detach().cpu(), self.running.rows(len(self.rows))
        for replica, row in enumerate(self.rows):
            moments = self.optimizer.state.get(self.weights.rows[replica], {})
            self._held[row] = {
                "weights": weights[replica],
                "moments": {k: value.cpu() if isinstance(value, Tensor) else value for k, value in moments.items()},
                "sums": sums[replica],
            }

    def _restore(self) -> None:
        """Put the replicas where their runs were held."""
        held, device = [self._held[row] for row in self.rows], self.data.on
        with torch.no_grad():
            self.weights.values.copy_(torch.stack([run["weights"] for run in held]))
        for leaf, run in zip(self.weights.rows, held, strict=True):
            if run["moments"]:
                moments = run["moments"].items()
                self.optimizer.state[leaf] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in moments}
        self.running.restore([run["sums"] for run in held], device)
        for replica, row in enumerate(self.rows):
            if self.records[row].diverged or self.stopped(replica):
                self.take_out(replica)

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
        model: nn.Module = copy.deepcopy(self.model, {id(recurrent._pool): {} for recurrent in self.recurrents})
        return model

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
        solved_at = self.records[self.rows[replica]].solved_at
        return bool(self.configs[0].trainer.stop_when_solved) and solved_at is not None

    @property
    def over(self) -> bool:
        """True where further training steps would change nothing: all are done, or every run is solved and stopped."""
        stopped = all(self.stopped(replica) for replica in range(len(self.rows)))
        return stopped or self.steps_done >= self.configs[0].trainer.max_steps

    def cpu(self) -> Self:
        """Do nothing: Lightning would move the network after a fit, and its weights would lose what joins them."""
        return self

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One optimiser, whose leaves are the replicas' weights."""
        return self.optimizer

    def on_train_start(self) -> None:
        """Have Lightning count from the step that a checkpoint was written after."""
        loop = self.trainer.fit_loop.epoch_loop
        loop.batch_progress.total.ready = self.steps_done
        counted = loop.manual_optimization.optim_step_progress.total
        counted.ready = counted.completed = self.steps_done

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of the optimiser down the sum over replicas of each one's mean loss."""
        self.step(batch, cast(Any, self.optimizers()))
        if self.over:
            self.trainer.should_stop = True  # which has Lightning validate first

    def step(self, batch: Batch, optimizer: LightningOptimizer | None = None) -> None:
        """One training step on a batch (R, B, T, …) that is where the module is; on a GPU it is only started.

        `optimizer` is Lightning's wrapper of the module's own, which has hooks called and steps counted.
        """
        if self.asynchronous:
            self._step = self._step or self._chosen_step(batch)
            self._step(batch)
            if optimizer is not None:  # it cannot be called while a graph is replayed
                self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.increment_completed()
        else:
            self._plain(batch, optimizer or self.optimizer)
        self.steps_done += 1
        self.running.steps += 1

    @property
    def asynchronous(self) -> bool:
        """True where a step is only started, as on a GPU: the host then looks at what became of it now and then."""
        return self.weights.values.device.type != "cpu"

    def _chosen_step(self, like: Batch) -> Callable[[Batch], object]:
        """A CUDA graph where the device alone makes a step: by compiled kernels, without random numbers of the host."""
        self.alive.step.fill_(self.steps_done)
        if self.engine != "cuda" or any(part.draws for part in self._noisy):
            return self._unwatched
        return graph.of_batches(self._unwatched, self._changed, like)

    def _plain(self, batch: Batch, optimizer: LightningOptimizer | torch.optim.Optimizer) -> None:
        """A step, operation by operation, that takes out a run in the step in which it turns non-finite."""
        losses, norms = self._backpropagate(batch), self.weights.norms()
        self.running.add(losses, norms)
        if not math.isfinite(losses.sum() + norms.sum()):  # one look at all is cheaper than one at each
            self.alive.step.fill_(self.steps_done)
            self.alive.add(losses, norms)
            self.look()
        self._clip(norms)
        optimizer.step()

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
        """The tensors that a step changes."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        own = [self.weights.values, self.weights.gradient, *self.alive.tensors, *self.running.tensors]
        return [*own, *(moment for moment in moments if isinstance(moment, Tensor))]

    def _backpropagate(self, batch: Batch) -> Tensor:
        """The losses, (R, B); each replica's gradient of their mean is left in the weights."""
        weight = self.configs[0].trainer.omega
        with self._noise(), top_states(self.recurrents if weight else []) as states:
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
        known = [replica for replica, row in enumerate(self.rows) if self.records[row].diverged]
        for replica, (step, what) in told(ended, known).items():
            # numbers that were not finite to begin with are a fault of the data
            seed = self.configs[replica].seed
            finite.check_batch(self.data.redrawn(step).at(replica), f"training step {step} of seed {seed}")
            self.records[self.rows[replica]].diverged = f"{what} became non-finite at step {step}"
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
        self.validated = self.steps_done
        values = {"val/accuracy": self.accuracy.compute(), "val/loss": self.val_loss.compute()}
        values |= self.running.means()
        columns = [*values.values(), self.alive.ended]
        # torchmetrics squeezes a single replica's axis away; all at once, because a look at a GPU waits for it
        *by_metric, ended = torch.stack([value.reshape(-1).double() for value in columns]).tolist()
        self._note([int(step) for step in ended])
        self._log(dict(zip(values, by_metric, strict=True)))
        for metric in (self.running, self.accuracy, self.val_loss):
            metric.reset()
        for replica, now in enumerate(dict(zip(values, row, strict=True)) for row in zip(*by_metric, strict=True)):
            if not self.records[self.rows[replica]].diverged and not self.stopped(replica):
                self._learn(replica, now)
        if self.over:
            self.trainer.should_stop = True

    def on_validation_end(self) -> None:
        """Have Lightning go on with the replicas that are left."""
        self._leave_out_stopped()
        self.trainer.optimizers = [self.optimizer]

    def _log(self, values: dict[str, list[float]]) -> None:
        """Tell the loggers and callbacks that were named: the mean over the replicas, and each run's own value."""
        settings = self.configs[0].trainer
        if settings.loggers or settings.callbacks:  # Lightning takes a millisecond for ten of them
            for name, column in values.items():
                self.log(name, sum(column) / len(column), batch_size=1)
                self.log_dict(
                    {f"{name}/{row}": value for row, value in zip(self.rows, column, strict=True)}, batch_size=1
                )

    def _learn(self, replica: int, now: dict[str, float]) -> None:
        """Add what a validation says of a run to its record."""
        record, step = self.records[self.rows[replica]], self.steps_done
        if not math.isfinite(now["val/loss"]):
            for part in self.data.evaluation("validation", self.task.length):
                finite.check_batch(part, "the validation set")
        record.curves += [Point(name, "training", step, value) for name, value in now.items()]
        record.last = {name: now[name] for name in ("val/accuracy", "val/loss")}
        metrics = {"accuracy": now["val/accuracy"], "loss": now["val/loss"]}
        if record.solved_at is None and self.task.solved(metrics):
            record.solved_at = step
        if self.stopped(replica):
            self.take_out(replica)
