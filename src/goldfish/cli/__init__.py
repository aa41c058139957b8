"""The command line: `goldfish train | reproduce | figures | export | status | ui`.

Bad input is answered in one line on stderr and exit code 2, without importing torch and before anything is written;
a failed run gives exit code 1, Ctrl-C 130, SIGTERM 143.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from goldfish.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. `arguments` are those after the program's name."""
    from goldfish.cli import commands
    from goldfish.sweep.signals import Terminated, terminated

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks "≥" still gets its answer
    try:
        with terminated():
            return commands.run(list(sys.argv[1:] if arguments is None else arguments))
    except ConfigError as error:
        print(f"goldfish: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130  # a sweep has told what it recorded
    except Terminated:
        return 143
