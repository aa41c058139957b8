"""The base classes of tasks: the batch that a task samples, its losses, its metrics and its verdict.

Shapes below leave out the replica axis: a task samples for one replica (n, T, …), a pack stacks them (R, n, T, …).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from goldfish.data.sources import content_hash, look
from goldfish.errors import ConfigError

if TYPE_CHECKING:
    from goldfish.data.tables import Tables

PAD, UNKNOWN, BEGIN, END = range(4)  # what stands first in every vocabulary; a sequence of words is filled up with PAD
EVALUATION_SEED = 20_130_616  # evaluation sets are the same for every run, so that runs are comparable


@dataclass
class Batch:
    """Sequences and what is asked about them.

    Attributes:
        inputs: (…, n, T, D), float; or words, (…, n, T), int64, with PAD after each sequence's end.
        targets: what the loss compares with. A task that reads the last step: (…, n) classes or (…, n) values.
            One that reads every step: (…, n, T). One that is decoded: words, (…, n, T), END and then PAD at the end.
        mask: (…, n, T), bool: the steps that the loss counts. For a task that reads the last step, that step alone,
            which is each sequence's own last one.
        lag: (…, n), int64: steps between the input to remember and the last step; None where a task has no lag.
        recall: (…, n, T), bool: of the masked steps, those that accuracy counts; None means all of them.
        stored: (…, n), int64: which stored example each sequence is, as its task numbers them, in an evaluation set
            whose scores compare with more than `targets`; else None.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor
    lag: Tensor | None = None
    recall: Tensor | None = None
    stored: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a function to every tensor."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        mapped: dict[str, Any] = {name: None if value is None else function(value) for name, value in values.items()}
        return Batch(**mapped)

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor that there is, in the order of `map`."""
        return [value for item in fields(self) if (value := getattr(self, item.name)) is not None]

    def at(self, index: int) -> Batch:
        """Item `index` of the leading axis, such as one replica's batch."""
        return self.map(lambda value: value[index])

    def rows(self, start: int, stop: int) -> Batch:
        """Sequences start … stop-1, of a batch without replica axis."""
        return self.map(lambda value: value[start:stop])

    def split(self, size: int) -> Iterator[Batch]:
        """Consecutive parts of at most `size` sequences, of a batch without replica axis."""
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        columns = {name: value.split(size) for name, value in parts.items() if value is not None}
        for row in zip(*columns.values(), strict=True):
            yield Batch(**dict(zip(columns, row, strict=True)))

    def lengths(self) -> Tensor:
        """Steps of each sequence, (…, n): up to its last word or its last masked step."""
        masked = last_step(self.mask) + 1
        if self.inputs.is_floating_point():
            return masked
        return torch.maximum(masked, last_step(self.inputs != PAD) + 1)

    def trimmed(self) -> Batch:
        """Without the steps that no sequence has, of a batch without replica axis."""
        steps = int(self.lengths().max())
        return self.map(lambda value: value[:, :steps] if value.dim() > 1 else value)

    @staticmethod
    def stack(batches: Sequence[Batch]) -> Batch:
        """Stack equal-shaped batches along a new replica axis."""
        names = [item.name for item in fields(Batch)]
        columns = {name: [getattr(batch, name) for batch in batches] for name in names}
        stacked: dict[str, Any] = {
            name: None if values[0] is None else torch.stack(values) for name, values in columns.items()
        }
        return Batch(**stacked)


