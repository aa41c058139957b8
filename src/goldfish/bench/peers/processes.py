"""Processes side by side that run torch.nn.* and never import goldfish, which would choose MKL's code path for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from goldfish.bench.interleave import Contestant
from goldfish.bench.peers import alone
from goldfish.bench.problem import Shape


class Processes:
    """A context manager: `count` processes of `threads` threads each."""

    def __init__(self, count: int, threads: int) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"}
        environment["OMP_NUM_THREADS"] = str(threads)
        # -P: this file's folder is not a place to import from
        command = [sys.executable, "-P", str(Path(alone.__file__)), str(threads)]
        self._running = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            for _ in range(count)
        ]
        self._network: dict[str, object] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            process.communicate()  # closes its standard input, which ends it

    def training(self, shape: Shape, device: str) -> Contestant:
        """All of them train a network of this shape at once."""
        asked = {key: value for key, value in asdict(shape).items() if key != "replicas"} | {"device": device}

        def run(n: int) -> None:
            if self._network != asked:
                self._ask(asked)
                self._network = asked
            self._ask({"steps": n})

        return Contestant(run, models=len(self._running))

    def _ask(self, message: dict[str, object]) -> None:
        for process in self._running:
            assert process.stdin is not None
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        for process in self._running:
            assert process.stdout is not None
            if process.stdout.readline() != "done\n":
                raise RuntimeError("a process that ran torch.nn.* beside this one has ended")
