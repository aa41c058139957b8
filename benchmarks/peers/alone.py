"""torch.nn.RNN, LSTM and GRU without any measuring: cuDNN on a GPU, oneDNN and ATen on a CPU.

Also a program of its own, which imports no goldfish: `python alone.py THREADS` reads one line of JSON at a time,
{"cell": …, "hidden": …, …} to build a network and {"steps": n} to train it, and answers each with a line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

MODULES: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def module(cell: str, inputs: int, hidden: int, device: str) -> nn.RNNBase:
    """The network, time first."""
    torch.manual_seed(3)
    return MODULES[cell](inputs, hidden).to(device)


def training(
    cell: str, hidden: int, batch: int, length: int, inputs: int, device: str, adam: bool = False
) -> Callable[[int], None]:
    """n steps: forward, backward from a cotangent of all outputs into all weights, Adam if asked for."""
    network = module(cell, inputs, hidden, device)
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(length, batch, inputs, generator=generator).to(device)
    cotangent = torch.randn(length, batch, hidden, generator=generator).to(device)
    optimizer = torch.optim.Adam(network.parameters()) if adam else None

    def train(n: int) -> None:
        for _ in range(n):
            network.zero_grad(set_to_none=True)
            outputs, _ = network(x)
            outputs.backward(cotangent)
            if optimizer is not None:
                optimizer.step()

    return train


def main() -> None:
    """Serve until standard input ends."""
    torch.set_num_threads(int(sys.argv[1]))
    train: Callable[[int], None] | None = None
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        if "steps" in asked:
            assert train is not None
            train(asked["steps"])
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        else:
            train = training(**asked)
        print("done", flush=True)


if __name__ == "__main__":
    main()
