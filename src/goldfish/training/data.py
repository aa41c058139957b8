"""The data of a pack: one stream of training batches for each replica, and fixed evaluation sets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytorch_lightning as pl
import torch
from torch import Tensor

from goldfish.config.config import Config
from goldfish.tasks.base import Batch, StoredTask, Task
from goldfish.training.device.ahead import Draw, ahead
from goldfish.training.generators import generator

_PART = 64  # sequences of an evaluation set taken at once, where their lengths differ
_STATES = 2**19  # numbers in the states of a part where they do not
_BLOCK = 2**21  # numbers drawn at once for each replica: many batches in one call, whatever the pack
_BATCHES_AHEAD = 8  # of stored examples, batch by batch


def drawn_ahead(device: torch.device) -> bool:
    """Whether other threads draw the next batches meanwhile: not on a CPU, whose cores have a pack each."""
    return device.type != "cpu"


class TrainingStream:
    """Batches (R, B, T, …) for ever; replica r's are those of its own seed, whatever pack it is in.

    Args:
        task: draws them.
        configs: the runs.
        device: where they are put.
        dtype: of their floats.
        start: number of batches to leave out; all but the block or the epoch that it lies in are never drawn.
    """

    def __init__(
        self, task: Task, configs: Sequence[Config], device: torch.device, dtype: torch.dtype, start: int = 0
    ) -> None:
        self.task, self.device, self.dtype, self.start = task, device, dtype, start
        self.seeds = [config.seed for config in configs]
        self.batch_size = configs[0].trainer.batch_size
        self.fixed_size = configs[0].task.get("train_size", 0)

    def __iter__(self) -> Iterator[Batch]:
        if self.task.variable_length:
            return self._bucketed()
        return self._fixed() if self.fixed_size else self._online()

    def _online(self) -> Iterator[Batch]:
        """Fresh sequences: block j of a run depends on its seed and j alone."""
        width = self.task.steps(self.task.length) * self.task.input_size
        batches = max(1, min(64, _BLOCK // (self.batch_size * width)))
        index, first = divmod(self.start, batches)
        if drawn_ahead(self.device):
            return self._online_ahead(batches, index, first)
        return self._online_here(batches, index, first)

    def _online_here(self, batches: int, index: int, first: int) -> Iterator[Batch]:
        """Every block is drawn where it begins, and stacked batch by batch."""
        blocks: list[list[Batch]] = [[] for _ in self.seeds]
        while True:
            for replica, seed in enumerate(self.seeds):
                blocks[replica] = []  # freed first: the next block takes its memory, without page faults
                drawn = place(self._draw(batches, seed, index), self.device, self.dtype)
                blocks[replica] = list(drawn.split(self.batch_size))
            for step in range(first, batches):
                yield Batch.stack([block[step] for block in blocks])
            index, first = index + 1, 0

    def _online_ahead(self, batches: int, index: int, first: int) -> Iterator[Batch]:
        """Each replica's part of a block is drawn by a thread, and the block is stacked as a whole."""

        def draw(seed: int, block: int) -> Batch:
            drawn = self._draw(batches, seed, block)
            return drawn.map(lambda value: value.unflatten(0, (batches, 1, self.batch_size)))

        blocks = ([partial(draw, seed, block) for seed in self.seeds] for block in itertools.count(index))
        for block in ahead(blocks, self.device, self.dtype):
            for step in range(first, batches):
                yield block.at(step)
            first = 0

    def _draw(self, batches: int, seed: int, index: int) -> Batch:
        return self.task.sample(batches * self.batch_size, self.task.length, generator(seed, "train", index), "train")

    def _fixed(self) -> Iterator[Batch]:
        """A fixed training set for each run, shuffled in every epoch, whole batches only."""
        drawn = (
            self.task.sample(self.fixed_size, self.task.length, generator(seed, "train"), "train")
            for seed in self.seeds
        )
        sets = Batch.stack([place(data, self.device, self.dtype) for data in drawn]).map(
            lambda value: value.flatten(0, 1)
        )
        size, replicas = min(self.batch_size, self.fixed_size), len(self.seeds)
        firsts = self.fixed_size * torch.arange(replicas).unsqueeze(1)  # where each run's set begins
        epoch, first = divmod(self.start, self.fixed_size // size)
        while True:
            orders = [torch.randperm(self.fixed_size, generator=generator(seed, "order", epoch)) for seed in self.seeds]
            rows = _sent(firsts + torch.stack(orders), self.device)
            for start in range(first * size, self.fixed_size - size + 1, size):
                chosen = rows[:, start : start + size].flatten()
                yield sets.map(_picker(chosen, replicas))
            epoch, first = epoch + 1, 0

    def _bucketed(self) -> Iterator[Batch]:
        """Batches of like lengths, epoch by epoch, whole ones only.

        Which bucket a step takes is the same for every run, so that the runs of a pack have one T; what it takes of
        that bucket is each run's own.
        """
        draws = self._bucketed_draws()
        if not drawn_ahead(self.device):
            return (place(draw(), self.device, self.dtype) for draw in draws)
        blocks: Iterator[Sequence[Draw]] = ([partial(_as_block, draw)] for draw in draws)
        blocks_ahead = ahead(blocks, self.device, self.dtype, _BATCHES_AHEAD)
        return (block.at(0) for block in blocks_ahead)

    def _bucketed_draws(self) -> Iterator[Draw]:
        """Yield a function that draws a batch, for each batch in order."""
        task = self.task
        assert isinstance(task, StoredTask)
        buckets = _filled(task.buckets(), self.batch_size)
        sizes = [min(self.batch_size, len(rows)) for _, rows in buckets]
        batches = torch.tensor(
            [index for index, (_, rows) in enumerate(buckets) for _ in range(len(rows) // sizes[index])]
        )
        epoch, first = divmod(self.start, len(batches))
        while True:
            schedule = batches[torch.randperm(len(batches), generator=generator(0, "buckets", epoch))]
            orders = [self._orders(buckets, seed, epoch) for seed in self.seeds]
            used = [0] * len(buckets)
            for step, bucket in enumerate(schedule.tolist()):
                start, used[bucket] = used[bucket], used[bucket] + sizes[bucket]
                if step >= first:
                    rows = [order[bucket][start : used[bucket]] for order in orders]
                    yield partial(self._examples, rows, buckets[bucket][0])
            epoch, first = epoch + 1, 0

    def _examples(self, rows: Sequence[Tensor], steps: int) -> Batch:
        """The training examples at each run's rows."""
        assert isinstance(self.task, StoredTask)
        return Batch.stack([self.task.examples("train", own, steps) for own in rows])

    @staticmethod
    def _orders(buckets: Sequence[tuple[int, Tensor]], seed: int, epoch: int) -> list[Tensor]:
        """The rows of every bucket in a run's order of this epoch."""
        source = generator(seed, "order", epoch)
        return [rows[torch.randperm(len(rows), generator=source)] for _, rows in buckets]


def _filled(buckets: Sequence[tuple[int, Tensor]], size: int) -> list[tuple[int, Tensor]]:
    """Buckets joined with their longer neighbours until each has a batch, so that all batches have one size."""
    joined: list[tuple[int, Tensor]] = []
    waiting: list[Tensor] = []
    for steps, rows in buckets:
        waiting.append(rows)
        if sum(map(len, waiting)) >= size:
            joined.append((steps, torch.cat(waiting)))
            waiting = []
    if waiting:  # the longest sequences
        before = [joined.pop()[1]] if joined else []
        joined.append((buckets[-1][0], torch.cat([*before, *waiting])))
    return joined


def _as_block(draw: Draw) -> Batch:
    """One batch as a block of one."""
    return draw().map(lambda value: value.unsqueeze(0))


def _picker(rows: Tensor, replicas: int) -> Callable[[Tensor], Tensor]:
    """Return a function that takes rows of (R·N, …), equally many for each run: (R, n, …)."""
    return lambda value: value.index_select(0, rows).unflatten(0, (replicas, -1))


def _sent(rows: Tensor, device: torch.device) -> Tensor:
    """Send rows to the device without waiting for them."""
    return (rows.pin_memory() if device.type == "cuda" else rows).to(device, non_blocking=True)


def place(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """Bring a batch to the device, floats in the run's precision."""
    return batch.map(lambda value: value.to(device, dtype if value.is_floating_point() else value.dtype))


class _Steps:
    """The batches of the training steps after `start`, each of the runs that train then."""

    def __init__(self, data: PackData, start: int) -> None:
        self.data, self.steps = data, range(start, data.configs[0].trainer.max_steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        configs: Sequence[Config] = ()
        stream: Iterator[Batch] = iter(())
        for step in self.steps:
            if self.data.configs is not configs:
                configs, stream = self.data.configs, iter(self.data.stream(step))
            yield next(stream)


class _Parts:
    """The parts of a fixed evaluation set. (Lightning takes a plain list for several loaders.)"""

    def __init__(self, parts: list[Batch]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.parts)


class PackData(pl.LightningDataModule):
    """Training streams and validation set of a pack; everything is on the device before it is asked for.

    Attributes:
        configs: the runs that train; others may take their place between two steps.
        start: the training step that training begins after.
    """

    def __init__(self, task: Task, configs: Sequence[Config], device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.task, self.configs, self.on, self.dtype = task, configs, device, dtype
        self.start = 0

    def train_dataloader(self) -> _Steps:
        """Batches (R, B, T, …), to the last step."""
        return _Steps(self, self.start)

    def stream(self, start: int) -> TrainingStream:
        """The batches of the runs that train, from after a step on."""
        return TrainingStream(self.task, self.configs, self.on, self.dtype, start)

    def redrawn(self, step: int) -> Batch:
        """The batch of a training step, counted from 1, drawn once more."""
        return next(iter(self.stream(step - 1)))

    def val_dataloader(self) -> _Parts:
        """The fixed validation set, in parts (n, T, …) without replica axis: it is the same for every replica."""
        return _Parts(self.evaluation("validation", self.task.length))

    def evaluation(self, split: str, length: int) -> list[Batch]:
        """A fixed evaluation set in parts whose size depends on the run alone, so that its numbers do too."""
        data, config = self.ordered(split, length), self.configs[0]
        if self.task.variable_length:
            return [place(part.trimmed(), self.on, self.dtype) for part in data.split(_PART)]
        cost = self.task.steps(length) * config.cell["hidden_size"]
        return list(place(data, self.on, self.dtype).split(max(1, _STATES // cost)))

    def ordered(self, split: str, length: int) -> Batch:
        """A fixed evaluation set as a whole, on the CPU; the shorter sequences first, where lengths differ."""
        data = self.task.evaluation(split, length, self.configs[0].trainer.evaluation_size)
        if not self.task.variable_length:
            return data
        order = data.lengths().argsort(stable=True)
        return data.map(lambda value: value[order])

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch as it is: see `place`."""
        return batch
