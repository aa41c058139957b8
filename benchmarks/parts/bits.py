"""A run has the same bits alone as among 64."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.parts.part import Part, told

TIMES = ("train/seconds", "train/steps_per_second")


def main(part: Part) -> None:
    """A row for each cell and run that is trained again alone."""
    from goldfish.config.config import resolve
    from goldfish.training.train import train_pack

    many, length, steps = (3, 6, 6) if part.quick else (64, 50, 30)
    trainer: dict[str, Any] = {"max_steps": steps, "validate_every": steps // 2, "evaluation_size": 32}
    trainer |= {"accelerator": "gpu" if part.device == "cuda" else "cpu"}
    for cell in ("rnn",) if part.quick else ("rnn", "lstm", "gru"):
        shared = {"cell": {"name": cell, "hidden_size": 32}, "task": {"name": "adding", "length": length}}
        configs = [resolve(shared | {"trainer": trainer, "seed": seed}) for seed in range(many)]
        together = train_pack(configs)
        engine = together[0].engine
        part.row(f"{cell}: the engine of {many} runs", engine, engine == "cuda" if part.device == "cuda" else None)
        for run in (0, many // 3, many - 1):
            if part.time_left < 0:
                return
            (alone,) = train_pack([configs[run]])
            differing = sorted(_differing(alone, together[run]))
            part.row(f"{cell}: run {run} alone and among {many}", "", not differing, ", ".join(differing[:5]))


def _differing(one: Any, other: Any) -> set[str]:
    """The names of weights, metrics and curves that have other bits."""
    found = {name for name, value in one.state_dict.items() if not torch.equal(value, other.state_dict[name])}
    ours, theirs = (
        {name: repr(value) for name, value in outcome.metrics.items() if name not in TIMES} for outcome in (one, other)
    )
    found |= {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    curves = zip(one.curves, other.curves, strict=False)
    found |= {mine.quantity for mine, yours in curves if repr(tuple(mine)) != repr(tuple(yours))}
    return found | ({"number of points"} if len(one.curves) != len(other.curves) else set())


if __name__ == "__main__":
    main(told())
