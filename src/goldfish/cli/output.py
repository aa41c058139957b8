"""The output of commands: tables in colour on a terminal, plain lines into pipes and files.

Names and reasons come from a store that others may write to, so characters that cannot be printed are escaped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from goldfish.errors import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from goldfish.inspect.doctor import Line

STYLES = {
    **{"ok": "green", "warn": "yellow", "bad": "bold red", "0": "dim"},
    **{"solved": "green", "failed": "red", "diverged": "magenta", "stale": "yellow"},
}


def lines(told: Iterable[str]) -> None:
    """Print lines as they are."""
    for line in told:
        print(printable(line), flush=True)


def counts(table: Sequence[Sequence[str]], told: Sequence[str]) -> None:
    """Print a table of counts whose first row is its head, and lines below it."""
    if table and sys.stdout.isatty():
        _show(_table(table[1:], table[0]))
    else:
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for name, *numbers in table:
            cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
            lines(["  ".join([name.ljust(widths[0]), *cells])])
    lines(told)


def findings(checks: Sequence[Line]) -> None:
    """Print what the doctor found."""
    if sys.stdout.isatty():
        _show(_table(checks))
    else:
        lines(map(str, checks))


def blocks(told: Sequence[Sequence[str]]) -> None:
    """Print blocks of lines, the first of each being its title, with an empty line in between."""
    if not sys.stdout.isatty():
        lines("\n\n".join("\n".join(block) for block in told).split("\n"))
        return
    from rich.panel import Panel
    from rich.text import Text

    for title, *rest in told:
        body = Text("\n".join(printable(line.removeprefix("  ")) for line in rest))
        _show(Panel(body, title=Text(printable(title)), title_align="left"))


def _table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), show_header=bool(head))
    for place, title in enumerate(head):
        table.add_column(Text(title, STYLES.get(title, "")), justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell), STYLES.get(cell, "")) for cell in row))
    return table


def _show(thing: RenderableType) -> None:
    from rich.console import Console

    Console().print(thing)
