"""Errors that a user can mend: one line that names the key, the value and the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """Bad input. The command line prints its message as one line and exits with code 2."""


def nearest(value: object, choices: Iterable[str]) -> str:
    """Return "did you mean 'x'? (choices: …)" for a value that is none of the choices."""
    known = sorted(choices)
    close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    listing = "choices: " + ", ".join(known) if known else "it takes none"
    return f"did you mean '{close[0]}'? ({listing})" if close else f"{listing}"