class Task(ABC):
    """A task: keyword-only arguments are its configuration; `length` is one of them."""

    input_size: int  # D, or the number of words where the inputs are words
    output_size: int  # classes, or 1 for a value
    kind: ClassVar[Literal["classification", "regression"]] = "classification"
    readout: ClassVar[Literal["last", "every", "decoded"]] = "last"  # the steps that are read out
    tokens: ClassVar[bool] = False  # whether the inputs are words
    variable_length: ClassVar[bool] = False  # whether sequences of a batch may end before it does
    has_lag: ClassVar[bool] = True
    tolerance: ClassVar[float] = 0.04  # regression: a value within it counts as correct (Hochreiter & Schmidhuber 1997)
    shortest: int = 1  # the smallest length that can be sampled
    train_size: int = 0  # sequences in a fixed training set drawn once per run; 0 draws fresh ones for ever
    length: int

    @abstractmethod
    def sample(self, n: int, length: int, generator: torch.Generator, split: str = "train") -> Batch:
        """Draw n sequences of the given length (in the task's own units; T = self.steps(length)).

        Every random number comes from `generator`, a CPU generator. `split` is "train", "validation" or "test";
        synthetic tasks ignore it.
        """

    def steps(self, length: int) -> int:
        """T, the number of time steps of a sequence of this length: the same number, unless a task says otherwise."""
        return length

    @property
    @abstractmethod
    def chance(self) -> float:
        """Accuracy of the best predictor that has not seen the input."""

    @abstractmethod
    def floor(self, length: int) -> float:
        """Loss of the best predictor that knows the positions but not the content: the memoryless floor."""

    def evaluation(self, split: str, length: int, n: int) -> Batch:
        """The fixed evaluation set of n sequences: the same for every run."""
        offset = {"validation": 0, "test": 1, "probe": 2}[split]
        generator = torch.Generator().manual_seed(EVALUATION_SEED + 3 * length + offset)
        return self.sample(n, length, generator, "validation" if split == "probe" else split)

    def ask(self, model: Callable[..., Any], batch: Batch) -> Any:
        """A model's outputs for a batch: an encoder-decoder is given the true words, any other model the mask."""
        return model(batch.inputs, batch.targets if self.readout == "decoded" else batch.mask)

    def step_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Loss of each read-out step: (…, n) for `readout` last, (…, n, T) for every."""
        if self.kind == "regression":
            return (outputs.squeeze(-1) - batch.targets) ** 2
        flat = F.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), batch.targets.reshape(-1), reduction="none")
        return flat.reshape(batch.targets.shape)

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Each sequence's loss, (…, n): the mean over its masked steps."""
        losses = self.step_losses(outputs, batch)
        if self.readout == "last":
            return losses
        return (losses * batch.mask).sum(-1) / batch.mask.sum(-1)

    def last_losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Each sequence's own loss at its last unmasked step, (…, n): what gradient flow is reported from."""
        losses = self.step_losses(outputs, batch)
        if self.readout == "last":
            return losses
        return losses.gather(-1, last_step(batch.mask).unsqueeze(-1)).squeeze(-1)

    def correct(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Number of correct answers and number of questions of each sequence, both (…, n), float64."""
        if self.kind == "regression":
            right = (outputs.squeeze(-1) - batch.targets).abs() < self.tolerance
        else:
            right = outputs.argmax(-1) == batch.targets
        if self.readout == "last":
            return right.double(), torch.ones_like(right, dtype=torch.float64)
        counted = batch.mask if batch.recall is None else batch.mask & batch.recall
        return (right & counted).sum(-1).double(), counted.sum(-1).double()

    def solved(self, metrics: Mapping[str, float]) -> bool:
        """True when `metrics` (loss, accuracy) meet the task's criterion: MSE < .01, or accuracy ≥ .99."""
        if self.kind == "regression":
            return metrics["loss"] < 0.01
        return metrics["accuracy"] >= 0.99

    def lengths(self) -> list[int]:
        """About a dozen lengths from the shortest to twice the trained one, the trained one among them.

        The trained one alone, where sequences have lengths of their own.
        """
        if self.variable_length:
            return [self.length]
        low, high = self.shortest, 2 * self.length
        raw = {round(low + (high - low) * k / 11) for k in range(12)} | {self.length}
        return sorted(value for value in raw if self.valid(value))

    def buckets(self) -> list[tuple[int, Tensor]]:
        """Sequences of like length: (T, rows of the training split), where they have lengths of their own."""
        return []

    def scores(self, predictions: Tensor, batch: Batch) -> dict[str, float]:
        """The field's further metrics of one run's answers on a whole split, by name.

        Args:
            predictions: classes, (n,) or (n, T); decoded words, (n, T').
            batch: the split.
        """
        return {}

    def from_loss(self, loss: float) -> dict[str, float]:
        """Further metrics that the mean loss of a whole split says, by name."""
        return {}

    def valid(self, length: int) -> bool:
        """True when sequences of this length can be sampled."""
        return length >= self.shortest

    @property
    def content(self) -> str:
        """The hash of its real data, as they were when it first looked at them; "" of a synthetic task."""
        return ""


class StoredTask(Task):
    """A task on stored examples in fixed splits, such as real images; the order of each split is fixed and shuffled.

    It looks at its data once, when they are first asked for; another task made later looks anew.
    """

    reads: Mapping[str, Any] | None = None  # its configuration, as far as that says which data it reads

    @cached_property
    def _stored(self) -> Tables | None:
        return look(self.reads) if self.reads else None

    @property
    def tables(self) -> Tables:
        """Its data. Raises ConfigError when they cannot be reached, or do not hold what they must."""
        assert self._stored is not None, "what is in no table the task reads itself"
        return self._stored

    @property
    def content(self) -> str:
        """The hash of its real data; "" of what is made by rule."""
        if self._stored:
            return self._stored.content
        return (self.reads and content_hash(self.reads)) or ""

    def check(self) -> None:
        """Raise ConfigError, before anything is trained, when a split has no example to train or to test on."""
        for split in ("train", "validation", "test"):
            if self.size(split) < 1:
                raise ConfigError(self.too_short(split))

    def too_short(self, split: str) -> str:
        """What is wrong with a split that has no example."""
        return f"task.length={self.length}: the split '{split}' has no example"

    @abstractmethod
    def size(self, split: str) -> int:
        """Number of examples in "train", "validation" or "test"."""

    @abstractmethod
    def examples(self, split: str, rows: Tensor, length: int) -> Batch:
        """The examples of a split at these rows, (n,) int64, as sequences of the given length."""

    @abstractmethod
    def answers(self, split: str) -> Tensor:
        """Every class that is asked for in a split, (N,) int64."""

    @property
    def chance(self) -> float:
        """Share of the commonest class in the test split."""
        answers = self.answers("test")
        return int(answers.bincount().max()) / len(answers)

    def floor(self, length: int) -> float:
        """Entropy of the classes in the test split, in nats."""
        answers = self.answers("test")
        shares = answers.bincount().double() / len(answers)
        return float(-sum(share * math.log(share) for share in shares.tolist() if share > 0))

    def sample(self, n: int, length: int, generator: torch.Generator, split: str = "train") -> Batch:
        """Draw n examples uniformly, none twice before all of the split were drawn once."""
        size = self.size(split)
        orders = [torch.randperm(size, generator=generator) for _ in range(-(-n // size))]
        return self.examples(split, torch.cat(orders)[:n], length)

    def evaluation(self, split: str, length: int, n: int) -> Batch:
        """The first n examples of the split, or all where it has fewer; "probe" takes the validation split's."""
        source = "validation" if split == "probe" else split
        return self.examples(source, torch.arange(min(n, self.size(source))), length)


def last_step(mask: Tensor) -> Tensor:
    """Index of the last True along the last axis; (…, T) → (…)."""
    steps = torch.arange(mask.shape[-1], device=mask.device)
    return torch.where(mask, steps, -1).amax(-1)


def only_last(n: int, steps: int) -> Tensor:
    """The mask (n, T) of a task that reads the last step."""
    mask = torch.zeros(n, steps, dtype=torch.bool)
    mask[:, -1] = True
    return mask


def one_hot(symbols: Tensor, size: int) -> Tensor:
    """Symbols (…) below `size` as float vectors (…, size)."""
    return torch.eye(size).index_select(0, symbols.flatten()).view(*symbols.shape, size)


def uniform_cross_entropy(classes: int) -> float:
    """ln(classes), in nats."""
    return math.log(classes)
