"""Settings of a run that are no choice between things. Each class is read as a signature, never called."""

from __future__ import annotations

from typing import Annotated, Literal

from goldfish.config.bounds import above, at_least
from goldfish.config.moments import Moments


class Run:
    """The keys outside any group."""

    def __init__(
        self,
        *,
        seed: Annotated[int, at_least(0)] = 0,
        engine: Literal["auto", "eager", "stepwise", "cpu", "cuda"] = "auto",
    ) -> None: ...


class Trainer:
    """How long and how a run is trained, and how often it is evaluated.

    `validate_every` counts training steps; `evaluation_size` is the number of sequences in every evaluation set.
    `omega`: weight of the regulariser Ω of Pascanu et al. 2013, which keeps the gradient's norm from step to step; of a
    vanilla RNN of one layer.
    `stop_when_solved`: a run's training ends at the first validation at which its task counts as solved.
    `probe_at`: when `probe` is measured: before, half, after, training steps, {every: so many steps}.
    """

    def __init__(
        self,
        *,
        max_steps: Annotated[int, at_least(1)] = 1000,
        batch_size: Annotated[int, at_least(1)] = 32,
        gradient_clip_val: Annotated[float, above(0)] | None = 1.0,
        gradient_clip_algorithm: Literal["norm", "value"] = "norm",
        validate_every: Annotated[int, at_least(1)] = 100,
        evaluation_size: Annotated[int, at_least(1)] = 256,
        accelerator: Literal["auto", "cpu", "gpu"] = "auto",
        precision: Literal["32-true", "64-true"] = "32-true",
        omega: Annotated[float, at_least(0)] = 0.0,
        stop_when_solved: bool = False,
        probe_at: Moments = ("before", "half", "after"),
    ) -> None: ...


class Tracking:
    """Where the run is recorded: the MLflow experiment, by default one that no experiment's folder is called like."""

    def __init__(self, *, experiment_name: str = "runs") -> None: ...
