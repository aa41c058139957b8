"""The command line, `goldfish COMMAND`.

Bad input gives one line on stderr and exit code 2, before torch is imported or anything is written; so do errors of
the operating system, with exit code 1. A failed run gives exit code 1, Ctrl-C 130, SIGTERM 143.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from goldfish import faults
from goldfish.errors import ConfigError, nearest, printable

if TYPE_CHECKING:
    import click


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. `arguments` are those after the program's name."""
    from goldfish.cli import streams
    from goldfish.sweep.signals import Terminated, terminated

    streams.prepare()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with terminated():
            return streams.guarded(lambda: _run(given or ["--help"]))
    except ConfigError as error:
        streams.say(f"goldfish: {' '.join(str(error).split())}")
        return 2
    except KeyboardInterrupt:
        return 130  # a sweep has told what it recorded
    except Terminated:
        return 143
    except Exception as error:
        told = faults.line(error)
        if told is None:
            raise
        streams.say(f"goldfish: {printable(' '.join(told.split()))}")
        return 1


def _run(arguments: list[str]) -> int:
    """Let click read the options. Raises ConfigError for what it refuses."""
    import click

    from goldfish.cli import commands

    try:
        with commands.main.make_context("goldfish", arguments) as context:
            return commands.main.invoke(context) or 0
    except click.exceptions.Exit as left:  # after --help
        return left.exit_code
    except click.UsageError as error:
        raise ConfigError(_reason(error)) from error


def _reason(error: click.UsageError) -> str:
    """The reason of click's error, beginning with the option that it is about where there is one."""
    import click

    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        flags = [flag for option in error.ctx.command.get_params(error.ctx) for flag in option.opts if flag[:2] == "--"]
        return f"{error.option_name}: unknown option; {nearest(error.option_name, flags)}"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.option_name}: expected a value"
    if isinstance(error, click.BadParameter) and error.param is not None and error.message:
        return f"{error.param.opts[0]}: {error.message}"
    return error.format_message()
