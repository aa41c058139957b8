"""The parts of a run's configuration as frozen dataclasses, whose fields are read as signatures.

Code reads attributes, `config.trainer.max_steps`. Code that writes a configuration, as JSON, YAML or parameters,
reads the same object as a mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt

from goldfish.config.moments import Moments
from goldfish.config.signatures import Names


class Section(Mapping[str, Any]):
    """A dataclass whose fields are attributes and keys."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __getitem__(self, key: str) -> Any:
        if key not in self.__dataclass_fields__:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    def plain(self) -> dict[str, Any]:
        """Return plain dictionaries, which JSON and YAML can write."""
        return {key: _plain(self[key]) for key in self}


def _plain(value: Any) -> Any:
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


@dataclass(frozen=True, eq=False)
class Choice(Mapping[str, Any]):
    """The choice made in a group: its name and its typed arguments, which are keys: `config.task["length"]`."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Make a choice from {name: …, argument: …}."""
        return cls(values["name"], {key: value for key, value in values.items() if key != "name"})

    def __getitem__(self, key: str) -> Any:
        return self.name if key == "name" else self.arguments[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("name", *self.arguments))

    def __len__(self) -> int:
        return 1 + len(self.arguments)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainer(Section):
    """How long and how a run is trained, and how often it is evaluated.

    `validate_every` counts training steps; `evaluation_size` is the number of sequences in every evaluation set.
    `omega`: weight of the regulariser Ω of Pascanu et al. 2013, which keeps the gradient's norm from step to step; of a
    vanilla RNN of one layer.
    `stop_when_solved`: a run's training ends at the first validation at which its task counts as solved.
    `probe_at`: when `probe` is measured: before, half, after, training steps, {every: so many steps}.
    `callbacks`, `loggers`: those of Lightning that other packages offer, by name.
    """

    max_steps: Annotated[int, Ge(1)] = 1000
    batch_size: Annotated[int, Ge(1)] = 32
    gradient_clip_val: Annotated[float, Gt(0)] | None = 1.0
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    validate_every: Annotated[int, Ge(1)] = 100
    evaluation_size: Annotated[int, Ge(1)] = 256
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["32-true", "64-true"] = "32-true"
    omega: Annotated[float, Ge(0)] = 0.0
    stop_when_solved: bool = False
    probe_at: Moments = ("before", "half", "after")
    callbacks: Names = ()
    loggers: Names = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracking(Section):
    """Where the run is recorded: the MLflow experiment, by default one named like no experiment's folder."""

    experiment_name: str = "runs"
