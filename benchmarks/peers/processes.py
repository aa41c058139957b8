"""Processes side by side that never import goldfish, which would choose MKL's code path for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from benchmarks.interleave import Contestant
from benchmarks.peers import alone, blas
from benchmarks.problem import Shape


class Programs:
    """A context manager: `count` processes of one program, which answers each line of JSON with the line "done"."""

    def __init__(self, program: str, arguments: list[str], count: int, environment: Mapping[str, str]) -> None:
        # -P: the program's folder is not a place to import from
        command = [sys.executable, "-P", str(Path(program)), *arguments]
        self.running = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            for _ in range(count)
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.running:
            process.communicate()  # closes its standard input, which ends it

    def ask(self, message: dict[str, object]) -> None:
        """Send the message to all of them and wait for all. Raises RuntimeError when one has ended."""
        for process in self.running:
            assert process.stdin is not None
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
        for process in self.running:
            assert process.stdout is not None
            if process.stdout.readline() != "done\n":
                raise RuntimeError("a process that ran beside this one has ended")


class Processes(Programs):
    """Processes of `threads` threads each that train torch.nn.*."""

    def __init__(self, count: int, threads: int) -> None:
        environment = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"}
        super().__init__(alone.__file__, [str(threads)], count, environment | {"OMP_NUM_THREADS": str(threads)})
        self._network: dict[str, object] = {}

    def __enter__(self) -> Processes:
        return self

    def training(self, shape: Shape, device: str) -> Contestant:
        """All of them train a network of this shape at once."""
        asked = {key: value for key, value in asdict(shape).items() if key != "replicas"} | {"device": device}

        def run(n: int) -> None:
            if self._network != asked:
                self.ask(asked)
                self._network = asked
            self.ask({"steps": n})

        return Contestant(run, models=len(self.running))


class Library(Programs):
    """A process that multiplies two matrices of side × side by one of blas.LIBRARIES, on its fastest path.

    Attributes:
        name: what the process said it calls, and whose it is; "" where the library is not there.
    """

    def __init__(self, which: str, threads: int, side: int) -> None:
        function, whose, more = blas.LIBRARIES[which]
        environment = {key: value for key, value in os.environ.items() if key not in blas.UNSET}
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        arguments = [function, str(threads), str(side)]
        super().__init__(blas.__file__, arguments, 1, {**environment, **blas.PASSIVE, **counts, **more})
        assert self.running[0].stdout is not None
        said = self.running[0].stdout.readline().strip()
        self.name = f"{said} {whose}" if said else ""

    def __enter__(self) -> Library:
        return self

    def product(self) -> Contestant:
        """One product a step."""
        return Contestant(lambda n: self.ask({"steps": n}))
