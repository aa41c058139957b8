"""What `goldfish.watch` costs: a watched training step of torch.nn's module over an unwatched one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch

import goldfish
from benchmarks import rows
from benchmarks.bench import Bench, Job
from benchmarks.interleave import Contestant, Timed, ratio, repeated
from benchmarks.peers import by_hand
from benchmarks.problem import CELLS, Shape, draw
from benchmarks.rows import Row, Target

NAME = "watch"
TITLE = "A watched step of torch.nn ÷ the same step unwatched"
NEEDS = ()
HIDDEN = (64, 128)
WATCHED, LOOP, PLAIN = "goldfish.watch", "loop over nn.*Cell, retain_grad", "torch.nn"
TARGET = Target("≤", 1.5)


def jobs(bench: Bench) -> list[Job]:
    """A job for each cell and size."""
    return [_job(bench, bench.shape(cell, hidden, 32)) for cell, hidden in product(CELLS, HIDDEN)]


def _job(bench: Bench, shape: Shape) -> Job:
    return Job(str(shape), lambda: _measure(bench, shape))


def _measure(bench: Bench, shape: Shape) -> list[Row]:
    entrants = {
        PLAIN: _training(shape, bench.device, watched=False),
        WATCHED: _training(shape, bench.device, watched=True),
        LOOP: by_hand.retain_grad(shape, bench.device),
    }
    results = bench.time(entrants, bench.rounds)
    plain, measured = results.pop(PLAIN), []
    for peer, result in results.items():
        if isinstance(result, Timed) and isinstance(plain, Timed):
            target = TARGET if peer == WATCHED and bench.device == "cpu" else None
            over = ratio(result, plain)
            count = len(result.rounds)
            measured.append(rows.row(NAME, str(shape), peer, result.median, ratio=over, rounds=count, target=target))
        else:
            reasons = [item.reason for item in (result, plain) if not isinstance(item, Timed)]
            measured.append(rows.not_run(NAME, str(shape), peer, reasons[0]))
    return measured


def _training(shape: Shape, device: str, *, watched: bool) -> Contestant:
    """Forward and backward of torch.nn's module on the problem that everybody runs."""
    inputs, cotangent = (tensor[0].transpose(0, 1) for tensor in draw(shape, device))
    torch.manual_seed(3)
    module = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[shape.cell](shape.inputs, shape.hidden)
    module.to(device)

    def train() -> None:
        module.zero_grad(set_to_none=True)
        module(inputs)[0].backward(cotangent)

    def train_watched() -> None:
        with goldfish.watch(module):
            train()

    return repeated(train_watched if watched else train)


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
