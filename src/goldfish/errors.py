"""Errors that a user can fix: one line that names the key, the value and the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 1000  # characters of a message; from a longer one the middle is left out


class ConfigError(ValueError):
    """Bad input. The command line prints its message as one line and exits with code 2."""

    def __str__(self) -> str:
        """One printable line."""
        line = " ".join(super().__str__().split())
        return printable(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}")


def printable(line: str) -> str:
    """Return the line with unprintable characters escaped: it may quote anything, and terminals obey some of them."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)


def nearest(value: object, choices: Iterable[str]) -> str:
    """Return "did you mean 'x'? (choices: …)" for a value that is none of the choices."""
    known = sorted(choices)
    close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    listing = "choices: " + ", ".join(known) if known else "it takes none"
    return f"did you mean '{close[0]}'? ({listing})" if close else f"{listing}"
