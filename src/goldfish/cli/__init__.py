"""The command line: `goldfish train | reproduce | figures | export | status | ui`.

Bad input is answered in one line on stderr and exit code 2, without importing torch and before anything is written; so
is what the system refuses, with exit code 1. A failed run gives exit code 1, Ctrl-C 130, SIGTERM 143.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from goldfish import faults
from goldfish.errors import ConfigError, printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code. `arguments` are those after the program's name."""
    from goldfish.cli import commands, streams
    from goldfish.sweep.signals import Terminated, terminated

    streams.prepare()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with terminated():
            return streams.guarded(lambda: commands.run(given))
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
