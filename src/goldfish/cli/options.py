"""Options parsed so that a wrong one is answered in one line, with the nearest that there is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from goldfish.errors import ConfigError, nearest


class Parser(argparse.ArgumentParser):
    """A parser that does not pass over a reader who has left, or a full disk."""

    def print_help(self, file: Any = None) -> None:
        """Print the help, by default on standard output."""
        print(self.format_help(), end="", file=file)


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse, options and arguments in any order. Raises ConfigError for what the parser does not know."""
    parser.exit_on_error = False
    try:
        args, left = parser.parse_known_intermixed_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name}: {error.message}") from error
    if left:
        flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
        raise ConfigError(f"{left[0]}: unknown option; {nearest(left[0].split('=')[0], flags)}")
    return args


def choice(name: str, value: str, choices: Sequence[str]) -> str:
    """The value, where it is one of the choices. Raises ConfigError naming the nearest."""
    if value not in choices:
        raise ConfigError(f"{name}={value}: {nearest(value, choices)}")
    return value
