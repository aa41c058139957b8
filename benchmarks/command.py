"""`goldfish bench`, and `python -m benchmarks` in a clone: this project beside its peers in one interleaved run."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from annotated_types import Ge

from benchmarks.sections import SECTIONS
from goldfish.cli.options import Parser, choice, parsed
from goldfish.config.signatures import Parameter
from goldfish.errors import ConfigError

ROOT = Path(__file__).parents[1]
DEVICES = ("cpu", "cuda")


def bench(arguments: Sequence[str]) -> int:
    """Measure and print, or render the page from the results. Raises ConfigError for bad input.

    Processes that it starts find goldfish and benchmarks in the clone, wherever they run.
    """
    args = parsed(_parser(), arguments)
    device = choice("--device", args.device, DEVICES)
    names = [choice("--only", name, SECTIONS) for name in args.only.split(",")] if args.only else list(SECTIONS)
    threads = Parameter("threads", int, bound=Ge(1)).check("--threads", args.threads)
    if args.quick and args.update_results:
        raise ConfigError("--quick: cannot go with --update-results")
    from benchmarks import run

    places = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(places)
    if args.render:
        print("Written: " + ", ".join(str(file) for file in run.render()))
    else:
        run.run(names, device=device, threads=threads, quick=args.quick, update=args.update_results)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="goldfish bench",
        description="Measure this project beside its peers in one interleaved run, as ratios.",
        epilog=f"Sections: {', '.join(SECTIONS)}.",
        allow_abbrev=False,
    )
    parser.add_argument("--device", default="cpu", metavar="|".join(DEVICES), help="what to measure on (cpu)")
    parser.add_argument("--only", metavar="a,b", help="some sections only")
    parser.add_argument("--quick", action="store_true", help="a look at everything in a few minutes, at smaller sizes")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads (2)")
    parser.add_argument("--update-results", action="store_true", help="write into benchmarks/results/<device>")
    parser.add_argument("--render", action="store_true", help="write docs/performance_table.md from those, and end")
    return parser
