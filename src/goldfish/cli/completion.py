"""Shell completion: Hydra's own for `goldfish train`, the commands and the experiments around it."""

from __future__ import annotations

import os
from collections.abc import Sequence


def complete(arguments: Sequence[str]) -> int:
    """Do what Hydra's `-sc` does, `install=<shell>`, `uninstall=<shell>` or `query=<shell>`, for the whole program."""
    from goldfish.composing.command_line import train

    if any(argument.startswith("query=") for argument in arguments):
        program, _, line = os.environ.get("COMP_LINE", "").lstrip().partition(" ")
        command, space, rest = line.lstrip().partition(" ")
        if not space or command != "train":
            print(" ".join(suggestions(command if space else None)))
            return 0
        os.environ["COMP_LINE"] = f"{program} {rest}"
    train(["--shell-completion", *arguments])
    return 0


def suggestions(command: str | None) -> list[str]:
    """What may follow: a command, or the arguments of one that is not `train`. The shell filters by what is typed."""
    from goldfish.cli.commands import COMMANDS
    from goldfish.papers.experiment import folders

    flags = {
        "reproduce": ["--scale", "--all", "--update-results", "--rerun"],
        "figures": ["--scale"],
        "check": ["--scale", "--update"],
        "paper": ["--to", "--scale"],
        "export": ["--to", "--experiment"],
        "status": ["--scale"],
        "doctor": ["--relocate", "--release", "--torch"],
        "ui": ["--port"],
        "bench": ["--device", "--only", "--quick", "--threads", "--update-results", "--render"],
    }
    if command is None:
        return [*COMMANDS, "--help", "--version"]
    named = sorted(folders()) if command in ("reproduce", "figures", "check", "status", "ui") else []
    return named + flags.get(command, [])
